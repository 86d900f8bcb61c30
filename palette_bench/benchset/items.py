"""Making the items of one or several sets from an image, and verifying stored items by pixel digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from palette_bench.benchset.foreign_masks import ForeignMasks
from palette_bench.benchset.images import SourceImage
from palette_bench.benchset.manifest import Item
from palette_bench.core import png
from palette_bench.core.atomic import FileBatch
from palette_bench.core.errors import CodecError
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.rng import Stream, stream_key
from palette_bench.core.types import Image
from palette_bench.tasks.degradations import DEGRADATIONS
from palette_bench.tasks.degradations.hole import punch
from palette_bench.tasks.degradations.jpeg import reference_jpeg
from palette_bench.tasks.preprocess import PREPROCESS, DecodeError
from palette_bench.tasks.protocol import Degraded, ProtocolSpec, TaskSpec, VariantSpec

KINDS = ("reference", "input", "mask")


@dataclass(frozen=True)
class SetTarget:
    """A set to make: its task, variant and folder."""

    task: str
    variant: str
    folder: Path


@dataclass(frozen=True)
class ItemRecipe:
    """Everything that an item depends on, except its image and the task.

    Attributes:
        protocol: the rules.
        source: id of the source.
        rekey: key of a control set with fresh masks; empty for the public set.
        verify_all: compare every JPEG with the integer definition, not 1 in 64.
        masks: foreign masks, or None for drawn masks.
    """

    protocol: ProtocolSpec
    source: str
    rekey: str = ""
    verify_all: bool = False
    masks: ForeignMasks | None = None

    def task(self, target: SetTarget) -> TaskSpec:
        """Return the task of a target."""
        return self.protocol.task(target.task)

    def variant(self, target: SetTarget) -> VariantSpec:
        """Return the variant of a target."""
        return self.protocol.variant(target.task, target.variant)

    def has_mask(self, target: SetTarget) -> bool:
        """Return whether the task of a target has holes."""
        return DEGRADATIONS[self.task(target).degradation].has_mask


@dataclass
class ChunkResult:
    """Result of a chunk: target folder -> finished items, and image name -> reason of undecodable images."""

    items: dict[Path, list[Item]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def degrade(recipe: ItemRecipe, target: SetTarget, image_id: str, reference: Image) -> Degraded:
    """Return the input, mask and random draws of one image; the mask is drawn, or a foreign one."""
    spec = recipe.variant(target)
    degradation = DEGRADATIONS[recipe.task(target).degradation]
    if recipe.masks and degradation.has_mask:
        mask = recipe.masks.mask(image_id, target.variant, recipe.protocol.side)
        return Degraded(punch(reference, mask), mask)
    place = target.task, target.variant, recipe.source, image_id
    stream = Stream(stream_key(recipe.protocol.stream, *place, "mask", recipe.rekey))
    return degradation.apply(reference, spec, stream)


def make_chunk(recipe: ItemRecipe, work: list[tuple[SourceImage, list[SetTarget]]]) -> ChunkResult:
    """Make the items of a chunk of images, and return them.

    Each image is decoded once for all its targets. The files of the chunk appear together.

    Raises:
        CodecError: PB702, libjpeg differs from the integer definition.
        StorageError: PB802.
    """
    made = ChunkResult()
    with FileBatch() as batch:
        for image, targets in work:
            try:
                _make_image(recipe, image, targets, batch, made)
            except (DecodeError, OSError) as error:
                made.unreadable[image.place.name] = str(error)
    return made


def _make_image(
    recipe: ItemRecipe, image: SourceImage, targets: list[SetTarget], batch: FileBatch, made: ChunkResult
) -> None:
    data = image.place.read()
    pixels = image.pixels(data)
    source_sha256 = sha256(data)
    crops: dict[str, _Encoded] = {}
    for target in targets:
        preprocess = recipe.task(target).preprocess
        if preprocess not in crops:
            crops[preprocess] = _Encoded(PREPROCESS[preprocess](pixels, recipe.protocol.side))
        reference = crops[preprocess]
        degraded = degrade(recipe, target, image.id, reference.pixels)
        # libjpeg's image is compared with the integer definition for 1 in 64 ids, or for all.
        quality = recipe.variant(target).quality
        if quality is not None and (recipe.verify_all or hashlib.sha256(image.id.encode()).digest()[0] < 4):
            defined = reference_jpeg(reference.pixels, quality)
            if not np.array_equal(defined, degraded.input):
                where, expected = f"{image.id} at QF {quality}", pixel_digest(defined)[:16]
                found = pixel_digest(degraded.input)[:16]
                fix = "install Pillow from its wheel: pip install --force-reinstall pillow"
                raise CodecError.of("PB702", where, expected=expected, found=found, fix=fix)
        files = {"reference": reference, "input": _Encoded(degraded.input)}
        if degraded.mask is not None:
            files["mask"] = _Encoded(degraded.mask.astype(np.uint8) * 255)
        for kind, encoded in files.items():
            batch.write(target.folder / kind / f"{image.id}.png", encoded.png)
        item = Item(
            id=image.id,
            label=image.label,
            source_path=image.place.name,
            source_sha256=source_sha256,
            source_size=(pixels.shape[0], pixels.shape[1]),
            reference_px=reference.digest,
            input_px=files["input"].digest,
            mask_px=files["mask"].digest if "mask" in files else None,
            hole_pixels=None if degraded.mask is None else int(degraded.mask.sum()),
            drawn=degraded.drawn or None,
        )
        made.items.setdefault(target.folder, []).append(item)


class _Encoded:
    """Pixels with their PNG bytes and digest, computed once for all sets that share them."""

    def __init__(self, pixels: Image) -> None:
        self.pixels = pixels
        self.png = png.encode(pixels)
        self.digest = pixel_digest(pixels)


def damage(folder: Path, item: Item, side: int, degradation: str) -> dict[Path, str]:
    """Return path -> fault for the files of a stored item; empty if all pixels match the digests."""
    wanted = {
        "reference": (item.reference_px, 3),
        "input": (item.input_px, DEGRADATIONS[degradation].channels),
    }
    if item.mask_px:
        wanted["mask"] = (item.mask_px, 1)
    found = {}
    for kind, (digest, channels) in wanted.items():
        path = folder / kind / f"{item.id}.png"
        try:
            pixels, _ = png.decode_strict(png.read_regular(path), side, side, channels)
        except FileNotFoundError:
            found[path] = "missing"
        except (OSError, png.PngError) as error:
            found[path] = getattr(error, "found", str(error))
        else:
            if pixel_digest(pixels) != digest:
                found[path] = "other pixels"
    return found
