"""Classical restoration without networks: a rule for each degradation but that of colorization.

Holes are interpolated or mirrored, JPEG images averaged by non-local means, reduced images enlarged by
Lanczos' window, and blurred images deconvolved by Wiener's filter.

Beside `copy-input`, this is the second reference point for trained methods. It does not support colorization,
as no classical rule infers colours from gray levels.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import UsageError
from palette_bench.core.types import Image, Mask
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer
from palette_bench.tasks.degradations.blur import binomial

_PATCH, _REACH = 5, 6  # pixels: side of compared patches, and how far apart they may lie
# filter strength at quality `_AT`, and its exponent in 1 / quality; near the best PSNR of a coarse grid at
# quality 5, 10 and 20
_STRENGTH, _AT, _FALL = 0.03, 20, 0.6
_BALANCE = 0.001  # of Wiener's regulariser; the best of 0.001, 0.003, 0.01, 0.03 and 0.1 at sigma 3


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
        variant = batch.benchset.protocol.variant(public.task, public.variant)
        match batch.benchset.task.degradation:
            case "area-v1":
                return np.stack([enlarge(image, variant.parameters["factor"]) for image in batch.inputs])
            case "blur-v1":
                return np.stack([deconvolve(image, variant.parameters["sigma"]) for image in batch.inputs])
        return np.stack([average(image, variant.quality or _AT) for image in batch.inputs])


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


def enlarge(image: Image, factor: int) -> Image:
    """Return an area-v1 input, (S, S, 3) uint8, reduced to one pixel a block and enlarged by Lanczos' window.

    Source: Pillow's resize, three lobes.
    """
    reduced = PillowImage.fromarray(np.ascontiguousarray(image[::factor, ::factor]))
    return np.asarray(reduced.resize(image.shape[1::-1], PillowImage.Resampling.LANCZOS))


def deconvolve(image: Image, sigma: int) -> Image:
    """Return a blur-v1 input, (S, S, 3) uint8, after Wiener's filter for the kernel of blur-v1.

    Source: Wiener 1949, with the Laplacian as regulariser, the form of scikit-image.
    """
    from skimage.restoration import wiener  # noqa: PLC0415  # a second to import

    weights = binomial(sigma) / 2.0 ** (4 * sigma * sigma)
    reach = len(weights) - 1  # the filter treats images as periodic: continue them beyond its influence
    padded = np.pad(image / 255, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    kernel = np.outer(weights, weights)
    sharp = np.stack(
        [
            wiener(padded[..., c], kernel, _BALANCE, clip=False)  # type: ignore[no-untyped-call]  # no types
            for c in range(3)
        ],
        axis=-1,
    )
    inner = sharp[reach:-reach, reach:-reach]
    return np.asarray(np.clip(np.rint(255 * inner), 0, 255), np.uint8)


baseline = Classical()
