"""`verify`: recomputes a set, and reports all changed, missing and foreign files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from palette_bench.benchset.items import KINDS, ItemRecipe, SetTarget, damage, degrade
from palette_bench.benchset.making import OURS
from palette_bench.benchset.manifest import MANIFEST, PUBLIC, BenchSet, Item, PublicSet, set_fingerprint
from palette_bench.core.errors import Problem, problem
from palette_bench.core.journal import is_ours
from palette_bench.core.processes import in_processes
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, AnyPath, Progress
from palette_bench.tasks import canary
from palette_bench.tasks.degradations.hole import punch
from palette_bench.tasks.protocol import Degraded

_CHUNK = 64
_REPAIR = "delete the file and run the same generate command again: it is redone"


def verify(folder: AnyPath, *, workers: int = 1, progress: Progress = SILENT) -> list[Problem]:
    """Return all problems of a set; an empty list if it agrees with its manifest.

    Every image is decoded strictly and its digest compared. Every input and drawn mask is recomputed from the
    reference, and the fingerprint from the items. Foreign files are listed.

    Args:
        folder: the set.
        workers: number of processes.
        progress: callback that reports each chunk of images.

    Raises:
        BenchSetError: the folder holds no finished set.
        CodecError: the image libraries of this machine give wrong results.
    """
    canary.prove()
    benchset, folder = BenchSet.open(folder), Path(folder)
    items = benchset.manifest.items
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    changed: dict[Path, str] = {}
    with progress("verifying", len(items)) as advance:
        for found in in_processes(partial(_verify_chunk, folder), chunks, workers):
            changed |= found
            advance(min(_CHUNK, len(items)))
    # one problem per reason, with all files that it applies to
    problems = []
    for reason in sorted(set(changed.values())):
        code = "PB201" if reason == "missing" else "PB602"
        ids = sorted(p.relative_to(folder).as_posix() for p, why in changed.items() if why == reason)
        expected = "the images of the manifest"
        problems.append(problem(code, str(folder), expected=expected, found=reason, fix=_REPAIR, ids=ids))
    return [*problems, *_records(benchset), *_foreign(benchset)]


def _verify_chunk(folder: Path, items: tuple[Item, ...]) -> dict[Path, str]:
    benchset = BenchSet.open(folder)
    found: dict[Path, str] = {}
    for item in items:
        stored = damage(folder, item, benchset.protocol.side, benchset.task.degradation)
        found |= stored or _recomputed(benchset, item)
    return found


def _recomputed(benchset: BenchSet, item: Item) -> dict[Path, str]:
    """Return path -> fault for the files of an item that differ from a recomputation from its reference."""
    manifest, found = benchset.manifest, {}
    reference, mask = benchset.reference(item.id), benchset.mask(item.id)
    if manifest.masks in ("generated", "none"):
        recipe = ItemRecipe(benchset.protocol, manifest.source, manifest.rekey)
        target = SetTarget(manifest.task, manifest.variant, benchset.folder)
        degraded = degrade(recipe, target, item.id, reference)
    else:  # a foreign mask cannot be drawn again; its stored digest was compared
        assert mask is not None, "foreign masks belong to hole-v1"
        degraded = Degraded(punch(reference, mask), mask)
    if not np.array_equal(degraded.input, benchset.input(item.id)):
        found[benchset.path("input", item.id)] = "not what the protocol makes of the reference"
    if degraded.mask is not None and mask is not None and not np.array_equal(degraded.mask, mask):
        found[benchset.path("mask", item.id)] = "not the mask the protocol draws"
    return found


def _records(benchset: BenchSet) -> list[Problem]:
    """Return the problems of manifest.json and public.json: values that do not follow from the items."""
    manifest = benchset.manifest
    found = set_fingerprint(manifest.header, manifest.items)
    problems = []
    if found != manifest.set_fingerprint or manifest.n != len(manifest.items):
        problems.append(
            problem("PB602", MANIFEST, expected=manifest.set_fingerprint[:12], found=found[:12], fix=_REPAIR)
        )
    public = benchset.folder / PUBLIC
    if not public.is_file() or PublicSet.read(public) != manifest.public():
        problems.append(problem("PB602", PUBLIC, expected="the manifest's public part", fix=_REPAIR))
    return problems


def _foreign(benchset: BenchSet) -> list[Problem]:
    """Return PB106 for files and folders that do not belong to the set, if there are any."""
    names = {f"{image_id}.png" for image_id in benchset.ids}
    folder = benchset.folder
    found = [p.name for p in folder.iterdir() if p.name not in OURS and not is_ours(p.name)]
    for kind in KINDS if benchset.has_masks else KINDS[:2]:
        found += [f"{kind}/{p.name}" for p in (folder / kind).iterdir() if p.name not in names]
    found = [name for name in found if not is_litter(name)]
    if not benchset.has_masks and (folder / "mask").exists():
        found.append("mask")
    if not found:
        return []
    return [problem("PB106", str(folder), fix="remove what does not belong to the set", ids=sorted(found))]
