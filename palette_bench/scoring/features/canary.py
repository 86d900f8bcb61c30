"""Canary of the networks: known features of two generated images, checked before any scoring."""

from __future__ import annotations

import numpy as np
import torch

from palette_bench.core.errors import Problem, problem
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.extractor import as_images
from palette_bench.tasks.canary import pattern_k, pattern_p

# The first four values of smoke-random's `pool` on P(128, 128) and on K. smoke-random stands for every
# network: it needs no file and uses the same layers, resizing and settings as the others.
_GOLDEN = ((0.8175, 1.4179, -0.6236, -0.4537), (-0.48, 3.9344, 0.7167, 2.8293))
_TOLERANCE = 1e-3  # the features' standard deviation is 2; float32 on another device moves them by 1e-5


def devices() -> dict[str, str]:
    """Return the devices that torch can use, name -> model, cpu first."""
    found = {"cpu": f"torch {torch.__version__}, {torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    return found


def findings(device: str) -> list[Problem]:
    """Return PB704 if smoke-random's features differ from the known ones, or from one run to the next.

    Args:
        device: cpu or cuda.
    """
    network = open_extractor("smoke-random", None, "center224", device)
    found = []
    for image, golden in zip((pattern_p(128, 128), pattern_k()), _GOLDEN, strict=True):
        first, second = (network(as_images([image]))["pool"][0] for _ in range(2))
        if not np.array_equal(first, second):
            found.append(_differs(device, "equal features of equal images", "others at the second run"))
        if not np.allclose(first[:4], golden, rtol=0, atol=_TOLERANCE):
            found.append(_differs(device, str(golden), str(tuple(np.round(first[:4], 4).tolist()))))
    return found


def _differs(device: str, expected: str, found: str) -> Problem:
    fix = "install torch and torchvision from one release; score with --device cpu until this passes"
    return problem("PB704", f"smoke-random on {device}", expected=expected, found=found, fix=fix)
