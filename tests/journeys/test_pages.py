"""From real outputs to pages, through the real command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from cards import card_of, make_scores, write_card
from submissions import original, submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request
from palette_bench.board.image_selection import grid_ids
from palette_bench.board.report import write_report
from palette_bench.core.errors import IncomparableError
from palette_bench.core.png import encode
from palette_bench.core.types import Image
from palette_bench.pages.images import open_gallery
from palette_bench.scoring.scorecard import read_scorecard

RunCli = Callable[..., "CompletedProcess[str]"]


def negative(target: BenchSet, image_id: str) -> Image:
    """Return an output that is wrong everywhere, known pixels included."""
    return 255 - target.reference(image_id)


@pytest.fixture(scope="module")
def scored(smoke_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return (set, submission, card) of inpainting / center128 on 12 images of 256x256."""
    folder = tmp_path_factory.mktemp("scored")
    benchset = smoke_sets / "inpainting.center128"
    submission = submit(benchset, folder / "sub", negative)
    return benchset, submission, card_of(submission, benchset, folder / "card.json")


def test_a_report_shows_the_grid_in_the_order_of_its_rule(
    scored: tuple[Path, Path, Path], run_cli: RunCli, tmp_path: Path
) -> None:
    benchset, submission, card = scored
    done = run_cli("report", card, "--set", benchset, "--submission", submission, "-o", "r.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "r.html\n"
    text = (tmp_path / "r.html").read_text()
    ids = [p.stem for p in (benchset / "reference").iterdir()]
    order = grid_ids(read_scorecard(card).fingerprints.set, ids)
    places = [text.index(f'alt="Input {image_id}"') for image_id in order]
    assert places == sorted(places)
    assert text.count('class="panels"') == 12 + 3 * 4 + 8  # the grid; 4 worst, median, best; 8 by influence
    assert "Previews are compressed with loss" in text
    assert "do not publish" not in text  # public-domain photographs
    assert len(text) < 8_000_000


def test_shown_outputs_have_the_known_pixels_put_back(scored: tuple[Path, Path, Path]) -> None:
    benchset, submission, card = scored
    with open_gallery(read_scorecard(card), benchset, submission) as gallery:
        image_id = gallery.benchset.ids[0]
        mask = gallery.benchset.mask(image_id)
        assert mask is not None
        shown = gallery.output(image_id)
        assert (shown[~mask] == gallery.benchset.input(image_id)[~mask]).all()
        assert (shown[mask] == negative(gallery.benchset, image_id)[mask]).all()


def test_other_outputs_or_another_set_are_refused(
    scored: tuple[Path, Path, Path], smoke_sets: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    benchset, submission, card = scored
    other = smoke_sets / "inpainting.freeform-10-20"
    done = run_cli("report", card, "--set", other, "--submission", submission, "-o", "r.html")
    assert done.returncode == 3
    assert "PB602" in done.stderr
    changed = Path(shutil.copytree(submission, tmp_path / "sub"))
    outputs = sorted((changed / "outputs").iterdir())
    shutil.copyfile(outputs[0], outputs[1])
    outputs[2].write_bytes(b"")
    with pytest.raises(IncomparableError, match="PB602") as caught:
        write_report(card, tmp_path / "r.html", benchset=benchset, submission=changed)
    assert caught.value.problems[0].ids == (outputs[2].stem,)
    assert not (tmp_path / "r.html").exists()


def test_a_report_with_images_is_equal_bytes_twice(
    scored: tuple[Path, Path, Path], run_cli: RunCli, tmp_path: Path
) -> None:
    benchset, submission, card = scored
    args = ("report", card, "--set", benchset, "--submission", submission)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for kind in ("file", "dir"):
        run_cli(*args, "--format", kind, "-o", f"a.{kind}", PYTHONHASHSEED="1", TZ="Asia/Tokyo")
        run_cli(*args, "--format", kind, "-o", f"b.{kind}", PYTHONHASHSEED="2", LANG="C", cwd=elsewhere)
        assert content(tmp_path / f"a.{kind}") == content(elsewhere / f"b.{kind}")


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of every file of a folder, by name."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    assert files
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


def test_forcing_images_under_terms_says_do_not_publish(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "photos").mkdir()
    for at in range(3):
        pixels = np.full((80, 80, 3), 40 * at, np.uint8)
        (tmp_path / "photos" / f"own-{at}.png").write_bytes(encode(pixels))
    request = Request("folder:mine", tmp_path / "photos")
    generate("palette-mini", "uncropping/right", tmp_path / "set", request=request)
    submission = submit(tmp_path / "set", tmp_path / "sub")
    card = card_of(submission, tmp_path / "set", tmp_path / "card.json")
    args = ("report", card, "--set", "set", "--submission", "sub", "-o", "r.html")
    done = run_cli(*args)
    assert "images left out" in done.stderr
    assert "data:image/webp" not in (tmp_path / "r.html").read_text()
    done = run_cli(*args, "--images", "full")
    assert "contains images under dataset terms: do not publish" in done.stderr
    text = (tmp_path / "r.html").read_text()
    assert "images under dataset terms: do not publish" in text
    assert "data:image/webp" in text


def test_every_task_has_a_report(smoke_sets: Path, tmp_path: Path) -> None:
    for name in ("colorization", "jpeg.qf5", "uncropping.right"):
        submission = submit(smoke_sets / name, tmp_path / name, original)
        card = card_of(submission, smoke_sets / name, tmp_path / f"{name}.json")
        out = tmp_path / f"{name}.html"
        write_report(card, out, benchset=smoke_sets / name, submission=submission)
        assert 100_000 < out.stat().st_size < 8_000_000


@pytest.mark.long
def test_cards_become_a_site(run_cli: RunCli, tmp_path: Path) -> None:
    for at, (slug, frechet) in enumerate(
        {"painter": 3.1, "blur": 9.8, "original": 0.2, "copy-input": 14.0}.items()
    ):
        card = write_card(tmp_path, slug, seed=at, scores=make_scores(30, frechet))
        done = run_cli("board", "add", card, "--record", "record")
        assert done.returncode == 0, done.stderr
    assert run_cli("board", "add", card, "--record", "record").returncode == 0  # the same card again
    done = run_cli("board", "build", "record", "-o", "site")
    assert (done.returncode, done.stdout) == (0, "site/index.html\n"), done.stderr
    text = (tmp_path / "site/boards/inpainting.photos-64.center32.html").read_text()
    systems = text[text.index('id="systems"') :]
    names = ["Original", "Painter", "Blur", "Copy Input"]  # in the order of their values
    places = [systems.index(f">{name}<") for name in names]
    assert places == sorted(places)
    assert run_cli("board", "build", "record", "-o", "site", "--check").returncode == 0
    added = write_card(tmp_path, "gan", seed=7, scores=make_scores(30, 6.0))
    run_cli("board", "add", added, "--record", "more")
    done = run_cli("board", "build", "more", "-o", "other", "--min-tier", "verified")
    assert done.returncode == 0, done.stderr
    done = run_cli("board", "diff", "site/leaderboard.json", "other/leaderboard.json")
    assert done.returncode == 0, done.stderr
    here = "palette-mini inpainting / center32 on photos-64"
    assert f"gone   {here}: painter 1\n" in done.stdout
    assert f"new    {here}: gan 1 frechet_distance 6.0, rank none (self-reported;" in done.stdout
    done = run_cli("board", "diff", "site/leaderboard.json", "site/leaderboard.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing changed\n")
    (tmp_path / "site/index.html").write_text("old")
    done = run_cli("board", "build", "record", "-o", "site", "--check")
    assert done.returncode == 3
    assert "index.html" in done.stderr
    assert (tmp_path / "site/index.html").read_text() == "old"  # --check writes nothing
