"""The formats strangers hand us, by name.

A reader returns a meaning that compares equal for equal content, or raises what the package promises.
`sealed` formats carry checksums: what is accepted must mean the sample's own content. `inside` damages a
file below its checksums, so that mutation reaches the code behind them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # a script does not find the other modules of the tests

from kind import Format
from kind_arrays import formats_of_arrays
from kind_images import formats_of_images
from kind_texts import formats_of_texts


def formats(folder: Path) -> dict[str, Format]:
    """Return every format by name; `folder` is for writing samples."""
    return {**formats_of_images(), **formats_of_arrays(), **formats_of_texts(folder)}
