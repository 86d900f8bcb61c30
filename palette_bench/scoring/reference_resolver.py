"""Choice of a run's reference: the requested one, a cached validation set, or the set's originals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import UsageError
from palette_bench.core.types import ImageId
from palette_bench.scoring.evaluate import ImageLabels, MetricInputs, MetricStep
from palette_bench.scoring.extraction import Extraction, ImageSet
from palette_bench.scoring.features.cache import ArrayCache, HeadTables
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images
from palette_bench.scoring.references import (
    MATCHED_FULL,
    ImageReference,
    ReferenceRequest,
    ReferenceSource,
    ValidationSet,
    own_originals,
)

log = logging.getLogger(__name__)

# preprocessing of the default reference, for every task, inpainting included (protocol, section 8)
_DEFAULT = "crop-area-v1"


@dataclass(frozen=True)
class ReferenceResolver:
    """Finds the references for one set.

    Attributes:
        target: the benchmark set.
        extraction: extractors with their cache, device and ranks; those that need no reference are skipped.
        statistics: cache of moments.
        steps: the metrics to score.
        fresh: whether to ignore cached references.
    """

    target: BenchSet
    extraction: Extraction
    statistics: ArrayCache
    steps: Sequence[MetricStep]
    fresh: bool = False

    @property
    def _extractors(self) -> list[FeatureExtractor]:
        """Return the extractors of the metrics that need a reference, each once."""
        return list({s.extractor.id: s.extractor for s in self.steps if s.metric.referenced}.values())

    def choose(self, request: ReferenceRequest) -> ReferenceSource | None:
        """Return the reference of a run, or None for the set's own originals.

        All ranks must call this. What rank 0 has in its cache decides.

        Raises:
            UsageError: a validation set is requested that is not cached and whose images are not given, or
                statistics are requested for more than one network.
            InputError: the images or the statistics file cannot be used.
        """
        if not self._extractors:
            return None
        if request.file:
            assert request.n, "a request for a file has passed `require_sense`"
            assert request.mode, "a request for a file has passed `require_sense`"
            return self._imported(request.file, request.n, request.mode)
        if request.preprocess and request.images:
            from palette_bench.scoring.validation_set import compute  # noqa: PLC0415  # once for a cache

            wanted = ValidationSet.of(self.target, request.preprocess)
            extraction = replace(self.extraction, extractors=self._extractors)
            return compute(wanted, request.images, extraction, self.statistics)
        if request.preprocess:
            wanted, known = self._remembered(request.preprocess)
            if known is None:
                raise UsageError(
                    f"{wanted.id} of {wanted.name} is not in the cache for these networks: name its images "
                    "once with --reference-images DIR"
                )
            return known
        if request.name is not None:
            return None
        wanted, known = self._remembered(_DEFAULT)
        return known if known is not None and known.n == wanted.size else None

    def inputs(
        self,
        request: ReferenceRequest,
        ids: Sequence[ImageId],
        outputs: Callable[[], Mapping[str, HeadTables]],
        notes: tuple[str, ...],
    ) -> MetricInputs:
        """Return everything that the metrics read: features of outputs, originals and the reference.

        All ranks must call this. The originals come before the outputs, so that a faulty set fails before
        time is spent on the outputs.

        Args:
            request: the reference that the user requests.
            ids: the images to score, in row order.
            outputs: returns extractor id -> tables of the outputs.
            notes: notes that every score carries.
        """
        chosen = self.choose(request)
        digests = {i: self.target.manifest.by_id[i].reference_px for i in ids}
        originals = self.extraction.tables(ImageSet("originals", digests, self.target.reference))
        tables, keys = outputs(), self.extraction.keys(digests)
        reference = chosen or own_originals(self.target, keys, originals, len(ids), self.statistics)
        labels = ImageLabels.of(self.target, ids)
        return MetricInputs(len(ids), tables, originals, keys, reference, labels, notes)

    def _imported(self, file: Path, n: int, mode: str) -> ReferenceSource | None:
        """Return the reference in a statistics file on rank 0, which computes the scores; None elsewhere."""
        from palette_bench.scoring.statistics_files import read_statistics  # noqa: PLC0415  # rarely needed

        if len(self._extractors) > 1:
            names = ", ".join(e.id for e in self._extractors)
            raise UsageError(f"statistics belong to one network; this run compares features of {names}")
        (extractor,) = self._extractors
        found: list[ReferenceSource] = []

        def read() -> None:
            # the number of features of a network shows when it runs on one black image
            black = as_images([np.zeros((self.target.protocol.side, self.target.protocol.side, 3), np.uint8)])
            width = int(extractor(black)[extractor.heads["features"]].shape[1])
            found.append(read_statistics(file, n, width, mode))

        self.extraction.world.run_on_main(read)
        return found[0] if found else None

    def _remembered(self, preprocess: str) -> tuple[ValidationSet, ImageReference | None]:
        wanted = ValidationSet.of(self.target, preprocess)
        if self.fresh or not self._extractors:
            return wanted, None
        return wanted, wanted.remembered(self._extractors, self.extraction.cache, self.statistics)

    def matched(self, chosen: ReferenceSource) -> ImageReference | None:
        """Return the cached reference cropped like this set; None if it is absent or was chosen already."""
        if self.target.manifest.preprocess != MATCHED_FULL.partition("@")[2] or chosen.id == MATCHED_FULL:
            return None
        return self._remembered(self.target.manifest.preprocess)[1]
