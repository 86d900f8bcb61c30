"""Error classes, error codes, and the problems that an error lists.

    PaletteBenchError
      UsageError          2   invalid command or call
      InputError          3   SpecError SourceError BenchSetError SubmissionError RecordError
                              IncomparableError
      StackError          4   CodecError WeightsError DeviceError
      StorageError        5   disk full, locked, not permitted
      RankError               another process of the same run failed; its exit code

The number is the exit code of the command line. Every error lists all problems found, not only the first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

Severity = Literal["error", "warning", "info"]

SHOWN_IDS = 20  # ids shown per problem; the count is always exact

CODES: dict[str, str] = {
    "PB101": "no submission.toml found",
    "PB102": "archive member name refused",
    "PB103": "archive over a cap or encrypted",
    "PB104": "archive type not accepted",
    "PB105": "not a regular file",
    "PB106": "unexpected file",
    "PB201": "images missing",
    "PB202": "ids not in the set",
    "PB203": "same id twice",
    "PB204": "malformed id",
    "PB205": "partial scorecard",
    "PB206": "too few samples per image",
    "PB207": "metric missing or not finite",
    "PB208": "too few images for the metric",
    "PB301": "not a PNG",
    "PB302": "wrong size",
    "PB303": "wrong colour type or depth",
    "PB304": "interlaced or animated",
    "PB305": "broken chunk, CRC or ending",
    "PB306": "pixel data short, long or corrupt",
    "PB307": "file too large",
    "PB309": "source image unreadable or of a refused kind",
    "PB320": "metadata ignored",
    "PB321": "outputs equal to the target",
    "PB322": "outputs equal to the input",
    "PB323": "outputs equal to each other",
    "PB324": "small errors on all known pixels: lossy step?",
    "PB325": "ids look permuted",
    "PB326": "constant images",
    "PB327": "tones differ from the inputs",
    "PB328": "channels look swapped, or of another colour space",
    "PB329": "outputs look flipped, turned or moved",
    "PB401": "TOML or JSON unreadable",
    "PB402": "unknown key",
    "PB403": "value missing or of wrong type",
    "PB404": "slug malformed or taken",
    "PB407": "record digest wrong",
    "PB408": "per-image table contradicts the card",
    "PB410": "trained on test images",
    "PB411": "schema version unknown",
    "PB412": "feature file of wrong dtype, shape or value",
    "PB413": "submission.toml still holds placeholders",
    "PB501": "vote row malformed",
    "PB502": "unknown study, image, method or token",
    "PB503": "second, different vote for a trial",
    "PB504": "session token wrong or expired",
    "PB505": "study changed after design",
    "PB506": "too few raters or images for an interval",
    "PB507": "simulated votes cannot rank",
    "PB508": "stop rule not met",
    "PB509": "stimuli differ from the study",
    "PB510": "export column missing",
    "PB601": "protocol fingerprint differs",
    "PB602": "set or outputs fingerprint differs",
    "PB603": "extractor fingerprint differs",
    "PB604": "reference fingerprint differs",
    "PB605": "resumed with another configuration",
    "PB606": "set differs from the published digest",
    "PB607": "source image, list or labels are not the listed ones",
    "PB608": "mode cannot be ranked",
    "PB609": "unknown protocol, task, variant or source",
    "PB610": "training not finite three steps in a row",
    "PB611": "model self-check failed",
    "PB612": "restored image not finite or far out of range",
    "PB613": "a method's own code failed",
    "PB614": "images may not be passed on",
    "PB701": "JPEG decoder differs",
    "PB702": "JPEG encoder differs from reference",
    "PB703": "integer canary failed",
    "PB704": "extractor canary failed",
    "PB705": "weights absent or digest wrong",
    "PB706": "noise canary differs",
    "PB707": "device absent or unsuitable",
    "PB708": "L0 setting unavailable",
    "PB709": "version outside the matrix",
    "PB710": "ranks disagree on a fingerprint",
    "PB711": "optional package missing",
    "PB712": "weights do not fit the network",
    "PB801": "cannot read",
    "PB802": "cannot write",
    "PB803": "folder locked by another run",
    "PB804": "not enough space",
    "PB805": "stored item damaged, redone",
    "PB806": "checkpoint unreadable, older one used",
    "PB807": "worker died at an item",
    "PB808": "cache entry damaged, recomputed",
    "PB809": "output folder holds foreign files",
}
_WARNINGS = {
    *("PB205", "PB207", "PB208", "PB410", "PB413", "PB506", "PB507", "PB608", "PB706", "PB709", "PB806"),
    *("PB321", "PB322", "PB323", "PB324", "PB325", "PB326", "PB327", "PB328", "PB329"),
}
_NOTICES = {"PB320", "PB805", "PB808"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding: its rule, place, expected and found values, and how to fix it.

    `ids` lists all affected names; records store `brief()`, which keeps the first 20.
    """

    code: str
    severity: Severity
    where: str
    expected: str = ""
    found: str = ""
    fix: str = ""
    count: int = 1
    ids: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return the text of the code, followed by the count if it is not one."""
        text = CODES[self.code]
        return text if self.count == 1 else f"{text}: {self.count:,} times"

    def brief(self) -> Problem:
        """Return the finding with its first 20 names; `count` still counts all of them."""
        return replace(self, ids=self.ids[:SHOWN_IDS])

    def __str__(self) -> str:
        """Return the finding as text of several lines."""
        lines = [f"{self.code} {self.severity}  {self.title}"]
        shown = ", ".join(self.ids[:SHOWN_IDS]) + (", ..." if self.count > SHOWN_IDS else "")
        # The names are not repeated if `where` already states them.
        named = self.where == shown or all(f"/{name}." in self.where for name in self.ids[:SHOWN_IDS])
        for name, text in (
            ("where", self.where if named else f"{self.where} ({shown})"),
            ("expected", self.expected),
            ("found", self.found),
            ("fix", self.fix),
        ):
            if text:
                lines.append(f"  {name:<9} {_printable(text)}")
        return "\n".join(lines)


def problem(
    code: str,
    where: str,
    *,
    expected: str = "",
    found: str = "",
    fix: str = "",
    ids: Sequence[str] = (),
) -> Problem:
    """Return a problem with the severity of its code; `ids` are all affected names."""
    severity: Severity = "warning" if code in _WARNINGS else "info" if code in _NOTICES else "error"
    names = tuple(ids)
    count = len(names) or 1
    return Problem(
        code=code,
        severity=severity,
        where=where,
        expected=expected,
        found=found,
        fix=fix,
        count=count,
        ids=names,
    )


def _printable(text: str) -> str:
    """Return the text with control, bidi and undecodable characters escaped; names are untrusted."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems that are errors, without warnings and notices."""
    return [p for p in problems if p.severity == "error"]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean ...?" for an unknown `name`, or the list of known names if none is similar."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(choices)}"


