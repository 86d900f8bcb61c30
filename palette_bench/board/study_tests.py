"""The tests a human study made, as a scorecard carries them: a board has no votes.

Source: reports and studies, section 7.5; `study analyse` writes them.
"""

from __future__ import annotations

from pydantic import Field, TypeAdapter, ValidationError

from palette_bench.core.records import Part, Sha
from palette_bench.core.significance import Difference
from palette_bench.scoring.scorecard import Score


class StudyTest(Part):
    """A row of `params.differences` of a fool rate: a two-way t test against another method."""

    delta: float
    se: float = Field(ge=0)
    p: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


_ROWS = TypeAdapter(dict[Sha, StudyTest])


def study_tests(score: Score) -> dict[Sha, Difference] | None:
    """Return a fool rate's tests by the outputs of the other method; None if they are malformed."""
    try:
        rows = _ROWS.validate_python(score.params.get("differences", {}))
    except ValidationError:
        return None
    return {other: Difference(t.delta, t.se, t.p, t.n, "twoway-t-v1") for other, t in rows.items()}
