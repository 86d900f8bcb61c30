"""The ceiling of every board: the references themselves, sent through the same door as everyone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.restore import About, Batch, Restorer


@dataclass(frozen=True)
class References:
    """Reads the judge's references; it needs the whole set, not only its public part."""

    benchset: BenchSet

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the references, (N, S, S, 3) uint8."""
        return np.stack([self.benchset.reference(image_id) for image_id in batch.ids])


class Original:
    """Hands in the originals: what the paper prints as "Original images"."""

    about = About(
        method=Method(
            slug="original",
            name="original",
            version="1",
            authors=("palette-bench",),
            license="Apache-2.0",
        ),
        training=Training(datasets=(), saw_test_images="no", parameters=0, task_specific=False),
        sampling=Sampling(sampler="none", steps=0),
        declared=Declared(uses_mask=False, uses_label=False),
    )

    def restorer(self, benchset: ContestantSet) -> Restorer:
        """Return the references of the set in the same folder."""
        return References(BenchSet.open(benchset.folder))


baseline = Original()
