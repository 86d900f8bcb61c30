"""Baseline that returns the input unchanged: the lower anchor of every board, and a minimal example."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer


class CopyInput:
    """Returns its input; a gray input is repeated in three channels."""

    about = MethodInfo(
        method=Method(
            slug="copy-input",
            name="copy-input",
            version="1",
            authors=("palette-bench",),
            license="Apache-2.0",
        ),
        training=Training(datasets=(), saw_test_images="no", parameters=0, task_specific=False),
        sampling=Sampling(sampler="none", steps=0),
        declared=Declared(uses_mask=False, uses_label=False),
    )

    identity = "copy-input 1"

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return this object: the method loads nothing and takes no options."""
        options.refuse_all_but()
        return self

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the inputs, (N, S, S, 3) uint8."""
        return np.broadcast_to(batch.inputs, (*batch.inputs.shape[:3], 3))


baseline = CopyInput()
