"""Sources: every layout, every refusal, before anything is written."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from palette_bench.benchset.folders import folder_id, folder_ids
from palette_bench.benchset.generate import generate
from palette_bench.benchset.images import photo_path
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request, Source, drawn_windows, open_source
from palette_bench.benchset.splits import imagenet_id, read_imagenet_labels
from palette_bench.core.errors import SourceError, UsageError
from palette_bench.core.fingerprint import lines_digest, sha256
from palette_bench.core.resources import protocol_file
from palette_bench.tasks.protocol import ImageNetSource, PhotoSource, ProtocolSpec, load

RULES = load("palette-2022")


def jpeg(height: int = 64, width: int = 72) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGB", (width, height), (9, 99, 199)).save(file, "JPEG")
    return file.getvalue()


def folder(protocol: str, images: Path, **options: object) -> Source:
    return open_source(load(protocol), Request("folder:mine", images, **options))  # type: ignore[arg-type]


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    return root


# --- folders


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b c.jpg", "a_b_c"),
        ("ü.png", "_"),
        ("x" * 70 + ".png", "x" * 47 + "-" + sha256(b"x" * 70)[:16]),
        ("x" * 64 + ".png", "x" * 64),
    ],
)
def test_folder_ids(name: str, expected: str) -> None:
    assert folder_id(name) == expected


def test_a_folder_is_walked_in_id_order_whatever_the_depth(tmp_path: Path) -> None:
    write(tmp_path, "b/2.JPG", "a.jpeg", "b/1.png.jpg", "notes.txt")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpeg")
    source = folder("palette-2022", tmp_path)
    assert [p.id for p in source.images] == ["a", "b_1_png", "b_2", "link"]
    assert source.state == "unregistered"


def test_twins_are_all_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "a.png", "B.jpg", "b.jpg")
    with pytest.raises(SourceError) as error:
        folder("palette-2022", tmp_path)
    assert {p.code: p.ids for p in error.value.problems} == {"PB203": ("a",), "PB204": ("b",)}


def test_unreadable_and_small_images_are_all_named(tmp_path: Path) -> None:
    write(tmp_path, "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:-300])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "small.jpg").write_bytes(jpeg(63, 100))
    with pytest.raises(SourceError) as error:
        folder("palette-2022", tmp_path)
    assert [p.code for p in error.value.problems] == ["PB309"] * 3
    assert all(name in str(error.value) for name in ("cut.jpg", "text.png", "small"))


def test_limit_takes_a_subset_that_does_not_depend_on_the_rest(tmp_path: Path) -> None:
    write(tmp_path, *(f"{i}.jpg" for i in range(20)))
    five = {p.id for p in folder("palette-2022", tmp_path, limit=5).images}
    seven = {p.id for p in folder("palette-2022", tmp_path, limit=7).images}
    assert len(five) == 5
    assert five < seven


def test_ids_take_exactly_the_images_they_name_with_their_labels(tmp_path: Path) -> None:
    images = write(tmp_path / "images", *(f"a/{i}.jpg" for i in range(6)))
    (images / "labels.csv").write_text("file,label\n" + "".join(f"{i}.jpg,{i}\n" for i in range(6)))
    (tmp_path / "ids.txt").write_text("a_4\r\n\na_1\n")
    source = folder("palette-2022", images, ids=tmp_path / "ids.txt")
    assert [(p.id, p.label) for p in source.images] == [("a_1", 1), ("a_4", 4)]
    assert source.split_sha256 == lines_digest(["a_1", "a_4"])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", "PB607.*\n.*where.*ids.txt"),
        ("a b\n", "PB607.*\n.*where.*a b"),
        ("a\nb\na\n", "PB203.*\n.*where.*ids.txt"),
        ("a\nA\n", "PB204"),
        ("a\nx\ny\n", "PB201.*2 times\n.*where.*x, y"),
    ],
)
def test_a_list_of_ids_that_cannot_be_met_is_refused(lines: str, problem: str, tmp_path: Path) -> None:
    images = write(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "ids.txt").write_text(lines)
    with pytest.raises(SourceError, match=problem):
        folder("palette-2022", images, ids=tmp_path / "ids.txt")


def test_how_images_were_chosen_is_known(tmp_path: Path) -> None:
    images = write(tmp_path / "images", *(f"{i}.jpg" for i in range(8)))
    (tmp_path / "ids.txt").write_text("3\n5\n")
    chosen = {
        "all": folder("palette-2022", images),
        "subset-v1": folder("palette-2022", images, limit=5),
        "ids": folder("palette-2022", images, ids=tmp_path / "ids.txt"),
        "split": open_source(load("smoke"), Request("smoke-photos")),
    }
    assert {s.selection.rule: (s.selection.candidates, s.selection.limit) for s in chosen.values()} == {
        "all": (8, None),
        "subset-v1": (8, 5),
        "ids": (8, None),
        "split": (12, None),
    }
    assert [source.selection.rule for source in chosen.values()] == list(chosen)


def test_labels_csv_names_images_by_path_or_file_name(tmp_path: Path) -> None:
    write(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "labels.csv").write_text("file,label\na.jpg,7\nimages/b.jpg,999\n")
    assert [p.label for p in folder("palette-2022", tmp_path).images] == [7, 999]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file,label\na.jpg,7\n", "a label for every image"),
        ("file,label\na.jpg,7\nb.jpg,1000\n", "labels in 0..999"),
        ("file,label\na.jpg,7\nb.jpg,tabby cat\n", "write each class as its ImageNet index"),
        ("name,class\n", "columns file and label"),
    ],
)
def test_bad_labels_are_refused(text: str, problem: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SourceError, match=problem):
        folder("palette-2022", tmp_path)


def test_wnid_folders_label_the_small_protocol_only(tmp_path: Path) -> None:
    write(tmp_path, "n01440764/a.jpg", "n15075141/b.jpg")
    assert [p.label for p in folder("palette-mini", tmp_path).images] == [0, 999]
    assert [p.label for p in folder("palette-2022", tmp_path).images] == [None, None]


@pytest.mark.parametrize("name", ["folder:", "folder:Big", "folder:a/b"])
def test_folder_names_are_slugs(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_source(RULES, Request(name, tmp_path))


# --- ImageNet, at the size of one image per class


def small_imagenet(rules: ProtocolSpec) -> tuple[ProtocolSpec, dict[int, int], list[int]]:
    """Return the protocol with ctest10k cut down to one image per class, all labels, and the chosen.

    The chosen are the highest number of each class; none of them is among the dropped ones.
    """
    spec = rules.sources["imagenet-ctest10k"]
    assert isinstance(spec, ImageNetSource)
    dropped = {int(text) for text in protocol_file(rules.id, spec.dropped).split()}
    chosen = [n for n in range(50_000, 0, -1) if n not in dropped][:1000]
    others = sorted(set(range(1, 50_001)) - set(chosen), reverse=True)  # dropped ones first: class of 50,000
    labels = {n: c for c, n in enumerate(chosen)} | {n: i // 49 for i, n in enumerate(others)}
    chosen.sort()
    small = spec.model_copy(
        update={
            "skip": 49_000,
            "names_sha256": lines_digest(f"{imagenet_id(n)}.JPEG" for n in chosen),
            "labels_sha256": lines_digest(str(labels[n]) for n in sorted(labels)),
            "subset_labels_sha256": lines_digest(f"{imagenet_id(n)} {labels[n]}" for n in chosen),
        }
    )
    return rules.model_copy(update={"sources": {"imagenet-ctest10k": small}}), labels, chosen


@pytest.fixture(scope="module")
def imagenet() -> tuple[ProtocolSpec, dict[int, int], list[int]]:
    return small_imagenet(RULES)


def lay_out(form: str, root: Path, labels: dict[int, int], chosen: list[int]) -> Request:
    """Put one tiny image per chosen number, as people have them."""
    listed = root / "val_labels.txt"
    listed.write_text("".join(f"{labels[n]}\n" for n in sorted(labels)))
    images = root / "val"
    images.mkdir()
    files = {n: jpeg(64 + n % 2) for n in chosen}
    if form == "tar":
        with tarfile.open(images / "ILSVRC2012_img_val.tar", "w") as archive:
            for n, data in files.items():
                member = tarfile.TarInfo(f"{imagenet_id(n)}.JPEG")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    for n, data in files.items() if form != "tar" else ():
        parent = images / f"n{labels[n]:08d}" if form == "class folders" else images
        parent.mkdir(exist_ok=True)
        (parent / f"{imagenet_id(n)}.JPEG").write_bytes(data)
    if form == "class folders":
        listed.unlink()
    return Request("imagenet-ctest10k", images)


@pytest.mark.parametrize("form", ["flat", "class folders", "tar"])
def test_imagenet_in_every_layout_gives_the_same_split(
    form: str, imagenet: tuple[ProtocolSpec, dict[int, int], list[int]], tmp_path: Path
) -> None:
    rules, labels, chosen = imagenet
    source = open_source(rules, lay_out(form, tmp_path, labels, chosen))
    assert [(p.id, p.label) for p in source.images] == [(imagenet_id(n), labels[n]) for n in chosen]
    assert source.images[0].place.read() == jpeg(64 + chosen[0] % 2)


def test_missing_and_double_imagenet_images_are_named(
    imagenet: tuple[ProtocolSpec, dict[int, int], list[int]], tmp_path: Path
) -> None:
    rules, labels, chosen = imagenet
    request = lay_out("flat", tmp_path, labels, chosen)
    (tmp_path / "val" / f"{imagenet_id(chosen[3])}.JPEG").unlink()
    write(tmp_path / "val", f"again/{imagenet_id(chosen[5])}.JPEG")
    with pytest.raises(SourceError) as error:
        open_source(rules, request)
    found = {p.code: p.ids for p in error.value.problems}
    assert found == {"PB201": (imagenet_id(chosen[3]),), "PB203": (imagenet_id(chosen[5]),)}


def test_a_resized_copy_is_refused_unless_allowed(
    imagenet: tuple[ProtocolSpec, dict[int, int], list[int]], tmp_path: Path
) -> None:
    rules, labels, chosen = imagenet
    request = lay_out("flat", tmp_path, labels, chosen)
    for n in chosen:
        (tmp_path / "val" / f"{imagenet_id(n)}.JPEG").write_bytes(jpeg())
    with pytest.raises(SourceError, match="a resized copy"):
        open_source(rules, request)
    allowed = Request(request.id, request.images, allow_unknown=True)
    assert len(open_source(rules, allowed).images) == 1000


def test_places_takes_its_split_from_the_list_and_no_labels(tmp_path: Path) -> None:
    listed = tmp_path / "places365_val.txt"
    names = [f"Places365_val_{i:08d}.jpg" for i in range(1, 9)]
    listed.write_text("".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))
    spec = RULES.sources["places10k-r1"].model_copy(
        update={"per_class": 3, "list_md5": hashlib.md5(listed.read_bytes()).hexdigest()}
    )
    images = tmp_path / "val_large"
    images.mkdir()
    for i, name in enumerate(names):
        (images / name).write_bytes(jpeg(64 + i))
    rules = RULES.model_copy(update={"sources": {"places10k-r1": spec}})
    source = open_source(rules, Request("places10k-r1", images))
    assert [p.id for p in source.images] == [name.removesuffix(".jpg") for name in names[:6]]
    assert {p.label for p in source.images} == {None}
    assert source.ignored == 2


# --- bundled photographs


def test_the_256_windows_are_the_published_ones() -> None:
    rules = load("palette-mini")
    spec = rules.sources["photos-64"]
    assert isinstance(spec, PhotoSource)
    data = {name: photo_path(photo.file).read_bytes() for name, photo in spec.photos.items()}
    windows = drawn_windows(rules, "photos-64", spec, data)
    lines = (f"{i} {w.height} {w.top} {w.left}" for i, w in windows.items())
    assert lines_digest(lines)[:16] == "b3d2c2b2c9d303e1"


def test_the_bundled_photographs_are_registered() -> None:
    assert open_source(load("smoke"), Request("smoke-photos")).state == "registered"


def test_of_bundled_photographs_a_part_may_be_taken() -> None:
    every, part = (open_source(load("smoke"), Request("smoke-photos", limit=n)) for n in (None, 3))
    assert {p.id for p in part.images} < {p.id for p in every.images}
    assert (part.state, part.selection.rule, part.selection.candidates) == ("unregistered", "subset-v1", 12)
    whole = open_source(load("smoke"), Request("smoke-photos", limit=12))
    assert (whole.state, whole.split_sha256) == ("registered", every.split_sha256)


def test_fixed_sources_take_no_limit_and_unknown_ones_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--limit"):
        open_source(load("palette-2022"), Request("places10k", tmp_path, limit=3))
    with pytest.raises(UsageError, match="--ids"):
        open_source(load("smoke"), Request("smoke-photos", ids=Path("ids.txt")))
    with pytest.raises(UsageError, match="--limit and --ids"):
        open_source(load("smoke"), Request("folder:mine", limit=3, ids=Path("ids.txt")))
    with pytest.raises(SourceError, match="did you mean smoke-photos"):
        open_source(load("smoke"), Request("smoke-photo"))


# --- what strangers' folders hold ---


@pytest.mark.trust("images: passed over")
def test_links_are_followed_and_what_is_passed_over_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    write(elsewhere, "c.jpg", "deep/d.JPG")
    write(root, "a.jpg", ".hidden.jpg", ".cache/x.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "._a.jpg")
    for name in ("b.webp", "b.HEIC", "notes", "b.tif"):
        (root / name).touch()
    (root / "linked").symlink_to(elsewhere)
    (root / "circle").symlink_to(root)
    (root / "e.jpg").symlink_to(elsewhere / "c.jpg")
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with caplog.at_level("INFO"):
        source = folder("palette-2022", root)
    assert [p.id for p in source.images] == ["a", "e", "linked_c", "linked_deep_d"]
    (said,) = caplog.messages
    for words in (
        *("2 hidden files", "2 hidden folders", "1 .webp", "1 .heic", "1 .tif", "1 files without suffix"),
        *("1 broken links", "1 folders reached twice", "4 images"),
    ):
        assert words in said


@pytest.mark.trust("images: passed over")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: [(p / f"{i}.webp").touch() for i in range(3)], "none; 3 .webp"),
        (lambda p: None, "nothing at all"),
        (lambda p: (p / "a.jpg").symlink_to("nowhere"), "broken links"),
    ],
)
def test_a_folder_without_images_tells_what_lies_there(
    make: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    make(tmp_path)
    for source in ("folder:mine", "imagenet-ctest10k"):
        with pytest.raises(SourceError, match=told):
            open_source(load("palette-2022"), Request(source, tmp_path))


@pytest.mark.trust("images: passed over")
@pytest.mark.parametrize(
    ("name", "told"),
    [("a.zip", "unpack it"), ("a.jpg", "give the folder that holds it"), ("*.jpg", "a pattern such as")],
)
def test_what_is_no_folder_is_told(name: str, told: str, tmp_path: Path) -> None:
    if "*" not in name:
        (tmp_path / name).write_bytes(jpeg())
    with pytest.raises(SourceError, match=told):
        open_source(load("palette-2022"), Request("folder:mine", tmp_path / name))


@pytest.mark.trust("images: passed over")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jpg", "closed/b.jpg")
    scan = os.scandir

    def refuses(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(SourceError, match=r"PB801[\s\S]*closed"):
        folder("palette-2022", tmp_path)


@pytest.mark.trust("images: names")
def test_names_of_one_length_in_other_scripts_have_ids_of_their_own() -> None:
    ids = folder_ids(["海.png", "山.png", "b/é.png", "b/è.png", "a b.png", "café.png"])
    assert ids["a b.png"] == "a_b"
    assert ids["café.png"] == "caf_"  # alone, as it always was
    assert ids["海.png"] == f"_-{sha256('海'.encode())[:16]}"
    assert len({i.casefold() for i in ids.values()}) == 6


@pytest.mark.trust("images: names")
def test_plain_names_that_collide_are_still_refused(tmp_path: Path) -> None:
    write(tmp_path, "a b.jpg", "a_b.jpg")
    with pytest.raises(SourceError, match="PB203"):
        folder("palette-2022", tmp_path)


@pytest.mark.trust("images: names")
def test_a_set_is_made_of_names_that_are_no_utf8(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in (b"\xe9.jpg", b"\xff.jpg", "\u6d77.jpg".encode()):
        Path(os.fsdecode(os.fsencode(images) + b"/" + name)).write_bytes(jpeg(80, 90))
    for _ in range(2):  # made, and taken up again
        (made,) = generate(
            "palette-mini", "jpeg/qf5", tmp_path / "set", request=Request("folder:mine", images)
        )
    assert len(BenchSet.open(made.folder).ids) == 3
    assert made.redone == 0


@pytest.mark.trust("images: lists")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,klass\na.jpg,1\n", "found     file, klass"),
        ("file,label\na.jpg,1\na.jpg,2\nb.jpg,3\n", "line 3: a.jpg 1 and 2"),
        ("file,label\na.jpg,cat\nb.jpg,3\n", "line 2: a.jpg cat"),
        ("file,label\na.jpg,1\n", "b.jpg"),
        ("", "an empty file"),
        ("PK\x03\x04", "an Excel workbook"),
    ],
)
def test_a_table_of_labels_that_cannot_be_meant_is_told_by_line(text: str, told: str, tmp_path: Path) -> None:
    write(tmp_path / "in", "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(SourceError, match=re.escape(told)):
        folder("palette-2022", tmp_path / "in", labels=tmp_path / "l.csv")


@pytest.mark.trust("images: names")
def test_accents_stored_apart_make_the_same_ids_and_find_their_labels(tmp_path: Path) -> None:
    """As archives from a Mac hold them."""
    apart, composed = "cafe\u0301.jpg", "caf\u00e9.jpg"
    for home, name in (("mac", apart), ("linux", composed)):
        write(tmp_path / home, name)
        (tmp_path / home / "labels.csv").write_text(f"file,label\n{composed if home == 'mac' else apart},7\n")
    found = [folder("palette-2022", tmp_path / home).images for home in ("mac", "linux")]
    assert [(p.id, p.label) for (p,) in found] == [("caf_", 7)] * 2
    (tmp_path / "ids.txt").write_text(apart)
    assert [p.id for p in folder("palette-2022", tmp_path / "linux", ids=tmp_path / "ids.txt").images] == [
        "caf_"
    ]
    write(tmp_path / "mac", composed)
    with pytest.raises(SourceError, match="PB203"):
        folder("palette-2022", tmp_path / "mac")


@pytest.mark.trust("images: lists")
def test_labels_are_read_as_a_spreadsheet_saves_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in", "a.jpg", "b.jpg")
    text = "# of the trip\nFile;Label\na.jpg;7\na.jpg;7\n# more\n./b.jpg;08\n;;\ngone.jpg;3\n"
    (tmp_path / "l.csv").write_bytes(text.encode("utf-16"))
    with caplog.at_level("INFO"):
        source = folder("palette-2022", tmp_path / "in", labels=tmp_path / "l.csv")
    assert [p.label for p in source.images] == [7, 8]
    assert "1 rows name missing files, first in line 8: gone.jpg" in caplog.text


@pytest.mark.trust("images: lists")
@pytest.mark.parametrize("text", ["a\nb\n", "\ufeffa.jpg\r\nb.jpg\r\n", "# two\na\n\nin/b.jpg\n"])
def test_a_list_of_ids_may_be_of_files(text: str, tmp_path: Path) -> None:
    write(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "ids.txt").write_bytes(text.encode())
    source = folder("palette-2022", tmp_path / "in", ids=tmp_path / "ids.txt")
    assert [p.id for p in source.images] == ["a", "b"]


@pytest.mark.trust("images: lists")
@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("sub/a.jpg", "sub_a"),
        ("./sub/a.jpg", "sub_a"),
        ("sub\\a.jpg", "sub_a"),
        ("a.jpg", "a"),
        ("x.1.jpg", "x_1"),
        ("other/a.jpg", None),
    ],
)
def test_a_path_in_a_list_is_never_cut_to_its_file_name(line: str, taken: str | None, tmp_path: Path) -> None:
    write(tmp_path / "in", "a.jpg", "sub/a.jpg", "x.1.jpg")
    (tmp_path / "ids.txt").write_text(line)
    if taken is None:
        with pytest.raises(SourceError, match="PB201"):
            folder("palette-2022", tmp_path / "in", ids=tmp_path / "ids.txt")
    else:
        source = folder("palette-2022", tmp_path / "in", ids=tmp_path / "ids.txt")
        assert [p.id for p in source.images] == [taken]


@pytest.mark.trust("images: lists")
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file beside the ground truth"),
        (b"MATLAB 5.0 MAT-file" + bytes(99), "damaged"),
        (b"", "damaged"),
    ],
)
def test_imagenet_s_own_kit_without_a_sound_table_of_classes_is_told(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text("\n".join(map(str, range(1, 1001))))
    if content is not None:
        (tmp_path / "meta.mat").write_bytes(content)
    with pytest.raises(SourceError, match=rf"PB607[\s\S]*{told}"):
        read_imagenet_labels(path)
