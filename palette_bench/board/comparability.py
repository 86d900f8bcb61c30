"""Which cards can be compared, what distinguishes two cards, and which cards can rank.

Source: reports and studies, section 2; architecture, "Identity".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palette_bench.core.errors import Problem, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Fingerprint
from palette_bench.pages.text import network_words, reference_words
from palette_bench.scoring.metrics import RANKING_METRICS, forms_of
from palette_bench.scoring.scorecard import BARRING, Score, Scorecard, against_originals

ANCHORS = {"original": "ceiling", "copy-input": "floor"}

# (error code if it differs, what the fingerprint identifies) -> fingerprint
Identity: TypeAlias = dict[tuple[str, str], Fingerprint]


@dataclass(frozen=True)
class Ineligible:
    """A reason why a card does not rank; `code` is empty if no error code belongs to the reason."""

    code: str
    reason: str

    def __str__(self) -> str:
        """Return the reason, followed by its code."""
        return f"{self.reason} ({self.code})" if self.code else self.reason


@dataclass(frozen=True)
class ComparableCards:
    """Cards that can be compared; `identity` contains the fingerprints of all of them."""

    identity: Identity
    cards: tuple[Scorecard, ...]

    @property
    def words(self) -> dict[tuple[str, str], str]:
        """Return what each fingerprint stands for, in the words of the first card that has it."""
        return {key: words for card in reversed(self.cards) for key, words in in_words(card).items()}

    @property
    def digest(self) -> Fingerprint:
        """Return one digest of the whole identity."""
        return fingerprint({f"{code} {name}": sha for (code, name), sha in self.identity.items()})


def metric_for(role: str, card: Scorecard) -> str | None:
    """Return the card's metric for a ranked metric: the metric itself, another form of it, or None."""
    return next((key for key in forms_of(role) if key in card.scores), None)


def ranked_keys(card: Scorecard) -> tuple[str, ...]:
    """Return the card's ranked metrics in the protocol's order; the first one sorts boards."""
    return tuple(dict.fromkeys(key for _, key in _roles(card)))  # two roles may share a general form


def board_metrics(cards: Iterable[Scorecard]) -> tuple[str, ...]:
    """Return the metrics of a board: the ranked metrics of its first card, then all cards' fool rates."""
    known = tuple(cards)
    return (*ranked_keys(known[0]), *sorted({key for card in known for key in card.fool_rates}))


def identity(card: Scorecard) -> Identity:
    """Return the fingerprints that must agree before this card can be compared with another.

    Only extractors and references of ranked metrics count, so that an additional diagnostic does not separate
    two methods. The keys name the ranked metric's role, so that FID and a Fréchet distance on other features
    have the same key, and differ.
    """
    prints = card.fingerprints
    shared: Identity = {("PB601", "protocol"): prints.protocol, ("PB602", "set"): prints.set}
    for name, key in _roles(card):
        extractor = card.scores[key].extractor
        if extractor in prints.extractors:
            shared["PB603", f"extractor of {name}"] = prints.extractors[extractor]
        if key in prints.references:
            shared["PB604", f"reference of {name}"] = prints.references[key]
    return shared


def _roles(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Yield the role name of each ranked metric, and the card's metric in that role."""
    for role in card.rules.ranked_metrics(card.source, card.task):
        key = metric_for(role, card)
        if key is not None:
            yield RANKING_METRICS[role].role or role, key


def in_words(card: Scorecard) -> dict[tuple[str, str], str]:
    """Return, in words, what the fingerprints of `identity` stand for."""
    found = {
        ("PB601", "protocol"): card.protocol,
        ("PB602", "set"): f"{card.n_expected:,} images",
    }
    for name, key in _roles(card):
        found["PB603", f"extractor of {name}"] = network_words(card.scores[key].extractor)
        found["PB604", f"reference of {name}"] = reference_words(card.scores[key])
    return found


def differences(one: Identity, other: Identity) -> list[Problem]:
    """Return one problem per fingerprint that differs between two identities; none if they are comparable.

    A fingerprint that only one identity has (e.g. of a metric that the other card lacks) is ignored.
    """
    return [
        problem(code, name, expected=one[code, name][:12], found=other[code, name][:12])
        for code, name in sorted(one.keys() & other.keys())
        if one[code, name] != other[code, name]
    ]


def groups(cards: Iterable[Scorecard]) -> list[ComparableCards]:
    """Group cards of one key into boards, the board with the most unwatermarked cards first, then the larger.

    Cards with more fingerprints are assigned first. A card without a metric then joins a board that has it.
    """
    dealt = sorted(cards, key=lambda c: (-len(identity(c)), c.content_sha256))
    found: list[ComparableCards] = []
    for card in dealt:
        own = identity(card)
        at = next((i for i, group in enumerate(found) if not differences(group.identity, own)), None)
        if at is None:
            found.append(ComparableCards(own, (card,)))
        else:
            found[at] = ComparableCards({**own, **found[at].identity}, (*found[at].cards, card))
    return sorted(found, key=lambda g: (-sum(not c.watermarks for c in g.cards), -len(g.cards), g.digest))


def bars_all(scores: Sequence[Score]) -> set[str]:
    """Return the notes that bar from ranking and that every one of the scores has."""
    return set.intersection(*(BARRING.intersection(score.notes) for score in scores)) if scores else set()


def unfit(card: Scorecard, metric: str | None) -> list[Ineligible]:
    """Return every reason, from the card alone, why it does not rank by `metric`; empty if it can rank."""
    reasons = []
    if card.n_scored < card.n_expected:
        reasons.append(Ineligible("PB205", f"{card.n_scored:,} of {card.n_expected:,} images were scored"))
    if card.training.saw_test_images == "yes":
        reasons.append(Ineligible("PB410", "its training saw test images"))
    if any("simulated-votes" in card.scores[key].notes for key in card.fool_rates):
        reasons.append(Ineligible("PB507", "its votes are simulated"))
    score = card.scores.get(metric or "")
    if score is None or score.value is None:
        reasons.append(Ineligible("PB207", "the metric is missing"))
    if score and against_originals(score) and card.rules.has_validation_set(card.source):
        reasons.append(
            Ineligible("PB608", "measured against the set's own originals, not the validation set")
        )
    for mark in sorted(BARRING.intersection(score.notes if score else ())):
        if mark == "rank-deficient":
            reasons.append(Ineligible("PB208", "too few images for the metric"))
        elif mark not in ("partial", "simulated-votes"):
            reasons.append(Ineligible("PB608", mark.replace("-", " ")))
    return reasons
