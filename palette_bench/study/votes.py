"""`votes.csv`: one row per trial shown, answered or not.

Unanswered trials stay, with an empty choice, and are never counted as 0. Rater ids are keyed digests;
`rater_id` makes them. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from palette_bench.core import atomic
from palette_bench.core.errors import Problem, RecordError
from palette_bench.core.records import Part, Slug, read_file
from palette_bench.study.csv_tables import Faults, fault_problems, parse_table, table_text
from palette_bench.study.plan import CATCH_METHOD, Kind, Side, Study, Token, Truth

VOTES = "votes.csv"

Bit = Annotated[int, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]


class Vote(Part):
    """A row of `votes.csv`.

    `choice` is empty for a trial without answer, and `chose_model` None. In catch and practice trials
    the model's place is taken by the degraded input, and `method` is `copy-input`.
    """

    study_id: str = Field(pattern=r"^st_[0-9a-f]{12}$")
    rater: str = Field(pattern=r"^[0-9a-f]{16}$")
    session: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    trial: int = Field(ge=0)
    kind: Kind
    image_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    method: Slug
    real_side: Side
    choice: Literal["L", "R", ""]
    chose_model: Bit | None = None
    rt_ms: Milliseconds | None = None
    planned_ms: Milliseconds | None = None
    shown_ms: Milliseconds | None = None
    decoded: Bit
    focus_lost: Bit
    viewport_w: int = Field(ge=0)
    viewport_h: int = Field(ge=0)
    dpr: float = Field(ge=0)
    device: Literal["pointer", "touch", "keyboard"]
    source: Literal["serve", "folder", "amt", "prolific", "simulated"]
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.chose_model != chose_model(self.real_side, self.choice):
            raise ValueError(
                "chose_model must be 1 where choice is not real_side, else 0; empty without choice"
            )
        return self


def chose_model(real_side: str, choice: str) -> int | None:
    """Return whether the image that is not the original was chosen; None without a choice."""
    return int(choice != real_side) if choice else None


def rater_id(secret: str, platform_id: str) -> str:
    """Return a rater's pseudonym: 16 hexadecimal digits of HMAC-SHA256(study secret, platform's id)."""
    return hmac.new(secret.encode(), f"rater|{platform_id}".encode(), hashlib.sha256).hexdigest()[:16]


def write_votes(path: Path, votes: Iterable[Vote]) -> None:
    """Write votes sorted by rater, session and trial, whole or not at all."""
    atomic.write_text(path, table_text(Vote, in_order(votes)))


def in_order(votes: Iterable[Vote]) -> list[Vote]:
    """Return votes sorted by rater, session and trial: sums of floats must not hang on the file's order."""
    return sorted(votes, key=lambda v: (v.rater, v.session, v.trial))


def read_votes(path: Path, study: Study) -> list[Vote]:
    """Return the votes of a file, every row fit for the study.

    Raises:
        StorageError: PB801.
        RecordError: PB401, PB510, PB501 malformed rows, PB502 rows of another study, image or method,
            PB503 a second, different vote for a trial; all rows of a kind at once, by line number.
    """
    return checked_votes(parse_table(Vote, read_file(path), path.name), study, path.name)


def checked_votes(rows: Iterable[tuple[int, Vote]], study: Study, name: str) -> list[Vote]:
    """Return numbered votes without repeated rows; the raising is that of `read_votes`."""
    unknown: Faults = defaultdict(list)
    second: Faults = defaultdict(list)
    kept: dict[tuple[str, str, int], Vote] = {}
    for line, vote in rows:
        for column, expected, found in _strange(vote, study):
            unknown[column, expected].append((line, found))
        first = kept.setdefault((vote.rater, vote.session, vote.trial), vote)
        if first != vote:
            second["trial", "one vote per rater, session and trial"].append(
                (line, f"trial {vote.trial} again")
            )
    problems: list[Problem] = fault_problems("PB502", unknown, name) + fault_problems("PB503", second, name)
    if problems:
        raise RecordError(*problems)
    return list(kept.values())


def _strange(vote: Vote, study: Study) -> Iterable[tuple[str, str, str]]:
    """Yield (column, expected, found) for what the study does not know."""
    if vote.study_id != study.id:
        yield "study_id", study.id, vote.study_id
    if vote.trial >= study.trials:
        yield "trial", f"below {study.trials}", str(vote.trial)
    if vote.image_id not in study.ids_of(vote.kind):
        yield "image_id", f"an image of the study's {vote.kind} trials", vote.image_id
    methods = study.slugs if vote.kind == "test" else (CATCH_METHOD,)
    if vote.method not in methods:
        yield "method", " or ".join(methods), vote.method


Source = Literal["serve", "folder", "amt", "prolific"]


class TrialAnswer(Part):
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


def vote_of(study: Study, truth: Truth, rater: Rater, answer: TrialAnswer, day: str) -> Vote:
    """Return the row of `votes.csv` an answer becomes; `day` is the UTC day it was given."""
    reported = answer.model_dump(include=set(TrialAnswer.model_fields) - {"left"})
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
