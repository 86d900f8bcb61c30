"""The store of a served study's raters and votes: one SQLite file in `private/`.

A rater who leaves without withdrawing is released: the place becomes free, the votes stay, and the exclusion
rules decide whether the votes count.

A vote is on disk when `add` returns (write-ahead log, `synchronous=FULL`). Nothing that identifies a person
is stored: no address, no user agent, no time. Of a session's token only the digest is stored. Source:
reports and studies, sections 7.2 and 7.3.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from palette_bench.core.errors import InputError, StorageError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.study.votes import Rater, Source, Vote

STORE = "private/votes.sqlite"

_COLUMNS = tuple(Vote.model_fields)
_SCHEMA = f"""
create table if not exists sitting (
    rater text primary key, slot integer not null, session text not null unique, source text not null,
    token_sha256 text not null unique, released integer not null default 0
);
create unique index if not exists place on sitting (slot) where not released;
create table if not exists answer (
    slot integer not null, {", ".join(_COLUMNS)}, primary key (rater, trial)
);
create table if not exists sent (
    rater text not null, token text not null, n integer not null, primary key (rater, token)
);
create table if not exists tally (name text primary key, n integer not null);
"""
# converts stores of an earlier version, in which each slot belonged to one rater for ever
_OLDER = f"""
insert into sitting select rater, slot, session, source, token_sha256, 0 from rater;
insert into answer select slot, {", ".join(_COLUMNS)} from vote;
drop table vote;
drop table rater;
"""


class PlaceGivenOnError(InputError):
    """A rater comes back after the place was given to another."""


class VoteStore:
    """Raters, votes, and the number of raters who withdrew."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it, readable by its owner alone.

        Raises:
            StorageError: PB802, the file cannot be written.
        """
        self._path = path
        with self._storage_errors():
            self._database = sqlite3.connect(path, isolation_level=None)
            os.chmod(path, 0o600)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute("pragma secure_delete = on")  # overwrite the rows of raters who withdraw
            self._database.executescript(_SCHEMA)
            if self._database.execute("select 1 from sqlite_master where name = 'vote'").fetchone():
                self._database.executescript(f"begin; {_OLDER} commit;")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            fix = "free space or change permissions, then start again: nothing stored is lost"
            raise StorageError(problem("PB802", str(self._path), found=str(error), fix=fix)) from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Yield the database inside a transaction that is on disk when the block ends."""
        with self._storage_errors():
            self._database.execute("begin immediate")
            try:
                yield self._database
                self._database.execute("commit")
            finally:
                if self._database.in_transaction:
                    self._database.execute("rollback")

    def join(
        self, slots: int, rater: str, session: str, source: Source, token: str, idle: Sequence[str] = ()
    ) -> Rater:
        """Give a rater the first free slot. If there is none, release an idle rater and give away that slot.

        Args:
            slots: number of slots of the study.
            rater: the new rater's pseudonym.
            session: id of the session.
            source: how the answers arrive.
            token: the session's token.
            idle: raters whose slots may be given away, longest silence first.

        Raises:
            InputError: PB504, the rater has begun before, or no slot is free.
        """
        with self._change() as database:
            if database.execute("select 1 from sitting where rater = ?", (rater,)).fetchone():
                found, fix = "this participant has already begun", "continue in the browser used before"
                raise InputError(problem("PB504", "participant", found=found, fix=fix))
            held = dict(database.execute("select rater, slot from sitting where not released"))
            slot = next((s for s in range(slots) if s not in held.values()), None)
            leaving = next((name for name in idle if name in held), None)
            if slot is None and leaving is not None:
                slot = held[leaving]
                database.execute("update sitting set released = 1 where rater = ?", (leaving,))
            if slot is None:
                found = "all places of this study are taken"
                raise InputError(problem("PB504", "study", found=found, fix="thank you for your interest"))
            row = (rater, slot, session, source, sha256(token.encode()))
            database.execute("insert into sitting values (?, ?, ?, ?, ?, 0)", row)
        return Rater(slot, rater, session, source)

    def rater(self, token: str) -> Rater | None:
        """Return the rater with a session token, released or not; None for an unknown token."""
        row = self._database.execute(
            "select slot, rater, session, source from sitting where token_sha256 = ?",
            (sha256(token.encode()),),
        ).fetchone()
        return Rater(*row) if row else None

    def take_again(self, rater: Rater) -> None:
        """Give a released rater the slot back if it is free. A rater who still holds the slot keeps it.

        Raises:
            PlaceGivenOnError: PB504, another rater has the slot.
        """
        query = "select rater from sitting where slot = ? and not released"
        holder = self._database.execute(query, (rater.slot,)).fetchone()
        if holder == (rater.rater,):
            return
        with self._change() as database:
            holder = database.execute(query, (rater.slot,)).fetchone()
            if holder not in (None, (rater.rater,)):
                found = "you were away for a long time, and your place was given to somebody else"
                fix = "your answers are kept; thank you for them"
                raise PlaceGivenOnError(problem("PB504", "session", found=found, fix=fix))
            database.execute("update sitting set released = 0 where rater = ?", (rater.rater,))

    def release(self, raters: Iterable[str], trials: int) -> list[str]:
        """Free the slots of raters who have not finished, and return those raters. Their answers stay.

        Args:
            raters: pseudonyms; unknown, finished and already released raters are skipped.
            trials: number of trials of a complete session.
        """
        with self._change() as database:
            query = (
                "select rater from sitting where not released and "
                "(select count(*) from answer where answer.rater = sitting.rater) < ?"
            )
            here = {name for (name,) in database.execute(query, (trials,))}
            found = [name for name in dict.fromkeys(raters) if name in here]
            database.executemany("update sitting set released = 1 where rater = ?", [(r,) for r in found])
        return found

    def count_sent(self, rater: str, token: str) -> None:
        """Count that an image was sent to a rater."""
        with self._change() as database:
            database.execute(
                "insert into sent values (?, ?, 1) on conflict (rater, token) do update set n = n + 1",
                (rater, token),
            )

    def times_sent(self, rater: str, tokens: Iterable[str]) -> int:
        """Return how often images were sent to a rater: the largest count among the given tokens."""
        query = "select n from sent where rater = ? and token = ?"
        found = (self._database.execute(query, (rater, token)).fetchone() for token in tokens)
        return max((row[0] for row in found if row), default=0)

    def add(self, slot: int, vote: Vote) -> None:
        """Store a vote. After the method returns, a crash cannot lose the vote."""
        marks = ", ".join("?" * (1 + len(_COLUMNS)))
        with self._change() as database:
            values = (slot, *(getattr(vote, column) for column in _COLUMNS))
            database.execute(f"insert into answer values ({marks})", values)

    def answered(self, rater: str) -> int:
        """Return the number of trials on which a rater has voted, which are the first ones of the list."""
        (n,) = self._database.execute("select count(*) from answer where rater = ?", (rater,)).fetchone()
        return int(n)

    def vote(self, rater: str, trial: int) -> Vote | None:
        """Return a rater's vote for a trial; None if there is none."""
        rows = self._votes("where rater = ? and trial = ?", (rater, trial))
        return rows[0] if rows else None

    def votes(self) -> list[Vote]:
        """Return all votes, including those of released raters, sorted by slot, rater and trial."""
        return self._votes("order by slot, rater, trial", ())

    def _votes(self, condition: str, values: tuple[int | str, ...]) -> list[Vote]:
        rows = self._database.execute(f"select {', '.join(_COLUMNS)} from answer {condition}", values)
        return [Vote(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def raters(self, *, released: bool = False) -> dict[str, int]:
        """Return pseudonym -> number of votes: the raters who hold a slot, or else the released raters."""
        query = (
            "select sitting.rater, count(answer.trial) from sitting left join answer using (rater) "
            "where released = ? group by sitting.rater order by sitting.slot, sitting.rater"
        )
        return dict(self._database.execute(query, (int(released),)).fetchall())

    def withdraw(self, rater: str) -> None:
        """Delete a rater and all their votes, free the slot, and count the withdrawal."""
        with self._change() as database:
            for table in ("answer", "sent", "sitting"):
                database.execute(f"delete from {table} where rater = ?", (rater,))
            database.execute(
                "insert into tally values ('withdrawn', 1) on conflict (name) do update set n = n + 1"
            )
        self._database.execute("pragma wal_checkpoint(truncate)")  # the log still contains the deleted rows

    @property
    def withdrawn(self) -> int:
        """Return the number of raters who withdrew and had their answers deleted."""
        row = self._database.execute("select n from tally where name = 'withdrawn'").fetchone()
        return int(row[0]) if row else 0
