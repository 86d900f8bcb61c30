"""A person's own images: any size, JPEG or PNG, degraded as the task says and restored by a model."""

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
_WHITE = 128  # mask pixels from this level up are hole
_NEAR = 48  # levels from black or white that count as it: JPEG and soft brushes stay within
_BETWEEN = 0.05  # of a mask's pixels may lie between, as edges do; a mask painted on the photograph has most
_LARGEST_HOLE = 0.5  # of the image, without a question


@dataclass(frozen=True)
class RestoreRequest:
    """What a person wants done to their images.

    Attributes:
        task: colorization, inpainting, uncropping or jpeg.
        mask: white = hole; an image's, or a folder with a mask of the same name for each.
        extend: (side, pixels) to add, for uncropping.
        times: how often it is extended, each time from the last result.
        quality: JPEG quality to degrade to first; None takes the image as it is.
        policy: how sizes the network does not know are met; None leaves it to the method.
        invert_mask: black = hole.
        large_hole: most of an image may be hole.
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
        """Refuse a wish that cannot be meant.

        Raises:
            UsageError: all of what is wrong.
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
        """Return what the model sees, (H, W, 3) uint8, and its hole, from one image and its mask."""
        if self.task == "colorization":
            return np.repeat(luma(image)[:, :, None], 3, axis=2), None
        if self.task == "jpeg":
            return (image if self.quality is None else fast_jpeg(image, self.quality)), None
        if self.task == "uncropping":
            return _extended(image, dict(self.extend))
        assert mask is not None, "inpainting has a mask for every image"
        return punch(image, mask), mask


def _extended(image: Image, by: dict[str, int]) -> tuple[Image, Mask]:
    """Return the image on a larger canvas, 127 around it, and the mask of what is new."""
    rows, columns = (by.get("top", 0), by.get("bottom", 0)), (by.get("left", 0), by.get("right", 0))
    canvas = np.pad(image, (rows, columns, (0, 0)), constant_values=HOLE_VALUE)
    mask = np.pad(np.zeros(image.shape[:2], np.bool_), (rows, columns), constant_values=True)
    return canvas, mask


@dataclass(frozen=True)
class DecodedUserImage:
    """A person's image.

    Attributes:
        pixels: (H, W, 3) uint8, upright.
        profile: its ICC colour profile, which the output carries on; None for sRGB and for other than RGB.
        data: the bytes it was read from.
    """

    pixels: Image
    profile: bytes | None
    data: bytes

    @staticmethod
    def of(data: bytes) -> DecodedUserImage:
        """Read an image.

        Raises:
            DecodeError: it cannot be read.
        """
        pixels = decode_upright(data)
        with PillowImage.open(io.BytesIO(data)) as image:
            profile = image.info.get("icc_profile")
        # bytes 16 to 19 of a profile name the space of its values (ICC.1, 7.2.6)
        return DecodedUserImage(pixels, profile if profile and profile[16:20] == b"RGB " else None, data)


class MaskError(DecodeError):
    """A mask cannot be read."""


@dataclass(frozen=True)
class UserImageJob:
    """One image to restore.

    Attributes:
        name: keys the noise: the path without suffix, as given or below the folder.
        source: the image.
        target: the PNG to write.
        mask: its mask, for inpainting.
        invert: the mask is black where the hole is.
    """

    name: str
    source: Path
    target: Path
    mask: Path | None = None
    invert: bool = False

    def read(self) -> tuple[DecodedUserImage, Image | None]:
        """Return the image, and its mask as levels, (H, W) uint8, white = hole.

        Raises:
            OSError, DecodeError: one of them cannot be read.
        """
        photo = DecodedUserImage.of(self.source.read_bytes())
        if self.mask is None:
            return photo, None
        data = self.mask.read_bytes()
        try:
            levels = luma(decode_upright(data))
        except DecodeError as error:
            raise MaskError(str(error)) from error
        return replace(photo, data=photo.data + data), 255 - levels if self.invert else levels


