"""`study analyse`: computes fool rates with two-way intervals, tests and notices from votes.

Source: reports and studies, sections 7.4 and 7.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from palette_bench.core.errors import InputError, Problem, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import today
from palette_bench.core.significance import holm
from palette_bench.study import statistics
from palette_bench.study.csv_tables import table_text
from palette_bench.study.exclusions import PlatformCounts, screen
from palette_bench.study.plan import Studied, Study
from palette_bench.study.results import Analysis, ImageRate, MethodResult, PairResult
from palette_bench.study.statistics import LEAST_IMAGES, LEAST_RATERS, AnsweredTrials, is_enough, trials_of
from palette_bench.study.two_way import difference, quantile
from palette_bench.study.votes import Vote, in_order

SMALL_STUDY = 20  # with fewer raters, the page calls the study small
_APART = 1.0  # points between the rate and the mean of raters' own rates that cause a notice


@dataclass(frozen=True)
class AnalysedStudy:
    """The analysis, and the votes on every image."""

    analysis: Analysis
    images: tuple[ImageRate, ...]


def analyse(
    study: Study, votes: Sequence[Vote], *, head: PlatformCounts | None = None, peek: bool = False
) -> AnalysedStudy:
    """Return the analysis of a study's votes.

    Args:
        study: the frozen plan.
        votes: votes from `read_votes`.
        head: the platform's counts of raters before their first trial.
        peek: whether to analyse before the stop rule is met; the result is marked permanently.

    Raises:
        InputError: PB508, the stop rule is not met; PB501, there are no votes.
    """
    votes = in_order(votes)
    screened = screen(votes, study, head)
    if not votes:
        raise InputError(
            problem("PB501", "votes", expected="votes of the study", found="none", fix="collect them first")
        )
    finished = screened.flow.finished
    early = finished < study.raters
    if early and not peek:
        expected = f"{study.raters:,} raters who finished"
        fix = "wait for the other raters; --peek analyses now and marks every result as peeked"
        raise InputError(problem("PB508", study.stop_rule, expected=expected, found=f"{finished:,}", fix=fix))
    everything = [v for v in votes if v.kind == "test" and v.choice]
    raters = {rater: at for at, rater in enumerate(sorted({v.rater for v in votes}))}
    images = {image_id: at for at, image_id in enumerate(study.image_ids)}
    kept = {s: trials_of(screened.kept, s, raters, images) for s in study.slugs}
    before = {s: trials_of(everything, s, raters, images) for s in study.slugs}
    unanswered = {s: sum(v.method == s and not v.choice for v in votes) for s in study.slugs}
    methods = tuple(
        _method(m, study, kept[m.slug], before[m.slug], unanswered[m.slug]) for m in study.methods
    )
    image_rates = (statistics.image_rates(t.votes, slug, study.image_ids) for slug, t in kept.items())
    problems: list[Problem] = []
    if few := [m.slug for m in methods if m.rate.value is None]:
        expected = f"at least {LEAST_RATERS} raters and {LEAST_IMAGES} images"
        fix = "collect more; counts are given"
        problems.append(problem("PB506", "votes", expected=expected, fix=fix, ids=few))
    sources = tuple(sorted({v.source for v in votes}))
    if "simulated" in sources:
        problems.append(problem("PB507", "votes", found="source simulated", fix="collect votes of people"))
    analysis = Analysis(
        schema=Analysis.schema_name(),
        content_sha256="0" * 64,
        date=today(),
        study=study.id,
        title=study.title,
        question=study.question,
        target=study.target,
        metric=study.metric,
        display_ms=study.display_ms,
        alpha=study.alpha,
        margin=study.margin,
        sources=sources,
        simulated="simulated" in sources,
        peeked=early,
        votes=sha256(table_text(Vote, votes).encode()),
        flow=screened.flow,
        excluded=screened.excluded,
        methods=methods,
        pairs=tuple(_pairs(study, kept)),
        notices=tuple(_notices(methods, screened.flow.analysed)),
        problems=tuple(problems),
    )
    return AnalysedStudy(analysis.signed(), tuple(rate for rates in image_rates for rate in rates))


def _method(
    studied: Studied, study: Study, trials: AnsweredTrials, before: AnsweredTrials, unanswered: int
) -> MethodResult:
    votes, enough = trials.votes, is_enough(trials.votes)
    rates = statistics.image_rates(votes, studied.slug, study.image_ids)
    most, least = statistics.extremes(rates)
    return MethodResult(
        slug=studied.slug,
        version=studied.version,
        outputs=studied.outputs,
        rate=statistics.rate(votes, study),
        before=statistics.rate(before.votes, study),
        unanswered=unanswered,
        rater_mean=statistics.rater_mean(votes) if enough else None,
        equivalence=statistics.equivalence(votes, study) if enough else None,
        sides=statistics.sides(trials) if enough else None,
        variance=statistics.variance_shares(votes) if enough else None,
        slope=statistics.slope(trials, study) if enough else None,
        most_fooling=most,
        least_fooling=least,
    )


def _pairs(study: Study, kept: dict[str, AnsweredTrials]) -> Iterator[PairResult]:
    """Yield the test of every pair of methods with intervals, with p values corrected for all pairs."""
    able = [s for s in study.slugs if is_enough(kept[s].votes)]
    tests = [(a, b, difference(kept[a].votes, kept[b].votes)) for a, b in combinations(able, 2)]
    known = [(a, b, d) for a, b, d in tests if d is not None]
    corrected = holm([d.p for _, _, d in known])
    for (one, other, found), p_holm in zip(known, corrected, strict=True):
        raters, images = (
            len({*getattr(kept[one].votes, what), *getattr(kept[other].votes, what)})
            for what in ("raters", "images")
        )
        reach = quantile(1 - study.alpha, raters, images) * found.se
        yield PairResult(
            one=one,
            other=other,
            delta=100 * found.delta,
            se=100 * found.se,
            low=100 * (found.delta - reach),
            high=100 * (found.delta + reach),
            p=found.p,
            p_holm=p_holm,
            n=found.n,
        )


def _notices(methods: Sequence[MethodResult], raters: int) -> Iterator[str]:
    """Yield what a reader must know in addition to the numbers."""
    if LEAST_RATERS <= raters < SMALL_STUDY:
        yield f"A small study: {raters} raters. Read the intervals with care."
    for m in methods:
        mean, value = m.rater_mean, m.rate.value
        if mean is not None and value is not None and abs(mean - value) > _APART:
            yield (
                f"{m.slug}: the mean of raters' own rates is {mean:.1f} %, over a point from the "
                f"rate of all votes, {value:.1f} %: raters with many votes answer unlike the rest."
            )
        if m.equivalence and m.equivalence.beyond == "above":
            yield (
                f"{m.slug}: chosen more often than the original. Look for a cue that is not realism, such "
                "as sharpness or compression of the originals."
            )
