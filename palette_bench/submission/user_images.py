"""Restoring of the user's own images: JPEG or PNG of any size, degraded by the task, then restored."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from palette_bench.benchset.images import no_images, walk
from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, Problem, UsageError, problem
from palette_bench.core.processes import stoppable
from palette_bench.core.types import SILENT, Image, Mask, Progress
from palette_bench.submission.finished_images import FinishedImages
from palette_bench.submission.methods import ImageRestorer, UserImage
from palette_bench.submission.plugins import require_images
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import HOLE_VALUE, punch, recomposite
from palette_bench.tasks.degradations.jpeg import fast_jpeg
from palette_bench.tasks.preprocess import DecodeError, decode_upright

SMALLEST = 16  # pixels of the shorter side; reference model, section 9
SIDES = ("top", "bottom", "left", "right")
_WHITE = 128  # mask pixels of this level or above are hole
_NEAR = 48  # levels within which a pixel counts as black or white; JPEG and soft brushes stay within
_BETWEEN = 0.05  # largest share of gray mask pixels, for edges; a mask painted on the photograph has more
_LARGEST_HOLE = 0.5  # largest share of hole pixels without the option `large_hole`


@dataclass(frozen=True)
class RestoreRequest:
    """How the user's images are to be restored.

    Attributes:
        task: colorization, inpainting, uncropping or jpeg.
        mask: mask of the image, white = hole, or a folder that holds a mask of the same name for each image.
        extend: (side, pixels) pairs to add, for uncropping.
        times: how often to extend an image, each time from the previous result.
        quality: JPEG quality to degrade the image to first; None restores the image as it is.
        policy: how to restore sizes other than the network's; None leaves the choice to the method.
        invert_mask: black instead of white marks the hole.
        large_hole: allow holes of more than half of an image.
    """

    task: str
    mask: Path | None = None
    extend: tuple[tuple[str, int], ...] = ()
    times: int = 1
    quality: int | None = None
    policy: str | None = None
    invert_mask: bool = False
    large_hole: bool = False

    def require_sense(self) -> None:
        """Raise unless the options fit the task.

        Raises:
            UsageError: lists all faults.
        """
        faults = []
        for option, given, task in (
            ("--mask FILE", self.mask is not None, "inpainting"),
            ("--extend SIDE=PIXELS", bool(self.extend), "uncropping"),
        ):
            if given != (self.task == task):
                faults.append(f"{task} needs {option}" if not given else f"{option} is for {task} only")
        if self.times != 1 and self.task != "uncropping":
            faults.append("--times is for uncropping only")
        if (self.invert_mask or self.large_hole) and self.task != "inpainting":
            faults.append("--invert-mask and --large-hole are for inpainting only")
        if self.quality is not None and self.task != "jpeg":
            faults.append("--quality is for jpeg only")
        if faults:
            raise UsageError("; ".join(faults))

    def degraded(self, image: Image, mask: Mask | None) -> tuple[Image, Mask | None]:
        """Return the input of the network, (H, W, 3) uint8, and its mask, (H, W) bool or None.

        Args:
            image: (H, W, 3) uint8; for uncropping, the returned arrays are larger.
            mask: (H, W) bool, True = hole; needed for inpainting only.
        """
        if self.task == "colorization":
            return np.repeat(luma(image)[:, :, None], 3, axis=2), None
        if self.task == "jpeg":
            return (image if self.quality is None else fast_jpeg(image, self.quality)), None
        if self.task == "uncropping":
            return _extended(image, dict(self.extend))
        assert mask is not None, "inpainting has a mask for every image"
        return punch(image, mask), mask


def _extended(image: Image, by: dict[str, int]) -> tuple[Image, Mask]:
    """Return the image padded with 127, and the mask of the added pixels; `by` maps sides to pixels."""
    rows, columns = (by.get("top", 0), by.get("bottom", 0)), (by.get("left", 0), by.get("right", 0))
    canvas = np.pad(image, (rows, columns, (0, 0)), constant_values=HOLE_VALUE)
    mask = np.pad(np.zeros(image.shape[:2], np.bool_), (rows, columns), constant_values=True)
    return canvas, mask


@dataclass(frozen=True)
class DecodedUserImage:
    """A decoded image of the user.

    Attributes:
        pixels: (H, W, 3) uint8, upright.
        profile: ICC colour profile, which is copied to the output; None if there is none, or if it is not an
            RGB profile.
        data: bytes that the image was read from, followed by those of its mask, if any.
    """

    pixels: Image
    profile: bytes | None
    data: bytes


class MaskError(DecodeError):
    """A mask cannot be decoded."""


@dataclass(frozen=True)
class UserImageJob:
    """One image to restore.

    Attributes:
        name: name that keys the noise: for a single image its stem, for a folder the relative path without
            suffix.
        source: the image file.
        target: the PNG file to write.
        mask: the mask file, for inpainting.
        invert: black instead of white marks the hole.
    """

    name: str
    source: Path
    target: Path
    mask: Path | None = None
    invert: bool = False

    def read(self) -> tuple[DecodedUserImage, Image | None]:
        """Return the decoded image, and its mask as gray levels, (H, W) uint8, white = hole, or None.

        Raises:
            OSError: the image or the mask cannot be read.
            DecodeError: the image cannot be decoded.
            MaskError: the mask cannot be decoded.
        """
        data = self.source.read_bytes()
        pixels = decode_upright(data)
        with PillowImage.open(io.BytesIO(data)) as image:
            profile = image.info.get("icc_profile")
        # bytes 16 to 19 of a profile name its colour space (ICC.1, 7.2.6)
        profile = profile if profile and profile[16:20] == b"RGB " else None
        photo = DecodedUserImage(pixels, profile, data)
        if self.mask is None:
            return photo, None
        mask = self.mask.read_bytes()
        try:
            levels = luma(decode_upright(mask))
        except DecodeError as error:
            raise MaskError(str(error)) from error
        return replace(photo, data=data + mask), 255 - levels if self.invert else levels


def jobs(source: Path, out: Path, wish: RestoreRequest) -> list[UserImageJob]:
    """Return one job per image, after a test that all images and masks can be decoded.

    Args:
        source: an image, or a folder of images.
        out: the PNG file to write, or a folder.
        wish: how to restore the images.

    Raises:
        UsageError: the options do not fit the task, or an output would overwrite an image or mask.
        InputError: PB201, PB203, PB302, PB309; lists all problems.
    """
    wish.require_sense()
    if source.is_dir():
        found = _of_folder(source, out, wish)
        if out.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{out} lies in {source}: write to another folder, or outputs become inputs")
    else:
        target = out / f"{source.stem}.png" if out.is_dir() else out
        found = [UserImageJob(source.stem, source, target, wish.mask, wish.invert_mask)]
    read = {path.resolve() for job in found for path in (job.source, job.mask) if path}
    by_target = defaultdict(list)
    for job in found:
        if job.target.resolve() in read:
            raise UsageError(f"{job.target} would overwrite an input: name another output")
        if job.target.suffix.lower() != ".png":
            raise UsageError(f"outputs are PNG: write to {job.target.with_suffix('.png')}")
        by_target[str(job.target).casefold()].append(str(job.source))
    # images such as a.jpg and a.png would share an output
    fix, same = "rename one, or restore them one by one", [s for s in by_target.values() if len(s) > 1]
    problems = [problem("PB203", ", ".join(s), expected="one output name each", fix=fix) for s in same]
    problems += [p for job in found for p in _problems(job, wish)]
    if not found:
        problems = [*no_images(source, fix="give a folder with images, or one image").problems]
    if problems:
        raise InputError(*problems)
    return found


def _of_folder(source: Path, out: Path, wish: RestoreRequest) -> list[UserImageJob]:
    found = []
    masks: dict[str, Path] | None = None
    if wish.mask and wish.mask.is_dir():  # relative path without suffix -> mask; also in lower case
        places = walk(wish.mask)
        masks = {p.file.relative_to(wish.mask).with_suffix("").as_posix(): p.file for p in places}
        masks = {name.casefold(): file for name, file in masks.items()} | masks
    for place in walk(source):
        path = place.file.relative_to(source)
        name, target = path.with_suffix("").as_posix(), path.with_suffix(".png")
        mask = wish.mask
        if wish.mask and masks is not None:
            mask = masks.get(name) or masks.get(name.casefold(), wish.mask / target)
        found.append(UserImageJob(name, place.file, out / target, mask, wish.invert_mask))
    return found


def _problems(job: UserImageJob, wish: RestoreRequest) -> Iterator[Problem]:
    """Yield the problems of one image and its mask."""
    try:
        photo, mask = job.read()
    except OSError as error:
        found = error.strerror or str(error)
        yield problem("PB201", str(error.filename or job.source), found=found, fix="check the path")
        return
    except MaskError as error:
        fix = "paint the hole white on a black canvas, and save it without transparency"
        expected = "an 8-bit PNG, black and white"
        yield problem("PB309", str(job.mask), expected=expected, found=str(error), fix=fix)
        return
    except DecodeError as error:
        fix = "save it again as JPEG or PNG"
        yield problem("PB309", str(job.source), expected="8-bit JPEG or PNG", found=str(error), fix=fix)
        return
    height, width = photo.pixels.shape[:2]
    if min(height, width) < SMALLEST:
        expected = f"at least {SMALLEST} x {SMALLEST}"
        found, fix = f"{width} x {height}", "use a larger image"
        yield problem("PB302", str(job.source), expected=expected, found=found, fix=fix)
    if mask is not None and mask.shape != (height, width):
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        fix = "draw the mask on the image itself, white where it should be filled"
        yield problem("PB302", str(job.mask), expected=f"{width} x {height}", found=size, fix=fix)
    elif mask is not None:
        yield from _mask_problems(str(job.mask), mask, wish)


def _mask_problems(name: str, mask: Image, wish: RestoreRequest) -> Iterator[Problem]:
    """Yield PB309 for a mask that is not black and white, has no hole, or has too large a hole."""
    hole = float((mask >= _WHITE).mean())
    between = float(((mask >= _NEAR) & (mask <= 255 - _NEAR)).mean())
    if between > _BETWEEN:
        expected = "black and white, soft edges apart"
        found = f"{between:.0%} of its pixels in between: a mask painted on the photograph?"
        fix = "paint the hole white on a black canvas of the image's size"
        yield problem("PB309", name, expected=expected, found=found, fix=fix)
    elif not hole:
        fix = "paint the hole white and the rest black; --invert-mask if black marks it"
        yield problem("PB309", name, expected="a white hole", found="no white pixel", fix=fix)
    elif hole > _LARGEST_HOLE and not wish.large_hole:
        expected, found = f"at most {_LARGEST_HOLE:.0%} of the image as hole", f"{hole:.0%}"
        fix = "--invert-mask if black marks the hole; --large-hole if this is intended"
        yield problem("PB309", name, expected=expected, found=found, fix=fix)


def restore_images(
    restorer: ImageRestorer,
    found: list[UserImageJob],
    wish: RestoreRequest,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> None:
    """Restore images one by one; known pixels and colour profiles are copied to the outputs.

    Args:
        restorer: a restorer for images of any size.
        found: the jobs that `jobs` returned.
        wish: how to restore the images.
        folder: folder of the outputs if there are several; images that are finished there are skipped.
        progress: callback that reports each restored image.

    Raises:
        MethodError: PB613, the restorer returned a wrong shape or type.
        StorageError: PB802.
    """
    options = (wish.task, wish.extend, wish.times, wish.quality, wish.policy, wish.invert_mask)
    done = FinishedImages(folder, [restorer.identity, *map(str, options)])
    with progress("restoring", len(found) * wish.times) as advance, stoppable() as check_stop:
        for job in found:
            photo, mask = job.read()
            if done.holds(job.target, photo.data):
                advance(wish.times)
                continue
            image, hole = photo.pixels, None if mask is None else mask >= _WHITE
            for turn in range(wish.times):
                image = _restored(restorer, image, hole, wish, f"{job.name}+{turn}" if turn else job.name)
                advance(1)
            written = png.encode(image, photo.profile)
            atomic.write_bytes(job.target, written)
            done.add(job.target, photo.data, written)
            check_stop()


def _restored(
    restorer: ImageRestorer, image: Image, mask: Mask | None, wish: RestoreRequest, name: str
) -> Image:
    seen, hole = wish.degraded(image, mask)
    output = restorer.restore_image(UserImage(name, wish.task, seen, hole), wish.policy)
    require_images(output, seen.shape, f"{type(restorer).__name__}.restore_image()")
    return output if hole is None else recomposite(output, seen, hole)
