"""Raters who leave, come back, or look twice: places are given on, votes stay, second looks are marked."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plans import make_study
from raters import ORIGIN, Rater, answer_to

from palette_bench.core.errors import InputError
from palette_bench.study.exclusions import screen
from palette_bench.study.folder import StudyFolder
from palette_bench.study.middleware import RateLimiter
from palette_bench.study.monitor import progress_of
from palette_bench.study.platforms import given_back, import_votes
from palette_bench.study.server import create_app
from palette_bench.study.session import VotingSession
from palette_bench.study.store import STORE, VoteStore

PLACES, HOUR = 2, 3600.0


@pytest.fixture(scope="module")
def designed(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("designed")
    make_study(folder, mini_jpeg, images=20, raters=PLACES)
    return folder / "study"


@pytest.fixture
def now() -> list[float]:
    """The clock of the voting session, in seconds."""
    return [0.0]


@pytest.fixture
def voting(designed: Path, tmp_path: Path, now: list[float]) -> Iterator[VotingSession]:
    folder = StudyFolder.open(Path(shutil.copytree(designed, tmp_path / "study")))
    store = VoteStore(folder.path / STORE)
    yield VotingSession(folder, store, HOUR, lambda: now[0])
    store.close()


@pytest.fixture
def app(voting: VotingSession) -> Any:
    return create_app(voting, [ORIGIN], limiter=RateLimiter(itertools.count().__next__))


def answer(rater: Rater, pair: dict[str, Any], count: int) -> dict[str, Any]:
    for _ in range(count):
        pair = rater.post("/vote", answer_to(pair)).data["next"]
    return pair


@pytest.mark.trust("studies: leave")
def test_the_place_of_one_who_left_is_given_on_and_no_vote_is_lost(
    voting: VotingSession, app: Any, now: list[float]
) -> None:
    stays, leaves = Rater(app), Rater(app)
    pair = stays.join().data
    answer(leaves, leaves.join().data, 5)
    now[0] = HOUR - 1
    assert Rater(app).join().data["code"] == "PB504"  # not yet
    answer(stays, pair, 1)
    now[0] = HOUR + 1
    comes = Rater(app)
    assert comes.join().data["trial"] == 0
    assert len(voting.store.votes()) == 6
    assert list(voting.store.raters(released=True).values()) == [5]
    for rater in (stays, comes):
        rater.finish()
    progress = progress_of(voting.folder, voting.store)
    assert (progress.finished, progress.released, progress.completion) == (PLACES, 1, 1.0)
    assert progress.rates is not None  # the study has ended
    votes = import_votes(voting.folder, "serve", []).votes
    assert len(votes) == 5 + 2 * voting.folder.study.trials
    screened = screen(votes, voting.folder.study)
    assert (screened.flow.started, screened.flow.finished) == (3, PLACES)
    (left,) = voting.store.raters(released=True)
    assert "too few valid" in {one.rater: one.reasons for one in screened.excluded}[left]


@pytest.mark.trust("studies: leave")
def test_nobody_is_sent_away_while_another_place_is_free_or_once_they_have_finished(
    voting: VotingSession, app: Any, now: list[float]
) -> None:
    first = Rater(app)
    pair = first.join().data
    now[0] = 9 * HOUR
    second = Rater(app)
    assert second.join().status == 200
    answer(first, pair, 2)
    first.finish()
    second.finish()
    now[0] = 99 * HOUR
    assert Rater(app).join().data["code"] == "PB504"
    assert voting.store.raters(released=True) == {}


@pytest.mark.trust("studies: leave")
def test_one_who_comes_back_goes_on_or_is_told_kindly(
    voting: VotingSession, app: Any, now: list[float]
) -> None:
    away, other = Rater(app), Rater(app)
    answer(away, away.join().data, 3)
    other.join()
    (name, _) = voting.store.raters()
    assert voting.store.release([name], voting.folder.study.trials) == [name]
    assert away.get("/trial").data["trial"] == 3  # the place was still free
    assert len(voting.store.raters()) == PLACES
    now[0] = 2 * HOUR
    other.get("/trial")
    assert Rater(app).join().status == 200
    late = away.get("/trial")
    assert (late.status, late.data["code"]) == (410, "PB504")
    assert "your answers are kept" in late.data["message"].lower()
    assert len(voting.store.votes()) == 3
    assert away.post("/withdraw", {}).status == 200  # a promise of the consent, wherever the place is
    assert voting.store.votes() == []
    assert len(voting.store.raters()) == PLACES


@pytest.mark.trust("studies: leave")
def test_prolific_s_returned_and_timed_out_free_their_places(
    voting: VotingSession, app: Any, tmp_path: Path
) -> None:
    for participant in ("aaa", "bbb"):
        answer(rater := Rater(app), rater.join(participant=participant).data, 2)
    export = tmp_path / "export.csv"
    export.write_text("Participant id;Status\naaa;RETURNED\nbbb;ACTIVE\nccc;TIMED-OUT\n")
    names = given_back(voting.folder, [export])
    assert len(voting.store.release(names, voting.folder.study.trials)) == 1
    assert Rater(app).join(participant="ddd").data["trial"] == 0
    assert Rater(app).join(participant="eee").data["code"] == "PB504"
    assert len(voting.store.votes()) == 4


@pytest.mark.trust("studies: second look")
@pytest.mark.parametrize("looks", [1, 2])
def test_a_pair_that_was_sent_twice_is_marked_whoever_asked(
    looks: int, voting: VotingSession, app: Any
) -> None:
    rater = Rater(app)
    pair = rater.join().data
    for _ in range(looks):
        for side in ("left", "right"):
            assert rater.get(f"/s/{pair[side]}.png").status == 200
    following = rater.post("/vote", answer_to(pair)).data["next"]
    for side in ("left", "right"):
        rater.get(f"/s/{following[side]}.png")
    rater.post("/vote", answer_to(following))
    assert [vote.focus_lost for vote in voting.store.votes()] == [int(looks > 1), 0]


@pytest.mark.trust("studies: second look")
def test_what_was_sent_is_known_after_a_restart(voting: VotingSession, app: Any) -> None:
    rater = Rater(app)
    pair = rater.join().data
    rater.get(f"/s/{pair['left']}.png")
    store = VoteStore(voting.folder.path / STORE)
    again = Rater(create_app(VotingSession(voting.folder, store), [ORIGIN]), cookie=rater.cookie)
    again.get(f"/s/{pair['left']}.png")
    again.post("/vote", answer_to(pair))
    assert [vote.focus_lost for vote in store.votes()] == [1]
    store.close()


@pytest.mark.trust("studies: leave")
def test_a_store_of_before_is_taken_over_with_all_its_votes(designed: Path, tmp_path: Path) -> None:
    from palette_bench.study.store import _COLUMNS

    path = tmp_path / "votes.sqlite"
    database = sqlite3.connect(path)
    database.executescript(
        "create table rater (slot integer primary key, rater text not null unique, "
        "session text not null unique, source text not null, token_sha256 text not null unique);"
        f"create table vote (slot integer not null, {', '.join(_COLUMNS)}, primary key (slot, trial));"
        "insert into rater values (0, 'aaaaaaaaaaaaaaaa', 's', 'serve', 't');"
    )
    marks = {"slot": 0} | dict.fromkeys(_COLUMNS, 0)
    marks |= {
        "study_id": "st_0123456789ab",
        "rater": "a" * 16,
        "session": "s",
        "kind": "test",
        "image_id": "i",
    }
    marks |= {"method": "mm", "real_side": "L", "choice": "L", "chose_model": 0, "device": "touch"}
    marks |= {"source": "serve", "day": "2026-01-02", "dpr": 1.0}
    database.execute(
        f"insert into vote ({', '.join(marks)}) values ({', '.join('?' * len(marks))})", list(marks.values())
    )
    database.commit()
    database.close()
    for _ in range(2):
        store = VoteStore(path)
        assert store.raters() == {"a" * 16: 1}
        assert [vote.choice for vote in store.votes()] == ["L"]
        with pytest.raises(InputError, match="already begun"):
            store.join(1, "a" * 16, "x", "serve", "y")
        store.close()
