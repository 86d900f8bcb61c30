"""Pages in a real Chromium, from files, offline; what a page must not do is an assertion here."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; without it the test skips, or fails where CI is set."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    playwright = pytest.importorskip("playwright.sync_api")
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("CI promises a browser and there is no chromium")
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield started
        started.close()


def open_page(browser: Browser, path: Path, faults: list[str], **options: Any) -> Page:
    """Open a file; whatever asks for more than files, or complains, is added to `faults`.

    The console also tells every violation of the content security policy.
    """
    page = browser.new_context(offline=True, **options).new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))

    def watch(request: Any) -> None:
        if request.url.partition(":")[0] not in ("file", "data", "blob"):
            faults.append(request.url)

    page.on("request", watch)
    page.goto(path.as_uri())
    return page


@contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """Open a file for a `with` block, at whose end the page must have had no fault."""
    faults: list[str] = []
    page = open_page(browser, path, faults, **options)
    yield page
    assert not faults, faults
    page.context.close()


# the lowest contrast of text against its background, by colour pair
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.matches("script, style")) continue;
    let ground = element;
    while (ground && rgb(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const a = light(rgb(getComputedStyle(element).color)), b = light(rgb(getComputedStyle(ground ?? document.body).backgroundColor));
    const key = `${getComputedStyle(element).color} on ${getComputedStyle(ground ?? document.body).backgroundColor}`;
    found[key] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""  # noqa: E501


def pdf_text(data: bytes) -> str:
    """Return the text Chromium printed into a PDF, without spaces: glyphs through each font's own table."""
    objects = {int(m[1]): m[2] for m in re.finditer(rb"(\d+) 0 obj\s(.*?)\sendobj", data, re.S)}
    fonts = {
        number: _characters(_stream(objects[int(link[1])]))
        for number, body in objects.items()
        if (link := re.search(rb"/ToUnicode (\d+)", body))
    }
    contents = [
        m[1] for body in objects.values() if (m := re.search(rb"/Type /Page\b.*/Contents (\d+)", body, re.S))
    ]
    return "".join(_shown(_stream(objects[int(number)]), fonts) for number in contents)


def _stream(body: bytes) -> bytes:
    length, start = re.search(rb"/Length (\d+)", body), re.search(rb"stream\r?\n", body)
    assert length
    assert start
    data = body[start.end() : start.end() + int(length[1])]  # its last byte may look like a line's end
    return zlib.decompress(data) if b"FlateDecode" in body else data


def _characters(table: bytes) -> dict[int, str]:
    """Return glyph -> character of a ToUnicode table."""
    known = {}
    for part in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.S):
        for glyph, code in re.findall(rb"<(\w+)> <(\w+)>", part):
            known[int(glyph, 16)] = bytes.fromhex(code.decode()).decode("utf-16-be")
    for part in re.findall(rb"beginbfrange(.*?)endbfrange", table, re.S):
        for first, last, code in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", part):
            for step in range(int(last, 16) - int(first, 16) + 1):
                known[int(first, 16) + step] = chr(int(code, 16) + step)
    return known


def _shown(content: bytes, fonts: dict[int, dict[int, str]]) -> str:
    text, font = [], {}
    for number, glyphs in re.findall(rb"/F(\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)>", content):
        if number:
            font = fonts.get(int(number), {})
        else:
            codes = bytes.fromhex(glyphs.decode())
            text += [font.get(codes[at] * 256 + codes[at + 1], "") for at in range(0, len(codes) - 1, 2)]
    return unicodedata.normalize("NFKC", "".join(text)).replace(" ", "")  # fi is one glyph
