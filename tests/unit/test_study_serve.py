"""A served study: nothing gives the truth away, nothing stored is lost, nothing is taken twice."""

from __future__ import annotations

import base64
import itertools
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plans import make_study
from raters import ORIGIN, Rater, answer_to

from palette_bench.benchset.generate import generate
from palette_bench.study.folder import StudyFolder
from palette_bench.study.middleware import MANY_SESSIONS, RateLimiter
from palette_bench.study.plan import Truth
from palette_bench.study.server import create_app
from palette_bench.study.session import VotingSession, monitor_password
from palette_bench.study.store import STORE, VoteStore

RATERS, TEST, PRACTICE, CATCH = 4, 20, 2, 8
TRIALS = TEST + PRACTICE + CATCH


@pytest.fixture(scope="module")
def designed(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two methods, designed once; copies of it are served."""
    folder = tmp_path_factory.mktemp("designed")
    make_study(folder, mini_jpeg, images=20, raters=RATERS)
    return folder / "study"


@pytest.fixture
def voting(study: Path) -> Iterator[VotingSession]:
    """A study nobody has voted in, opened."""
    folder = StudyFolder.open(study)
    store = VoteStore(folder.path / STORE)
    yield VotingSession(folder, store)
    store.close()


@pytest.fixture
def app(voting: VotingSession) -> Any:
    """Its application, whose clock gains a second per request: scripted raters may hurry."""
    return create_app(voting, [ORIGIN], limiter=RateLimiter(itertools.count().__next__))


def truth_of(voting: VotingSession, slot: int) -> list[Truth]:
    return [row for row in voting.folder.truth() if row.slot == slot]


def chunks(png: bytes) -> list[tuple[bytes, int]]:
    """Return (kind, length) of every chunk; IDAT lengths are those of different images."""
    found, at = [], 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, 0 if kind == b"IDAT" else length))
        at += 12 + length
    return found


# ---- R16: what is sent tells nothing ----------------------------------------------------------------------


def test_nothing_sent_before_a_vote_names_a_method_an_image_or_a_side(
    voting: VotingSession, app: Any
) -> None:
    rater = Rater(app)
    rater.get("/")
    pair = rater.join().data
    truth = truth_of(voting, 0)
    telling = {voting.folder.secret, *voting.folder.study.slugs, "copy-input", "real_side", "real_file"}
    telling |= {row.image_id for row in truth}
    telling |= {name.removesuffix(".png") for row in truth for name in row.files().values()}
    while "done" not in pair:
        assert set(pair) == {"trial", "practice", "at", "left", "right", "input"}
        assert pair["practice"] == (truth[pair["trial"]].kind == "practice")
        for side in ("left", "right"):
            assert rater.get(f"/s/{pair[side]}.png").status == 200
        received = b"\n".join(rater.received)
        rater.received.clear()
        assert not [name for name in telling if name.encode() in received]
        reply = rater.post("/vote", answer_to(pair)).data
        shown = truth[pair["trial"]]
        assert reply["feedback"] == (shown.real_side if shown.kind == "practice" else None)
        pair = reply["next"]


def test_both_images_of_a_pair_look_alike_but_for_their_pixels(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    pair = rater.join().data
    shapes, headers = set(), set()
    while "done" not in pair:
        for side in ("left", "right"):
            reply = rater.get(f"/s/{pair[side]}.png")
            shapes.add(tuple(chunks(reply.body)))
            headers.add(tuple((k, v) for k, v in reply.headers if k != "content-length"))
        pair = rater.post("/vote", answer_to(pair)).data["next"]
    assert shapes == {((b"IHDR", 13), (b"IDAT", 0), (b"IEND", 0))}
    assert len(headers) == 1


def test_tokens_do_not_lean_to_the_side_of_the_original(voting: VotingSession) -> None:
    rows = voting.folder.truth()
    agree = sum((row.left < row.right) == (row.real_side == "L") for row in rows)
    assert abs(agree - len(rows) / 2) < 3 * (len(rows) / 4) ** 0.5  # three standard deviations of a coin


def test_a_study_that_shows_the_input_sends_it_under_a_token_too(tmp_path: Path) -> None:
    generate("palette-mini", "jpeg/qf5", tmp_path / "set")
    folder = make_study(tmp_path, tmp_path / "set", images=20, raters=2, show_input=True)
    store = VoteStore(folder.path / STORE)
    app = create_app(VotingSession(folder, store), [ORIGIN])
    rater = Rater(app)
    pair = rater.join().data
    row = next(row for row in folder.truth() if row.left == pair["left"])
    assert row.input_file
    assert rater.get(f"/s/{pair['input']}.png").body == folder.stimulus(row.input_file)
    assert b"What the computer was given" in rater.get("/").body
    store.close()


# ---- R17: votes, once and for ever ------------------------------------------------------------------------


def test_a_vote_is_taken_once_and_another_one_refused(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    first = rater.join().data
    replies = [rater.post("/vote", answer_to(first, "L")) for _ in range(2)]
    assert [r.status for r in replies] == [200, 200]
    assert replies[0].data == replies[1].data
    other = rater.post("/vote", answer_to(first, "R"))
    assert (other.status, other.data["code"]) == (409, "PB503")
    (vote,) = voting.store.votes()
    assert (vote.trial, vote.choice, vote.source) == (0, "L", "serve")


def test_votes_join_the_truth_and_end_in_a_code(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    rater.join()
    assert rater.get("/done").data["code"] == "PB502"
    rater.finish("R")
    code = rater.get("/done").data["code"]
    assert re.fullmatch(r"[0-9A-F]{8}", code)
    votes, truth = voting.store.votes(), truth_of(voting, 0)
    assert [v.trial for v in votes] == list(range(TRIALS))
    for vote, row in zip(votes, truth, strict=True):
        assert (vote.kind, vote.image_id, vote.method) == (row.kind, row.image_id, row.method)
        assert vote.chose_model == (row.real_side == "L")
    assert rater.post("/vote", answer_to({"trial": TRIALS, "left": truth[0].left})).data["code"] == "PB502"


def test_an_unanswered_trial_is_stored_without_a_choice(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    pair = rater.join().data
    lost = answer_to(pair, "", decoded=0, rt_ms=None, shown_ms=None)
    assert rater.post("/vote", lost).data["next"]["trial"] == 1
    (vote,) = voting.store.votes()
    assert (vote.choice, vote.chose_model, vote.shown_ms) == ("", None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"choice": "left"},
        {"rt_ms": -1},
        {"rt_ms": "700"},
        {"dpr": 0.0},
        {"method": "painter"},
        {"trial": 10**9},
        {"left": "../private/truth"},
    ],
)
def test_a_malformed_vote_is_refused_and_the_place_kept(
    voting: VotingSession, app: Any, changes: dict[str, object]
) -> None:
    rater = Rater(app)
    pair = rater.join().data
    reply = rater.post("/vote", answer_to(pair) | changes)
    assert reply.data["code"] in {"PB501", "PB502"}
    assert 400 <= reply.status < 500
    assert rater.post("/vote", b"x" * 5000).data["code"] == "PB501"
    assert voting.store.votes() == []
    assert rater.get("/trial").data == pair


def test_nobody_votes_ahead_or_for_others(voting: VotingSession, app: Any) -> None:
    one, two = Rater(app), Rater(app)
    one.join()
    two.join()
    own, others = truth_of(voting, 0), truth_of(voting, 1)
    ahead = one.post("/vote", answer_to({"trial": 5, "left": own[5].left}))
    foreign = one.post("/vote", answer_to({"trial": 0, "left": others[0].left}))
    assert [r.data["code"] for r in (ahead, foreign)] == ["PB502", "PB502"]
    assert voting.store.votes() == []


def test_images_are_those_of_the_current_pair_and_paths_lead_nowhere(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    pair = rater.join().data
    row, later, other = truth_of(voting, 0)[0], truth_of(voting, 0)[1], truth_of(voting, 1)[0]
    tricks = [f"/s/{name}.png" for name in (later.left, other.left, row.real_file.removesuffix(".png"))]
    tricks += ["/s/../private/truth.csv", "/s/..%2f..%2fprivate/seal.json", "/s//etc/passwd", "/s/.png"]
    tricks += ["/private/votes.sqlite", "/study.json", "/stimuli/" + row.real_file, "/s/\x00.png"]
    for path in tricks:
        reply = rater.get(path)
        assert reply.status == 404, path
        assert b"PNG" not in reply.body
    rater.post("/vote", answer_to(pair))
    assert rater.get(f"/s/{pair['left']}.png").status == 404  # a second look after the vote


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:8009", ""])
def test_foreign_pages_cannot_vote(voting: VotingSession, app: Any, origin: str) -> None:
    rater = Rater(app)
    pair = rater.join().data
    for path in ("/vote", "/withdraw", "/consent"):
        reply = rater.post(path, answer_to(pair), Origin=origin)
        assert (reply.status, reply.data["code"]) == (403, "PB504")
    assert voting.store.votes() == []
    assert len(voting.store.raters()) == 1


def test_foreign_names_and_unknown_sessions_are_refused(app: Any) -> None:
    rater = Rater(app)
    assert rater.get("/", Host="rebound.example").status == 403
    pair = rater.join().data
    stranger = Rater(app, cookie="palette_bench_session=guess")
    for reply in (stranger.get("/trial"), stranger.post("/vote", answer_to(pair)), stranger.get("/done")):
        assert (reply.status, reply.data["code"]) == (403, "PB504")
    assert Rater(app).get("/trial").data is None  # one who has not begun


def test_the_cookie_and_the_headers_are_strict(app: Any) -> None:
    joined = dict(Rater(app).join().headers)["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(joined.split("; "))
    headers = dict(Rater(app).get("/").headers)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"


def test_ten_requests_a_second_and_ten_at_once() -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    assert [limiter.allows("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert limiter.allows("b")
    now[0] = 0.35
    assert [limiter.allows("a") for _ in range(5)] == [True] * 3 + [False] * 2


def test_silent_sessions_are_forgotten_and_busy_ones_are_not() -> None:
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    for session in range(5 * MANY_SESSIONS):
        now[0] += 0.01
        limiter.allows(str(session))
    assert len(limiter._buckets) <= MANY_SESSIONS
    assert [limiter.allows("a") for _ in range(11)] == [True] * 10 + [False]
    for session in range(MANY_SESSIONS):
        limiter.allows(f"as busy, {session}")
    assert not limiter.allows("a")


def test_haste_is_answered_with_patience(voting: VotingSession) -> None:
    rater = Rater(create_app(voting, [ORIGIN], limiter=RateLimiter(lambda: 0.0)))
    rater.join()
    replies = [rater.get("/trial") for _ in range(12)]
    assert [r.status for r in replies] == [200] * 10 + [429] * 2
    assert dict(replies[-1].headers)["retry-after"] == "1"


# ---- coming and leaving -----------------------------------------------------------------------------------


def test_a_study_for_others_needs_its_word(voting: VotingSession) -> None:
    app = create_app(voting, [ORIGIN], "open-sesame")
    assert Rater(app).join().data["code"] == "PB504"
    assert Rater(app).join("open-sesam").status == 403
    assert Rater(app).join("open-sesame").status == 200


def test_places_end_and_a_participant_comes_once(voting: VotingSession, app: Any) -> None:
    assert Rater(app).join(participant="5f3e").status == 200
    again = Rater(app).join(participant="5f3e")
    assert (again.status, again.data["code"]) == (403, "PB504")
    assert "already" in again.data["message"]
    assert [Rater(app).join().status for _ in range(RATERS)] == [200] * (RATERS - 1) + [403]


def test_who_leaves_leaves_nothing_but_a_count(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    rater.join(participant="5f3e9c")
    rater.finish()
    (pseudonym,) = voting.store.raters()
    assert rater.post("/withdraw", {}).status == 200
    assert (voting.store.votes(), voting.store.raters(), voting.store.withdrawn) == ([], {}, 1)
    left = b"".join(p.read_bytes() for p in (voting.folder.path / "private").glob("votes.sqlite*"))
    assert pseudonym.encode() not in left
    assert rater.get("/trial").data is None or rater.get("/trial").status == 403
    assert Rater(app).join().data["trial"] == 0  # the place is free again


def test_what_is_stored_names_nobody(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    rater.join(participant="5f3e9cABCDEF")
    rater.finish()
    path = voting.folder.path / STORE
    stored = b"".join(p.read_bytes() for p in path.parent.glob("votes.sqlite*"))
    for secret in (b"5f3e9cABCDEF", rater.cookie.partition("=")[2].encode(), b"127.0.0.1"):
        assert secret not in stored
    assert not re.search(rb"\d\d:\d\d:\d\d", stored)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# ---- the monitor ------------------------------------------------------------------------------------------


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"m:{password}".encode()).decode()


def test_the_monitor_is_for_maintainers(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    rater.join()
    rater.finish()
    for path in ("/monitor", "/monitor.json"):
        assert rater.get(path).status == 401
        for word in (basic("guess"), "Basic !", "Bearer x", basic("")):
            assert rater.get(path, Authorization=word).status == 401
    key = basic(monitor_password(voting.folder.secret))
    counts = rater.get("/monitor.json", Authorization=key).data
    assert (counts["places"], counts["finished"], counts["votes"]) == (RATERS, 1, TRIALS)
    page = rater.get("/monitor", Authorization=key).body.decode()
    assert voting.folder.study.title in page


def test_rates_stay_hidden_until_the_last_rater_has_finished(voting: VotingSession, app: Any) -> None:
    key = basic(monitor_password(voting.folder.secret))
    for n in range(RATERS):
        counts = Rater(app).get("/monitor.json", Authorization=key).data
        page = Rater(app).get("/monitor", Authorization=key).body
        assert (counts["finished"], counts["rates"]) == (n, None)
        assert not any(slug.encode() in page for slug in voting.folder.study.slugs)
        rater = Rater(app)
        rater.join()
        rater.finish("L")  # always left: half the catch trials wrong, so everybody is excluded
    counts = Rater(app).get("/monitor.json", Authorization=key).data
    assert [entry["method"] for entry in counts["rates"]] == list(voting.folder.study.slugs)
    assert sum(counts["excluded"].values()) == RATERS
    assert counts["completion"] == 1
