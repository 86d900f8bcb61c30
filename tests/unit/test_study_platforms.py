"""Studies that leave the machine and come back: only tokens go out, and bad rows are named by line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plans import make_study
from raters import ORIGIN, SCREEN, Rater

from palette_bench.core.errors import RecordError, StorageError, UsageError
from palette_bench.study.folder import StudyFolder
from palette_bench.study.middleware import RateLimiter
from palette_bench.study.plan import Truth
from palette_bench.study.platforms import (
    ANSWERS,
    ASSIGNMENT,
    PARTICIPANT,
    STATUS,
    WORKER,
    AnswerRow,
    export,
    import_votes,
)
from palette_bench.study.server import create_app
from palette_bench.study.session import VotingSession
from palette_bench.study.store import STORE, VoteStore
from palette_bench.study.votes import read_votes, write_votes

Table = list[dict[str, Any]]


@pytest.fixture(scope="module")
def designed(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("designed")
    make_study(folder, mini_jpeg, images=20, raters=2)
    return folder / "study"


@pytest.fixture
def folder(study: Path) -> StudyFolder:
    return StudyFolder.open(study)


def slot_of(folder: StudyFolder, slot: int) -> list[Truth]:
    return [row for row in folder.truth() if row.slot == slot]


def answers(folder: StudyFolder, slot: int = 0, participant: str = "a1b2") -> Table:
    """Return what a static page saves when its reader always chooses left."""
    seen = {"choice": "L", "rt_ms": 650, "shown_ms": 3002, "decoded": 1, "focus_lost": 0, "day": "2026-01-02"}
    who = {"study_id": folder.study.id, "participant": participant, "session": f"s{slot}"}
    return [{**who, "trial": row.trial, "left": row.left, **seen, **SCREEN} for row in slot_of(folder, slot)]


def as_csv(rows: Table) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def save(path: Path, rows: Table) -> Path:
    path.write_text(as_csv(rows))
    return path


def expect_truth(folder: StudyFolder, votes: list[Any], slots: int) -> None:
    found = {(v.trial, v.image_id, v.method, v.real_side, v.chose_model) for v in votes}
    truth = [row for slot in range(slots) for row in slot_of(folder, slot)]
    assert found == {(r.trial, r.image_id, r.method, r.real_side, int(r.real_side == "R")) for r in truth}
    assert len(votes) == len(truth)


# ---- what goes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["folder", "amt"])
def test_pages_hold_tokens_and_no_truth(folder: StudyFolder, tmp_path: Path, platform: Any) -> None:
    out = tmp_path / "out"
    export(folder, platform, out, url="https://pages.example/study/")
    truth = folder.truth()
    telling = {folder.secret, *folder.study.slugs, "copy-input", "real_side"}
    telling |= {row.image_id for row in truth} | {row.real_file[:-4] for row in truth}
    texts = [p.read_text() for p in out.rglob("*") if p.suffix in {".html", ".csv", ".xml"}]
    assert not [name for name in telling for text in texts if name in text]
    page = (out / "001.html").read_text()
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page)
    assert found
    settings = json.loads(found[1])
    assert [pair["left"] for pair in settings["trials"]] == [row.left for row in slot_of(folder, 1)]
    assert [("camera" in pair) for pair in settings["trials"]] == [
        row.kind == "practice" for row in slot_of(folder, 1)
    ]
    images = {p.stem for p in (out / "s").iterdir()}
    assert images == {token for row in truth for token in row.files()}
    for row in slot_of(folder, 0)[:4]:
        assert (out / "s" / f"{row.left}.png").read_bytes() == folder.stimulus(row.files()[row.left])


def test_platforms_get_what_they_ask_for(folder: StudyFolder, tmp_path: Path) -> None:
    export(folder, "amt", tmp_path / "amt", url="https://pages.example/study/")
    listed = (tmp_path / "amt" / "tasks.csv").read_text().splitlines()
    assert listed == ["page", "https://pages.example/study/000.html", "https://pages.example/study/001.html"]
    assert "form-action https://www.mturk.com" in (tmp_path / "amt" / "000.html").read_text()
    export(folder, "prolific", tmp_path / "prolific", url="https://study.example", join_token="word")
    (text,) = [p.read_text() for p in (tmp_path / "prolific").iterdir()]
    assert "https://study.example/?join=word&PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID=" in text
    for platform in ("amt", "prolific"):
        with pytest.raises(UsageError, match="--url"):
            export(folder, platform, tmp_path / "other", url="http://plain.example")  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="PB809"):
        export(folder, "folder", tmp_path / "amt")


# ---- what comes back --------------------------------------------------------------------------------------


def test_files_of_raters_become_votes(folder: StudyFolder, tmp_path: Path) -> None:
    files = [save(tmp_path / f"{s}.csv", answers(folder, s, f"p{s}")) for s in (0, 1)]
    votes = import_votes(folder, "folder", [*files, files[0]]).votes  # a file given twice does no harm
    expect_truth(folder, votes, slots=2)
    assert len({v.rater for v in votes}) == 2
    assert {v.source for v in votes} == {"folder"}
    write_votes(tmp_path / "votes.csv", votes)
    assert len(read_votes(tmp_path / "votes.csv", folder.study)) == len(votes)
    assert "p0" not in (tmp_path / "votes.csv").read_text()


def test_mechanical_turk_vouches_for_its_workers(folder: StudyFolder, tmp_path: Path) -> None:
    rows = [
        {"HITId": "x", WORKER: f"W{s}", ASSIGNMENT: f"A{s}", ANSWERS: as_csv(answers(folder, s, "forged"))}
        for s in (0, 1)
    ]
    votes = import_votes(folder, "amt", [save(tmp_path / "batch.csv", rows)]).votes
    expect_truth(folder, votes, slots=2)
    assert {v.session for v in votes} == {"A0", "A1"}
    assert len({v.rater for v in votes}) == 2


def test_prolific_votes_are_those_that_were_not_given_back(folder: StudyFolder, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="PB801"):
        import_votes(folder, "serve", [])
    store = VoteStore(folder.path / STORE)
    app = create_app(VotingSession(folder, store), [ORIGIN], limiter=RateLimiter(iter(range(10**6)).__next__))
    for participant in ("5aaa", "5bbb"):
        rater = Rater(app)
        rater.join(participant=participant)
        rater.finish()
    store.close()
    expect_truth(folder, import_votes(folder, "serve", []).votes, slots=2)
    listed = [{PARTICIPANT: "5aaa", STATUS: "APPROVED"}, {PARTICIPANT: "5bbb", STATUS: "RETURNED"}]
    imported = import_votes(folder, "prolific", [save(tmp_path / "list.csv", listed)])
    expect_truth(folder, imported.votes, slots=1)
    assert imported.left_out == 1
    listed.append({PARTICIPANT: "5ccc", STATUS: "AWAITING REVIEW"})
    with pytest.raises(RecordError, match=r"PB502[\s\S]*line 4[\s\S]*5ccc"):
        import_votes(folder, "prolific", [save(tmp_path / "list.csv", listed)])


Break = Callable[[Table], None]


def put(line: int, **cells: Any) -> Break:
    """Return what changes a line of the file; the header is line 1."""

    def change(rows: Table) -> None:
        rows[line - 2].update(cells)

    return change


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (put(4, choice="left"), r"PB501[\s\S]*choice[\s\S]*line 4"),
        (put(5, rt_ms="-3"), r"PB501[\s\S]*rt_ms[\s\S]*line 5"),
        (put(6, dpr="nan"), r"PB501[\s\S]*dpr[\s\S]*line 6"),
        (put(7, day="yesterday"), r"PB501[\s\S]*day[\s\S]*line 7"),
        (put(8, participant="../x"), r"PB501[\s\S]*participant[\s\S]*line 8"),
        (put(9, left="0" * 32), r"PB502[\s\S]*left[\s\S]*line 9"),
        (put(10, trial="3"), r"PB502[\s\S]*left[\s\S]*line 10"),
        (put(11, study_id="st_000000000000"), r"PB502[\s\S]*study_id[\s\S]*line 11"),
        (lambda rows: rows.append({**rows[0], "choice": "R"}), r"PB503[\s\S]*line 32"),
        (lambda rows: [row.pop("left") for row in rows], r"PB510[\s\S]*left"),
    ],
)
def test_bad_rows_are_named_by_line(folder: StudyFolder, tmp_path: Path, broken: Break, words: str) -> None:
    rows = answers(folder)
    broken(rows)
    with pytest.raises(RecordError, match=words):
        import_votes(folder, "folder", [save(tmp_path / "answers.csv", rows)])
    batch = [{WORKER: "W", ASSIGNMENT: "A", ANSWERS: as_csv(rows)}]
    if "participant" not in words:
        with pytest.raises(RecordError, match=words):
            import_votes(folder, "amt", [save(tmp_path / "batch.csv", batch)])


def test_problems_of_all_files_come_at_once_and_unknown_columns_do_no_harm(
    folder: StudyFolder, tmp_path: Path
) -> None:
    one, two = answers(folder, 0), answers(folder, 1)
    one[0]["choice"], two[1]["decoded"] = "?", 2
    files = [save(tmp_path / "one.csv", one), save(tmp_path / "two.csv", two)]
    with pytest.raises(RecordError) as caught:
        import_votes(folder, "folder", files)
    assert {p.where for p in caught.value.problems} == {"one.csv: choice", "two.csv: decoded"}
    more = [{**row, "WorkTimeInSeconds": "9"} for row in answers(folder)]
    assert len(import_votes(folder, "folder", [save(tmp_path / "more.csv", more)]).votes) == len(more)
    with pytest.raises(RecordError, match=rf"PB510[\s\S]*{ASSIGNMENT}"):
        import_votes(folder, "amt", [save(tmp_path / "batch.csv", [{WORKER: "W", ANSWERS: "x"}])])


def test_the_page_saves_the_columns_the_import_reads() -> None:
    from palette_bench.core.resources import report_text

    found = re.search(r"const COLUMNS = \[(.*?)\];", report_text("assets/trial-sources.js"), re.S)
    assert found
    assert set(re.findall(r'"(\w+)"', found[1])) == set(AnswerRow.model_fields)
