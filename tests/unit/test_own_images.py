"""A person's own images: any size, upright, degraded as the task says, never written over."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms
from submissions import ready

from palette_bench.core.errors import InputError, MethodError, UsageError
from palette_bench.core.png import decode_strict, encode
from palette_bench.core.types import Image
from palette_bench.submission.methods import (
    Batch,
    MethodInfo,
    RestoreOptions,
    UserImage,
    load_image_restorer,
)
from palette_bench.submission.training_runs import method_of
from palette_bench.submission.user_images import RestoreRequest, jobs, restore_images
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.jpeg import fast_jpeg

HEIGHT, WIDTH = 24, 40


@dataclass
class Inverts:
    """A model that inverts everything it is given, known pixels too."""

    about: MethodInfo = ready("copy-input").about
    identity: str = "inverts"
    cut: int = 0
    seen: list[tuple[UserImage, str | None]] = field(default_factory=list)

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        raise AssertionError("not asked here")

    def restore_image(self, image: UserImage, policy: str | None) -> Image:
        self.seen.append((image, policy))
        return 255 - image.input[self.cut :]


@pytest.fixture
def image() -> Image:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def source(image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(encode(image))
    return path


def run(source: Path, out: Path, wish: RestoreRequest, model: Inverts | None = None) -> Inverts:
    model = model or Inverts()
    restore_images(model, jobs(source, out, wish), wish)
    return model


def pixels(path: Path) -> Image:
    return np.asarray(PillowImage.open(path))


def test_colorization_sees_gray_and_answers_in_colour(image: Image, source: Path, tmp_path: Path) -> None:
    model = run(source, tmp_path / "out.png", RestoreRequest("colorization", policy="native"))
    ((seen, policy),) = model.seen
    gray = luma(image)
    np.testing.assert_array_equal(seen.input, np.stack([gray] * 3, 2))
    assert (seen.name, seen.task, seen.mask, policy) == ("cat", "colorization", None, "native")
    np.testing.assert_array_equal(pixels(tmp_path / "out.png"), 255 - seen.input)


def test_jpeg_takes_the_image_as_it_is_or_degrades_it_first(
    image: Image, source: Path, tmp_path: Path
) -> None:
    ((as_is, _),) = run(source, tmp_path / "a.png", RestoreRequest("jpeg")).seen
    ((worse, _),) = run(source, tmp_path / "b.png", RestoreRequest("jpeg", quality=5)).seen
    np.testing.assert_array_equal(as_is.input, image)
    np.testing.assert_array_equal(worse.input, fast_jpeg(image, 5))


def test_inpainting_fills_the_white_hole_and_nothing_else(image: Image, source: Path, tmp_path: Path) -> None:
    hole = np.zeros((HEIGHT, WIDTH), np.bool_)
    hole[3:9, 5:30] = True
    (tmp_path / "mask.png").write_bytes(encode(np.where(hole, 255, 0).astype(np.uint8)))
    ((seen, _),) = run(source, tmp_path / "out.png", RestoreRequest("inpainting", tmp_path / "mask.png")).seen
    assert seen.mask is not None
    np.testing.assert_array_equal(seen.mask, hole)
    np.testing.assert_array_equal(seen.input, np.where(hole[:, :, None], np.uint8(127), image))
    np.testing.assert_array_equal(
        pixels(tmp_path / "out.png"), np.where(hole[:, :, None], np.uint8(128), image)
    )


def test_uncropping_extends_as_often_as_asked(image: Image, source: Path, tmp_path: Path) -> None:
    wish = RestoreRequest("uncropping", extend=(("right", 7), ("top", 2)), times=3)
    model = run(source, tmp_path / "out.png", wish)
    assert [p.input.shape for p, _ in model.seen] == [(26, 47, 3), (28, 54, 3), (30, 61, 3)]
    assert len({p.name for p, _ in model.seen}) == 3  # each turn has noise of its own
    output = pixels(tmp_path / "out.png")
    assert output.shape == (30, 61, 3)
    np.testing.assert_array_equal(output[6:, :WIDTH], image)
    second, _ = model.seen[1]
    assert second.mask is not None
    assert second.mask.sum() == 28 * 54 - 26 * 47
    assert (second.input[second.mask] == 127).all()
    np.testing.assert_array_equal(output[2:, :54][~second.mask], second.input[~second.mask])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_comes_out_upright(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = (200, 40, 40)
    stored = PillowImage.fromarray(upright)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that undoes it
    if orientation > 1:
        stored = stored.transpose(PillowImage.Transpose(undo[orientation]))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    ((seen, _),) = run(tmp_path / "photo.png", tmp_path / "out.png", RestoreRequest("jpeg")).seen
    np.testing.assert_array_equal(seen.input, upright)


def test_a_folder_keeps_its_names_and_takes_a_mask_each(image: Image, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png"):
        for place in ("in", "masks"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(image if place == "in" else np.full((HEIGHT, WIDTH), 255, np.uint8)))
    model = run(
        tmp_path / "in", tmp_path / "out", RestoreRequest("inpainting", tmp_path / "masks", large_hole=True)
    )
    assert [p.name for p, _ in model.seen] == ["a", "deep/b"]
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png"))
    assert found == ["a.png", "deep/b.png"]
    run(
        tmp_path / "in",
        tmp_path / "one",
        RestoreRequest("inpainting", tmp_path / "masks" / "a.png", large_hole=True),
    )


@pytest.mark.trust("images: own masks")
def test_masks_of_a_folder_are_found_as_images_are(image: Image, tmp_path: Path) -> None:
    for name, data in (("in/Cat.jpg", image), ("masks/cat.PNG", np.full((HEIGHT, WIDTH), 255, np.uint8))):
        (tmp_path / name).parent.mkdir()
        PillowImage.fromarray(data).save(tmp_path / name)
    (tmp_path / "masks" / "notes.txt").write_text("")
    (job,) = jobs(
        tmp_path / "in", tmp_path / "out", RestoreRequest("inpainting", tmp_path / "masks", large_hole=True)
    )
    assert job.mask == tmp_path / "masks" / "cat.PNG"


@pytest.mark.trust("images: own masks")
def test_a_mask_held_in_an_alpha_channel_is_told_as_a_mask(source: Path, tmp_path: Path) -> None:
    PillowImage.new("RGBA", (WIDTH, HEIGHT)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="without transparency") as caught:
        jobs(source, tmp_path / "out.png", RestoreRequest("inpainting", tmp_path / "mask.png"))
    assert [p.where for p in caught.value.problems] == [str(tmp_path / "mask.png")]


def test_an_output_folder_takes_the_image_s_name(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(source, tmp_path / "out", RestoreRequest("jpeg"))
    assert (tmp_path / "out" / "cat.png").is_file()


@given(height=st.integers(16, 70), width=st.integers(16, 70))
def test_any_size_from_16_pixels_comes_back_at_its_size(
    height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "in.png").write_bytes(encode(np.zeros((height, width, 3), np.uint8)))
    run(folder / "in.png", folder / "out.png", RestoreRequest("jpeg", quality=20))
    assert decode_strict((folder / "out.png").read_bytes(), height, width, 3)


def test_opaque_alpha_is_dropped_and_gray_becomes_colour(tmp_path: Path) -> None:
    for mode in ("RGBA", "LA", "L", "P", "1"):
        PillowImage.new("RGBA", (20, 20), (90, 90, 90, 255)).convert(mode).save(tmp_path / f"{mode}.png")
        run(tmp_path / f"{mode}.png", tmp_path / "out.png", RestoreRequest("jpeg"))
        assert pixels(tmp_path / "out.png").shape == (20, 20, 3)


def test_all_problems_are_told_before_a_pixel_is_made(image: Image, tmp_path: Path) -> None:
    inside, masks = tmp_path / "in", tmp_path / "masks"
    inside.mkdir()
    masks.mkdir()
    good, other = encode(image), encode(np.full((HEIGHT, WIDTH), 255, np.uint8))
    names = ["black", "fine", "half", "no-mask", "small", "torn", "twin", "glass"]
    for name in names:
        (inside / f"{name}.png").write_bytes(good)
        (masks / f"{name}.png").write_bytes(other)
    (inside / "twin.jpg").write_bytes(good)
    (inside / "small.png").write_bytes(encode(image[:15]))
    (masks / "small.png").write_bytes(encode(np.full((15, WIDTH), 255, np.uint8)))
    (inside / "torn.png").write_bytes(good[:200])
    PillowImage.new("RGBA", (WIDTH, HEIGHT)).save(inside / "glass.png")
    (masks / "no-mask.png").unlink()
    (masks / "half.png").write_bytes(encode(np.full((HEIGHT // 2, WIDTH), 255, np.uint8)))
    (masks / "black.png").write_bytes(encode(np.zeros((HEIGHT, WIDTH), np.uint8)))
    with pytest.raises(InputError) as caught:
        jobs(inside, tmp_path / "out", RestoreRequest("inpainting", masks, large_hole=True))
    found = sorted((p.code, Path(p.where.split(", ")[0]).stem) for p in caught.value.problems)
    assert found == [
        ("PB201", "no-mask"),
        ("PB203", "twin"),
        ("PB302", "half"),
        ("PB302", "small"),
        ("PB309", "black"),
        ("PB309", "glass"),
        ("PB309", "torn"),
    ]
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_what_is_read(image: Image, source: Path, tmp_path: Path) -> None:
    for out in (source, tmp_path):
        with pytest.raises(UsageError, match="overwrite an input"):
            jobs(source, out, RestoreRequest("jpeg"))
    with pytest.raises(UsageError, match="overwrite an input"):
        jobs(source, tmp_path / "mask.png", RestoreRequest("inpainting", tmp_path / "mask.png"))
    for out in (tmp_path, tmp_path / "inside"):
        with pytest.raises(UsageError, match="outputs become inputs"):
            jobs(tmp_path, out, RestoreRequest("jpeg"))
    (tmp_path / "link.png").symlink_to(source)
    with pytest.raises(UsageError, match="overwrite an input"):
        jobs(source, tmp_path / "link.png", RestoreRequest("jpeg"))


def test_outputs_are_png(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write to .*out\.png"):
        jobs(source, tmp_path / "out.jpg", RestoreRequest("jpeg"))


def test_a_folder_without_images_and_an_absent_image_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"PB201[\s\S]*images"):
        jobs(tmp_path / "empty", tmp_path / "out", RestoreRequest("jpeg"))
    with pytest.raises(InputError, match=r"PB201[\s\S]*none\.png"):
        jobs(tmp_path / "none.png", tmp_path / "out.png", RestoreRequest("jpeg"))


def test_a_wish_that_cannot_be_meant_is_refused_with_all_reasons(source: Path, tmp_path: Path) -> None:
    wish = RestoreRequest("colorization", mask=source, extend=(("left", 3),), times=2, quality=5)
    with pytest.raises(UsageError, match=r"--mask.*; --extend.*; --times.*; --quality"):
        jobs(source, tmp_path / "out.png", wish)
    with pytest.raises(UsageError, match="inpainting needs --mask"):
        jobs(source, tmp_path / "out.png", RestoreRequest("inpainting"))
    with pytest.raises(UsageError, match="uncropping needs --extend"):
        jobs(source, tmp_path / "out.png", RestoreRequest("uncropping"))


def test_a_model_that_returns_another_size_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="PB613"):
        run(source, tmp_path / "out.png", RestoreRequest("jpeg"), Inverts(cut=1))
    assert not (tmp_path / "out.png").exists()


def test_a_method_of_benchmark_sets_takes_no_images() -> None:
    with pytest.raises(UsageError, match="copy-input restores benchmark sets only"):
        load_image_restorer("copy-input", RestoreOptions())


def test_a_run_tells_its_method_without_being_loaded(tmp_path: Path) -> None:
    import safetensors.numpy

    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    (tmp_path / "run" / "recipe.resolved.toml").write_text('method = "palette"\n[training]\nsteps = 3\n')
    metadata = {"method": "gan", "recipe": "", "step": "10"}
    (checkpoint / "ema.safetensors").write_bytes(safetensors.numpy.save({"w": np.zeros(3)}, metadata))
    assert method_of(tmp_path / "run") == "palette"
    assert method_of(checkpoint) == "gan"
    assert method_of(checkpoint / "ema.safetensors") == "gan"


@pytest.mark.parametrize("content", [None, b"", b"method", b"method = 3\n", bytes(range(256))])
def test_what_is_no_run_is_told(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "recipe.resolved.toml").write_bytes(content)
        (tmp_path / "lone.safetensors").write_bytes(content)
    for path in (tmp_path, tmp_path / "absent", tmp_path / "lone.safetensors"):
        with pytest.raises(UsageError, match="names no method"):
            method_of(path)


def test_an_image_too_large_for_pillow_is_refused_not_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    file = io.BytesIO()
    PillowImage.new("RGB", (40, 40)).save(file, "PNG")
    source.write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"PB309[\s\S]*exceeds limit"):
        jobs(source, tmp_path / "out.png", RestoreRequest("jpeg"))


def profile() -> bytes:
    """Return an RGB profile that is not sRGB: its red and blue are swapped."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")


