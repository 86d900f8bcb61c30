"""The jpeg-v1 degradation: loss of baseline JPEG, defined in integers without entropy coding.

`reference_jpeg` is the definition. `fast_jpeg` runs libjpeg-turbo through Pillow; it is bit-equal and several
times as fast. Source: protocol, section 5.2.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from palette_bench.core.fingerprint import sha256
from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.protocol import Degraded, VariantSpec

_Ints = NDArray[np.int64]

# ITU-T T.81, Annex K, tables K.1 (luminance) and K.2 (chrominance), row by row
_LUMINANCE = """
16 11 10 16 24 40 51 61
12 12 14 19 26 58 60 55
14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77
24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99
18 21 26 66 99 99 99 99
24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
"""


# the 8x8 integer transform A: its right half mirrors the left, negated in odd rows
_LEFT = np.array(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ],
    np.int64,
)
_A = np.hstack([_LEFT, np.array([[1], [-1]] * 4) * _LEFT[:, ::-1]])


def quantisation_tables(quality: int) -> tuple[_Ints, _Ints]:
    """Return the (8, 8) luminance and chrominance tables of a quality factor in 1..100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(  # type: ignore[return-value]  # a pair
        np.clip((np.array(text.split(), np.int64) * scale + 50) // 100, 1, 255).reshape(8, 8)
        for text in (_LUMINANCE, _CHROMINANCE)
    )


def _rounded(values: _Ints, bits: int) -> _Ints:
    """Return R(V, n) = (V + 2^(n-1)) >> n, the rounded division by 2^n."""
    return (values + (1 << (bits - 1))) >> bits


def _quantised_plane(plane: _Ints, table: _Ints) -> _Ints:
    """Return a plane after transform, quantisation and inverse transform, in 0..255."""
    height, width = plane.shape
    blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3)
    coefficients = _rounded(_A @ _rounded(blocks @ _A.T, 11), 15)
    divisor = 8 * table
    levels = np.sign(coefficients) * ((np.abs(coefficients) + divisor // 2) // divisor)
    restored = _rounded(_rounded(_A.T @ (levels * table), 11) @ _A, 18)
    samples = np.clip(restored + 128, 0, 255)
    return samples.transpose(0, 2, 1, 3).reshape(height, width)


def _halved(plane: _Ints) -> _Ints:
    """Return the means of 2x2 blocks; the rounding bias is 1 in even and 2 in odd output columns."""
    height, width = plane.shape
    sums = plane.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3))
    halved: _Ints = (sums + 1 + np.arange(width // 2) % 2) >> 2
    return halved


def _neighbours(plane: _Ints, axis: int) -> tuple[_Ints, _Ints]:
    """Return the previous and the next neighbour of every pixel along an axis, with borders repeated."""
    padding = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
    padded = np.pad(plane, padding, mode="edge")
    size = plane.shape[axis]
    return padded.take(range(size), axis), padded.take(range(2, size + 2), axis)


def _doubled(plane: _Ints) -> _Ints:
    """Return a chroma plane at twice its size, by libjpeg's triangle filter ('fancy upsampling')."""
    above, below = _neighbours(plane, 0)
    rows = np.stack([3 * plane + above, 3 * plane + below], axis=1).reshape(-1, plane.shape[1])
    before, after = _neighbours(rows, 1)
    columns = np.stack([(3 * rows + before + 8) >> 4, (3 * rows + after + 7) >> 4], axis=2)
    return columns.reshape(rows.shape[0], -1)


def reference_jpeg(pixels: Image, quality: int) -> Image:
    """Return the image after jpeg-v1, by the integer definition.

    Args:
        pixels: (S, S, 3) uint8, S divisible by 16.
        quality: quality factor, 1..100.

    Source: protocol, section 5.2, steps 1 to 6.
    """
    red, green, blue = (pixels[..., c].astype(np.int64) for c in range(3))
    chroma = (
        (-11059 * red - 21709 * green + 32768 * blue + 8421375) >> 16,
        (32768 * red - 27439 * green - 5329 * blue + 8421375) >> 16,
    )
    luminance, chrominance = quantisation_tables(quality)
    y = _quantised_plane(luma(pixels).astype(np.int64), luminance)
    u, v = (_doubled(_quantised_plane(_halved(plane), chrominance)) - 128 for plane in chroma)
    rgb = (
        y + ((91881 * v + 32768) >> 16),
        y + ((-22554 * u - 46802 * v + 32768) >> 16),
        y + ((116130 * u + 32768) >> 16),
    )
    restored: Image = np.clip(np.stack(rgb, axis=2), 0, 255).astype(np.uint8)
    return restored


def fast_jpeg(pixels: Image, quality: int) -> Image:
    """Return the image after jpeg-v1, by Pillow's libjpeg-turbo; bit-equal to `reference_jpeg`."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(
        file, "JPEG", quality=quality, subsampling="4:2:0", optimize=False, progressive=False
    )
    with PillowImage.open(file, formats=["JPEG"]) as image:
        return np.asarray(image)


def jpeg_v1(reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
    """Return the reference after JPEG compression at the variant's quality factor."""
    quality = variant.quality
    assert quality is not None, "a jpeg variant has a quality"
    tables = b"".join(table.astype(np.uint8).tobytes() for table in quantisation_tables(quality))
    drawn: dict[str, int | str] = {"qf": quality, "quant_sha256": sha256(tables)}
    return Degraded(fast_jpeg(reference, quality), drawn=drawn)
