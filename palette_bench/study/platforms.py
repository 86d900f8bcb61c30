"""`study export` and `study import`: studies on other platforms than our server, and through Prolific.

    folder    a page per rater slot and its images: open it from the disk or put it on any web server
    amt       the same for Mechanical Turk: `tasks.csv` lists the pages, `question.xml` frames one
    prolific  `prolific.txt`: the address of `study serve` and the completion code to enter there

Exported pages contain only tokens; `study import` joins the truth. Only practice pairs, which tell raters
the answer, name the token of the photograph. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from palette_bench.core import atomic
from palette_bench.core.errors import Problem, RecordError, StorageError, UsageError, problem, suggest
from palette_bench.core.records import read_file
from palette_bench.core.types import SILENT, Progress
from palette_bench.study.csv_tables import Faults, fault_problems, parse_table, table_lines
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Truth
from palette_bench.study.rater_page import rater_page
from palette_bench.study.session import completion_code
from palette_bench.study.store import STORE, VoteStore
from palette_bench.study.votes import Rater, Source, TrialAnswer, Vote, checked_votes, rater_id, vote_of

# --- export ---


Platform = Literal["folder", "amt", "prolific"]

_BATCH = 64  # images per fsync round
_QUESTION = """\
<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/ExternalQuestion.xsd">
  <ExternalURL>${page}</ExternalURL>
  <FrameHeight>0</FrameHeight>
</ExternalQuestion>
"""
_PROLIFIC = """\
Study address, with "I'll use URL parameters" chosen:
  {url}/?{join}PROLIFIC_PID={{{{%PROLIFIC_PID%}}}}&STUDY_ID={{{{%STUDY_ID%}}}}&SESSION_ID={{{{%SESSION_ID%}}}}
Places: {places}
Completion code: {code}
Serve it:
  palette-bench study serve STUDY --public-url {url}{token}
"""


def export(
    folder: StudyFolder,
    platform: Platform,
    out: Path,
    *,
    url: str = "",
    join_token: str = "",
    progress: Progress = SILENT,
) -> None:
    """Write a study for a platform to a new folder, completely or not at all.

    Args:
        folder: the study.
        platform: see the module.
        out: the folder; it must not exist.
        url: address of the pages (amt) or of the server (prolific).
        join_token: the join token of `study serve` (prolific).
        progress: reports every image.

    Raises:
        UsageError: the platform needs an https address.
        StorageError: PB809, the folder exists; PB802, writing failed.
    """
    if out.exists():
        raise StorageError(problem("PB809", str(out), expected="no folder of this name", found="one"))
    if platform != "folder" and not url.startswith("https://"):
        raise UsageError(f"{platform} needs the https address that people open: give --url https://...")
    url = url.rstrip("/")
    with atomic.whole_folder(out) as folder_out:
        if platform == "prolific":
            text = _PROLIFIC.format(
                url=url,
                join=f"join={join_token}&" if join_token else "",
                token=f" --join-token {join_token or 'WORD'}",
                places=folder.study.raters,
                code=completion_code(folder.secret, Rater(0, "", "", "prolific")),
            )
            atomic.write_text(folder_out / "prolific.txt", text)
            return
        names = _write_pages(folder, platform, folder_out, progress)
        if platform == "amt":
            atomic.write_text(
                folder_out / "tasks.csv", "\n".join(["page", *(f"{url}/{n}" for n in names), ""])
            )
            atomic.write_text(folder_out / "question.xml", _QUESTION)


def _write_pages(
    folder: StudyFolder, mode: Literal["folder", "amt"], out: Path, progress: Progress
) -> list[str]:
    """Write a page per slot and every image that the page shows; return the names of the pages."""
    slots: dict[int, list[Truth]] = defaultdict(list)
    for row in folder.truth():
        slots[row.slot].append(row)
    atomic.make_folder(out / "s")
    images = [pair for rows in slots.values() for row in rows for pair in row.files().items()]
    with progress("write images", len(images)) as advance:
        for first in range(0, len(images), _BATCH):
            some = images[first : first + _BATCH]
            with atomic.FileBatch() as batch:
                for token, file in some:
                    batch.write(out / "s" / f"{token}.png", folder.stimulus(file))
            advance(len(some))
    names = [f"{slot:03d}.html" for slot in slots]
    with atomic.FileBatch() as batch:
        for name, rows in zip(names, slots.values(), strict=True):
            trials = []
            for row in rows:
                trial: dict[str, Any] = {"trial": row.trial, "practice": row.kind == "practice"}
                trial |= {"left": row.left, "right": row.right, "input": row.input}
                if row.kind == "practice":
                    trial["camera"] = row.left if row.real_side == "L" else row.right
                trials.append(trial)
            page = rater_page(folder, mode, name.removesuffix(".html"), trials)
            batch.write(out / name, page.encode())
    return names


# --- import ---


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

WORKER, ASSIGNMENT, ANSWERS = "WorkerId", "AssignmentId", "Answer.answers"
PARTICIPANT, STATUS = "Participant id", "Status"
_GAVE_BACK = {"RETURNED", "TIMED-OUT"}  # Prolific statuses: consent withdrawn, or never finished


class AnswerRow(TrialAnswer):
    """A row of the file that a static page saves: an answer, and who gave it."""

    study_id: str
    participant: Name
    session: Name
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


@dataclass(frozen=True)
class ImportedVotes:
    """Votes from a platform, and the number of raters left out because they returned the task."""

    votes: list[Vote]
    left_out: int = 0


def import_votes(folder: StudyFolder, platform: Source, files: Sequence[Path]) -> ImportedVotes:
    """Return the votes in the files of a platform.

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
        name = path.name
        try:
            data = read_file(path)
            if platform == "folder":
                votes += _joined(folder, truth, platform, parse_table(AnswerRow, data, name), name)
                continue
            lines = _cells(data, name, (WORKER, ASSIGNMENT, ANSWERS))
        except RecordError as error:
            problems += error.problems
            continue
        for line, cells in lines:
            where = f"{name}: line {line}: {ANSWERS}"
            # the platform's own worker and assignment ids replace those of the page, which cannot verify them
            own = {"participant": cells[WORKER], "session": cells[ASSIGNMENT]}
            try:
                rows = parse_table(AnswerRow, cells[ANSWERS].encode(), where)
                relabelled = [(n, row.model_copy(update=own)) for n, row in rows]
                votes += _joined(folder, truth, platform, relabelled, where)
            except RecordError as error:
                problems += error.problems
    # two files may repeat a trial's answer, but not differ on it
    kept: dict[tuple[str, str, int], Vote] = {}
    twice = [v for v in votes if kept.setdefault((v.rater, v.session, v.trial), v) != v]
    ids = [f"session {vote.session} trial {vote.trial}" for vote in twice]
    problems += [problem("PB503", "files", fix="give each file once", ids=ids)] if ids else []
    if problems:
        raise RecordError(*problems)
    return ImportedVotes(list(dict.fromkeys(votes)))


