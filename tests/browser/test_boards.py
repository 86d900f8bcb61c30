"""Board, method, comparison and check pages in a real browser, from files, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import CONTRAST, opened, pdf_text
from cards import make_scores, write_card
from submissions import plausible, submit

from palette_bench.board.check_page import write_check
from palette_bench.board.compare_page import write_comparison
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site
from palette_bench.submission.check import check

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.enable_socket  # playwright's event loop asks for a socket pair; nothing is connected

HOSTILE = "</script><img src=x onerror=alert(1)>{{7*7}}"
BOARD = "site/boards/inpainting.photos-64.center32.html"
METHOD = "site/methods/blur.html"
PAGES = ("site/index.html", BOARD, METHOD, "pair.html", "check.html", "passed.html")


def add(folder: Path, slug: str, seed: int, frechet: float, **changes: object) -> Path:
    """Add a card of 30 images to the record; return its file."""
    scores = make_scores(30, frechet)
    if changes.pop("no_classes", False):
        scores["classification_agreement"] = scores["classification_agreement"].model_copy(
            update={"value": None, "low": None, "high": None}
        )
    path = write_card(folder, slug, seed=seed, scores=scores, **changes)
    add_card(path, folder / "record")
    return path


@pytest.fixture(scope="module")
def pages(smoke_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems that differ by noise, a worse one, one without a metric, an incomplete one, anchors."""
    folder = tmp_path_factory.mktemp("boards")
    painter = add(folder, "painter", 0, 3.10)
    twin = add(folder, "twin", 1, 3.12, training={"datasets": ("photos", "paintings")})
    add(folder, "blur", 2, 9.8, method={"name": HOSTILE, "version": "=1+1"})
    add(folder, "no-classes", 3, 12.5, no_classes=True, training={"datasets": ("paintings",)})
    add(folder, "half-done", 4, 1.0, n_expected=31)
    add(folder, "original", 5, 0.2)
    add(folder, "copy-input", 6, 14.0)
    build_site(folder / "record", folder / "site")
    write_comparison(painter, twin, folder / "pair.html")
    benchset = smoke_sets / "uncropping.right"
    for name in ("check", "passed"):
        submission = submit(benchset, folder / name, plausible)
        if name == "check":
            next((submission / "outputs").iterdir()).unlink()
            (submission / "<b>.txt").touch()
        write_check(check(submission, benchset), submission, folder / f"{name}.html")
    return folder


def order(page: Page) -> list[str]:
    """Return the slugs of the systems in the table as a reader sees them, anchors apart."""
    rows = page.locator("tbody.rows tr:not(.anchor):visible th small:first-of-type")
    return [text.split()[0] for text in rows.all_inner_texts()]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_a_fault_and_are_legible(
    browser: Browser, pages: Path, name: str, scheme: str
) -> None:
    with opened(browser, pages / name, color_scheme=scheme) as page:
        assert page.locator("h1").count() == page.locator("main").count() == 1
        for summary in page.locator("summary").all():
            summary.click()  # closed parts have text, too
        ratios = page.evaluate(CONTRAST)
        assert min(ratios.values()) >= 4.5, ratios


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_320_pixels(browser: Browser, pages: Path, name: str) -> None:
    with opened(browser, pages / name, viewport={"width": 320, "height": 700}) as page:
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("name", PAGES)
def test_whatever_scrolls_or_acts_has_a_name_and_is_reached_by_tab(
    browser: Browser, pages: Path, name: str
) -> None:
    unnamed = """() => [...document.querySelectorAll("a, button, select, input, [role=region], nav, img")]
      .filter(e => e.checkVisibility())
      .filter(e => !(e.getAttribute("aria-label") || e.alt || e.textContent.trim() || e.labels?.[0]?.textContent.trim()))
      .map(e => e.outerHTML.slice(0, 80))"""  # noqa: E501
    unreachable = """() => [...document.querySelectorAll(".scroll, pre")]
      .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth && e.tabIndex < 0)
      .map(e => e.outerHTML.slice(0, 80))"""
    with opened(browser, pages / name, viewport={"width": 320, "height": 700}) as page:
        assert page.evaluate(unnamed) == []
        assert page.evaluate(unreachable) == []
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"


def test_the_tables_of_a_board_have_heads_for_the_role_tree(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD) as page:
        table = page.get_by_role("region", name="Systems", exact=True).get_by_role("table")
        assert table.get_by_role("columnheader", name="Fréchet distance").count() == 1
        assert table.get_by_role("rowheader", name="Painter").count() == 1
        assert page.get_by_role("combobox", name="Tier").count() == 1
        assert (
            page.get_by_role("link", name="Painter").first.get_attribute("href") == "../methods/painter.html"
        )


def test_columns_sort_by_keyboard_and_survive_a_reload(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD) as page:
        best_first = ["half-done", "painter", "twin", "blur", "no-classes"]
        everybody = page.locator("tbody.rows tr th small:first-of-type").all_inner_texts()
        assert [text.split()[0] for text in everybody] == ["original", *best_first, "copy-input"]
        assert order(page) == best_first
        column = page.locator("th[data-key='frechet_distance']")
        for direction, expected in (("ascending", best_first), ("descending", best_first[::-1])):
            column.locator("button").press("Enter")
            assert column.get_attribute("aria-sort") == direction
            assert order(page) == expected
        assert page.locator("th[aria-sort='descending']").count() == 1
        note = page.locator("#board-note")
        assert note.inner_text() == "Sorted by Fréchet distance, descending."
        assert note.get_attribute("aria-live") == "polite"
        assert page.url.endswith("#sort=frechet_distance.descending")
        page.reload()
        assert order(page) == best_first[::-1]
        assert column.get_attribute("aria-sort") == "descending"