@pytest.mark.trust("images: colour profile")
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_known_pixels_look_as_they_looked_with_their_colour_profile(
    form: str, image: Image, tmp_path: Path
) -> None:
    source, hole = tmp_path / "p3", np.zeros((HEIGHT, WIDTH), np.uint8)
    hole[4:9, 4:9] = 255
    (tmp_path / "mask.png").write_bytes(encode(hole))
    PillowImage.fromarray(image).save(source, form, icc_profile=profile(), quality=100, subsampling=0)
    run(source, tmp_path / "out.png", RestoreRequest("inpainting", mask=tmp_path / "mask.png"))
    shown = []
    for path in (source, tmp_path / "out.png"):
        with PillowImage.open(path) as opened:
            theirs = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
            seen = ImageCms.profileToProfile(opened.convert("RGB"), theirs, ImageCms.createProfile("sRGB"))
            shown.append(np.asarray(seen))
    np.testing.assert_array_equal(shown[0][hole == 0], shown[1][hole == 0])


@pytest.mark.trust("images: own masks")
@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (
            np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
            "painted on the photograph",
        ),
        (
            np.full((HEIGHT, WIDTH), 255, np.uint8) - 255 * (np.arange(WIDTH) < 5).astype(np.uint8),
            "--invert-mask",
        ),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "no white pixel"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_asked_about(
    mask: Image, told: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "mask.png").write_bytes(encode(mask))
    with pytest.raises(InputError, match=told):
        run(source, tmp_path / "out.png", RestoreRequest("inpainting", mask=tmp_path / "mask.png"))
    assert not (tmp_path / "out.png").exists()