def _joined(
    folder: StudyFolder,
    truth: dict[str, Truth],
    platform: Source,
    rows: Iterable[tuple[int, AnswerRow]],
    name: str,
) -> list[Vote]:
    """Return rows as votes, joined with the truth.

    Raises:
        RecordError: PB502, a token belongs to no trial; PB503, a trial has two votes.
    """
    study_id, unknown = folder.study.id, defaultdict[tuple[str, str], list[tuple[int, str]]](list)
    votes: list[tuple[int, Vote]] = []
    for line, row in rows:
        known = truth.get(row.left)
        if row.study_id != study_id:
            unknown["study_id", study_id].append((line, row.study_id[:40]))
        elif known is None or known.trial != row.trial:
            unknown["left", f"the left image of trial {row.trial}"].append((line, row.left))
        else:
            rater = Rater(known.slot, rater_id(folder.secret, row.participant), row.session, platform)
            votes.append((line, vote_of(folder.study, known, rater, row, row.day)))
    if unknown:
        raise RecordError(*fault_problems("PB502", unknown, name))
    return checked_votes(votes, folder.study, name)


def _cells(data: bytes, name: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a platform's own table with their line numbers.

    Raises:
        RecordError: PB510, a column is missing; PB501, a required cell is empty.
    """
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


def _served(folder: StudyFolder, platform: Source, files: Sequence[Path]) -> ImportedVotes:
    path = folder.path / STORE
    if not path.is_file():
        fix = "the votes are where `study serve` ran: import them there"
        raise StorageError(problem("PB801", str(path), found="no such file", fix=fix))
    store = VoteStore(path)
    try:
        votes = [vote for vote in store.votes() if platform in (vote.source, "serve")]
    finally:
        store.close()
    if platform == "serve":
        return ImportedVotes(votes)
    voted = {vote.rater for vote in votes}
    kept: set[str] = set()  # the raters whom Prolific still counts
    problems: list[Problem] = []
    for file in files:
        unknown: Faults = defaultdict(list)
        for line, cells in _cells(read_file(file), file.name, (PARTICIPANT, STATUS)):
            if cells[STATUS].upper() in _GAVE_BACK:
                continue
            rater = rater_id(folder.secret, cells[PARTICIPANT])
            if rater not in voted:
                unknown[PARTICIPANT, "a participant who voted here"].append((line, cells[PARTICIPANT][:40]))
            kept.add(rater)
        problems += fault_problems("PB502", unknown, file.name)
    if problems:
        raise RecordError(*problems)
    left_out = voted - kept
    return ImportedVotes([vote for vote in votes if vote.rater in kept], len(left_out))


def given_back(folder: StudyFolder, files: Sequence[Path]) -> list[str]:
    """Return the pseudonyms of the participants whose submissions Prolific lists as returned or timed out.

    Raises:
        RecordError: PB401, PB501, PB510, a file is no Prolific export.
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
