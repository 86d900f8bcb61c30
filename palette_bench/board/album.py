"""The pictures of a report as cards in lists: the uncurated grid, and the ends and middle of each measure.

Source: reports and studies, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from palette_bench.board.previews import Panels, Previews
from palette_bench.board.samples import EXTREMES, GRID_SIZE, Pick, extremes, grid_ids, ranked_picks
from palette_bench.board.words import NOTHING, metric_words, number
from palette_bench.core.resources import protocol_file
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Scorecard, forms_of
from palette_bench.tasks.protocol import load

DISTANCE = "perceptual_distance"


@dataclass(frozen=True)
class Measure:
    """A column by which pictures are picked.

    Attributes:
        column: of the per-image table.
        name: as a card prints it.
        title: of its lists.
        lower: whether small values are the better ones.
        ends: what the worst and the best of it are, in words.
    """

    column: str
    name: str
    title: str
    lower: bool
    ends: tuple[str, str]  # worst, best


MEASURES = (
    Measure(
        DISTANCE, "perceptual distance", "By perceptual distance", True,
        ("the largest distances to the original", "the smallest distances to the original"),
    ),
    Measure(
        "p_label", "probability of the class", "By the probability of the class", False,
        ("the classifier is least sure of the class", "the classifier is most sure of the class"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One picture on the page; panels are absent where the page holds no pictures."""

    image_id: ImageId
    label: str
    measure: str
    value: str
    place: str
    panels: Panels | None
    alt: str

    @property
    def about(self) -> str:
        """Return the caption in one line."""
        of_class = f"class {self.label}" if self.label else ""
        return ", ".join(part for part in (f"{self.measure} {self.value}", self.place, of_class) if part)


@dataclass(frozen=True)
class CardList:
    """Cards under one heading."""

    name: str
    meaning: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Chapter:
    """The lists of one measure."""

    title: str
    lists: tuple[CardList, ...]


@dataclass(frozen=True)
class Amount:
    """How many pictures a page shows."""

    extremes: int = EXTREMES
    grid: int = GRID_SIZE


@dataclass(frozen=True)
class Selection:
    """What a page shows; it opens with `hero`."""

    hero: Card | None
    grid: tuple[Card, ...]
    chapters: tuple[Chapter, ...]

    @property
    def size(self) -> int:
        """Return the number of cards, repeated ones counted."""
        return len(self.grid) + sum(len(part.cards) for chapter in self.chapters for part in chapter.lists)


