"""The real server, killed without warning: what it took in it has, and takes only once."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from plans import make_study
from raters import Rater, answer_to
from serving import Server

from palette_bench.study.store import STORE, VoteStore

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def designed(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("designed")
    make_study(folder, mini_jpeg, images=20, raters=4)
    return folder / "study"


def send_without_listening(rater: Rater, answer: dict[str, object]) -> socket.socket:
    """Send a vote and leave its reply unread."""
    body = json.dumps(answer).encode()
    parts = urlsplit(rater.origin)
    line = socket.create_connection((parts.hostname, parts.port))
    head = (
        f"POST /vote HTTP/1.1\r\nHost: {parts.netloc}\r\nOrigin: {rater.origin}\r\nCookie: {rater.cookie}\r\n"
    )
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return line


def votes_of(study: Path) -> list[tuple[int, str]]:
    store = VoteStore(study / STORE)
    try:
        return [(vote.trial, vote.choice) for vote in store.votes()]
    finally:
        store.close()


@pytest.mark.parametrize("stored", [True, False], ids=["after it is stored", "at any moment"])
def test_a_server_killed_at_a_vote_loses_nothing_and_doubles_nothing(
    study: Path, server: Server, stored: bool
) -> None:
    rater = Rater(server.address, server.address)
    pair = rater.join().data
    for _ in range(3):
        pair = rater.post("/vote", answer_to(pair, "R")).data["next"]
    line = send_without_listening(rater, answer_to(pair, "L"))
    while stored and len(votes_of(study)) < 4:
        pass
    server.kill()
    line.close()
    kept = votes_of(study)
    assert kept[:3] == [(0, "R"), (1, "R"), (2, "R")]
    assert kept[3:] in ([(3, "L")], [] if not stored else [(3, "L")])
    server.start()
    assert rater.get("/trial").data["trial"] == len(kept)
    again = rater.post("/vote", answer_to(pair, "L"))
    assert (again.status, again.data["next"]["trial"]) == (200, 4)
    assert rater.post("/vote", answer_to(pair, "R")).data["code"] == "PB503"
    assert votes_of(study) == [*kept[:3], (3, "L")]


def test_one_server_at_a_time_and_a_polite_end(study: Path, server: Server) -> None:
    with pytest.raises(AssertionError, match="PB803"):
        Server(study)
    server._process.send_signal(signal.SIGTERM)
    server._process.communicate()
    assert server._process.returncode in (143, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "192.0.2.1"], "--join-token"),
        (["--host", "0.0.0.0", "--join-token", "w"], "--public-url"),
        (["--public-url", "https://study.example"], "--join-token"),
        (["--public-url", "https://study.example/fool", "--join-token", "w"], "https://HOST"),
    ],
)
def test_open_doors_are_refused(study: Path, run_cli: object, options: list[str], words: str) -> None:
    done = run_cli("study", "serve", study, *options)  # type: ignore[operator]
    assert done.returncode == 2
    assert words in done.stderr
