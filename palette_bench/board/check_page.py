"""The findings of `check` as a page. Source: reports and studies, section 3."""

from __future__ import annotations

from pathlib import Path

from palette_bench.core import atomic
from palette_bench.core.errors import Severity
from palette_bench.pages.render import render
from palette_bench.submission.check import CheckReport

_KINDS: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "info": "Notices"}


def write_check(report: CheckReport, submission: Path, out: Path) -> None:
    """Write the findings of `check` as one self-contained HTML page.

    Args:
        report: the findings.
        submission: the checked submission; the page shows only its name.
        out: the page.
    """
    counts = report.to_json()["counts"]
    kinds = [
        (title, [p for p in report.problems if p.severity == severity])
        for severity, title in _KINDS.items()
        if counts[severity]
    ]
    html = render(
        "check.html.jinja",
        title=f"Check of {submission.name}",
        root="",
        name=submission.name,
        report=report,
        card=report.card,
        counts=counts,
        kinds=kinds,
    )
    atomic.write_text(out, html)
