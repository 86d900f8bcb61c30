"""The site builds without a warning, asks nothing of the network, and has a place for everything public."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from browsing import chromium, open_page
from common import REPOSITORY
from documented import blocks, parse

import palette_bench
from palette_bench import compat
from palette_bench.cli import main
from palette_bench.core.errors import CODES
from palette_bench.core.resources import protocol_ids
from palette_bench.scoring.features import EXTRACTORS
from palette_bench.scoring.features.weights import pinned
from palette_bench.scoring.metrics import METRICS
from palette_bench.tasks.protocol import load
from website import codes, commands, gallery, links, paper_tables, recipes

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    call = [sys.executable, "-m", "website", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder / "html"


def ids_of(page: Path) -> set[str]:
    return links.PageReader(page.read_text(encoding="utf-8")).ids


def title_of(page: Path) -> str:
    (title,) = re.findall(r"<h1>(.*?)<a", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"<.*?>", "", title)


@pytest.mark.long
def test_every_code_has_a_page_with_cause_remedy_and_message(site: Path) -> None:
    for code, words in CODES.items():
        page = site / "reference" / "errors" / f"{code}.html"
        assert title_of(page).startswith(f"{code}: ")
        assert {"what-causes-it", "what-to-do", "the-message-as-printed"} <= ids_of(page), code
        assert words.split()[0] in title_of(page)
        assert re.search(rf">{code} (error|warning|info)", re.sub(r"<span>|</span>", "", page.read_text()))


@pytest.mark.long
def test_every_public_name_and_every_option_has_its_entry(site: Path) -> None:
    for names, package in (
        (palette_bench.__all__, "palette_bench"),
        (compat.__all__, "palette_bench.compat"),
    ):
        for name in names:
            assert f"{package}.{name}" in ids_of(site / "reference" / "api" / f"{name}.html")
    options = 0
    for words, command in commands.commands(main):
        ids = ids_of(site / "reference" / "commands" / f"{words.split()[0]}.html")
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                for name in (*option.opts, *option.secondary_opts):
                    options += 1
                    assert f"cmdoption-{words.replace(' ', '-')}-{name.lstrip('-')}" in ids, (words, name)
    assert options > 150


@pytest.mark.long
def test_every_metric_network_protocol_variant_and_schema_has_its_page(site: Path) -> None:
    for name in METRICS:
        assert "how-it-is-computed" in ids_of(site / "reference" / "metrics" / f"{name}.html")
    networks = [(site / "reference" / "networks" / f"{name}.html").read_text() for name in EXTRACTORS]
    networks += [page.read_text() for page in (site / "reference" / "networks").glob("*-*.html")]
    for name, row in pinned().items():
        assert any(row.sha256 in page and row.licence in page for page in networks), name
    for protocol in protocol_ids():
        text = (site / "reference" / "protocols" / f"{protocol}.html").read_text()
        for task, variant in load(protocol).pairs("all"):
            assert f'alt="input of {task}/{variant}"' in text
            assert f'alt="reference of {task}/{variant}"' in text
    for schema in (REPOSITORY / "reports" / "schemas").glob("*.json"):
        assert title_of(site / "reference" / "schemas" / f"{schema.stem}.html") == schema.stem


@pytest.mark.long
def test_every_key_and_every_recipe_and_preset_has_its_place(site: Path) -> None:
    from palette_bench.baselines.training.presets import PRESETS

    for method, model, texts in recipes.trained_methods():
        page = site / "reference" / "recipes" / f"{method}.html"
        text = re.sub(r"<.*?>", "", page.read_text())
        for section, field in model.model_fields.items():
            inner = getattr(field.annotation, "model_fields", {})
            for name in [f"{section}.{key}" for key in inner] or [field.alias or section]:
                assert f"\n{name}\n" in text, (method, name)
        assert {f"{method}-{recipe}" for recipe in texts} <= ids_of(page)
    presets = (site / "reference" / "recipes" / "presets.html").read_text()
    for preset in PRESETS:
        assert f">{preset}</span>" in presets


@pytest.mark.long
def test_no_link_leads_nowhere_and_nothing_is_asked_of_the_network(site: Path) -> None:
    assert links.faults(site) == []
    assert len(list(site.rglob("*.html"))) > 200


@pytest.mark.long
@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]
)
def test_pages_open_offline_in_both_themes_and_at_phone_width(site: Path, scheme: str, width: int) -> None:
    names = ("index", "reference/api/Evaluator", "reference/errors/PB302", "gallery/index", "docs/scores")
    with chromium() as browser:
        for name in names:
            faults: list[str] = []
            view = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
            page = open_page(browser, site / f"{name}.html", faults, **view)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            brightness = page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
            )
            assert (sum(brightness) > 380) == (scheme == "light"), (name, brightness)
            page.emulate_media(media="print")
            assert not page.is_visible(".sidebar-drawer")
            assert faults == [], name


@pytest.mark.long
@pytest.mark.enable_socket
def test_the_search_finds_a_code_and_the_keyboard_reaches_the_result(site: Path) -> None:
    with chromium() as browser:
        assert "PB302: wrong size" in _searched(browser, site, "PB302")
        assert any("--min-tier (program option" in title for title in _searched(browser, site, "min-tier"))


def _searched(browser: Browser, site: Path, word: str) -> list[str]:
    faults: list[str] = []
    page = open_page(browser, site / "index.html", faults)
    page.focus("input[name=q]")
    page.keyboard.type(word)
    page.keyboard.press("Enter")
    page.wait_for_function("document.body.innerText.includes('Search finished')")
    assert faults == []
    return [found.inner_text() for found in page.query_selector_all("#search-results li")]


def test_the_words_of_codes_and_tables_are_those_of_the_program() -> None:
    written = tomllib.loads(codes.WRITTEN.read_text())
    assert CODES.keys() <= written.keys()
    printed = codes.messages()
    for code in CODES:
        words = written[code]
        assert {words["cause"][-1], words["do"][-1]} <= set(".`)"), code
        assert ("where" in words) == (code not in printed), code  # written only where the source has none
    tables = tomllib.loads(paper_tables.WRITTEN.read_text())
    assert {f"gallery/paper/table-{n}.md" for n in tables} | {"gallery/paper/index.md"} == {
        *paper_tables.pages()
    }


def test_messages_are_read_from_the_source_as_it_prints_them() -> None:
    (message,) = (str(m) for m in codes.messages()["PB325"])
    assert message == (
        "PB325 warning  ids look permuted\n"
        "  where     «pairs»\n"
        "  expected  each output under the id of its own input\n"
        "  found     «found»\n"
        "  fix       if the pairs are right, rename the files; see that inputs are read in the order of "
        "their ids"
    )


def test_commands_of_the_papers_tables_are_refused_by_no_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("ILSVRC2012/train", "ILSVRC2012/val", "DIR", "SET", "SUB", "RUN", "record"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "CARD.json").touch()
    parsed = 0
    for page in paper_tables.pages().values():
        for block in blocks(page):
            for command in block.commands:
                parse(command.arguments)
                parsed += 1
    assert parsed > 60


def test_commands_of_the_gallery_are_refused_by_no_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for entry in gallery.ENTRIES:
        for command in entry.commands:
            words = shlex.split(command)
            written = {after for word, after in pairwise(words) if word in ("-o", "--html")}
            for name in {word for word in words if re.search("[./]", word)} - written:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch() if path.suffix in (".json", ".toml", ".csv") else path.mkdir(exist_ok=True)
            (tmp_path / "study").mkdir(exist_ok=True)
            parse(words)


def test_the_gallery_shows_pages_only_where_they_were_made(tmp_path: Path) -> None:
    assert "make gallery" in gallery.pages(tmp_path)["gallery/index.md"]
    assert "<iframe" not in gallery.pages(tmp_path)["gallery/index.md"]
    for entry in gallery.ENTRIES:
        (tmp_path / entry.page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry.page).write_text(f"<title>{entry.title}</title>")
    text = gallery.pages(tmp_path)["gallery/index.md"]
    gallery.copy(tmp_path, tmp_path / "html")
    for address in re.findall('src="(.*?)"', text):
        assert (tmp_path / "html" / "gallery" / address).exists()


def test_dead_links_and_the_network_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    (tmp_path / "page.html").write_text(
        '<a href="other.html#here">fine</a><a href="other.html#there">x</a><a href="gone.html">x</a>'
        '<a href="https://example.org">fine</a><script src="//cdn.example/x.js"></script><img src="no.png">'
    )
    (tmp_path / "page.css").write_text("@import 'https://fonts.example/x.css';")
    assert links.faults(tmp_path) == [
        "page.html: asks the network for //cdn.example/x.js",
        "page.html: other.html#there leads to no place of that page",
        "page.html: gone.html leads to no file",
        "page.html: no.png leads to no file",
        "page.css: asks the network for a file",
    ]


def test_make_docs_and_ci_build_the_site() -> None:
    assert "-m website build/docs" in (REPOSITORY / "Makefile").read_text()
    assert (REPOSITORY / ".ci" / "run").read_text().rstrip().endswith("make docs")
    assert shutil.which("make")
