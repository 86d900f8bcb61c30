"""generate and verify: one fingerprint whatever happens on the way, and every damage named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from palette_bench.benchset import making as module
from palette_bench.benchset.generate import generate, targets_of
from palette_bench.benchset.making import GenerateOptions
from palette_bench.benchset.manifest import BenchSet, ContestantSet, Selection, export_public
from palette_bench.benchset.sources import Request
from palette_bench.benchset.verify import verify
from palette_bench.core.errors import (
    BenchSetError,
    CodecError,
    InputError,
    SourceError,
    SpecError,
    StorageError,
    UsageError,
)
from palette_bench.core.journal import Shard, locked
from palette_bench.core.processes import in_processes
from palette_bench.tasks import canary
from palette_bench.tasks.protocol import load, published_fingerprint, set_folder

ONE = "inpainting/freeform-20-30"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small images of many sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(4)
    for i in range(12):
        pixels = rng.integers(0, 256, (70 + 9 * i, 150 - 3 * i, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"p{i:02d}.{'png' if i % 3 else 'jpg'}")
    return folder


def make(images: Path, out: Path, wanted: str = "all", **options: Any) -> dict[str, str]:
    """Generate palette-mini sets of a folder; return folder name -> set fingerprint of what is finished."""
    request = Request("folder:mine", images)
    finished = generate("palette-mini", wanted, out, request=request, options=GenerateOptions(**options))
    return {d.folder.name: d.set_fingerprint for d in finished if d.set_fingerprint}


@pytest.fixture(scope="session")
def straight(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fingerprints of an undisturbed run in one process."""
    return make(images, tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize(
    ("protocol", "source", "fixture"),
    [
        ("smoke", "smoke-photos", "smoke_sets"),
        pytest.param("palette-mini", "photos-64", "mini_sets", marks=pytest.mark.long),
    ],
)
def test_every_registered_fingerprint_comes_out(
    protocol: str, source: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    sets: Path = request.getfixturevalue(fixture)
    for task, variant in load(protocol).pairs("all"):
        folder = set_folder(task, variant)
        published = published_fingerprint(protocol, source, folder)
        assert published is not None
        assert BenchSet.open(sets / folder).manifest.set_fingerprint.startswith(published)


def test_the_sets_of_palette_2026_have_the_pixels_of_palette_2022(images: Path, tmp_path: Path) -> None:
    old, new = load("palette-2022"), load("palette-2026")
    assert {name: new.tasks[name].model_copy(update={"ranked": ()}) for name in old.tasks} == old.tasks
    assert new.sources == old.sources
    for rules in (old, new):
        generate(rules, "all", tmp_path / rules.id, request=Request("folder:same", images, limit=3))
    for task, variant in old.pairs("all"):
        one, other = (BenchSet.open(tmp_path / r.id / set_folder(task, variant)) for r in (old, new))
        assert one.public.items == other.public.items
        assert one.reference_digests == other.reference_digests
        assert one.manifest.set_fingerprint != other.manifest.set_fingerprint
    assert set(new.pairs("all")) - set(old.pairs("all")) == {
        ("super-resolution", "x4"),
        ("deblurring", "sigma3"),
    }


def test_two_processes_and_any_file_order_make_the_same_sets(
    images: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for path in sorted(images.iterdir(), reverse=True):
        shutil.copy(path, shuffled)
    assert make(shuffled, tmp_path / "sets", workers=2) == straight


def test_shards_in_any_order_make_the_same_sets(
    images: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    assert make(images, tmp_path / "sets", shard=Shard(2, 3)) == {}
    assert make(images, tmp_path / "sets", shard=Shard(0, 3)) == {}
    assert make(images, tmp_path / "sets", shard=Shard(1, 3)) == straight


def test_shards_from_two_machines_merge_by_copying(
    images: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    for i in range(2):
        make(images, tmp_path / f"machine{i}", shard=Shard(i, 2))
    shutil.copytree(tmp_path / "machine1", tmp_path / "machine0", dirs_exist_ok=True)
    assert make(images, tmp_path / "machine0") == straight


def damaged(folder: Path) -> list[str]:
    """Delete one image, cut another and swap two; return the ids that are now wrong."""
    ids = ContestantSet.open(folder).ids
    (folder / "input" / f"{ids[0]}.png").unlink()
    cut = folder / "reference" / f"{ids[1]}.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    first, second = (folder / "reference" / f"{i}.png" for i in ids[2:4])
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    return ids[:4]


def test_damaged_items_are_named_by_verify_and_exactly_they_are_redone(
    images: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    make(images, tmp_path / "set", "jpeg/qf5")
    ids = damaged(tmp_path / "set")
    named = " ".join(str(p) for p in verify(tmp_path / "set"))
    assert all(image_id in named for image_id in ids)
    request = Request("folder:mine", images)
    [done] = generate("palette-mini", "jpeg/qf5", tmp_path / "set", request=request)
    assert done.redone == 4
    assert done.set_fingerprint is not None
    assert done.set_fingerprint == straight["jpeg.qf5"]
    assert verify(tmp_path / "set") == []


def test_verify_names_what_does_not_belong(images: Path, tmp_path: Path) -> None:
    make(images, tmp_path / "set", "jpeg/qf5")
    (tmp_path / "set" / "mask").mkdir()  # a task without holes has none
    (tmp_path / "set" / "input" / "stray.png").touch()
    [found] = verify(tmp_path / "set")
    assert (found.code, found.ids) == ("PB106", ("input/stray.png", "mask"))


def test_a_torn_journal_line_is_redone(images: Path, straight: dict[str, str], tmp_path: Path) -> None:
    make(images, tmp_path / "set", "jpeg/qf5")
    (tmp_path / "set" / "manifest.json").unlink()
    journal = tmp_path / "set" / "journal.0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-25])
    assert make(images, tmp_path / "set", "jpeg/qf5") == {"set": straight["jpeg.qf5"]}


def journalled(sets: Path) -> int:
    """Return how many items the journals of a run name."""
    return sum(len(path.read_bytes().splitlines()) - 1 for path in sets.glob("*/journal.*.jsonl"))


@pytest.mark.parametrize("kills", [1, 2])
def test_killed_runs_resume_to_the_same_sets(
    kills: int, images: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "palette_bench", "generate", "palette-mini", "all", "--source"]
    command += ["folder:mine", "--images", str(images), "-o", str(tmp_path / "sets"), "--workers", "1"]
    for _ in range(kills):
        before = journalled(tmp_path / "sets")
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while journalled(tmp_path / "sets") <= before and run.poll() is None:
            os.sched_yield()
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert make(images, tmp_path / "sets") == straight
    assert not list((tmp_path / "sets").rglob("*.tmp"))


def test_images_hold_three_chunks_and_nothing_else(smoke_sets: Path) -> None:
    for path in sorted((smoke_sets / "inpainting.center128").rglob("*.png")):
        data, at, kinds = path.read_bytes(), 8, []
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            kinds.append(kind)
            at += 12 + length
        assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_a_control_set_has_other_masks_and_the_same_images(images: Path, tmp_path: Path) -> None:
    for rekey in ("", "control"):
        make(images, tmp_path / f"set{rekey}", "inpainting/freeform-20-30", rekey=rekey)
    public, control = (BenchSet.open(tmp_path / name).manifest.items for name in ("set", "setcontrol"))
    assert [i.reference_px for i in public] == [i.reference_px for i in control]
    assert all(a.mask_px != b.mask_px for a, b in zip(public, control, strict=True))


def test_the_public_part_holds_what_contestants_may_see(smoke_sets: Path, tmp_path: Path) -> None:
    export_public(smoke_sets / "inpainting.center128", tmp_path / "public")
    assert {p.name for p in (tmp_path / "public").iterdir()} == {"input", "mask", "public.json"}
    seen = ContestantSet.open(tmp_path / "public")
    whole = BenchSet.open(smoke_sets / "inpainting.center128")
    np.testing.assert_array_equal(seen.condition(seen.ids[0]), whole.condition(whole.ids[0]))


# --- refusals


def test_another_configuration_is_refused(images: Path, tmp_path: Path) -> None:
    make(images, tmp_path / "set", "jpeg/qf5")
    with pytest.raises(InputError, match=r"PB605[\s\S]*variant=qf10[\s\S]*variant=qf5"):
        make(images, tmp_path / "set", "jpeg/qf10")


def test_a_folder_with_foreign_files_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("keep me")
    with pytest.raises(StorageError, match=r"PB809[\s\S]*thesis.tex"):
        make(images, tmp_path, "jpeg/qf5")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_refused(images: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "set"), pytest.raises(StorageError, match="PB803"):
        make(images, tmp_path / "set", "jpeg/qf5")


def test_too_little_space_is_refused_before_writing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "palette_bench.core.atomic.shutil.disk_usage", lambda path: types.SimpleNamespace(free=1000)
    )
    with pytest.raises(StorageError, match="PB804"):
        make(images, tmp_path / "set", "jpeg/qf5")
    assert not list((tmp_path / "set").rglob("*.png"))


def test_an_image_that_breaks_while_decoding_is_named_and_no_set_is_finished(
    images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    data = bytearray((folder / "p01.png").read_bytes())
    data[2000] ^= 255
    (folder / "p01.png").write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"PB309[\s\S]*p01.png"):
        make(folder, tmp_path / "set", "jpeg/qf5")
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_source_problems_are_all_written_down(images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    for i in range(25):
        (folder / f"broken{i}.png").write_text("text")
    with pytest.raises(SourceError, match="PB309"):
        make(folder, tmp_path / "set", "jpeg/qf5")
    [finding] = json.loads((tmp_path / "set" / "source-report.json").read_text())
    assert (finding["code"], finding["count"], len(finding["ids"])) == ("PB309", 25, 25)


def test_a_decoder_that_differs_stops_everything(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = canary.decode
    monkeypatch.setattr(canary, "decode", lambda data: right(data) ^ 1)
    monkeypatch.setattr(canary, "prove", canary.prove.__wrapped__)
    with pytest.raises(CodecError, match="PB701"):
        make(images, tmp_path / "set", "jpeg/qf5")
    assert not (tmp_path / "set").exists()


def test_a_set_that_differs_from_the_published_one_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "published_fingerprint", lambda *names: "0" * 16)
    with pytest.raises(BenchSetError, match="PB606"):
        generate("smoke", "jpeg/qf5", tmp_path / "set")
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_a_task_that_does_not_use_the_source_is_refused() -> None:
    rules = load("palette-2022")
    assert {t.task for t in targets_of(rules, "all", "places10k-r1", Path("x"))} == {
        "inpainting",
        "uncropping",
    }
    with pytest.raises(SpecError, match="PB609"):
        targets_of(rules, "colorization", "places10k-r1", Path("x"))


def _die(chunk: int) -> int:
    signal.raise_signal(signal.SIGKILL)
    return chunk


def test_a_killed_worker_is_an_error_with_advice() -> None:
    with pytest.raises(StorageError, match=r"PB807[\s\S]*resumes"):
        list(in_processes(_die, [1, 2, 3], workers=2))


# --- verify


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: (s / "reference" / "extra.png").write_bytes(b"x"), "reference/extra.png"),
        (lambda s: (s / "notes.txt").write_text("x"), "notes.txt"),
        (lambda s: (s / "public.json").unlink(), "public.json"),
        (lambda s: (s / "mask" / "coffee.png").unlink(), "mask/coffee.png"),
        (lambda s: shutil.copy(s / "mask" / "coffee.png", s / "mask" / "rocket.png"), None),
        (lambda s: shutil.copy(s / "input" / "coffee.png", s / "input" / "rocket.png"), "input/rocket.png"),
    ],
)
def test_verify_names_what_was_changed(
    change: Callable[[Path], object], named: str | None, smoke_copy: Callable[[str], Path]
) -> None:
    folder = smoke_copy("inpainting.center128")
    assert verify(folder) == []
    change(folder)
    named_by_verify = " ".join(str(p) for p in verify(folder))
    assert (named or "") in named_by_verify
    assert bool(named_by_verify) == bool(named)


def test_verify_notices_a_rewritten_manifest(smoke_copy: Callable[[str], Path]) -> None:
    folder = smoke_copy("jpeg.qf5")
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"variant": "qf5"', '"variant": "qf10"'))
    assert "PB602" in " ".join(p.code for p in verify(folder))


def test_an_unfinished_set_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(BenchSetError, match=r"manifest.json[\s\S]*palette-bench generate"):
        BenchSet.open(tmp_path)


# --- selection


def test_a_set_says_how_it_was_chosen_and_its_ids_make_it_again(images: Path, tmp_path: Path) -> None:
    limited = Request("folder:mine", images, limit=5)
    generate("palette-mini", ONE, tmp_path / "a", request=limited)
    first = BenchSet.open(tmp_path / "a").manifest
    assert first.selection == Selection(rule="subset-v1", candidates=12, limit=5)
    (tmp_path / "ids.txt").write_text("".join(f"{item.id}\n" for item in reversed(first.items)))
    request = Request("folder:mine", images, ids=tmp_path / "ids.txt")
    options = GenerateOptions(expect=first.set_fingerprint)
    generate("palette-mini", ONE, tmp_path / "b", request=request, options=options)
    again = BenchSet.open(tmp_path / "b").manifest
    assert again.set_fingerprint == first.set_fingerprint
    assert again.split_sha256 == first.split_sha256
    assert again.selection == Selection(rule="ids", candidates=12)


def test_a_set_that_comes_out_otherwise_than_expected_is_not_finished(images: Path, tmp_path: Path) -> None:
    (made,) = make(images, tmp_path / "a", ONE).values()
    with pytest.raises(BenchSetError, match=f"PB606.*\n.*where.*\n.*expected *{made[:12]}") as caught:
        make(images, tmp_path / "b", ONE, expect=made[:12], rekey="other")
    assert "--ids or --limit" in str(caught.value)
    assert not (tmp_path / "b" / "manifest.json").exists()
    assert make(images, tmp_path / "c", ONE, expect=made[:12]) == {"c": made}
    with pytest.raises(UsageError, match="one set"):
        make(images, tmp_path / "d", "inpainting", expect=made[:12])
    with pytest.raises(UsageError, match="12 to 64"):
        GenerateOptions(expect="beef")


@pytest.mark.trust("archives: litter")
def test_what_a_file_manager_leaves_in_a_set_is_no_damage(
    smoke_copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = smoke_copy("jpeg.qf5")
    for name in (".DS_Store", "input/.DS_Store", "reference/Thumbs.db", "input/._coffee.png"):
        (folder / name).write_bytes(b"x")
    assert verify(folder) == []
    (made,) = generate("smoke", "jpeg/qf5", folder)
    assert made.redone == 0
