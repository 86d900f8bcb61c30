"""What `study analyse` writes: the record, the page, the table of images, the data sheet, new cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.study.analysis import analyse
from palette_bench.study.analysis_page import analysis_page, rate_words
from palette_bench.study.cards import read_parents, write_cards
from palette_bench.study.datasheet import data_sheet
from palette_bench.study.exclusions import Head
from palette_bench.study.folder import StudyFolder
from palette_bench.study.results import Analysis, ImageRate
from palette_bench.study.tables import table_text
from palette_bench.study.votes import read_votes

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
    head: Head | None = None,
    peek: bool = False,
) -> Analysis:
    """Analyse votes and write everything into `out`, `analysis.json` last.

    Args:
        study: a study folder; `private/` is not needed.
        votes: its `votes.csv`.
        out: made if absent.
        cards: scorecards of studied methods; new ones with the fool rate are written.
        head: what the platform knows of raters before their first trial.
        peek: look before the stop rule is met.

    Raises:
        RecordError: PB505 the study changed; PB501-PB503, PB510 the votes are not fit.
        InputError: PB508, the stop rule is not met.
        IncomparableError: PB602, a card of other outputs; nothing is written.
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
