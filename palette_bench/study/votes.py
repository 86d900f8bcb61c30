"""`votes.csv`: one row per trial shown, answered or not; and the answers from which votes are made.

Unanswered trials are kept with an empty choice and never count as 0. Rater ids are keyed digests from
`rater_id`. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

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
from palette_bench.study.plan import CATCH_METHOD, Kind, Side, Study, Token, Truth, keyed_digest

# --- the table of votes ---

Bit = Annotated[int, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]


class Vote(Part):
    """A row of `votes.csv`.

    In a trial without answer, `choice` is empty and `chose_model` is None. In catch and practice trials, the
    degraded input replaces the model's output, and `method` is `copy-input`.
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
    """Return 1 if the image that is not the original was chosen, else 0; None without a choice."""
    return int(choice != real_side) if choice else None


def rater_id(secret: str, platform_id: str) -> str:
    """Return a rater's pseudonym: 16 hexadecimal digits of HMAC-SHA256(study secret, platform's id)."""
    return keyed_digest(secret, f"rater|{platform_id}", 16)


def write_votes(path: Path, votes: Iterable[Vote]) -> None:
    """Write votes sorted by rater, session and trial, completely or not at all."""
    atomic.write_text(path, table_text(Vote, in_order(votes)))


def in_order(votes: Iterable[Vote]) -> list[Vote]:
    """Return votes sorted by rater, session and trial: float sums must not depend on the file's order."""
    return sorted(votes, key=lambda v: (v.rater, v.session, v.trial))


def read_votes(path: Path, study: Study) -> list[Vote]:
    """Return the votes of a file after checking that every row is valid for the study.

    Raises:
        StorageError: PB801, the file cannot be read.
        RecordError: PB401, PB510, PB501, rows are malformed; PB502, rows are of another study, image or
            method; PB503, a trial has a second, different vote. The error lists all rows by line number.
    """
    return checked_votes(parse_table(Vote, read_file(path), path.name), study, path.name)


def checked_votes(rows: Iterable[tuple[int, Vote]], study: Study, name: str) -> list[Vote]:
    """Return numbered votes without repeated rows; raises like `read_votes`."""
    unknown: Faults = defaultdict(list)
    second: Faults = defaultdict(list)
    kept: dict[tuple[str, str, int], Vote] = {}
    for line, vote in rows:
        methods = study.slugs if vote.kind == "test" else (CATCH_METHOD,)
        if vote.study_id != study.id:
            unknown["study_id", study.id].append((line, vote.study_id))
        if vote.trial >= study.trials:
            unknown["trial", f"below {study.trials}"].append((line, str(vote.trial)))
        if vote.image_id not in study.ids_of(vote.kind):
            expected = f"an image of the study's {vote.kind} trials"
            unknown["image_id", expected].append((line, vote.image_id))
        if vote.method not in methods:
            unknown["method", " or ".join(methods)].append((line, vote.method))
        first = kept.setdefault((vote.rater, vote.session, vote.trial), vote)
        if first != vote:
            second["trial", "one vote per rater, session and trial"].append(
                (line, f"trial {vote.trial} again")
            )
    problems: list[Problem] = fault_problems("PB502", unknown, name) + fault_problems("PB503", second, name)
    if problems:
        raise RecordError(*problems)
    return list(kept.values())


# --- from answers to votes ---


Source = Literal["serve", "folder", "amt", "prolific"]


class TrialAnswer(Part):
    """One trial as a browser reports it; `left` proves that the answer is about the pair that was sent."""

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
    """A rater in one session.

    Attributes:
        slot: number of the rater's list of trials.
        rater: `rater_id` of the platform's id.
        session: id of this session.
        source: how the answers arrive.
    """

    slot: int
    rater: str
    session: str
    source: Source


def vote_of(study: Study, truth: Truth, rater: Rater, answer: TrialAnswer, day: str) -> Vote:
    """Return the vote that an answer becomes; `day` is the UTC day of the answer."""
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
