"""Means and covariances in the .npz files other programs exchange: read with care, written plainly.

pytorch-fid writes `mu` and `sigma`; ADM's files also hold `mu_s` and `sigma_s`, which are ignored. Such a
file says neither how many pictures it comes from nor how they were resized. Source: metrics, section 7.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palette_bench.core import atomic
from palette_bench.core.errors import InputError, RecordError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.npz import read_npz
from palette_bench.core.records import read_file
from palette_bench.core.types import Fingerprint
from palette_bench.scoring.metrics.moments import Moments

_FLOATS = ("<f8", "<f4")


@dataclass(frozen=True)
class StatisticsFile:
    """What a file holds, and the digest of its bytes."""

    moments: Moments
    digest: Fingerprint


def read_statistics(path: Path, n: int, width: int) -> StatisticsFile:
    """Return the mean and covariance of a file.

    Args:
        path: an .npz with `mu` and `sigma`; nothing in it is unpickled.
        n: pictures it comes from, >= 1; the file does not say.
        width: features of the network, 2048 for FID.

    Raises:
        RecordError: PB412, not such a file, other shapes or types, a value that is not finite, or a
            covariance that is not symmetric to 1e-6.
        StorageError: PB801.
    """
    data = read_file(path)
    try:
        given = read_npz(io.BytesIO(data), {"mu": (width,), "sigma": (width, width)}, _FLOATS)
        mean, covariance = (given[name].astype(np.float64) for name in ("mu", "sigma"))
        moments = Moments.from_arrays({"n": np.array([float(n)]), "mean": mean, "covariance": covariance})
    except (ValueError, InputError) as error:
        raise RecordError(
            problem(
                "PB412",
                path.name,
                expected=f"mu ({width:,},) and sigma ({width:,}, {width:,}), float, finite, symmetric",
                found=str(error).strip("'\""),
                fix="give statistics of this very network, as pytorch-fid or --export-statistics writes them",
            )
        ) from error
    return StatisticsFile(moments, sha256(data))


def write_statistics(path: Path, moments: Moments, mode: str, fingerprint: Fingerprint) -> None:
    """Write statistics that pytorch-fid reads: `mu`, `sigma` float64, and `n`, `mode`, `fingerprint`.

    Raises:
        StorageError: PB802.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mu=moments.mean,
        sigma=moments.covariance,
        n=np.array(moments.n),
        mode=np.array(mode),
        fingerprint=np.array(fingerprint),
    )
    atomic.write_bytes(path, buffer.getvalue())
