"""The report page with scripts off, printed, themed, read by roles; large cards; images under terms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browsing import CONTRAST, opened, pdf_text
from cards import card_of, make_card, make_scores, make_table
from submissions import plausible, submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.sources import Request
from palette_bench.board.report import MAX_BYTES, ReportOptions, write_report
from palette_bench.core.png import encode
from palette_bench.pages.score_cell import score_cell
from palette_bench.scoring.scorecard import Score, read_scorecard, write_scorecard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.enable_socket  # playwright's event loop asks for a socket pair; nothing is connected

FIRST_PAGE = 1_500_000  # bytes, with every image the browser asks for before anyone scrolls
VOTES = Score(
    value=41.2, low=37.0, high=45.5, interval="twoway-wilson-v1", n=5000, direction="higher", unit="%",
    params={"study": "st_0123456789ab", "display_ms": 3000},
)  # fmt: skip


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the card of 10,000 labelled images of 1,000 classes, with votes; return its path."""
    folder = tmp_path_factory.mktemp("rich")
    table = make_table([f"ILSVRC2012_val_{at:08d}" for at in range(10_000)])
    draws = np.random.default_rng(4)
    table["label"] = draws.integers(0, 1000, len(table))
    table["p_label"] = draws.beta(2, 1, len(table))
    scores = make_scores(len(table)) | {"fool_rate@3s": VOTES}
    write_scorecard(make_card(table, scores=scores), table, folder / "card.json")
    return folder / "card.json"


@pytest.fixture(scope="module")
def page_file(rich: Path) -> Path:
    out = rich.with_name("report.html")
    write_report(rich, out)
    return out


@pytest.fixture(scope="module")
def pictured(smoke_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of 12 images of 256x256 as a folder; return the folder."""
    folder = tmp_path_factory.mktemp("pictured")
    benchset = smoke_sets / "inpainting.freeform-10-20"
    submission = submit(benchset, folder / "sub")
    card = card_of(submission, benchset, folder / "card.json")
    out = folder / "report"
    write_report(card, out, benchset=benchset, submission=submission, options=ReportOptions(format="dir"))
    return out


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return (set, submission, card) on a person's own images, whose terms nobody declared."""
    folder = tmp_path_factory.mktemp("private")
    draws = np.random.default_rng(6)
    (folder / "photos").mkdir()
    for at in range(30):
        pixels = draws.integers(0, 256, (96, 96, 3)).astype(np.uint8)
        (folder / "photos" / f"own-{at:02d}.png").write_bytes(encode(pixels))
    request = Request("folder:mine", folder / "photos")
    generate("palette-mini", "uncropping/right", folder / "set", request=request)
    submission = submit(folder / "set", folder / "sub", plausible)
    return folder / "set", submission, card_of(submission, folder / "set", folder / "card.json")


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def score_texts(card: Path) -> list[str]:
    """Return every value and interval of a card as printed."""
    cells = [score_cell(key, score) for key, score in read_scorecard(card).scores.items()]
    return [text for cell in cells for text in (cell.name, cell.value, cell.interval) if text]


def test_scripts_off_and_printed_every_score_is_there(browser: Browser, rich: Path, page_file: Path) -> None:
    with opened(browser, page_file, java_script_enabled=False) as page:
        text = page.locator("main").inner_text()
        for wanted in score_texts(rich):
            assert wanted in text
        assert page.locator("details.classes").get_attribute("open") is None
        assert page.get_by_role("searchbox").count() == 0  # nothing that would need a script
        printed = pdf_text(page.pdf())
    for wanted in score_texts(rich):
        assert squeezed(wanted) in printed
    with opened(browser, page_file) as page:
        names = page.locator("#class-rows th").all_inner_texts()
    assert len(names) == 1000
    assert all(name in printed for name in names[::100])  # the table was closed on the screen


def test_classes_are_narrowed_and_sorted(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        page.locator("summary").press("Enter")
        box = page.get_by_role("searchbox", name="Find a class")
        rows = page.locator("#class-rows tr")
        box.fill("n0144")
        assert all("n0144" in name for name in rows.locator("visible=true").locator("th").all_inner_texts())
        assert 0 < rows.locator("visible=true").count() < 20
        box.fill("")
        page.get_by_role("button", name="Images", exact=True).press("Enter")
        counts = [
            int(n) for n in rows.locator("td:nth-child(2)").evaluate_all("e => e.map(c => c.dataset.value)")
        ]
        assert counts == sorted(counts)
        assert rows.first.locator(".few").count() == (counts[0] < 8)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_reads_well(browser: Browser, page_file: Path, pictured: Path, scheme: str) -> None:
    for path in (page_file, pictured / "index.html", pictured / "pictures/001.html"):
        with opened(browser, path, color_scheme=scheme, viewport={"width": 320, "height": 700}) as page:
            for details in page.locator("details").all():
                details.evaluate("e => e.open = true")
            if path != page_file:
                page.locator("button.id").first.click()
                page.keyboard.press("?")
            ratios = page.evaluate(CONTRAST)
            assert min(ratios.values()) >= 4.5, ratios
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            assert page.evaluate("document.getElementById('viewer').scrollWidth") <= 320
            assert page.locator("h1").count() == 1
            assert page.locator("html").get_attribute("lang") == "en"


def test_images_are_named_by_role(browser: Browser, pictured: Path) -> None:
    card = read_scorecard(pictured / "scorecard.json")
    with opened(browser, pictured / "pictures/001.html") as page:
        ids = page.locator(".picture .id").all_inner_texts()
        assert ids == sorted(ids)
        for image_id in ids:
            name = re.compile(rf"^Output of {card.method.name} for {image_id}, perceptual distance [\d.]+$")
            assert page.get_by_role("img", name=name).count() == 1
            assert page.get_by_role("img", name=f"Input {image_id}", exact=True).count() == 1
            assert page.get_by_role("img", name=f"Original {image_id}", exact=True).count() == 1
            assert page.get_by_role("button", name=image_id, exact=True).count() == 1


def test_tab_goes_from_the_skip_link_through_the_cards_in_order(browser: Browser, pictured: Path) -> None:
    with opened(browser, pictured / "pictures/001.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    "document.activeElement.matches('button.id') && document.activeElement.textContent"
                )
            )
        ids = page.locator(".picture .id").all_inner_texts()
        assert [name for name in reached if name][: len(ids)] == ids


def test_the_theme_swaps_plots_and_print_is_light(browser: Browser, page_file: Path) -> None:
    def shown(page: Page) -> list[bool]:
        return [page.locator(f"img.on-{theme}").is_visible() for theme in ("light", "dark")]

    with opened(browser, page_file, color_scheme="dark") as page:
        assert shown(page) == [False, True]
        page.locator("label", has_text="Light").click()
        assert shown(page) == [True, False]
        page.locator("label", has_text="Dark").click()
        page.emulate_media(media="print")
        assert shown(page) == [True, False]
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 29, 26)"
        assert page.locator(".picker").is_hidden()
        assert page.evaluate(
            "[...document.querySelectorAll('*')].every(e => getComputedStyle(e).position !== 'sticky')"
        )


