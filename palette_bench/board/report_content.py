"""The content of a scorecard report: provenance, cautions, per-class table, plots, and the page itself.

How images are stored is left to the report. Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from palette_bench.board.comparability import bars_all, ranked_keys
from palette_bench.board.compare import rivals
from palette_bench.board.image_selection import (
    DISTANCE,
    PickedImage,
    SelectedImages,
    decimals,
    grid_rule,
    labels,
    ranked_picks,
)
from palette_bench.board.record import board_key
from palette_bench.core.intervals import wilson
from palette_bench.core.types import ImageId
from palette_bench.pages.images import Previews
from palette_bench.pages.plots import histogram
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import ScoreCell, score_cell
from palette_bench.pages.text import (
    NOTHING,
    basis_words,
    headline,
    note_words,
    number,
    place,
    source_words,
    task_words,
)
from palette_bench.scoring.scorecard import Scorecard

# --- provenance and cautions ---


def provenance(card: Scorecard) -> str:
    """Return all fingerprints, weights, parent cards and environment entries of a card, one per line."""
    prints = card.fingerprints
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
        **{name: _plain(value) for name, value in sorted(card.environment.items())},
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _plain(value: str | bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if not isinstance(value, str) else value


_SAW = {
    "yes": ("Saw the test.", "The method's training held test images; such a card never ranks."),
    "unknown": ("May have seen the test.", "Its authors do not know whether training held test images."),
}


@dataclass(frozen=True)
class Caution:
    """A warning on the page: a bold title and a sentence."""

    title: str
    text: str


def cautions(card: Scorecard) -> list[Caution]:
    """Return the cautions of a card: missing images, watermarks, training data, findings of the check."""
    return list(_cautions(card))


def _cautions(card: Scorecard) -> Iterator[Caution]:
    if card.n_scored < card.n_expected:
        missing = card.n_expected - card.n_scored
        yield Caution("Incomplete.", f"{missing:,} of {card.n_expected:,} images were not scored.")
    if barring := bars_all([card.scores[key] for key in ranked_keys(card)]):
        yield Caution("Not a ranking.", " ".join(map(note_words, sorted(barring))))
    if card.training.saw_test_images in _SAW:
        yield Caution(*_SAW[card.training.saw_test_images])
    found = sum(p.severity in {"error", "warning"} for p in card.problems)
    if found:
        yield Caution(
            "Findings.", f"The check of the submission found {found:,} things; they are listed below."
        )


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
    rows = [
        _row(str(name), int(n), int(judged), int(right), float(mean), digits)
        for name, n, judged, right, mean in found.itertuples()
    ]
    return sorted(rows, key=lambda row: (len(row.name), row.name))  # "9" before "10"


def _numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    values = table[column] if column in table else pd.Series(np.nan, table.index)
    return pd.to_numeric(values, errors="coerce")


def _row(name: str, n: int, judged: int, right: int, mean: float, digits: int) -> ClassRow:
    hits = 100 * right / judged if judged else None
    known = mean if np.isfinite(mean) else None
    return ClassRow(
        name=name,
        n=n,
        hits=hits,
        accuracy=f"{number(hits, 0)} %" if judged else NOTHING,
        interval=_interval(right, judged),
        mean=known,
        distance=number(known, digits),
    )


def _interval(successes: int, n: int) -> str:
    """Return the Wilson interval of a share in percent, as printed."""
    if not n:
        return ""
    found = wilson(successes, n)
    return f"{number(100 * found.low, 0)} to {number(100 * found.high, 0)}"


# --- the page ---


Others: TypeAlias = Sequence[tuple[Scorecard, pd.DataFrame]]


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

    def __init__(self, card: Scorecard, table: pd.DataFrame, seed: int = 0, others: Others = ()) -> None:
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


def _others(card: Scorecard, ranked: tuple[str, ...]) -> list[ScoreCell]:
    return [
        score_cell(key, score)
        for key, score in sorted(card.scores.items())
        if key not in ranked and key not in card.fool_rates
    ]


@dataclass(frozen=True)
class FoolRateEntry:
    """A fool rate on the page, with a description of its study."""

    cell: ScoreCell
    words: str


def _studied(card: Scorecard, key: str) -> FoolRateEntry:
    score = card.scores[key]
    facts = {name: score.params.get(name) for name in ("raters", "images", "excluded", "display_ms", "study")}
    words = (
        f"{score.n:,} trials of {facts['raters']} raters on {facts['images']} images, each pair shown for "
        f"{facts['display_ms']} ms; {facts['excluded']} raters left out by rules fixed before. Study "
        f"{facts['study']}."
    )
    return FoolRateEntry(score_cell(key, score), words)


def _plot(picks: list[PickedImage], card: Scorecard) -> tuple[str, str] | None:
    """Return the histogram of the per-image distances as (light, dark) data addresses."""
    values = np.array([pick.value for pick in picks], np.float64)
    if not len(values):
        return None
    score = card.scores.get("perceptual_distance")
    basis = "\n" + basis_words(score, "\n") if score else ""
    plot = histogram(values, f"perceptual distance of one image, lower is better{basis}")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _spread(picks: list[PickedImage]) -> str:
    """Return the histogram in words: smallest value, quartiles and largest value."""
    if not picks:
        return ""
    digits = decimals(picks)
    low, first, middle, third, high = (
        number(float(q), digits) for q in np.percentile([p.value for p in picks], [0, 25, 50, 75, 100])
    )
    return (
        f"Over {len(picks):,} images the distance runs from {low} to {high}; "
        f"half of them lie between {first} and {third}, the median is {middle}."
    )
