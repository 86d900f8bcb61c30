"""Import of an outside tool's results as a submission, with the names of their authors."""

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
    """Name, authors and license of a method, as given by the user; "" and () keep the value of the card.

    Attributes:
        name: display name of the method.
        slug: name in files and addresses; if empty, it is made from `name`.
        version: any text.
        authors: names of the authors.
        license: license of the method.
    """

    name: str = ""
    slug: str = ""
    version: str = ""
    authors: tuple[str, ...] = ()
    license: str = ""

    def on(self, method: Method) -> Method:
        """Return `method` with its values replaced by the non-empty values of these credits.

        Raises:
            RecordError: PB403, PB404; lists all values that a card cannot hold.
            UsageError: no slug is given, and none can be made from the name.
        """
        said: dict[str, Any] = {key: value for key, value in vars(self).items() if value}
        if self.name and not self.slug:
            said["slug"] = slug_of(self.name)
        return validate(Method, {**method.model_dump(mode="json"), **said}, "method")


def slug_of(name: str) -> str:
    """Return the slug of a name: lower-case letters, digits and single hyphens, at most 63 characters.

    Raises:
        UsageError: fewer than two characters of the name can be used.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63]
    if len(slug) < 2:
        raise UsageError(f"--slug is needed: the name {name!r} has no letters to make one from")
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
    """Write a tool's results as a submission, and return its card.

    If `out` has a card of an earlier import of the same set, the values that a person completed on it are
    kept.

    Args:
        adapter: name of the adapter, e.g. adapter:folder.
        benchset: the set that the results belong to.
        folder: the folder that the tool wrote.
        out: folder of the submission.
        options: how the results are read.
        credit: name, authors and license of the method.
        progress: callback that reports each image.

    Raises:
        UsageError, SubmissionError: see `Adapter.results`.
        RecordError: PB403, PB404, a card cannot hold a value of `credit`; raised before any file is read.
        InputError: PB605, `out` holds other results.
        StorageError: PB802.
    """
    credit.on(_ANYBODY)  # validates the credits before any file is read
    results = load_adapter(adapter).results(benchset, folder, options, progress)
    before = _completed(out / CARD)
    card = restore(results, benchset, out, progress=progress)
    assert card is not None, "an import has one shard"
    # The target and the post-processing follow from this import; the rest of the earlier card is kept.
    if before is not None and card.target.set.startswith(before.target.set):
        declared = before.declared.model_copy(update={"postprocess": card.declared.postprocess})
        card = before.model_copy(update={"target": card.target, "declared": declared})
    card = card.model_copy(update={"method": credit.on(card.method)})
    atomic.write_text(out / CARD, to_toml(card))
    return card


def clear_import(out: Path, benchset: ContestantSet) -> None:
    """Delete the journals of an earlier import of the same set, so that changed results can be imported.

    Raises:
        UsageError: the folder holds a submission for another set.
    """
    before = _completed(out / CARD)
    if before is not None and not benchset.public.set_fingerprint.startswith(before.target.set):
        raise UsageError(
            f"{out} belongs to another set, {before.target.set[:12]}: name another folder with -o"
        )
    for path in out.glob("journal.*.jsonl"):
        path.unlink()


_ANYBODY = Method(
    slug="any-method", name="any", version=PLACEHOLDER, authors=(PLACEHOLDER,), license=PLACEHOLDER
)


def _completed(path: Path) -> SubmissionCard | None:
    """Return the card of an earlier import, which may have been completed by hand; None if unreadable."""
    try:
        return SubmissionCard.read(path)
    except (RecordError, StorageError):
        return None
