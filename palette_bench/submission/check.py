"""Check of a submission against its benchmark set: all problems are reported, and nothing is written.

`score` runs the same check and measures each decoded output on the way. To extract features, it reads the
files a second time with `read_output`: which features are cached is known only after the check.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from palette_bench.benchset.manifest import ContestantSet, open_set
from palette_bench.core.errors import Problem, RecordError, SubmissionError, errors_of, problem
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.notebook import html_table
from palette_bench.core.png import PngError, decode_strict
from palette_bench.core.types import SILENT, AnyPath, Fingerprint, Image, ImageId, Progress
from palette_bench.submission.anomalies import AnomalyCheck
from palette_bench.submission.card import CARD, PLACEHOLDER, PLACEHOLDER_SLUG, SubmissionCard
from palette_bench.submission.files import (
    Submission,
    arrange,
    is_image,
    of_files,
    open_submission,
    output_name,
)
from palette_bench.submission.output_reader import CheckedOutput, Inspected, OutputFile, read_files
from palette_bench.tasks import canary

CARD_BYTES = 1 << 16
_FOR_PROCESSES = 1000  # files from which on processes save more time than it takes to start them

# rule that a passed check establishes -> error codes that contradict the rule
_RULES = {
    "every file is safe to read": "PB102 PB103 PB104 PB105 PB307 PB801",
    "submission.toml is complete and valid": "PB101 PB401 PB402 PB403 PB404 PB411 PB413",
    "the outputs answer this set": "PB601 PB602",
    "every id is answered once, by a file of the right name": "PB201 PB202 PB203 PB204 PB206",
    "nothing else is in the submission": "PB106",
    "every output is an intact 8-bit RGB PNG of the right size": "PB301 PB302 PB303 PB304 PB305 PB306",
    "no output looks copied, mixed up or lossy": "PB321 PB322 PB323 PB324 PB325 PB326 PB327 PB328 PB329",
    "the test images were not used in training": "PB410",
}
_NEEDS_ORIGINALS = "no output looks copied, mixed up or lossy"
_NEED_CARD = frozenset({"the outputs answer this set", "the test images were not used in training"})

_FIXES = {
    "PB102": "zip the content of the submission's folder: names such as outputs/ID.png, each once",
    "PB103": "make the archive again with plain zip: no encryption, no archive inside, no huge members",
    "PB105": "put the file itself there; links, pipes and devices are never read",
    "PB301": "save it as PNG; renaming a JPEG or WebP file does not convert it",
    "PB302": "write the method's own output of that size; nothing is resized for you",
    "PB303": "convert to 8-bit RGB before saving: no alpha, no palette, no 16 bits, no gray",
    "PB304": "save a plain PNG: not interlaced, not animated",
    "PB305": "write the file again: it was cut or changed after it was saved",
    "PB306": "write the file again: its pixel data does not fill the image exactly",
    "PB307": "save plain pixels without metadata: that never needs so much",
    "PB320": "nothing to do: only pixels count; EXIF, colour profiles and gamma are not applied",
    "PB801": "make the file readable, then check again",
}

# slug of an anchor -> warning that every copy of the original or of the input causes: for an anchor it is
# only a notice
_ANCHORS = {"original": "PB321", "copy-input": "PB322"}
_RANK = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class CheckReport:
    """Result of `check`.

    Attributes:
        problems: errors first, then warnings, then notices; each group is sorted by code.
        card: the submission's card, or None if it cannot be read.
        pixels: id -> pixel digest of each valid output of sample 1.
        checked: the rules that hold, as sentences.
        whole: whether the originals were available, so that copies of them could be detected.
    """

    problems: tuple[Problem, ...]
    card: SubmissionCard | None = None
    pixels: dict[ImageId, Fingerprint] = field(default_factory=dict)
    checked: tuple[str, ...] = ()
    whole: bool = True

    @property
    def ok(self) -> bool:
        """Return whether there are no errors."""
        return not errors_of(self.problems)

    def __repr__(self) -> str:
        verdict = "passed" if self.ok else "refused"
        found = Counter(p.severity for p in self.problems)
        said = ", ".join(f"{count} {severity}" for severity, count in found.items()) or "no findings"
        return f"<CheckReport {verdict}: {len(self.pixels):,} good outputs, {said}>"

    def _repr_html_(self) -> str:
        heads = ("code", "severity", "where", "expected", "found", "fix")
        return html_table(repr(self), heads, [[getattr(p, key) for key in heads] for p in self.problems])

    @property
    def outputs(self) -> Fingerprint:
        """Return the digest of the (id, pixel digest) pairs of all valid outputs, sorted by id."""
        return table_digest(self.pixels)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict, problems, counts by severity and outputs digest as a JSON value."""
        counts = Counter(p.severity for p in self.problems)
        return {
            "verdict": "ok" if self.ok else "refused",
            "problems": [asdict(p.brief()) for p in self.problems],
            "counts": {severity: counts[severity] for severity in ("error", "warning", "info")},
            "checked": list(self.checked),
            "n_good": len(self.pixels),
            "outputs": self.outputs,
        }


