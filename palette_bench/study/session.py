"""The voting session of a served study, independent of HTTP: it gives a rater the next pair and stores votes.

A rater's position is the number of their stored votes, so a reload, a second tab or a restarted server
continues at the same trial. Source: reports and studies, section 7.2.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from palette_bench.core.errors import InputError, problem
from palette_bench.core.records import today
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Truth, keyed_digest
from palette_bench.study.store import VoteStore
from palette_bench.study.votes import Rater, Source, TrialAnswer, rater_id, vote_of

PATIENCE = 3600.0  # seconds of silence after which a rater's place may be given to another


class VotingSession:
    """Serves pairs of images and takes votes for one study."""

    def __init__(
        self,
        folder: StudyFolder,
        store: VoteStore,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the truth of an opened study.

        Args:
            folder: the study.
            store: its raters and votes.
            patience: seconds of silence after which a rater's place may be given to another, if none is free.
            clock: returns seconds. Times are kept in memory only, because no time of a person may be stored.
        """
        self.folder, self.store = folder, store
        self._patience, self._clock, self._opened = patience, clock, clock()
        self._heard: dict[str, float] = {}  # rater -> time of the last request
        self._secret = folder.secret
        self._trials: dict[int, list[Truth]] = defaultdict(list)
        for row in folder.truth():
            self._trials[row.slot].append(row)

    def join(self, participant: str) -> str:
        """Give a new participant a slot, and return the session's token.

        Args:
            participant: a platform's id of the person; "" for a person without a platform.

        Raises:
            InputError: PB504, the participant has begun before, or no slot is free.
        """
        token = secrets.token_urlsafe(24)
        name = rater_id(self._secret, participant or secrets.token_hex(16))
        source: Source = "prolific" if participant else "serve"
        self.store.join(self.folder.study.raters, name, secrets.token_hex(8), source, token, self.away())
        self._heard[name] = self._clock()
        return token

    def away(self) -> list[str]:
        """Return the unfinished raters who were silent longer than `patience`, longest silence first.

        After a restart, the time starts anew for everybody.
        """
        silent = {
            rater: self._clock() - self._heard.get(rater, self._opened)
            for rater, n in self.store.raters().items()
            if n < self.folder.study.trials
        }
        return sorted((r for r, s in silent.items() if s > self._patience), key=lambda r: -silent[r])

    def rater(self, token: str) -> Rater | None:
        """Return the rater with a session token, and note the time of the request; None for an unknown token.

        Raises:
            PlaceGivenOnError: PB504, the rater's place was given to another.
        """
        rater = self.store.rater(token)
        if rater is not None:
            self.store.take_again(rater)
            self._heard[rater.rater] = self._clock()
        return rater

    def next_pair(self, rater: Rater) -> dict[str, Any]:
        """Return what a browser may know about a rater's next trial: tokens, and the position in the list."""
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
        """Return an image of the rater's current trial, as PNG. Only tokens of that trial are looked up.

        Raises:
            InputError: PB502, the token is not of this trial.
        """
        row = self._current(rater)
        file = row.files().get(token) if row else None
        if file is None:
            raise InputError(problem("PB502", "image", found="an image that does not belong to this trial"))
        self.store.count_sent(rater.rater, token)
        return self.folder.stimulus(file)

    def vote(self, rater: Rater, answer: TrialAnswer) -> dict[str, Any]:
        """Store an answer once; return `feedback` and `next`, which is looked up after the vote is on disk.

        `feedback` is the side of the original, in practice trials only; `next` is the next pair.

        Raises:
            InputError: PB502, the rater may not answer this trial now; PB503, the trial has another answer.
        """
        trials = self._trials[rater.slot]
        row = trials[answer.trial] if answer.trial < len(trials) else None
        if row is None or row.left != answer.left:
            raise InputError(problem("PB502", "vote", found="a pair that does not belong to this session"))
        earlier = self.store.vote(rater.rater, answer.trial)
        if earlier is None:
            if answer.trial != self.store.answered(rater.rater):
                raise InputError(problem("PB502", "vote", found="a pair that has not been shown yet"))
            if self.store.times_sent(rater.rater, (row.left, row.right)) > 1:
                # The pair was sent twice, e.g. to another tab or device. The rater may have had a second look
                # that this browser does not know of, so the trial counts as one with lost focus.
                answer = answer.model_copy(update={"focus_lost": 1})
            self.store.add(rater.slot, vote_of(self.folder.study, row, rater, answer, today()))
        elif earlier.choice != answer.choice:
            raise InputError(problem("PB503", "vote", found="this pair already has another answer"))
        feedback = row.real_side if row.kind == "practice" else None
        return {"feedback": feedback, "next": self.next_pair(rater)}

    def completion(self, rater: Rater) -> str:
        """Return the code that proves a finished session.

        Raises:
            InputError: PB502, trials are left.
        """
        if self._current(rater) is not None:
            raise InputError(problem("PB502", "session", found="some trials are not answered yet"))
        return completion_code(self._secret, rater)


def completion_code(secret: str, rater: Rater) -> str:
    """Return a rater's completion code.

    Raters from Prolific share one code, because Prolific allows one code per study.
    """
    who = "prolific" if rater.source == "prolific" else rater.rater
    return keyed_digest(secret, f"code|{who}", 8).upper()


def monitor_password(secret: str) -> str:
    """Return the monitor's password, which is derived from the secret and so survives a restart."""
    return keyed_digest(secret, "monitor", 20).upper()
