"""Command line options that several verbs share, and their parameter types."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

# kinds of path arguments; the first two may name a file or a folder
PATH = click.Path(path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


class ShardType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """Parameter type for a shard `i/n`: part i of n, counted from 0; `auto` asks the scheduler."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the Shard."""
        from palette_bench.core.journal import Shard
        from palette_bench.core.processes import scheduled_shard

        if isinstance(value, Shard):
            return value
        if value == "auto":
            return Shard(*scheduled_shard(os.environ))
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            self.fail(f"{value!r} is neither auto nor i/n with 0 <= i < n", param, ctx)
        return Shard(int(index), int(count))


class WeightsType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """Parameter type for `ID=PATH`: the weights file of a feature extractor."""

    name = "ID=PATH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return (id, path)."""
        extractor, _, path = str(value).partition("=")
        if not (extractor and path):
            self.fail(f"{value!r} is not ID=PATH, e.g. resnet50-v1=resnet50-0676ba61.pth", param, ctx)
        return extractor, path


SET = click.option("--set", "benchset", metavar="SET", required=True, type=PATH, help="The set it answers.")
WEIGHTS = click.option(
    "--weights",
    type=WeightsType(),
    multiple=True,
    help="File of a network's weights, or ID=random:SEED to try the machinery; repeat for more.",
)
_DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d{1,3})?")


class DeviceType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """Parameter type for a device name; whether the device exists is tested later, when torch is loaded."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name if it has the form of a device name."""
        from palette_bench.core.errors import suggest

        if not _DEVICE.fullmatch(str(value)):
            nearest = {"gpu": "did you mean cuda?"}.get(str(value).lower().partition(":")[0])
            hint = nearest or suggest(str(value).lower(), ("cpu", "cuda", "cuda:1", "mps", "xpu"))
            self.fail(f"{value!r} is not a device name: {hint}", param, ctx)
        return str(value)


DEVICE = click.option(
    "--device",
    metavar="NAME",
    type=DeviceType(),
    default="cpu",
    show_default=True,
    help="cpu, cuda, cuda:1, mps or xpu.",
)
_CREDITS = {
    "--name": "Of the method, for people.",
    "--slug": "Of the method, for files: a-z, 0-9, -.  [default: from the name]",
    "--version": "Of the method.",
    "--author": "Who made it; repeat for more.",
    "--license": "Of the method.",
}


def CREDITS(command: Any) -> Any:  # noqa: N802  # a decorator that stands among options
    """Decorate a command with the options for name, slug, version, authors and license of a method."""
    for flag, words in reversed(_CREDITS.items()):
        command = click.option(flag, multiple=flag == "--author", help=words)(command)
    return command


def credits_of(given: Mapping[str, Any]) -> Any:
    """Return the values of the CREDITS options as a MethodCredits."""
    from palette_bench.submission.importing import MethodCredits

    names = {name: given[name] or "" for name in ("name", "slug", "version", "license")}
    return MethodCredits(**names, authors=tuple(given["author"]))


WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    show_default="all cores",
    help="Processes.",
)
SHARD = click.option(
    "--shard",
    metavar="I/N|auto",
    type=ShardType(),
    default="0/1",
    show_default=True,
    help="Make part i of n, or with `auto` this task's part of a job array; the last one closes the whole.",
)