def check(
    submission: AnyPath,
    benchset: AnyPath,
    *,
    strict: bool = False,
    workers: int = 1,
    progress: Progress = SILENT,
) -> CheckReport:
    """Read every file of a submission and return a report of all errors and anomalies.

    Args:
        submission: a folder or a .zip archive.
        benchset: the set that the submission belongs to, or only its public part. The public part has no
            originals, so copies of them (PB321) are not detected.
        strict: count warnings as errors.
        workers: number of processes.
        progress: callback that reports each image.

    Raises:
        BenchSetError: the set itself is unfinished or damaged.
        CodecError: PB701-PB703, the image libraries of this machine give wrong results.
    """
    canary.prove()
    target = open_set(Path(benchset))
    try:
        with open_submission(Path(submission), len(target.ids)) as files:
            checking = SubmissionCheck(files, target)
            for _ in checking.read_outputs(_no_more, workers=workers, progress=progress):
                pass
            return checking.report(strict=strict)
    except SubmissionError as error:  # no file of the submission can be read
        return CheckReport(error.problems)


def _no_more(output: CheckedOutput) -> None:
    """Inspect an output no further than every check does."""


class SubmissionCheck:
    """Check of an opened submission: `read_outputs` reads its files, then `report` lists all problems."""

    def __init__(self, files: Submission, target: ContestantSet) -> None:
        """Read the card and assign the files to ids.

        Args:
            files: the submission.
            target: the set that it belongs to.
        """
        self._files, self._target = files, target
        self._card, self._problems = _read_card(files, target)
        if self._card:
            self._problems += _card_problems(self._card, target)
        samples = self._card.target.samples_per_image if self._card else None
        layout = arrange(files.names, files.refused, target.ids, samples)
        self._problems += layout.problems
        self._places = [(sample, i) for sample, ids in sorted(layout.answers.items()) for i in ids]
        self._pixels: dict[ImageId, Fingerprint] = {}
        self._anomalies = AnomalyCheck(target.reference_digests)
        # (code, expected, found) -> files with this fault, which become one problem
        self._faults: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for name, refused in files.refused.items():
            self._add_fault(refused, name)

    def read_outputs(
        self, inspect: Callable[[CheckedOutput], Inspected], *, workers: int = 1, progress: Progress = SILENT
    ) -> Generator[Inspected, None, None]:
        """Decode and check every output; yield what `inspect` returns for the valid ones of sample 1, by id.

        Args:
            inspect: called with every valid output of sample 1, perhaps in another thread or process.
            workers: number of processes; few files are read in threads of this process.
            progress: callback that reports each file.

        Raises:
            BenchSetError: an image of the set cannot be read.
            StorageError: PB807, a worker was killed.
        """
        files = (OutputFile(i, sample, self._anomalies.seeks_shifts) for sample, i in self._places)
        workers = workers if len(self._places) >= _FOR_PROCESSES else 1
        with progress("checking", len(self._places)) as advance:
            for name, fault, facts in read_files(self._files, self._target, files, inspect, workers):
                advance(1)
                if fault and name not in self._files.refused:  # refused files are counted already
                    self._add_fault(fault, name)
                if facts:
                    self._pixels[facts.image_id] = facts.digest
                    self._anomalies.add(
                        facts.image_id, facts.digest, facts.condition_digest, facts.appearance
                    )
                    yield facts.inspected

    def _add_fault(self, fault: PngError, name: str) -> None:
        self._faults[fault.code, fault.expected, fault.found].append(name)

    def report(self, *, strict: bool = False) -> CheckReport:
        """Return the report on the outputs read so far; if `strict`, warnings are errors."""
        card, whole = self._card, bool(self._target.reference_digests)
        problems = list(self._problems)
        for (code, expected, found), names in sorted(self._faults.items()):
            fix = _FIXES.get(code, "")
            problems += of_files(code, sorted(names), expected=expected, found=found, fix=fix)
        problems += self._anomalies.problems()
        inherent = _ANCHORS.get(card.method.slug) if card else None
        for i, finding in enumerate(problems):
            if finding.severity == "warning" and finding.code == inherent:
                problems[i] = replace(finding, severity="info")
            elif finding.severity == "warning" and strict:
                problems[i] = replace(finding, severity="error")
        problems.sort(key=lambda p: (_RANK[p.severity], p.code))
        # A rule holds if it could be checked and no error or warning contradicts it.
        denied = {p.code for p in problems if p.severity != "info"}
        holding = tuple(
            rule
            for rule, codes in _RULES.items()
            if not denied & set(codes.split())
            and (card or rule not in _NEED_CARD)
            and (whole or rule != _NEEDS_ORIGINALS)
        )
        return CheckReport(tuple(problems), card, self._pixels, holding, whole)


