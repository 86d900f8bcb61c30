"""Assignment of trials: balanced lists, one per rater slot, drawn from the study's secret.

Every method gets the same number of raters. Vote counts of (method, image) pairs differ by at most one.
No rater sees an image twice. For each rater and method, the original is on the left as often as on the
right, up to one trial. Source: reports and studies, section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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

_EXCHANGES = 10  # rounds of image swaps between raters: many more than mixing needs

# method number -> the images of that method that one rater sees
Allocation: TypeAlias = dict[int, list[ImageId]]


# --- images and checks of the plan ---


@dataclass(frozen=True)
class DraftTrial:
    """A trial before tokens and files are assigned: what it shows, and the side of the original."""

    kind: Kind
    image_id: ImageId
    method: str
    real_side: Side


@dataclass(frozen=True)
class ImageChoice:
    """The images of a study by use; each image has one use."""

    test: tuple[ImageId, ...]
    catch: tuple[ImageId, ...]
    practice: tuple[ImageId, ...]


def choose(plan: StudyPlan, set_fingerprint: Fingerprint, ids: Iterable[ImageId]) -> ImageChoice:
    """Return the images of a study by the rule `study-v1`.

    The choice depends on the set and the seed, not on the order of the ids. The first `images` of the ordered
    ids are for test trials, the next ones for catch trials, then for practice.
    """

    def place(image_id: ImageId) -> Fingerprint:
        return sha256(f"study-v1|{set_fingerprint}|{plan.image_seed}|{image_id}".encode())

    ordered = sorted(ids, key=place)
    first, second = plan.images, plan.images + plan.catch
    return ImageChoice(
        tuple(ordered[:first]), tuple(ordered[first:second]), tuple(ordered[second : second + plan.practice])
    )


def methods_per_rater(plan: StudyPlan, n_methods: int) -> int:
    """Return the number of methods that one rater judges: all, or as many as fit into 120 test trials."""
    return min(n_methods, MOST_TEST_TRIALS // plan.trials_per_method)


def faults(plan: StudyPlan, n_methods: int, n_ids: int) -> list[Problem]:
    """Return the problems that keep a plan from being balanced on a set of `n_ids` images."""
    per_rater = methods_per_rater(plan, n_methods)
    needed, apart = plan.images + plan.catch + plan.practice, n_methods * plan.trials_per_method
    found = []
    if needed > n_ids:
        most = n_ids - plan.catch - plan.practice
        found.append(("images", f"at most {most:,}, to leave images for catch and practice", plan.images))
    if apart > plan.images:
        found.append(("images", f"at least methods x trials_per_method = {apart:,}", plan.images))
    if plan.raters * per_rater % n_methods:
        step = next(n for n in range(1, n_methods + 1) if n * per_rater % n_methods == 0)
        found.append(
            ("raters", f"a multiple of {step}: each judges {per_rater} of {n_methods} methods", plan.raters)
        )
    if plan.catch >= per_rater * plan.trials_per_method:
        found.append(("catch", "fewer than the test trials, which surround catch trials", plan.catch))
    passed = plan.exclude.catch_min_correct
    if passed > plan.catch:
        found.append(("exclude.catch_min_correct", f"at most catch = {plan.catch}", passed))
    return [
        problem("PB403", f"study.toml: {key}", expected=expected, found=f"{value:,}", fix="change the plan")
        for key, expected, value in found
    ]


# --- the lists of trials ---


def assign(plan: StudyPlan, slugs: Sequence[str], choice: ImageChoice, secret: str) -> list[list[DraftTrial]]:
    """Return the trials of every rater slot in order: practice, then test trials mixed with catch trials.

    Args:
        plan: a plan without `faults`.
        slugs: slugs of the methods.
        choice: the images.
        secret: the study's secret; equal secrets give equal lists.
    """
    draw = Stream(f"palette-bench/study-v1|{secret}|hands")
    images, per_rater = shuffled(choice.test, draw), methods_per_rater(plan, len(slugs))
    trials = plan.trials_per_method
    # Lay the images out in a circle, which balances all counts. Each method goes round the circle in steps of
    # `trials_per_method`, from its own start. The starts are at least one step apart, so the arcs of one
    # rater never overlap.
    gap = len(images) // len(slugs)
    hands: list[Allocation] = []
    for slot in range(plan.raters):
        turns = (divmod(slot * per_rater + i, len(slugs)) for i in range(per_rater))
        starts = {method: turn * trials + method * gap for turn, method in turns}
        hands.append(
            {m: [images[(start + i) % len(images)] for i in range(trials)] for m, start in starts.items()}
        )
    for _ in range(_EXCHANGES):
        for method in range(len(slugs)):
            _exchange(hands, method, draw)
    lists = []
    for slot, hand in enumerate(hands):
        draw = Stream(f"palette-bench/study-v1|{secret}|slot|{slot}")
        test = [
            trial
            for method in sorted(hand)
            for trial in _sided("test", shuffled(hand[method], draw), slugs[method], draw)
        ]
        catch = iter(_sided("catch", shuffled(choice.catch, draw), CATCH_METHOD, draw))
        # catch trials are between test trials, never first, last or adjacent
        gaps = set(shuffled(range(1, len(test)), draw)[: len(choice.catch)])
        trials_of_slot = _sided("practice", shuffled(choice.practice, draw), CATCH_METHOD, draw)
        for at, trial in enumerate(shuffled(test, draw)):
            trials_of_slot += [next(catch), trial] if at in gaps else [trial]
        lists.append(trials_of_slot)
    return lists


def _exchange(hands: Sequence[Allocation], method: int, draw: Stream) -> None:
    """Let pairs of raters of a method pool the images that both may see, and draw from the pool anew.

    Vote counts per (method, image) pair and trials per rater stay the same. Without the exchange, the same
    groups of raters would always see the same groups of images. (A curveball trade: Strona and others 2014.)
    """
    pairs = shuffled([hand for hand in hands if method in hand], draw)
    for one, other in zip(pairs[::2], pairs[1::2], strict=False):  # one rater of an odd number has no partner
        seen, seen_by_other = ({i for images in hand.values() for i in images} for hand in (one, other))
        free = [i for i in one[method] if i not in seen_by_other]
        pool = shuffled(free + [i for i in other[method] if i not in seen], draw)
        given = set(pool)
        one[method] = [i for i in one[method] if i not in given] + pool[: len(free)]
        other[method] = [i for i in other[method] if i not in given] + pool[len(free) :]


def shuffled(items: Iterable[T], draw: Stream) -> list[T]:
    """Return the items in uniformly random order (Fisher and Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        at = draw.below(last + 1)
        order[last], order[at] = order[at], order[last]
    return order


def _sided(kind: Kind, images: Sequence[ImageId], method: str, draw: Stream) -> list[DraftTrial]:
    """Return trials in the order of `images`, with the original on the left in half of them (up to one)."""
    left = (len(images) + draw.below(2)) // 2
    sides = shuffled("L" * left + "R" * (len(images) - left), draw)
    return [
        DraftTrial(kind, i, method, "L" if side == "L" else "R")
        for i, side in zip(images, sides, strict=True)
    ]


# --- the expected precision of a plan ---

SHARE_OF_IMAGES = 0.114  # share of a vote's variance due to images, at a logit sd of 0.8 over images
SHARE_OF_RATERS = 0.044  # share due to raters, at a logit sd of 0.5 over raters
EXPECTED_RATE = 0.48


@dataclass(frozen=True)
class ExpectedPrecision:
    """Expected precision for one method; half widths are in percentage points.

    Attributes:
        raters: number of raters of the method.
        trials: trials per rater.
        images: number of test images.
        half_width: half width of the two-way interval.
        naive: half width if votes were independent, which is too small.
    """

    raters: int
    trials: int
    images: int
    half_width: float
    naive: float

    def __str__(self) -> str:
        """Return the precision as a sentence."""
        return (
            f"{self.raters:,} raters x {self.trials:,} trials a method on {self.images:,} images: "
            f"± {self.half_width:.1f} points at 48 % (votes counted as independent would claim "
            f"± {self.naive:.1f})"
        )


def reach(plan: StudyPlan, n_methods: int) -> ExpectedPrecision:
    """Return the expected precision of a plan for one method, at a fool rate of 48 %."""
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
