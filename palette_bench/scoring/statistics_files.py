"""Means and covariances in .npz files, the exchange format of FID programs.

pytorch-fid writes `mu` and `sigma`; ADM's files also hold `mu_s` and `sigma_s`, which are ignored. Such files
state neither the number of images nor their resize mode. Files written by this package state both, and
reading checks them. A mean and covariance that no images can have raise an error. Source: metrics, section 7.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import linalg

from palette_bench.core import atomic
from palette_bench.core.errors import InputError, RecordError
from palette_bench.core.fingerprint import fingerprint, sha256
from palette_bench.core.npz import read_npz, read_scalar
from palette_bench.core.records import read_file
from palette_bench.core.types import Fingerprint
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.metrics.metric import KernelId, ReferenceSet
from palette_bench.scoring.metrics.moments import Moments

IMPORTED_NOTE = "imported-reference"
_FLOATS = ("<f8", "<f4")
# relative to the largest eigenvalue: how far below zero storage in float32 may push an eigenvalue
_NEGATIVE = 1e-8


@dataclass(frozen=True)
class ImportedReference:
    """A reference read from a statistics file; it has no features and cannot be traced to images.

    Attributes:
        moments: mean and covariance in the file.
        digest: SHA-256 of the file.
        mode: resize mode of the images behind it.
        notes: notes that every score against it carries.
    """

    moments: Moments
    digest: Fingerprint
    mode: str
    notes: tuple[str, ...] = (IMPORTED_NOTE,)

    @property
    def id(self) -> str:
        """Return `imported:` and the first 12 digits of the file's digest."""
        return f"imported:{self.digest[:12]}"

    def fingerprint(self, extractor: FeatureExtractor) -> Fingerprint:
        """Return the digest of file, count, mode and extractor."""
        identity = {"file": self.digest, "n": self.moments.n, "mode": self.mode}
        return fingerprint({**identity, "extractor": extractor.fingerprint})

    def reference(
        self, extractor: FeatureExtractor, head: str, all_pairs: bool, kernel: KernelId | None
    ) -> ReferenceSet:
        """Return the statistics; a metric that needs features is None against them."""
        return ReferenceSet(self.id, self.moments.n, None, self.moments)


def read_statistics(path: Path, n: int, width: int, mode: str) -> ImportedReference:
    """Return the mean and covariance in a file as a reference.

    Args:
        path: an .npz with `mu` and `sigma`; nothing in it is unpickled.
        n: number of images behind it, >= 2.
        width: number of features of the network, 2048 for FID.
        mode: resize mode of the images.

    Raises:
        RecordError: PB412: not such a file, other shapes or dtypes, a value that is not finite, or another n
            or mode in the file. Also a covariance that is not symmetric to 1e-6, has an eigenvalue below
            -1e-8 of the largest, or has a rank that n images cannot have.
        StorageError: PB801, the file cannot be read.
    """
    data = read_file(path)
    try:
        given = read_npz(io.BytesIO(data), {"mu": (width,), "sigma": (width, width)}, _FLOATS)
        for name, stated_by_user in (("n", str(n)), ("mode", mode)):
            stated = read_scalar(io.BytesIO(data), name)
            if stated not in (None, stated_by_user):
                raise InputError(
                    f"the file says {name} {stated[:40]}, the command says {name} {stated_by_user}"
                )
        mean, covariance = (given[name].astype(np.float64) for name in ("mu", "sigma"))
        moments = Moments.from_arrays({"n": np.array([float(n)]), "mean": mean, "covariance": covariance})
        _require_possible(moments)
    except (ValueError, InputError) as error:
        expected = f"statistics of {n:,} images: mu ({width:,},) and sigma ({width:,}, {width:,})"
        found = str(error).strip("'\"")
        fix = "give statistics of this network, as pytorch-fid or --export-statistics writes them"
        raise RecordError.of("PB412", path.name, expected=expected, found=found, fix=fix) from error
    return ImportedReference(moments, sha256(data), mode)


def _require_possible(moments: Moments) -> None:
    """Raise unless n images can have this covariance.

    Raises:
        InputError: n is 1, an eigenvalue is below zero by more than rounding, or more than n - 1 are above
            it.
    """
    if moments.n < 2:
        raise InputError("one image has no covariance")
    values = linalg.eigvalsh(moments.covariance, check_finite=False)
    largest = float(values[-1])
    below = int((values < -_NEGATIVE * abs(largest)).sum())
    if below or largest < 0:
        raise InputError(
            f"no covariance: {below:,} eigenvalues below zero, down to {float(values[0]):.3g}, the largest "
            f"{largest:.3g}; E[xx'] - mm' in float32 does this: compute it in float64 of centred features"
        )
    rank = int((values > _NEGATIVE * largest).sum())
    if rank > moments.n - 1:
        raise InputError(f"a covariance of rank {rank:,}, which {moments.n:,} images cannot have")


def write_statistics(path: Path, moments: Moments, mode: str, fingerprint: Fingerprint) -> None:
    """Write statistics that pytorch-fid reads: `mu`, `sigma` float64, and `n`, `mode`, `fingerprint`.

    Raises:
        StorageError: PB802, the file cannot be written.
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
