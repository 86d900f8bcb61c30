"""The interface of feature extractors, and its torch implementation.

All networks run with reproducible arithmetic and without gradients; batch norms are folded where possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palette_bench.core.errors import DeviceError, UsageError, suggest
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Features, Fingerprint
from palette_bench.runtime.device import open_device, reproducible_arithmetic
from palette_bench.scoring.features import ExtractorConfig
from palette_bench.scoring.features.network import FeatureNetwork, drawn_images, fold
from palette_bench.scoring.metrics.metric import Role

# Increased when the same weights and pixels give other features. Revision 2 folds batch norms and uses the
# fast TF1 resize (differences up to 1e-4). Revision 3 ignores the caller's settings, such as autocast;
# features of revision 2 may depend on them.
FORWARD_REVISION = 3

MICRO_BATCH = {"cpu": 16, "cuda": 64, "mps": 64, "xpu": 64}


# --- precision; source: metrics, section 2.3 ---

PREVIEW_NOTE = "preview"
AUDIT_NOTE = "audit"


@dataclass(frozen=True)
class Precision:
    """The dtypes of a forward pass.

    Attributes:
        id: name in options and fingerprints.
        pixels: dtype of resize and normalisation.
        layers: dtype of weights and activations.
        tf32: whether float32 products on a GPU may use TF32, which drops 13 bits.
        notes: notes that every score carries.
    """

    id: str
    pixels: torch.dtype
    layers: torch.dtype
    tf32: bool = False
    notes: tuple[str, ...] = ()


PRECISIONS = {
    p.id: p
    for p in (
        Precision("fp32", torch.float32, torch.float32),
        Precision("tf32", torch.float32, torch.float32, tf32=True, notes=(PREVIEW_NOTE,)),
        Precision("bf16", torch.float32, torch.bfloat16, notes=(PREVIEW_NOTE,)),
        Precision("fp64", torch.float64, torch.float64, notes=(AUDIT_NOTE,)),
    )
}


def find_precision(name: str, device: torch.device) -> Precision:
    """Return the entry of PRECISIONS, if the device supports it.

    Raises:
        UsageError: unknown name.
        DeviceError: PB707, tf32 on a device without TF32.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: {suggest(name, PRECISIONS)}")
    if PRECISIONS[name].tf32 and (device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8):
        expected = "a GPU of compute capability 8.0 or later"
        fix = "use fp32, which is what ranks, or bf16"
        raise DeviceError.of("PB707", f"--precision {name}", expected=expected, found=str(device), fix=fix)
    return PRECISIONS[name]


# --- extractors ---


@dataclass(frozen=True)
class NetworkInfo:
    """The properties of a network besides its weights.

    Attributes:
        heads: role -> head.
        preprocess: description of everything done to pixels before the first layer. It is part of the
            fingerprint and must change whenever the preprocessing does.
        label_space: `imagenet-1k` or None.
        notes: notes that every score carries, e.g. `random-weights`.
        revision: revision of the forward pass.
        folds: whether its batch norms may be folded and its memory layout changed.
    """

    heads: Mapping[Role, str]
    preprocess: str
    label_space: str | None = None
    notes: tuple[str, ...] = ()
    revision: int = FORWARD_REVISION
    folds: bool = True


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns images into features with a torch network, including the resize.

    Attributes:
        id: name in scorecards.
        network: the network, folded and frozen.
        about: its other properties.
        numbers: precision of its arithmetic.
        fingerprint: digest of id, weights, preprocessing, precision, heads and forward revision.
        device: where it computes.
    """

    id: str
    network: FeatureNetwork
    about: NetworkInfo
    numbers: Precision
    fingerprint: Fingerprint
    device: torch.device

    @property
    def heads(self) -> Mapping[Role, str]:
        """Return role -> head."""
        return self.about.heads

    @property
    def label_space(self) -> str | None:
        """Return `imagenet-1k` if its classes are the labels of ImageNet sets, else None."""
        return self.about.label_space

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes of the weights and of the precision."""
        return (*self.about.notes, *self.numbers.notes)

    @property
    def micro_batch(self) -> int:
        """Return the number of images per call. It is fixed: another batch may change the last bits."""
        return MICRO_BATCH[self.device.type]

    def __call__(self, images: Tensor) -> dict[str, Features]:
        """Return {head: (N, D) float32} of (N, 3, H, W) uint8 RGB images."""
        with reproducible_arithmetic(tf32=self.numbers.tf32), torch.inference_mode():
            inputs = self.network.prepare(images.to(self.device).to(self.numbers.pixels))
            layout = torch.channels_last if self.about.folds else torch.preserve_format
            tables = self.network(inputs.to(self.numbers.layers, memory_format=layout))
            return {head: table.to("cpu", torch.float32).numpy() for head, table in tables.items()}


def assemble(
    wanted: ExtractorConfig, network: FeatureNetwork, weights: Fingerprint, about: NetworkInfo
) -> FeatureExtractor:
    """Return the extractor of a loaded network: folded, cast, frozen, on its device, with its fingerprint.

    Call this inside `reproducible_arithmetic`, as `open_extractor` does, because folding runs the network.

    Args:
        wanted: name, device and precision.
        network: the network, with its weights loaded.
        weights: digest of the tensors, under the names of their file.
        about: the network's other properties.

    Raises:
        UsageError: unknown precision.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.
    """
    where = open_device(wanted.device)
    numbers = find_precision(wanted.precision, where)
    identity = {
        "id": wanted.name,
        "weights": weights,
        "preprocess": about.preprocess,
        "precision": numbers.id,
        "taps": {role: about.heads[role] for role in sorted(about.heads)},
        "forward": about.revision,
    }
    network.eval().requires_grad_(False).to(numbers.pixels)
    if about.folds:
        with torch.no_grad():  # not inference mode, whose tensors could not be cast later
            fold(network, network.smallest(network.prepare(drawn_images(1).to(numbers.pixels))))
        network.to(memory_format=torch.channels_last)
    network.to(where, numbers.layers)
    return FeatureExtractor(wanted.name, network, about, numbers, fingerprint(identity), where)


def as_images(images: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
    """Return N images of (H, W, 3) uint8 as one (N, 3, H, W) uint8 tensor."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
