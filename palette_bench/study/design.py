"""`study design`: makes a frozen study folder from a hand-written plan, a set and submissions.

Source: reports and studies, section 7.1. `palette_bench.study.plan` describes the folder's layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, StorageError, SubmissionError, errors_of, problem
from palette_bench.core.fingerprint import pixel_digest, sha256, table_digest
from palette_bench.core.png import encode
from palette_bench.core.records import raise_errors, read_file
from palette_bench.core.types import SILENT, Image, ImageId, Progress
from palette_bench.scoring.outputs import OutputImages
from palette_bench.study.assignment import DraftTrial, ImageChoice, assign, choose, faults, methods_per_rater
from palette_bench.study.csv_tables import table_text
from palette_bench.study.folder import (
    CONSENT,
    INSTRUCTIONS,
    SEAL,
    STIMULI,
    STUDY,
    TRUTH,
    slot_name,
    slots_digest,
    stimuli_digest,
)
from palette_bench.study.plan import (
    Studied,
    Study,
    StudyPlan,
    StudySecret,
    StudyTarget,
    StudyToml,
    Truth,
    keyed_digest,
    slot_list,
)
from palette_bench.submission.check import check
from palette_bench.submission.files import open_submission

_BATCH = 64  # images per fsync round


@dataclass(frozen=True)
class StudyEntry:
    """A submission under study: its method, and its output images."""

    studied: Studied
    images: OutputImages


def design(
    plan_file: Path,
    benchset: Path,
    submissions: Sequence[Path],
    out: Path,
    *,
    secret: str | None = None,
    progress: Progress = SILENT,
) -> Study:
    """Write a study folder and return its frozen plan.

    Args:
        plan_file: `study.toml`; the text files that it names are beside it.
        benchset: the set, including the judge's part.
        submissions: one submission per method, each for the whole set.
        out: the folder to make; it must not exist.
        secret: 64 hexadecimal digits; random by default. Tests set it to get equal lists.
        progress: reports every image.

    Raises:
        RecordError: PB401-PB411, the plan is malformed.
        InputError: PB403, the plan cannot be balanced. The error lists all reasons.
        SubmissionError: a submission does not pass `check`, or two submissions have the same slug (PB404).
        StorageError: PB809, the folder exists; PB802, writing failed.
    """
    plan = StudyToml.read(plan_file)
    if out.exists():
        fix = "choose a new folder: a frozen study is never overwritten"
        raise StorageError(
            problem("PB809", str(out), expected="no folder of this name", found="one", fix=fix)
        )
    target = BenchSet.open(benchset)
    raise_errors(faults(plan, len(submissions), len(target.ids)), InputError)
    texts = {name: read_file(plan_file.parent / name) for name in (plan.consent, plan.instructions)}
    with ExitStack() as stack:
        entries = []
        for path in submissions:
            report = check(path, target.folder, progress=progress)
            if not report.ok or report.card is None:
                raise SubmissionError(*errors_of(report.problems))
            outputs = table_digest(report.pixels)  # as on the method's scorecard
            method = report.card.method
            files = stack.enter_context(open_submission(path, len(target.ids)))
            studied = Studied(slug=method.slug, version=method.version, outputs=outputs)
            entries.append(StudyEntry(studied, OutputImages(files, target)))
        slugs = [entry.studied.slug for entry in entries]
        if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
            fix = "study one version of a method at a time: votes name methods by slug"
            raise SubmissionError(
                problem("PB404", "submissions", found=f"two of {', '.join(twice)}", fix=fix)
            )
        choice = choose(plan, target.manifest.set_fingerprint, target.ids)
        with atomic.whole_folder(out) as folder:
            frozen = _Freezing(plan, target, entries, choice, secret or os.urandom(32).hex())
            return frozen.write(folder, texts[plan.consent], texts[plan.instructions], progress)


@dataclass(frozen=True)
class _Freezing:
    """A plan with all choices made, ready to be written to a folder."""

    plan: StudyToml
    target: BenchSet
    entries: Sequence[StudyEntry]
    choice: ImageChoice
    secret: str

    def write(self, folder: Path, consent: bytes, instructions: bytes, progress: Progress) -> Study:
        """Write all files, the plan last, and return the plan."""
        files, digests = self._write_stimuli(folder, progress)
        slugs = [entry.studied.slug for entry in self.entries]
        slots = assign(self.plan, slugs, self.choice, self.secret)
        truth = [
            [self._row(slot, trial, draft, files) for trial, draft in enumerate(drafts)]
            for slot, drafts in enumerate(slots)
        ]
        lists = [slot_list(slot, rows).to_json() for slot, rows in enumerate(truth)]
        table = table_text(Truth, (row for rows in truth for row in rows)).encode()
        manifest = self.target.manifest
        shared: dict[str, Any] = {key: getattr(self.plan, key) for key in StudyPlan.model_fields}
        study = Study(
            schema=Study.schema_name(),
            target=StudyTarget(
                protocol=manifest.protocol,
                declaration=manifest.declaration,
                source=manifest.source,
                task=manifest.task,
                variant=manifest.variant,
                set=manifest.set_fingerprint,
            ),
            methods=tuple(entry.studied for entry in self.entries),
            methods_per_rater=methods_per_rater(self.plan, len(self.entries)),
            image_ids=self.choice.test,
            catch_ids=self.choice.catch,
            practice_ids=self.choice.practice,
            consent=sha256(consent),
            instructions=sha256(instructions),
            truth=sha256(table),
            slots=slots_digest(lists),
            stimuli=stimuli_digest(digests),
            **shared,
        )
        atomic.make_folder(folder / "slots")
        with atomic.FileBatch() as batch:
            for slot, text in enumerate(lists):
                batch.write(folder / slot_name(slot), text.encode())
        seal = StudySecret(schema=StudySecret.schema_name(), study_id=study.id, secret=self.secret)
        atomic.write_private(folder / TRUTH, table)
        atomic.write_private(folder / SEAL, seal.to_json().encode())
        atomic.write_bytes(folder / CONSENT, consent)
        atomic.write_bytes(folder / INSTRUCTIONS, instructions)
        study.write(folder / STUDY)
        return study

    def _write_stimuli(
        self, folder: Path, progress: Progress
    ) -> tuple[dict[tuple[ImageId, str], str], dict[str, str]]:
        """Write every image once; return (id, what) -> file, and file -> pixel digest."""
        files: dict[tuple[ImageId, str], str] = {}
        digests: dict[str, str] = {}
        atomic.make_folder(folder / STIMULI)
        images = self._images()
        total = self.plan.images * (1 + len(self.entries) + self.plan.show_input)
        total += 2 * (self.plan.catch + self.plan.practice)
        with progress("write stimuli", total) as advance:
            while batch := [shown for _, shown in zip(range(_BATCH), images, strict=False)]:
                with atomic.FileBatch() as round_:
                    for image_id, what, pixels in batch:
                        digest = pixel_digest(pixels)
                        name = f"{self._name('stimulus', digest)}.png"
                        files[image_id, what], digests[name] = name, digest
                        round_.write(folder / STIMULI / name, encode(pixels))
                advance(len(batch))
        return files, digests

    def _images(self) -> Iterator[tuple[ImageId, str, Image]]:
        """Yield (id, what, pixels) of every image a rater may see; `what` is "real", "input" or a slug."""
        for image_id in self.choice.test:
            yield image_id, "real", self.target.reference(image_id)
            for entry in self.entries:
                yield image_id, entry.studied.slug, entry.images.scored(image_id)
        for image_id in (*self.choice.catch, *self.choice.practice):
            yield image_id, "real", self.target.reference(image_id)
        shows_input = self.choice.test if self.plan.show_input else ()
        for image_id in (*self.choice.catch, *self.choice.practice, *shows_input):
            yield image_id, "input", self.target.condition(image_id)

    def _row(
        self, slot: int, trial: int, draft: DraftTrial, files: Mapping[tuple[ImageId, str], str]
    ) -> Truth:
        model = draft.method if draft.kind == "test" else "input"
        return Truth(
            slot=slot,
            trial=trial,
            kind=draft.kind,
            image_id=draft.image_id,
            method=draft.method,
            real_side=draft.real_side,
            left=self._name("token", f"{slot}|{trial}|left"),
            right=self._name("token", f"{slot}|{trial}|right"),
            input=self._name("token", f"{slot}|{trial}|input") if self.plan.show_input else None,
            real_file=files[draft.image_id, "real"],
            model_file=files[draft.image_id, model],
            input_file=files[draft.image_id, "input"] if self.plan.show_input else None,
        )

    def _name(self, purpose: str, what: str) -> str:
        """Return 32 hexadecimal digits that reveal nothing without the secret."""
        return keyed_digest(self.secret, f"{purpose}|{what}", 32)
