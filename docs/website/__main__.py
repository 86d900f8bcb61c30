"""`PYTHONPATH=docs python -m website BUILD`: make the site in BUILD/html, offline, warnings being errors."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from website import api, codes, commands, gallery, links, protocols, recipes, schemas, scoring
from website.stage import stage


def make(build: Path) -> list[str]:
    """Make the site, and return its faults: Sphinx's failure, dead links, assets from the network.

    Args:
        build: folder to fill; its folders `source`, `html` and `work` are made anew, and `gallery` is
            read if `make gallery` has filled it.
    """
    source, html, work = build / "source", build / "html", build / "work"
    for folder in (source, html, work):
        shutil.rmtree(folder, ignore_errors=True)
    stage(source)
    made = gallery.pages(build / "gallery")
    for module in (api, codes, commands, protocols, recipes, schemas, scoring):
        made |= module.pages()
    for name, text in made.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    protocols.draw(source, work)
    schemas.copy(source)
    options = [
        "--builder",
        "html",
        "--conf-dir",
        str(Path(__file__).parent),
        "--doctree-dir",
        str(build / "doctrees"),
    ]
    strict = ["--fresh-env", "--nitpicky", "--fail-on-warning", "--keep-going", "--quiet"]
    if build_main([*options, *strict, str(source), str(html)]):
        return ["Sphinx stopped with warnings or an error, named above"]
    if gallery.complete(build / "gallery"):
        gallery.copy(build / "gallery", html)
    return links.faults(html)


if __name__ == "__main__":
    begin = time.monotonic()
    place = Path(sys.argv[1]).resolve()
    found = make(place)
    print(*found, sep="\n", end="\n" if found else "")
    count = len(list((place / "html").rglob("*.html")))
    print(f"{count} pages in {time.monotonic() - begin:.0f} s: {place / 'html' / 'index.html'}")
    sys.exit(bool(found))
