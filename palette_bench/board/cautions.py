"""What a reader must know before the numbers of one card: cautions at the head of its report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from palette_bench.board.comparability import bars_all, ranked_keys
from palette_bench.board.words import note_words
from palette_bench.scoring.scorecard import Scorecard

_SAW = {
    "yes": ("Saw the test.", "The method's training held test pictures; such a card never ranks."),
    "unknown": ("May have seen the test.", "Its authors do not know whether training held test pictures."),
}


@dataclass(frozen=True)
class Caution:
    """A bold beginning and a sentence."""

    title: str
    text: str


def cautions(card: Scorecard) -> list[Caution]:
    """Return the cautions of a card: missing pictures, watermarks, training data, findings of the check."""
    return list(_cautions(card))


def _cautions(card: Scorecard) -> Iterator[Caution]:
    if card.n_scored < card.n_expected:
        missing = card.n_expected - card.n_scored
        yield Caution("Incomplete.", f"{missing:,} of {card.n_expected:,} pictures were not scored.")
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
