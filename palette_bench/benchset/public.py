"""The permitted part of a set, for contestants on another machine."""

from __future__ import annotations

from pathlib import Path

from palette_bench.benchset.manifest import PUBLIC, BenchSet
from palette_bench.core import atomic
from palette_bench.core.records import read_file


def export_public(folder: Path, out: Path) -> None:
    """Copy inputs, masks and `public.json` of a set to `out`; nothing else of it.

    Raises:
        BenchSetError: there is no finished set.
        StorageError: PB801, PB802.
    """
    benchset = BenchSet.open(folder)
    for kind in ("input", "mask") if benchset.has_masks else ("input",):
        atomic.make_folder(out / kind)
        with atomic.Batch() as batch:
            for image_id in benchset.ids:
                batch.write(out / kind / f"{image_id}.png", read_file(benchset.path(kind, image_id)))
    atomic.write_bytes(out / PUBLIC, read_file(folder / PUBLIC))
