"""What the base installation brings works without torch; other verbs name the extra they need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cards import write_card
from plans import write_plan

from palette_bench.cli import VERBS

GUARD = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "torch_fidelity", "lpips"}:
            raise ModuleNotFoundError(f"{name} is too heavy for this verb", name=name)

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
        ("status", "set", "sub"),
        ("ls", "tasks"),
        ("ls", "metrics"),
        ("ls", "baselines"),
        ("ls", "recipes"),
        ("show", "set/manifest.json"),
    ]
    for step in steps:
        done = light(*step, cwd=tmp_path)
        assert done.returncode == 0, f"{step}: {done.stderr}"


def test_reports_boards_and_studies_work_without_torch(tmp_path: Path) -> None:
    write_card(tmp_path, "one")
    write_card(tmp_path, "two", seed=1)
    light("generate", "palette-mini", "jpeg/qf5", "-o", "set", cwd=tmp_path)
    light("restore", "copy-input", "--set", "set", "-o", "sub", cwd=tmp_path)
    write_plan(tmp_path / "plan")
    steps = [
        ("show", "one.json"),
        ("report", "one.json", "-o", "report.html"),
        ("report", "one.json", "two.json", "-o", "pair.html"),
        ("board", "add", "one.json", "two.json", "--record", "record"),
        ("board", "build", "record", "-o", "site"),
        ("study", "design", "plan/study.toml", "--set", "set", "--submission", "sub", "-o", "study"),
        ("study", "simulate", "study", "-o", "votes.csv"),
        ("study", "analyse", "study", "votes.csv", "-o", "result"),
        ("study", "export", "study", "--platform", "folder", "-o", "pages"),
        ("restore", "adapter:lama", "--set", "set", "--export", "in"),
        ("weights", "list"),
        ("ls", "extractors"),
        ("doctor",),
    ]
    for step in steps:
        done = light(*step, cwd=tmp_path)
        expected = 2 if step[1:2] == ("adapter:lama",) else 0  # a task that LaMa does not do
        assert done.returncode == expected, f"{step}: {done.stderr}"


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("score", "sub", "--set", "set", "-o", "card.json"), "score"),
        (("evaluate", "sub", "--set", "set", "-o", "out"), "score"),
        (("demo", "-o", "demo"), "score"),
        (
            (
                "train",
                "palette",
                "--task",
                "multi",
                "--data",
                "set/reference",
                "-o",
                "run",
                "--recipe",
                "smoke",
            ),
            "train",
        ),
        (("restore", "palette", "--run", "palette-mini-v1", "--set", "set", "-o", "other"), "train"),
    ],
)
def test_a_verb_whose_extra_is_missing_names_the_line_to_type(
    words: tuple[str, ...], extra: str, smoke_sets: Path, tmp_path: Path
) -> None:
    (tmp_path / "set").symlink_to(smoke_sets / "jpeg.qf5")
    light("restore", "copy-input", "--set", "set", "-o", "sub", cwd=tmp_path)
    done = light(*words, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "PB711" in done.stderr
    assert f"pip install 'palette-bench[{extra}]'" in done.stderr


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
