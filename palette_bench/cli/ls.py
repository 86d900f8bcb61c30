"""`palette-bench ls`: lists protocols, tasks, metrics, extractors, baselines or recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import click


def _protocols() -> Iterator[tuple[str, str]]:
    from palette_bench.core.resources import protocol_ids
    from palette_bench.tasks.protocol import load

    return ((name, load(name).title) for name in protocol_ids())


def _tasks() -> Iterator[tuple[str, str]]:
    from palette_bench.core.resources import protocol_ids
    from palette_bench.tasks.protocol import load

    for name in protocol_ids():
        rules = load(name)
        for task, variant in rules.pairs("all"):
            spec = rules.variant(task, variant)
            yield f"{name} {task}/{variant}", f"{spec.title}{'  (in the paper)' if spec.paper else ''}"


def _metrics() -> Iterator[tuple[str, str]]:
    from palette_bench.scoring.metrics import METRICS

    return ((name, f"{metric.title}; better: {metric.direction}") for name, metric in METRICS.items())


def _baselines() -> Iterator[tuple[str, str]]:
    from palette_bench.submission.methods import baselines

    return ((name, point.value) for name, point in sorted(baselines().items()))


def _recipes() -> Iterator[tuple[str, str]]:
    """Yield each recipe of the trainable methods, with the comment in its first line."""
    from palette_bench.submission.methods import baselines

    for method, point in sorted(baselines().items()):
        recipes: Mapping[str, str] = getattr(point.load(), "recipes", dict)()
        for name, text in recipes.items():
            yield f"{method} {name}", text.partition("\n")[0].removeprefix("# ")


def _extractors() -> Iterator[tuple[str, str]]:
    """Yield each feature extractor, with the path of its weights, or the way to get them."""
    from palette_bench.core.errors import WeightsError
    from palette_bench.pages.text import network_words
    from palette_bench.scoring.features import EXTRACTORS
    from palette_bench.scoring.features.weights import find, get_command, pinned

    rows = pinned()
    for name in EXTRACTORS:
        place = "comes along" if name.startswith("smoke") else f"with --weights {name}=FILE"
        if name in rows:
            try:
                place = str(find(name, rows[name])[0])
            except WeightsError:
                place = f"absent: {get_command(name, rows[name])}"
        yield name, f"{network_words(name)}; {place}"
    yield "timm:MODEL", "any model of timm, with --weights timm:MODEL=FILE"


_LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "protocols": _protocols,
    "tasks": _tasks,
    "metrics": _metrics,
    "baselines": _baselines,
    "recipes": _recipes,
    "extractors": _extractors,
}


@click.command("ls", short_help="List protocols, tasks, metrics, extractors, baselines or recipes.")
@click.argument("what", type=click.Choice(list(_LISTS)), default="protocols")
def command(what: str) -> None:
    """List what is installed, a name and a short text per line.

    \b
    palette-bench ls tasks
    palette-bench ls extractors
    """  # noqa: D301  # click looks for the backspace character itself
    for name, text in _LISTS[what]():
        click.echo(f"{name:<38} {text}")
