"""Votes of tests: sound ones, whole sessions, crowds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from plans import frozen_study

from palette_bench.study.plan import Study
from palette_bench.study.votes import Vote, chose_model

STUDY = frozen_study(images=60, raters=8, trials_per_method=20)
NAMES = [f"{n:016x}" for n in range(200)]


def vote(study: Study = STUDY, **changes: Any) -> Vote:
    """Return a sound answered test vote; `chose_model` follows from the sides."""
    fields: dict[str, Any] = {
        "study_id": study.id, "rater": NAMES[0], "session": "s0", "trial": 2, "kind": "test",
        "image_id": "i000", "method": "method-0", "real_side": "L", "choice": "L", "rt_ms": 800,
        "planned_ms": 3000, "shown_ms": 3008, "decoded": 1, "focus_lost": 0, "viewport_w": 1280,
        "viewport_h": 800, "dpr": 1.5, "device": "keyboard", "source": "serve", "day": "2026-02-03",
    }  # fmt: skip
    fields |= changes
    return Vote(**({"chose_model": chose_model(fields["real_side"], fields["choice"])} | fields))


def session(number: int, rate: float = 0.5, study: Study = STUDY, **changes: Any) -> list[Vote]:
    """Return one rater's whole session: fools at `rate`, alternating sides, all catch trials right."""
    draws = np.random.default_rng(number)
    shown = draws.permutation(study.images)[: study.test_trials]
    votes = []
    for trial in range(study.trials):
        side = "LR"[trial % 2]
        other = "RL"[trial % 2]
        fields: dict[str, Any] = {"trial": trial, "real_side": side}
        if trial < study.practice:
            fields |= {"kind": "practice", "image_id": study.practice_ids[trial], "method": "copy-input"}
            fields |= {"choice": side}
        elif trial < study.practice + study.catch:
            at = trial - study.practice
            fields |= {"kind": "catch", "image_id": study.catch_ids[at], "method": "copy-input"}
            fields |= {"choice": side}
        else:
            at = trial - study.practice - study.catch
            method = study.slugs[at % len(study.slugs)]
            fields |= {"image_id": study.image_ids[shown[at]], "method": method}
            fields |= {"choice": other if draws.random() < rate else side}
        fields |= {"rater": NAMES[number], "session": f"s{number}"}
        votes.append(vote(study, **(fields | changes)))
    return votes


def simulated(count: int = 8, rate: float = 0.5, study: Study = STUDY) -> list[Vote]:
    return [v for number in range(count) for v in session(number, rate, study)]


def crowd_of(study: Study, rates: Mapping[str, float], **changes: Any) -> list[Vote]:
    """Return the sessions of all raters of a plan, fooled by each method at its own rate."""
    draws = np.random.default_rng(7)
    votes = []
    for number in range(study.raters):
        for v in session(number, study=study, **changes):
            other = "RL"["LR".index(v.real_side)]
            fooled = v.kind == "test" and draws.random() < rates[v.method]
            choice = other if fooled else v.real_side
            votes.append(v.model_copy(update={"choice": choice, "chose_model": int(fooled)}))
    return votes
