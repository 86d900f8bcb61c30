"""The state of a running study, for its maintainers: counts while it runs, fool rates only after it ends.

Looking at rates early and stopping at a convenient moment would invalidate every interval, so rates are not
computed before the stop rule is met. Source: reports and studies, sections 3 and 7.
"""

from __future__ import annotations

from palette_bench.core.records import Part, Slug
from palette_bench.pages.render import render
from palette_bench.study.analysis import analyse
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES, screen
from palette_bench.study.folder import StudyFolder
from palette_bench.study.results import Rate
from palette_bench.study.store import VoteStore


class MethodRate(Part):
    """A method's fool rate, per cent."""

    method: Slug
    rate: Rate


class StudyProgress(Part):
    """The state of a study.

    Attributes:
        study_id: id of the frozen plan.
        places: number of rater slots of the plan; the stop rule requires all of them to finish.
        agreed: number of raters who hold a slot now.
        finished: number of those who answered every trial.
        withdrawn: number of raters who withdrew; their answers are deleted and their slots are free.
        released: number of raters whose slot was freed or given to another rater; their answers are kept.
        votes: number of stored votes, including practice and unanswered trials.
        unanswered: number of stored votes without a choice.
        completion: votes of present slot holders over all votes of the plan, 0 to 1.
        excluded: number of finished raters who will be excluded, by the first reason.
        invalid: number of answered test trials of finished raters that will not count, by reason.
        rates: fool rates; None until the stop rule is met.
    """

    study_id: str
    places: int
    agreed: int
    finished: int
    withdrawn: int
    released: int
    votes: int
    unanswered: int
    completion: float
    excluded: dict[str, int]
    invalid: dict[str, int]
    rates: tuple[MethodRate, ...] | None


def progress_of(folder: StudyFolder, store: VoteStore) -> StudyProgress:
    """Return the state of a served study."""
    study, answered, votes = folder.study, store.raters(), store.votes()
    finished = {rater for rater, n in answered.items() if n == study.trials}
    flow = screen([vote for vote in votes if vote.rater in finished], study).flow
    rates = None
    if len(finished) == study.raters:
        methods = analyse(study, votes).analysis.methods
        rates = tuple(MethodRate(method=m.slug, rate=m.rate) for m in methods)
    return StudyProgress(
        study_id=study.id,
        places=study.raters,
        agreed=len(answered),
        finished=len(finished),
        withdrawn=store.withdrawn,
        released=len(store.raters(released=True)),
        votes=len(votes),
        unanswered=sum(not vote.choice for vote in votes),
        completion=sum(answered.values()) / (study.raters * study.trials),
        excluded={RATER_RULES[reason]: n for reason, n in flow.excluded.items()},
        invalid={TRIAL_RULES[reason]: n for reason, n in flow.trials_invalid.items()},
        rates=rates,
    )


def monitor_page(folder: StudyFolder, progress: StudyProgress) -> str:
    """Return the maintainers' page as HTML."""
    return render("monitor.html.jinja", title="Study monitor", study=folder.study, progress=progress)
