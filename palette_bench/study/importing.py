"""`study import`: what platforms hand back becomes votes; the truth is joined here and nowhere else.

    folder    the files that raters' pages saved
    amt       the result file of Mechanical Turk: WorkerId, AssignmentId, Answer.answers
    prolific  Prolific's own list, for the votes `study serve` took: Participant id, Status
    serve     nothing: all votes `study serve` took

Bad rows are named by line (PB501 malformed, PB502 of no trial of this study, PB503 two votes for one
trial); unknown columns are ignored, missing ones are PB510. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from pydantic import Field

from palette_bench.core.errors import Problem, RecordError, StorageError, problem, suggest
from palette_bench.core.records import read_file
from palette_bench.study.answers import Answer, Rater, Source, vote_of
from palette_bench.study.folder import StudyFolder
from palette_bench.study.records import Truth
from palette_bench.study.store import STORE, Store
from palette_bench.study.tables import Faults, fault_problems, parse_table, table_lines
from palette_bench.study.votes import Vote, checked_votes, rater_id

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

WORKER, ASSIGNMENT, ANSWERS = "WorkerId", "AssignmentId", "Answer.answers"
PARTICIPANT, STATUS = "Participant id", "Status"
_GAVE_BACK = {"RETURNED", "TIMED-OUT"}  # Prolific: they took their consent back, or never finished


class Row(Answer):
    """A row of the file a static page saves: an answer, and whose."""

    study_id: str
    participant: Name
    session: Name
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


@dataclass(frozen=True)
class Imported:
    """Votes of a platform, and how many raters' votes were left out because they gave the task back."""

    votes: list[Vote]
    left_out: int = 0


def import_votes(folder: StudyFolder, platform: Source, files: Sequence[Path]) -> Imported:
    """Return the votes in what a platform handed back.

    Raises:
        RecordError: PB401, PB501, PB502, PB503, PB510; all problems of all files at once.
        StorageError: PB801.
    """
    if platform in ("serve", "prolific"):
        return _served(folder, platform, files)
    truth = {row.left: row for row in folder.truth()}
    votes: list[Vote] = []
    problems: list[Problem] = []
    for path in files:
        try:
            votes += _table(folder, truth, platform, read_file(path), path.name)
        except RecordError as error:
            problems += error.problems
    problems += _doubled(votes)
    if problems:
        raise RecordError(*problems)
    return Imported(list(dict.fromkeys(votes)))


def _table(
    folder: StudyFolder, truth: dict[str, Truth], platform: Source, data: bytes, name: str
) -> list[Vote]:
    if platform == "folder":
        return _joined(folder, truth, platform, parse_table(Row, data, name), name)
    votes: list[Vote] = []
    problems: list[Problem] = []
    for line, cells in _cells(data, name, (WORKER, ASSIGNMENT, ANSWERS)):
        where = f"{name}: line {line}: {ANSWERS}"
        try:
            rows = parse_table(Row, cells[ANSWERS].encode(), where)
            own = [(n, _relabelled(row, cells)) for n, row in rows]
            votes += _joined(folder, truth, platform, own, where)
        except RecordError as error:
            problems += error.problems
    if problems:
        raise RecordError(*problems)
    return votes


def _relabelled(row: Row, cells: dict[str, str]) -> Row:
    """Return a row under the platform's own names, which a page cannot vouch for."""
    return row.model_copy(update={"participant": cells[WORKER], "session": cells[ASSIGNMENT]})


