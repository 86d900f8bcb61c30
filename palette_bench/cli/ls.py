"""`palette-bench ls`: lists protocols, tasks, metrics, extractors, baselines or recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

KINDS = ("protocols", "tasks", "metrics", "baselines", "recipes", "extractors")


@click.command("ls", short_help="List protocols, tasks, metrics, extractors, baselines or recipes.")
@click.argument("what", type=click.Choice(KINDS), default="protocols")
@click.argument("protocol", required=False)
def command(what: str, protocol: str | None) -> None:
    """List what is installed, a name and a short text per line.

    `ls tasks PROTOCOL` lists one protocol, or the file of a protocol of your own.

    \b
    palette-bench ls tasks
    palette-bench ls extractors
    """  # noqa: D301  # click looks for the backspace character itself
    if protocol and what != "tasks":
        raise click.UsageError("only tasks belong to a protocol: palette-bench ls tasks PROTOCOL")
    for name, text in _rows(what, protocol):
        click.echo(f"{name:<38} {text}")


def _rows(what: str, protocol: str | None) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of everything of one of the KINDS; tasks of one protocol, if it is named."""
    from palette_bench.core.resources import protocol_ids
    from palette_bench.submission.methods import baselines
    from palette_bench.tasks.own_protocol import open_protocol
    from palette_bench.tasks.protocol import load

    if what == "protocols":
        yield from ((name, load(name).title) for name in protocol_ids())
    elif what == "tasks":
        for rules in map(open_protocol, [protocol] if protocol else protocol_ids()):
            for task, variant in rules.pairs("all"):
                spec = rules.variant(task, variant)
                yield (
                    f"{rules.id} {task}/{variant}",
                    f"{spec.title}{'  (in the paper)' if spec.paper else ''}",
                )
    elif what == "metrics":
        from palette_bench.scoring.metrics import METRICS

        yield from ((name, f"{row.title}; better: {row.direction}") for name, row in METRICS.items())
    elif what == "baselines":
        yield from ((name, point.value) for name, point in sorted(baselines().items()))
    elif what == "recipes":
        for method, point in sorted(baselines().items()):
            recipes: Mapping[str, str] = getattr(point.load(), "recipes", dict)()
            for name, text in recipes.items():
                # the first line of a recipe is a comment that describes it
                yield f"{method} {name}", text.partition("\n")[0].removeprefix("# ")
    else:
        yield from _extractors()


def _extractors() -> Iterator[tuple[str, str]]:
    """Yield each feature extractor, with the path of its weights, or the way to get them."""
    from palette_bench.core.errors import WeightsError
    from palette_bench.pages.text import network_words
    from palette_bench.scoring.features import EXTRACTORS
    from palette_bench.scoring.features.weights import find, get_command, pinned

    pinned_rows = pinned()
    for name in EXTRACTORS:
        place = "comes along" if name.startswith("smoke") else f"with --weights {name}=FILE"
        if name in pinned_rows:
            try:
                place = str(find(name, pinned_rows[name])[0])
            except WeightsError:
                place = f"absent: {get_command(name, pinned_rows[name])}"
        yield name, f"{network_words(name)}; {place}"
    yield "timm:MODEL", "any model of timm, with --weights timm:MODEL=FILE"
