"""Bad training images: named before the first step, and no reason to lose a step later."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from toy_method import Toy, run_toy, write_images

from palette_bench.baselines.training.checkpoint import open_run
from palette_bench.core.errors import SourceError


def spoilt(folder: Path) -> Path:
    """Return images of which three cannot be read, for two reasons a header tells."""
    images = write_images(folder / "pictures", 12)
    (images / "p003.png").write_bytes(b"GIF89a, and no image")
    whole = (images / "p007.png").read_bytes()
    (images / "p007.png").write_bytes(whole[: len(whole) // 2])
    (images / "p009.png").write_bytes(b"")
    return images


def damaged_within(images: Path, name: str) -> None:
    """Spoil an image's data and leave its header and end."""
    data = bytearray((images / name).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    (images / name).write_bytes(data)


@pytest.mark.trust("training: bad images")
def test_all_bad_headers_are_named_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        run_toy(Toy(), spoilt(tmp_path), tmp_path / "run")
    said = str(caught.value)
    assert all(name in said for name in ("p003.png", "p007.png", "p009.png"))
    assert "truncated" in said
    assert "--unreadable 3" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_stated_number_is_passed_over_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_toy(Toy(), spoilt(tmp_path), tmp_path / "run", unreadable=3)
    named = [line for line in caplog.messages if line.startswith("unreadable, passed over: ")]
    assert [line.split()[3] for line in named] == ["p003.png", "p007.png", "p009.png"]
    found = open_run(tmp_path / "run").state
    assert found is not None
    assert found.unreadable == (3, 7, 9)


@pytest.mark.trust("training: bad images")
def test_an_image_that_fails_within_stops_the_run_and_loses_no_step(tmp_path: Path) -> None:
    images = write_images(tmp_path / "pictures", 12)
    for name in ("p004.png", "p008.png"):
        damaged_within(images, name)
    with pytest.raises(SourceError, match=r"PB309[\s\S]*--unreadable"):
        run_toy(Toy(save_every=100), images, tmp_path / "run")
    stopped = open_run(tmp_path / "run").step
    assert stopped >= 1
    run_toy(Toy(save_every=100), images, tmp_path / "run", unreadable=2)
    assert open_run(tmp_path / "run").step == 6
