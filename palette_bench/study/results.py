"""`analysis.json`: the results of a study. Rates are per cent, differences percentage points.

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
    """A fool rate over answered trials; value and ends are null if raters or images are too few (PB506).

    `effective` is n_e, the number of independent votes with the same information. `design_effect` is n / n_e,
    the number of votes that are worth one independent vote.
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
    """Whether raters could tell: the interval at level 1 - 2 alpha against 50 % +- margin.

    The verdict is `indistinguishable` only if the interval lies inside the margin; a difference that is not
    significant does not show equality. `above` and `below` mean that the interval at level 1 - alpha lies
    entirely on one side of 50 %.
    """

    low: float
    high: float
    margin: float
    verdict: Verdict
    beyond: Beyond


class Sides(Part):
    """The fool rate by the side of the original, the share of left choices, and d', free of side bias.

    d' = (z(H) - z(FA)) / sqrt 2, H = P(left | original left), FA = P(left | original right). Shares of 0 and
    1 are moved by half a vote. d' = 0 means that raters cannot tell.
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
    """Change of the fool rate with practice, in points per ten trials, within raters."""

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
    """The results for one method; `before` is the rate over all answered trials, without exclusions."""

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
    """An excluded rater with every reason; `Flow` counts only the first reason."""

    rater: str
    reasons: tuple[RaterReason, ...]


class Flow(Part):
    """Counts of raters and test trials at each step.

    Raters: started = sum of excluded + analysed. Test trials: shown = unanswered + sum of invalid + of
    excluded raters + analysed. Counts that only the platform knows are null unless stated.
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
    """The results of a study, `analysis.json`."""

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
