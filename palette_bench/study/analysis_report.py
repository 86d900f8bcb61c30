"""The files that `study analyse` writes: record, page, table of images, data sheet, extended cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.pages.plots import PlotRow, around_half
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import Whisker
from palette_bench.pages.text import NOTHING, number, source_words, task_words
from palette_bench.study.analysis import analyse
from palette_bench.study.csv_tables import table_text
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES, PlatformCounts
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Study
from palette_bench.study.results import Analysis, Flow, ImageRate, MethodResult, Rate
from palette_bench.study.scorecards import read_parents, write_cards
from palette_bench.study.votes import read_votes

# --- the data sheet ---

OPEN = "_to be filled in by hand_"


def data_sheet(study: Study, analysis: Analysis) -> str:
    """Return the human evaluation data sheet as Markdown."""
    sections = {
        "1. Main reference and supplementary resources": _resources(study, analysis),
        "2. Evaluated systems": _systems(study),
        "3. Sample of system outputs, evaluators and experimental design": _experiment(study, analysis),
        "4. Definition and operationalisation of quality criteria": _criterion(study),
        "5. Ethics": _ethics(study),
    }
    lines = [f"# Human evaluation data sheet: {_plain(study.title)}", "", "Headings after HEDS 3.0.", ""]
    for heading, facts in sections.items():
        lines += [f"## {heading}", "", *(f"- **{name}.** {text}" for name, text in facts), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return the text with all characters escaped that Markdown could read as markup or a link."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!" else c for c in text)


Facts = Iterable[tuple[str, str]]


def _resources(study: Study, analysis: Analysis) -> Facts:
    yield "Main reference", OPEN
    yield "Study", f"{study.id}; analysis {analysis.content_sha256[:12]}, {analysis.date}"
    yield "Resources", "study.json, slots/, votes.csv, analysis.json and images.csv beside this sheet"
    yield (
        "Preregistration",
        "the plan was frozen before the first vote; its digest is the study id",
    )
    yield "Contact", OPEN


def _systems(study: Study) -> Facts:
    target = study.target
    yield "Input", f"image; {task_words(target.protocol, target.task, target.variant)} of {target.protocol}"
    yield "Output", f"image, shown at {study.size_css_px} x {study.size_css_px} CSS pixels"
    yield "Task", "image-to-image translation"
    yield "Systems", "; ".join(f"{m.slug} {_plain(m.version)} ({m.outputs[:12]})" for m in study.methods)


def _experiment(study: Study, analysis: Analysis) -> Facts:
    flow, rules = analysis.flow, study.exclude
    yield "Sample", f"{study.images:,} images of {source_words(study.target.protocol, study.target.source)}"
    yield "Selection", f"automatic, by the rule study-v1, seed {study.image_seed}; nothing was picked by hand"
    yield "Evaluators", f"{flow.started:,} started, {flow.finished:,} finished, {flow.analysed:,} analysed"
    yield "Recruitment and expertise", OPEN
    yield "Training", f"{study.practice} practice trials with feedback; instructions are kept beside the plan"
    yield (
        "Assignment",
        f"{study.test_trials} test trials a rater, {study.trials_per_method} of each of "
        f"{study.methods_per_rater} methods; no image twice; sides and images balanced",
    )
    yield (
        "Quality assurance",
        f"{study.catch} catch trials (degraded input against original), {rules.catch_min_correct} must "
        f"be right; median answer at least {rules.min_median_rt_ms} ms; one side with p under "
        f"{rules.side_bias_p:g} excludes; {100 * rules.min_valid_share:g} % of trials valid; display within "
        f"{rules.max_timing_error_ms} ms of the plan",
    )
    yield "Raters left out", _counts({RATER_RULES[k]: n for k, n in flow.excluded.items()})
    yield "Trials left out", _counts({TRIAL_RULES[k]: n for k, n in flow.trials_invalid.items()})
    yield (
        "Stop rule",
        f"{study.stop_rule}: {study.raters:,} raters{'; peeked before' if analysis.peeked else ''}",
    )
    yield "Collected by", ", ".join(analysis.sources)
    yield "Evaluation conditions", "the raters' own screens; window and colour check before the first trial"


def _counts(found: dict[str, int]) -> str:
    return "; ".join(f"{n:,} {what}" for what, n in found.items() if n) or "none"


def _criterion(study: Study) -> Facts:
    yield "Name", "fool rate: how often an output is taken for the photograph"
    yield "Kind", "indistinguishability from photographs, relative to one reference image, as a whole"
    yield "Question put to raters", _plain(study.question)
    yield (
        "Response",
        f"forced choice of two, {study.layout}, shown for {study.display_ms} ms; no ties",
    )
    yield "Input shown", "yes" if study.show_input else "no"
    yield (
        "Aggregation",
        "share of test trials in which the output is chosen; 50 % = raters cannot tell",
    )
    yield (
        "Uncertainty",
        f"two-way interval over raters and images (twoway-wilson-v1), level {100 * (1 - study.alpha):g} %; "
        "differences by t test, Holm's correction",
    )


def _ethics(study: Study) -> Facts:
    ethics = study.ethics
    yield "Approval", _plain(", ".join(filter(None, (ethics.body, ethics.approval)))) or OPEN
    pay = " ".join(filter(None, (ethics.pay_per_hour, ethics.currency)))
    yield "Pay", f"{_plain(pay)} an hour" if pay else OPEN
    yield "Purpose", _plain(ethics.purpose)
    yield "Personal data", "rater ids are keyed digests; no address, user agent or exact time is stored"
    yield "Consent", f"consent.txt, {study.consent[:12]}; raters may withdraw, and their rows go"


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
    """Return a method's slug and detailed statistics, in the order of the page's columns."""
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


def _rater_boxes(flow: Flow) -> list[FlowBox]:
    known = [(flow.invited, "invited", ()), (flow.consented, "consented", _some(flow.withdrawn, "withdrew"))]
    gone = tuple(f"{n:,}: {RATER_RULES[reason]}" for reason, n in flow.excluded.items() if n)
    return [
        *(FlowBox(f"{count:,}", what, left) for count, what, left in known if count is not None),
        FlowBox(f"{flow.started:,}", f"started, {flow.finished:,} of them finished", gone),
        FlowBox(f"{flow.analysed:,}", "analysed"),
    ]


def _trial_boxes(flow: Flow) -> list[FlowBox]:
    gone = (
        *_some(flow.trials_unanswered, "without answer"),
        *(f"{n:,}: {TRIAL_RULES[reason]}" for reason, n in flow.trials_invalid.items() if n),
        *_some(flow.trials_of_excluded, "of raters left out"),
    )
    return [
        FlowBox(f"{flow.trials_shown:,}", "shown", gone),
        FlowBox(f"{flow.trials_analysed:,}", "analysed"),
    ]


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