def _joined(
    folder: StudyFolder,
    truth: dict[str, Truth],
    platform: Source,
    rows: Iterable[tuple[int, Row]],
    name: str,
) -> list[Vote]:
    """Return rows as votes.

    Raises:
        RecordError: PB502, tokens of no trial; PB503, two votes for one trial.
    """
    study_id, unknown = folder.study.id, defaultdict[tuple[str, str], list[tuple[int, str]]](list)
    votes: list[tuple[int, Vote]] = []
    for line, row in rows:
        known = truth.get(row.left)
        if row.study_id != study_id:
            unknown["study_id", study_id].append((line, row.study_id[:40]))
        elif known is None or known.trial != row.trial:
            unknown["left", f"the left picture of trial {row.trial}"].append((line, row.left))
        else:
            rater = Rater(known.slot, rater_id(folder.secret, row.participant), row.session, platform)
            votes.append((line, vote_of(folder.study, known, rater, row, row.day)))
    if unknown:
        raise RecordError(*fault_problems("PB502", unknown, name))
    return checked_votes(votes, folder.study, name)


def _doubled(votes: Iterable[Vote]) -> list[Problem]:
    """Return a problem if files answer a trial differently; the same answer again is no harm."""
    kept: dict[tuple[str, str, int], Vote] = {}
    twice = [v for v in votes if kept.setdefault((v.rater, v.session, v.trial), v) != v]
    ids = [f"session {vote.session} trial {vote.trial}" for vote in twice]
    return [problem("PB503", "files", fix="give each file once", ids=ids)] if ids else []


def _cells(data: bytes, name: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a platform's own table with their line numbers."""
    (_, header), *lines = table_lines(data, name)
    rows = [(line, dict(zip_longest(header, cells[: len(header)], fillvalue=""))) for line, cells in lines]
    missing = [column for column in columns if column not in header]
    if missing:
        raise RecordError(
            *(problem("PB510", f"{name}: header", expected=c, fix=suggest(c, header)) for c in missing)
        )
    short: Faults = defaultdict(list)
    for line, row in rows:
        for column in (c for c in columns if not row[c]):
            short[column, "a value"].append((line, "nothing"))
    if short:
        raise RecordError(*fault_problems("PB501", short, name))
    return rows


def _served(folder: StudyFolder, platform: Source, files: Sequence[Path]) -> Imported:
    path = folder.path / STORE
    if not path.is_file():
        fix = "votes lie where `study serve` ran; run import there"
        raise StorageError(problem("PB801", str(path), found="no such file", fix=fix))
    store = Store(path)
    try:
        votes = [vote for vote in store.votes() if platform in (vote.source, "serve")]
    finally:
        store.close()
    if platform == "serve":
        return Imported(votes)
    kept = _kept(folder, files, {vote.rater for vote in votes})
    left_out = {vote.rater for vote in votes} - kept
    return Imported([vote for vote in votes if vote.rater in kept], len(left_out))


def given_back(folder: StudyFolder, files: Sequence[Path]) -> list[str]:
    """Return the pseudonyms of participants whose places Prolific has taken back.

    Raises:
        RecordError: PB401, PB501, PB510, no export of Prolific.
    """
    found: list[str] = []
    problems: list[Problem] = []
    for path in files:
        try:
            rows = _cells(read_file(path), path.name, (PARTICIPANT, STATUS))
        except RecordError as error:
            problems += error.problems
            continue
        found += [
            rater_id(folder.secret, cells[PARTICIPANT])
            for _, cells in rows
            if cells[STATUS].upper() in _GAVE_BACK
        ]
    if problems:
        raise RecordError(*problems)
    return found


def _kept(folder: StudyFolder, files: Sequence[Path], voted: set[str]) -> set[str]:
    """Return the raters Prolific still counts.

    Raises:
        RecordError: PB502, participants who are to be paid and never voted here.
    """
    kept: set[str] = set()
    problems: list[Problem] = []
    for path in files:
        unknown: Faults = defaultdict(list)
        for line, cells in _cells(read_file(path), path.name, (PARTICIPANT, STATUS)):
            rater = rater_id(folder.secret, cells[PARTICIPANT])
            if cells[STATUS].upper() in _GAVE_BACK:
                continue
            if rater not in voted:
                unknown[PARTICIPANT, "one who voted here"].append((line, cells[PARTICIPANT][:40]))
            kept.add(rater)
        problems += fault_problems("PB502", unknown, path.name)
    if problems:
        raise RecordError(*problems)
    return kept
