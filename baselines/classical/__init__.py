"""Classical restoration without networks: interpolated or mirrored holes, and non-local means for JPEG.

Beside `copy-input`, this is the second reference point for trained methods. It does not support colorization,
as no classical rule infers colours from gray levels.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import UsageError
from palette_bench.core.types import Image, Mask
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer

_PATCH, _REACH = 5, 6  # pixels: side of compared patches, and how far apart they may lie
# filter strength at quality `_AT`, and its exponent in 1 / quality; near the best PSNR of a coarse grid at
# quality 5, 10 and 20
_STRENGTH, _AT, _FALL = 0.03, 20, 0.6


class Classical:
    """Interpolates, mirrors and averages; nothing is trained."""

    about = MethodInfo(
        method=Method(
            slug="classical",
            name="classical: harmonic, mirror, non-local means",
            version="1",
            authors=("palette-bench",),
            license="Apache-2.0",
        ),
        training=Training(datasets=(), saw_test_images="no", parameters=0, task_specific=True),
        sampling=Sampling(sampler="none", steps=0),
        declared=Declared(uses_mask=True, uses_label=False),
    )

    @property
    def identity(self) -> str:
        """Return the versions that determine the pixels: of this method and of its libraries."""
        return f"classical 1, scikit-image {version('scikit-image')}, scipy {version('scipy')}"

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return this object: the method loads nothing and takes no options."""
        options.refuse_all_but()
        return self

    def accept(self, benchset: ContestantSet) -> None:
        """Raise for a colorization set, as the method does not support the task.

        Raises:
            UsageError: the task is colorization.
        """
        if benchset.public.task == "colorization":
            raise UsageError("classical has no rule that colours gray images; it takes the other tasks")

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return restored images, (N, S, S, 3) uint8; pixels outside a hole equal the input."""
        if batch.masks is not None:
            return np.stack([fill(*pair) for pair in zip(batch.inputs, batch.masks, strict=True)])
        public = batch.benchset.public
        quality = batch.benchset.protocol.variant(public.task, public.variant).quality
        return np.stack([average(image, quality or _AT) for image in batch.inputs])


def fill(image: Image, mask: Mask) -> Image:
    """Return the image with its hole filled: mirrored if the known pixels form a rectangle, else harmonic.

    Args:
        image: (H, W, 3) uint8; the result has the same shape and dtype.
        mask: (H, W) bool, True = hole; at least one pixel is known.
    """
    rows, columns = (np.flatnonzero((~mask).any(axis=axis)) for axis in (1, 0))
    known = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return harmonic(image, mask) if mask[known].any() else mirrored(image, known)


def mirrored(image: Image, known: tuple[slice, slice]) -> Image:
    """Return the known rectangle of an image, continued by reflection to (H, W, 3) uint8.

    Edge pixels are repeated. Where a margin is wider than the rectangle, the reflection is reflected again.

    Args:
        image: (H, W, 3) uint8.
        known: row and column slices of the rectangle.
    """
    margins = [(part.start, side - part.stop) for part, side in zip(known, image.shape[:2], strict=True)]
    return np.pad(image[known], (*margins, (0, 0)), mode="symmetric")


def harmonic(image: Image, mask: Mask) -> Image:
    """Return the image whose hole holds the solution of Laplace's equation between the pixels around it.

    Each hole pixel is the mean of its neighbours. There are two to four of them, as there are none outside
    the image.

    Args:
        image: (H, W, 3) uint8; the result has the same shape and dtype, and the same known pixels.
        mask: (H, W) bool, True = hole; at least one pixel is known.

    Source: the five-point form of Laplace's equation, with natural boundary conditions at the image border.
    """
    packed = np.packbits(mask).tobytes()
    solver, around = _equations(packed, mask.shape)
    values = solver.solve(around @ image.reshape(-1, 3).astype(np.float64))
    filled = image.copy()
    filled[mask] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return filled


# the mask comes as packed bytes because a cache key must be hashable
@lru_cache(maxsize=4)
def _equations(packed: bytes, shape: tuple[int, int]) -> tuple[SuperLU, sparse.csr_array]:
    """Return the solver of a hole's M equations, and the (M, H W) adjacency of hole and known pixels."""
    count = shape[0] * shape[1]
    hole = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)
    index = np.arange(count).reshape(shape)
    ends = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    one = np.concatenate([a.ravel() for pair in ends for a in pair])
    other = np.concatenate([b.ravel() for pair in ends for b in pair[::-1]])
    # rows of hole pixels of the image's 4-neighbour adjacency matrix
    joined = sparse.csr_array((np.ones(len(one)), (one, other)), shape=(count, count))[hole]
    # number of neighbours on the diagonal, -1 for each neighbour within the hole
    inside = sparse.diags_array(joined.sum(axis=1)) - joined[:, hole]
    return splu(sparse.csc_array(inside)), sparse.csr_array(joined * ~hole)


def average(image: Image, quality: int) -> Image:
    """Return a JPEG-compressed image after non-local means, which averages similar patches, (H, W, 3) uint8.

    The strength depends on the JPEG quality: it is `_STRENGTH` of the value range at quality 20, and higher
    at lower quality.

    Source: Buades et al. 2005, the fast form of scikit-image.
    """
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415  # a second to import

    strength = _STRENGTH * (_AT / quality) ** _FALL
    smooth = denoise_nl_means(image / 255, _PATCH, _REACH, strength, channel_axis=-1)
    return np.asarray(np.clip(np.rint(255 * smooth), 0, 255), np.uint8)


baseline = Classical()
