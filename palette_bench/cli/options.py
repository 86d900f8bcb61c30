"""Options that several verbs share."""

from __future__ import annotations

import os
from typing import Any

import click


class ShardType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """`i/n`: part i of n, counted from 0."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a Shard."""
        from palette_bench.core.journal import Shard

        if isinstance(value, Shard):
            return value
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            self.fail(f"{value!r} is not i/n with 0 <= i < n", param, ctx)
        return Shard(int(index), int(count))


WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    show_default="all cores",
    help="Processes.",
)
SHARD = click.option(
    "--shard",
    type=ShardType(),
    default="0/1",
    show_default=True,
    help="Make part i of n; the last one closes the set.",
)
