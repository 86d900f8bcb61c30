"""The scorecard report: one card as one HTML file.

Source: reports and studies, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from palette_bench.board.cells import ScoreCell, score_cell
from palette_bench.board.comparability import ranked_keys
from palette_bench.board.pages import data_uri, render
from palette_bench.board.pictures import Gallery, Panels, open_gallery
from palette_bench.board.plots import histogram
from palette_bench.board.record import board_key, read_proven
from palette_bench.board.samples import GRID_RULE, Pick, extremes, grid_ids, ranked_picks
from palette_bench.board.words import headline, note_words, number, place, source_words, task_words
from palette_bench.core import atomic
from palette_bench.core.errors import UsageError
from palette_bench.core.types import SILENT, ImageId, Progress
from palette_bench.scoring.scorecard import Scorecard

_NO_PANELS = "Pictures appear when the report is given the set and the submission the card was scored from."


@dataclass(frozen=True)
class Card:
    """One picture on the page; panels are absent without the folders."""

    image_id: ImageId
    pick: Pick | None
    panels: Panels | None
    method: str
    digits: int

    @property
    def value(self) -> str:
        """Return the perceptual distance as printed."""
        return number(self.pick.value if self.pick else None, self.digits)

    @property
    def place(self) -> str:
        """Return where the value stands among all pictures."""
        return "" if self.pick is None else f"percentile {self.pick.percentile:.0f}"

    @property
    def alt(self) -> str:
        """Return the alternative text of the output. Source: reports and studies, section 4."""
        return f"Output of {self.method} for {self.image_id}, perceptual distance {self.value}"


def write_report(
    card: Path,
    out: Path,
    *,
    benchset: Path | None = None,
    submission: Path | None = None,
    progress: Progress = SILENT,
) -> Scorecard:
    """Write a card as a self-contained HTML page; pictures need the set and the submission.

    Returns:
        The card, as proven.

    Raises:
        UsageError: one of the two folders is given without the other.
        RecordError: PB407, PB408, the card or its table was edited.
        IncomparableError: PB602, the folders are not those the card was scored from.
    """
    if (benchset is None) != (submission is None):
        raise UsageError("pictures need both folders: give --set and --submission together, or neither")
    proven, table = read_proven(card)
    with _pictures(proven, benchset, submission, progress) as gallery:
        atomic.write_text(out, page(proven, table, gallery))
    return proven


def _pictures(
    card: Scorecard, benchset: Path | None, submission: Path | None, progress: Progress
) -> AbstractContextManager[Gallery | None]:
    if benchset is None or submission is None:
        return nullcontext()
    return open_gallery(card, benchset, submission, progress)


def page(card: Scorecard, table: pd.DataFrame, gallery: Gallery | None) -> str:
    """Return the page's HTML."""
    board_key(card)  # refuses a card that names no known task, before any words are made of it
    picks = ranked_picks(table)
    album = _Album(card, gallery, picks)
    ranked = ranked_keys(card)
    chosen = extremes(picks)
    return render(
        "report.html.jinja",
        title=f"{card.method.name}: {place(card.task, card.variant)}",
        root="",
        card=card,
        headline=headline(card, ranked),
        task=task_words(card.protocol, card.task, card.variant),
        source=source_words(card.protocol, card.source),
        watermarks=[note_words(mark) for mark in card.watermarks],
        terms=gallery is not None and not gallery.publishable,
        lossy=gallery is not None and gallery.lossy,
        side=gallery.side if gallery else 0,
        ranked=[score_cell(key, card.scores[key]) for key in ranked],
        diagnostics=_others(card, (*ranked, *card.fool_rates)),
        studied=[_studied(card, key) for key in card.fool_rates],
        grid=album.cards(grid_ids(card.fingerprints.set, map(str, table["image_id"]))),
        grid_rule=GRID_RULE,
        no_panels="" if gallery else _NO_PANELS,
        extremes=[
            ("Worst", "the largest perceptual distances", album.cards(p.image_id for p in chosen.worst)),
            ("Median", "the middle of the field", album.cards(p.image_id for p in chosen.median)),
            ("Best", "the smallest perceptual distances", album.cards(p.image_id for p in chosen.best)),
        ],
        plot=_plot(picks),
        spread=_spread(picks),
        provenance=provenance(card),
    )


class _Album:
    """Makes cards of ids; a picture shown twice is read once."""

    def __init__(self, card: Scorecard, gallery: Gallery | None, picks: list[Pick]) -> None:
        self._method = card.method.name
        self._gallery = gallery
        self._picks = {pick.image_id: pick for pick in picks}
        self._panels: dict[ImageId, Panels] = {}
        self._digits = _digits(picks)

    def cards(self, ids: Iterable[ImageId]) -> list[Card]:
        return [Card(i, self._picks.get(i), self._panels_of(i), self._method, self._digits) for i in ids]

    def _panels_of(self, image_id: ImageId) -> Panels | None:
        if self._gallery is None:
            return None
        if image_id not in self._panels:
            self._panels[image_id] = self._gallery.panels(image_id)
        return self._panels[image_id]


def _others(card: Scorecard, told: tuple[str, ...]) -> list[ScoreCell]:
    """Return the scores not told elsewhere on the page."""
    return [score_cell(key, score) for key, score in sorted(card.scores.items()) if key not in told]


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


def _plot(picks: list[Pick]) -> tuple[str, str] | None:
    """Return the histogram of the per-image distances as light and dark addresses."""
    values = np.array([pick.value for pick in picks], np.float64)
    if not len(values):
        return None
    plot = histogram(values, "perceptual distance of one picture, lower is better")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _spread(picks: list[Pick]) -> str:
    """Return the histogram in words: smallest, quartiles and largest."""
    if not picks:
        return ""
    digits = _digits(picks)
    low, first, middle, third, high = (
        number(float(q), digits) for q in np.percentile([p.value for p in picks], [0, 25, 50, 75, 100])
    )
    return (
        f"Over {len(picks):,} pictures the distance runs from {low} to {high}; "
        f"half of them lie between {first} and {third}, the median is {middle}."
    )


def _digits(picks: list[Pick]) -> int:
    """Return the decimals that show three digits of the largest distance, 0 to 4."""
    top = max((p.value for p in picks), default=0.0)
    return max(0, min(4, 2 - math.floor(math.log10(top)))) if top > 0 else 0


def provenance(card: Scorecard) -> str:
    """Return where the numbers come from as one block of lines to copy."""
    prints = card.fingerprints
    lines = {
        "card": card.content_sha256,
        "protocol": f"{card.protocol} {prints.protocol}",
        "set": prints.set,
        "outputs": prints.outputs,
        **{f"extractor {name}": sha for name, sha in sorted(prints.extractors.items())},
        **{f"reference {name}": sha for name, sha in sorted(prints.references.items())},
        "table": f"{card.per_image.sha256} ({card.per_image.rows:,} rows)",
        **{f"parent {at + 1}": sha for at, sha in enumerate(card.parents)},
        **{name: _plain(value) for name, value in sorted(card.environment.items())},
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _plain(value: str | bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if not isinstance(value, str) else value
