"""`import`: makes sets again from an exported dataset, and believes nothing that its digests do not prove."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path

from palette_bench.benchset.containers import ROW_GROUP, StoredImage, read_images
from palette_bench.benchset.manifest import (
    MANIFEST,
    PUBLIC,
    BenchSet,
    ContestantSet,
    Manifest,
    PublicSet,
    set_fingerprint,
)
from palette_bench.benchset.set_export import RECORDS, digests_of, kinds_of, require_new, require_pixels
from palette_bench.core import atomic
from palette_bench.core.errors import BenchSetError, Problem, StorageError, problem
from palette_bench.core.png import PngError, read_regular
from palette_bench.core.records import raise_errors
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, AnyPath, Fingerprint, Progress
from palette_bench.tasks.protocol import set_folder

_RECORD_BYTES = 1 << 28
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REPAIR = "fetch the dataset again, or ask who published it"


def import_sets(folder: AnyPath, out: AnyPath, progress: Progress = SILENT) -> dict[Path, Fingerprint]:
    """Write the sets of an exported dataset and return folder -> set fingerprint.

    A dataset with originals becomes whole sets, whose fingerprints are computed again. Without, it becomes
    public parts, which state the fingerprint of the set they belong to.

    Args:
        folder: the dataset: `export` wrote it, or a client of a hub fetched it.
        out: folder of the set, or the parent of one folder per set; it appears whole or not at all.
        progress: callback that reports each image.

    Raises:
        RecordError, SpecError: a record is malformed, or its protocol is unknown.
        BenchSetError: PB102-PB104, hostile or damaged containers; PB201-PB204, ids; PB3xx and PB602, images
            that are not those of the record; PB601, another version of the protocol.
        StackError: PB711, pyarrow is not installed.
        StorageError: PB801, no dataset; PB802; PB809, `out` holds files.
    """
    folder, out = Path(folder), Path(out)
    records = _records(folder)
    require_new(out)
    finished = {}
    images = sum(len(record.items) for record in records.values())
    with atomic.whole_folder(out) as made, progress("importing", images) as advance:
        for name, record in records.items():
            place = made if len(records) == 1 else made / name
            one = _set_at(place, record)
            stored = read_images(folder, name, kinds_of(one), len(one.ids))
            raise_errors(_copy(one, stored, advance), BenchSetError)
            one.public.write(place / PUBLIC)
            if isinstance(record, Manifest):
                record.write(place / MANIFEST)
            finished[out / place.relative_to(made)] = record.set_fingerprint
    return finished


def _set_at(folder: Path, record: Manifest | PublicSet) -> ContestantSet:
    if isinstance(record, Manifest):
        return BenchSet(folder, record.public(), record.rules, record)
    return ContestantSet(folder, record, record.rules)


def _copy(
    one: ContestantSet, images: Iterable[StoredImage], advance: Callable[[int], object]
) -> list[Problem]:
    """Write the images of a set that are those of its record, and return the problems of all others."""
    digests, kinds = digests_of(one), kinds_of(one)
    missing = {(image_id, kind) for image_id in digests for kind in kinds}
    faults: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for kind in kinds:
        atomic.make_folder(one.folder / kind)
    remaining = iter(images)
    while group := list(islice(remaining, ROW_GROUP)):
        with atomic.FileBatch() as batch:
            for image in group:
                try:
                    _require_wanted(one, image, digests, missing)
                except PngError as fault:
                    faults[fault.code, fault.expected, fault.found].append(f"{image.kind}/{image.image_id}")
                else:
                    batch.write(one.path(image.kind, image.image_id), image.data)
                missing.discard((image.image_id, image.kind))
        advance(sum(image.kind == kinds[0] for image in group))
    if missing:
        expected = f"{len(digests):,} images, {', '.join(kinds)}"
        faults["PB201", expected, "fewer"] = sorted(f"{kind}/{image_id}" for image_id, kind in missing)
    where = set_folder(one.public.task, one.public.variant)
    return [
        problem(code, where, expected=expected, found=found, fix=_REPAIR, ids=names)
        for (code, expected, found), names in sorted(faults.items())
    ]


def _require_wanted(
    one: ContestantSet,
    image: StoredImage,
    digests: Mapping[str, Mapping[str, Fingerprint | None]],
    missing: Collection[tuple[str, str]],
) -> None:
    """Raise unless an image of a container is one of the set that was not there before.

    Raises:
        PngError: PB202, PB203, PB3xx, PB602, or why the container did not give its bytes.
    """
    if image.kind not in digests.get(image.image_id, {}):
        raise PngError("PB202", "images of the record", "others")
    if (image.image_id, image.kind) not in missing:
        raise PngError("PB203", "each image once", "twice or more")
    if image.fault:
        raise image.fault
    require_pixels(one, image.kind, image.data, digests[image.image_id][image.kind])


def _records(folder: Path) -> dict[str, Manifest | PublicSet]:
    """Return the records of a dataset by the names of its sets.

    Raises:
        RecordError, SpecError, BenchSetError, StorageError: see `import_sets`.
    """
    place = folder / RECORDS
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    names = [name for name in names if not is_litter(name)]
    if not names:
        fix = "give a folder that `palette-bench export` wrote"
        raise StorageError.of("PB801", str(place), expected="records of sets", found="none", fix=fix)
    records, problems = {}, []
    for name in names:
        try:
            data = read_regular(place / name, _RECORD_BYTES)
        except (PngError, OSError) as error:
            code, found = getattr(error, "code", "PB801"), getattr(error, "found", str(error))
            problems.append(problem(code, f"{RECORDS}/{name}", found=found, fix=_REPAIR))
            continue
        record_type = Manifest if Manifest.schema_name().rpartition("/")[0].encode() in data else PublicSet
        record = record_type.parse(data, f"{RECORDS}/{name}")
        problems += _record_problems(record, name)
        records[name.removesuffix(".json")] = record
    raise_errors(problems, BenchSetError)
    return records


def _record_problems(record: Manifest | PublicSet, name: str) -> list[Problem]:
    """Return what contradicts itself in a record.

    Raises:
        SpecError: PB609, its protocol, task or variant is unknown.
    """
    where = f"{RECORDS}/{name}"
    record.rules.variant(record.task, record.variant)
    ids = [item.id for item in record.items]
    if malformed := [image_id for image_id in ids if not _ID.fullmatch(image_id)]:
        expected = "letters, digits, _ and -, at most 64"
        return [problem("PB204", where, expected=expected, fix=_REPAIR, ids=malformed)]
    problems = []
    # some file systems merge names that differ in case alone
    if twins := [lower for lower, count in Counter(map(str.lower, ids)).items() if count > 1]:
        problems.append(problem("PB203", where, expected="each id once", fix=_REPAIR, ids=twins))
    claims = {"the name of the file": (f"{set_folder(record.task, record.variant)}.json", name)}
    if isinstance(record, Manifest):
        claims["n"] = (str(len(ids)), str(record.n))
        claims["set_fingerprint"] = (_computed(record), record.set_fingerprint)
        rules = record.rules.fingerprint
        if record.protocol_fingerprint != rules:
            fix = "import it with the version of palette-bench that made it"
            found = record.protocol_fingerprint[:12]
            problems.append(problem("PB601", where, expected=rules[:12], found=found, fix=fix))
    for key, (expected, found) in claims.items():
        if expected != found:
            problems.append(problem("PB602", f"{where}: {key}", expected=expected, found=found, fix=_REPAIR))
    return problems


def _computed(manifest: Manifest) -> str:
    try:
        return set_fingerprint(manifest.header, manifest.items)
    except UnicodeEncodeError:  # fields of honest manifests are ASCII
        return "a fingerprint of ASCII fields"