@pytest.mark.trust("images: own masks")
def test_an_inverted_mask_and_a_large_hole_are_taken_when_they_are_meant(
    image: Image, source: Path, tmp_path: Path
) -> None:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :5] = 0
    (tmp_path / "mask.png").write_bytes(encode(mask))
    for changes, hole in (({"invert_mask": True}, mask == 0), ({"large_hole": True}, mask == 255)):
        run(source, tmp_path / "out.png", RestoreRequest("inpainting", mask=tmp_path / "mask.png", **changes))
        np.testing.assert_array_equal(pixels(tmp_path / "out.png")[~hole], image[~hole])
        assert (pixels(tmp_path / "out.png")[hole] != image[hole]).any()


@pytest.mark.trust("images: stopped folder")
def test_a_folder_that_was_stopped_goes_on_and_changed_images_are_made_again(
    image: Image, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encode(image ^ np.uint8(number)))

    class Stops(Inverts):
        def restore_image(self, image: UserImage, policy: str | None) -> Image:
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().restore_image(image, policy)

    def names(model: Inverts, wish: RestoreRequest = RestoreRequest("colorization")) -> list[str]:  # noqa: B008  # frozen
        with suppress(KeyboardInterrupt):
            restore_images(model, jobs(folder, out, wish), wish, out)
        return [seen.name for seen, _ in model.seen]

    assert names(Stops()) == ["0", "1"]
    assert names(Inverts()) == ["2", "3"]
    assert names(Inverts()) == []
    (folder / "1.png").write_bytes(encode(image ^ np.uint8(9)))
    (out / "3.png").write_bytes(b"torn")
    with open(out / ".palette-bench.jsonl", "a") as record:
        record.write('{"torn')
    assert names(Inverts()) == ["1", "3"]
    assert names(Inverts(identity="other weights")) == ["0", "1", "2", "3"]
    assert names(Inverts(identity="other weights"), RestoreRequest("jpeg")) == ["0", "1", "2", "3"]
