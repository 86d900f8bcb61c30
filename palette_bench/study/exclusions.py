"""Which trials and raters count, by rules that are fixed before the first vote.

Trial rules apply first, then rater rules. Exclusions are counted, and results are reported with and without
them. Exclusion is no reason to refuse payment. Source: reports and studies, section 7.4.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from scipy import special

from palette_bench.study.plan import Study
from palette_bench.study.results import Excluded, Flow, RaterReason, TrialReason
from palette_bench.study.votes import Vote

RATER_RULES: dict[RaterReason, str] = {
    "repeated session": "took the study more than once",
    "catch trials": "too few catch trials right",
    "too fast": "median answer sooner than a choice can be made",
    "one side": "chose one side too often for chance",
    "too few valid": "too few answered trials that count",
}
TRIAL_RULES: dict[TrialReason, str] = {
    "not decoded": "an image was not ready",
    "timing": "shown too short or too long",
    "focus lost": "the page was not in front",
}


@dataclass(frozen=True)
class PlatformCounts:
    """Counts that only the platform knows; None if nobody stated them."""

    invited: int | None = None
    consented: int | None = None
    withdrawn: int | None = None


@dataclass(frozen=True)
class ScreenedTrials:
    """The test trials that count, the excluded raters, and the flow of raters and trials."""

    kept: tuple[Vote, ...]
    excluded: tuple[Excluded, ...]
    flow: Flow


def screen(votes: Sequence[Vote], study: Study, head: PlatformCounts | None = None) -> ScreenedTrials:
    """Return the answered, valid test trials of raters who pass every rule.

    Args:
        votes: votes of the study, answered or not.
        study: the study; its `exclude` sets the limits.
        head: the platform's counts of raters before their first trial.
    """
    by_rater: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.rater].append(vote)
    reasons = {rater: tuple(_against(own, study)) for rater, own in sorted(by_rater.items())}
    test = [v for v in votes if v.kind == "test"]
    valid = [v for v in test if v.choice and not trial_fault(v, study)]
    kept = tuple(v for v in valid if not reasons[v.rater])
    excluded = tuple(Excluded(rater=rater, reasons=why) for rater, why in reasons.items() if why)
    faults = Counter(fault for v in test if v.choice and (fault := trial_fault(v, study)))
    firsts = Counter(rater.reasons[0] for rater in excluded)
    head = head or PlatformCounts()
    flow = Flow(
        invited=head.invited,
        consented=head.consented,
        withdrawn=head.withdrawn,
        started=len(by_rater),
        finished=sum(finished(own, study) for own in by_rater.values()),
        excluded={reason: firsts[reason] for reason in RATER_RULES},
        analysed=len(by_rater) - len(excluded),
        trials_shown=len(test),
        trials_unanswered=sum(not v.choice for v in test),
        trials_invalid={reason: faults[reason] for reason in TRIAL_RULES},
        trials_of_excluded=len(valid) - len(kept),
        trials_analysed=len(kept),
    )
    return ScreenedTrials(kept, excluded, flow)


def finished(votes: Sequence[Vote], study: Study) -> bool:
    """Return whether one rater's votes cover every test trial, answered or not."""
    return len({v.trial for v in votes if v.kind == "test"}) >= study.test_trials


def trial_fault(vote: Vote, study: Study) -> TrialReason | None:
    """Return why an answered trial does not count, or None.

    A trial without a measured display time counts as a timing fault.
    """
    if not vote.decoded:
        return "not decoded"
    if vote.shown_ms is None or abs(vote.shown_ms - study.display_ms) > study.exclude.max_timing_error_ms:
        return "timing"
    return "focus lost" if vote.focus_lost else None


def _against(votes: Sequence[Vote], study: Study) -> Iterator[RaterReason]:
    """Yield every reason to exclude one rater."""
    rules = study.exclude
    answered = [v for v in votes if v.kind == "test" and v.choice]
    times = [v.rt_ms for v in answered if v.rt_ms is not None]
    if len({v.session for v in votes}) > 1:
        yield "repeated session"
    # in a catch trial the right choice is the original, so chose_model is 0
    if sum(v.chose_model == 0 for v in votes if v.kind == "catch") < rules.catch_min_correct:
        yield "catch trials"
    if times and median(times) < rules.min_median_rt_ms:
        yield "too fast"
    if side_p(sum(v.choice == "L" for v in answered), len(answered)) < rules.side_bias_p:
        yield "one side"
    if sum(not trial_fault(v, study) for v in answered) < rules.min_valid_share * study.test_trials:
        yield "too few valid"


def side_p(left: int, n: int) -> float:
    """Return the two-sided binomial p value of `left` left choices of n, if both sides are equally likely."""
    return min(1.0, 2 * float(special.bdtr(min(left, n - left), n, 0.5))) if n else 1.0
