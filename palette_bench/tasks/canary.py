"""Canaries: tests, on this machine, of the codecs and the arithmetic that every digest depends on.

They run before anything is written and take under 0.1 s. Source: protocol, section 7; trust, section 3.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from palette_bench import __version__
from palette_bench.core import png, rng
from palette_bench.core.errors import CodecError, Problem, errors_of, problem
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.area import block_means
from palette_bench.tasks.degradations.blur import blur
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import freeform_in
from palette_bench.tasks.degradations.jpeg import fast_jpeg, reference_jpeg
from palette_bench.tasks.preprocess import crop_area, crop_window, decode

# Expected digests, leading 16 hexadecimal digits: of each decoded file, then of pattern K at each quality
_DECODED = {
    "420": "e974ef7aaa9130df",
    "422": "fa386f388fac12ea",
    "444": "8caaffce46ca7613",
    "gray": "3ed07d27caded20e",
    "cmyk": "7c12d6723fbbe009",
    "progressive": "e974ef7aaa9130df",
}
_ENCODED = {5: "7cdb8d88bac8c0f6", 10: "5510fbcf770da7e2", 20: "b17ce0c4462519c0"}
_KEY = (
    "palette-bench/stream-v1|palette-2022|inpainting|freeform-20-30|imagenet-ctest10k"
    "|ILSVRC2012_val_00025275|{}|"
)
_NOISE = "1d7986493e0551e8"
_WORDS = [872388430, 3885269449, 970505555, 2353510029]


# error code -> what its canaries check
KINDS = {
    "PB701": "decoding JPEG",
    "PB702": "encoding JPEG",
    "PB703": "integers, masks, crops, PNG",
    "PB706": "sampling noise",
}


def pattern_k() -> Image:
    """Return test pattern K, (64, 64, 3) uint8: channels 4r, 4c, rc mod 256 (r row, c column)."""
    r, c = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    return np.stack([4 * r, 4 * c, r * c % 256], axis=2).astype(np.uint8)


def pattern_p(height: int, width: int) -> Image:
    """Return test pattern P, (height, width, 3) uint8: (7r + 13c + 50 channel + rc) mod 256."""
    r, c, k = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((7 * r + 13 * c + 50 * k + r * c) % 256).astype(np.uint8)


def _short(pixels: NDArray[np.uint8]) -> str:
    return pixel_digest(pixels)[:16]


def _canaries() -> Iterator[tuple[str, str, str, str]]:
    """Yield (code, what, expected, found) of every canary."""
    folder = files("palette_bench.tasks") / "canary"
    for name, expected in _DECODED.items():
        yield "PB701", f"decoding {name}.jpg", expected, _short(decode((folder / f"{name}.jpg").read_bytes()))
    for quality, expected in _ENCODED.items():
        yield "PB702", f"libjpeg-turbo at QF {quality}", expected, _short(fast_jpeg(pattern_k(), quality))
        yield "PB702", f"integer JPEG at QF {quality}", expected, _short(reference_jpeg(pattern_k(), quality))
    fill = rng.normals(_KEY.format("fill"), (256, 256, 3))
    mask, _ = freeform_in((13108, 19660), 256, rng.Stream(_KEY.format("mask")))
    integers = {
        "gray-v1": ("78873bed474c4614", _short(luma(pattern_k()))),
        "area-v1": ("cce5f3f52a297b9b", _short(block_means(pattern_k(), 4).repeat(4, 0).repeat(4, 1))),
        "blur-v1": ("4a6debd4fabb2889", _short(blur(pattern_k(), 3))),
        "crop-area-v1": ("6e60bd7c6a9f0f4d", _short(crop_area(pattern_p(100, 70), 256))),
        "crop-area-v1, smaller": ("be6ac8f66a5433ed", _short(crop_area(pattern_p(300, 451), 256))),
        "crop256-v1": ("b77d05090bf237f6", _short(crop_window(pattern_p(333, 300), 256))),
        "normal table": ("1ea009ce409dac97", sha256(rng.normal_table().astype("<i2").tobytes())[:16]),
        "cosine table": ("cdd64e43c9954d42", sha256(rng.cosine_table().astype("<i4").tobytes())[:16]),
        "fill": ("a3f176712be6b724", sha256(fill.astype("<i2").tobytes())[:16]),
        "mask": ("8cf87b474b7f15f8", _short(mask.astype(np.uint8) * 255)),
        "PNG": (_short(pattern_k()), _short(png.decode_strict(png.encode(pattern_k()), 64, 64, 3)[0])),
    }
    for what, (expected, digest) in integers.items():
        yield "PB703", what, expected, digest
    words = rng.Stream(_KEY.format("mask"))
    yield "PB703", "stream words", str(_WORDS), str([words.u32() for _ in _WORDS])
    # no set and no score depends on the noise of samplers
    block = rng.sampling_noise(0, "canary", 0, 0, (3, 64, 64))
    yield "PB706", "pb-noise-v1", _NOISE, sha256(block.astype("<f4").tobytes())[:16]


def findings() -> list[Problem]:
    """Return one problem per failed canary; each problem names the library versions."""
    versions = ", ".join(f"{k} {v}" for k, v in environment().items() if k != "cpu")
    return [
        problem(code, what, expected=expected, found=f"{found} with {versions}", fix=_FIXES[code])
        for code, what, expected, found in _canaries()
        if expected != found
    ]


_FIXES = {
    "PB701": "install Pillow from its wheel (libjpeg-turbo): pip install --force-reinstall pillow",
    "PB702": "install Pillow from its wheel (libjpeg-turbo): pip install --force-reinstall pillow",
    "PB703": "report this: integer arithmetic differs on this machine",
    "PB706": "outputs sampled here differ from those of other machines; sets and scores do not",
}


@cache
def prove() -> None:
    """Run all canaries once per process; raise if one fails.

    Raises:
        CodecError: PB701-PB703, a canary failed; nothing has been written.
    """
    broken = findings()
    if errors_of(broken):
        raise CodecError(*broken)


def environment() -> dict[str, str]:
    """Return the versions and platform that records keep; they enter no fingerprint."""
    return {
        "palette_bench": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": str(features.version_feature("libjpeg_turbo")),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "os": f"{platform.system()} {platform.machine()}",
        "cpu": platform.processor() or platform.machine(),
    }