class Album:
    """Makes cards of a card's per-image table; a picture shown twice is read once."""

    def __init__(
        self, card: Scorecard, table: pd.DataFrame, previews: Previews | None, seed: int = 0
    ) -> None:
        """Take the sources of the cards; `seed` is that of the grid."""
        self._card = card
        self._table = table
        self._previews = previews
        self._seed = seed
        self._panels: dict[ImageId, Panels] = {}

    @cached_property
    def distances(self) -> list[Pick]:
        """Return every picture by perceptual distance, best first."""
        return ranked_picks(self._table, DISTANCE)

    def select(self, amount: Amount) -> Selection:
        """Return the grid and the lists of each measure the table holds."""
        ids = grid_ids(self._card.fingerprints.set, map(str, self._table["image_id"]), self._seed)
        chapters = [chapter for measure in MEASURES if (chapter := self._ends(measure, amount.extremes))]
        return Selection(
            self._hero(),
            tuple(self.cards(ids[: amount.grid])),
            (*chapters, *self._influence(amount.extremes)),
        )

    def _hero(self) -> Card | None:
        """Return, of the best quarter, the image whose class stands out most: the best show plain sky."""
        best = [pick.image_id for pick in self.distances[: math.ceil(len(self.distances) / 4)]]
        if not best:
            return None
        seen = self._table.set_index("image_id").loc[best]
        clearest = seen["is_kl"].fillna(-math.inf).idxmax() if "is_kl" in seen else best[0]
        return next(self.cards([str(clearest)]))

    def cards(self, ids: Iterable[ImageId]) -> Iterator[Card]:
        """Yield cards that show the perceptual distance."""
        for image_id in ids:
            yield self._make(image_id, MEASURES[0], self._by_id.get(image_id), self._digits)

    def _ends(self, measure: Measure, most: int) -> Chapter | None:
        picks = ranked_picks(self._table, measure.column, lower=measure.lower)
        chosen, (worst, best) = extremes(picks, most), measure.ends
        lists = (
            self._list("Best", best, measure, chosen.best, picks),
            self._list("Median", "the middle of the field", measure, chosen.median, picks),
            self._list("Worst", worst, measure, chosen.worst, picks),
        )
        return Chapter(measure.title, lists) if picks else None

    def _influence(self, most: int) -> Iterator[Chapter]:
        """Yield the pictures that raise FID most, if the table has them."""
        picks = ranked_picks(self._table, "fid_influence")
        if picks:
            known = [key for key in forms_of("fid") if key in self._card.scores]
            name = metric_words((known or ["frechet_distance"])[0]).name
            measure = Measure("fid_influence", "influence", f"By influence on the {name}", True, ("", ""))
            meaning = "without one of them the distance of the feature clouds would fall most"
            top = tuple(reversed(picks[-most:]))
            yield Chapter(measure.title, (self._list("Largest", meaning, measure, top, picks),))

    def _list(
        self, name: str, meaning: str, measure: Measure, chosen: Iterable[Pick], picks: list[Pick]
    ) -> CardList:
        digits = decimals(picks)
        return CardList(
            name, meaning, tuple(self._make(pick.image_id, measure, pick, digits) for pick in chosen)
        )

    def _make(self, image_id: ImageId, measure: Measure, pick: Pick | None, digits: int) -> Card:
        label = self._labels.get(image_id, "")
        return Card(
            image_id=image_id,
            label=label,
            measure=measure.name,
            value=number(pick.value, digits) if pick else NOTHING,
            place=f"percentile {pick.percentile:.0f}" if pick else "",
            panels=self._panels_of(image_id),
            alt=self._alt(image_id, label),
        )

    def _alt(self, image_id: ImageId, label: str) -> str:
        """Return the alternative text of an output. Source: reports and studies, section 4."""
        pick = self._by_id.get(image_id)
        distance = number(pick.value if pick else None, self._digits)
        of_class = f", class {label}" if label else ""
        return f"Output of {self._card.method.name} for {image_id}{of_class}, {MEASURES[0].name} {distance}"

    @cached_property
    def _by_id(self) -> Mapping[ImageId, Pick]:
        return {pick.image_id: pick for pick in self.distances}

    @cached_property
    def _digits(self) -> int:
        return decimals(self.distances)

    @cached_property
    def _labels(self) -> Mapping[ImageId, str]:
        return labels(self._card, self._table)

    def _panels_of(self, image_id: ImageId) -> Panels | None:
        if self._previews is None:
            return None
        if image_id not in self._panels:
            self._panels[image_id] = self._previews.panels(image_id)
        return self._panels[image_id]


def labels(card: Scorecard, table: pd.DataFrame) -> dict[ImageId, str]:
    """Return the class of each labelled picture as printed: its wnid where the protocol lists them."""
    numbers = pd.to_numeric(table["label"], errors="coerce") if "label" in table else pd.Series(dtype=float)
    names = _class_names(card.protocol)
    known = {str(i): int(n) for i, n in zip(table["image_id"], numbers, strict=False) if np.isfinite(n)}
    return {i: names[n] if 0 <= n < len(names) else str(n) for i, n in known.items()}


def _class_names(protocol: str) -> list[str]:
    spec = load(protocol)
    return protocol_file(protocol, spec.wnids).decode().split() if spec.wnids else []


def decimals(picks: list[Pick]) -> int:
    """Return the decimals that show three digits of the largest value, 0 to 4."""
    top = max((abs(pick.value) for pick in picks), default=0.0)
    return max(0, min(4, 2 - math.floor(math.log10(top)))) if top > 0 else 0
