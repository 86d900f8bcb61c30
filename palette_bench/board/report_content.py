"""The content of a scorecard report: provenance, cautions, per-class table, plots, and the page itself.

How images are stored is left to the report. Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palette_bench.board.comparability import bars_all, ranked_keys
from palette_bench.board.compare import rivals
from palette_bench.board.image_selection import (
    DISTANCE,
    SelectedImages,
    decimals,
    grid_rule,
    labels,
    ranked_picks,
)
from palette_bench.board.record import VerifiedCard, board_key
from palette_bench.core.intervals import wilson
from palette_bench.core.types import ImageId
from palette_bench.pages.images import Previews
from palette_bench.pages.plots import histogram
from palette_bench.pages.render import render
from palette_bench.pages.score_cell import score_cell
from palette_bench.pages.text import (
    NOTHING,
    basis_words,
    headline,
    note_words,
    number,
    place,
    protocol_words,
    source_words,
    task_words,
)
from palette_bench.scoring.scorecard import Scorecard

# --- provenance and cautions ---


def provenance(card: Scorecard) -> str:
    """Return all fingerprints, weights, parent cards and environment entries of a card, one per line."""
    prints = card.fingerprints
    plain: dict[str | bool | None, str] = {True: "yes", False: "no", None: "-"}
    lines = {
        "card": card.content_sha256,
        "protocol": f"{card.protocol} {prints.protocol}",
        "set": prints.set,
        "outputs": prints.outputs,
        **{f"extractor {name}": sha for name, sha in sorted(prints.extractors.items())},
        **{f"weights {name}": words for name, words in sorted((card.networks or {}).items())},
        **{f"reference {name}": sha for name, sha in sorted(prints.references.items())},
        "table": f"{card.per_image.sha256} ({card.per_image.rows:,} rows)",
        **{f"parent {at + 1}": sha for at, sha in enumerate(card.parents)},
        **{name: plain.get(value, value) for name, value in sorted(card.environment.items())},
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


_SAW = {
    "yes": ("Saw the test.", "The method trained on test images; such a card never ranks."),
    "unknown": ("May have seen the test.", "Its authors do not know whether it trained on test images."),
}


@dataclass(frozen=True)
class Caution:
    """A warning on the page: a bold title and a sentence."""

    title: str
    text: str


def cautions(card: Scorecard) -> list[Caution]:
    """Return the cautions of a card: missing images, watermarks, training data, findings of the check."""
    found = []
    if card.n_scored < card.n_expected:
        missing = card.n_expected - card.n_scored
        found.append(Caution("Incomplete.", f"{missing:,} of {card.n_expected:,} images were not scored."))
    if barring := bars_all([card.scores[key] for key in ranked_keys(card)]):
        found.append(Caution("Not a ranking.", " ".join(map(note_words, sorted(barring)))))
    if card.training.saw_test_images in _SAW:
        found.append(Caution(*_SAW[card.training.saw_test_images]))
    if count := sum(p.severity in {"error", "warning"} for p in card.problems):
        text = f"The check of the submission found {count:,} problems; they are listed below."
        found.append(Caution("Findings.", text))
    return found


PUBLISH_NOT = Caution(
    "Keep this page to yourself.", "It contains images under dataset terms: do not publish."
)


# --- the table of classes ---

FEW = 8  # classes with fewer images are marked


@dataclass(frozen=True)
class ClassRow:
    """A class as printed; `hits` and `mean` are sort keys of the table, None if unknown."""

    name: str
    n: int
    hits: float | None
    accuracy: str
    interval: str
    mean: float | None
    distance: str

    @property
    def few(self) -> bool:
        """Return whether the class has too few images for reliable numbers."""
        return self.n < FEW


def class_rows(card: Scorecard, table: pd.DataFrame, digits: int) -> list[ClassRow]:
    """Return one row per class, sorted by name; none if the images have no labels.

    Args:
        card: the card; its protocol names the classes.
        table: its per-image table.
        digits: decimals of the mean perceptual distance.
    """
    names = table["image_id"].astype(str).map(labels(card, table))
    numbers = pd.DataFrame({"top1": _numbers(table, "top1"), "distance": _numbers(table, DISTANCE)})
    found = numbers.groupby(names).agg(
        n=("top1", "size"), judged=("top1", "count"), right=("top1", "sum"), mean=("distance", "mean")
    )
    rows = []
    for name, n, judged, right, mean in found.itertuples():
        hits, accuracy, interval = None, NOTHING, ""
        if judged:
            share = wilson(int(right), int(judged))
            hits = 100 * int(right) / int(judged)
            accuracy = f"{number(hits, 0)} %"
            interval = f"{number(100 * share.low, 0)} to {number(100 * share.high, 0)}"
        known = float(mean) if np.isfinite(mean) else None
        rows.append(ClassRow(str(name), int(n), hits, accuracy, interval, known, number(known, digits)))
    return sorted(rows, key=lambda row: (len(row.name), row.name))  # "9" before "10"


def _numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    values = table[column] if column in table else pd.Series(np.nan, table.index)
    return pd.to_numeric(values, errors="coerce")


# --- the page ---


@dataclass(frozen=True)
class PageRange:
    """A further page of a report: its address, the numbers of its images, and its first and last image id."""

    address: str
    numbers: str
    first: ImageId
    last: ImageId


@dataclass(frozen=True)
class ImageContext:
    """How a page of a report shows images.

    Attributes:
        side: side of the previews, pixels; 0 without images.
        scored: side of the scored images, pixels.
        lossy: whether previews differ from the scored pixels.
        private: whether the page contains images that the dataset terms do not allow to redistribute.
        withheld: whether the dataset terms kept images out of the page.
        beside: whether images and index shards are files beside the page.
    """

    side: int = 0
    scored: int = 0
    lossy: bool = False
    private: bool = False
    withheld: bool = False
    beside: bool = False

    @classmethod
    def of(cls, previews: Previews | None, *, public: bool, beside: bool = False) -> ImageContext:
        """Return the context of images made by `previews`.

        Args:
            previews: the source of the images; None for a page without images.
            public: whether the source's terms allow redistribution of its images.
            beside: whether images are files beside the page.
        """
        if previews is None:
            return cls(withheld=not public, beside=beside)
        return cls(previews.side, previews.gallery.side, previews.lossy, private=not public, beside=beside)


class ReportContent:
    """The content of one card's report.

    Tables and plots are built once, even if the page is rendered several times to fit the size limit.
    """

    def __init__(
        self, card: Scorecard, table: pd.DataFrame, seed: int = 0, others: Sequence[VerifiedCard] = ()
    ) -> None:
        """Compute everything that does not depend on the images.

        Args:
            card: the card.
            table: its per-image table.
            seed: seed of the uncurated grid.
            others: other cards of the same set to compare with, each with its table.
        """
        board_key(card)  # raises for a card of an unknown task, before the page is built
        ranked = tuple(key for key in ranked_keys(card) if key not in card.fool_rates)
        picks = ranked_picks(table)
        diagnostics = [
            key for key in sorted(card.scores) if key not in (*ranked, *card.fool_rates, *card.external)
        ]
        # the histogram of the per-image distances, as a plot and in words
        plot, spread = None, ""
        if picks:
            score, values = card.scores.get("perceptual_distance"), np.array([pick.value for pick in picks])
            basis = "\n" + basis_words(score, "\n") if score else ""
            label = f"perceptual distance of one image, lower is better{basis}"
            plot, digits = histogram(values, label).addresses, decimals(picks)
            low, first, middle, third, high = (
                number(float(q), digits) for q in np.percentile(values, [0, 25, 50, 75, 100])
            )
            spread = (
                f"Over {len(picks):,} images the distance runs from {low} to {high}; "
                f"half of them lie between {first} and {third}, the median is {middle}."
            )
        votes = []
        for key in card.fool_rates:
            score = card.scores[key]
            facts = {
                name: score.params.get(name)
                for name in ("raters", "images", "excluded", "display_ms", "study")
            }
            words = (
                f"{score.n:,} trials of {facts['raters']} raters on {facts['images']} images, each pair "
                f"shown for {facts['display_ms']} ms; {facts['excluded']} raters left out by rules fixed "
                f"before the study. Study {facts['study']}."
            )
            votes.append({"cell": score_cell(key, score), "words": words})
        self.card, self.table, self.seed = card, table, seed
        self._names: dict[str, Any] = {
            "title": f"{card.method.name}: {place(card.task, card.variant)}",
            "root": "",
            "card": card,
            "headline": headline(card, ranked),
            "task": task_words(card.rules, card.task, card.variant),
            "protocol": protocol_words(card),
            "source": source_words(card.rules, card.source, card.n_expected),
            "ranked": [score_cell(key, card.scores[key]) for key in ranked],
            "compared": [score_cell(key, card.scores[key]) for key in (*ranked, *card.external)],
            "rivals": rivals(VerifiedCard(card, table), others, (*ranked, *card.external)),
            "external": [score_cell(key, card.scores[key]) for key in card.external],
            "diagnostics": [score_cell(key, card.scores[key]) for key in diagnostics],
            "plot": plot,
            "spread": spread,
            "classes": class_rows(card, table, decimals(picks)),
            "votes": votes,
            "provenance": provenance(card),
        }

    def page(
        self,
        selection: SelectedImages,
        frame: ImageContext,
        *,
        note: str = "",
        pages: Sequence[PageRange] = (),
    ) -> str:
        """Return the report's HTML.

        Args:
            selection: the images of the page.
            frame: how the images are stored.
            note: why there are fewer images than usual, or "".
            pages: further pages that contain all images.
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
