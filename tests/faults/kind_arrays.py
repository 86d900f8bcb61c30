"""Arrays: statistics, masks, cached features, packs and weights."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
from kind import Format, inside_zip, noise
from mutations import mutated

from palette_bench.benchset import foreign_masks
from palette_bench.core import png
from palette_bench.core.errors import UsageError
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.scoring import statistics_files
from palette_bench.scoring.features import cache

WIDTH = 6  # of the features in statistics files


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _statistics() -> bytes:
    spread = np.random.default_rng(1).normal(size=(20, WIDTH))
    return _npz(mu=spread.mean(axis=0), sigma=np.cov(spread, rowvar=False))


def _read_statistics(path: Path) -> str:
    moments = statistics_files.read_statistics(path, 20, WIDTH, "tf1").moments
    assert moments.covariance.shape == (WIDTH, WIDTH)
    assert np.isfinite(moments.covariance).all()
    return sha256(moments.mean.tobytes() + moments.covariance.tobytes())


def _release() -> bytes:
    names = foreign_masks._RELEASE_MEMBERS.values()
    return _npz(**{name: noise(i, 2 * foreign_masks._RELEASE_BYTES) for i, name in enumerate(names)})


def _read_release(path: Path) -> str:
    foreign_masks._release_member.cache_clear()
    return sha256(foreign_masks._release_member(path, "freeform-10-20", 2).tobytes())


_ARRAYS = {"pool": np.ones((3, 4), np.float32), "logits": np.zeros((3, 2), np.float32)}


def _cached() -> bytes:
    return safetensors.numpy.save(_ARRAYS, {"payload": cache._payload_digest(_ARRAYS)})


def _read_cached(path: Path) -> Any:
    """Return what the cache hands out: the arrays bit for bit, or nothing, which means computing them."""
    store = cache.ArrayCache("x")
    store._folder = path.parent
    arrays = store.load(path.stem)
    if arrays is None:
        raise png.PngError("PB808", "an intact entry", "a damaged one")
    return cache._payload_digest(arrays)


def _inside_header(data: bytes, random: Random) -> bytes:
    """Damage the JSON header of a safetensors file, and write its length anew."""
    size = int.from_bytes(data[:8], "little")
    header = mutated(data[8 : 8 + size], random)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _read_pack(path: Path) -> Any:
    from palette_bench.baselines.training import data as training

    found = training.open_images([path], "yes")
    training._mapped.cache_clear()
    return [pixel_digest(found.pixels(index)) for index in range(min(len(found), 4))]


def _read_tensors(path: Path) -> Any:
    from palette_bench.runtime.tensors import parse_tensors

    return sorted((name, tuple(t.shape)) for name, t in parse_tensors(path.read_bytes(), path.name).items())


def _run() -> bytes:
    about = {"recipe": "method = 1", "method": "palette", "step": "3"}
    return safetensors.numpy.save(_ARRAYS, about)


def _read_run(path: Path) -> Any:
    from palette_bench.baselines.training.checkpoint import open_run
    from palette_bench.submission.training_runs import method_of

    with suppress(UsageError):  # a damaged file names no method
        method_of(path)
    run = open_run(path)
    return run.method, run.step, sorted(run.tensors)


def _torch_file() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def formats_of_arrays() -> dict[str, Format]:
    """Return the formats that hold arrays."""
    pack = safetensors.numpy.save({"pictures": noise(2, 3, 8, 8, 3)})
    return {
        "npz-statistics": Format("a.npz", (_statistics(),), _read_statistics, inside_zip),
        "npz-masks": Format("a.npz", (_release(),), _read_release, inside_zip),
        "safetensors-cache": Format("a.safetensors", (_cached(),), _read_cached, _inside_header, True),
        "safetensors-pack": Format("a.safetensors", (pack,), _read_pack, _inside_header),
        "safetensors-weights": Format("a.safetensors", (_cached(),), _read_tensors, _inside_header),
        "safetensors-run": Format("a.safetensors", (_run(),), _read_run, _inside_header),
        "torch-weights": Format("a.pth", (_torch_file(),), _read_tensors, inside_zip),
    }
