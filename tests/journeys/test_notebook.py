"""What a person at a Python prompt or in a notebook meets: text paths, short reprs, tables, public names."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cards import write_card
from PIL import Image
from submissions import ready, submit

import palette_bench
from palette_bench.benchset.sources import Request
from palette_bench.board.leaderboard import assemble
from palette_bench.board.record import add_card, read_record


@pytest.mark.trust("people: notebook")
def test_every_path_may_be_text(smoke_sets: Path, tmp_path: Path) -> None:
    folder = str(smoke_sets / "jpeg.qf5")
    target = palette_bench.ContestantSet.open(folder)
    out = str(tmp_path / "sub")
    assert palette_bench.restore(ready("copy-input"), target, out) is not None
    assert palette_bench.check(out, folder).ok
    card = palette_bench.score(out, folder, str(tmp_path / "c.json"), metrics=["psnr"])
    assert palette_bench.Scorecard.read(str(tmp_path / "c.json")) == card
    assert palette_bench.verify(folder) == []
    assert palette_bench.Evaluator(folder, ["fid"], extractors=["smoke-random"]).target.ids == target.ids
    images = str(smoke_sets / "jpeg.qf5" / "reference")
    (made,) = palette_bench.generate(
        "smoke", "jpeg/qf5", str(tmp_path / "set"), request=Request("folder:mine", images)
    )
    assert made.set_fingerprint is not None
    assert made.n == 12


@pytest.mark.trust("people: notebook")
def test_a_set_has_a_length_and_yields_its_examples(smoke_sets: Path) -> None:
    whole = palette_bench.BenchSet.open(smoke_sets / "inpainting.center128")
    public = palette_bench.ContestantSet.open(smoke_sets / "inpainting.center128")
    assert len(whole) == len(public) == len(list(whole)) == 12
    for mine, theirs in zip(whole, public, strict=True):
        assert mine.id == theirs.id
        assert theirs.reference is None
        assert mine.reference is not None
        assert mine.mask is not None
        assert (mine.reference[~mine.mask] == mine.input[~mine.mask]).all()
    assert np.array_equal(whole["coffee"].input, whole.input("coffee"))
    with pytest.raises(KeyError):
        whole["tea"]


@pytest.mark.trust("people: notebook")
def test_what_is_printed_is_short_and_tables_are_escaped(
    smoke_sets: Path, tmp_path: Path, smoke_copy: Callable[[str], Path]
) -> None:
    target = palette_bench.BenchSet.open(smoke_sets / "jpeg.qf5")
    sub = submit(target.folder, tmp_path / "sub", slug="my-method")
    card = palette_bench.score(sub, target.folder, tmp_path / "c.json", metrics=["psnr", "ssim"])
    (sub / "outputs" / "coffee.png").unlink()
    (sub / "outputs" / "<b>.png").write_bytes(b"")
    report = palette_bench.check(sub, target.folder)
    assert (
        repr(target) == f"<BenchSet smoke jpeg/qf5 on smoke-photos, 12 images, {card.fingerprints.set[:12]}>"
    )
    assert repr(card).startswith("<Scorecard my-method 1 on smoke/jpeg/qf5, 12 images: psnr ")
    assert repr(report) == "<CheckReport refused: 11 good outputs, 2 error>"
    for shown in (target, card, card.scores["psnr"], report):
        html = shown._repr_html_()
        assert html.startswith("<table>")
        assert "<b>" not in html
    assert str(card) == repr(card)
    assert "&lt;b&gt;" in report._repr_html_()


@pytest.mark.trust("people: notebook")
def test_a_method_of_ones_own_needs_public_names_alone() -> None:
    about = palette_bench.About(
        palette_bench.Method(slug="mine", name="Mine", version="1", authors=("A",), license="MIT"),
        palette_bench.Training(datasets=(), saw_test_images="no", task_specific=False),
        palette_bench.Sampling(sampler="none"),
        palette_bench.Declared(uses_mask=False, uses_label=False),
    )
    assert about.method.slug == "mine"
    assert set(palette_bench.__all__) >= {"About", "Method", "Scorecard", "BenchSet", "ContestantSet"}


@pytest.mark.trust("people: notebook")
@pytest.mark.parametrize("name", ["jpeg.qf5", "colorization", "inpainting.center128"])
def test_a_set_shows_its_images_small(smoke_sets: Path, smoke_copy: Callable[[str], Path], name: str) -> None:
    whole = palette_bench.BenchSet.open(smoke_sets / name)
    public = palette_bench.ContestantSet.open(smoke_sets / name)
    for opened, strips in ((whole, 2), (public, 1)):
        html = opened._repr_html_()
        addresses = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
        assert len(addresses) == 6 * strips
        assert html.count("<figure>") == strips
        sizes = {Image.open(io.BytesIO(base64.b64decode(address))).size for address in addresses}
        assert sizes == {(96, 96)}
    first = Image.open(io.BytesIO(base64.b64decode(addresses[0]))).convert("RGB")
    expected = Image.fromarray(public.condition(public.ids[0])).resize((96, 96))
    assert np.abs(np.asarray(first, float) - np.asarray(expected, float)).mean() < 8
    moved = palette_bench.BenchSet.open(smoke_copy(name))
    (moved.folder / "input" / f"{moved.ids[0]}.png").unlink()
    assert "<img" not in moved._repr_html_()


@pytest.mark.trust("people: notebook")
def test_a_leaderboard_is_a_table_per_board_with_ranks_intervals_and_anchors(tmp_path: Path) -> None:
    for at, slug in enumerate(("painter", "original", "half")):
        changes = {"n_expected": 31} if slug == "half" else {}
        name = {"method": {"name": "<b>ad</b>"}} if slug == "painter" else {}
        add_card(write_card(tmp_path, slug, seed=at, **changes, **name), tmp_path / "record")
    board = assemble(read_record(tmp_path / "record"))
    html = board._repr_html_()
    assert repr(board) == "<Leaderboard, boards: 1, systems: 2>"
    assert html.startswith(
        "<table><caption>palette-mini: Inpainting, central 32x32 hole, photos-64</caption>"
    )
    assert "<tr><td>ceiling</td><td>Original</td>" in html
    assert "<tr><td>1</td><td>&lt;b&gt;ad&lt;/b&gt;</td>" in html
    assert "<tr><td>\N{EN DASH}</td><td>Half</td>" in html
    assert "3.10 [2.80 to 3.40]" in html
    assert html.count("<table>") == 1
