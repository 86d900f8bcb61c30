"""The guides for Sphinx: pages of the repository as they are, where they are, with the files they link to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from website.markdown import ROOT

PAGES = ("*.md", "docs/*.md", "docs/start/*.md", "baselines/*/README.md")
OWN = Path(__file__).parent / "pages"  # the front page and the lists of sections
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
_FOLDERS = {"reports/schemas": "reference/schemas/index.md"}  # on a code host a list of files, here a page


def stage(source: Path) -> None:
    """Copy all pages below `source`, and every file that they link to; list all guides in the menu.

    Raises:
        FileNotFoundError: a page links to a file that is not there.
    """
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            text = page.read_text(encoding="utf-8")
            for link in set(_LINK.findall(text)):
                target = (page.parent / link).resolve().relative_to(ROOT)
                if str(target) in _FOLDERS:
                    depth = len(page.relative_to(ROOT).parts) - 1
                    text = text.replace(f"]({link})", f"]({'../' * depth}{_FOLDERS[str(target)]})")
                elif target.suffix != ".md":
                    _copy(ROOT / target, source / target)
            place = source / page.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    shutil.copytree(OWN, source, dirs_exist_ok=True)
    index = (source / "index.md").read_text(encoding="utf-8")
    guides = [path.relative_to(source).with_suffix("").as_posix() for path in (source / "docs").glob("*.md")]
    others = sorted(guide for guide in guides if f"\n{guide}\n" not in index)
    text = index.replace("<other guides>\n", "".join(f"{guide}\n" for guide in others))
    (source / "index.md").write_text(text, encoding="utf-8")


def _copy(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, place)
