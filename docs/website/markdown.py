"""What the modules that make pages share: paths, and tables and blocks of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]
Pages: TypeAlias = dict[str, str]  # path below the source folder of the site -> text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; cells may hold Markdown, but no line breaks."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in lines)


def code(value: object) -> str:
    """Return a value as inline code; "" for an empty one."""
    return f"`{value}`" if str(value) else ""


def fence(text: str, language: str = "text") -> str:
    """Return a block of code; its fence is longer than any run of backticks in the text."""
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{marks}{language}\n{text.rstrip()}\n{marks}\n"


def examples_fenced(text: str) -> str:
    """Return a help text with the lines after a backspace character, its examples, as a block of code."""
    return re.sub("\b\n(.+?)\n?(?=\n\n|$)", r"```\n\1\n```\n", cleandoc(text), flags=re.DOTALL)


def toctree(names: Iterable[str], *, hidden: bool = True) -> str:
    """Return the part of the menu that holds these pages, given by paths without suffix."""
    return (
        "```{toctree}\n:maxdepth: 1\n"
        + (":hidden:\n" if hidden else "")
        + "\n"
        + "\n".join(names)
        + "\n```\n"
    )


def toml(value: object) -> str:
    """Return a value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case dict():
            return "{ " + ", ".join(f"{key} = {toml(its)}" for key, its in value.items()) + " }"
        case tuple() | list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)
