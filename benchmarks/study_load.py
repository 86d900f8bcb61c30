"""Two hundred raters at once on one study server: no vote may be lost, and the next pair must come fast.

    python benchmarks/study_load.py [--raters 200] [--trials 12] [--seconds 45]

A real `study serve` on the loopback, answered by one process of scripted raters who begin within two
seconds, look at both images of a pair and take about three seconds over it. Timed is what a rater waits
for after a vote: from sending it to having the reply that names the next pair. Prints percentiles, and
fails if the server's store differs from what the raters sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import ContestantSet
from palette_bench.study.design import design
from palette_bench.study.store import STORE, VoteStore
from palette_bench.submission.methods import RestoreOptions, load_baseline
from palette_bench.submission.restore import restore

LOOK_S = 3.0  # what a rater takes over a pair, on average
PLAN = """\
schema = "palette-bench/study-plan/1.0"
title = "A study under load"
consent = "consent.txt"
instructions = "instructions.txt"
images = 200
raters = {raters}
trials_per_method = 40
practice = 0
[ethics]
purpose = "a benchmark"
"""
SEEN = {"rt_ms": 800, "shown_ms": 3000, "decoded": 1, "focus_lost": 0, "device": "keyboard"}
SCREEN = {"viewport_w": 1280, "viewport_h": 800, "dpr": 1.0}


def make_study(folder: Path, raters: int) -> Path:
    generate("palette-mini", "jpeg/qf5", folder / "set")
    method = load_baseline("copy-input").restorer(RestoreOptions())
    restore(method, ContestantSet.open(folder / "set"), folder / "submission")
    for name in ("consent.txt", "instructions.txt"):
        (folder / name).write_text("A benchmark.\n")
    (folder / "study.toml").write_text(PLAN.format(raters=raters))
    design(folder / "study.toml", folder / "set", [folder / "submission"], folder / "study")
    return folder / "study"


class Rater:
    """One connection that is kept, as browsers do, and one cookie."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        """Come from nowhere yet."""
        self._host, self._port, self._cookie = host, port, ""
        self._random = random.Random(seed)
        self.waits: list[float] = []
        self.sent: list[tuple[str, str]] = []

    async def take_part(self, trials: int, until: float) -> None:
        """Answer pairs, until so many or the time is over."""
        await asyncio.sleep(2 * self._random.random())
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        await self._ask("GET", "/")
        pair = await self._ask("POST", "/consent", {"join": "", "participant": ""})
        while len(self.sent) < trials and time.monotonic() < until:
            await asyncio.gather(self._images(pair), asyncio.sleep(LOOK_S * (0.5 + self._random.random())))
            answer = {"trial": pair["trial"], "left": pair["left"], "choice": self._random.choice("LR")}
            start = time.perf_counter()
            reply = await self._ask("POST", "/vote", answer | SEEN | SCREEN)
            self.waits.append(time.perf_counter() - start)
            self.sent.append((answer["left"], answer["choice"]))
            pair = reply["next"]
        self._writer.close()

    async def _images(self, pair: dict[str, Any]) -> None:
        for side in ("left", "right"):
            await self._ask("GET", f"/s/{pair[side]}.png")

    async def _ask(self, method: str, path: str, data: Any = None) -> Any:
        body = json.dumps(data).encode() if data is not None else b""
        address = f"{self._host}:{self._port}"
        head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n"
        head += f"Cookie: {self._cookie}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) if ": " in line else (line, "") for line in lines[1:])
        if "set-cookie" in headers:
            (cookie,) = [line.partition(": ")[2] for line in lines if line.lower().startswith("set-cookie")]
            self._cookie = cookie.partition(";")[0]
        reply = await self._reader.readexactly(int(headers["content-length"]))
        if " 200 " not in lines[0]:
            raise RuntimeError(f"{method} {path}: {lines[0]} {reply[:200]!r}")
        return json.loads(reply) if headers["content-type"] == "application/json" else None


async def load(address: str, count: int, trials: int, seconds: float) -> list[Rater]:
    parts = urlsplit(address.strip())
    raters = [Rater(parts.hostname or "", parts.port or 0, seed) for seed in range(count)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(rater.take_part(trials, until) for rater in raters))
    return raters


def stored(study: Path) -> list[tuple[int, str]]:
    store = VoteStore(study / STORE)
    try:
        return sorted((vote.trial, vote.choice) for vote in store.votes())
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--trials", type=int, default=12, help="votes of one rater, at most 48")
    parser.add_argument("--seconds", type=float, default=45, help="nobody begins a pair later")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), options.raters)
        command = [sys.executable, "-m", "palette_bench", "study", "serve", str(study), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            try:
                address = server.stdout.readline()
                raters = asyncio.run(load(address, options.raters, options.trials, options.seconds))
            finally:
                server.kill()
        sent = sorted((trial, choice) for r in raters for trial, (_, choice) in enumerate(r.sent))
        found = stored(study)
    waits = 1000 * np.array([wait for rater in raters for wait in rater.waits])
    print(f"{len(raters)} raters, {len(sent):,} votes sent, {len(found):,} stored")
    print("next pair, ms:", ", ".join(f"p{q} {np.percentile(waits, q):.1f}" for q in (50, 90, 99, 100)))
    if sent != found:
        raise SystemExit("votes were lost or doubled")


if __name__ == "__main__":
    main()