def test_a_missing_value_stands_last_in_both_directions(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD) as page:
        button = page.locator("th[data-key='classification_agreement'] button")
        for direction in ("ascending", "descending"):
            button.press("Enter")
            assert page.url.endswith(f"classification_agreement.{direction}")
            assert order(page)[-1] == "no-classes"


def test_filters_stand_in_the_address_and_a_link_brings_them_back(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD) as page:
        page.get_by_role("combobox", name="Training data").select_option("paintings")
        assert order(page) == ["twin", "no-classes"]
        assert "2 of 5 systems shown" in page.locator("#board-note").inner_text()
        assert page.locator("tbody.rows tr.anchor:visible").count() == 2
        address = page.url
        assert address.endswith("#training=paintings")
        page.get_by_role("button", name="Reset").click()
        assert len(order(page)) == 5
        assert "#" not in page.url
        page.goto("about:blank")
        page.goto(address)
        assert order(page) == ["twin", "no-classes"]
        page.locator("nav a", has_text="Tables").click()  # a link to a section is no state
        assert order(page) == ["twin", "no-classes"]
        page.goto("about:blank")
        page.goto(f"{address.split('#')[0]}#sort=%3Cimg%3E.ascending&tier=none&training=zzz")
        assert len(order(page)) == 5


def test_noise_shares_a_rank_and_the_incomplete_one_says_why(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD) as page:
        ranks = page.locator("tbody.rows td.rank .big").all_inner_texts()
        assert ranks == ["\N{EN DASH}", "1\N{EN DASH}2", "1\N{EN DASH}2", "3", "4"]
        assert "2 tied" in page.locator("tbody.rows tr.leads td.rank").first.inner_text()
        weights = page.locator("tbody.rows tr:not(.anchor) td:nth-child(3) .big").evaluate_all(
            "cells => cells.map(c => getComputedStyle(c).fontWeight)"
        )
        assert weights == ["400", "700", "700", "400", "400"]
        row = page.locator("tbody.rows tr", has_text="not ranked")
        assert row.count() == 1
        assert "Half Done" in row.inner_text()
        assert "30 of 31 images were scored (PB205)" in row.inner_text()


@pytest.mark.parametrize("name", [BOARD, METHOD, "site/index.html"])
def test_a_hostile_name_is_only_a_name(browser: Browser, pages: Path, name: str) -> None:
    with opened(browser, pages / name) as page:
        assert page.get_by_text(HOSTILE, exact=True).count() >= 1
        assert page.locator("script:not([type])").count() == 1
        assert page.locator("img:not([src^='data:'])").count() == 0
        assert page.locator("a[href^='javascript']").count() == 0


def test_hostile_file_names_are_only_names(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / "check.html") as page:
        assert page.get_by_text("<b>.txt").count() == 1
        assert page.locator("main b b").count() == 0


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        (BOARD, ["3.10", "2.80 to 3.40", "1\N{EN DASH}2", "30 of 31", "80 % power", "62.6 M", "1,000"]),
        (METHOD, ["9.80", "9.50 to 10.10", "rank 3 · self-reported", "=1+1"]),
        ("pair.html", ["3.10", "3.12", "not told apart", "photo-0"]),
        ("check.html", ["Refused", "PB201", "PB106", "11", "the outputs answer this set"]),
    ],
)
def test_scripts_off_and_on_paper_everything_is_there(
    browser: Browser, pages: Path, name: str, promised: list[str]
) -> None:
    with opened(browser, pages / name, java_script_enabled=False) as page:
        text = page.locator("main").inner_text()
        assert [part for part in promised if part not in text] == []
        assert page.locator("button:visible, select:visible").count() == 0  # nothing that would do nothing
        paper = pdf_text(page.pdf())
        assert [part for part in promised if part.replace(" ", "") not in paper] == []
        if name == BOARD:
            assert "booktabs" in paper  # closed details are open on paper


def test_the_theme_switch_swaps_every_plot_and_print_is_light(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / BOARD, color_scheme="light") as page:
        count = page.locator("img.on-light").count()
        assert count == 4
        assert page.locator("img.on-light:visible").count() == count
        page.locator("label", has_text="Dark").click()
        assert page.locator("img.on-dark:visible").count() == count
        assert page.locator("img.on-light:visible").count() == 0
        page.emulate_media(media="print")
        assert page.locator("img.on-light:visible").count() == count
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 29, 26)"
        assert page.locator("#filters").is_hidden()


def test_badges_are_drawn(browser: Browser, pages: Path) -> None:
    with opened(browser, pages / METHOD) as page:
        assert page.locator(".badges img").evaluate_all("all => all.every(i => i.naturalWidth > 100)")
    badge = next((pages / "site/badges").glob("*.blur-*.svg"))
    with opened(browser, badge) as page:
        text = page.locator("text").last.text_content()
        assert text == "Fréchet distance 9.80 ±0.30 · rank 3 · self-reported"
