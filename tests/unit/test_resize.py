"""Every way an image becomes what a network sees, against the program it copies."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image as PillowImage
from torch import nn
from torch.nn import functional
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from palette_bench.core.errors import InputError, UsageError
from palette_bench.scoring.features.preprocess import CROPS, MODES, find_crop, find_mode, resized_crop

SIZES = [(256, 256), (64, 64), (299, 299), (300, 301), (37, 512)]


def drawn(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, (count, 3, height, width))).float()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tf1_is_torch_fidelitys_resize(height: int, width: int) -> None:
    pixels = drawn(height, width)
    expected = interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(299, 299), align_corners=False)
    found = MODES["tf1"].resize(pixels)
    assert found.shape == (2, 3, 299, 299)
    assert (found - expected).abs().max() < 1e-4
    assert torch.equal(MODES["tf1"](pixels), (found - 128) / 128)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_clean_is_clean_fids_resizer(height: int, width: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs names a Pillow mode the old way
        resize = pytest.importorskip("cleanfid.resize", reason="clean-fid is not installed")
        pixels = drawn(height, width)
        resizer = resize.make_resizer("PIL", False, "bicubic", (299, 299))
        expected = np.stack([resizer(p.permute(1, 2, 0).byte().numpy()) for p in pixels])
    found = MODES["clean"].resize(pixels).permute(0, 2, 3, 1).numpy()
    assert np.abs(found - expected).max() < 1e-3
    assert found.min() >= 0
    assert found.max() <= 255


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pytorch_is_pytorch_fids_preprocessing(height: int, width: int) -> None:
    theirs = pytest.importorskip("pytorch_fid.inception", reason="pytorch-fid is not installed")
    network = theirs.InceptionV3.__new__(theirs.InceptionV3)  # its constructor downloads
    nn.Module.__init__(network)
    network.resize_input = network.normalize_input = True
    network.blocks, network.output_blocks, network.last_needed_block = [nn.Identity()], [0], 0
    pixels = drawn(height, width)
    assert (MODES["pytorch"](pixels) - network(pixels / 255)[0]).abs().max() < 1e-3 / 127.5


def test_the_modes_differ_by_about_what_the_specification_says() -> None:
    patches = drawn(32, 32).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    resized = {name: mode.resize(patches) for name, mode in MODES.items()}
    for name in ("clean", "pytorch"):
        assert 0.3 < (resized[name] - resized["tf1"]).abs().mean() < 8
    assert len({mode.words for mode in MODES.values()}) == len(MODES)


def test_a_resize_of_float64_stays_float64() -> None:
    for mode in MODES.values():
        assert mode(drawn(64, 64).double()).dtype == torch.float64


def test_unknown_modes_and_crops_are_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean clean"):
        find_mode("cleen")
    with pytest.raises(UsageError, match="did you mean own"):
        find_crop("owm", ("own",))
    with pytest.raises(UsageError, match="'nearest', not bilinear or bicubic"):
        resized_crop(256, 224, "nearest")


# crops of classifiers


def test_center224_is_a_cut_and_whole256_is_nothing() -> None:
    pixels = drawn(256, 256)
    assert torch.equal(CROPS["center224"].cut(pixels), pixels[:, :, 16:240, 16:240])
    assert torch.equal(CROPS["whole256"].cut(pixels), pixels)
    with pytest.raises(InputError, match="at least 224 x 224 pixels, not 512 x 200"):
        CROPS["center224"].cut(drawn(200, 512))
    with pytest.raises(InputError, match="256 x 256 pixels, not 64 x 64"):
        CROPS["whole256"].cut(drawn(64, 64))


def test_whole224_leaves_a_constant_alone_and_sees_every_corner() -> None:
    pixels = torch.full((1, 3, 256, 256), 77.0)
    cut = CROPS["whole224-bicubic"].cut
    assert cut(pixels).sub(77).abs().max() < 2e-4
    pixels[:, :, 0, 0] = 255
    assert cut(pixels)[0, 0, 0, 0] > 90


@pytest.mark.parametrize("model", ["resnet50.tv_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"])
def test_a_models_own_crop_is_timms_transform(model: str) -> None:
    from palette_bench.scoring.features.preprocess import Preprocess
    from palette_bench.scoring.features.timm_models import _own

    config = timm.get_pretrained_cfg(model)
    ours = Preprocess(_own(config), tuple(config.mean), tuple(config.std))
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(config.to_dict()))
    # no overshoot, for Pillow clips between its two passes; it rounds after each, we do not
    smooth = functional.interpolate(drawn(9, 9, 1), size=(256, 256), mode="bilinear").round()
    image = PillowImage.fromarray(smooth[0].permute(1, 2, 0).byte().numpy())
    level = 1 / 255 / min(config.std)
    assert (ours(smooth)[0] - theirs(image)).abs().max() < 1.1 * level
