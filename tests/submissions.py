"""Submissions for tests: sound ones, to be broken one rule at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.png import encode
from palette_bench.core.types import Image
from palette_bench.submission.methods import RestoreOptions, Restorer, load_baseline

Draw = Callable[[BenchSet, str], Image]

CARD = """\
schema = "palette-bench/submission/1.0"
[method]
slug = "{slug}"
name = "A method of the tests"
version = "1"
authors = ["A. Nobody"]
license = "CC0-1.0"
[target]
protocol = "{protocol}"
source = "{source}"
task = "{task}"
variant = "{variant}"
set = "{fingerprint}"
samples_per_image = {samples}
[training]
datasets = []
saw_test_images = "no"
task_specific = true
[sampling]
sampler = "none"
[declared]
uses_mask = false
uses_label = false
"""


def ready(method: str) -> Restorer:
    """Return an installed contestant without options, ready to restore."""
    return load_baseline(method).restorer(RestoreOptions())


def plausible(target: BenchSet, image_id: str) -> Image:
    """Return what a fair method might: near the original, equal to nothing, known pixels untouched."""
    reference = target.reference(image_id)
    mask = target.mask(image_id)
    changed = reference ^ 4
    return changed if mask is None else np.where(mask[:, :, None], changed, reference)


def original(target: BenchSet, image_id: str) -> Image:
    """Return the reference itself."""
    return target.reference(image_id)


def copied(target: BenchSet, image_id: str) -> Image:
    """Return the input itself."""
    return target.condition(image_id)


def write_card(target: BenchSet, folder: Path, *, slug: str = "test-method", samples: int = 1) -> None:
    """Write a submission.toml that answers `target`."""
    manifest = target.manifest
    folder.joinpath("submission.toml").write_text(
        CARD.format(
            slug=slug,
            protocol=manifest.protocol,
            source=manifest.source,
            task=manifest.task,
            variant=manifest.variant,
            fingerprint=manifest.set_fingerprint,
            samples=samples,
        )
    )


def submit(
    benchset: Path, folder: Path, draw: Draw = plausible, *, slug: str = "test-method", samples: int = 1
) -> Path:
    """Write a submission folder with one image per id and sample."""
    target = BenchSet.open(benchset)
    for place in ["outputs", *(f"samples/{k}" for k in range(1, samples))]:
        folder.joinpath(place).mkdir(parents=True)
        for image_id in target.ids:
            folder.joinpath(place, f"{image_id}.png").write_bytes(encode(draw(target, image_id)))
    write_card(target, folder, slug=slug, samples=samples)
    return folder


def zipped(folder: Path, archive: Path) -> Path:
    """Zip the content of a folder, with entries for its folders, as `zip -r` does."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder).as_posix())
    return archive
