"""Warnings for outputs that are valid files but look wrong: copies, permuted ids, lossy steps (PB321-PB329).

Only digests and 16 x 16 thumbnails are kept per image, so memory does not grow with the image size. All
findings are warnings, because the outputs of a correct method can look unusual. Source: trust, section 4.3;
the thresholds are ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import Problem
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


class OutputAppearance(NamedTuple):
    """What the tests for anomalies know of one output.

    Attributes:
        constant: whether it has one colour.
        lossy: whether its known pixels changed in many places, but only slightly.
        luma: thumbnail of the output.
        given: thumbnail of the input.
        known: (thumbnails.CELLS * thumbnails.CELLS,) bool, cells without a hole.
        channels: names of its channels if they are not R, G, B, "" if they are, None without a verdict.
        tones: contrast and brightness relative to the input, if they can be compared.
        turned: how it is turned or mirrored, in words.
        shift: by how many pixels it is moved down and to the right; None if that was not looked for.
    """

    constant: bool
    lossy: bool
    luma: _Grid
    given: _Grid
    known: NDArray[np.bool_]
    channels: str | None = None
    tones: tuple[float, float] | None = None
    turned: str = ""
    shift: tuple[int, int] | None = None


def appearance(
    output: Image, condition: Image, mask: Mask | None, coloured: Image | None, *, seek_shift: bool
) -> OutputAppearance:
    """Return what the tests for anomalies need to know of one output.

    Args:
        output: (S, S, 3) uint8.
        condition: (S, S, 3) uint8, the input; gray is repeated in each channel.
        mask: (S, S) bool, True = hole, or None.
        coloured: an image with the colours to expect: the input, or the original if the input is gray; None
            if there is no such image.
        seek_shift: whether to look for a shift, which takes long.
    """
    # Tones, channels and orientation are compared on thumbnails, over cells without a hole.
    colours, given = thumbnails.thumbnail(output), thumbnails.thumbnail(condition)
    known = thumbnails.known_cells(mask)
    luma, given_luma = colours @ thumbnails.LUMA, given @ thumbnails.LUMA
    constant = bool((output == output[0, 0]).all())
    grids = luma.astype(np.float32), given_luma.astype(np.float32)
    found = OutputAppearance(constant, _is_lossy(output, condition, mask), *grids, known)
    if constant or known.sum() < thumbnails.MIN_CELLS:
        return found
    held = None
    if coloured is not None:
        model = given if coloured is condition else thumbnails.thumbnail(coloured)
        held = thumbnails.colour_fault(colours[known], model[known])
    of_0_to_1 = bool(output.max() <= 1)
    changed = None if held else thumbnails.tones(luma[known], given_luma[known], of_0_to_1=of_0_to_1)
    turned = "" if changed is not None else thumbnails.turn(luma, given_luma, known)
    shift = thumbnails.shift(output, condition, mask) if seek_shift else None
    return found._replace(channels=held, tones=changed, turned=turned, shift=shift)


def _is_lossy(output: Image, condition: Image, mask: Mask | None) -> bool:
    """Return whether many known pixels changed, but only slightly, as after JPEG or a resize."""
    if mask is None or mask.all():
        return False
    samples = np.maximum(output, condition) - np.minimum(output, condition)
    gaps = np.maximum(np.maximum(samples[..., 0], samples[..., 1]), samples[..., 2])[~mask]
    return bool((gaps > 0).mean() >= ALTERED_SHARE and (gaps <= SMALL_ERROR).mean() >= SMALL_SHARE)


class AnomalyCheck:
    """Detector of suspicious outputs: `add` collects the outputs of a set, `problems` tests them together."""

    def __init__(self, references: Mapping[ImageId, Fingerprint]) -> None:
        """Start without outputs.

        Args:
            references: id -> pixel digest of the original; empty if the originals are not available.
        """
        self._references = references
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

    @property
    def seeks_shifts(self) -> bool:
        """Return whether further outputs need to be looked at for a shift."""
        return len(self._shifts) < _LOOKED_AT

    def add(
        self, image_id: ImageId, digest: Fingerprint, condition: Fingerprint, found: OutputAppearance
    ) -> None:
        """Add one output.

        Args:
            image_id: id of the image.
            digest: pixel digest of the output.
            condition: pixel digest of the input, with gray repeated in each channel.
            found: what the output looks like.
        """
        self._digests[image_id], self._conditions[image_id] = digest, condition
        self._outputs.append(found.luma)
        self._inputs.append(found.given)
        self._known.append(found.known)
        if found.constant:
            self._constant.add(image_id)
        if found.lossy:
            self._lossy.add(image_id)
        if found.channels is not None:
            self._channels[image_id] = found.channels
        if found.tones is not None:
            self._tones[image_id] = found.tones
        if found.turned:
            self._turned[image_id] = found.turned
        if found.shift is not None and self.seeks_shifts:
            self._shifts[image_id] = found.shift

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
