"""An opened study folder: the frozen plan, verified to be unchanged, and the files beside it.

Serving and exporting read studies only through this module. Source: reports and studies, section 7.1.
`palette_bench.study.plan` describes the folder's layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from palette_bench.core.errors import Problem, RecordError, problem
from palette_bench.core.fingerprint import lines_digest, pixel_digest, sha256
from palette_bench.core.png import PngError, decode_strict, read_regular
from palette_bench.core.records import read_file
from palette_bench.study.csv_tables import parse_table
from palette_bench.study.plan import SlotList, Study, StudySecret, Truth

STUDY = "study.json"
CONSENT = "consent.txt"
INSTRUCTIONS = "instructions.txt"
STIMULI = "stimuli"
TRUTH = "private/truth.csv"
SEAL = "private/seal.json"

_FIX = "run `study design` into a new folder: a plan never changes once it is frozen"


@dataclass(frozen=True)
class StudyFolder:
    """A study on disk whose plan is the one that was frozen."""

    path: Path
    study: Study

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a study folder; `private/` may be missing, as in a published copy.

        Raises:
            RecordError: PB401-PB411, the plan is malformed; PB505, plan, texts or lists changed after design.
            StorageError: PB801, a file is missing.
        """
        data = read_file(path / STUDY)
        study = Study.parse(data, STUDY)
        changed = []
        if data != study.to_json().encode():
            changed.append(_problem(path / STUDY, "the bytes `study design` wrote", "an edited file"))
        if (path / SEAL).is_file():
            sealed = StudySecret.read(path / SEAL).study_id
            if sealed != study.id:
                changed.append(_problem(path / STUDY, sealed, study.id))
        for name, sha in ((CONSENT, study.consent), (INSTRUCTIONS, study.instructions)):
            found = sha256(read_file(path / name))
            if found != sha:
                changed.append(_problem(path / name, sha, found))
        slots = lines_digest(sha256(read_file(path / slot_name(slot))) for slot in range(study.raters))
        if slots != study.slots:
            changed.append(_problem(path / "slots", study.slots, slots))
        if changed:
            raise RecordError(*changed)
        return cls(path, study)

    @property
    def seal(self) -> StudySecret:
        """Return the study's id and secret from `private/`.

        Raises:
            StorageError: PB801, this copy of the study has no `private/`.
        """
        return StudySecret.read(self.path / SEAL)

    @property
    def secret(self) -> str:
        """Return the study's secret, 64 hexadecimal digits.

        Names, orders and rater ids are derived from it.
        """
        return self.seal.secret

    @property
    def consent(self) -> str:
        """Return the text that raters agree to."""
        return read_file(self.path / CONSENT).decode()

    @property
    def instructions(self) -> str:
        """Return the instructions for raters."""
        return read_file(self.path / INSTRUCTIONS).decode()

    def slot(self, slot: int) -> SlotList:
        """Return one slot's trials as tokens."""
        return SlotList.read(self.path / slot_name(slot))

    def truth(self) -> list[Truth]:
        """Return what every trial of every slot shows, sorted by slot and trial.

        Raises:
            RecordError: PB505, the file is not the one with which the plan was frozen.
        """
        data = read_file(self.path / TRUTH)
        if sha256(data) != self.study.truth:
            raise RecordError(_problem(self.path / TRUTH, self.study.truth, sha256(data)))
        return [row for _, row in parse_table(Truth, data, TRUTH)]

    def stimulus(self, file: str) -> bytes:
        """Return the PNG of a file that the truth names."""
        return read_file(self.path / STIMULI / file)

    def check_stimuli(self) -> None:
        """Raise unless the images are those of the plan.

        Raises:
            RecordError: PB509, images differ; the error lists all unreadable ones.
        """
        digests: dict[str, str] = {}
        broken: list[str] = []
        side = self.study.target.rules.side
        for path in sorted((self.path / STIMULI).glob("*.png")):
            try:
                pixels, _ = decode_strict(read_regular(path), side, side, 3)
                digests[path.name] = pixel_digest(pixels)
            except PngError:
                broken.append(path.name)
        if broken or stimuli_digest(digests) != self.study.stimuli:
            found = "unreadable images" if broken else f"{len(digests):,} images, not those of the plan"
            expected = f"images of digest {self.study.stimuli[:12]}"
            where = str(self.path / STIMULI)
            raise RecordError(problem("PB509", where, expected=expected, found=found, fix=_FIX, ids=broken))


def slot_name(slot: int) -> str:
    """Return the path of a slot's list inside the folder."""
    return f"slots/{slot:03d}.json"


def slots_digest(texts: Iterable[str]) -> str:
    """Return the digest of all slot lists, in slot order."""
    return lines_digest(sha256(text.encode()) for text in texts)


def stimuli_digest(digests: dict[str, str]) -> str:
    """Return the digest of all stimuli, sorted by file name."""
    return lines_digest(f"{name} {digests[name]}" for name in sorted(digests))


def _problem(path: Path, expected: str, found: str) -> Problem:
    return problem("PB505", str(path), expected=expected[:40], found=found[:40], fix=_FIX)
