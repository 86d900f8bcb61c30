"""How a running study stands, for its maintainers: counts while it runs, fool rates only when it is over.

Looking at rates early and stopping when they please would make every interval wrong, so they are not even
computed. Source: reports and studies, sections 3 and 7.
"""

from __future__ import annotations

from palette_bench.core.records import Part, Slug
from palette_bench.pages.render import render
from palette_bench.study.analysis import analyse
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES, screen
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Study
from palette_bench.study.results import Rate
from palette_bench.study.store import VoteStore
from palette_bench.study.votes import Vote


class MethodRate(Part):
    """A method's fool rate, per cent."""

    method: Slug
    rate: Rate


class StudyProgress(Part):
    """How a study stands.

    Attributes:
        study_id: of the plan.
        places: rater slots of the plan; the stop rule waits for all of them.
        agreed: raters who hold a slot now.
        finished: those who answered every trial.
        withdrawn: those who left; their answers are deleted and their slots free again.
        released: those whose places were given on or freed; their answers are kept.
        votes: stored rows, practice and unanswered ones included.
        unanswered: rows without a choice.
        completion: share of the plan's votes that are in, 0 to 1.
        excluded: finished raters who will not count, by first reason.
        invalid: answered test trials of finished raters that will not count, by reason.
        rates: None until the stop rule is met.
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
    """Return how a served study stands."""
    study, answered, votes = folder.study, store.raters(), store.votes()
    finished = {rater for rater, n in answered.items() if n == study.trials}
    flow = screen([vote for vote in votes if vote.rater in finished], study).flow
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
        rates=_rates(study, votes) if len(finished) == study.raters else None,
    )


def _rates(study: Study, votes: list[Vote]) -> tuple[MethodRate, ...]:
    methods = analyse(study, votes).analysis.methods
    return tuple(MethodRate(method=m.slug, rate=m.rate) for m in methods)


def monitor_page(folder: StudyFolder, progress: StudyProgress) -> str:
    """Return the maintainers' page."""
    return render("monitor.html.jinja", title="Study monitor", study=folder.study, progress=progress)
