"""The page of an analysis: everything `analysis.json` holds, for a reader.

Source: reports and studies, sections 3, 7.4 and 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from palette_bench.board.cells import Whisker
from palette_bench.board.pages import data_uri, render
from palette_bench.board.plots import PlotRow, around_half
from palette_bench.board.words import NOTHING, number, source_words, task_words
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES
from palette_bench.study.results import Analysis, Flow, MethodResult, Rate

VERDICTS = {
    "indistinguishable": "cannot be told from photographs",
    "above": "chosen more often than the original",
    "below": "told from photographs",
    "undecided": "undecided",
}


@dataclass(frozen=True)
class Box:
    """A box of the flow: how many, of what, and what left the stream here."""

    count: str
    what: str
    gone: tuple[str, ...] = ()


def rate_words(rate: Rate) -> str:
    """Return '46.2 % (43.3 to 49.1) of 5,000', or the counts where there is no interval."""
    if rate.value is None:
        return f"{rate.chosen:,} of {rate.n:,}, no interval"
    return f"{rate.value:.1f} % ({rate.low:.1f} to {rate.high:.1f}) of {rate.n:,}"


def headline(analysis: Analysis) -> str:
    """Return the finding in one sentence, by one rule for every study."""
    known = [m for m in analysis.methods if m.rate.value is not None]
    if not known:
        return "Too few raters or images for an interval: only counts are known"
    parts = [f"{m.slug} {m.rate.value:.1f} % ({m.rate.low:.1f} to {m.rate.high:.1f})" for m in known]
    votes = sum(m.rate.n for m in known)
    return f"Taken for the photograph: {', '.join(parts)}, in {votes:,} trials"


def analysis_page(analysis: Analysis) -> str:
    """Return the page's HTML."""
    target = analysis.target
    return render(
        "analysis.html.jinja",
        title=analysis.title,
        root="",
        analysis=analysis,
        headline=headline(analysis),
        task=task_words(target.protocol, target.task, target.variant),
        source=source_words(target.protocol, target.source),
        seconds=f"{analysis.display_ms / 1000:g}",
        rows=[(m, _whisker(m.rate), _verdict(m)) for m in analysis.methods],
        details=[_details(m) for m in analysis.methods],
        plot=_plot(analysis),
        flows=[("Raters", _rater_boxes(analysis.flow)), ("Test trials", _trial_boxes(analysis.flow))],
        margin=f"{100 * analysis.margin:g}",
        level=f"{100 * (1 - analysis.alpha):g}",
        narrow=f"{100 * (1 - 2 * analysis.alpha):g}",
    )


def _whisker(rate: Rate) -> Whisker | None:
    if rate.value is None or rate.low is None or rate.high is None:
        return None
    return Whisker(round(rate.low, 2), round(rate.value, 2), round(rate.high, 2), "0", "100")


def _verdict(method: MethodResult) -> str:
    return VERDICTS[method.equivalence.verdict] if method.equivalence else "counts only"


def _details(method: MethodResult) -> tuple[str, list[str]]:
    """Return a method's slug and the closer look at its votes, in the order of the page's columns."""
    sides, shares, slope = method.sides, method.variance, method.slope
    return method.slug, [
        number(method.rater_mean, 1),
        f"{number(sides.original_left, 1)} / {number(sides.original_right, 1)}" if sides else NOTHING,
        number(sides.chose_left, 1) if sides else NOTHING,
        number(sides.d_prime, 2) if sides else NOTHING,
        f"{100 * shares.raters:.0f} / {100 * shares.images:.0f}" if shares else NOTHING,
        f"{number(slope.per_ten_trials, 2)} ({number(slope.low, 2)} to {number(slope.high, 2)})"
        if slope
        else NOTHING,
    ]


def _plot(analysis: Analysis) -> tuple[str, str] | None:
    rows = [
        PlotRow(m.slug, m.rate.value, m.rate.low, m.rate.high, "system")
        for m in analysis.methods
        if m.rate.value is not None
    ]
    if not rows:
        return None
    plot = around_half(rows, 100 * analysis.margin, "fool rate, per cent of trials; 50 = cannot tell")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _rater_boxes(flow: Flow) -> list[Box]:
    known = [(flow.invited, "invited", ()), (flow.consented, "consented", _some(flow.withdrawn, "withdrew"))]
    gone = tuple(f"{n:,}: {RATER_RULES[reason]}" for reason, n in flow.excluded.items() if n)
    return [
        *(Box(f"{count:,}", what, left) for count, what, left in known if count is not None),
        Box(f"{flow.started:,}", f"started, {flow.finished:,} of them finished", gone),
        Box(f"{flow.analysed:,}", "analysed"),
    ]


def _trial_boxes(flow: Flow) -> list[Box]:
    gone = (
        *_some(flow.trials_unanswered, "without answer"),
        *(f"{n:,}: {TRIAL_RULES[reason]}" for reason, n in flow.trials_invalid.items() if n),
        *_some(flow.trials_of_excluded, "of raters left out"),
    )
    return [
        Box(f"{flow.trials_shown:,}", "shown", gone),
        Box(f"{flow.trials_analysed:,}", "analysed"),
    ]


def _some(count: int | None, what: str) -> tuple[str, ...]:
    return (f"{count:,}: {what}",) if count else ()
