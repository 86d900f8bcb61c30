"""Outside tools that work on folders: inputs and masks are written in the tool's layout, its results read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, Image, ImageId, Progress
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import MethodInfo, Restorer, ToolOptions

from .results import ToolResults, read_results

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
        _require_distinct(self.title, files)
        _require_free(folder, set(files))
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


def _require_distinct(title: str, files: Sequence[str]) -> None:
    """Raise PB203 if two files share a name, e.g. the mask of `a` and the image of `a_mask`."""
    count = Counter(name.casefold() for name in files)
    if twins := sorted({name for name in files if count[name.casefold()] > 1}):
        raise InputError.of(
            "PB203",
            f"files for {title}",
            expected="a file of its own for every image and mask",
            found=f"{len(twins):,} names twice: an id ends like the tool's masks",
            fix="use another adapter, or make the set from files of other names",
            ids=twins,
        )


def _require_free(folder: Path, names: set[str]) -> None:
    """Raise PB809 if the folder holds files that this export does not write."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    foreign = sorted(name for name in there - names if not is_litter(name))
    if foreign:
        raise InputError.of(
            "PB809",
            str(folder),
            expected="an empty folder, or an earlier export of this set",
            found="other files, which the tool would read too",
            fix="export into a folder of its own",
            ids=foreign,
        )
