"""Scorecards with a fool rate: new cards that extend existing ones. The existing cards are not changed.

Source: reports and studies, sections 1.3 and 7.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palette_bench.core import atomic
from palette_bench.core.errors import IncomparableError, problem
from palette_bench.core.records import read_file, today
from palette_bench.scoring.scorecard import Score, Scorecard, read_scorecard, read_table, table_path
from palette_bench.study.analysis import SMALL_STUDY
from palette_bench.study.results import Analysis, MethodResult
from palette_bench.study.two_way import METHOD


def read_parents(paths: Sequence[Path], analysis: Analysis) -> dict[Path, Scorecard]:
    """Return the cards to extend, after verifying that they are unedited and belong to the study.

    Raises:
        RecordError: PB407, PB408, a card or its table was edited.
        IncomparableError: PB602, a card has another set, method or outputs. The error lists all of them.
    """
    cards = {path: read_scorecard(path) for path in paths}
    for path, card in cards.items():
        read_table(card, path)
    by_slug = {m.slug: m for m in analysis.methods}
    problems = []
    for path, card in cards.items():
        method = by_slug.get(card.method.slug)
        facts = [("set", analysis.target.set, card.fingerprints.set)]
        if method is None:
            facts.append(("method", " or ".join(by_slug), card.method.slug))
        else:
            facts.append(("outputs", method.outputs, card.fingerprints.outputs))
        fix = "give the scorecard of exactly the outputs that raters saw"
        problems += [
            problem("PB602", f"{path.name}: {what}", expected=expected[:40], found=found[:40], fix=fix)
            for what, expected, found in facts
            if expected != found
        ]
    if problems:
        raise IncomparableError(*problems)
    return cards


def write_cards(cards: Mapping[Path, Scorecard], analysis: Analysis, out: Path) -> list[Path]:
    """Write one extended card per given card to `out`, each with its table, and return the paths."""
    results = {m.slug: m for m in analysis.methods}
    written = []
    for path, card in cards.items():
        target = out / f"{card.method.slug}.json"
        atomic.write_bytes(table_path(target), read_file(table_path(path)))
        extended(card, analysis, results[card.method.slug], target).write(target)
        written.append(target)
    return written


def extended(card: Scorecard, analysis: Analysis, result: MethodResult, target: Path) -> Scorecard:
    """Return a signed copy of a card with the study's fool rate; the given card is added to its parents."""
    link = card.per_image.model_copy(update={"file": table_path(target).name})
    fields = {
        "date": today(),
        "scores": card.scores | {analysis.metric: score(analysis, result)},
        "parents": (*card.parents, card.content_sha256),
        "per_image": link,
    }
    return card.model_copy(update=fields).signed()


def score(analysis: Analysis, result: MethodResult) -> Score:
    """Return the fool rate as the score of a card.

    `params.differences` contains the test against every other method of the study, by the digest of that
    method's outputs. With these tests, a board can rank without the votes.
    """
    found = result.rate
    outputs = {m.slug: m.outputs for m in analysis.methods}
    differences = {}
    for pair in analysis.pairs:
        if result.slug in (pair.one, pair.other):
            sign, other = (1, pair.other) if pair.one == result.slug else (-1, pair.one)
            test = {"delta": sign * pair.delta, "se": pair.se, "p": pair.p, "n": pair.n}
            differences[outputs[other]] = test
    notes = {
        "simulated-votes": analysis.simulated,
        "peeked": analysis.peeked,
        "too-few-votes": found.value is None,
        "small-study": found.value is not None and found.raters < SMALL_STUDY,
    }
    params: dict[str, Any] = {
        "study": analysis.study,
        "votes": analysis.votes,
        "display_ms": analysis.display_ms,
        "raters": found.raters,
        "images": found.images,
        "trials": found.n,
        "excluded": len(analysis.excluded),
        "design_effect": found.design_effect,
        "differences": differences,
    }
    return Score(
        value=found.value,
        low=found.low,
        high=found.high,
        se=found.se,
        level=1 - analysis.alpha,
        interval=METHOD if found.value is not None else None,
        n=found.n,
        direction="higher",
        unit="%",
        params=params,
        notes=tuple(note for note, applies in notes.items() if applies),
    )
