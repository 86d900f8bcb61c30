"""What makes outputs suspicious though every file is sound: copies, mix-ups, lossy steps.

Per picture only digests and 16 x 16 thumbnails are kept, so memory does not grow with the pixels. All
findings are warnings: a method may be right and look odd. Source: trust, section 4.3; the thresholds
are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import Problem
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.types import Fingerprint, Image, ImageId, Mask
from palette_bench.submission.files import output_name
from palette_bench.submission.layout import of_files

CELLS = 16  # thumbnail side; protocol sides are multiples of it
SMALL_ERROR = 8  # levels; what JPEG or a resize does to most pixels
ALTERED_SHARE = 0.2  # of known pixels changed at all: more than blending along the hole's edge
SMALL_SHARE = 0.8  # of known pixels within SMALL_ERROR: 0.83 to 1 after JPEG at quality 90 to 98
FAR = 12.0  # levels RMS between thumbnails; an output shows the inputs within, never one beyond
NEARER = 4.0  # another input must be this many times nearer
MIN_CELLS = 16  # fully known cells a comparison needs
SHOWN_PAIRS = 5
_BLOCK = 256  # outputs compared with all inputs at once
_LUMA = np.array([19595, 38470, 7471]) / 65536  # gray-v1, unrounded

_Grid = NDArray[np.float32]  # (CELLS * CELLS,) luma of a thumbnail

_FIXES = {
    "PB321": "outputs must come from the inputs; references are for the judge alone",
    "PB322": "the method returned its input: see that its prediction is what gets written",
    "PB323": "each id needs its own output: see that the loop does not write one picture twice",
    "PB324": "write PNG straight from the method's pixels: no JPEG, resize or colour conversion between",
    "PB325": "if the pairs are right, rename the files; see that inputs are read in the order of their ids",
    "PB326": "see whether these runs failed: NaN turned into one colour, or an empty output",
}


class Suspicion:
    """Collects one output after the other; `problems` judges them together."""

    def __init__(self, target: ContestantSet) -> None:
        """Start with no output of this set."""
        self._references = target.reference_digests
        self._digests: dict[ImageId, Fingerprint] = {}
        self._conditions: dict[ImageId, Fingerprint] = {}
        self._constant: set[ImageId] = set()
        self._lossy: set[ImageId] = set()
        self._outputs: list[_Grid] = []
        self._inputs: list[_Grid] = []
        self._known: list[NDArray[np.bool_]] = []

    def add(
        self, image_id: ImageId, output: Image, condition: Image, mask: Mask | None, digest: Fingerprint
    ) -> None:
        """Note one output with its input, (S, S, 3) uint8 each, its mask and its pixel digest."""
        self._digests[image_id] = digest
        self._conditions[image_id] = pixel_digest(condition)
        if (output == output[0, 0]).all():
            self._constant.add(image_id)
        if mask is not None and _is_lossy(output, condition, mask):
            self._lossy.add(image_id)
        self._outputs.append(_thumbnail(output))
        self._inputs.append(_thumbnail(condition))
        self._known.append(_known_cells(mask))

    def problems(self) -> list[Problem]:
        """Return PB321-PB326 for what was added."""
        n = len(self._digests)
        lossy = self._lossy if 2 * len(self._lossy) > n else set()
        share = f"altered by 1 to {SMALL_ERROR} levels in most known pixels of {len(lossy):,} of {n:,}"
        return [
            *_about("PB321", self._equal_to_target(), "not the target itself", "equal pixels"),
            *_about("PB322", self._equal_to_input(), "not the input itself", "equal pixels"),
            *_about("PB323", self._equal_to_each_other(), "different outputs", "equal pixels"),
            *_about("PB324", lossy, "known pixels as they were given", share),
            *self._permuted(),
            *_about("PB326", self._dull(), "a picture", "one colour"),
        ]

    def _reference(self, image_id: ImageId) -> Fingerprint:
        return self._references.get(image_id, "")

    def _equal_to_target(self) -> set[ImageId]:
        """Return the outputs equal to their reference, where the input is not equal to it already."""
        equal = {i for i, digest in self._digests.items() if digest == self._reference(i)}
        return {i for i in equal if self._conditions[i] != self._digests[i]}

    def _equal_to_input(self) -> set[ImageId]:
        equal = {i for i, digest in self._digests.items() if digest == self._conditions[i]}
        return {i for i in equal if self._reference(i) != self._digests[i]}

    def _equal_to_each_other(self) -> set[ImageId]:
        """Return the outputs that are one picture though their inputs are not."""
        groups: dict[Fingerprint, list[ImageId]] = defaultdict(list)
        for image_id, digest in self._digests.items():
            groups[digest].append(image_id)
        inputs = {digest: {self._conditions[i] for i in ids} for digest, ids in groups.items()}
        return {i for digest, ids in groups.items() if len(inputs[digest]) > 1 for i in ids}

    def _dull(self) -> set[ImageId]:
        """Return the outputs of one colour whose reference is not just that."""
        return {i for i in self._constant if self._digests[i] != self._reference(i)}

    def _permuted(self) -> list[Problem]:
        """Return PB325 if two or more outputs show the input of another id."""
        ids = list(self._digests)
        pairs = {ids[i]: ids[j] for i, j in self._mix_ups() if ids[i] not in self._constant}
        if len(pairs) < 2:
            return []
        shown = ", ".join(f"{i} shows {j}" for i, j in list(pairs.items())[:SHOWN_PAIRS])
        found = shown + (f", and {len(pairs) - SHOWN_PAIRS:,} more" if len(pairs) > SHOWN_PAIRS else "")
        return _about("PB325", pairs, "each output under the id of its own input", found)

    def _mix_ups(self) -> list[tuple[int, int]]:
        """Return (output, input) indices where another input is far nearer than the output's own."""
        outputs, inputs, known = (
            np.asarray(rows, np.float64).reshape(-1, CELLS * CELLS)
            for rows in (self._outputs, self._inputs, self._known)
        )
        cells = known.sum(axis=1)
        own = np.sqrt(((outputs - inputs) ** 2 * known).sum(axis=1) / np.maximum(cells, 1))
        suspects = np.flatnonzero((own > FAR) & (cells >= MIN_CELLS))
        pairs = []
        for start in range(0, len(suspects), _BLOCK):
            block = suspects[start : start + _BLOCK]
            gaps = _distances(outputs[block], inputs, known)
            nearest, least = gaps.argmin(axis=1), gaps.min(axis=1)
            shown = (least < FAR) & (NEARER * least < own[block])
            pairs += [(int(i), int(j)) for i, j in zip(block[shown], nearest[shown], strict=True)]
        return pairs


