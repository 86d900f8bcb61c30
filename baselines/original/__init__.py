"""The ceiling of every board: the references themselves, sent through the same door as everyone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer


class Original:
    """Hands in the originals: what the paper prints as "Original images"."""

    about = MethodInfo(
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
    identity = "original 1"

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return itself: there is nothing to load and nothing to choose."""
        options.refuse_all_but()
        return self

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the judge's references, (N, S, S, 3) uint8.

        Raises:
            BenchSetError: the folder holds only the set's public part.
        """
        whole = _whole(batch.benchset.folder)
        return np.stack([whole.reference(image_id) for image_id in batch.ids])


@lru_cache(maxsize=1)
def _whole(folder: Path) -> BenchSet:
    """Open the owner's full set, once for all batches of a run."""
    return BenchSet.open(folder)


baseline = Original()
