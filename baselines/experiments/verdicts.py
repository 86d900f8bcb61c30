"""Whether what the paper found holds here: paired tests over pictures or seeds, corrected together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from palette_bench.core.records import Part
from palette_bench.core.significance import Difference, holm, paired_t, z_of_influence

from .readings import Reading
from .study import Claim, Sign

LEVEL = 0.05
Holds = Literal["yes", "no", "not told apart"]
Lookup = Mapping[tuple[str, str, str], Sequence[Reading]]  # (system, set, metric) -> a reading per seed


class Verdict(Part):
    """A finding of the paper, and what was found here; delta is first minus second."""

    first: str
    second: str
    metric: str
    set: str
    sign: Sign
    source: str
    holds: Holds
    why: str
    delta: float | None = None
    se: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    test: str = ""


@dataclass(frozen=True)
class _Test:
    """One claim on one set: a difference, or why there is none."""

    claim: Claim
    target: str
    difference: Difference | None
    why: str


def verdicts(claims: Iterable[Claim], found: Lookup) -> tuple[Verdict, ...]:
    """Return a verdict per claim and set; the p values of all are corrected together (Holm)."""
    tests = [_tested(claim, target, found) for claim in claims for target in claim.sets]
    corrected = iter(holm([test.difference.p for test in tests if test.difference]))
    return tuple(_verdict(test, next(corrected) if test.difference else None) for test in tests)


def _tested(claim: Claim, target: str, found: Lookup) -> _Test:
    firsts, seconds = (found.get((s, target, claim.metric), ()) for s in (claim.first, claim.second))
    if not firsts or not seconds or any(r.value is None for r in (*firsts, *seconds)):
        return _Test(claim, target, None, "there is no such number")
    if forbidding := sorted({note for r in (*firsts, *seconds) for note in r.barred}):
        return _Test(claim, target, None, f"these numbers allow no conclusion: {', '.join(forbidding)}")
    difference = of_seeds(firsts, seconds) if len(firsts) > 1 else of_pictures(firsts[0], seconds[0])
    return _Test(claim, target, difference, "" if difference else "the numbers have no interval")


def of_seeds(firsts: Sequence[Reading], seconds: Sequence[Reading]) -> Difference | None:
    """Return the mean difference over seeds, Student's t on the pairs: it covers training anew."""
    values, others = (np.array([r.value for r in side], np.float64) for side in (firsts, seconds))
    return paired_t(values, others)


def of_pictures(first: Reading, second: Reading) -> Difference | None:
    """Return the difference over one set: paired where each picture's part is known, else unpaired.

    Unpaired, the errors are taken as independent. Systems err on the same pictures, so this finds less.
    """
    assert first.value is not None, "asked of numbers that exist"
    assert second.value is not None, "asked of numbers that exist"
    if first.column is not None and second.column is not None:
        if first.key.partition("_")[0] in {"fid", "frechet", "kid", "kernel"}:
            return z_of_influence(
                first.value, second.value, first.column, second.column, first.halves, second.halves
            )
        return paired_t(first.column, second.column)
    if first.se is None or second.se is None:
        return None
    delta, se = first.value - second.value, math.hypot(first.se, second.se)
    p = 2 * float(special.ndtr(-abs(delta) / se)) if se else float(delta == 0)
    return Difference(delta, se, p, min(first.n, second.n), "z-unpaired")


def _verdict(test: _Test, corrected: float | None) -> Verdict:
    claim, difference = test.claim, test.difference
    untold = Verdict(
        first=claim.first,
        second=claim.second,
        metric=claim.metric,
        set=test.target,
        sign=claim.sign,
        source=claim.source,
        holds="not told apart",
        why=test.why,
    )
    if difference is None or corrected is None:
        return untold
    agrees = (difference.delta < 0) == (claim.sign == "lower")
    return untold.model_copy(
        update={
            "holds": "not told apart" if corrected > LEVEL else "yes" if agrees else "no",
            "why": f"p = {corrected:.2g} after correction",
            "delta": difference.delta,
            "se": difference.se,
            "p": difference.p,
            "p_holm": corrected,
            "n": difference.n,
            "test": difference.test,
        }
    )
