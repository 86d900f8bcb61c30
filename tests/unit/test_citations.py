"""Citations that readers of BibTeX take whatever a card says, and what search engines read of a board."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from cards import write_card
from common import REPOSITORY, RunCli

import palette_bench
from palette_bench.board.citations import PALETTE, method_bibtex
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site

HOSTILE = r"</script><img src=x> {open} \{ } 100% & _a_ #1 $x^2$ ~ \n, title = {Stolen"
LICENSE = "https://creativecommons.org/licenses/by/4.0/"


class Blocks(HTMLParser):
    """Collects the scripts of a page by type, and the text of its elements with an id, as a browser does."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self._into: tuple[dict[str, str], str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "script":
            self._into = self.scripts, named.get("type") or ""
        elif tag == "pre" and named.get("id"):
            self._into = self.texts, str(named["id"])

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "pre"}:
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into:
            texts, key = self._into
            texts[key] = texts.get(key, "") + data


@pytest.fixture
def site(tmp_path: Path) -> Path:
    paper = {"paper": "arXiv:2111.05826", "code": "https://example.org/a{b}"}
    add_card(
        write_card(tmp_path, "painter", method={"authors": ("Ada B.", "Cy & Dee")} | paper), tmp_path / "r"
    )
    add_card(
        write_card(tmp_path, "blur", seed=1, method={"name": HOSTILE, "authors": (HOSTILE,)}), tmp_path / "r"
    )
    build_site(tmp_path / "r", tmp_path / "site", license_url=LICENSE)
    return tmp_path / "site"


def blocks(site: Path, pattern: str) -> Blocks:
    (page,) = site.glob(pattern)
    return Blocks(page.read_text(encoding="utf-8"))


def test_a_method_is_cited_with_its_authors_and_its_paper(site: Path) -> None:
    assert blocks(site, "methods/painter.html").texts["bibtex"] == (
        "@misc{painter,\n"
        "  title = {{Painter}},\n"
        "  author = {Ada B. and Cy \\& Dee},\n"
        "  note = {Version 1, scored 2026-02-03},\n"
        "  eprint = {2111.05826},\n"
        "  archiveprefix = {arXiv},\n"
        "  url = {https://example.org/a%7Bb%7D},\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("links", "line"),
    [
        ({"paper": "doi:10.1145/3528233.3530757"}, "doi = {10.1145/3528233.3530757}"),
        ({"paper": "https://example.org/p.pdf"}, "url = {https://example.org/p.pdf}"),
        ({"paper": "doi:10.1/2", "website": "arXiv:2111.05826"}, "url = {https://arxiv.org/abs/2111.05826}"),
    ],
)
def test_every_kind_of_link_has_its_field(links: dict[str, str], line: str) -> None:
    assert f"  {line},\n" in method_bibtex("a", "A", ["1"], ["B"], links, "2026-02-03")


def balanced(text: str) -> bool:
    """Return whether braces close as BibTeX counts them, which a backslash does not change."""
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def test_a_hostile_name_adds_no_field_and_leaves_no_brace_open(site: Path) -> None:
    text = blocks(site, "methods/blur.html").texts["bibtex"]
    assert balanced(text)
    assert re.findall(r"^  (\w+) = ", text, flags=re.M) == ["title", "author", "note"]


def test_a_board_is_cited_with_its_set_and_the_paper_of_the_protocol(site: Path) -> None:
    text = blocks(site, "boards/*.html").texts["bibtex"]
    board = json.loads(next(site.glob("boards/*.json")).read_text())
    assert balanced(text)
    assert f"Set {board['fingerprints']['set'][:12]}, newest scorecard 2026-02-03" in text
    assert f"title = {{{PALETTE['title']}}}" in text


def test_a_reader_of_bibtex_finds_the_fields_and_no_others(site: Path) -> None:
    database = pytest.importorskip("pybtex.database")
    hostile = blocks(site, "methods/blur.html").texts["bibtex"]
    (entry,) = database.parse_string(hostile, "bibtex").entries.values()
    assert set(entry.fields) == {"title", "note"}
    assert "Stolen" in entry.fields["title"]
    board = blocks(site, "boards/*.html").texts["bibtex"]
    _, paper = database.parse_string(board, "bibtex").entries.values()
    assert paper.fields["title"] == PALETTE["title"]
    assert len(paper.persons["author"]) == 8


def test_a_board_is_a_dataset_for_search_engines(site: Path) -> None:
    found = json.loads(blocks(site, "boards/*.html").scripts["application/ld+json"])
    board = json.loads(next(site.glob("boards/*.json")).read_text())
    assert (found["@context"], found["@type"]) == ("https://schema.org", "Dataset")
    assert found["license"] == LICENSE
    assert found["creator"]["name"] == ", ".join(sorted(["Ada B.", "Cy & Dee", HOSTILE]))
    assert 50 <= len(found["description"]) <= 5000  # what Google's dataset search takes
    assert found["identifier"] == f"sha256:{board['fingerprints']['set']}"
    measured = {variable["propertyID"]: variable["unitText"] for variable in found["variableMeasured"]}
    assert measured["classification_agreement"] == "%"
    assert set(measured) <= set(
        board["rows"][0]["scores"] if board["rows"] else board["unranked"][0]["row"]["scores"]
    )
    for file in found["distribution"]:
        assert (site / "boards" / file["contentUrl"]).is_file()
        assert file["encodingFormat"] in {"text/csv", "application/json"}


def test_another_card_is_another_version_of_the_dataset(tmp_path: Path) -> None:
    versions = []
    for n in range(2):
        add_card(write_card(tmp_path, f"painter-{n}", seed=n), tmp_path / "r")
        build_site(tmp_path / "r", tmp_path / "site")
        found = json.loads(blocks(tmp_path / "site", "boards/*.html").scripts["application/ld+json"])
        versions.append((found["version"], found["identifier"]))
        assert "license" not in found
    assert versions[0][0] != versions[1][0]
    assert versions[0][1] == versions[1][1]


def test_the_verb_takes_a_licence_and_refuses_what_is_no_address(tmp_path: Path, run_cli: RunCli) -> None:
    add_card(write_card(tmp_path, "painter"), tmp_path / "r")
    words = ("board", "build", tmp_path / "r", "-o", tmp_path / "site", "--license")
    assert "no https:// address" in run_cli(*words, "CC-BY-4.0").stderr
    assert not (tmp_path / "site").exists()
    assert run_cli(*words, LICENSE).returncode == 0
    assert run_cli(*words, LICENSE, "--check").returncode == 0
    assert run_cli(*words[:-1], "--check").returncode == 3


# --- the project's own citation ---


def citation() -> dict[str, Any]:
    return dict(yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")))


def test_the_projects_citation_is_of_this_version_and_of_the_same_paper() -> None:
    found = citation()
    assert str(found["version"]) == palette_bench.__version__
    assert found["license"] == "Apache-2.0"
    (paper,) = found["references"]
    names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert names == PALETTE["author"]
    assert (paper["title"], paper["doi"]) == (PALETTE["title"], PALETTE["doi"])
    assert (paper["collection-title"], str(paper["year"])) == (PALETTE["booktitle"], PALETTE["year"])


def test_the_projects_citation_is_valid() -> None:
    cffconvert = pytest.importorskip("cffconvert")
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    cffconvert.Citation(text).validate()
    assert "palette-bench" in cffconvert.Citation(text).as_bibtex()
    with pytest.raises(Exception, match="license"):
        cffconvert.Citation(text.replace("Apache-2.0", "my own")).validate()
