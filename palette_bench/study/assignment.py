"""Who sees what: balanced lists of trials, one per rater slot, drawn from the study's secret.

Every method gets equally many raters, and every (method, image) pair the same number of votes up to one;
nobody sees an image twice; the original stands left and right equally often for each rater and method.
Source: reports and studies, section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from palette_bench.core.errors import Problem, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.intervals import NORMAL_QUANTILE
from palette_bench.core.rng import Stream
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.study.plan import CATCH_METHOD, MOST_TEST_TRIALS, Kind, Side, StudyPlan
from palette_bench.study.two_way import quantile

T = TypeVar("T")

_EXCHANGES = 10  # rounds in which every rater swaps images with another: far past what mixing needs

# method number -> the images one rater sees of it
Hands: TypeAlias = dict[int, list[ImageId]]


@dataclass(frozen=True)
class DraftTrial:
    """A trial before it has names: what it shows, and where the original stands."""

    kind: Kind
    image_id: ImageId
    method: str
    real_side: Side


@dataclass(frozen=True)
class ImageChoice:
    """The images of a study by use; no image has two uses."""

    test: tuple[ImageId, ...]
    catch: tuple[ImageId, ...]
    practice: tuple[ImageId, ...]


def choose(plan: StudyPlan, set_fingerprint: Fingerprint, ids: Iterable[ImageId]) -> ImageChoice:
    """Return the images of a study, `study-v1`: the same for equal set and seed, whatever the order of ids.

    The first `images` are for test trials, then come catch and practice.
    """

    def place(image_id: ImageId) -> Fingerprint:
        return sha256(f"study-v1|{set_fingerprint}|{plan.image_seed}|{image_id}".encode())

    ordered = sorted(ids, key=place)
    first, second = plan.images, plan.images + plan.catch
    return ImageChoice(
        tuple(ordered[:first]), tuple(ordered[first:second]), tuple(ordered[second : second + plan.practice])
    )


def methods_per_rater(plan: StudyPlan, n_methods: int) -> int:
    """Return how many methods one rater judges: all, or as many as 120 test trials hold."""
    return min(n_methods, MOST_TEST_TRIALS // plan.trials_per_method)


def faults(plan: StudyPlan, n_methods: int, n_ids: int) -> list[Problem]:
    """Return what keeps the plan from being balanced on a set of `n_ids` images; none if it can be."""
    per_rater = methods_per_rater(plan, n_methods)
    needed, apart = plan.images + plan.catch + plan.practice, n_methods * plan.trials_per_method
    found = []
    if needed > n_ids:
        most = n_ids - plan.catch - plan.practice
        found.append(("images", f"at most {most:,}, which leaves catch and practice", plan.images))
    if apart > plan.images:
        found.append(("images", f"at least methods x trials_per_method = {apart:,}", plan.images))
    if plan.raters * per_rater % n_methods:
        step = next(n for n in range(1, n_methods + 1) if n * per_rater % n_methods == 0)
        found.append(
            ("raters", f"a multiple of {step}: {per_rater} of {n_methods} methods each", plan.raters)
        )
    if plan.catch >= per_rater * plan.trials_per_method:
        found.append(("catch", "fewer than the test trials between which they hide", plan.catch))
    passed = plan.exclude.catch_min_correct
    if passed > plan.catch:
        found.append(("exclude.catch_min_correct", f"at most catch = {plan.catch}", passed))
    return [
        problem("PB403", f"study.toml: {key}", expected=expected, found=f"{value:,}", fix="change the plan")
        for key, expected, value in found
    ]


def assign(plan: StudyPlan, slugs: Sequence[str], choice: ImageChoice, secret: str) -> list[list[DraftTrial]]:
    """Return the trials of every rater slot in order: practice, then test with catch trials among them.

    Args:
        plan: one without `faults`.
        slugs: of the methods.
        choice: the images.
        secret: equal secrets give equal lists.
    """
    draw = Stream(f"palette-bench/study-v1|{secret}|hands")
    hands = _deal(plan, len(slugs), shuffled(choice.test, draw))
    for _ in range(_EXCHANGES):
        for method in range(len(slugs)):
            _exchange(hands, method, draw)
    return [
        list(_sequence(hand, slugs, choice, Stream(f"palette-bench/study-v1|{secret}|slot|{slot}")))
        for slot, hand in enumerate(hands)
    ]


def shuffled(items: Iterable[T], draw: Stream) -> list[T]:
    """Return items in an order all orders of which are equally likely (Fisher and Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        at = draw.below(last + 1)
        order[last], order[at] = order[at], order[last]
    return order


def _deal(plan: StudyPlan, n_methods: int, images: Sequence[ImageId]) -> list[Hands]:
    """Return each slot's images by method, laid around a circle of images so that everything balances.

    Each method goes round the circle in steps of its trials, from its own start; starts lie further apart
    than one step, so the arcs one rater gets never overlap.
    """
    per_rater, trials = methods_per_rater(plan, n_methods), plan.trials_per_method
    gap = len(images) // n_methods
    hands: list[Hands] = []
    for slot in range(plan.raters):
        turns = (divmod(slot * per_rater + i, n_methods) for i in range(per_rater))
        starts = {method: turn * trials + method * gap for turn, method in turns}
        hands.append(
            {m: [images[(start + i) % len(images)] for i in range(trials)] for m, start in starts.items()}
        )
    return hands


def _exchange(hands: Sequence[Hands], method: int, draw: Stream) -> None:
    """Let raters of a method, two by two, pool what either may see and draw anew.

    Nothing that balances is touched: pairs keep their votes and raters their number of trials. Without it,
    the same groups of raters would always meet the same groups of images. (A curveball trade: Strona and
    others 2014.)
    """
    pairs = shuffled([hand for hand in hands if method in hand], draw)
    for one, other in zip(pairs[::2], pairs[1::2], strict=False):  # with an odd number one sits out
        seen, seen_by_other = _all(one), _all(other)
        free = [i for i in one[method] if i not in seen_by_other]
        pool = shuffled(free + [i for i in other[method] if i not in seen], draw)
        given = set(pool)
        one[method] = [i for i in one[method] if i not in given] + pool[: len(free)]
        other[method] = [i for i in other[method] if i not in given] + pool[len(free) :]


def _all(hand: Hands) -> set[ImageId]:
    return {image_id for images in hand.values() for image_id in images}


def _sequence(hand: Hands, slugs: Sequence[str], choice: ImageChoice, draw: Stream) -> Iterator[DraftTrial]:
    """Yield one rater's trials. Catch trials stand between test trials, never first, last or in a row."""
    test = [
        trial
        for method in sorted(hand)
        for trial in _sided("test", shuffled(hand[method], draw), slugs[method], draw)
    ]
    catch = iter(_sided("catch", shuffled(choice.catch, draw), CATCH_METHOD, draw))
    gaps = set(shuffled(range(1, len(test)), draw)[: len(choice.catch)])
    yield from _sided("practice", shuffled(choice.practice, draw), CATCH_METHOD, draw)
    for at, trial in enumerate(shuffled(test, draw)):
        if at in gaps:
            yield next(catch)
        yield trial


def _sided(kind: Kind, images: Sequence[ImageId], method: str, draw: Stream) -> list[DraftTrial]:
    """Return trials with the original on the left in half of them, up to one, in the order of images."""
    left = (len(images) + draw.below(2)) // 2
    sides = shuffled("L" * left + "R" * (len(images) - left), draw)
    return [
        DraftTrial(kind, i, method, "L" if side == "L" else "R")
        for i, side in zip(images, sides, strict=True)
    ]


SHARE_OF_IMAGES = 0.114  # of the variance of a vote, at a logit sd of 0.8 over images
SHARE_OF_RATERS = 0.044  # likewise, at 0.5 over raters
EXPECTED_RATE = 0.48


@dataclass(frozen=True)
class ExpectedPrecision:
    """Raters, trials of each and images of one method, and half widths in per cent points."""

    raters: int
    trials: int
    images: int
    half_width: float
    naive: float

    def __str__(self) -> str:
        """Return the row as a sentence."""
        return (
            f"{self.raters:,} raters x {self.trials:,} trials a method on {self.images:,} images: "
            f"± {self.half_width:.1f} points at 48 % (votes counted as independent would claim "
            f"± {self.naive:.1f})"
        )


def reach(plan: StudyPlan, n_methods: int) -> ExpectedPrecision:
    """Return the row of the planning table for one method of a plan."""
    raters = plan.raters * methods_per_rater(plan, n_methods) // n_methods
    images = min(plan.images, raters * plan.trials_per_method)
    votes, noise = raters * plan.trials_per_method, EXPECTED_RATE * (1 - EXPECTED_RATE)
    rest = 1 - SHARE_OF_RATERS - SHARE_OF_IMAGES
    spread = noise * (SHARE_OF_RATERS / raters + SHARE_OF_IMAGES / images + rest / votes)
    q = quantile(1 - plan.alpha, raters, images) if min(raters, images) > 1 else math.inf
    naive = NORMAL_QUANTILE * math.sqrt(noise / votes)
    return ExpectedPrecision(
        raters, plan.trials_per_method, plan.images, 100 * q * math.sqrt(spread), 100 * naive
    )
