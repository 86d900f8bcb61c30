"""Where a served study keeps its raters and votes: one SQLite file in `private/`.

A vote is on the disk when `add` returns (write-ahead log, `synchronous=FULL`). Nothing that names a
person is stored: no address, no user agent, no time, and of a session only the digest of its token.
Source: reports and studies, sections 7.2 and 7.3.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palette_bench.core.errors import InputError, StorageError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.study.answers import Rater, Source
from palette_bench.study.votes import Vote

STORE = "private/votes.sqlite"

_COLUMNS = tuple(Vote.model_fields)
_SCHEMA = f"""
create table if not exists rater (
    slot integer primary key, rater text not null unique, session text not null unique,
    source text not null, token_sha256 text not null unique
);
create table if not exists vote (
    slot integer not null references rater (slot), {", ".join(_COLUMNS)}, primary key (slot, trial)
);
create table if not exists tally (name text primary key, n integer not null);
"""


class Store:
    """Raters, votes and the count of those who left."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it, readable by its owner alone.

        Raises:
            StorageError: PB802.
        """
        self._path = path
        with self._told():
            self._database = sqlite3.connect(path, isolation_level=None)
            os.chmod(path, 0o600)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute("pragma secure_delete = on")  # who leaves is overwritten, not unlinked
            self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            fix = "free space or change permissions, then start again: nothing stored is lost"
            raise StorageError(problem("PB802", str(self._path), found=str(error), fix=fix)) from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Yield the database inside a transaction that is on the disk when the block ends."""
        with self._told():
            self._database.execute("begin immediate")
            try:
                yield self._database
                self._database.execute("commit")
            finally:
                if self._database.in_transaction:
                    self._database.execute("rollback")

    def join(self, slots: int, rater: str, session: str, source: Source, token: str) -> Rater:
        """Give a rater the first free slot.

        Raises:
            InputError: PB504, the rater has begun before, or no slot is free.
        """
        with self._change() as database:
            if database.execute("select 1 from rater where rater = ?", (rater,)).fetchone():
                raise InputError(
                    problem(
                        "PB504",
                        "participant",
                        found="this participant has begun already",
                        fix="go on in the browser where the study was begun",
                    )
                )
            taken = {slot for (slot,) in database.execute("select slot from rater")}
            slot = next((s for s in range(slots) if s not in taken), None)
            if slot is None:
                found = "every place of this study is taken"
                raise InputError(problem("PB504", "study", found=found, fix="thank you for your interest"))
            row = (slot, rater, session, source, sha256(token.encode()))
            database.execute("insert into rater values (?, ?, ?, ?, ?)", row)
        return Rater(slot, rater, session, source)

    def rater(self, token: str) -> Rater | None:
        """Return who holds a session token."""
        row = self._database.execute(
            "select slot, rater, session, source from rater where token_sha256 = ?", (sha256(token.encode()),)
        ).fetchone()
        return Rater(*row) if row else None

    def add(self, slot: int, vote: Vote) -> None:
        """Store a vote; when this returns, no crash can lose it."""
        marks = ", ".join("?" * (1 + len(_COLUMNS)))
        with self._change() as database:
            values = (slot, *(getattr(vote, column) for column in _COLUMNS))
            database.execute(f"insert into vote values ({marks})", values)

    def answered(self, slot: int) -> int:
        """Return how many trials of a slot have a vote: they are the first ones of its list."""
        (n,) = self._database.execute("select count(*) from vote where slot = ?", (slot,)).fetchone()
        return int(n)

    def vote(self, slot: int, trial: int) -> Vote | None:
        """Return the vote for a trial."""
        rows = self._votes("where slot = ? and trial = ?", (slot, trial))
        return rows[0] if rows else None

    def votes(self) -> list[Vote]:
        """Return all votes, in the order of slots and trials."""
        return self._votes("order by slot, trial", ())

    def _votes(self, condition: str, values: tuple[int, ...]) -> list[Vote]:
        rows = self._database.execute(f"select {', '.join(_COLUMNS)} from vote {condition}", values)
        return [Vote(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def raters(self) -> dict[str, int]:
        """Return the number of votes of every rater who agreed, by pseudonym."""
        query = "select rater.rater, count(vote.trial) from rater left join vote using (slot) group by slot"
        return dict(self._database.execute(query).fetchall())

    def withdraw(self, slot: int) -> None:
        """Delete a rater and all their votes, free the slot, and count one who left."""
        with self._change() as database:
            database.execute("delete from vote where slot = ?", (slot,))
            database.execute("delete from rater where slot = ?", (slot,))
            database.execute(
                "insert into tally values ('withdrawn', 1) on conflict (name) do update set n = n + 1"
            )
        self._database.execute("pragma wal_checkpoint(truncate)")  # the log still held what was deleted

    @property
    def withdrawn(self) -> int:
        """Return how many raters left and had their answers deleted."""
        row = self._database.execute("select n from tally where name = 'withdrawn'").fetchone()
        return int(row[0]) if row else 0
