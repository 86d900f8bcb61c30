"""The sample viewer: every key, the slider, the difference, the hole's outline, and where focus goes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browsing import opened
from cards import card_of, make_scores
from numpy.typing import NDArray
from PIL import Image as PillowImage
from submissions import submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.board.image_selection import grid_ids
from palette_bench.board.report import write_report
from palette_bench.core.types import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.enable_socket  # playwright's event loop asks for a socket pair; nothing is connected

SHIFT = np.array([9, 30, 80], np.uint8)  # times four, the last is beyond 255


def shifted(target: BenchSet, image_id: str) -> Image:
    """Return the original, each channel moved by another step inside the hole."""
    reference, mask = target.reference(image_id), target.mask(image_id)
    assert mask is not None
    return np.where(mask[:, :, None], reference ^ SHIFT, reference)


@pytest.fixture(scope="module")
def benchset(tmp_path_factory: pytest.TempPathFactory) -> BenchSet:
    out = tmp_path_factory.mktemp("sets") / "set"
    generate("palette-mini", "inpainting/freeform-20-30", out)
    return BenchSet.open(out)


@pytest.fixture(scope="module")
def report(benchset: BenchSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report on lossless images of 64x64."""
    folder = tmp_path_factory.mktemp("viewer")
    submission = submit(benchset.folder, folder / "sub", shifted)
    card = card_of(submission, benchset.folder, folder / "card.json", scores=make_scores(len(benchset.ids)))
    write_report(card, folder / "report.html", benchset=benchset.folder, submission=submission)
    return folder / "report.html"


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """Open the report, and the first card by Enter."""
    with opened(browser, report, viewport={"width": 1280, "height": 900}) as page:
        page.locator("button.id").first.press("Enter")
        assert page.locator("#viewer").is_visible()
        yield page


def pixels(part: Locator) -> NDArray[np.int64]:
    """Return (H, W, 3) of what the screen shows of an element, which stands on whole pixels."""
    box = part.bounding_box()
    assert box
    top, left = round(box["y"]), round(box["x"])
    screen = np.asarray(PillowImage.open(io.BytesIO(part.page.screenshot())).convert("RGB"))
    return screen[top : top + round(box["height"]), left : left + round(box["width"])].astype(np.int64)


def first_id(benchset: BenchSet) -> str:
    return grid_ids(benchset.manifest.set_fingerprint, benchset.ids)[0]


def at_scale_one(page: Page) -> Locator:
    """Zoom to one screen pixel a pixel and return the frame."""
    page.keyboard.press("0")
    for _ in range(4):
        page.keyboard.press("-")
    frame = page.locator(".frame")
    box = frame.bounding_box()
    assert box
    assert (box["width"], box["height"]) == (64, 64)
    return frame


def test_numbers_show_the_panels_in_place(page: Page, benchset: BenchSet) -> None:
    frame, image_id = at_scale_one(page), first_id(benchset)
    mask = benchset.mask(image_id)
    assert mask is not None
    wanted = {
        "1": benchset.condition(image_id),
        "2": shifted(benchset, image_id),
        "3": benchset.reference(image_id),
    }
    for key, image in wanted.items():
        page.keyboard.press(key)
        assert (pixels(frame) == image).all()
        assert page.locator(f'#viewer [data-key="{key}"]').get_attribute("aria-pressed") == "true"
    assert page.locator("#viewer .at").inner_text().startswith("1 of ")
    assert page.locator("#viewer-id").inner_text() == image_id


def test_the_difference_is_four_times_output_against_original(page: Page, benchset: BenchSet) -> None:
    frame, image_id = at_scale_one(page), first_id(benchset)
    page.keyboard.press("d")
    gap = np.abs(shifted(benchset, image_id).astype(int) - benchset.reference(image_id).astype(int))
    assert gap.max() > 64  # some of it saturates
    assert (pixels(frame) == np.minimum(4 * gap, 255)).all()
    page.keyboard.press("D")
    assert (pixels(frame) == shifted(benchset, image_id)).all()


def test_the_slider_moves_by_arrows(page: Page, benchset: BenchSet) -> None:
    at_scale_one(page)
    image_id = first_id(benchset)
    page.keyboard.press("s")
    slider = page.get_by_role("slider", name="Share of the output")
    assert slider.evaluate("e => e === document.activeElement")
    page.keyboard.press("Home")
    reach = [pixels(page.locator(".frame"))]
    page.keyboard.press("End")
    reach.append(pixels(page.locator(".frame")))
    output, original = shifted(benchset, image_id), benchset.reference(image_id)
    inner = slice(2, -2)  # the divider stands on the border
    assert (reach[0][:, inner] == original[:, inner]).all()
    assert (reach[1][:, inner] == output[:, inner]).all()
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "50"
    half = pixels(page.locator(".frame"))
    assert (half[:, :30] == output[:, :30]).all()
    assert (half[:, 34:] == original[:, 34:]).all()
    assert page.locator("#viewer .at").inner_text().startswith("1 of ")  # arrows moved the slider alone
    page.keyboard.press("S")
    assert slider.is_hidden()


def test_the_outline_is_that_of_the_hole(page: Page, benchset: BenchSet) -> None:
    mask = benchset.mask(first_id(benchset))
    assert mask is not None
    page.keyboard.press("m")
    box = page.locator(".outline path").evaluate(
        "p => { const b = p.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; }"
    )
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert page.locator(".outline").evaluate("e => e.getBoundingClientRect().width") == pytest.approx(
        page.locator(".frame").evaluate("e => e.clientWidth")
    )
    page.keyboard.press("m")
    assert page.locator(".outline").is_hidden()


def test_zoom_is_1_2_4_8_and_fit(page: Page) -> None:
    frame = at_scale_one(page)
    widths = [frame.evaluate("e => e.clientWidth")]
    for _ in range(4):
        page.keyboard.press("+")
        widths.append(frame.evaluate("e => e.clientWidth"))
    assert widths == [64, 128, 256, 512, 512]
    assert frame.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    page.keyboard.press("0")
    assert page.locator(".zoom output").inner_text() == "fit"


def test_arrows_walk_and_esc_gives_focus_back(page: Page) -> None:
    ids = page.locator(".picture .id").all_inner_texts()
    title = page.locator("#viewer-id")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == ids[2]
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == ids[1]
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert title.inner_text() == ids[0]  # the first has nothing before it
    page.keyboard.press("?")
    assert page.locator("#viewer-keys").is_visible()
    page.keyboard.press("?")
    assert page.locator("#viewer-keys").is_hidden()
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    assert page.evaluate("document.activeElement.textContent") == ids[0]


def test_a_click_on_an_image_opens_its_card_and_buttons_do_what_keys_do(page: Page) -> None:
    page.locator("#viewer").get_by_role("button", name="Close").click()
    card = page.locator(".picture").nth(4)
    card.locator("figure img").nth(2).click()
    assert page.locator("#viewer-id").inner_text() == card.get_attribute("data-id")
    for name, mode in (("Difference", "difference"), ("Slider", "slider")):
        page.locator("#viewer").get_by_role("button", name=name).click()
        assert mode in (page.locator(".frame").get_attribute("class") or "")
    page.locator("#viewer").get_by_role("button", name="input").click()
    assert (
        page.locator(".frame .under, .frame img").first.get_attribute("alt")
        == f"Input {card.get_attribute('data-id')}"
    )
    page.keyboard.press("Escape")
    focused = (
        "id => document.activeElement.textContent === id"  # the browser gives focus back in its own time
    )
    page.wait_for_function(focused, arg=card.get_attribute("data-id"))
