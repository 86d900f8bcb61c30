"""Folding batch norms: the same function, and nothing folded that is not safe to fold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from palette_bench.scoring.features.network import fold


class Wrapped(nn.Module):
    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.run = run
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"pool": self.run(self, inputs).mean(dim=(2, 3))}


CASES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], bool]] = {
    "in a row": (lambda m, x: m.norm(m.conv(x)).relu(), True),
    "read twice": (lambda m, x: (y := m.conv(x)) + m.norm(y), False),
    "norm first": (lambda m, x: m.norm(m.conv(x).relu()), False),
    "run twice": (lambda m, x: m.norm(m.conv(x)) + m.norm(m.conv(x.flip(0))), False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_what_is_safe_is_folded_and_values_stay(case: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    run, is_safe = CASES[case]
    network = Wrapped(run).eval().requires_grad_(False).to(dtype)
    inputs = torch.randn(2, 3, 9, 9, dtype=dtype)
    expected = network(inputs)["pool"]
    fold(network, inputs)
    assert isinstance(network.norm, nn.BatchNorm2d) is not is_safe
    found = network(inputs)["pool"]
    assert found.dtype == dtype
    assert found == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-13, abs=1e-6)
    assert next(network.parameters()).dtype == dtype
