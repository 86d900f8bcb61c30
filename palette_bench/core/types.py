"""Type aliases of arrays, ids, paths and directions, and the progress interface; needs NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 1 or 3), sRGB in [0, 255]
Mask: TypeAlias = NDArray[np.bool_]  # (H, W), True = hole
Features: TypeAlias = NDArray[np.float32]  # (N, D); row i belongs to ids[i]
Fingerprint: TypeAlias = str  # 64 lower-case hexadecimal digits of a SHA-256
ImageId: TypeAlias = str  # [A-Za-z0-9_-]{1,64}
AnyPath: TypeAlias = str | PathLike[str]
Direction: TypeAlias = Literal["lower", "higher", "none"]  # which values of a metric are better

# progress(label, total) is a context manager that yields advance(count)
Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]


@contextmanager
def silent(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """Progress callback that reports nothing."""
    yield lambda count: None


SILENT: Progress = silent
