"""The check of the GPU's code on a machine without one: it finds what it is for, and the code passes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from common import REPOSITORY
from torch import nn

from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.unet import UNet, sinusoids
from palette_bench.runtime.device import reproducible_arithmetic

pytestmark = pytest.mark.filterwarnings("default")  # torch's own, about a GPU that is not there


@pytest.fixture(scope="module")
def fake() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "benchmarks")
        import gpu_fake

        try:
            with gpu_fake.pretended_gpu(), gpu_fake.fakes():
                torch.zeros(1, device=gpu_fake.GPU).sum()
        except RuntimeError:
            pytest.skip("this torch looks for a driver even for fake tensors")
        yield gpu_fake
    sys.modules.pop("gpu_fake")


def test_gradients_are_those_of_torch(fake: ModuleType) -> None:
    spec = PRESETS["palette-toy"]
    torch.manual_seed(0)
    network = UNet(spec)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    images, code = torch.randn(2, 6, spec.side, spec.side), sinusoids(torch.rand(2), spec.width)
    loss = network(images, code).square().sum()
    wanted = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    found = {id(leaf): gradient for leaf, gradient in fake.gradients(loss)}
    rounding = 1e-5 * max(float(gradient.abs().max()) for gradient in wanted)
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert (found[id(parameter)] - gradient).abs().max() < rounding


def mixes_devices(fake: ModuleType) -> None:
    torch.zeros(3, device=fake.GPU) + torch.zeros(3)


def asks_the_gpu_for_numpy(fake: ModuleType) -> None:
    torch.zeros(3, device=fake.GPU).numpy()


def forgets_a_layer(fake: ModuleType) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[0].to(fake.GPU)
    network(torch.zeros(1, 3, device=fake.GPU))


def needs_a_kernel_that_there_is_not(fake: ModuleType) -> None:
    images = torch.zeros(1, 3, 5, 5, device=fake.GPU, requires_grad=True)
    with reproducible_arithmetic():
        nn.functional.adaptive_avg_pool2d(images, 2).sum().backward()  # type: ignore[no-untyped-call]


FAULTS = [mixes_devices, asks_the_gpu_for_numpy, forgets_a_layer, needs_a_kernel_that_there_is_not]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_fail_on_a_gpu_fails(fault: object, fake: ModuleType) -> None:
    with fake.pretended_gpu(), fake.fakes(), pytest.raises((RuntimeError, TypeError), match="cuda"):
        fault(fake)  # type: ignore[operator]


def test_nothing_of_the_pretence_stays(fake: ModuleType) -> None:
    before = torch.cuda.is_available, torch.Tensor.numpy, torch.Tensor.backward, nn.Module._apply
    with fake.pretended_gpu():
        assert torch.cuda.is_available()
    assert before == (torch.cuda.is_available, torch.Tensor.numpy, torch.Tensor.backward, nn.Module._apply)


def test_a_branch_is_a_line_of_a_function_that_names_cuda(fake: ModuleType) -> None:
    found = {path.relative_to(REPOSITORY).as_posix(): lines for path, lines in fake.branches().items()}
    assert any(
        "torch.cuda.set_device(own)" in text
        for text in found["palette_bench/runtime/distributed.py"].values()
    )
    assert not any(text.startswith('"""') for lines in found.values() for text in lines.values())


@pytest.mark.long
def test_the_code_mixes_no_devices(fake: ModuleType, tmp_path: Path) -> None:
    found = fake.run_all(tmp_path)
    assert {name: row["error"] for name, row in found["parts"].items() if row["error"]} == {}
    assert len(found["branches"]["exercised"]) > 20
