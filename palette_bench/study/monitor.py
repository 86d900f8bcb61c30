"""How a running study stands, for its maintainers: counts while it runs, fool rates only when it is over.

Source: reports and studies, sections 3 and 7.
"""

from __future__ import annotations

from palette_bench.board.pages import render
from palette_bench.core.records import Part
from palette_bench.study.folder import StudyFolder
from palette_bench.study.store import Store


class Progress(Part):
    """The counts of a study.

    Attributes:
        places: rater slots of the plan.
        agreed: raters who have a slot now.
        finished: those who answered every trial.
        withdrawn: those who left; their answers are deleted, their slots free again.
        votes: stored rows, practice and unanswered ones included.
        unanswered: rows without a choice.
        trials: of one rater.
    """

    study_id: str
    places: int
    agreed: int
    finished: int
    withdrawn: int
    votes: int
    unanswered: int
    trials: int


def progress_of(folder: StudyFolder, store: Store) -> Progress:
    """Return how a served study stands."""
    study = folder.study
    answered = store.raters()
    votes = store.votes()
    return Progress(
        study_id=study.id,
        places=study.raters,
        agreed=len(answered),
        finished=sum(n == study.trials for n in answered.values()),
        withdrawn=store.withdrawn,
        votes=len(votes),
        unanswered=sum(not vote.choice for vote in votes),
        trials=study.trials,
    )


def monitor_page(folder: StudyFolder, progress: Progress) -> str:
    """Return the maintainers' page."""
    return render("monitor.html.jinja", title="Study monitor", study=folder.study, progress=progress)