def read_output(files: Submission, image_id: ImageId, side: int, sample: int = 1) -> Image:
    """Return one output of an opened submission, (side, side, 3) uint8.

    Args:
        files: the submission.
        image_id: id of an image of the set.
        side: height and width in the protocol, in pixels.
        sample: 1 for outputs/ID.png, 2 for samples/1/ID.png, and so on.

    Raises:
        PngError: PB105, PB201, PB301-PB307, PB801.
    """
    return decode_strict(files.read(output_name(image_id, sample)), side, side, 3)[0]


def _read_card(files: Submission, target: ContestantSet) -> tuple[SubmissionCard | None, list[Problem]]:
    if CARD in files.refused:  # all refused files are reported together
        return None, []
    if CARD not in files.names:
        return None, [_no_card(files, target)]
    try:
        return SubmissionCard.parse(files.read(CARD, CARD_BYTES), CARD), []
    except PngError as error:
        fix = f"keep {CARD} a short readable text"
        return None, [problem(error.code, CARD, expected=error.expected, found=error.found, fix=fix)]
    except RecordError as error:
        return None, list(error.problems)


def _no_card(files: Submission, target: ContestantSet) -> Problem:
    """Return PB101 for a missing card, with a fix that depends on what the submission contains.

    If a deeper folder contains a card, the fix names that folder. If there are only images, the fix names the
    command that writes a card for them.
    """
    expected = f"{CARD} at the top of the submission"
    deeper = [name for name in files.names if name.endswith(f"/{CARD}")]
    if deeper:
        fix = "give the folder that holds it, or zip that folder's content instead of the folder"
        return problem("PB101", CARD, expected=expected, found=f"one at {deeper[0]}", fix=fix)
    folders = Counter(name.rpartition("/")[0] for name in files.names if is_image(name))
    if not folders or not files.path.is_dir():
        fix = f"write {CARD} beside outputs/: who made these outputs, with what, for which set"
        return problem("PB101", CARD, expected=expected, found="none", fix=fix)
    (folder, count), *_ = folders.most_common(1)
    images = files.path / folder
    words = f"--set {target.folder} --import {images} -o SUB --name NAME"
    fix = (
        f"`palette-bench restore adapter:folder {words}` writes it; or, with scores and a board, "
        f"`palette-bench evaluate {images} --set {target.folder} -o OUT --name NAME`"
    )
    return problem("PB101", CARD, expected=expected, found=f"{count:,} images in {images}", fix=fix)


def _card_problems(card: SubmissionCard, target: ContestantSet) -> list[Problem]:
    """Return the problems of a valid card.

    PB601 and PB602: keys of [target] that do not match this set. PB410: the method was trained on the test
    images. PB413: the card still has the placeholder values of an import.
    """
    public = target.public
    claims = {
        "protocol": (card.target.protocol, public.protocol),
        "source": (card.target.source, public.source),
        "task": (card.target.task, public.task),
        "variant": (card.target.variant or "default", public.variant),
        "set": (card.target.set, public.set_fingerprint),
    }
    found = []
    for key, (claimed, known) in claims.items():
        if claimed != known and not (key == "set" and known.startswith(claimed)):
            code, where = "PB601" if key == "protocol" else "PB602", f"{CARD}: target.{key}"
            fix = (
                "check against the set these outputs were made from; if it is this one, "
                f'write {key} = "{known}"'
            )
            found.append(problem(code, where, expected=known, found=claimed, fix=fix))
    if card.training.saw_test_images == "yes":
        where = f"{CARD}: training.saw_test_images"
        fix = "train without the test images; such scores are shown, never ranked"
        found.append(problem("PB410", where, expected="no", found="yes", fix=fix))
    left = {
        "slug": card.method.slug == PLACEHOLDER_SLUG,
        "authors": PLACEHOLDER in card.method.authors,
        "license": card.method.license == PLACEHOLDER,
    }
    if names := ", ".join(name for name, there in left.items() if there):
        expected = "who made the outputs, and under which terms"
        fix = f"complete {CARD}, or import again with --name --slug --author --license"
        found.append(problem("PB413", f"{CARD}: method", expected=expected, found=names, fix=fix))
    return found
