"""Votes of simulated raters, for trying a study before people take part.

The model is logistic with crossed effects. Each rater has a bias, and each image of a method a difficulty;
both are normal on the logit scale. Now and then a rater answers at random. The votes have the source
`simulated`, and cards made from them never rank (PB507). Source: reports and studies, section 7.5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from palette_bench.core.errors import UsageError, suggest
from palette_bench.core.records import today
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Side, Truth
from palette_bench.study.votes import Vote, chose_model, rater_id

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
_MEDIAN_RT_MS = 900  # median time to answer; the times are log-normal
_FRAME_MS = 17  # a display ends within one frame of the plan


@dataclass(frozen=True)
class SimulatedRaters:
    """The simulated raters.

    Attributes:
        raters: number of raters; raters beyond the plan's slots reuse the slots in turn.
        rates: slug -> long-run fool rate in (0, 1), including lapses.
        image_sd: standard deviation over a method's images, logits.
        rater_sd: standard deviation over raters, logits.
        lapse: share of trials that are answered at random.
        seed: equal seeds give equal votes.
    """

    raters: int
    rates: Mapping[str, float]
    image_sd: float = 0.8
    rater_sd: float = 0.5
    lapse: float = 0.02
    seed: int = 0


def simulate(folder: StudyFolder, simulated: SimulatedRaters) -> list[Vote]:
    """Return the votes of simulated raters on a study's own lists of trials.

    Raises:
        UsageError: a rate is missing, belongs to no method of the study, or is impossible with the lapses.
    """
    study, secret = folder.study, folder.secret
    unknown = sorted(set(simulated.rates) - set(study.slugs))
    if unknown:
        raise UsageError(f"the study has no method {unknown[0]!r}: {suggest(unknown[0], study.slugs)}")
    missing = sorted(set(study.slugs) - set(simulated.rates))
    if missing:
        raise UsageError(f"no rate for {', '.join(missing)}: give --rate {missing[0]}=0.45")
    least = simulated.lapse / 2
    for slug, value in simulated.rates.items():
        if not least < value < 1 - least:
            raise UsageError(
                f"rate {value} of {slug} is impossible: these lapses keep it between {least} and {1 - least}"
            )
    slots: dict[int, list[Truth]] = {}
    for row in folder.truth():
        slots.setdefault(row.slot, []).append(row)
    answers, day, votes = _Answers(simulated), today(), []
    for number in range(simulated.raters):
        name = f"simulated-{number}"
        rater = rater_id(secret, name)
        for row in slots[number % study.raters]:
            other: Side = "R" if row.real_side == "L" else "L"
            choice = other if answers.chooses_model(number, row) else row.real_side
            rt_ms, late_ms = answers.times(number, row)
            votes.append(
                Vote(
                    study_id=study.id,
                    rater=rater,
                    session=name,
                    trial=row.trial,
                    kind=row.kind,
                    image_id=row.image_id,
                    method=row.method,
                    real_side=row.real_side,
                    choice=choice,
                    chose_model=chose_model(row.real_side, choice),
                    rt_ms=rt_ms,
                    planned_ms=study.display_ms,
                    shown_ms=study.display_ms + late_ms,
                    decoded=1,
                    focus_lost=0,
                    viewport_w=1280,
                    viewport_h=800,
                    dpr=1.0,
                    device="keyboard",
                    source="simulated",
                    day=day,
                )
            )
    return votes


def logit_of(rate: float, spread: float) -> float:
    """Return the mean logit m for which expit(m + N(0, spread^2)) has the expectation `rate`."""

    def excess(middle: float) -> float:
        return float((_WEIGHTS * special.expit(middle + spread * _NODES)).sum() / _WEIGHTS.sum()) - rate

    return float(optimize.brentq(excess, -40.0, 40.0))


class _Answers:
    """Random answers of the raters. Each draw has its own key, so the order of calls does not matter."""

    def __init__(self, simulated: SimulatedRaters) -> None:
        spread = math.hypot(simulated.image_sd, simulated.rater_sd)
        # the rate outside lapses: a lapse chooses the model half of the time
        free = {
            slug: (rate - simulated.lapse / 2) / (1 - simulated.lapse)
            for slug, rate in simulated.rates.items()
        }
        self._raters = simulated
        self._middle = {slug: logit_of(rate, spread) for slug, rate in free.items()}

    def _draws(self, *key: object) -> np.random.Generator:
        text = "|".join(map(str, ("pb-simulated-v1", self._raters.seed, *key)))
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=seed))

    def chooses_model(self, rater: int, row: Truth) -> bool:
        """Return whether a rater chooses the image that is not the original."""
        draws = self._draws("trial", rater, row.trial)
        if draws.random() < self._raters.lapse:
            return bool(draws.random() < 0.5)
        if row.kind != "test":
            return False  # practice and catch trials show the degraded input, which is easy to recognise
        rater_effect = self._raters.rater_sd * self._draws("rater", rater).standard_normal()
        image_effect = (
            self._raters.image_sd * self._draws("image", row.method, row.image_id).standard_normal()
        )
        return bool(draws.random() < special.expit(self._middle[row.method] + rater_effect + image_effect))

    def times(self, rater: int, row: Truth) -> tuple[int, int]:
        """Return the time to answer, and how much longer than planned the display lasted, in milliseconds."""
        draws = self._draws("time", rater, row.trial)
        return int(_MEDIAN_RT_MS * math.exp(0.4 * draws.standard_normal())), int(draws.integers(_FRAME_MS))