def _about(code: str, ids: Iterable[ImageId], expected: str, found: str) -> list[Problem]:
    names = [output_name(image_id) for image_id in sorted(ids)]
    return of_files(code, names, expected=expected, found=found, fix=_FIXES[code])


def _is_lossy(output: Image, condition: Image, mask: Mask) -> bool:
    """Return whether known pixels were altered widely but little, as by JPEG or a resize."""
    samples = np.maximum(output, condition) - np.minimum(output, condition)
    gaps = np.maximum(np.maximum(samples[..., 0], samples[..., 1]), samples[..., 2])[~mask]
    return (
        len(gaps) > 0 and (gaps > 0).mean() >= ALTERED_SHARE and (gaps <= SMALL_ERROR).mean() >= SMALL_SHARE
    )


def _thumbnail(image: Image) -> _Grid:
    """Return the mean luma of each cell of an (S, S, 3) uint8 image."""
    side = image.shape[0] // CELLS
    strips = image.reshape(CELLS, side, -1).sum(axis=1, dtype=np.uint32)  # whole rows: ten times faster
    cells = strips.reshape(CELLS, CELLS, side, 3).sum(axis=2) @ _LUMA / side**2
    return np.asarray(cells.ravel(), np.float32)


def _known_cells(mask: Mask | None) -> NDArray[np.bool_]:
    """Return (CELLS * CELLS,) bool: cells without a hole."""
    if mask is None:
        return np.ones(CELLS * CELLS, np.bool_)
    side = mask.shape[0] // CELLS
    return ~mask.reshape(CELLS, side, CELLS, side).any(axis=(1, 3)).ravel()


def _distances(
    outputs: NDArray[np.float64], inputs: NDArray[np.float64], known: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the RMS luma distance of each output to each input, over the cells known in that input.

    An output that shows another id's picture keeps the known part of *that* id, so the holes that
    count are the candidate's, not its own.

    Args:
        outputs: (n, 256) thumbnails.
        inputs: (N, 256) thumbnails.
        known: (N, 256) 1 for cells without a hole, else 0.

    Returns:
        (n, N) levels; infinite where an input has too few known cells.
    """
    visible = inputs * known
    squares = outputs**2 @ known.T - 2 * outputs @ visible.T + (visible * inputs).sum(axis=1)
    cells = known.sum(axis=1)
    gaps: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0) / np.maximum(cells, 1))
    gaps[:, cells < MIN_CELLS] = np.inf
    return gaps
