"""A person's own pictures: any size, JPEG or PNG, degraded as the task says and restored by a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palette_bench.benchset.pictures import SUFFIXES, walk
from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, Problem, SubmissionError, UsageError, problem
from palette_bench.core.types import SILENT, Image, Mask, Progress
from palette_bench.submission.contestant import OwnPicture, PictureRestorer
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import HOLE_VALUE, punch, recomposite
from palette_bench.tasks.degradations.jpeg import fast_jpeg
from palette_bench.tasks.preprocess import DecodeError, decode_upright

SMALLEST = 16  # pixels of the shorter side; reference model, section 9
SIDES = ("top", "bottom", "left", "right")
_WHITE = 128  # mask pixels from this level up are hole


@dataclass(frozen=True)
class Wish:
    """What a person wants done to their pictures.

    Attributes:
        task: colorization, inpainting, uncropping or jpeg.
        mask: white = hole; a picture's, or a folder with a mask of the same name for each.
        extend: (side, pixels) to add, for uncropping.
        times: how often it is extended, each time from the last result.
        quality: JPEG quality to degrade to first; None takes the picture as it is.
        policy: how sizes the network does not know are met; None leaves it to the method.
    """

    task: str
    mask: Path | None = None
    extend: tuple[tuple[str, int], ...] = ()
    times: int = 1
    quality: int | None = None
    policy: str | None = None

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
        if self.quality is not None and self.task != "jpeg":
            faults.append("--quality is for jpeg only")
        if faults:
            raise UsageError("; ".join(faults))

    def degraded(self, picture: Image, mask: Mask | None) -> tuple[Image, Mask | None]:
        """Return what the model sees, (H, W, 3) uint8, and its hole, from one picture and its mask."""
        if self.task == "colorization":
            return np.repeat(luma(picture)[:, :, None], 3, axis=2), None
        if self.task == "jpeg":
            return (picture if self.quality is None else fast_jpeg(picture, self.quality)), None
        if self.task == "uncropping":
            return _extended(picture, dict(self.extend))
        assert mask is not None, "inpainting has a mask for every picture"
        return punch(picture, mask), mask


def _extended(picture: Image, by: dict[str, int]) -> tuple[Image, Mask]:
    """Return the picture on a larger canvas, 127 around it, and the mask of what is new."""
    rows, columns = (by.get("top", 0), by.get("bottom", 0)), (by.get("left", 0), by.get("right", 0))
    canvas = np.pad(picture, (rows, columns, (0, 0)), constant_values=HOLE_VALUE)
    mask = np.pad(np.zeros(picture.shape[:2], np.bool_), (rows, columns), constant_values=True)
    return canvas, mask


@dataclass(frozen=True)
class Job:
    """One picture to restore.

    Attributes:
        name: keys the noise: the path without suffix, as given or below the folder.
        source: the picture.
        target: the PNG to write.
        mask: its mask, for inpainting.
    """

    name: str
    source: Path
    target: Path
    mask: Path | None = None

    def read(self) -> tuple[Image, Mask | None]:
        """Return the picture, (H, W, 3) uint8, and its mask, (H, W) bool.

        Raises:
            OSError, DecodeError: one of them cannot be read.
        """
        picture = decode_upright(self.source.read_bytes())
        if self.mask is None:
            return picture, None
        return picture, luma(decode_upright(self.mask.read_bytes())) >= _WHITE


def jobs(source: Path, out: Path, wish: Wish) -> list[Job]:
    """Return what is to be done, after every picture and mask has been read once.

    Args:
        source: a picture, or a folder of them.
        out: a PNG to write, or a folder.
        wish: what to do.

    Raises:
        UsageError: the wish makes no sense, or the outputs would go over what is read.
        InputError: PB201, PB203, PB302, PB309; all problems at once.
    """
    wish.require_sense()
    found = _of_folder(source, out, wish) if source.is_dir() else [_of_file(source, out, wish)]
    _require_free_places(found, source, out)
    problems = [*_collisions(found), *(p for job in found for p in _problems(job))]
    if not found:
        fix = "give a folder that holds some, or one picture"
        problems = [problem("PB201", str(source), expected=f"pictures ({', '.join(SUFFIXES)})", fix=fix)]
    if problems:
        raise InputError(*problems)
    return found


def _of_file(source: Path, out: Path, wish: Wish) -> Job:
    target = out / f"{source.stem}.png" if out.is_dir() else out
    return Job(source.stem, source, target, wish.mask)


def _of_folder(source: Path, out: Path, wish: Wish) -> list[Job]:
    names = [Path(place.name) for place in walk(source)]
    return [
        Job(
            name.with_suffix("").as_posix(),
            source / name,
            out / name.with_suffix(".png"),
            _mask_of(name, wish.mask),
        )
        for name in names
    ]


def _mask_of(name: Path, mask: Path | None) -> Path | None:
    """Return the mask of a picture of a folder: one for all, or the one of the same name."""
    if mask is None or not mask.is_dir():
        return mask
    choices = [mask / name.with_suffix(suffix) for suffix in SUFFIXES]
    return next((path for path in choices if path.is_file()), mask / name.with_suffix(".png"))


def _require_free_places(found: list[Job], source: Path, out: Path) -> None:
    """Refuse to write anything over a picture or mask, or where the next run would read it."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in {source}: write to another folder, or outputs become inputs")
    read = {path.resolve() for job in found for path in (job.source, job.mask) if path}
    for job in found:
        if job.target.resolve() in read:
            raise UsageError(f"{job.target} would go over a picture that is read: name another output")
        if job.target.suffix.lower() != ".png":
            raise UsageError(f"outputs are PNG: write to {job.target.with_suffix('.png')}")


