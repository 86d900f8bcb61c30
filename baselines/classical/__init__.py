"""What was done before networks: holes interpolated, borders mirrored, JPEG averaged.

What a trained method is measured against beside doing nothing. It colours nothing: no rule tells colours
from gray levels.
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

_PATCH, _REACH = 5, 6  # pixels: sides of the patches compared, and how far away they may lie
_STRENGTH, _AT, _FALL = 0.03, 20, 0.6  # near the best PSNR of a coarse grid at quality 5, 10 and 20


class Classical:
    """Interpolates, mirrors, averages; nothing is trained."""

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
        """Return what decides a pixel: this version, and those of the libraries that compute."""
        return f"classical 1, scikit-image {version('scikit-image')}, scipy {version('scipy')}"

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return itself: there is nothing to load and nothing to choose."""
        options.refuse_all_but()
        return self

    def accept(self, benchset: ContestantSet) -> None:
        """Refuse gray images.

        Raises:
            UsageError: the set asks for colours.
        """
        if benchset.public.task == "colorization":
            raise UsageError("classical has no rule that colours gray images; it takes the other tasks")

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return (N, S, S, 3) uint8; known pixels are those of the input."""
        if batch.masks is not None:
            return np.stack([fill(*pair) for pair in zip(batch.inputs, batch.masks, strict=True)])
        public = batch.benchset.public
        quality = batch.benchset.protocol.variant(public.task, public.variant).quality
        return np.stack([average(image, quality or _AT) for image in batch.inputs])


def fill(image: Image, mask: Mask) -> Image:
    """Return an image with its hole filled: mirrored where the known pixels are a rectangle, else smooth.

    Args:
        image: (H, W, 3) uint8; so is what comes back.
        mask: (H, W) bool, True = hole; at least one pixel is known.
    """
    rows, columns = (np.flatnonzero((~mask).any(axis=axis)) for axis in (1, 0))
    known = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return harmonic(image, mask) if mask[known].any() else mirrored(image, known)


def mirrored(image: Image, known: tuple[slice, slice]) -> Image:
    """Return (H, W, 3) uint8: a rectangle of such an image, rows and columns, continued by its mirror images.

    The pixels of its edge stand twice, and what reaches farther than its side is mirrored again.
    """
    margins = [(part.start, side - part.stop) for part, side in zip(known, image.shape[:2], strict=True)]
    return np.pad(image[known], (*margins, (0, 0)), mode="symmetric")


def harmonic(image: Image, mask: Mask) -> Image:
    """Return an image whose hole holds the solution of Laplace's equation between the pixels around it.

    Each pixel of the hole is the mean of its neighbours: two to four of them, as no image goes on beyond its
    border.

    Args:
        image: (H, W, 3) uint8; so is what comes back, with its known pixels as they were.
        mask: (H, W) bool, True = hole; at least one pixel is known.

    Source: the five-point form of Laplace's equation, natural at the border.
    """
    packed = np.packbits(mask).tobytes()
    solver, around = _equations(packed, mask.shape)
    values = solver.solve(around @ image.reshape(-1, 3).astype(np.float64))
    filled = image.copy()
    filled[mask] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return filled


@lru_cache(maxsize=4)
def _equations(packed: bytes, shape: tuple[int, int]) -> tuple[SuperLU, sparse.csr_array]:
    """Return the solver of a hole's M equations, and (M, H W): which known neighbours each pixel has."""
    count = shape[0] * shape[1]
    hole = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)
    index = np.arange(count).reshape(shape)
    ends = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    one = np.concatenate([a.ravel() for pair in ends for a in pair])
    other = np.concatenate([b.ravel() for pair in ends for b in pair[::-1]])
    joined = sparse.csr_array((np.ones(len(one)), (one, other)), shape=(count, count))[hole]
    inside = sparse.diags_array(joined.sum(axis=1)) - joined[:, hole]
    return splu(sparse.csc_array(inside)), sparse.csr_array(joined * ~hole)


def average(image: Image, quality: int) -> Image:
    """Return (H, W, 3) uint8: such an image from a JPEG after non-local means, averaging similar patches.

    The strength follows the coding: `_STRENGTH` of the range at quality 20, more the lower the quality.

    Source: Buades et al. 2005, the fast form of scikit-image.
    """
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415  # a second to import

    strength = _STRENGTH * (_AT / quality) ** _FALL
    smooth = denoise_nl_means(image / 255, _PATCH, _REACH, strength, channel_axis=-1)
    return np.asarray(np.clip(np.rint(255 * smooth), 0, 255), np.uint8)


baseline = Classical()
