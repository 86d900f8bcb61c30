"""A tool's results become a submission, under the name of whoever made them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic
from palette_bench.core.errors import RecordError, StorageError, UsageError
from palette_bench.core.records import validate
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.card import CARD, PLACEHOLDER, Method, SubmissionCard, to_toml
from palette_bench.submission.methods import ToolOptions, load_adapter
from palette_bench.submission.restore import restore


@dataclass(frozen=True)
class MethodCredits:
    """Who made the results, as far as a person says it; "" and () leave what the card says.

    Attributes:
        name: of the method, for people.
        slug: for files and addresses; the name gives it if it is empty.
        version: any text.
        authors: names.
        license: of the method.
    """

    name: str = ""
    slug: str = ""
    version: str = ""
    authors: tuple[str, ...] = ()
    license: str = ""

    def on(self, method: Method) -> Method:
        """Return a method's entry with what was said put in.

        Raises:
            RecordError: PB403, PB404, a value that no card may hold; all of them.
            UsageError: the name gives no slug, and there is none.
        """
        said: dict[str, Any] = {key: value for key, value in vars(self).items() if value}
        if self.name and not self.slug:
            said["slug"] = slug_of(self.name)
        return validate(Method, {**method.model_dump(mode="json"), **said}, "method")


def slug_of(name: str) -> str:
    """Return a name as a slug: lower-case letters, digits and single hyphens.

    Raises:
        UsageError: nothing of it can stand in one.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63]
    if len(slug) < 2:
        raise UsageError(f"--slug is needed: the name {name!r} holds no letters for one")
    return slug


def import_results(
    adapter: str,
    benchset: ContestantSet,
    folder: Path,
    out: Path,
    options: ToolOptions,
    credit: MethodCredits,
    progress: Progress = SILENT,
) -> SubmissionCard:
    """Write a submission of a tool's results; what a person completed on its card before stays.

    Args:
        adapter: its name, e.g. adapter:folder.
        benchset: the set they answer.
        folder: where the tool wrote.
        out: the submission.
        options: how the results are read.
        credit: who made them.
        progress: where to report.

    Raises:
        UsageError, SubmissionError: see `Tool.results`.
        RecordError: PB403, PB404, a name no card may hold; before anything is read.
        InputError: PB605, the folder holds other results.
        StorageError: PB802.
    """
    credit.on(_ANYBODY)
    results = load_adapter(adapter).results(benchset, folder, options, progress)
    before = _completed(out / CARD)
    card = restore(results, benchset, out, progress=progress)
    assert card is not None, "an import has one shard"
    if before is not None and card.target.set.startswith(before.target.set):
        declared = before.declared.model_copy(update={"postprocess": card.declared.postprocess})
        card = before.model_copy(update={"target": card.target, "declared": declared})
    card = card.model_copy(update={"method": credit.on(card.method)})
    atomic.write_text(out / CARD, to_toml(card))
    return card


def clear_import(out: Path, benchset: ContestantSet) -> None:
    """Forget which results an earlier import of the same set took, so that changed ones may be taken.

    Raises:
        UsageError: the folder holds a submission for another set.
    """
    before = _completed(out / CARD)
    if before is not None and not benchset.public.set_fingerprint.startswith(before.target.set):
        raise UsageError(f"{out} answers another set, {before.target.set[:12]}: name another folder with -o")
    for path in out.glob("journal.*.jsonl"):
        path.unlink()


_ANYBODY = Method(
    slug="any-method", name="any", version=PLACEHOLDER, authors=(PLACEHOLDER,), license=PLACEHOLDER
)


def _completed(path: Path) -> SubmissionCard | None:
    """Return the card of an earlier import, which somebody may have completed by hand."""
    try:
        return SubmissionCard.read(path)
    except (RecordError, StorageError):
        return None
