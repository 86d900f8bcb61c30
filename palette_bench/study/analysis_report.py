"""The files that `study analyse` writes: record, page, table of images, data sheet, extended cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.pages.plots import PlotRow, around_half
from palette_bench.pages.render import render
from palette_bench.pages.score_cell import Whisker
from palette_bench.pages.text import NOTHING, number, source_words, task_words
from palette_bench.study.analysis import analyse
from palette_bench.study.csv_tables import table_text
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES, PlatformCounts
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Study
from palette_bench.study.results import Analysis, Flow, ImageRate, Rate
from palette_bench.study.scorecards import read_parents, write_cards
from palette_bench.study.votes import read_votes

# --- the data sheet ---

OPEN = "_to be filled in by hand_"


def data_sheet(study: Study, analysis: Analysis) -> str:
    """Return the human evaluation data sheet as Markdown."""
    target, flow, rules, ethics = study.target, analysis.flow, study.exclude, study.ethics
    place = task_words(target.rules, target.task, target.variant)
    pay = " ".join(filter(None, (ethics.pay_per_hour, ethics.currency)))
    sections = {
        "1. Main reference and supplementary resources": {
            "Main reference": OPEN,
            "Study": f"{study.id}; analysis {analysis.content_sha256[:12]}, {analysis.date}",
            "Resources": "study.json, slots/, votes.csv, analysis.json and images.csv beside this sheet",
            "Preregistration": "the plan was frozen before the first vote; its digest is the study id",
            "Contact": OPEN,
        },
        "2. Evaluated systems": {
            "Input": f"image; {place} of {target.protocol}",
            "Output": f"image, shown at {study.size_css_px} x {study.size_css_px} CSS pixels",
            "Task": "image-to-image translation",
            "Systems": "; ".join(f"{m.slug} {_plain(m.version)} ({m.outputs[:12]})" for m in study.methods),
        },
        "3. Sample of system outputs, evaluators and experimental design": {
            "Sample": f"{study.images:,} images of {source_words(target.rules, target.source)}",
            "Selection": f"automatic, by the rule study-v1, seed {study.image_seed}; nothing was picked "
            "by hand",
            "Evaluators": f"{flow.started:,} started, {flow.finished:,} finished, {flow.analysed:,} analysed",
            "Recruitment and expertise": OPEN,
            "Training": f"{study.practice} practice trials with feedback; instructions are kept beside "
            "the plan",
            "Assignment": f"{study.test_trials} test trials a rater, {study.trials_per_method} of each of "
            f"{study.methods_per_rater} methods; no image twice; sides and images balanced",
            "Quality assurance": f"{study.catch} catch trials (degraded input against original), "
            f"{rules.catch_min_correct} must be right; median answer at least {rules.min_median_rt_ms} ms; "
            f"one side with p under {rules.side_bias_p:g} excludes; {100 * rules.min_valid_share:g} % of "
            f"trials valid; display within {rules.max_timing_error_ms} ms of the plan",
            "Raters left out": _counts({RATER_RULES[k]: n for k, n in flow.excluded.items()}),
            "Trials left out": _counts({TRIAL_RULES[k]: n for k, n in flow.trials_invalid.items()}),
            "Stop rule": f"{study.stop_rule}: {study.raters:,} raters"
            f"{'; peeked before' if analysis.peeked else ''}",
            "Collected by": ", ".join(analysis.sources),
            "Evaluation conditions": "the raters' own screens; window and colour check before the first "
            "trial",
        },
        "4. Definition and operationalisation of quality criteria": {
            "Name": "fool rate: how often an output is taken for the photograph",
            "Kind": "indistinguishability from photographs, relative to one reference image, as a whole",
            "Question put to raters": _plain(study.question),
            "Response": f"forced choice of two, {study.layout}, shown for {study.display_ms} ms; no ties",
            "Input shown": "yes" if study.show_input else "no",
            "Aggregation": "share of test trials in which the output is chosen; 50 % = raters cannot tell",
            "Uncertainty": "two-way interval over raters and images (twoway-wilson-v1), level "
            f"{100 * (1 - study.alpha):g} %; differences by t test, Holm's correction",
        },
        "5. Ethics": {
            "Approval": _plain(", ".join(filter(None, (ethics.body, ethics.approval)))) or OPEN,
            "Pay": f"{_plain(pay)} an hour" if pay else OPEN,
            "Purpose": _plain(ethics.purpose),
            "Personal data": "rater ids are keyed digests; no address, user agent or exact time is stored",
            "Consent": f"consent.txt, {study.consent[:12]}; raters may withdraw, and their rows go",
        },
    }
    lines = [f"# Human evaluation data sheet: {_plain(study.title)}", "", "Headings after HEDS 3.0.", ""]
    for heading, facts in sections.items():
        lines += [f"## {heading}", "", *(f"- **{name}.** {text}" for name, text in facts.items()), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return the text with all characters escaped that Markdown could read as markup or a link."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!" else c for c in text)


def _counts(found: dict[str, int]) -> str:
    return "; ".join(f"{n:,} {what}" for what, n in found.items() if n) or "none"


# --- the page ---

VERDICTS = {
    "indistinguishable": "cannot be told from photographs",
    "above": "chosen more often than the original",
    "below": "told from photographs",
    "undecided": "undecided",
}


@dataclass(frozen=True)
class FlowBox:
    """A box of the flow diagram: a count, what is counted, and what was removed at this step."""

    count: str
    what: str
    gone: tuple[str, ...] = ()


def rate_words(rate: Rate) -> str:
    """Return e.g. '46.2 % (43.3 to 49.1) of 5,000', or only the counts if there is no interval."""
    if rate.value is None:
        return f"{rate.chosen:,} of {rate.n:,}, no interval"
    return f"{rate.value:.1f} % ({rate.low:.1f} to {rate.high:.1f}) of {rate.n:,}"


def headline(analysis: Analysis) -> str:
    """Return the result in one sentence, by the same rule for every study."""
    known = [m for m in analysis.methods if m.rate.value is not None]
    if not known:
        return "Too few raters or images for an interval: only counts are known"
    parts = [f"{m.slug} {m.rate.value:.1f} % ({m.rate.low:.1f} to {m.rate.high:.1f})" for m in known]
    votes = sum(m.rate.n for m in known)
    return f"Taken for the photograph: {', '.join(parts)}, in {votes:,} trials"


def analysis_page(analysis: Analysis) -> str:
    """Return the page's HTML."""
    target = analysis.target
    rows, details, plotted = [], [], []
    for m in analysis.methods:
        rate, sides, shares, slope = m.rate, m.sides, m.variance, m.slope
        whisker = None
        if rate.value is not None and rate.low is not None and rate.high is not None:
            low, middle, high = (round(end, 2) for end in (rate.low, rate.value, rate.high))
            whisker = Whisker(low, middle, high, "0", "100")
        if rate.value is not None:
            plotted.append(PlotRow(m.slug, rate.value, rate.low, rate.high, "system"))
        rows.append((m, whisker, VERDICTS[m.equivalence.verdict] if m.equivalence else "counts only"))
        # in the order of the page's columns
        columns = [number(m.rater_mean, 1), NOTHING, NOTHING, NOTHING, NOTHING, NOTHING]
        if sides:
            columns[1] = f"{number(sides.original_left, 1)} / {number(sides.original_right, 1)}"
            columns[2:4] = number(sides.chose_left, 1), number(sides.d_prime, 2)
        if shares:
            columns[4] = f"{100 * shares.raters:.0f} / {100 * shares.images:.0f}"
        if slope:
            ends = f"{number(slope.low, 2)} to {number(slope.high, 2)}"
            columns[5] = f"{number(slope.per_ten_trials, 2)} ({ends})"
        details.append((m.slug, columns))
    label = "fool rate, per cent of trials; 50 = cannot tell"
    return render(
        "analysis.html.jinja",
        title=analysis.title,
        root="",
        analysis=analysis,
        headline=headline(analysis),
        task=task_words(target.rules, target.task, target.variant),
        source=source_words(target.rules, target.source),
        seconds=f"{analysis.display_ms / 1000:g}",
        rows=rows,
        details=details,
        plot=around_half(plotted, 100 * analysis.margin, label).addresses if plotted else None,
        flows=_flows(analysis.flow),
        margin=f"{100 * analysis.margin:g}",
        level=f"{100 * (1 - analysis.alpha):g}",
        narrow=f"{100 * (1 - 2 * analysis.alpha):g}",
    )


