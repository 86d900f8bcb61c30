"""The notebook that people open first: what is stored in it is what it does today."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import REPOSITORY
from PIL import Image

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"
RENEW = "run: cd examples && jupyter execute --inplace quickstart.ipynb"
LARGEST = 1_000_000  # bytes; what GitHub still draws at once


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [
        cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]


def results(cell: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield kind -> data of each result of a cell; warnings of other packages are no results."""
    for output in cell["outputs"]:
        assert output["output_type"] in {"execute_result", "stream"}, output
        if output["output_type"] == "execute_result":
            yield {kind: "".join(data) for kind, data in output["data"].items()}


def test_the_stored_notebook_was_run_once_from_top_to_bottom() -> None:
    cells = code_cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), RENEW
    shown = [kind for cell in cells for result in results(cell) for kind in result]
    assert shown.count("text/html") >= 4  # set, card, score, board
    assert shown.count("image/png") == 1


def test_the_stored_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert re.findall(r"/(?:home|root|tmp|Users|work)/", text) == []
    assert all(
        output["output_type"] != "stream" for cell in code_cells(NOTEBOOK) for output in cell["outputs"]
    )


def pixels(data: str) -> np.ndarray[Any, Any]:
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return np.asarray(image, dtype=np.float64)


def images_and_text(data: str) -> tuple[list[str], str]:
    """Return the embedded images of HTML or text, and the rest."""
    address = r"data:image/png;base64,([A-Za-z0-9+/=]+)"
    return re.findall(address, data), re.sub(address, "", data)


def numbers_and_words(text: str) -> tuple[list[float], list[str]]:
    number = r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])"
    return [float(found) for found in re.findall(number, text)], re.split(number, text)


@pytest.mark.long
def test_running_it_again_gives_what_is_stored(tmp_path: Path) -> None:
    """Words must be equal, numbers to two digits and images in the mean to a level: BLAS may differ."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    again = tmp_path / NOTEBOOK.name
    again.write_bytes(NOTEBOOK.read_bytes())
    call = "from nbclient.cli import main; main()"  # in a process of its own, since a kernel needs sockets
    done = subprocess.run(
        [sys.executable, "-c", call, "--inplace", again.name],
        cwd=tmp_path,
        env={**os.environ, "PALETTE_BENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for old, new in zip(code_cells(NOTEBOOK), code_cells(again), strict=True):
        for stored, found in zip(results(old), results(new), strict=True):
            assert set(stored) - {"image/jpeg"} == set(found) - {"image/jpeg"}, RENEW
            for kind in set(stored) - {"image/jpeg", "image/png"}:
                (images, text), (new_images, new_text) = map(images_and_text, (stored[kind], found[kind]))
                (values, words), (new_values, new_words) = map(numbers_and_words, (text, new_text))
                assert words == new_words, RENEW
                assert new_values == pytest.approx(values, rel=0.01), RENEW
                for image, other in zip(images, new_images, strict=True):
                    assert abs(pixels(image) - pixels(other)).mean() < 1
            if "image/png" in stored:
                assert abs(pixels(stored["image/png"]) - pixels(found["image/png"])).mean() < 1
