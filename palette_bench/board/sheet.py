"""The content of a scorecard report: everything of its page but how pictures are stored.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from palette_bench.board.against import rivals
from palette_bench.board.album import Selection, decimals
from palette_bench.board.cautions import PUBLISH_NOT, cautions
from palette_bench.board.cells import ScoreCell, score_cell
from palette_bench.board.classes import class_rows
from palette_bench.board.comparability import ranked_keys
from palette_bench.board.pages import data_uri, render
from palette_bench.board.plots import histogram
from palette_bench.board.previews import Previews
from palette_bench.board.provenance import provenance
from palette_bench.board.record import board_key
from palette_bench.board.samples import Pick, grid_rule, ranked_picks
from palette_bench.board.words import basis_words, headline, number, place, source_words, task_words
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Scorecard

Others: TypeAlias = Sequence[tuple[Scorecard, pd.DataFrame]]


@dataclass(frozen=True)
class Leaf:
    """A further page of a report: its address, and its first and last picture, by number and by id."""

    address: str
    numbers: str
    first: ImageId
    last: ImageId


@dataclass(frozen=True)
class Frame:
    """What a page of a report is told about pictures.

    Attributes:
        side: of the previews, pixels; 0 without pictures.
        scored: side of the scored pictures, pixels.
        lossy: whether previews differ from the scored pixels.
        private: whether pictures under dataset terms are in it.
        withheld: whether those terms kept pictures out of it.
        beside: whether pictures and shards lie in files beside it.
    """

    side: int = 0
    scored: int = 0
    lossy: bool = False
    private: bool = False
    withheld: bool = False
    beside: bool = False

    @classmethod
    def of(cls, previews: Previews | None, *, public: bool, beside: bool = False) -> Frame:
        """Return the frame of pictures made by `previews`; None leaves them out.

        Args:
            previews: what makes them.
            public: whether the source's terms let its pictures be passed on.
            beside: whether they lie in files.
        """
        if previews is None:
            return cls(withheld=not public, beside=beside)
        return cls(previews.side, previews.gallery.side, previews.lossy, private=not public, beside=beside)


class Sheet:
    """The content of one card's report; its plot is drawn once, however often the page is tried."""

    def __init__(self, card: Scorecard, table: pd.DataFrame, seed: int = 0, others: Others = ()) -> None:
        """Gather what does not depend on the pictures.

        Args:
            card: the report's.
            table: its per-image table.
            seed: of the grid.
            others: cards of the same set to stand beside it, with their tables.
        """
        board_key(card)  # refuses a card that names no known task, before any words are made of it
        ranked = tuple(key for key in ranked_keys(card) if key not in card.fool_rates)
        picks = ranked_picks(table)
        self.card, self.table, self.seed = card, table, seed
        self._names: dict[str, Any] = {
            "title": f"{card.method.name}: {place(card.task, card.variant)}",
            "root": "",
            "card": card,
            "headline": headline(card, ranked),
            "task": task_words(card.protocol, card.task, card.variant),
            "source": source_words(card.protocol, card.source, card.n_expected),
            "ranked": [score_cell(key, card.scores[key]) for key in ranked],
            "rivals": rivals(card, table, others, ranked),
            "diagnostics": _others(card, ranked),
            "plot": _plot(picks, card),
            "spread": _spread(picks),
            "classes": class_rows(card, table, decimals(picks)),
            "votes": [_studied(card, key) for key in card.fool_rates],
            "provenance": provenance(card),
        }

    def page(self, selection: Selection, frame: Frame, *, note: str = "", pages: Sequence[Leaf] = ()) -> str:
        """Return the report's HTML.

        Args:
            selection: the pictures it shows.
            frame: how they are stored.
            note: why there are fewer than usual, or "".
            pages: further pages that hold all pictures.
        """
        return render(
            "report.html.jinja",
            parts=("pictures", "sorting", "classes", *(("finder",) if pages else ())),
            beside=frame.beside,
            frame=frame,
            cautions=cautions(self.card) + ([PUBLISH_NOT] if frame.private else []),
            best=selection.hero,
            grid=selection.grid,
            grid_rule=grid_rule(len(selection.grid), self.seed),
            chapters=selection.chapters,
            note=note,
            pages=pages,
            **self._names,
        )


def _others(card: Scorecard, ranked: tuple[str, ...]) -> list[ScoreCell]:
    return [
        score_cell(key, score)
        for key, score in sorted(card.scores.items())
        if key not in ranked and key not in card.fool_rates
    ]


@dataclass(frozen=True)
class Studied:
    """A fool rate on the page, and its study in one sentence."""

    cell: ScoreCell
    words: str


def _studied(card: Scorecard, key: str) -> Studied:
    score = card.scores[key]
    facts = {name: score.params.get(name) for name in ("raters", "images", "excluded", "display_ms", "study")}
    words = (
        f"{score.n:,} trials of {facts['raters']} raters on {facts['images']} pictures, each pair shown for "
        f"{facts['display_ms']} ms; {facts['excluded']} raters left out by rules fixed before. Study "
        f"{facts['study']}."
    )
    return Studied(score_cell(key, score), words)


def _plot(picks: list[Pick], card: Scorecard) -> tuple[str, str] | None:
    """Return the histogram of the per-image distances as light and dark addresses."""
    values = np.array([pick.value for pick in picks], np.float64)
    if not len(values):
        return None
    score = card.scores.get("perceptual_distance")
    basis = "\n" + basis_words(score, "\n") if score else ""
    plot = histogram(values, f"perceptual distance of one picture, lower is better{basis}")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _spread(picks: list[Pick]) -> str:
    """Return the histogram in words: smallest, quartiles and largest."""
    if not picks:
        return ""
    digits = decimals(picks)
    low, first, middle, third, high = (
        number(float(q), digits) for q in np.percentile([p.value for p in picks], [0, 25, 50, 75, 100])
    )
    return (
        f"Over {len(picks):,} pictures the distance runs from {low} to {high}; "
        f"half of them lie between {first} and {third}, the median is {middle}."
    )
