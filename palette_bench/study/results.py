"""`analysis.json`: what a study found. Rates and differences are per cent and points.

Source: reports and studies, sections 7.4 and 7.5.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from palette_bench.core.errors import Problem
from palette_bench.core.records import Part, Record, Sha, Slug, Text
from palette_bench.study.plan import StudyTarget

TrialReason: TypeAlias = Literal["not decoded", "timing", "focus lost"]
RaterReason: TypeAlias = Literal["repeated session", "catch trials", "too fast", "one side", "too few valid"]
Verdict: TypeAlias = Literal["indistinguishable", "above", "below", "undecided"]
Beyond: TypeAlias = Literal["above", "below", ""]


class Rate(Part):
    """A fool rate over answered trials; null ends where there are too few raters or images (PB506).

    `effective` is n_e and `design_effect` n / n_e: how many of these votes are worth one independent vote.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    n: int
    chosen: int
    raters: int
    images: int
    effective: float | None = None
    design_effect: float | None = None


class Equivalence(Part):
    """Whether raters could tell: the interval at 1 - 2 alpha against 50 % +- margin.

    `indistinguishable` only if the interval lies inside the margin; not significant is not equal.
    `above` and `below` say that the 1 - alpha interval lies wholly on one side of 50 %.
    """

    low: float
    high: float
    margin: float
    verdict: Verdict
    beyond: Beyond


class Sides(Part):
    """The fool rate by the original's side, the share of left choices, and d' free of that habit.

    d' = (z(H) - z(FA)) / sqrt 2, H = P(left | original left), FA = P(left | original right); a share of 0
    or 1 counts as half a vote off. 0 = cannot tell.
    """

    original_left: float | None
    original_right: float | None
    chose_left: float
    d_prime: float | None


class VarianceShares(Part):
    """Shares of the variance of a vote, in [0, 1]: between raters, between images, and the rest."""

    raters: float
    images: float
    rest: float


class Slope(Part):
    """Change of the fool rate with practice, points per ten trials, within raters."""

    per_ten_trials: float
    low: float
    high: float


class ImageRate(Part):
    """The votes on one image of one method."""

    method: Slug
    image_id: str
    votes: int
    chosen: int
    rate: float


class MethodResult(Part):
    """What the study found of one method; `before` counts every answered trial of every rater."""

    slug: Slug
    version: Text
    outputs: Sha
    rate: Rate
    before: Rate
    unanswered: int
    rater_mean: float | None
    equivalence: Equivalence | None
    sides: Sides | None
    variance: VarianceShares | None
    slope: Slope | None
    most_fooling: tuple[ImageRate, ...]
    least_fooling: tuple[ImageRate, ...]


class PairResult(Part):
    """A difference of two methods, first minus second; `p_holm` is corrected for all pairs of the study."""

    one: Slug
    other: Slug
    delta: float
    se: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int


class Excluded(Part):
    """A rater who does not count, with every reason; the flow counts the first."""

    rater: str
    reasons: tuple[RaterReason, ...]


class Flow(Part):
    """Raters and test trials from first to last.

    Raters: started = sum of excluded + analysed. Test trials: shown = unanswered + sum of invalid + of
    excluded raters + analysed. What only the platform knows is null unless stated.
    """

    invited: int | None
    consented: int | None
    withdrawn: int | None
    started: int
    finished: int
    excluded: dict[RaterReason, int]
    analysed: int
    trials_shown: int
    trials_unanswered: int
    trials_invalid: dict[TrialReason, int]
    trials_of_excluded: int
    trials_analysed: int


class Analysis(Record):
    """`analysis.json`."""

    kind: ClassVar[str] = "study-analysis"
    content_sha256: Sha
    date: str
    study: str
    title: Text
    question: Text
    target: StudyTarget
    metric: str
    display_ms: int
    alpha: float
    margin: float
    sources: tuple[str, ...]
    simulated: bool
    peeked: bool
    votes: Sha
    flow: Flow
    excluded: tuple[Excluded, ...]
    methods: tuple[MethodResult, ...]
    pairs: tuple[PairResult, ...]
    notices: tuple[str, ...]
    problems: tuple[Problem, ...]

    def signed(self) -> Analysis:
        """Return the record with its digest filled in."""
        return self.model_copy(update={"content_sha256": self.digest()})
