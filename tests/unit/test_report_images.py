"""Images of a report: how many, how large, whose terms, and the rules they are chosen by."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from cards import make_card, make_scores, make_table, write_card

from palette_bench.board.image_selection import (
    ImageCounts,
    ImageSelection,
    PickedImage,
    decimals,
    extremes,
    grid_ids,
    grid_rule,
    labels,
    ranked_picks,
)
from palette_bench.board.report import MAX_BYTES, MAX_CARDS_JPEG, ReportOptions, page, write_report
from palette_bench.board.report_content import ReportContent, cautions, class_rows
from palette_bench.core.errors import StorageError, UsageError
from palette_bench.core.intervals import wilson
from palette_bench.core.png import decode_strict
from palette_bench.core.types import Image, ImageId, Mask
from palette_bench.pages.images import (
    Gallery,
    PreviewFiles,
    Previews,
    embedded_preview,
    outline,
    redistributable,
)
from palette_bench.pages.text import NOTHING
from palette_bench.scoring.scorecard import Score, write_scorecard


@dataclass
class Images:
    """A set and submission whose images come from a number generator: noise, which compresses worst."""

    side: int = 64
    degradation: str = "gray-v1"

    @property
    def manifest(self) -> SimpleNamespace:
        return SimpleNamespace(degradation=self.degradation)

    def input(self, image_id: ImageId) -> Image:
        return self._draw(image_id, 1)

    def output(self, image_id: ImageId) -> Image:
        return self._draw(image_id, 2)

    def reference(self, image_id: ImageId) -> Image:
        return self._draw(image_id, 3)

    def mask(self, image_id: ImageId) -> Mask | None:
        return None

    def _draw(self, image_id: ImageId, kind: int) -> Image:
        draws = np.random.default_rng([kind, *image_id.encode()])
        return draws.integers(0, 256, (self.side, self.side, 3)).astype(np.uint8)


def gallery(side: int = 64, degradation: str = "gray-v1") -> Gallery:
    source = Images(side, degradation)
    return cast("Gallery", SimpleNamespace(side=side, benchset=source, output=source.output))


def labelled(n: int) -> pd.DataFrame:
    """Return a table with every column by which images are picked."""
    table = make_table([f"p{at:05d}" for at in range(n)])
    draws = np.random.default_rng(2)
    return table.assign(label=draws.integers(0, 5, n), p_label=draws.beta(2, 1, n))


def card_on(
    table: pd.DataFrame, task: str = "inpainting", variant: str | None = "center32", **more: Any
) -> Any:
    return make_card(table, task=task, variant=variant, scores=make_scores(len(table)), **more)


def shown(text: str) -> int:
    return text.count('<div class="panels">')


def test_a_full_page_holds_80_cards_and_says_nothing_of_it() -> None:
    table = labelled(200)
    text, frame = page(ReportContent(card_on(table), table), gallery())
    assert shown(text) == 24 + 24 + 24 + 8
    assert "One file holds at most" not in text
    assert (frame.side, frame.lossy, frame.private) == (64, False, False)
    assert "compressed with loss" not in text


def test_the_jpeg_task_halves_the_cards_and_says_so() -> None:
    table = labelled(200)
    text, _ = page(ReportContent(card_on(table, "jpeg", "qf5"), table), gallery(degradation="jpeg-v1"))
    assert shown(text) == 12 + 12 + 12 + 4 <= MAX_CARDS_JPEG
    assert "One file holds at most 48 images and 8 MB" in text
    assert "4 images per list instead of 8, and 12 in the grid instead of 24" in text
    assert "takes the first 12;" in text


@pytest.mark.long
def test_images_that_do_not_compress_become_small() -> None:
    table = labelled(60)
    text, frame = page(ReportContent(card_on(table), table), gallery(side=512))
    assert len(text) <= MAX_BYTES
    assert frame.side == 96
    assert "all of them small" in text


def test_thumbs_are_96_pixels() -> None:
    previews = Previews(gallery(side=256), embedded_preview, "thumbs")
    assert previews.side == 96
    assert len(previews.panels("a").output.address) < len(
        Previews(gallery(side=256), embedded_preview).panels("a").output.address
    )
    assert Previews(gallery(side=64), embedded_preview, "thumbs").side == 64  # nothing is enlarged


def test_files_are_named_by_content_and_twins_are_exact() -> None:
    store = PreviewFiles()
    panels = Previews(gallery(side=128), store, exact=True).panels("a")
    assert re.fullmatch(r"img/([0-9a-f]{2})/\1[0-9a-f]{14}\.webp", panels.output.address)
    twin, _ = decode_strict(store.files[panels.output.exact], 128, 128, 3)
    assert (twin == Images(128).output("a")).all()
    before = dict(store.files)
    assert Previews(gallery(side=128), store, exact=True).panels("a") == panels
    assert store.files == before
    assert Previews(gallery(side=64), store, exact=True).panels("a").output.exact == ""  # nothing was lost


def sides(mask: Mask) -> set[tuple[int, int, int, int]]:
    """Return every unit edge between hole and the rest, by hand: (x, y, dx, dy)."""
    height, width = mask.shape
    at = {(y, x) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = set()
    for y in range(height + 1):
        for x in range(width + 1):
            if ((y, x) in at) != ((y - 1, x) in at):
                found.add((x, y, 1, 0))
            if ((y, x) in at) != ((y, x - 1) in at):
                found.add((x, y, 0, 1))
    return found


def test_the_outline_is_every_edge_of_the_hole_once() -> None:
    draws = np.random.default_rng(5)
    for mask in (draws.random((9, 9)) < 0.5, np.ones((9, 9), bool), np.zeros((9, 9), bool)):
        drawn = []
        for x, y, way, n in re.findall(r"M(\d+) (\d+)([hv])(\d+)", outline(mask)):
            for step in range(int(n)):
                drawn.append(
                    (int(x) + step * (way == "h"), int(y) + step * (way == "v"), way == "h", way == "v")
                )
        assert len(drawn) == len(set(drawn))
        assert set(drawn) == sides(mask)


def test_the_whole_image_as_a_hole_is_one_rectangle() -> None:
    assert outline(np.ones((64, 64), bool)) == "M0 0h64M0 64h64M0 0v64M64 0v64"


def test_lists_by_the_probability_of_the_class_put_the_least_sure_first() -> None:
    table = labelled(30)
    found = extremes(ranked_picks(table, "p_label", lower=False))
    by_hand = table.sort_values("p_label")["image_id"].tolist()
    assert [pick.image_id for pick in found.worst] == by_hand[:8]
    assert [pick.image_id for pick in found.best] == by_hand[::-1][:8]


def test_equal_values_stand_by_id_and_numbers_that_are_none_are_left_out() -> None:
    table = pd.DataFrame({"image_id": ["c", "a", "b", "d"], "p_label": [1.0, 1.0, np.inf, np.nan]})
    assert [pick.image_id for pick in ranked_picks(table, "p_label", lower=False)] == ["a", "c"]


def test_the_largest_influences_are_listed_largest_first() -> None:
    table = labelled(40)
    chapters = ImageSelection(card_on(table), table, None).select(ImageCounts()).chapters
    assert [chapter.title for chapter in chapters] == [
        "By perceptual distance", "By the probability of the class", "By influence on the Fréchet distance",
    ]  # fmt: skip
    listed = [card.image_id for card in chapters[-1].lists[0].cards]
    assert listed == table.sort_values("fid_influence", ascending=False)["image_id"].tolist()[:8]


def test_the_grid_is_the_same_for_every_method_and_order_of_files() -> None:
    table, other = labelled(60), labelled(60).iloc[::-1].assign(perceptual_distance=1.0)
    grids = [
        [card.image_id for card in ImageSelection(card_on(t, **more), t, None).select(ImageCounts()).grid]
        for t, more in ((table, {}), (other, {"method": {"name": "another"}}))
    ]
    assert grids[0] == grids[1] == grid_ids(card_on(table).fingerprints.set, table["image_id"])
    assert "seed 3, non-standard" in grid_rule(24, 3)
    assert "non-standard" not in grid_rule(24)


def test_an_output_is_described_by_rule() -> None:
    table = labelled(3).assign(label=[0, 999, None], perceptual_distance=[43.12, 9.0, 2.0])
    cards = list(ImageSelection(card_on(table), table, None).cards(["p00000", "p00002"]))
    assert cards[0].alt == "Output of Painter for p00000, class n01440764, perceptual distance 43.1"
    assert cards[1].alt == "Output of Painter for p00002, perceptual distance 2.0"
    assert labels(card_on(table, protocol="palette-2022"), table) == {"p00000": "0", "p00001": "999"}


def test_classes_are_counted_with_their_wilson_interval() -> None:
    table = make_table([f"p{at:02d}" for at in range(20)]).assign(
        label=[1] * 9 + [2] * 7 + [None] * 4, top1=[1] * 6 + [0] * 14, perceptual_distance=np.arange(20.0)
    )
    one, two = class_rows(card_on(table), table, 2)
    assert (one.name, one.n, one.accuracy, one.distance, one.few) == ("n01443537", 9, "67 %", "4.00", False)
    reach = wilson(6, 9)
    assert one.interval == f"{100 * reach.low:.0f} to {100 * reach.high:.0f}"
    assert (two.n, two.accuracy, two.few) == (7, "0 %", True)
    assert class_rows(card_on(table), table.assign(label=None), 2) == []
    bare = class_rows(card_on(table), table[["image_id", "label"]], 2)
    assert [(row.n, row.accuracy, row.interval, row.distance) for row in bare] == [
        (9, NOTHING, "", NOTHING),
        (7, NOTHING, "", NOTHING),
    ]


def test_a_page_opens_with_the_clearest_image_of_the_best_quarter() -> None:
    table = make_table([f"p{i:05d}" for i in range(40)])
    best = table.sort_values("perceptual_distance")["image_id"].to_list()
    table.loc[table["image_id"] == best[7], "is_kl"] = 99.0
    table.loc[table["image_id"] == best[12], "is_kl"] = 999.0  # not among them
    for kept, expected in ((table, best[7]), (table.drop(columns="is_kl"), best[0])):
        hero = ImageSelection(card_on(kept), kept, None).select(ImageCounts()).hero
        assert hero is not None
        assert hero.image_id == expected


def test_cautions_come_first_and_only_where_there_is_cause() -> None:
    table = labelled(10)
    assert cautions(card_on(table)) == []
    card = make_card(
        table, n_expected=12, training={"saw_test_images": "yes"},
        scores=make_scores(10, notes=("random-weights", "rank-deficient")),
    )  # fmt: skip
    assert [caution.title for caution in cautions(card)] == ["Incomplete.", "Not a ranking.", "Saw the test."]
    assert cautions(card)[0].text == "2 of 12 images were not scored."


def test_terms_are_those_of_the_source() -> None:
    table = labelled(5)
    assert redistributable(card_on(table))
    assert not redistributable(card_on(table, source="folder:mine"))
    assert not redistributable(card_on(table, protocol="palette-2022", source="imagenet-ctest10k"))


def test_votes_are_shown_with_their_study_in_a_sentence(tmp_path: Path) -> None:
    votes = Score(
        value=41.2, low=37.0, high=45.5, n=5000, direction="higher", unit="%", params={"raters": 100}
    )
    write_report(write_card(tmp_path, scores=make_scores(30) | {"fool_rate@3s": votes}), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    part = text[text.index('<section id="votes">') :]
    assert "Fool rate, 3s" in part
    assert "5,000 trials of 100 raters" in part
    assert text.count("Fool rate, 3s") == 1  # not among the diagnostics


def test_images_asked_for_without_folders_are_refused(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    for images in ("full", "thumbs"):
        with pytest.raises(UsageError, match="--set and --submission"):
            write_report(card, tmp_path / "r.html", options=ReportOptions(images=cast("Any", images)))


def test_a_folder_has_pages_of_200_an_index_and_the_card(tmp_path: Path) -> None:
    table = labelled(450)
    write_scorecard(card_on(table), table, tmp_path / "card.json")
    out = tmp_path / "report"
    for _ in range(2):  # an earlier report is replaced
        written = write_report(tmp_path / "card.json", out, options=ReportOptions(format="dir"))
        (out / "left-over").touch()
    assert written.page == out / "index.html"
    write_report(tmp_path / "card.json", out, options=ReportOptions(format="dir"))
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "find/001.js", "find/002.js", "find/003.js", "index.html",
        "pictures/001.html", "pictures/002.html", "pictures/003.html",
        "scorecard.images.csv.gz", "scorecard.json",
    ]  # fmt: skip
    text = (out / "find/003.js").read_text()
    shard = json.loads(text.removeprefix("PB.load(").removesuffix(");\n"))
    assert shard["page"] == "pictures/003.html"
    assert [row[0] for row in shard["rows"]] == [f"p{at:05d}" for at in range(400, 450)]
    assert (out / "pictures/002.html").read_text().count('<li class="picture"') == 200
    assert "Images 401 to 450" in (out / "index.html").read_text()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(StorageError, match="PB809"):
        write_report(write_card(tmp_path), out, options=ReportOptions(format="dir"))
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_decimals_show_three_digits() -> None:
    assert [decimals([PickedImage("a", value, 0.0)]) for value in (0.0, 0.012, 0.9, -43.1, 999.0)] == [
        0,
        4,
        3,
        1,
        0,
    ]
