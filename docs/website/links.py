"""What the built site must not have: links that lead nowhere, and anything asked of the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

_ASSETS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
_CSS_URL = re.compile(r"url\(\s*[\"']?(https?:)?//|@import\s+[\"'](https?:)?//")


class PageReader(HTMLParser):
    """Collects the ids, links and assets of a page."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names, and where it leads."""
        given = {name: value or "" for name, value in attrs}
        self.ids.update(filter(None, (given.get("id"), given.get("name") if tag == "a" else "")))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        address = given.get(_ASSETS.get(tag, ""), "")
        if address and not (
            tag == "link" and given.get("rel") in ("canonical", "next", "prev", "index", "search")
        ):
            self.assets.append(address)


def faults(html: Path) -> list[str]:
    """Return every local link of a built site that leads nowhere, and every asset from the network."""
    pages = {path: PageReader(path.read_text(encoding="utf-8")) for path in sorted(html.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(html)
        found += [f"{name}: asks the network for {a}" for a in page.assets if re.match(r"(https?:)?//", a)]
        for link in [*page.links, *(a for a in page.assets if not re.match(r"(https?:)?//|data:|blob:", a))]:
            if re.match(r"[a-z]+:|//", link):
                continue
            address, _, anchor = link.partition("#")
            target = (
                (path.parent / unquote(address.partition("?")[0])).resolve() if address else path.resolve()
            )
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name}: {link} leads to no file")
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                found.append(f"{name}: {link} leads to no place of that page")
    for path in sorted(html.rglob("*.css")):
        if _CSS_URL.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(html)}: asks the network for a file")
    return found
