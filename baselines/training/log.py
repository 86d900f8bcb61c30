"""Output of a run: log.jsonl, TensorBoard if it is installed, strips of preview images, log messages."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palette_bench.core import atomic, png
from palette_bench.core.records import read_file
from palette_bench.core.text import duration
from palette_bench.runtime.tensors import to_pixels

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
_REMEMBERED = 200  # steps whose median duration predicts the remaining time
_SECONDS_BETWEEN_LINES = 10.0
_FIRST_SIGN = 8.0  # seconds of silence before the first message of the heartbeat
_NEXT_SIGN = 25.0  # seconds of silence before each later one


class StepClock:
    """Durations of the last steps, and the share of time spent waiting for data."""

    def __init__(self) -> None:
        """Start timing the first step."""
        self._steps: deque[float] = deque(maxlen=_REMEMBERED)
        self._waits: deque[float] = deque(maxlen=_REMEMBERED)
        self._began = time.monotonic()
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Add time of the current step spent waiting for data."""
        self._waited += seconds

    def tick(self) -> None:
        """End the current step and start the next."""
        now = time.monotonic()
        self._steps.append(now - self._began)
        self._waits.append(self._waited)
        self._began, self._waited = now, 0.0

    def skip(self) -> None:
        """Restart the timer of the current step, so that work since its start does not count."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the median duration of a step; 0 before the first step has ended."""
        return statistics.median(self._steps) if self._steps else 0.0

    @property
    def wait_share(self) -> float:
        """Return the share of time spent waiting for data."""
        return sum(self._waits) / max(sum(self._steps), 1e-9)


class Heartbeat:
    """Logs the current activity and its duration when nothing else was logged for a while.

    The first message comes after 8 s of silence, later ones after 25 s.

    Attributes:
        doing: the current activity.
    """

    def __init__(self) -> None:
        """Start the first period of silence."""
        self.doing = "starting"
        self._began = self._spoke = time.monotonic()
        self._patience = _FIRST_SIGN
        self._over = threading.Event()

    def begin(self, doing: str) -> None:
        """Set the current activity."""
        self.doing, self._began = doing, time.monotonic()

    def spoke(self) -> None:
        """Record that something else was logged."""
        self._spoke, self._patience = time.monotonic(), _NEXT_SIGN

    def sign(self, now: float) -> float:
        """Log a message if one is due; return the seconds until the next one is."""
        if now >= self._spoke + self._patience:
            logger.info("%s: %s so far", self.doing, duration(now - self._began))
            self._spoke, self._patience = now, _NEXT_SIGN
        return self._spoke + self._patience - now

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Run the heartbeat in a thread: a step of a large network on a small machine takes minutes."""

        def watch() -> None:
            while not self._over.wait(max(0.1, self.sign(time.monotonic()))):
                pass

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


class RunLog:
    """Writes the log of one run, on rank 0."""

    def __init__(self, run: Path, step: int, heartbeat: Heartbeat) -> None:
        """Continue after `step`; later lines, of steps that were lost, are dropped."""
        self._run = run
        self._heartbeat = heartbeat
        self._spoke = -math.inf
        path = run / LOG
        lines = read_file(path).decode().splitlines() if path.is_file() else []
        atomic.write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))
        self._board = _tensorboard(run, step)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line to log.jsonl; its numbers also go to TensorBoard."""
        atomic.append_lines(self._run / LOG, [json.dumps(line, allow_nan=False)])
        if self._board:
            for name, value in line.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, line["step"])

    def strip(self, step: int, rows: list[torch.Tensor]) -> None:
        """Write images side by side: one sample per line, one element of `rows` per column.

        Args:
            step: optimiser step.
            rows: tensors (N, 3, S, S) in [-1, 1].
        """
        columns = [np.concatenate(list(to_pixels(images)), axis=0) for images in rows]
        sheet = np.concatenate(columns, axis=1)
        atomic.write_bytes(self._run / "strips" / f"step-{step:08d}.png", png.encode(sheet))
        if self._board:
            self._board.add_image("strips", sheet, step, dataformats="HWC")

    def is_due(self) -> bool:
        """Return whether ten seconds have passed since the last progress message."""
        return time.monotonic() - self._spoke >= _SECONDS_BETWEEN_LINES

    def begin(self, doing: str) -> None:
        """Set the current activity, which is logged if it takes long."""
        self._heartbeat.begin(doing)

    def say(self, line: dict[str, Any], steps: int, seconds: float) -> None:
        """Log a progress message, at most every ten seconds and always after the last step."""
        if not self.is_due() and line["step"] < steps:
            return
        self._spoke = time.monotonic()
        self._heartbeat.spoke()
        logger.info(
            "step %s of %s  loss %s  rate %.1e  %.2f images/s  data %.1f %%  %.1f GB  %s left",
            f"{line['step']:,}",
            f"{steps:,}",
            f"{line['loss']:.4f}" if line["loss"] is not None else "not finite",
            line["learning_rate"],
            line["images_per_second"],
            100 * line["data_wait"],
            line["memory_bytes"] / 1e9,
            duration((steps - line["step"]) * seconds),
        )

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board:
            self._board.close()


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # incomplete line: beyond every step, so it is dropped


def _tensorboard(run: Path, step: int) -> Any:
    """Return a TensorBoard writer, or None if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra, and slow to import

    board: Any = SummaryWriter  # untyped in older torch
    return board(str(run / "tensorboard"), purge_step=step + 1)