def jobs(source: Path, out: Path, wish: RestoreRequest) -> list[UserImageJob]:
    """Return what is to be done, after every image and mask has been read once.

    Args:
        source: an image, or a folder of them.
        out: a PNG to write, or a folder.
        wish: what to do.

    Raises:
        UsageError: the wish makes no sense, or the outputs would go over what is read.
        InputError: PB201, PB203, PB302, PB309; all problems at once.
    """
    wish.require_sense()
    found = _of_folder(source, out, wish) if source.is_dir() else [_of_file(source, out, wish)]
    _require_free_places(found, source, out)
    problems = [*_collisions(found), *(p for job in found for p in _problems(job, wish))]
    if not found:
        problems = [*no_images(source, fix="give a folder that holds some, or one image").problems]
    if problems:
        raise InputError(*problems)
    return found


def _of_file(source: Path, out: Path, wish: RestoreRequest) -> UserImageJob:
    target = out / f"{source.stem}.png" if out.is_dir() else out
    return UserImageJob(source.stem, source, target, wish.mask, wish.invert_mask)


def _of_folder(source: Path, out: Path, wish: RestoreRequest) -> list[UserImageJob]:
    found = []
    masks = _masks_by_name(wish.mask) if wish.mask and wish.mask.is_dir() else None
    for place in walk(source):
        path = place.file.relative_to(source)
        name, target = path.with_suffix("").as_posix(), path.with_suffix(".png")
        mask = wish.mask
        if wish.mask and masks is not None:
            mask = masks.get(name) or masks.get(name.casefold(), wish.mask / target)
        found.append(UserImageJob(name, place.file, out / target, mask, wish.invert_mask))
    return found


def _masks_by_name(folder: Path) -> dict[str, Path]:
    """Return the masks below a folder by path without suffix, as written and in lower case."""
    names = {place.file.relative_to(folder).with_suffix("").as_posix(): place.file for place in walk(folder)}
    return {name.casefold(): file for name, file in names.items()} | names


def _require_free_places(found: list[UserImageJob], source: Path, out: Path) -> None:
    """Refuse to write anything over an image or mask, or where the next run would read it."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in {source}: write to another folder, or outputs become inputs")
    read = {path.resolve() for job in found for path in (job.source, job.mask) if path}
    for job in found:
        if job.target.resolve() in read:
            raise UsageError(f"{job.target} would go over an image that is read: name another output")
        if job.target.suffix.lower() != ".png":
            raise UsageError(f"outputs are PNG: write to {job.target.with_suffix('.png')}")


def _collisions(found: list[UserImageJob]) -> Iterator[Problem]:
    """Yield PB203 for images whose outputs would have one name: a.jpg beside a.png."""
    by_target = defaultdict(list)
    for job in found:
        by_target[str(job.target).casefold()].append(str(job.source))
    for sources in by_target.values():
        if len(sources) > 1:
            fix = "rename one, or restore them one by one"
            yield problem("PB203", ", ".join(sources), expected="one output name each", fix=fix)


def _problems(job: UserImageJob, wish: RestoreRequest) -> Iterator[Problem]:
    """Yield what is wrong with one image and its mask."""
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
        fix = "draw the mask on the image itself, white where it shall be filled"
        yield problem("PB302", str(job.mask), expected=f"{width} x {height}", found=size, fix=fix)
    elif mask is not None:
        yield from _mask_problems(str(job.mask), mask, wish)


def _mask_problems(name: str, mask: Image, wish: RestoreRequest) -> Iterator[Problem]:
    """Yield what makes a mask one that cannot be meant."""
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
        fix = "--invert-mask if black marks the hole; --large-hole if so much is meant"
        yield problem("PB309", name, expected=expected, found=found, fix=fix)


def restore_images(
    restorer: ImageRestorer,
    found: list[UserImageJob],
    wish: RestoreRequest,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> None:
    """Restore images one by one; known pixels stay as they were, and carry their colour profile on.

    Args:
        restorer: a model that takes any size.
        found: what `jobs` returned.
        wish: what to do.
        folder: of the outputs, if they are several: what is finished there is not made again.
        progress: where to report.

    Raises:
        MethodError: PB613, the restorer returned another shape or type.
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
    require_images(output, seen.shape, f"{type(restorer).__name__}.restore_picture()")
    return output if hole is None else recomposite(output, seen, hole)
