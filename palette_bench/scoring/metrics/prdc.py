"""Precision, recall, density and coverage: shares of points within nearest-neighbour balls.

A ball is about a row of one cloud and reaches to its k-th nearest other row of that cloud. For outputs x and
reference y:

    precision  share of outputs in some reference ball, d(x_i, y_j) <= r_k(y_j)          k = 3
    recall     share of the reference in some output ball, d(x_i, y_j) <= r_k(x_i)       k = 3
    density    mean number of reference balls about an output, over k, d < r_k(y_j)      k = 5
    coverage   share of reference balls that hold an output, d < r_k(y_j)                k = 5

Sources: Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, section 3, whose program takes balls
without their edge. The values of k are theirs.

A reference of other images counts as fixed. Precision and density are then means of independent values, one
an output. All else depends on shared neighbours: the standard error is the jackknife's, which leaves out one
image at a time (against own originals, one output with its original), with the balls that grow when their
neighbour is left out. It is 1 to 3.4 times the true one (benchmarks/cloud_coverage.py), and collapses where
nearly all or none of the points are covered, so such shares have no interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.intervals import Interval, linear, mean_t, wilson
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, require_pairs
from palette_bench.scoring.metrics.neighbours import (
    Cloud,
    Indices,
    Nearest,
    Values,
    check_clouds,
    close_pairs,
    clouds_of,
    exact,
    nearest,
)

SHARE_K = 3  # precision and recall: Kynkäänniemi et al. 2019, section 3
BALL_K = 5  # density and coverage: Naeem et al. 2020, section 3.3
LEAST = 10  # points covered, and points not covered, for a jackknife interval of a share

_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """The points of one cloud within the balls of another, k = 3.

    Attributes:
        balls: (P,) number of balls that hold each point.
        only: (P,) the centre of the ball that holds a point, if it is one.
        shell: (2, S) points in at most one ball, and centres whose ball holds the point once it has grown to
            the next neighbour.
        neighbours: the nearest neighbours of the C centres.
    """

    balls: Indices
    only: Indices
    shell: Indices
    neighbours: Nearest

    @property
    def value(self) -> float:
        """Return the share of points in some ball."""
        return float((self.balls > 0).mean())

    def without(self, own: _Bools | None) -> Values:
        """Return the share without each centre in turn, (C,).

        Args:
            own: whether the ball of each centre holds the point of the same row. If given, that point is left
                out with its centre.
        """
        count, centres = len(self.balls), len(self.neighbours.rows)
        alone = self.balls == 1
        lost = np.bincount(self.only[alone], minlength=centres)
        # (point, centre left out) for which a grown ball holds a point that no other ball holds
        point = np.repeat(self.shell[0], SHARE_K)
        gone = self.neighbours.rows[self.shell[1], :SHARE_K].ravel()
        counts = (self.balls[point] == 0) | (self.only[point] == gone)
        held = np.unique(gone[counts] * count + point[counts])
        covered = int((self.balls > 0).sum()) - lost + np.bincount(held // count, minlength=centres)
        if own is None:
            return np.asarray(covered / count)
        still = self.balls - own > 0
        still[held[held // count == held % count] % count] = True
        return np.asarray((covered - still) / (count - 1))


@dataclass(frozen=True)
class Balls:
    """The balls of the reference, k = 5, and how many outputs they hold.

    Attributes:
        around: (N,) number of balls that hold each output.
        inside: (M,) number of outputs in each ball.
        only: (M,) the output in a ball, if it is one.
        shell: (M,) number of outputs that a ball holds more once it has grown to the next neighbour.
        neighbours: the nearest neighbours of the reference.
        own: (M,) squared distance of output i and reference row i, if they are pairs.
        moved: (M, 5) squared distance of reference row j to the outputs of its neighbours, if they are pairs.
    """

    around: Indices
    inside: Indices
    only: Indices
    shell: Indices
    neighbours: Nearest
    own: Values | None
    moved: Values | None

    @property
    def density(self) -> float:
        """Return the mean number of balls about an output, over k."""
        return float(self.around.mean()) / BALL_K

    @property
    def coverage(self) -> float:
        """Return the share of balls that hold an output."""
        return float((self.inside > 0).mean())

    def _radii(self) -> tuple[Values, Values]:
        return self.neighbours.squared[:, BALL_K - 1], self.neighbours.squared[:, BALL_K]

    def density_without(self) -> Values:
        """Return the density without each pair in turn, (N,)."""
        assert self.own is not None, "pairs have distances"
        assert self.moved is not None, "pairs have distances"
        radius, next_radius = self._radii()
        n, gone = len(self.around), self.neighbours.rows[:, :BALL_K]
        itself = (self.moved >= radius[:, None]) & (self.moved < next_radius[:, None])
        gain = np.bincount(gone.ravel(), (self.shell[:, None] - itself).ravel(), minlength=n)
        total = self.around.sum() - self.around - self.inside + (self.own < radius) + gain
        return np.asarray(total / (BALL_K * (n - 1)))

    def coverage_without(self) -> Values:
        """Return the coverage without each output, or each pair, in turn, (N,)."""
        n, m = len(self.around), len(self.inside)
        covered = int((self.inside > 0).sum()) - np.bincount(self.only[self.inside == 1], minlength=n)
        if self.own is None or self.moved is None:
            return np.asarray(covered / m)
        radius, next_radius = self._radii()
        gone = self.neighbours.rows[:, :BALL_K]
        empty = (self.inside == 0)[:, None] | ((self.inside == 1)[:, None] & (self.only[:, None] == gone))
        held = (self.inside + self.shell)[:, None] - (self.moved < next_radius[:, None]) > 0
        covered = covered + np.bincount(gone.ravel(), (empty & held).ravel(), minlength=n)
        return np.asarray((covered - (self.inside - (self.own < radius) > 0)) / (m - 1))


@dataclass
class _Tally:
    """Counts of one side's points in the other side's balls, filled block by block."""

    balls: Indices
    only: Indices
    shell: list[Indices]

    @classmethod
    def of(cls, points: int) -> _Tally:
        return cls(np.zeros(points, np.int64), np.zeros(points, np.int64), [])

    def add(self, points: Indices, centres: Indices, inside: _Bools, shell: _Bools) -> None:
        size = len(self.balls)
        self.balls += np.bincount(points[inside], minlength=size)
        # a sum of centres is the centre itself where there is one
        self.only += np.bincount(points[inside], centres[inside], minlength=size).astype(np.int64)
        few = shell & (self.balls[points] < 2)
        self.shell.append(np.stack([points[few], centres[few]]))

    def share(self, neighbours: Nearest) -> Share:
        shell = np.concatenate(self.shell, axis=1)
        only = np.where(self.balls == 1, self.only, -1)
        return Share(self.balls, only, shell[:, self.balls[shell[0]] < 2], neighbours)


@dataclass(frozen=True)
class Manifolds:
    """All that the four metrics need of two clouds."""

    precision: Share
    recall: Share
    balls: Balls
    own: Values | None


def manifolds(
    outputs: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], paired: bool
) -> Manifolds:
    """Return the shares and balls of (N, D) outputs and (M, D) reference rows, N > 4 and M > 6.

    Args:
        outputs: (N, D) features.
        reference: (M, D) features. If paired, M = N and row i is the original of output i.
        paired: whether rows belong together.
    """
    one, two = clouds_of(outputs, reference)
    near_one, near_two = nearest(one, SHARE_K + 1), nearest(two, BALL_K + 1)
    precision, recall = _Tally.of(len(outputs)), _Tally.of(len(reference))
    inside, around = _Tally.of(len(reference)), np.zeros(len(outputs), np.int64)
    shell = np.zeros(len(reference), np.int64)
    radii = near_one.squared[:, SHARE_K - 1 :], near_two.squared[:, SHARE_K - 1 :]
    for pairs in close_pairs(one, two, *radii):
        i, j, squared = pairs.outputs, pairs.reference, pairs.squared
        r3, r4, r5, r6 = radii[1][j].T
        precision.add(i, j, squared <= r3, (squared > r3) & (squared <= r4))
        ball = squared < r5
        inside.add(j, i, ball, np.zeros_like(ball))
        around += np.bincount(i[ball], minlength=len(around))
        shell += np.bincount(j[(squared >= r5) & (squared < r6)], minlength=len(shell))
        r3, r4 = radii[0][i].T
        recall.add(j, i, squared <= r3, (squared > r3) & (squared <= r4))
    own, moved = _pair_distances(one, two, near_two) if paired else (None, None)
    held = inside.share(near_two)
    balls = Balls(around, held.balls, held.only, shell, near_two, own, moved)
    return Manifolds(precision.share(near_two), recall.share(near_one), balls, own)


def _pair_distances(one: Cloud, two: Cloud, near: Nearest) -> tuple[Values, Values]:
    rows, gone = np.arange(len(two.rows)), near.rows[:, :BALL_K]
    moved = exact(one, gone.ravel(), two, np.repeat(rows, BALL_K))
    return exact(one, rows, two, rows), moved.reshape(gone.shape)


# --- the four metrics ---


def precision(tables: FeatureTables) -> MetricOutcome:
    """Return the share of outputs within some ball of the reference, in [0, 1]."""
    found, params, notes = _found(tables, SHARE_K)
    if found is None:
        return MetricOutcome(None, params=params, notes=notes)
    share, own = found.precision, found.own
    if own is None:
        hits = int((share.balls > 0).sum())
        return MetricOutcome(share.value, wilson(hits, len(share.balls)), params=params, notes=notes)
    inside = own <= share.neighbours.squared[:, SHARE_K - 1]
    return _jackknifed(share.value, share.without(inside), len(share.balls), params, notes)


def recall(tables: FeatureTables) -> MetricOutcome:
    """Return the share of the reference within some ball of the outputs, in [0, 1]."""
    found, params, notes = _found(tables, SHARE_K)
    if found is None:
        return MetricOutcome(None, params=params, notes=notes)
    share, own = found.recall, found.own
    inside = None if own is None else own <= share.neighbours.squared[:, SHARE_K - 1]
    return _jackknifed(share.value, share.without(inside), len(share.balls), params, notes)


def density(tables: FeatureTables) -> MetricOutcome:
    """Return the mean number of reference balls about an output, over k; above 1 where outputs crowd."""
    found, params, notes = _found(tables, BALL_K)
    if found is None:
        return MetricOutcome(None, params=params, notes=notes)
    balls = found.balls
    if found.own is None:
        return MetricOutcome(balls.density, mean_t(balls.around / BALL_K), params=params, notes=notes)
    interval = _interval(balls.density, balls.density_without())
    return MetricOutcome(balls.density, interval, params=params, notes=(*notes, "conservative-interval"))


def coverage(tables: FeatureTables) -> MetricOutcome:
    """Return the share of reference balls that hold an output, in [0, 1]."""
    found, params, notes = _found(tables, BALL_K)
    if found is None:
        return MetricOutcome(None, params=params, notes=notes)
    balls = found.balls
    return _jackknifed(balls.coverage, balls.coverage_without(), len(balls.inside), params, notes)


def _found(tables: FeatureTables, k: int) -> tuple[Manifolds | None, dict[str, Any], tuple[str, ...]]:
    """Return the manifolds, computed once for all four metrics of the same tables, params and notes.

    Raises:
        InputError: a value is not finite, or shapes do not match.
    """
    reference, outputs = tables.reference, tables.outputs
    assert reference is not None, "a referenced metric is given its reference"
    params = {"reference": reference.id, "reference_n": reference.n, "k": k}
    if reference.features is None:
        return None, params, ("needs-features",)
    check_clouds(outputs, reference.features)
    if reference.paired:
        require_pairs(outputs, reference.features)
    if len(outputs) <= SHARE_K + 1 or reference.n <= BALL_K + 1:
        return None, params, ("too-few-images",)
    if "manifolds" not in tables.shared:
        tables.shared["manifolds"] = manifolds(outputs, reference.features, reference.paired)
    return tables.shared["manifolds"], params, ("few-images",) if len(outputs) < 100 else ()


def _interval(value: float, without: Values) -> Interval | None:
    """Return the jackknife interval of a value from its values without each image."""
    return linear(value, (len(without) - 1) * (without.mean() - without), "jackknife-v1")


def _jackknifed(
    value: float, without: Values, points: int, params: dict[str, Any], notes: tuple[str, ...]
) -> MetricOutcome:
    """Return a share of points with its jackknife interval, or without one if it is nearly 0 or 1."""
    if min(value, 1 - value) * points < LEAST:
        return MetricOutcome(value, params=params, notes=(*notes, "saturated"))
    found = _interval(value, without)
    interval = found and replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
    return MetricOutcome(value, interval, params=params, notes=(*notes, "conservative-interval"))
