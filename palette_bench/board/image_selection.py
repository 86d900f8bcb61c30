"""The images of a report: which are selected (an uncurated grid, and the extremes of each measure), as cards.

Source: reports and studies, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from palette_bench.board.comparability import metric_for
from palette_bench.core.fingerprint import sha256
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.pages.images import Panels, Previews
from palette_bench.pages.text import NOTHING, decimals_for, metric_words, number
from palette_bench.scoring.scorecard import Scorecard

# --- selection rules ---

GRID_SIZE = 24
EXTREMES = 8


@dataclass(frozen=True)
class PickedImage:
    """An image with its value and percentile among all images: 0 is the best, 100 the worst."""

    image_id: ImageId
    value: float
    percentile: float


@dataclass(frozen=True)
class Extremes:
    """The worst, middle and best images by one column."""

    worst: tuple[PickedImage, ...]
    median: tuple[PickedImage, ...]
    best: tuple[PickedImage, ...]


def grid_ids(set_fingerprint: Fingerprint, ids: Iterable[ImageId], seed: int = 0) -> list[ImageId]:
    """Return the ids of the uncurated grid `grid-v1`, which are the same for every method of a set.

    Args:
        set_fingerprint: 64 hexadecimal digits.
        ids: all ids of the set, in any order.
        seed: 0 on published pages.
    """

    def place(image_id: ImageId) -> Fingerprint:
        return sha256(f"grid-v1|{set_fingerprint}|{seed}|{image_id}".encode())

    return sorted(ids, key=place)[:GRID_SIZE]


def grid_rule(shown: int, seed: int = 0) -> str:
    """Return the sentences with which a page explains the grid."""
    other = "" if seed == 0 else f" This grid uses seed {seed}, non-standard: published pages use 0."
    return (
        "These images were not picked. grid-v1 orders the ids of a set by the SHA-256 of “grid-v1|set "
        f"fingerprint|{seed}|id” and takes the first {shown}; every method of the set shows the same.{other}"
    )


def ranked_picks(
    table: pd.DataFrame, column: str = "perceptual_distance", *, lower: bool = True
) -> list[PickedImage]:
    """Return every image with a finite value in a column, best first, ties by id.

    The percentile is the share of the other images that come before the image.

    Args:
        table: the per-image table.
        column: a column of numbers. The result is empty if the table lacks the column.
        lower: whether lower values are better.
    """
    if column not in table:
        return []
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    known = [(str(i), float(v)) for i, v in zip(table["image_id"], values, strict=True) if np.isfinite(v)]
    known.sort(key=lambda pair: (pair[1] if lower else -pair[1], pair[0]))
    last = max(len(known) - 1, 1)
    return [PickedImage(image_id, value, 100.0 * at / last) for at, (image_id, value) in enumerate(known)]


def extremes(picks: list[PickedImage], most: int = EXTREMES) -> Extremes:
    """Return the worst images (worst first), the images around the median, and the best images.

    Each list contains `most` images, or fewer if the lists would otherwise overlap.
    """
    size = min(most, len(picks) // 3)
    middle = (len(picks) - size) // 2
    return Extremes(
        worst=tuple(reversed(picks[len(picks) - size :])),
        median=tuple(picks[middle : middle + size]),
        best=tuple(picks[:size]),
    )


# --- cards and lists of a page ---

DISTANCE = "perceptual_distance"


@dataclass(frozen=True)
class SelectionMeasure:
    """A column by which images are selected.

    Attributes:
        column: the column of the per-image table.
        name: the name on an image's card.
        title: the heading of the measure's lists.
        lower: whether lower values are better.
        ends: what the worst and the best images are, in words.
    """

    column: str
    name: str
    title: str
    lower: bool
    ends: tuple[str, str]  # worst, best


MEASURES = (
    SelectionMeasure(
        DISTANCE, "perceptual distance", "By perceptual distance", True,
        ("the largest distances to the original", "the smallest distances to the original"),
    ),
    SelectionMeasure(
        "p_label", "probability of the class", "By the probability of the class", False,
        ("the classifier is least sure of the class", "the classifier is most sure of the class"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class ImageCard:
    """One image on the page; `panels` is None if the page shows no images."""

    image_id: ImageId
    label: str
    measure: str
    value: str
    place: str
    panels: Panels | None
    alt: str

    @property
    def about(self) -> str:
        """Return the caption as one line."""
        of_class = f"class {self.label}" if self.label else ""
        return ", ".join(part for part in (f"{self.measure} {self.value}", self.place, of_class) if part)


@dataclass(frozen=True)
class CardList:
    """A list of cards under one heading."""

    name: str
    meaning: str
    cards: tuple[ImageCard, ...]


@dataclass(frozen=True)
class MeasureLists:
    """The lists of one measure."""

    title: str
    lists: tuple[CardList, ...]


@dataclass(frozen=True)
class ImageCounts:
    """The number of images of a page: per list of extremes, and in the grid."""

    extremes: int = EXTREMES
    grid: int = GRID_SIZE


@dataclass(frozen=True)
class SelectedImages:
    """The images that a page shows; `hero` is the first image at the top."""

    hero: ImageCard | None
    grid: tuple[ImageCard, ...]
    chapters: tuple[MeasureLists, ...]

    @property
    def size(self) -> int:
        """Return the number of cards, counting repeated images each time."""
        return len(self.grid) + sum(len(part.cards) for chapter in self.chapters for part in chapter.lists)


class ImageSelection:
    """Makes image cards from a card's per-image table. Each image is read at most once."""

    def __init__(
        self, card: Scorecard, table: pd.DataFrame, previews: Previews | None, seed: int = 0
    ) -> None:
        """Store the sources of the cards; `seed` is the seed of the grid."""
        self._card, self._table, self._previews, self._seed = card, table, previews, seed
        self._labels = labels(card, table)
        self._distances = ranked_picks(table, DISTANCE)  # every image, best first
        self._by_id = {pick.image_id: pick for pick in self._distances}
        self._digits = decimals(self._distances)
        self._panels: dict[ImageId, Panels] = {}

    def select(self, amount: ImageCounts) -> SelectedImages:
        """Return the grid, and the lists of each measure that the table contains."""
        ids = grid_ids(self._card.fingerprints.set, map(str, self._table["image_id"]), self._seed)
        chapters = []
        for measure in MEASURES:
            picks = ranked_picks(self._table, measure.column, lower=measure.lower)
            chosen, (worst, best) = extremes(picks, amount.extremes), measure.ends
            lists = (
                self._list("Best", best, measure, chosen.best, picks),
                self._list("Median", "the middle of the field", measure, chosen.median, picks),
                self._list("Worst", worst, measure, chosen.worst, picks),
            )
            chapters += [MeasureLists(measure.title, lists)] if picks else []
        # the images that raise FID most, if the table has their influence
        if picks := ranked_picks(self._table, "fid_influence"):
            name = metric_words(metric_for("fid", self._card) or "frechet_distance").name
            title = f"By influence on the {name}"
            measure = SelectionMeasure("fid_influence", "influence", title, True, ("", ""))
            meaning = "without one of them, the distance between the feature clouds would fall most"
            top = tuple(reversed(picks[-amount.extremes :]))
            chapters.append(MeasureLists(title, (self._list("Largest", meaning, measure, top, picks),)))
        # The hero has the largest `is_kl` among the best quarter by perceptual distance: images of the
        # smallest distance often show little more than plain sky, so a distinct class decides.
        hero, quarter = None, self._distances[: math.ceil(len(self._distances) / 4)]
        if quarter:
            seen = self._table.set_index("image_id").loc[[pick.image_id for pick in quarter]]
            clearest = seen["is_kl"].fillna(-math.inf).idxmax() if "is_kl" in seen else quarter[0].image_id
            hero = next(self.cards([str(clearest)]))
        return SelectedImages(hero, tuple(self.cards(ids[: amount.grid])), tuple(chapters))

    def cards(self, ids: Iterable[ImageId]) -> Iterator[ImageCard]:
        """Yield a card for each id, showing the perceptual distance."""
        for image_id in ids:
            yield self._make(image_id, MEASURES[0], self._by_id.get(image_id), self._digits)

    def _list(
        self,
        name: str,
        meaning: str,
        measure: SelectionMeasure,
        chosen: Iterable[PickedImage],
        picks: list[PickedImage],
    ) -> CardList:
        digits = decimals(picks)
        return CardList(
            name, meaning, tuple(self._make(pick.image_id, measure, pick, digits) for pick in chosen)
        )

    def _make(
        self, image_id: ImageId, measure: SelectionMeasure, pick: PickedImage | None, digits: int
    ) -> ImageCard:
        label = self._labels.get(image_id, "")
        # the alternative text always has the perceptual distance (reports and studies, section 4)
        by_distance = self._by_id.get(image_id)
        distance = number(by_distance.value if by_distance else None, self._digits)
        of_class = f", class {label}" if label else ""
        if self._previews is not None and image_id not in self._panels:
            self._panels[image_id] = self._previews.panels(image_id)
        return ImageCard(
            image_id=image_id,
            label=label,
            measure=measure.name,
            value=number(pick.value, digits) if pick else NOTHING,
            place=f"percentile {pick.percentile:.0f}" if pick else "",
            panels=self._panels.get(image_id),
            alt=f"Output of {self._card.method.name} for {image_id}{of_class}, {MEASURES[0].name} {distance}",
        )


def labels(card: Scorecard, table: pd.DataFrame) -> dict[ImageId, str]:
    """Return the class of each labelled image as printed: a wnid if the protocol has them, else a number."""
    numbers = pd.to_numeric(table["label"], errors="coerce") if "label" in table else pd.Series(dtype=float)
    names = card.rules.class_names
    known = {str(i): int(n) for i, n in zip(table["image_id"], numbers, strict=False) if np.isfinite(n)}
    return {i: names[n] if 0 <= n < len(names) else str(n) for i, n in known.items()}


def decimals(picks: list[PickedImage]) -> int:
    """Return the number of decimals (0 to 4) that shows three digits of the largest value."""
    return decimals_for(max((abs(pick.value) for pick in picks), default=0.0), 3)
