"""The rater's page: one HTML file that includes its style and script, for serving and for export.

Source: reports and studies, sections 7.2, 7.3 and 8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from markupsafe import Markup

from palette_bench.core.resources import report_text
from palette_bench.pages.render import csp_digest, render
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Study

Mode = Literal["serve", "folder", "amt"]

LEAST_WIDTH = 640  # smallest window width for a test trial, CSS pixels
_MARGINS = 104  # CSS pixels around and between two images
PLATFORMS = ("https://www.mturk.com", "https://workersandbox.mturk.com")  # an amt page may post only there
COLOUR_TASK = "colorization"
_ANSWER_S = 2.5  # assumed seconds for the fixation cross and the answer, for the announced duration
_SCRIPTS = ("trial-page.js", "trial-sources.js", "trial-checks.js", "trial-session.js")
_NAMES = {"side-by-side": ("left one", "right one"), "sequential": ("first one", "second one")}


def _style() -> str:
    return report_text("assets/page.css") + report_text("assets/trial.css")


def _script() -> str:
    return "".join(report_text(f"assets/{name}") for name in _SCRIPTS)


def page_policy(mode: Mode) -> str:
    """Return the content security policy of a rater's page: its own script and style, same-origin images."""
    reach = {
        "serve": "connect-src 'self'; form-action 'none'",
        "folder": "form-action 'none'",
        "amt": f"form-action {' '.join(PLATFORMS)}",
    }[mode]
    return (
        f"default-src 'none'; script-src '{csp_digest(_script())}'; style-src '{csp_digest(_style())}'; "
        f"img-src 'self'; base-uri 'none'; {reach}"
    )


def rater_page(folder: StudyFolder, mode: Mode, page: str = "", trials: Sequence[Any] = ()) -> str:
    """Return the rater's page as HTML.

    Args:
        folder: the study.
        mode: who serves pairs and takes answers: "serve" is the server, the other modes the page itself.
        page: name of a static page, one per slot.
        trials: the trials of a static page in order, as tokens only.
    """
    study = folder.study
    names = _NAMES[study.layout]
    settings = {
        **{"id": study.id, "mode": mode, "page": page, "trials": list(trials), "names": names},
        **{"layout": study.layout, "display_ms": study.display_ms, "size": study.size_css_px},
        **{"practice": study.practice, "test": study.trials - study.practice},
        **{"show_input": study.show_input, "colour": study.target.task == COLOUR_TASK},
        **{"least_width": least_width(study), "platforms": PLATFORMS if mode == "amt" else ()},
    }
    return render(
        "trial.html.jinja",
        study=study,
        settings=settings,
        consent=_paragraphs(folder.consent),
        instructions=_paragraphs(folder.instructions),
        minutes=minutes(study),
        seconds=f"{study.display_ms / 1000:g}",
        names=names,
        colour=settings["colour"],
        least_width=settings["least_width"],
        policy=page_policy(mode),
        trial_style=Markup(_style()),
        trial_script=Markup(_script()),
    )


def least_width(study: Study) -> int:
    """Return the window width that a trial needs, in CSS pixels."""
    beside = 2 if study.layout == "side-by-side" else 1
    return max(LEAST_WIDTH, beside * study.size_css_px + _MARGINS)


def minutes(study: Study) -> int:
    """Return the duration announced to raters in minutes, including reading."""
    showings = 2 if study.layout == "sequential" else 1
    return 2 + math.ceil(study.trials * (showings * study.display_ms / 1000 + _ANSWER_S) / 60)


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
