"""Decoding of source images, and cropping to the protocol's square in exact integers.

Source: protocol, section 4.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from palette_bench.core.types import Image
from palette_bench.tasks.image_files import ends_filled, fault_of, has_end, kind_of

# Errors that Pillow raises on damaged files, found by damaging files. The two for decompression bombs (more
# than 179 million pixels) are no subclasses of the others.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error),
    PillowImage.DecompressionBombError,
    PillowImage.DecompressionBombWarning,
)

_ORIENTATION = 0x0112  # EXIF tag
_ROWS = 64  # rows of an averaged image that are computed at a time
_PNG_DEPTH = 24  # offset of the bit depth in a PNG file
_MODES = frozenset({"1", "L", "P", "RGB", "CMYK"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA"})


class DecodeError(ValueError):
    """A source image is unreadable or of an unsupported kind; the message says which."""


def _opened(data: bytes) -> PillowImage.Image:
    """Return an opened image of a supported kind; its pixels are not decoded yet."""
    if data[:4] == b"\x89PNG" and data[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10":
        raise DecodeError("16 bits per channel: save it with 8")
    try:
        image = PillowImage.open(io.BytesIO(data), formats=["JPEG", "PNG"])
    except UnidentifiedImageError:
        begins = data.startswith((b"\x89PNG", b"\xff\xd8"))
        raise DecodeError((begins and fault_of(data)) or kind_of(data)) from None
    if image.mode not in _MODES | _ALPHA_MODES:
        raise DecodeError(f"mode {image.mode}: 8-bit gray, palette, RGB and CMYK are accepted")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise DecodeError("more than one frame: an animation")
    return image


def _in_rgb(image: PillowImage.Image) -> Image:
    """Return the pixels as (H, W, 3) RGB; fully opaque alpha, as in screenshots, is dropped."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DecodeError("transparent pixels: lay the image on a background first")
    return np.asarray(image.convert("RGB"))


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the header; check kind and end marker without decoding the pixels.

    Raises:
        DecodeError: not a JPEG or PNG, of an unsupported kind, or truncated.
    """
    try:
        with _opened(data) as image:
            size = image.height, image.width
    except UNREADABLE as error:
        raise DecodeError(str(error)) from error
    if not has_end(data):
        raise DecodeError("truncated: the end marker is missing")
    return size


def decode(data: bytes, *, proven: bool = False) -> Image:
    """Return a JPEG or PNG file as (H, W, 3) uint8 RGB; the reader of all source images.

    EXIF orientation and colour profiles are ignored. Gray, palette and CMYK images are converted, and opaque
    alpha is dropped. Data after the end of the image is ignored, such as a phone's video or a camera's second
    image.

    Args:
        data: content of the file.
        proven: whether this file was decoded successfully before. If so, the costly check for a cut JPEG scan
            only runs if the last pixel has libjpeg's fill level; a JPEG that has since lost its last bytes
            may go unnoticed.

    Raises:
        DecodeError: no JPEG or PNG inside, damaged, truncated, of 16 bits, transparent or animated.
    """
    try:
        with _opened(data) as image:
            pixels = _in_rgb(image)
            last = image.getpixel((image.width - 1, image.height - 1))
            own = pixels if image.mode == "RGB" else np.asarray(image)
        if fault := fault_of(data, decoding=not proven or ends_filled(np.array(last)), pixels=own):
            raise DecodeError(fault)
    except UNREADABLE as error:
        raise error if isinstance(error, DecodeError) else DecodeError(_why(data, error)) from error
    return pixels


def _why(data: bytes, error: Exception) -> str:
    """Return why an image cannot be decoded, in this package's words if possible, else in the decoder's."""
    if isinstance(error, PillowImage.DecompressionBombError | PillowImage.DecompressionBombWarning):
        return str(error)  # a decompression bomb is not inflated to look for faults
    try:
        return fault_of(data) or str(error)
    except UNREADABLE:
        return str(error)


def decode_upright(data: bytes) -> Image:
    """Return an image as `decode` does, then rotate it as its EXIF orientation says.

    Benchmark sources ignore the orientation, but a user's own images should not come out rotated.

    Raises:
        DecodeError: as in `decode`.
    """
    pixels = decode(data)
    try:
        with _opened(data) as image:
            if image.getexif().get(_ORIENTATION, 1) != 1:
                pixels = _in_rgb(ImageOps.exif_transpose(image))
    except UNREADABLE as error:
        raise DecodeError(str(error)) from error
    return pixels


@lru_cache(maxsize=64)
def _taps(source: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the input rows that each output row overlaps, and the weights of the overlap.

    Returns:
        indices: (taps, side), input rows; weights: (taps, side), w(i,k) = max(0, min((i+1)s, (k+1)side) -
            max(is, k side)) for output row i, input row k and s input rows. Rows beyond the overlap have
            weight 0.
    """
    rows = np.arange(side)
    count = source // side + 2
    indices = (rows * source) // side + np.arange(count)[:, None]
    overlap = np.minimum((rows + 1) * source, (indices + 1) * side) - np.maximum(
        rows * source, indices * side
    )
    weights = np.maximum(overlap, 0)
    return np.minimum(indices, source - 1), weights


def _weighted_rows(
    pixels: NDArray[np.integer], taps: tuple[NDArray[np.intp], NDArray[np.int64]], dtype: type
) -> NDArray[np.integer]:
    total = np.zeros((taps[0].shape[1], *pixels.shape[1:]), dtype)
    weighted = np.empty_like(total)
    for indices, weights in zip(*taps, strict=True):
        if weights.any():
            total += np.multiply(pixels[indices], weights.astype(dtype)[:, None, None], out=weighted)
    return total


def crop_area(pixels: Image, side: int) -> Image:
    """Return the central square, averaged over areas to (side, side, 3) uint8; crop-area-v1.

    With S the overlap-weighted sum of samples and s the shorter side, output = (2S + s^2) // (2 s^2). The
    same formula enlarges images smaller than `side`.

    Args:
        pixels: (H, W, 3) uint8.
        side: output side, pixels.

    Source: protocol, section 4.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[top : top + short, left : left + short]
    if short == side:
        return square.copy()
    # 2S + s^2 <= 511 s^2 must not overflow; int32 moves half the bytes and suffices up to 2,049 pixels
    dtype = np.int32 if 511 * short * short < 2**31 else np.int64
    taps = _taps(short, side)
    indices, weights = taps
    area = short * short
    averaged = np.empty((side, side, 3), np.uint8)
    # Some rows at a time: arrays of all rows would be new memory from the system, cleared for every image.
    for top in range(0, side, _ROWS):
        rows = slice(top, top + _ROWS)
        by_rows = _weighted_rows(square, (indices[:, rows], weights[:, rows]), dtype)
        total = _weighted_rows(np.ascontiguousarray(by_rows.transpose(1, 0, 2)), taps, dtype)
        averaged[rows] = ((2 * total + area) // (2 * area)).transpose(1, 0, 2)
    return averaged


def crop_window(pixels: Image, side: int) -> Image:
    """Return the central (side, side, 3) window without resampling; crop256-v1.

    Images with a side below `side` are passed to `crop_area` instead.

    Source: protocol, section 4.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        return crop_area(pixels, side)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side].copy()


PREPROCESS: dict[str, Callable[[Image, int], Image]] = {
    "crop-area-v1": crop_area,
    "crop256-v1": crop_window,
}
