"""The Fréchet distance against closed forms and 40 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from clouds import drawn
from numpy.typing import NDArray

from palette_bench import frechet_distance
from palette_bench.scoring.metrics.moments import Moments

Table = NDArray[np.float64]


def _side(features: Table) -> tuple[list[mpmath.mpf], mpmath.matrix]:
    """Return the mean and the centred rows / sqrt(N - 1)."""
    rows = mpmath.matrix(features.tolist())
    mean = [mpmath.fsum(rows[:, j]) / rows.rows for j in range(rows.cols)]
    scale = mpmath.sqrt(rows.rows - 1)
    centred = mpmath.matrix(rows.rows, rows.cols)
    for i in range(rows.rows):
        for j in range(rows.cols):
            centred[i, j] = (rows[i, j] - mean[j]) / scale
    return mean, centred


def _exact(one: Table, two: Table) -> float:
    """Return the distance with 40 digits; tr (S1 S2)^1/2 from the smaller Gram form."""
    with mpmath.workdps(40):
        (mean_1, f_1), (mean_2, f_2) = _side(one), _side(two)
        gap = mpmath.fsum((a - b) ** 2 for a, b in zip(mean_1, mean_2, strict=True))
        traces = mpmath.fsum(x * x for f in (f_1, f_2) for x in f)
        if len(one) <= one.shape[1]:
            cross = f_1 * f_2.T
        else:
            cross = mpmath.cholesky(f_1.T * f_1).T * mpmath.cholesky(f_2.T * f_2)
        roots = mpmath.eigsy(cross * cross.T, eigvals_only=True)
        return float(gap + traces - 2 * mpmath.fsum(mpmath.sqrt(max(w, 0)) for w in roots))


@pytest.mark.parametrize(
    ("d", "n", "tolerance"), [(48, 16, 1e-12), (64, 12, 1e-12), (24, 120, 1e-12), (256, 16, 1e-10)]
)
def test_distance_equals_40_digits(d: int, n: int, tolerance: float) -> None:
    one, two = drawn(d, n, d), drawn(d + 1, n, d) + 0.1
    expected = _exact(one, two)
    found = frechet_distance(one, two)
    assert found.value == pytest.approx(expected, rel=tolerance)
    assert found.method == (("rows",) * 2 if n <= d else ("chol",) * 2)
    assert found.closing == ("svdvals" if n <= d else "eigvalsh")
    assert found.rank == ((n - 1,) * 2 if n <= d else (d,) * 2)
    moments = frechet_distance(Moments.of(one), Moments.of(two))
    assert moments.method == (("eigh",) * 2 if n <= d else ("chol",) * 2)
    assert moments.rank == found.rank
    # a singular covariance knows its zero eigenvalues to eps, their roots to sqrt eps
    assert moments.value == pytest.approx(expected, rel=tolerance if n > d else 1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_moving_all_features_moves_the_distance_by_the_squared_length(shift: float) -> None:
    features = drawn(7, 512, 16)
    expected = 16 * shift**2  # equal covariances: only the means differ, in 16 dimensions
    assert frechet_distance(features + shift, features).value == pytest.approx(expected, abs=1e-9)


def test_diagonal_covariances_have_a_closed_form() -> None:
    # columns are +-1 patterns, orthogonal and centred, so that covariances are exactly diagonal
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    one, two = signs * [1.0, 2.0, 3.0], signs * [2.0, 2.0, 1.0] + [0.0, 1.0, 0.0]
    variances = 4 / 3  # of a +-1 column, divisor N - 1
    expected = 1.0 + variances * ((1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert frechet_distance(one, two).value == pytest.approx(expected, abs=1e-12)


def test_one_dimension_is_the_textbook_formula() -> None:
    one, two = drawn(1, 50, 1), 3 * drawn(2, 70, 1) + 1
    expected = (one.mean() - two.mean()) ** 2 + (one.std(ddof=1) - two.std(ddof=1)) ** 2
    assert frechet_distance(one, two).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 10, 12, 13, 100])
def test_equal_clouds_are_at_distance_zero(n: int) -> None:
    features = drawn(3, n, 12).astype(np.float32)
    for found in (
        frechet_distance(features, features.copy()),
        frechet_distance(Moments.of(features), Moments.of(features)),
        frechet_distance(features, Moments.of(features)),
    ):
        assert (found.value, found.closing) == (0.0, "equal")
    turned = frechet_distance(features, features[::-1]).value
    assert turned == pytest.approx(0.0, abs=1e-9 * float(features.var(axis=0).sum()))
