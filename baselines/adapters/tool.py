"""Outside tools that work on folders: inputs and masks are written in the tool's layout, its results read."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, SubmissionError, UsageError, problem
from palette_bench.core.fingerprint import pixel_digest, table_digest
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, Fingerprint, Image, ImageId, Progress
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, Restorer, ToolOptions
from palette_bench.tasks.preprocess import DecodeError, crop_area, decode

_UNKNOWN = "unknown"  # the owner of the results fills it in on the card
_TOGETHER = 64  # images that share one fsync round


@dataclass(frozen=True)
class Tool:
    """File layout of one tool; file names are relative, `{id}` stands for the image id.

    Attributes:
        slug: slug of the method on the card.
        title: display name of the tool.
        result: file name of a result.
        image: file name of an input; None if the tool cannot read a set's masks from files.
        mask: file name of a mask.
        hole: level of mask pixels to fill; other pixels are 0, or 255 if `hole` is 0.
        only_holes: whether the tool supports only tasks with holes.
        code: URL of the tool's code.
    """

    slug: str
    title: str
    result: str
    image: str | None = None
    mask: str = ""
    hole: int = 255
    only_holes: bool = True
    code: str | None = None

    def export(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> None:
        """Write inputs and masks in the tool's layout; gray inputs get three equal channels.

        Raises:
            UsageError: the tool has no file layout for inputs, or does not support the task.
            InputError: PB203, an id contains the tool's mask pattern, so that two files would share a name;
                PB809, the folder holds other files, which the tool would read too.
            StorageError: PB802.
        """
        self._require_task(benchset)
        if self.image is None:
            raise UsageError(f"{self.title} reads no mask files: give it the set by its own code")
        files = [name for i in benchset.ids for name in self._names(benchset, i)]
        count = Counter(name.casefold() for name in files)
        # e.g. the mask of `a` and the image of `a_mask`
        if twins := sorted({name for name in files if count[name.casefold()] > 1}):
            raise InputError.of(
                "PB203",
                f"files for {self.title}",
                expected="a file of its own for every image and mask",
                found=f"{len(twins):,} names twice: an id ends like the tool's masks",
                fix="use another adapter, or make the set from files of other names",
                ids=twins,
            )
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if foreign := sorted(name for name in present - set(files) if not is_litter(name)):
            raise InputError.of(
                "PB809",
                str(folder),
                expected="an empty folder, or an earlier export of this set",
                found="other files, which the tool would read too",
                fix="export into a folder of its own",
                ids=foreign,
            )
        with progress("exporting", len(benchset.ids)) as advance:
            for start in range(0, len(benchset.ids), _TOGETHER):
                ids = benchset.ids[start : start + _TOGETHER]
                with atomic.FileBatch() as batch:
                    for name, image in (pair for i in ids for pair in self._images(benchset, i, options)):
                        atomic.make_folder((folder / name).parent)
                        batch.write(folder / name, png.encode(image))
                advance(len(ids))

    def _require_task(self, benchset: ContestantSet) -> None:
        if self.only_holes and not benchset.has_masks:
            raise UsageError(f"{self.title} fills holes: {benchset.public.task} has none")

    def _names(self, benchset: ContestantSet, image_id: ImageId) -> list[str]:
        """Return the names of the files for an id: its input, and its mask if the set has masks."""
        templates = [self.image or "", *([self.mask] if benchset.has_masks else [])]
        return [template.replace("{id}", image_id) for template in templates]

    def _images(
        self, benchset: ContestantSet, image_id: ImageId, options: ToolOptions
    ) -> list[tuple[str, Image]]:
        """Return (name, pixels) of each file for an id."""
        size = options.tool_size or benchset.protocol.side
        image = benchset.condition(image_id)
        if len(image) != size:
            enlarged = PillowImage.fromarray(image).resize((size, size), PillowImage.Resampling.BICUBIC)
            image = np.asarray(enlarged)
        images = [image]
        mask = benchset.mask(image_id)
        if mask is not None:
            hole = self.hole if options.hole_value is None else options.hole_value
            rows = np.arange(size) * len(mask) // size  # nearest neighbour: a mask has no intermediate levels
            levels = np.where(mask, hole, 0 if hole else 255).astype(np.uint8)
            images.append(levels[rows[:, None], rows])
        return list(zip(self._names(benchset, image_id), images, strict=True))

    def results(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> Restorer:
        """Return the tool's results as a restorer, after reading and checking every file.

        Raises:
            UsageError: the template is invalid, or the tool does not support the task.
            SubmissionError: PB201-PB203, PB301-PB307; reports all problems at once.
        """
        self._require_task(benchset)
        template = options.template or self.result
        read, identity, liberties = read_results(benchset, folder, template, options, progress)
        about = MethodInfo(
            method=Method(
                slug=self.slug,
                name=self.title,
                version=_UNKNOWN,
                authors=(_UNKNOWN,),
                license=_UNKNOWN,
                code=self.code,
            ),
            training=Training(datasets=(), saw_test_images="unknown", task_specific=False),
            sampling=Sampling(sampler=_UNKNOWN),
            declared=Declared(uses_mask=benchset.has_masks, uses_label=False, postprocess=liberties),
        )
        return ToolResults(about, identity, read)


# --- results: all files are checked before any is used; conversions are declared ---

log = logging.getLogger(__name__)

_JPEG = b"\xff\xd8\xff"
_SUFFIXES = (".png", ".jpg", ".jpeg")
_FIXES = {
    "PB201": "run the tool on every exported input; name its results with --template if they differ",
    "PB202": "remove what does not answer this set, or give a --template that tells results apart",
    "PB203": "keep one result per id",
    "PB301": "let the tool write PNG; --accept-lossy takes JPEG, and the card says so",
    "PB302": "give the tool's side with --tool-size; other sizes are refused",
    "PB303": "let the tool write 8-bit RGB",
}


@dataclass(frozen=True)
class ToolResults:
    """A restorer that returns the results of an outside tool."""

    about: MethodInfo
    identity: str
    read: Callable[[ImageId], Image]

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the results, (N, S, S, 3) uint8."""
        return np.stack([self.read(image_id) for image_id in batch.ids])


