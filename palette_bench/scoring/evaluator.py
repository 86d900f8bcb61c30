"""`Evaluator`: scores of a benchmark set from Python, fed with outputs batch by batch in any order.

It serves training loops and notebooks. It computes the feature metrics and paired distances of `score`,
without files, a scorecard or pixel diagnostics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import SHOWN_IDS, IncomparableError, InputError, problem
from palette_bench.core.types import AnyPath, Features, Fingerprint, ImageId
from palette_bench.scoring.evaluate import (
    PARTIAL_NOTE,
    ImageLabels,
    check_metrics,
    close,
    needed_extractors,
    plan,
)
from palette_bench.scoring.extraction import Extraction, extract
from palette_bench.scoring.features import open_extractor, open_pair_distance
from palette_bench.scoring.features.cache import ArrayCache, HeadTables
from palette_bench.scoring.metrics.paired import PAIRED_METRICS
from palette_bench.scoring.pair_scores import distances, paired_score
from palette_bench.scoring.reference_resolver import ReferenceResolver
from palette_bench.scoring.references import ReferenceRequest
from palette_bench.scoring.scorecard import Score
from palette_bench.tasks.degradations.hole import recomposite

_Rows = dict[str, dict[str, Features]]  # extractor id -> head -> (D,)


class Evaluator:
    """Collects outputs for one set and computes their scores."""

    def __init__(
        self,
        benchset: BenchSet | AnyPath,
        metrics: Sequence[str] = ("fid", "kid"),
        reference: str | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        weights: Mapping[str, str] | None = None,
        *,
        extractors: Sequence[str] = (),
        mode: str | None = None,
    ) -> None:
        """Open the networks; nothing is downloaded.

        Args:
            benchset: the benchmark set, or its folder.
            metrics: ids of feature metrics and paired distances. A reserved name becomes its general form on
                other networks, and `fid_originals` or `kid_originals` if the reference is the set's
                originals.
            reference: `originals`, `val-full@...` if it is in the cache, or None for the default.
            device: cpu or cuda.
            precision: `fp32`; `tf32` and `bf16` for previews; `fp64` for audits.
            weights: extractor id -> path, or `random:SEED`.
            extractors: ids in order of preference; if empty, the protocol's extractors that the metrics need.
            mode: resize mode of the FID network and of DINOv2: tf1, clean or pytorch; None is each network's
                default.

        Raises:
            UsageError: unknown metric, extractor, reference or option.
            WeightsError: PB705, weights are missing or wrong.
            DeviceError: PB707, this machine lacks the device.
        """
        self.target = benchset if isinstance(benchset, BenchSet) else BenchSet.open(benchset)
        self._request = ReferenceRequest(reference, mode=mode)
        self._request.require_sense()
        features = [name for name in metrics if name not in PAIRED_METRICS]
        check_metrics(features)
        needed = needed_extractors(features, self.target.protocol.extractors) if features else ()
        names = extractors or needed
        given, crop = weights or MappingProxyType({}), self.target.protocol.classifier_crop
        opened = [open_extractor(name, given.get(name), crop, device, precision, mode) for name in names]
        self._extraction = Extraction(opened, ArrayCache("features"), device)
        self._distances = [
            (row, open_pair_distance(row.distance, given, device))
            for row in PAIRED_METRICS.values()
            if row.id in metrics
        ]
        self._steps = plan(features, opened, ImageLabels.of(self.target, self.target.ids) is not None)
        self._rows: dict[ImageId, _Rows] = {}
        self._compared: dict[ImageId, dict[str, NDArray[np.float64]]] = {}  # metric -> (1,)

    @property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprints of set and networks; evaluators must share them to merge."""
        own = {e.id: e.fingerprint for e in self._extraction.extractors}
        own |= {distance.id: distance.fingerprint for _, distance in self._distances}
        return {"set": self.target.manifest.set_fingerprint, **own}

    def update(self, images: NDArray[np.uint8], ids: Sequence[ImageId]) -> None:
        """Add outputs; if the task has a hole, their known pixels are replaced by those of the input.

        Args:
            images: (B, S, S, 3) uint8 in [0, 255], any B; S is the protocol's side.
            ids: (B,) ids of the set, in any order. Each id may be added once in the life of the evaluator.

        Raises:
            InputError: another shape or dtype (nothing is rescaled), or an id that is repeated or not in the
                set.
        """
        self._require_images(images, ids)
        scored = []
        for image, image_id in zip(images, ids, strict=True):
            mask = self.target.mask(image_id)
            known = None if mask is None else self.target.condition(image_id)
            scored.append(image if mask is None or known is None else recomposite(image, known, mask))
        extractors = self._extraction.extractors
        tables: list[HeadTables] = []
        if extractors:
            tables = extract(extractors, scored, len(ids), lambda count: None, name=lambda index: ids[index])
        for index, image_id in enumerate(ids):
            both = [scored[index], self.target.reference(image_id)] if self._distances else []
            self._compared[image_id] = {
                row.id: distances(row, distance, both) for row, distance in self._distances
            }
            self._rows[image_id] = {
                extractor.id: {head: rows[index] for head, rows in table.items()}
                for extractor, table in zip(extractors, tables, strict=True)
            }

    def _require_images(self, images: Any, ids: Sequence[ImageId]) -> None:
        side = self.target.protocol.side
        found = f"{getattr(images, 'shape', type(images).__name__)} {getattr(images, 'dtype', '')}"
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            raise InputError(f"images must be (B, {side}, {side}, 3) uint8 in [0, 255], not {found}")
        if images.shape[1:] != (side, side, 3) or len(images) != len(ids):
            raise InputError(f"{len(ids)} ids need ({len(ids)}, {side}, {side}, 3) uint8 images, not {found}")
        repeated = sorted({i for i in ids if list(ids).count(i) > 1} | (set(ids) & self._rows.keys()))
        if repeated:
            raise InputError(_about("PB203", repeated, "each id once", "ids given again"))
        unknown = sorted(set(ids) - set(self.target.ids))
        if unknown:
            raise InputError(_about("PB202", unknown, "ids of the set", "others"))

    def merge(self, other: Evaluator) -> None:
        """Add the outputs that another evaluator of the same set and networks has collected.

        Merging is a union by id, so it is associative, bit for bit.

        Raises:
            IncomparableError: the sets or the networks differ.
            InputError: an id is in both evaluators.
        """
        differing = [
            name for name, value in self.fingerprints.items() if other.fingerprints.get(name) != value
        ]
        if differing or self.fingerprints.keys() != other.fingerprints.keys():
            named = ", ".join(differing) or "networks"
            raise IncomparableError(f"evaluators with different {named} cannot be merged")
        both = sorted(self._rows.keys() & other._rows.keys())
        if both:
            raise InputError(_about("PB203", both, "disjoint ids", "ids in both evaluators"))
        self._rows.update(other._rows)
        self._compared.update(other._compared)

    def compute(self, partial: bool = False) -> dict[str, Score]:
        """Return the score of every metric, by id.

        Args:
            partial: whether to score an incomplete set. Every score then carries the note `partial` and never
                ranks.

        Raises:
            InputError: PB201, images are missing and `partial` is False, or there are no images at all.
        """
        ids = sorted(self._rows)
        missing = sorted(set(self.target.ids) - set(ids))
        if missing and not (partial and ids):
            raise InputError(_about("PB201", missing, f"{len(self.target.ids):,} images", f"{len(ids):,}"))
        resolver = ReferenceResolver(self.target, self._extraction, ArrayCache("statistics"), self._steps)
        notes = (PARTIAL_NOTE,) if missing else ()
        inputs = resolver.inputs(self._request, ids, lambda: self._tables(ids), notes)
        scores = {name: scored.score for name, scored in close(self._steps, inputs).items()}
        originals = {i: self.target.manifest.by_id[i].reference_px for i in ids}
        for row, distance in self._distances:
            table = np.stack([self._compared[i][row.id] for i in ids])
            scores[row.id] = paired_score(row, distance, table, originals, notes).score
        return scores

    def _tables(self, ids: Sequence[ImageId]) -> dict[str, HeadTables]:
        """Return the collected features by extractor id, rows in id order."""
        return {
            extractor.id: {
                head: np.stack([self._rows[i][extractor.id][head] for i in ids])
                for head in self._rows[ids[0]][extractor.id]
            }
            for extractor in self._extraction.extractors
        }


def _about(code: str, ids: Sequence[ImageId], expected: str, found: str) -> Any:
    where = ", ".join(ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
    return problem(code, where, expected=expected, found=found, ids=ids)
