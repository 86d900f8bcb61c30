"""Pages in a real browser, from files, offline: no request, no error, both themes, narrow, scripts off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import CONTRAST, open_page
from cards import card_of, make_scores, write_card
from submissions import original, submit
from votes import STUDY, crowd_of, session

from palette_bench.board.record import add_card
from palette_bench.board.report import write_report
from palette_bench.board.site import build_site
from palette_bench.study.analysis import analyse
from palette_bench.study.analysis_report import analysis_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.enable_socket  # playwright's event loop asks for a socket pair; nothing is connected

NAMES = ("report.html", "site/index.html", "site/boards/inpainting.photos-64.center32.html", "study.html")


@pytest.fixture(scope="module")
def pages(smoke_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a report with images and a site with a hostile name."""
    folder = tmp_path_factory.mktemp("pages")
    benchset = smoke_sets / "uncropping.right"
    submission = submit(benchset, folder / "sub", original)
    card = card_of(
        submission, benchset, folder / "card.json", scores=make_scores(12, notes=("random-weights",))
    )
    write_report(card, folder / "report.html", benchset=benchset, submission=submission)
    for at, (slug, frechet) in enumerate(
        {"blur": 9.8, "painter": 3.1, "original": 0.2, "copy-input": 14.0}.items()
    ):
        name = {"method": {"name": "</script><img src=x onerror=alert(1)>{{7*7}}"}} if slug == "blur" else {}
        path = write_card(folder, slug, seed=at, scores=make_scores(30, frechet), **name)
        add_card(path, folder / "record")
    build_site(folder / "record", folder / "site")
    folder.joinpath("study.html").write_text(study_page())
    return folder


def study_page() -> str:
    """Return the analysis of a study with a hostile title and a rater left out."""
    study = STUDY.model_copy(update={"title": "</script><img src=x onerror=alert(1)>{{7*7}}"})
    votes = [*crowd_of(study, dict.fromkeys(study.slugs, 0.4)), *session(20, study=study, rt_ms=1)]
    return analysis_page(analyse(study, votes).analysis)


def shown(page: Page, selector: str) -> list[bool]:
    return [element.is_visible() for element in page.query_selector_all(selector)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_a_word(browser: Browser, pages: Path, name: str, scheme: str) -> None:
    faults: list[str] = []
    page = open_page(browser, pages / name, faults, color_scheme=scheme)
    page.wait_for_load_state("load")
    assert faults == []
    assert page.locator("h1").count() == 1
    assert page.evaluate(
        "[...document.images].every(i => i.complete && i.naturalWidth > 0 || !i.checkVisibility())"
    )
    ratios = page.evaluate(CONTRAST)
    assert min(ratios.values()) >= 4.5, ratios
    for theme in ("light", "dark"):
        assert set(shown(page, f"img.on-{theme}")) <= {theme == scheme}
    page.context.close()


@pytest.mark.parametrize("name", NAMES)
def test_pages_fit_320_pixels(browser: Browser, pages: Path, name: str) -> None:
    page = open_page(browser, pages / name, [], viewport={"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    regions = page.locator("[role=region]").all()
    assert all(region.get_attribute("tabindex") == "0" for region in regions)
    page.context.close()


def test_the_theme_switch_wins_over_the_system(browser: Browser, pages: Path) -> None:
    page = open_page(browser, pages / "report.html", [], color_scheme="light")
    page.locator("label", has_text="Dark").click()
    assert shown(page, "img.on-dark") == [True]
    assert shown(page, "img.on-light") == [False]
    page.emulate_media(media="print")
    assert shown(page, "img.on-light") == [True]
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 29, 26)"
    page.context.close()


@pytest.mark.parametrize("name", NAMES[::2])
def test_scripts_off_every_number_is_there(browser: Browser, pages: Path, name: str) -> None:
    page = open_page(browser, pages / name, [], java_script_enabled=False)
    text = page.locator("main").inner_text()
    for number in ("3.10", "2.80 to 3.40", "61.7 %", "55.6 to 67.5", "Fréchet distance"):
        assert number in text
    page.context.close()


@pytest.mark.parametrize("name", NAMES[2:])
def test_a_hostile_name_is_only_a_name(browser: Browser, pages: Path, name: str) -> None:
    page = open_page(browser, pages / name, [])
    assert page.locator("th, h1", has_text="</script><img src=x onerror=alert(1)>{{7*7}}").count() >= 1
    assert page.locator("script:not([type])").count() == 1
    assert page.locator("img:not([src^='data:'])").count() == 0
    page.context.close()