def _flows(flow: Flow) -> list[tuple[str, list[FlowBox]]]:
    """Return the boxes of the flow diagram, of raters and of test trials."""
    known = [(flow.invited, "invited", ()), (flow.consented, "consented", _some(flow.withdrawn, "withdrew"))]
    raters_gone = tuple(f"{n:,}: {RATER_RULES[reason]}" for reason, n in flow.excluded.items() if n)
    trials_gone = (
        *_some(flow.trials_unanswered, "without answer"),
        *(f"{n:,}: {TRIAL_RULES[reason]}" for reason, n in flow.trials_invalid.items() if n),
        *_some(flow.trials_of_excluded, "of raters left out"),
    )
    raters = [
        *(FlowBox(f"{count:,}", what, left) for count, what, left in known if count is not None),
        FlowBox(f"{flow.started:,}", f"started, {flow.finished:,} of them finished", raters_gone),
        FlowBox(f"{flow.analysed:,}", "analysed"),
    ]
    trials = [
        FlowBox(f"{flow.trials_shown:,}", "shown", trials_gone),
        FlowBox(f"{flow.trials_analysed:,}", "analysed"),
    ]
    return [("Raters", raters), ("Test trials", trials)]


def _some(count: int | None, what: str) -> tuple[str, ...]:
    return (f"{count:,}: {what}",) if count else ()