def _collisions(found: list[Job]) -> Iterator[Problem]:
    """Yield PB203 for pictures whose outputs would have one name: a.jpg beside a.png."""
    by_target = defaultdict(list)
    for job in found:
        by_target[str(job.target).casefold()].append(str(job.source))
    for sources in by_target.values():
        if len(sources) > 1:
            fix = "rename one, or restore them one by one"
            yield problem("PB203", ", ".join(sources), expected="one output name each", fix=fix)


def _problems(job: Job) -> Iterator[Problem]:
    """Yield what is wrong with one picture and its mask."""
    try:
        picture, mask = job.read()
    except OSError as error:
        found = error.strerror or str(error)
        yield problem("PB201", str(error.filename or job.source), found=found, fix="check the path")
        return
    except DecodeError as error:
        where = ", ".join(str(path) for path in (job.source, job.mask) if path)
        yield problem(
            "PB309",
            where,
            expected="8-bit JPEG or PNG",
            found=str(error),
            fix="save it again as JPEG or PNG",
        )
        return
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        expected = f"at least {SMALLEST} x {SMALLEST}"
        found, fix = f"{width} x {height}", "use a larger picture"
        yield problem("PB302", str(job.source), expected=expected, found=found, fix=fix)
    if mask is not None and mask.shape != (height, width):
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        fix = "draw the mask on the picture itself, white where it shall be filled"
        yield problem("PB302", str(job.mask), expected=f"{width} x {height}", found=size, fix=fix)
    elif mask is not None and not mask.any():
        fix = "paint the hole white and the rest black"
        yield problem("PB309", str(job.mask), expected="a white hole", found="no white pixel", fix=fix)


def restore_pictures(
    restorer: PictureRestorer, found: list[Job], wish: Wish, progress: Progress = SILENT
) -> None:
    """Restore pictures one by one; known pixels stay as they were.

    Args:
        restorer: a model that takes any size.
        found: what `jobs` returned.
        wish: what to do.
        progress: where to report.

    Raises:
        SubmissionError: the restorer returned another shape or type.
        StorageError: PB802.
    """
    with progress("restoring", len(found) * wish.times) as advance:
        for job in found:
            picture, mask = job.read()
            for turn in range(wish.times):
                picture = _restored(restorer, picture, mask, wish, f"{job.name}+{turn}" if turn else job.name)
                advance(1)
            atomic.write_bytes(job.target, png.encode(picture))


def _restored(restorer: PictureRestorer, picture: Image, mask: Mask | None, wish: Wish, name: str) -> Image:
    seen, hole = wish.degraded(picture, mask)
    output = restorer.restore_picture(OwnPicture(name, wish.task, seen, hole), wish.policy)
    if output.shape != seen.shape or output.dtype != np.uint8:
        raise SubmissionError(
            f"restore_picture() must return {seen.shape} uint8, not {output.shape} {output.dtype}"
        )
    return output if hole is None else recomposite(output, seen, hole)
