"""Reading of a submission's output files: strict decoding and inspection, in threads or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from palette_bench.benchset.manifest import BenchSet, ContestantSet, open_set
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.png import PngError, decode_strict
from palette_bench.core.processes import in_processes, in_threads
from palette_bench.core.types import Fingerprint, Image, ImageId, Mask
from palette_bench.submission.anomalies import OutputAppearance, appearance
from palette_bench.submission.files import Submission, open_submission, output_name

_CHUNK = 8  # files that a process reads before it reports

Inspected = TypeVar("Inspected")


@dataclass(frozen=True)
class CheckedOutput:
    """A valid, decoded output of sample 1, with the images of the set it belongs to.

    Attributes:
        image_id: id of the image.
        output: (S, S, 3) uint8, as submitted.
        condition: (S, S, 3) uint8, the input; gray is repeated in each channel.
        mask: (S, S) bool, True = hole, or None.
        digest: pixel digest of the output.
        condition_digest: pixel digest of the input, with gray repeated.
        target: the set.
    """

    image_id: ImageId
    output: Image
    condition: Image
    mask: Mask | None
    digest: Fingerprint
    condition_digest: Fingerprint
    target: ContestantSet

    @cached_property
    def reference(self) -> Image | None:
        """Return the original, (S, S, 3) uint8, or None if only the public part is open.

        Raises:
            BenchSetError: it cannot be read.
        """
        return self.target.reference(self.image_id) if isinstance(self.target, BenchSet) else None


class OutputFile(NamedTuple):
    """A file to read; `seek_shift` says whether to look for a shift of the image."""

    image_id: ImageId
    sample: int
    seek_shift: bool


class OutputFacts(NamedTuple, Generic[Inspected]):
    """What remains of a valid output of sample 1 once its pixels are gone.

    Attributes:
        image_id: id of the image.
        digest: its pixel digest.
        condition_digest: pixel digest of the input, with gray repeated.
        appearance: what the tests for anomalies need.
        inspected: what the caller's own inspection returned.
    """

    image_id: ImageId
    digest: Fingerprint
    condition_digest: Fingerprint
    appearance: OutputAppearance
    inspected: Inspected


class FileReading(NamedTuple, Generic[Inspected]):
    """Result of reading a file: its name, its fault, if any, and facts if it is valid and of sample 1."""

    name: str
    fault: PngError | None
    facts: OutputFacts[Inspected] | None


def read_files(
    submission: Submission,
    target: ContestantSet,
    files: Iterable[OutputFile],
    inspect: Callable[[CheckedOutput], Inspected],
    workers: int,
) -> Iterator[FileReading[Inspected]]:
    """Decode and inspect files of a submission; yield the results in the order of the files.

    Args:
        submission: the opened submission.
        target: the set that it belongs to.
        files: the files; at most a few dozen are taken ahead of the results.
        inspect: called with every valid output of sample 1; picklable if there are several workers.
        workers: number of processes; 1 uses a few threads of this process.

    Raises:
        BenchSetError: an image of the set cannot be read.
        StorageError: PB807, a worker was killed.
    """
    if workers == 1:
        yield from in_threads(partial(_read, submission, target, inspect), files)
        return
    remaining = iter(files)
    chunks = iter(lambda: list(islice(remaining, _CHUNK)), [])
    function = partial(_read_chunk, submission.path, target.folder, inspect)
    for readings in in_processes(function, chunks, workers):
        yield from readings


def _read_chunk(
    path: Path, folder: Path, inspect: Callable[[CheckedOutput], Inspected], files: list[OutputFile]
) -> list[FileReading[Inspected]]:
    submission, target = _opened(path, folder)
    return [_read(submission, target, inspect, file) for file in files]


@cache
def _opened(path: Path, folder: Path) -> tuple[Submission, ContestantSet]:
    """Return the submission and the set, opened once by each worker process, which ends with the check."""
    target = open_set(folder)
    return open_submission(path, len(target.ids)), target


def _read(
    submission: Submission,
    target: ContestantSet,
    inspect: Callable[[CheckedOutput], Inspected],
    file: OutputFile,
) -> FileReading[Inspected]:
    image_id, side = file.image_id, target.protocol.side
    name = output_name(image_id, file.sample)
    try:
        image, has_metadata = decode_strict(submission.read(name), side, side, 3)
    except PngError as error:
        return FileReading(name, error, None)
    notice = PngError("PB320", "pixels only", "other chunks, skipped") if has_metadata else None
    if file.sample > 1:
        return FileReading(name, notice, None)
    condition = target.condition(image_id)
    digests = pixel_digest(image), pixel_digest(condition)
    output = CheckedOutput(image_id, image, condition, target.mask(image_id), *digests, target)
    # the colours to expect are those of the input, or of the original if the input is gray
    coloured = output.reference if target.degradation.channels == 1 else condition
    seen = appearance(image, condition, output.mask, coloured, seek_shift=file.seek_shift)
    return FileReading(name, notice, OutputFacts(image_id, *digests, seen, inspect(output)))
