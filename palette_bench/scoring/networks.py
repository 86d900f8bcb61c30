"""The feature extractors of a run: which ones, with which weights, device and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from palette_bench.core.errors import WeightsError
from palette_bench.scoring.card import environment
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.extractor import FeatureExtractor

Weights: TypeAlias = Mapping[str, str]  # extractor id -> path, or random:SEED

DEFAULT_MODE = "tf1"


@dataclass(frozen=True)
class Networks:
    """The extractors of a run and their options, which are those of `open_extractor`."""

    names: Sequence[str]
    weights: Weights
    crop: str
    device: str
    precision: str
    mode: str

    def open(self) -> list[FeatureExtractor]:
        """Return all extractors, opened.

        Raises:
            WeightsError: PB705, extractors lack their weights; one error names all of them.
            UsageError: unknown precision or mode.
            DeviceError: PB707, this machine lacks the device.
        """
        opened, missing = [], []
        for name in self.names:
            try:
                opened.append(self._open(name))
            except WeightsError as error:
                missing.append(error)
        if missing:
            raise WeightsError(*(finding for error in missing for finding in error.problems or (str(error),)))
        return opened

    def _open(self, name: str) -> FeatureExtractor:
        return open_extractor(name, self.weights.get(name), self.crop, self.device, self.precision, self.mode)

    def environment(self) -> dict[str, str | bool | None]:
        """Return the environment of a scorecard, with the device of this run."""
        gpu = self.device.startswith("cuda")
        model = torch.cuda.get_device_name(self.device) if gpu else torch.backends.cpu.get_cpu_capability()
        return environment(torch.__version__, f"{self.device} ({model})", self.precision)
