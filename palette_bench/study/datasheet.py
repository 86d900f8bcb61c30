"""The data sheet of a study under the headings of HEDS 3.0 (arXiv 2412.07940), filled from its records.

What the records cannot know stays an open line for the people who ran the study.
"""

from __future__ import annotations

from collections.abc import Iterable

from palette_bench.board.words import source_words, task_words
from palette_bench.study.exclusions import RATER_RULES, TRIAL_RULES
from palette_bench.study.records import Study
from palette_bench.study.results import Analysis

OPEN = "_to be filled in by hand_"


def data_sheet(study: Study, analysis: Analysis) -> str:
    """Return the sheet as Markdown."""
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
    """Return text that no Markdown reader takes for markup or a link."""
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
