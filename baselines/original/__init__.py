"""Baseline that submits the references like any method's outputs: the upper anchor of every board."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer


class Original:
    """Submits the reference images; the paper prints this row as "Original images"."""

    about = MethodInfo(
        method=Method(
            slug="original", name="original", version="1", authors=("palette-bench",), license="Apache-2.0"
        ),
        training=Training(datasets=(), saw_test_images="no", parameters=0, task_specific=False),
        sampling=Sampling(sampler="none", steps=0),
        declared=Declared(uses_mask=False, uses_label=False),
    )
    identity = "original 1"

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return this object: the method loads nothing and takes no options."""
        options.refuse_all_but()
        return self

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the reference images, (N, S, S, 3) uint8.

        Raises:
            BenchSetError: the folder holds only the set's public part.
        """
        whole = _whole(batch.benchset.folder)
        return np.stack([whole.reference(image_id) for image_id in batch.ids])


@lru_cache(maxsize=1)
def _whole(folder: Path) -> BenchSet:
    """Return the full set, references included; opened once for all batches of a run."""
    return BenchSet.open(folder)


baseline = Original()
