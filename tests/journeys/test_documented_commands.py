"""Every command and every Python block that a page or a help text prints does what it says.

A page is followed from top to bottom in a folder of its own, in which the names it uses for what a reader has
(SET, SUB, RUN ...) are small real things. Commands run exactly as printed. Those that cannot run in a test
say why in their comment (`documented.REASONS`); they are parsed by the parsers that would run them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import cleandoc
from pathlib import Path

import click
import pytest
from common import REPOSITORY
from documented import RUNNABLE, Block, Command, blocks, parse
from placeholders import Placeholders, remove

from palette_bench.cli import exit_code, main

FILES = ("*.md", "docs/*.md", "docs/start/*.md", "baselines/*/README.md")
PAGES = [
    path.relative_to(REPOSITORY).as_posix() for files in FILES for path in sorted(REPOSITORY.glob(files))
]


def _commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    """Yield every command below a group by the words that call it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


HELPS = [f"{words} --help" for words in _commands(main)]

# What SET and RUN stand for, where it is not the usual; where nothing is scored, 64 px will do.
MEANT = {
    "README.md": {"RUN": "RUN@256px"},
    "restore --help": {"RUN": "RUN@256px"},
    "docs/training.md": {"SET": "SET@64px"},
    "baselines/gan/README.md": {"RUN": "RUN@gan", "SET": "SET@64px"},
    "baselines/palette/README.md": {"SET": "SET@64px"},
    "baselines/regression/README.md": {"RUN": "RUN@regression", "SET": "SET@64px"},
}


@pytest.fixture(scope="module")
def placeholders(tmp_path_factory: pytest.TempPathFactory) -> Placeholders:
    return Placeholders(tmp_path_factory.mktemp("placeholders"))


