"""The gallery: pages that the program makes, beside the commands that made them.

    PYTHONPATH=docs python -m website.gallery BUILD/gallery    # what `make gallery` runs; minutes

The commands run in the folder as they are printed; the site takes the pages from there if they are there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from website import paper_tables
from website.markdown import ROOT, Pages, fence, toctree

_SET = "demo/sets/inpainting.center32"
_SUBMISSION = "demo/submissions/{}/inpainting.center32"
_CARD = "demo/cards/inpainting.center32.{}.json"
_LINE = 90  # characters that a page shows without scrolling
_PALETTE, _GAN = "palette-mini-v1", "gan-mini-v1"


@dataclass(frozen=True)
class GalleryEntry:
    """A page of the gallery.

    Attributes:
        title: what it is.
        about: what to look at.
        page: path of the page below the folder in which the commands run.
        commands: as a reader types them; entries are run in order, in one folder.
    """

    title: str
    about: str
    page: str
    commands: tuple[str, ...]


ENTRIES = (
    GalleryEntry(
        "A report",
        "One scorecard as a page: scores with intervals, a grid of images chosen by rule, the best and the "
        "worst, and where every number comes from. The demo restores and scores sets, and writes this page.",
        "demo/report.html",
        ("palette-bench demo -o demo",),
    ),
    GalleryEntry(
        "A board",
        "The demo's four boards: ranks where paired tests tell methods apart, and a page of each method.",
        "demo/site/index.html",
        ("palette-bench board build demo/record -o demo/site",),
    ),
    GalleryEntry(
        "A comparison",
        "Two scorecards of one set: paired differences, and the images where the methods part.",
        "comparison.html",
        (
            f"palette-bench report {_CARD.format(_PALETTE)} {_CARD.format(_GAN)} --set {_SET} "
            f"--submission {_SUBMISSION.format(_PALETTE)} --submission {_SUBMISSION.format(_GAN)} "
            "-o comparison.html",
        ),
    ),
    GalleryEntry(
        "A check",
        "What `check` finds in outputs that are their inputs, with the fix.",
        "check.html",
        (f"palette-bench check {_SUBMISSION.format('copy-input')} --set {_SET} --html check.html",),
    ),
    GalleryEntry(
        "A human study",
        "The analysis of made-up votes, as the page says. `study.toml` is the guide's, with fewer images.",
        "result/index.html",
        (
            f"palette-bench study design study.toml --set {_SET} --submission {_SUBMISSION.format(_PALETTE)} "
            f"--submission {_SUBMISSION.format(_GAN)} -o study",
            "palette-bench study simulate study -o votes.csv",
            "palette-bench study analyse study votes.csv -o result",
        ),
    ),
)


def make(folder: Path) -> None:
    """Run the commands of all entries in a folder.

    Raises:
        CalledProcessError: a command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    guide = (ROOT / "docs" / "human-studies.md").read_text(encoding="utf-8")
    plan = guide.partition("```toml\n")[2].partition("```")[0]
    plan = re.sub(r"^images = .*", "images = 100", plan, flags=re.MULTILINE)
    (folder / "study.toml").write_text(plan, encoding="utf-8")
    for name in ("consent", "instructions"):
        (folder / f"{name}.txt").write_text(
            "You may stop at any time. Choose the photograph.\n", encoding="utf-8"
        )
    for name in ("study", "result", "votes.csv"):  # a study is never designed twice into one folder
        shutil.rmtree(folder / name, ignore_errors=True)
        if (folder / name).exists():
            (folder / name).unlink()
    for entry in ENTRIES:
        for command in entry.commands:
            words = [sys.executable, "-m", "palette_bench", *shlex.split(command)[1:]]
            subprocess.run(words, cwd=folder, check=True)


def copy(made: Path, html: Path) -> None:
    """Copy the pages into the built site, if they were made."""
    for entry in ENTRIES:
        page = made / entry.page
        if page.name == "index.html":
            shutil.copytree(page.parent, html / "gallery" / "made" / entry.page.removesuffix("/index.html"))
        else:
            (html / "gallery" / "made" / entry.page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, html / "gallery" / "made" / entry.page)


def complete(made: Path) -> bool:
    """Return whether all pages were made."""
    return all((made / entry.page).exists() for entry in ENTRIES)


def pages(made: Path) -> Pages:
    """Return the page of the gallery, which shows what was made, and the pages of the paper's tables."""
    lines = ["# Gallery\n", "Pages that the program writes, as they are, with the commands that made them.\n"]
    if not complete(made):
        lines.append(
            "*This copy of the site was built without them: run `make gallery`, then `make docs`.*\n"
        )
    for entry in ENTRIES:
        shown = (" \\\n    ".join(wrap(c, _LINE, break_on_hyphens=False)) for c in entry.commands)
        lines += [f"## {entry.title}\n", f"{entry.about}\n", fence("\n".join(shown), "")]
        if complete(made):
            address = f"made/{entry.page}"
            lines.append(
                f'<p><a href="{address}">Open the page alone</a></p>\n'
                f'<iframe class="gallery" src="{address}" title="{entry.title}" loading="lazy"></iframe>\n'
            )
    lines.append(toctree(["paper/index"]))
    return {"gallery/index.md": "\n".join(lines)} | paper_tables.pages()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
