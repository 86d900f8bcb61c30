"""The commands and Python blocks of a page, in order, and what makes a printed command a good one."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from importlib import import_module
from itertools import pairwise

import click
from common import REPOSITORY

from palette_bench.cli import main

RUNNABLE = ("palette-bench", "torchrun", "python")
OTHERS = (
    "python3",
    "make",
    "pip",
    "pip3",
    "uv",
    "conda",
    "docker",
    "git",
    "curl",
    "wget",
    "cd",
    "export",
    "sudo",
)
_COMMAND = re.compile(rf"({'|'.join(RUNNABLE + OTHERS)}|\$|[A-Z_]+=\S*) ")

# a command that begins its comment with one of these is parsed and not run
REASONS = (
    "hours of training",
    "needs a GPU",
    "needs ILSVRC2012",
    "needs Places2",
    "needs the network",
    "takes minutes",
    "waits for raters",
)


@dataclass(frozen=True)
class Command:
    """A command line as it is printed.

    Attributes:
        line: with its comment; continued lines are joined.
        words: as a shell splits them.
        reason: why it cannot run in a test, one of `REASONS`; empty if it can.
    """

    line: str
    words: tuple[str, ...]
    reason: str

    @classmethod
    def of(cls, line: str) -> Command:
        """Read a line; its comment begins at the first ` #`."""
        comment = line.partition(" #")[2].strip()
        reason = next((reason for reason in REASONS if re.match(rf"{reason}(;|$)", comment)), "")
        return cls(line, tuple(shlex.split(line, comments=True)), reason)

    @property
    def arguments(self) -> list[str]:
        """Return the words with patterns replaced by the files here that they match, as a shell does."""
        return [found for word in self.words for found in sorted(glob(word)) or [word]]


@dataclass(frozen=True)
class Block:
    """What stands between two fences, or is indented by four spaces: commands, or Python.

    Attributes:
        commands: its lines, if they are commands.
        python: its text, if the fence says `python`.
    """

    commands: tuple[Command, ...] = ()
    python: str = ""

    @property
    def makes(self) -> set[str]:
        """Return the names that commands write by `-o` before any command reads them."""
        read: set[str] = set()
        made: set[str] = set()
        for command in self.commands:
            if not command.reason:
                made |= {after for word, after in pairwise(command.words) if word == "-o"} - read
            read |= set(command.words)
        return made

    def mentions(self, name: str) -> bool:
        """Return whether a command reads or writes a file or folder of this name, or one inside it."""
        words = [word.removeprefix("./") for command in self.commands for word in command.words]
        return any(word == name or word.startswith(f"{name}/") for word in words)


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page that hold commands or Python.

    Raises:
        ValueError: a block mixes commands with lines that are none.
    """
    for language, lines in _code(text):
        joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
        found = [line for line in joined if _COMMAND.match(line)]
        if language == "python":
            yield Block(python="\n".join(lines) + "\n")
        elif found or language in {"bash", "sh", "console"}:
            if strange := [line for line in joined if line.strip() and line not in found]:
                raise ValueError(f"not commands that are known: {strange}")
            yield Block(tuple(map(Command.of, found)))


def _code(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (language, lines) of fenced blocks, and of blocks indented by four spaces, without the indent."""
    language, margin, lines = None, "", []
    for line in [*text.splitlines(), ""]:
        fence = re.match(r"( *)```(\w*)$", line)
        if fence and language is None and not lines:
            margin, language = fence.groups()
        elif fence and language is not None:
            yield language, lines
            language, margin, lines = None, "", []
        elif language is not None:
            lines.append(line.removeprefix(margin))
        elif line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            yield "", lines
            lines = []


def parse(words: list[str]) -> None:
    """Parse a command that is not run: program, target, verb, options and values must exist.

    Raises:
        click.ClickException, SystemExit, ValueError, ImportError: they do not.
    """
    match words:
        case ("palette-bench", *arguments):
            _parse(main, arguments)
        case ("torchrun", *arguments):
            from torch.distributed.run import get_args_parser

            launched = get_args_parser().parse_args(arguments)
            if not launched.module:
                raise ValueError(f"torchrun starts no module: {words}")
            _parse_module(launched.training_script, launched.training_script_args)
        case ("python", "-m", module, *arguments):
            _parse_module(module, arguments)
        case ("make", target):
            if f"\n{target}:" not in (REPOSITORY / "Makefile").read_text():
                raise ValueError(f"the Makefile has no target {target}")
        case ("pip", "install", requirement) | ("uv", "pip", "install", requirement):
            extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
            names = extras["optional-dependencies"]
            known = {".", *(f"{place}[{extra}]" for extra in names for place in (".", "palette-bench"))}
            if requirement not in known:
                raise ValueError(f"{requirement} is none of {sorted(known)}")
        case _:
            raise ValueError(f"no test knows how to parse {words}")


def _parse_module(module: str, arguments: list[str]) -> None:
    if module == "palette_bench":
        _parse(main, arguments)
    else:
        _parse(import_module(f"{module}.__main__").command, arguments)


def _parse(command: click.Command, arguments: list[str]) -> None:
    name, rest = "", arguments
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise ValueError(f"no such verb: {name}")
        command = found
    command.make_context(name, rest)
