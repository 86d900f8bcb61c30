"""What a run of `score` computes and with which networks, before anything is read of the submission."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem, UsageError, WeightsError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Fingerprint
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.evaluate import (
    ImageLabels,
    MetricSelection,
    MetricStep,
    needed_extractors,
    plan,
    select_metrics,
    servable,
)
from palette_bench.scoring.features import (
    PAIR_WEIGHTS,
    Weights,
    check_name,
    open_extractors,
    open_pair_distance,
)
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.metrics.paired import PairedMetric

if TYPE_CHECKING:
    from palette_bench.scoring.features.pairs import PairDistance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringChoice:
    """What the user wants of a set, before a network is opened.

    Attributes:
        target: the benchmark set.
        selection: the metrics.
        named: whether the user named them; if not, they are all that can be had.
        extractors: ids of the networks.
        weights: extractor id -> path of its weights, or `random:SEED`.
    """

    target: BenchSet
    selection: MetricSelection
    named: bool
    extractors: Sequence[str]
    weights: Weights

    @classmethod
    def of(
        cls, target: BenchSet, out: Path, extractors: Sequence[str], metrics: Sequence[str], weights: Weights
    ) -> ScoringChoice:
        """Return the choice that options make.

        Raises:
            UsageError: unknown metrics or extractors, weights without a network, or `out` is a folder.
        """
        available = tuple(extractors) or target.protocol.extractors
        selection = select_metrics(target, available, metrics)
        if metrics and not extractors:
            available = needed_extractors(selection.features, available) if selection.features else ()
        return cls(target, selection, bool(metrics), _names(available, weights, out), weights)


def _names(extractors: Sequence[str], weights: Weights, out: Path) -> list[str]:
    """Return the extractors to open, each once; raise on unusable names or options before any work."""
    names = list(dict.fromkeys(extractors))
    for name in names:
        check_name(name)
    idle = sorted(set(weights) - {*names, *PAIR_WEIGHTS})
    if idle:
        raise UsageError(f"--weights for {', '.join(idle)}, but the extractors are {', '.join(names)}")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the card to write, e.g. {out / 'scorecard.json'}")
    return names


@dataclass(frozen=True)
class ScoringPlan:
    """What a run computes and with which networks; nothing was read of a submission yet.

    Attributes:
        target: the benchmark set.
        selection: the metrics.
        steps: the metrics that read features, each with its network.
        used: the networks that some metric uses.
        unserved: a finding for each metric that no network serves.
        distances: the paired distances, each with what computes it; None without weights.
        device: device of the networks.
    """

    target: BenchSet
    selection: MetricSelection
    steps: Sequence[MetricStep]
    used: Sequence[FeatureExtractor]
    unserved: Sequence[Problem]
    distances: Sequence[tuple[PairedMetric, PairDistance | None]]
    device: str

    @property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return network -> fingerprint, of the networks of features and of paired distances."""
        paired = {distance.id: distance.fingerprint for _, distance in self.distances if distance}
        return {**{e.id: e.fingerprint for e in self.used}, **paired}

    @classmethod
    def open(
        cls, choice: ScoringChoice, device: str, precision: str, mode: str | None, world: ProcessGroup
    ) -> ScoringPlan:
        """Open the networks and plan the metrics.

        Raises:
            WeightsError: PB705, networks lack their weights; all are named.
            DeviceError: PB707, this machine lacks the device.
            StackError: PB710, ranks have other networks.
        """
        target, selection, names, weights = choice.target, choice.selection, choice.extractors, choice.weights
        crop = target.protocol.classifier_crop
        opened = world.run_on_all(lambda: open_extractors(names, weights, crop, device, precision, mode))
        world.require_equal("extractors", fingerprint([e.fingerprint for e in opened]))
        features, unserved = selection.features, list[Problem]()
        if not choice.named:
            features, unserved = servable(selection.features, opened)
        steps = plan(features, opened, ImageLabels.of(target, target.ids) is not None)
        used = [e for e in opened if any(step.extractor is e for step in steps)]
        if idle := [e.id for e in opened if e not in used]:
            log.warning("no metric uses %s: ignored", ", ".join(idle))
        distances = _open_distances(choice, device, world)
        return cls(target, selection, steps, used, unserved, distances, device)


def _open_distances(
    choice: ScoringChoice, device: str, world: ProcessGroup
) -> list[tuple[PairedMetric, PairDistance | None]]:
    """Return the paired distances with what computes them; None where weights are missing and not named.

    Raises:
        WeightsError: PB705, metrics that the user named lack their weights; all are named.
        StackError: PB710, ranks have other networks.
    """
    own = {name: path for name, path in choice.weights.items() if name in PAIR_WEIGHTS}
    opened: list[tuple[PairedMetric, PairDistance | None]] = []
    faults = []
    for row in choice.selection.distances:
        try:
            opened.append((row, world.run_on_all(partial(open_pair_distance, row.distance, own, device))))
        except WeightsError as error:
            faults.append(str(error))
            opened.append((row, None))
    if faults and choice.named:
        raise WeightsError(*faults)
    world.require_equal("pair distances", fingerprint([d.fingerprint for _, d in opened if d]))
    return opened
