"""What a rater's browser reports of one trial, and the vote it becomes once the truth is joined.

The browser knows tokens alone; image, method and side come from `Truth`. Source: reports and studies,
section 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from palette_bench.core.records import Part
from palette_bench.study.records import Study, Token, Truth
from palette_bench.study.votes import Bit, Milliseconds, Vote, chose_model

Source = Literal["serve", "folder", "amt", "prolific"]


class Answer(Part):
    """One trial as a browser reports it; `left` proves that it speaks of the pair it was sent."""

    trial: int = Field(ge=0)
    left: Token
    choice: Literal["L", "R", ""]
    rt_ms: Milliseconds | None = None
    shown_ms: Milliseconds | None = None
    decoded: Bit
    focus_lost: Bit
    viewport_w: int = Field(ge=0, le=100_000)
    viewport_h: int = Field(ge=0, le=100_000)
    dpr: float = Field(gt=0, le=100)
    device: Literal["pointer", "touch", "keyboard"]


@dataclass(frozen=True)
class Rater:
    """Who answers: a pseudonym, one sitting, and how they came.

    Attributes:
        slot: the list of trials they were given.
        rater: `rater_id` of the platform's id.
        session: a name for this sitting.
        source: how the answers arrive.
    """

    slot: int
    rater: str
    session: str
    source: Source


def vote_of(study: Study, truth: Truth, rater: Rater, answer: Answer, day: str) -> Vote:
    """Return the row of `votes.csv` an answer becomes; `day` is the UTC day it was given."""
    reported = answer.model_dump(include=set(Answer.model_fields) - {"left"})
    return Vote(
        study_id=study.id,
        rater=rater.rater,
        session=rater.session,
        kind=truth.kind,
        image_id=truth.image_id,
        method=truth.method,
        real_side=truth.real_side,
        chose_model=chose_model(truth.real_side, answer.choice),
        planned_ms=study.display_ms,
        source=rater.source,
        day=day,
        **reported,
    )