# --- writing everything ---

ANALYSIS = "analysis.json"
IMAGES = "images.csv"
SHEET = "datasheet.md"
PAGE = "index.html"


def write_analysis(
    study: Path,
    votes: Path,
    out: Path,
    *,
    cards: Sequence[Path] = (),
    head: PlatformCounts | None = None,
    peek: bool = False,
) -> Analysis:
    """Analyse votes and write all files to `out`, `analysis.json` last.

    Args:
        study: a study folder; `private/` is not needed.
        votes: its `votes.csv`.
        out: the output folder; it is created if missing.
        cards: scorecards of studied methods; a copy of each with the fool rate is written.
        head: the platform's counts of raters before their first trial.
        peek: whether to analyse before the stop rule is met.

    Raises:
        RecordError: PB505, the study changed; PB501-PB503, PB510, the votes are invalid.
        InputError: PB508, the stop rule is not met.
        IncomparableError: PB602, a card has other outputs; nothing is written.
    """
    plan = StudyFolder.open(study).study
    found = analyse(plan, read_votes(votes, plan), head=head, peek=peek)
    parents = read_parents(cards, found.analysis)
    write_cards(parents, found.analysis, out)
    atomic.write_text(out / IMAGES, table_text(ImageRate, found.images))
    atomic.write_text(out / SHEET, data_sheet(plan, found.analysis))
    atomic.write_text(out / PAGE, analysis_page(found.analysis))
    found.analysis.write(out / ANALYSIS)
    return found.analysis


def lines(analysis: Analysis) -> list[str]:
    """Return the result for a terminal: rates after and before exclusion, and the flow."""
    width = max(len(m.slug) for m in analysis.methods)
    flow = analysis.flow
    gone = [f"{count} {reason}" for reason, count in flow.excluded.items() if count]
    return [
        f"{analysis.metric}  (50 % = cannot tell; in brackets before exclusion)",
        *(f"  {m.slug:<{width}}  {rate_words(m.rate)}  [{rate_words(m.before)}]" for m in analysis.methods),
        f"raters       {flow.started} started, {flow.finished} finished, {flow.analysed} analysed"
        + (f"; excluded: {', '.join(gone)}" if gone else ""),
        f"test trials  {flow.trials_shown:,} shown, {flow.trials_analysed:,} analysed",
        *analysis.notices,
    ]