@pytest.fixture
def workspace(
    placeholders: Placeholders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An empty working directory, with the environment of a reader who installed the package."""
    programs = tmp_path_factory.mktemp("programs")
    for name, call in {"python": "", "torchrun": "-m torch.distributed.run"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(placeholders.cache))
    monkeypatch.setenv("PET_STANDALONE", "1")  # a free port: tests of another process may hold torchrun's own
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verb_of(page: str) -> click.Command:
    command: click.Command | None = main
    for word in page.removesuffix(" --help").split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command
    return command


def text_of(page: str) -> str:
    """Return a page; a help text with its examples between fences."""
    if page not in HELPS:
        return (REPOSITORY / page).read_text(encoding="utf-8")
    text = cleandoc(verb_of(page).help or "")
    return re.sub("\b\n(.+?)\n?(?=\n\n|$)", r"```\n\1\n```\n", text, flags=re.DOTALL)


def prepare(block: Block, page: str, placeholders: Placeholders, workspace: Path) -> None:
    """Provide fresh copies of what a block takes for granted; what it makes itself must not be there yet."""
    for name in placeholders:
        if name in block.makes:
            remove(workspace / name)
        elif block.mentions(name):
            placeholders.copy(MEANT.get(page, {}).get(name, name), workspace)


def run(command: Command, monkeypatch: pytest.MonkeyPatch) -> int | str:
    """Run a command as printed and return its exit code, with what it said if that is not 0."""
    words = command.arguments
    if words[0] == "palette-bench":  # in this process: starting one costs more than most commands
        monkeypatch.setattr(sys, "argv", words)
        return exit_code()
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode and done.stderr


@pytest.mark.long
@pytest.mark.parametrize("page", [*PAGES, *HELPS])
def test_what_a_page_prints_runs_as_printed(
    page: str,
    workspace: Path,
    placeholders: Placeholders,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, object] = {}
    for block in blocks(text_of(page)):
        prepare(block, page, placeholders, workspace)
        if block.python:
            exec(compile(block.python, page, "exec"), names)
        for command in block.commands:
            if command.reason:
                parse(command.arguments)
            else:
                assert command.words[0] in RUNNABLE, f"say why it cannot run here: {command.line}"
                code = run(command, monkeypatch)
                assert code == 0, f"{command.line}\n{code}\n{capsys.readouterr().err}"
    if page in THEN:
        THEN[page](workspace, capsys.readouterr().out)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/start/")])
def test_a_first_hour_is_at_most_fifteen_commands_that_all_run(page: str) -> None:
    commands = [command for block in blocks(text_of(page)) for command in block.commands]
    assert 0 < len(commands) <= 15
    assert not [command.line for command in commands if command.reason]


@pytest.mark.trust("people: help")
@pytest.mark.parametrize("page", HELPS)
def test_every_help_has_an_example_of_its_own_command(page: str) -> None:
    words = page.removesuffix(" --help").split()
    shown = [
        command.words[1 : 1 + len(words)] for block in blocks(text_of(page)) for command in block.commands
    ]
    assert tuple(words) in shown


def scores_are_printed(workspace: Path, printed: str) -> None:
    distance, result, *paired, classes = printed.splitlines()[-5:]
    assert "rank-deficient" in distance
    assert "'chol'" in result
    for line in paired:
        value, _, low, high = map(float, line.split())
        assert low < value < high
    assert float(classes.split()[0]) >= 1


def both_ways_fill_alike(workspace: Path, printed: str) -> None:
    assert "mean-fill" in printed.splitlines()
    assert 'slug = "mean-fill"' in (workspace / "sub" / "submission.toml").read_text()
    same = [(workspace / sub / "outputs" / "coffee.png").read_bytes() for sub in ("sub", "sub-2")]
    assert same[0] == same[1]


THEN: dict[str, Callable[[Path, str], None]] = {
    "docs/scores.md": scores_are_printed,
    "docs/outside-tools.md": both_ways_fill_alike,
}


@pytest.mark.parametrize("verb", ["train", "restore", "score"])
def test_torchrun_passes_every_option_on_in_the_form_that_is_documented(verb: str) -> None:
    from torch.distributed.run import get_args_parser

    options = [
        option for parameter in verb_of(verb).params for option in parameter.opts if option.startswith("-")
    ]
    launched = get_args_parser().parse_args(
        ["--nproc-per-node", "2", "-m", "palette_bench", "--", verb, *options]
    )
    assert (launched.training_script, launched.training_script_args) == ("palette_bench", [verb, *options])


@pytest.mark.parametrize("page", [*PAGES, *HELPS])
def test_torchrun_is_nowhere_shown_without_the_dashes(page: str) -> None:
    assert not re.search(r"torchrun[^`\n]*-m palette_bench (?!-- )", text_of(page))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```\npalette-bench scores SUB --set SET -o C    # needs a GPU\n```", "no such verb"),
        ("```\npalette-bench score SUB --sets SET -o C    # needs a GPU\n```", "--sets"),
        ("    palette-bench score SUB --set SET -o C --device gpu    # needs a GPU\n", "'gpu'"),
        ("```\ntorchrun -m palette_bench -- score SUB    # needs a GPU\n```", "benchset"),
        ("```\nmake coffee    # takes minutes\n```", "no target coffee"),
        ("```\npip install 'palette-bench[gpu]'    # needs the network\n```", "none of"),
        ("```\npython benchmarks/generate.py    # takes minutes\n```", "no test knows"),
    ],
)
def test_a_command_that_is_only_parsed_is_refused_for_what_its_program_would_refuse(
    text: str, fault: str
) -> None:
    ((command,),) = (block.commands for block in blocks(text))
    assert command.reason
    with pytest.raises((click.ClickException, ValueError), match=fault):
        parse(command.arguments)


def test_a_line_that_is_no_command_is_told_and_an_unknown_reason_is_none() -> None:
    with pytest.raises(ValueError, match="brew coffee"):
        list(blocks("```\nmake demo\nbrew coffee\n```"))
    with pytest.raises(ValueError, match="brew coffee"):
        list(blocks("```bash\nbrew coffee\n```"))
    assert list(blocks("```\nas printed\n```\n\n    as printed\n")) == []
    assert not Command.of("palette-bench demo    # needs a GPUs").reason
    assert Command.of("palette-bench demo    # takes minutes; once").reason == "takes minutes"


def test_what_a_block_makes_before_it_reads_it_is_not_provided() -> None:
    lines = [
        "palette-bench restore copy-input --set SET -o SUB",
        "palette-bench check SUB --set SET",
        "palette-bench generate smoke jpeg/qf5 -o SET",
        "palette-bench train palette --task jpeg --data DIR -o RUN    # hours of training",
    ]
    (block,) = blocks("```\n" + "\n".join(lines) + "\n```")
    assert block.makes == {"SUB"}
    assert block.mentions("RUN")
    assert not block.mentions("copy")