def test_a_card_of_ten_thousand_images_fits(browser: Browser, rich: Path, page_file: Path) -> None:
    assert page_file.stat().st_size < MAX_BYTES
    out = rich.with_name("folder")
    write_report(rich, out, options=ReportOptions(format="dir"))
    assert (out / "index.html").stat().st_size < FIRST_PAGE
    assert len(list((out / "pictures").iterdir())) == 50
    with opened(browser, out / "index.html") as page:
        assert page.locator(".leaves a").count() == 50
        page.get_by_role("searchbox", name="Find an image").fill("val_00007654")
        found = page.locator(".found a")
        found.wait_for()
        assert page.locator(".finder output").inner_text() == "1 of 10,000"
        found.click()
        assert page.url.endswith("pictures/039.html#ILSVRC2012_val_00007654")
        assert page.locator(":target .id").inner_text() == "ILSVRC2012_val_00007654"


def test_the_first_page_of_a_folder_loads_little(browser: Browser, pictured: Path) -> None:
    with opened(browser, pictured / "index.html", viewport={"width": 1280, "height": 900}) as page:
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url.removeprefix("file://")))
        page.reload()
        page.wait_for_function("[...document.images].filter(i => i.complete && i.naturalWidth).length > 5")
        files = [Path(name) for name in asked if name[:5] != "data:"]
        assert len(files) > 5  # the page and images in sight
        assert sum(file.stat().st_size for file in files) < FIRST_PAGE
        link = page.get_by_role("link", name="output as PNG").first
        png = pictured / (link.get_attribute("href") or "")
        assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        page.locator("button.id").first.click()
        page.keyboard.press("d")
        assert (
            page.locator(".frame.difference img").first.evaluate("i => i.decode().then(() => i.naturalWidth)")
            == 256
        )


def test_images_under_terms_stay_out_and_come_from_the_reader(
    browser: Browser, private: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    benchset, submission, card = private
    out = tmp_path / "report.html"
    written = write_report(card, out, benchset=benchset, submission=submission)
    assert (written.frame.withheld, written.frame.private) == (True, False)
    text = out.read_text()
    assert "data:image/webp" not in text
    assert set(re.findall(r"data:image/[a-z+]+", text)) == {"data:image/svg+xml"}  # the plot
    (benchset / "reference" / "stranger.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    with opened(browser, out) as page:
        assert page.locator(".picture img").count() == 0
        picker = page.locator(".picker input")
        picker.set_input_files(benchset)
        told = page.locator(".picked")
        told.get_by_text("stranger.png").wait_for()
        ids = set(page.locator(".picture").evaluate_all("e => e.map(c => c.dataset.id)"))
        assert f"Images for {len(ids)} of {len(ids)} ids are shown." in told.inner_text()
        picker.set_input_files(submission)
        page.locator(".picture figure[data-kind=output]").first.wait_for()
        first = page.locator(".picture").first
        assert first.locator("figure").evaluate_all("e => e.map(f => f.dataset.kind)") == [
            "input",
            "output",
            "original",
        ]
        assert all(
            src.startswith("blob:")
            for src in page.locator(".picture img").evaluate_all("e => e.map(i => i.src)")
        )
        assert page.get_by_role("img", name=first.get_attribute("data-output") or "?").count() >= 1
        first.locator("button.id").press("Enter")
        page.keyboard.press("3")
        assert page.locator(".frame img").first.evaluate("i => i.decode().then(() => i.naturalWidth)") == 64