def _read(file: Path, side: int, options: ToolOptions) -> tuple[Image, bool]:
    """Return a result at the set's size, (S, S, 3) uint8, and whether its file is lossy (JPEG).

    Raises:
        PngError: PB105, PB301-PB307.
        OSError: the file cannot be read.
    """
    size = options.tool_size or side
    limit = max(png.MAX_BYTES, 4 * size * size)  # above the uncompressed size, 3 bytes per pixel
    data = png.read_regular(file, limit)
    lossy = data.startswith(_JPEG)
    if not lossy:
        image, _ = png.decode_strict(data, size, size, 3, limit)
    elif options.accept_lossy:
        try:
            image = decode(data)
        except DecodeError as error:
            raise png.PngError("PB306", "a whole JPEG", str(error)) from error
        if image.shape[:2] != (size, size):
            raise png.PngError("PB302", f"{size} x {size}", f"{image.shape[1]} x {image.shape[0]}")
    else:
        raise png.PngError("PB301", "a lossless PNG", "a JPEG")
    return (image if size == side else crop_area(image, side)), lossy


def read_results(
    benchset: ContestantSet, folder: Path, template: str, options: ToolOptions, progress: Progress
) -> tuple[Callable[[ImageId], Image], str, str | None]:
    """Return the results of a folder, one per id of the set, all valid.

    Args:
        benchset: set that the results belong to.
        folder: where the tool wrote.
        template: name of a result below `folder`, with `{id}` for the id; files with other names are ignored.
        options: how the results are read.
        progress: where to report progress.

    Returns:
        A function that returns one result at the set's size, (S, S, 3) uint8; a digest of all pixels as they
        will be submitted; and the conversions applied (resizing, JPEG decoding), for the card, None if none.

    Raises:
        UsageError: the template is not a relative PNG name with exactly one `{id}`.
        SubmissionError: PB105, PB201-PB203, PB301-PB307, PB801; reports all problems at once.
    """
    by_id = _by_id(folder, template)
    kept = {i: by_id[i][0] for i in benchset.ids if i in by_id}
    side = benchset.protocol.side
    digests: dict[ImageId, Fingerprint] = {}
    lossy = 0
    # faults by (code, expected, found); these are visible from file names alone
    ids, others = set(benchset.ids), by_id.keys() - set(benchset.ids)
    faults: dict[tuple[str, str, str], list[ImageId]] = defaultdict(list)
    faults["PB201", f"{len(ids):,} results", f"{len(kept):,}"] = sorted(ids - by_id.keys())
    faults["PB202", f"the {len(ids):,} ids of the set", "other ids"] = sorted(others)
    faults["PB203", "one file per id", "several"] = sorted(i for i in kept if len(by_id[i]) > 1)
    with progress("reading", len(kept)) as advance:
        for image_id, file in kept.items():
            try:
                image, was_lossy = _read(file, side, options)
                digests[image_id], lossy = pixel_digest(image), lossy + was_lossy
            except png.PngError as error:
                faults[error.code, error.expected, error.found].append(image_id)
            except OSError as error:
                faults["PB801", "a readable file", error.strerror or str(error)].append(image_id)
            advance(1)
    where, again = str(folder / template), "let the tool write these files again"
    problems = [
        problem(code, where, expected=expected, found=found, fix=_FIXES.get(code, again), ids=faulty)
        for (code, expected, found), faulty in sorted(faults.items())
        if faulty
    ]
    if problems:
        raise SubmissionError(*problems)
    size = options.tool_size or side
    enlarged = f"worked at {size} x {size}: inputs enlarged bicubically, results averaged over areas"
    liberties = [enlarged] if size != side else []
    liberties += [f"{lossy} results decoded from JPEG"] if lossy else []
    return lambda i: _read(kept[i], side, options)[0], table_digest(digests), "; ".join(liberties) or None


def _by_id(folder: Path, template: str) -> dict[ImageId, list[Path]]:
    """Return id -> PNG and JPEG files whose names match the template."""
    name = Path(template)
    parts = name.name.removesuffix(".png").split("{id}")
    if len(parts) != 2 or name.suffix != ".png" or name.is_absolute() or ".." in name.parts:
        raise UsageError(f"--template {template!r}: expected a relative name such as results/{{id}}_out.png")
    pattern = re.compile(f"{re.escape(parts[0])}([A-Za-z0-9_-]{{1,64}}){re.escape(parts[1])}")
    found: dict[ImageId, list[Path]] = defaultdict(list)
    # the results lie deeper if a folder contains nothing but one folder
    start = place = folder / name.parent
    while place.is_dir():
        inside = [path for path in place.iterdir() if not is_litter(path.name)]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        place = inside[0]
    if place != start:
        log.info("results are read in %s", place)
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        match = pattern.fullmatch(path.stem) if path.suffix.lower() in _SUFFIXES else None
        if match:
            found[match[1]].append(path)
    return found
