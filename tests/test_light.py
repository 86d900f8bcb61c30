"""Light verbs never load torch: `--help` everywhere, generate, verify, check, ls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palette_bench.cli import VERBS

GUARD = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "torch_fidelity", "lpips"}:
            raise ImportError(f"{name} is too heavy for this verb")

sys.meta_path.insert(0, Refuse())
sys.argv[0] = "palette-bench"
from palette_bench.cli import run
run()
"""


def light(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", GUARD, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


def test_help_lists_every_verb_with_its_own_short_text() -> None:
    text = light("--help").stdout
    assert all(verb in text and short in text for verb, short in VERBS.items())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = light(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: palette-bench")


@pytest.mark.trust("people: help")
def test_the_shell_completes_verbs_options_and_choices() -> None:
    code = "import sys; sys.argv = ['palette-bench']; from palette_bench.cli import run; run()"
    for typed, expected in (("ev", "evaluate"), ("score --dev", "--device"), ("ls extr", "extractors")):
        words = f"palette-bench {typed}"
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(typed.split()))}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **asked, "_PALETTE_BENCH_COMPLETE": "bash_complete"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"plain,{expected}" in done.stdout.splitlines(), done.stderr


def test_the_table_and_the_commands_tell_the_same() -> None:
    from palette_bench.cli import main

    for verb, short in VERBS.items():
        command = main.get_command(None, verb)  # type: ignore[arg-type]  # the context is not used
        assert command is not None
        assert command.short_help == short


def test_generate_verify_restore_and_check_work_without_torch(tmp_path: Path) -> None:
    steps = [
        ("generate", "smoke", "jpeg/qf5", "-o", "set"),
        ("verify", "set"),
        ("restore", "copy-input", "--set", "set", "-o", "sub"),
        ("check", "sub", "--set", "set"),
        ("ls", "tasks"),
        ("ls", "metrics"),
        ("ls", "baselines"),
        ("ls", "recipes"),
        ("show", "set/manifest.json"),
    ]
    for step in steps:
        done = light(*step, cwd=tmp_path)
        assert done.returncode == 0, f"{step}: {done.stderr}"


def test_an_unknown_verb_gets_a_suggestion_and_exit_2() -> None:
    done = light("scor")
    assert done.returncode == 2
    assert "did you mean score" in done.stderr


def test_the_public_names_are_sorted_and_all_there() -> None:
    import palette_bench

    assert palette_bench.__all__ == sorted(palette_bench.__all__)
    assert all(callable(getattr(palette_bench, name)) for name in palette_bench.__all__)
    with pytest.raises(AttributeError):
        palette_bench.nothing  # noqa: B018
