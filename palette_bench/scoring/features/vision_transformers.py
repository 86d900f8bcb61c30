"""Vision transformers whose features FD-DINOv2 and CMMD compare, with weights that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn
from torch.nn import functional

from palette_bench.runtime.tensors import tensor_digest
from palette_bench.scoring.features import ExtractorConfig
from palette_bench.scoring.features.extractor import FeatureExtractor, NetworkInfo, assemble
from palette_bench.scoring.features.network import FeatureNetwork, load_weights
from palette_bench.scoring.features.preprocess import Preprocess, pillow_square, whole_image
from palette_bench.scoring.features.timm_models import create

DINO_MODE = "pytorch"  # resize mode unless the user names one: dgm-eval's, with which FD-DINOv2 was published
DINO_SIDE = 224  # pixels
_OFFSET = 0.1  # patches


@dataclass(frozen=True)
class _Transformer:
    """A transformer: its name in timm, the head it gives, and whether features have unit length."""

    model: str
    head: str
    unit_length: bool = False


_ROWS: Mapping[str, _Transformer] = {
    "dinov2-vitl14": _Transformer("vit_large_patch14_dinov2.lvd142m", "cls"),
    "dinov2-vits14": _Transformer("vit_small_patch14_dinov2.lvd142m", "cls"),
    # OpenAI trained with QuickGELU, and timm's model of the plain name has another activation
    "clip-vitl14-336": _Transformer(
        "vit_large_patch14_clip_quickgelu_336.openai", "embedding", unit_length=True
    ),
}


class TransformerNetwork(FeatureNetwork):
    """A vision transformer: (N, 3, S, S) -> the class token after the last norm and projection, (N, D)."""

    def __init__(self, row: _Transformer, preprocess: Preprocess) -> None:
        """Build timm's model."""
        super().__init__()
        self.row, self.preprocess = row, preprocess
        self.model = create(row.model)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the resized and normalised images."""
        return self.preprocess(pixels)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the head."""
        features = self.model(inputs)
        return {self.row.head: functional.normalize(features) if self.row.unit_length else features}


def open_network(wanted: ExtractorConfig) -> FeatureExtractor:
    """Return a vision transformer as an extractor; it ignores the crop, which is for classifiers.

    DINOv2 sees the whole image at 224 pixels, and its features are the class token after the last norm. CLIP
    sees the central square at 336 pixels, and its features are the projected embedding at unit length.

    Raises:
        UsageError: unknown mode or precision.
        WeightsError: PB705, weights are missing, or are not this network's.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.

    Source: Stein et al. 2023 and layer6ai-labs/dgm-eval; Jayasumana et al. 2024 and google-research/cmmd,
    whose CLIP model normalises embeddings by default.
    """
    row = _ROWS[wanted.name]
    config = timm.get_pretrained_cfg(row.model) or PretrainedCfg()
    is_dino = row.head == "cls"
    side = DINO_SIDE if is_dino else config.input_size[-1]
    crop = whole_image(wanted.mode or DINO_MODE, side) if is_dino else pillow_square(side)
    network = TransformerNetwork(row, Preprocess(crop, tuple(config.mean), tuple(config.std)))
    file = f"model.safetensors of huggingface.co/{config.hf_hub_id} ({config.license})"
    notes = load_weights(network, network.model, wanted, file=file)
    weights = tensor_digest(network.model.state_dict())
    if is_dino:  # the file has positions for 518 pixels
        stored = network.model.pos_embed.detach()
        network.model.set_input_size(img_size=(side, side))
        grid = side // network.model.patch_embed.patch_size[0]
        network.model.pos_embed = nn.Parameter(resampled_positions(stored, grid))
    about = NetworkInfo(heads={"features": row.head}, preprocess=network.preprocess.words, notes=notes)
    return assemble(wanted, network, weights, about)


def resampled_positions(stored: Tensor, grid: int) -> Tensor:
    """Return DINOv2's position embedding for a grid of other size, as its authors resample it.

    The scale is (grid + 0.1) / stored grid, without antialias. timm has an antialias and no offset, which
    gives other features.

    Args:
        stored: (1, 1 + M * M, D), the class token's position and those of M x M patches.
        grid: patches along each side of the result.

    Returns:
        (1, 1 + grid * grid, D).

    Source: facebookresearch/dinov2, `DinoVisionTransformer.interpolate_pos_encoding`.
    """
    of_class, of_patches = stored[:, :1], stored[:, 1:]
    side = round(of_patches.shape[1] ** 0.5)
    maps = of_patches.transpose(1, 2).reshape(1, -1, side, side)
    resampled = functional.interpolate(maps, scale_factor=(grid + _OFFSET) / side, mode="bicubic")
    return torch.cat([of_class, resampled.flatten(2).transpose(1, 2)], dim=1)
