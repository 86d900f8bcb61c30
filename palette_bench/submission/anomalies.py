"""Warnings for outputs that are valid files but look wrong: copies, permuted ids, lossy steps (PB321-PB329).

Only digests and 16 x 16 thumbnails are kept per image, so memory does not grow with the image size. All
findings are warnings, because the outputs of a correct method can look unusual. Source: trust, section 4.3;
the thresholds are ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.core.errors import Problem
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.types import Fingerprint, Image, ImageId, Mask
from palette_bench.submission import thumbnails
from palette_bench.submission.files import of_files, output_name

SMALL_ERROR = 8  # levels; JPEG or a resize changes most pixels by no more than this
ALTERED_SHARE = 0.2  # share of known pixels that changed; blending along the hole's edge changes fewer
SMALL_SHARE = 0.8  # share of known pixels within SMALL_ERROR: 0.83 to 1 after JPEG at quality 90 to 98
CONTRAST = (0.8, 1.25)  # allowed contrast ratio, output to input; smoothing cancels out in cell means
BRIGHTER = 12.0  # levels between the mean of the output and that of the input
SHOWN_PAIRS = 5  # pairs that the message of PB325 names
_LOOKED_AT = 64  # outputs tested for a shift: a faulty step shifts all outputs, so a sample is enough
_BLOCK = 256  # outputs compared with all inputs at once, to bound memory

_Grid = NDArray[np.float32]  # (thumbnails.CELLS * thumbnails.CELLS,) luma of a thumbnail

# Scorecards record these words, so they stay as they are.
_FIXES = {
    "PB321": "outputs must come from the inputs; references are for the judge alone",
    "PB322": "the method returned its input: see that its prediction is what gets written",
    "PB323": "each id needs its own output: see that the loop does not write one image twice",
    "PB324": "write PNG straight from the method's pixels: no JPEG, resize or colour conversion between",
    "PB325": "if the pairs are right, rename the files; see that inputs are read in the order of their ids",
    "PB327": "write what the model sees as 0..255: undo its normalisation, gamma and any conversion to float",
    "PB328": "write RGB: libraries such as OpenCV hold BGR, and some models YCbCr",
    "PB329": "write each pixel at its place: undo flips, transposes, padding and crops",
    "PB326": "see whether these runs failed: NaN turned into one colour, or an empty output",
}


class AnomalyCheck:
    """Detector of suspicious outputs: `add` collects the outputs of a set, `problems` tests them together."""

    def __init__(self, target: ContestantSet) -> None:
        """Start without outputs.

        Args:
            target: the set that the outputs belong to.
        """
        self._target = target
        self._references = target.reference_digests
        self._digests: dict[ImageId, Fingerprint] = {}
        self._conditions: dict[ImageId, Fingerprint] = {}
        self._constant: set[ImageId] = set()
        self._lossy: set[ImageId] = set()
        self._tones: dict[ImageId, tuple[float, float]] = {}
        self._channels: dict[ImageId, str] = {}
        self._turned: dict[ImageId, str] = {}
        self._shifts: dict[ImageId, tuple[int, int]] = {}
        self._outputs: list[_Grid] = []
        self._inputs: list[_Grid] = []
        self._known: list[NDArray[np.bool_]] = []

    def add(
        self, image_id: ImageId, output: Image, condition: Image, mask: Mask | None, digest: Fingerprint
    ) -> None:
        """Add one output.

        Args:
            image_id: id of the image.
            output: (S, S, 3) uint8.
            condition: (S, S, 3) uint8, the input; gray is repeated in each channel.
            mask: (S, S) bool, True = hole, or None.
            digest: pixel digest of the output.
        """
        self._digests[image_id] = digest
        self._conditions[image_id] = pixel_digest(condition)
        if (output == output[0, 0]).all():
            self._constant.add(image_id)
        if mask is not None and not mask.all():
            # Known pixels that changed in many places, but only slightly, show JPEG or a resize.
            samples = np.maximum(output, condition) - np.minimum(output, condition)
            gaps = np.maximum(np.maximum(samples[..., 0], samples[..., 1]), samples[..., 2])[~mask]
            if (gaps > 0).mean() >= ALTERED_SHARE and (gaps <= SMALL_ERROR).mean() >= SMALL_SHARE:
                self._lossy.add(image_id)
        # Tones, channels and orientation are compared on thumbnails, over cells without a hole.
        colours, given = thumbnails.thumbnail(output), thumbnails.thumbnail(condition)
        known = thumbnails.known_cells(mask)
        luma, given_luma = colours @ thumbnails.LUMA, given @ thumbnails.LUMA
        self._outputs.append(luma.astype(np.float32))
        self._inputs.append(given_luma.astype(np.float32))
        self._known.append(known)
        if image_id in self._constant or known.sum() < thumbnails.MIN_CELLS:
            return
        # The colours to expect are those of the input, or of the original if the input is gray.
        model: thumbnails.Colours | None = given
        if self._target.task.degradation == "gray-v1":
            whole = self._target if isinstance(self._target, BenchSet) else None
            model = thumbnails.thumbnail(whole.reference(image_id)) if whole else None
        held = None if model is None else thumbnails.colour_fault(colours[known], model[known])
        if held is not None:
            self._channels[image_id] = held
        of_0_to_1 = bool(output.max() <= 1)
        changed = None if held else thumbnails.tones(luma[known], given_luma[known], of_0_to_1=of_0_to_1)
        if changed is not None:
            self._tones[image_id] = changed
        elif turned := thumbnails.turn(luma, given_luma, known):
            self._turned[image_id] = turned
        if len(self._shifts) < _LOOKED_AT:
            self._shifts[image_id] = thumbnails.shift(output, condition, mask)

    def problems(self) -> list[Problem]:
        """Return PB321-PB329 for the outputs added so far."""
        n, references = len(self._digests), self._references
        at_target = {i for i, digest in self._digests.items() if digest == references.get(i)}
        at_input = {i for i, digest in self._digests.items() if digest == self._conditions[i]}
        # An output is no copy of one of the two if input and reference are equal anyway.
        leaked, unchanged = at_target - at_input, at_input - at_target
        lossy = self._lossy if 2 * len(self._lossy) > n else set()
        share = f"altered by 1 to {SMALL_ERROR} levels in most known pixels of {len(lossy):,} of {n:,}"
        swapped = self._most({i: bool(held) for i, held in self._channels.items()})
        held = Counter(self._channels[i] for i in swapped).most_common(1)
        return [
            *_about("PB321", leaked, "not the target itself", "equal pixels"),
            *_about("PB322", unchanged, "not the input itself", "equal pixels"),
            *_about("PB323", self._equal_to_each_other(), "different outputs", "equal pixels"),
            *_about("PB324", lossy, "known pixels as they were given", share),
            *self._permuted(),
            *_about("PB326", self._constant - at_target, "an image", "one colour"),
            *self._toned(),
            *_about("PB328", swapped, "red, green, blue", held[0][0] if held else ""),
            *self._misplaced(),
        ]

    @staticmethod
    def _most(verdicts: Mapping[ImageId, bool]) -> set[ImageId]:
        """Return the ids whose verdict is true, if they are more than half and at least two; else no ids.

        A single output can be a failure of the model rather than of the code around it.
        """
        found = {image_id for image_id, verdict in verdicts.items() if verdict}
        return found if len(found) > 1 and 2 * len(found) > len(verdicts) else set()

    def _toned(self) -> list[Problem]:
        """Return PB327 if most outputs differ from their inputs in contrast or brightness."""
        low, high = CONTRAST
        changed = self._most(
            {i: not low <= gain <= high or abs(more) > BRIGHTER for i, (gain, more) in self._tones.items()}
        )
        if not changed:
            return []
        gain, shift = np.median([self._tones[i] for i in changed], axis=0)
        found = (
            f"contrast times {gain:.2f}, brightness {shift:+.0f} levels, at the median of {len(changed):,}"
        )
        return _about("PB327", changed, "tones as in the inputs", found)

    def _misplaced(self) -> list[Problem]:
        """Return PB329 for two or more turned or mirrored outputs, or if most outputs share one shift."""
        if len(self._turned) > 1:
            (how, _), *_ = Counter(self._turned.values()).most_common()
            return _about(
                "PB329", self._turned, "the scene as the input shows it", f"{how}, in most of these"
            )
        moved = Counter(place for place in self._shifts.values() if place != (0, 0)).most_common(1)
        if not moved or not 1 < moved[0][1] > len(self._shifts) / 2:
            return []
        down, right = moved[0][0]
        ids = [i for i, place in self._shifts.items() if place == (down, right)]
        found = f"moved by {down:+} pixels down and {right:+} to the right, in most outputs looked at"
        return _about("PB329", ids, "each pixel at its place", found)

    def _equal_to_each_other(self) -> set[ImageId]:
        """Return the outputs that share their pixels although their inputs differ."""
        groups: dict[Fingerprint, list[ImageId]] = defaultdict(list)
        for image_id, digest in self._digests.items():
            groups[digest].append(image_id)
        inputs = {digest: {self._conditions[i] for i in ids} for digest, ids in groups.items()}
        return {i for digest, ids in groups.items() if len(inputs[digest]) > 1 for i in ids}

    def _permuted(self) -> list[Problem]:
        """Return PB325 if two or more outputs match the input of another id."""
        ids = list(self._digests)
        pairs = {ids[i]: ids[j] for i, j in self._mix_ups() if ids[i] not in self._constant}
        if len(pairs) < 2:
            return []
        shown = ", ".join(f"{i} shows {j}" for i, j in list(pairs.items())[:SHOWN_PAIRS])
        found = shown + (f", and {len(pairs) - SHOWN_PAIRS:,} more" if len(pairs) > SHOWN_PAIRS else "")
        return _about("PB325", pairs, "each output under the id of its own input", found)

    def _mix_ups(self) -> list[tuple[int, int]]:
        """Return (output, input) indices of outputs that match another input far better than their own."""
        outputs, inputs, known = (
            np.asarray(rows, np.float64).reshape(-1, thumbnails.CELLS * thumbnails.CELLS)
            for rows in (self._outputs, self._inputs, self._known)
        )
        cells = known.sum(axis=1)
        own = np.sqrt(((outputs - inputs) ** 2 * known).sum(axis=1) / np.maximum(cells, 1))
        # Only outputs that are far from their own input, and do not even correlate with it, are compared with
        # all inputs.
        rows = zip(outputs, inputs, known, strict=True)
        fits = np.array(
            [thumbnails.distances(o[None], x[None], k[None], alike=True)[0, 0] for o, x, k in rows]
        )
        suspects = np.flatnonzero((own > thumbnails.FAR) & np.isinf(fits) & (cells >= thumbnails.MIN_CELLS))
        pairs = []
        for start in range(0, len(suspects), _BLOCK):
            block = suspects[start : start + _BLOCK]
            gaps = thumbnails.distances(outputs[block], inputs, known, alike=True)
            nearest, least = gaps.argmin(axis=1), gaps.min(axis=1)
            shown = (least < thumbnails.FAR) & (thumbnails.NEARER * least < own[block])
            pairs += [(int(i), int(j)) for i, j in zip(block[shown], nearest[shown], strict=True)]
        return pairs


def _about(code: str, ids: Iterable[ImageId], expected: str, found: str) -> list[Problem]:
    names = [output_name(image_id) for image_id in sorted(ids)]
    return of_files(code, names, expected=expected, found=found, fix=_FIXES[code])