class PaletteBenchError(Exception):
    """Base of all errors that a user can cause or fix; `problems` lists all problems found."""

    exit_code = 6

    def __init__(self, *findings: Problem | str) -> None:
        """Store the problems; plain sentences only become part of the message."""
        self.problems = tuple(f for f in findings if isinstance(f, Problem))
        super().__init__("\n".join(str(f) for f in findings))

    @classmethod
    def of(
        cls,
        code: str,
        where: str,
        *,
        expected: str = "",
        found: str = "",
        fix: str = "",
        ids: Sequence[str] = (),
    ) -> Self:
        """Return the error with one problem; the arguments are those of `problem`."""
        return cls(problem(code, where, expected=expected, found=found, fix=fix, ids=ids))


class UsageError(PaletteBenchError):
    """The command or call is invalid."""

    exit_code = 2


class InputError(PaletteBenchError):
    """An input is wrong: a file, folder, set, submission or record."""

    exit_code = 3


class SpecError(InputError):
    """A protocol is unknown or malformed."""


class SourceError(InputError):
    """The source images, lists or labels are not usable."""


class BenchSetError(InputError):
    """A benchmark set is incomplete or damaged."""


class SubmissionError(InputError):
    """A submission breaks a rule."""


class MethodError(InputError):
    """A method of another package failed, or lacks a part of the interface."""


class RecordError(InputError):
    """A record file is malformed, edited or of an unknown version."""


class IncomparableError(InputError):
    """Two records cannot be compared in one table; the message names the fingerprint that differs."""


class StackError(PaletteBenchError):
    """Libraries, weights or devices of this machine are absent or give wrong results."""

    exit_code = 4


class CodecError(StackError):
    """The results of an image codec differ from the protocol's definition."""


class WeightsError(StackError):
    """Network weights are absent or not the pinned ones."""


class DeviceError(StackError):
    """The requested device is absent or unsuitable."""


class StorageError(PaletteBenchError):
    """Reading or writing failed: disk full, locked, not permitted."""

    exit_code = 5


class RankError(PaletteBenchError):
    """Another rank of this distributed run failed, so this rank ends too, with the same exit code."""

    def __init__(self, rank: int, exit_code: int) -> None:
        """Store the exit code of the failed rank; that rank prints the reason."""
        self.exit_code = exit_code
        super().__init__(f"stopped: rank {rank} failed (exit {exit_code}); see its message")
