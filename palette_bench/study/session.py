"""The desk of a served study: gives a rater the next pair, takes the vote, keeps the truth.

It knows nothing of HTTP. A rater's place is the number of their stored votes, so a reload, a second tab or
a restarted server goes on exactly there. Source: reports and studies, section 7.2.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from palette_bench.core.errors import InputError, problem
from palette_bench.core.records import today
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Side, Truth
from palette_bench.study.store import VoteStore
from palette_bench.study.votes import Rater, Source, TrialAnswer, rater_id, vote_of

PATIENCE = 3600.0  # seconds


@dataclass(frozen=True)
class StoredVote:
    """A stored vote: where the original was in a practice trial, and what comes next."""

    feedback: Side | None
    next: dict[str, Any]


class VotingSession:
    """One study, its truth and its store."""

    def __init__(
        self,
        folder: StudyFolder,
        store: VoteStore,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the truth of an opened study.

        Args:
            folder: the study.
            store: its raters and votes.
            patience: seconds of silence after which a place may be given on, once no other is free.
            clock: seconds that pass; kept in memory alone, for no time of a person is stored.
        """
        self.folder, self.store = folder, store
        self._patience, self._clock, self._opened = patience, clock, clock()
        self._heard: dict[str, float] = {}  # rater -> when they last asked for something
        self._secret = folder.secret
        self._trials: dict[int, list[Truth]] = defaultdict(list)
        for row in folder.truth():
            self._trials[row.slot].append(row)

    def join(self, participant: str) -> str:
        """Give a newcomer a slot; return the session's token.

        Args:
            participant: a platform's id for the person; empty for one who came by themselves.

        Raises:
            InputError: PB504, begun before or no slot free.
        """
        token = secrets.token_urlsafe(24)
        name = rater_id(self._secret, participant or secrets.token_hex(16))
        source: Source = "prolific" if participant else "serve"
        self.store.join(self.folder.study.raters, name, secrets.token_hex(8), source, token, self.away())
        self._heard[name] = self._clock()
        return token

    def away(self) -> list[str]:
        """Return who has not finished and was not heard of for long, the longest away first.

        After a restart everybody is given the whole time again.
        """
        silent = {
            rater: self._clock() - self._heard.get(rater, self._opened)
            for rater, n in self.store.raters().items()
            if n < self.folder.study.trials
        }
        return sorted((r for r, s in silent.items() if s > self._patience), key=lambda r: -silent[r])

    def rater(self, token: str) -> Rater | None:
        """Return who holds a session token, and note that they are there.

        Raises:
            PlaceGivenOnError: PB504, their place has been given on.
        """
        rater = self.store.rater(token)
        if rater is not None:
            self.store.take_again(rater)
            self._heard[rater.rater] = self._clock()
        return rater

    def next_pair(self, rater: Rater) -> dict[str, Any]:
        """Return what a browser may know of a rater's next trial: tokens, and its place in the list."""
        row = self._current(rater)
        if row is None:
            return {"done": True}
        practice = row.kind == "practice"
        at = row.trial + 1 - (0 if practice else self.folder.study.practice)
        tokens = {"left": row.left, "right": row.right, "input": row.input}
        return {"trial": row.trial, "practice": practice, "at": at, **tokens}

    def _current(self, rater: Rater) -> Truth | None:
        trials, at = self._trials[rater.slot], self.store.answered(rater.rater)
        return trials[at] if at < len(trials) else None

    def image(self, rater: Rater, token: str) -> bytes:
        """Return an image of the rater's current trial; no other name is ever looked up.

        Raises:
            InputError: PB502.
        """
        row = self._current(rater)
        file = row.files().get(token) if row else None
        if file is None:
            raise InputError(problem("PB502", "picture", found="a token that is not of this trial"))
        self.store.count_sent(rater.rater, token)
        return self.folder.stimulus(file)

    def vote(self, rater: Rater, answer: TrialAnswer) -> StoredVote:
        """Store an answer, once; the next pair is looked up after it is on the disk.

        Raises:
            InputError: PB502, not a trial the rater may answer; PB503, answered differently before.
        """
        trials = self._trials[rater.slot]
        row = trials[answer.trial] if answer.trial < len(trials) else None
        if row is None or row.left != answer.left:
            raise InputError(problem("PB502", "vote", found="a pair that is not of this session"))
        earlier = self.store.vote(rater.rater, answer.trial)
        if earlier is None:
            self._add(rater, row, answer)
        elif earlier.choice != answer.choice:
            raise InputError(problem("PB503", "vote", found="this pair is answered already"))
        feedback = row.real_side if row.kind == "practice" else None
        return StoredVote(feedback, self.next_pair(rater))

    def _add(self, rater: Rater, row: Truth, answer: TrialAnswer) -> None:
        if answer.trial != self.store.answered(rater.rater):
            raise InputError(problem("PB502", "vote", found="a pair that was not shown yet"))
        if self.store.times_sent(rater.rater, (row.left, row.right)) > 1:
            # another tab, window or device had them too: a second look, whatever this browser knows of it
            answer = answer.model_copy(update={"focus_lost": 1})
        self.store.add(rater.slot, vote_of(self.folder.study, row, rater, answer, today()))

    def completion(self, rater: Rater) -> str:
        """Return the code that proves a finished session.

        Raises:
            InputError: PB502, trials are left.
        """
        if self._current(rater) is not None:
            raise InputError(problem("PB502", "session", found="trials are left"))
        return completion_code(self._secret, rater)


def completion_code(secret: str, rater: Rater) -> str:
    """Return a rater's code; Prolific knows one code per study, so its raters share one."""
    return _keyed(secret, "code|prolific" if rater.source == "prolific" else f"code|{rater.rater}")


def monitor_password(secret: str) -> str:
    """Return what opens the monitor: the same after a restart, and known from `private/` alone."""
    return _keyed(secret, "monitor", 20)


def _keyed(secret: str, text: str, digits: int = 8) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:digits].upper()
