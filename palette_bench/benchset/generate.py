"""`generate`: makes deterministic benchmark sets from images.

The fingerprint of a set does not depend on the order of work, the number of processes or shards, or on
interruptions.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

from palette_bench.benchset.foreign_masks import MaskRequest, open_masks
from palette_bench.benchset.items import SetTarget
from palette_bench.benchset.making import REPORT, FinishedSet, GenerateOptions, make_sets
from palette_bench.benchset.sources import FOLDER, Request, open_source
from palette_bench.core import atomic
from palette_bench.core.errors import SourceError, SpecError
from palette_bench.core.types import SILENT, AnyPath, Progress
from palette_bench.tasks.own_protocol import open_protocol
from palette_bench.tasks.protocol import ProtocolSpec, set_folder

log = logging.getLogger(__name__)


def generate(
    protocol: str | ProtocolSpec,
    wanted: str,
    out: AnyPath,
    *,
    request: Request = Request(),
    masks: MaskRequest | None = None,
    options: GenerateOptions = GenerateOptions(),
    progress: Progress = SILENT,
) -> list[FinishedSet]:
    """Make the sets of `TASK/VARIANT`, `TASK` or `all` under a protocol, and return them.

    Args:
        protocol: id of a shipped protocol, path of a protocol file, or an opened protocol.
        wanted: tasks and variants to make: `TASK/VARIANT`, `TASK` or `all`.
        out: folder of the set, or the parent of one folder per set.
        request: the source, and where its images are.
        masks: foreign masks to use instead of drawn ones.
        options: processes, shard, control key, verification.
        progress: callback that reports each item.

    Raises:
        SpecError: the protocol, task, variant or source is unknown, or they do not fit together.
        SourceError: the images of the source cannot be used; lists all problems, and writes all names to
            `source-report.json` in `out`.
        CodecError, BenchSetError, StorageError: see `make_sets`.
    """
    rules = open_protocol(protocol) if isinstance(protocol, str) else protocol
    out = Path(out)
    request = replace(request, id=request.id or rules.task(rules.pairs(wanted)[0][0]).sources[0])
    targets = targets_of(rules, wanted, request.id, out)
    try:
        source = open_source(rules, request, progress)
        foreign = open_masks(masks, source) if masks else None
    except SourceError as error:
        findings = [asdict(finding) for finding in error.problems]
        atomic.write_text(out / REPORT, json.dumps(findings, indent=2, ensure_ascii=False) + "\n")
        raise
    ignored = f", {source.ignored:,} others ignored" if source.ignored else ""
    log.info("source %s: %s images%s", source.id, f"{len(source.images):,}", ignored)
    return make_sets(rules, targets, source, masks=foreign, options=options, progress=progress)


def targets_of(protocol: ProtocolSpec, wanted: str, source: str, out: Path) -> list[SetTarget]:
    """Return the sets that `TASK`, `TASK/VARIANT` or `all` stands for, with their folders.

    Folder sources fit every task. Tasks that do not use the source are left out.

    Raises:
        SpecError: PB609, none of the tasks uses the source.
    """
    pairs = protocol.pairs(wanted)
    fitting = [p for p in pairs if source.startswith(FOLDER) or source in protocol.task(p[0]).sources]
    if not fitting:
        sources = ", ".join(protocol.task(pairs[0][0]).sources)
        raise SpecError.of("PB609", "source", expected=f"{sources} or folder:NAME", found=source)
    if len(pairs) == 1:
        return [SetTarget(*pairs[0], out)]
    return [SetTarget(task, variant, out / set_folder(task, variant)) for task, variant in fitting]
