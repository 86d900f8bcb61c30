"""`study export`: a study for people who do not come to our server, or who come through Prolific.

    folder    a page per rater slot and its pictures: open it from the disk or put it on any web server
    amt       the same for Mechanical Turk: `tasks.csv` lists the pages, `question.xml` frames one
    prolific  `prolific.txt`: the address of `study serve` and the completion code to enter there

Pages hold tokens alone; `study import` joins the truth. Only practice pairs, which tell raters the answer,
name the token of the photograph. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from palette_bench.core import atomic
from palette_bench.core.errors import StorageError, UsageError, problem
from palette_bench.core.types import SILENT, Progress
from palette_bench.study.answers import Rater
from palette_bench.study.desk import completion_code
from palette_bench.study.folder import StudyFolder
from palette_bench.study.page import rater_page
from palette_bench.study.records import Truth

Platform = Literal["folder", "amt", "prolific"]

_BATCH = 64  # pictures per fsync round
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
    """Write a study for a platform into a new folder, whole or not at all.

    Args:
        folder: the study.
        platform: see the module.
        out: must not exist.
        url: where the pages will lie (amt), or where the server is reached (prolific).
        join_token: the word `study serve` was or will be given (prolific).
        progress: told of every picture.

    Raises:
        UsageError: the platform needs an https address.
        StorageError: PB809, the folder exists; PB802.
    """
    if out.exists():
        raise StorageError(problem("PB809", str(out), expected="no folder of this name", found="one"))
    if platform != "folder" and not url.startswith("https://"):
        raise UsageError(f"{platform} sends people to an address: give it with --url https://...")
    url = url.rstrip("/")
    with atomic.whole_folder(out) as folder_out:
        if platform == "prolific":
            atomic.write_text(folder_out / "prolific.txt", _prolific(folder, url, join_token))
            return
        names = _write_pages(folder, platform, folder_out, progress)
        if platform == "amt":
            atomic.write_text(
                folder_out / "tasks.csv", "\n".join(["page", *(f"{url}/{n}" for n in names), ""])
            )
            atomic.write_text(folder_out / "question.xml", _QUESTION)


def _prolific(folder: StudyFolder, url: str, join_token: str) -> str:
    return _PROLIFIC.format(
        url=url,
        join=f"join={join_token}&" if join_token else "",
        token=f" --join-token {join_token or 'WORD'}",
        places=folder.study.raters,
        code=completion_code(folder.secret, Rater(0, "", "", "prolific")),
    )


def _write_pages(
    folder: StudyFolder, mode: Literal["folder", "amt"], out: Path, progress: Progress
) -> list[str]:
    """Write a page per slot and every picture it shows; return the names of the pages."""
    slots: dict[int, list[Truth]] = defaultdict(list)
    for row in folder.truth():
        slots[row.slot].append(row)
    atomic.make_folder(out / "s")
    pictures = [pair for rows in slots.values() for row in rows for pair in row.files().items()]
    with progress("pictures", len(pictures)) as advance:
        for some in _parts(pictures):
            with atomic.Batch() as batch:
                for token, file in some:
                    batch.write(out / "s" / f"{token}.png", folder.stimulus(file))
            advance(len(some))
    names = [f"{slot:03d}.html" for slot in slots]
    with atomic.Batch() as batch:
        for name, rows in zip(names, slots.values(), strict=True):
            page = rater_page(folder, mode, name.removesuffix(".html"), [_pair(row) for row in rows])
            batch.write(out / name, page.encode())
    return names


def _parts(pictures: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    return (pictures[at : at + _BATCH] for at in range(0, len(pictures), _BATCH))


def _pair(row: Truth) -> dict[str, Any]:
    """Return what a static page knows of a trial."""
    pair: dict[str, Any] = {"trial": row.trial, "practice": row.kind == "practice"}
    pair |= {"left": row.left, "right": row.right, "input": row.input}
    if row.kind == "practice":
        pair["camera"] = row.left if row.real_side == "L" else row.right
    return pair
