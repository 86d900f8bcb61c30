"""What the shards of a scoring run have measured: a journal for each shard, and features by content.

The folder lies beside the card, so a shared file system needs no shared cache. Everything in it is found by
the digests of the pixels that were read; an output that has changed since is therefore measured again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.journal import WHOLE, Journal, Shard
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.features.cache import ArrayCache
from palette_bench.scoring.features.extractor import MICRO_BATCH
from palette_bench.scoring.metrics.diagnostics import DiagnosticReading
from palette_bench.scoring.outputs import MeasuredOutput
from palette_bench.scoring.scoring_plan import ScoringPlan
from palette_bench.tasks import canary


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of a card: CARD.parts beside CARD.json."""
    return out.with_suffix(".parts")


@dataclass(frozen=True)
class FinishedParts:
    """What the shards of a run have left.

    Attributes:
        outputs: id and pixel digest of an output -> its readings.
        distances: key of `distances_key` -> distances between the samples of an image, or to its original.
        features: features of single micro-batches by `cache_key`; None without shards.
    """

    outputs: Mapping[tuple[ImageId, Fingerprint], MeasuredOutput] = field(default_factory=dict)
    distances: Mapping[str, Sequence[float]] = field(default_factory=dict)
    features: ArrayCache | None = None


NO_PARTS = FinishedParts()


@dataclass(frozen=True)
class ScoreParts:
    """The folder of parts of one card.

    Attributes:
        folder: the folder.
        header: what all shards must share.
        batch: images of a micro-batch, which never is split between shards.
    """

    folder: Path
    header: dict[str, Any]
    batch: int

    @classmethod
    def of(cls, plan: ScoringPlan, folder: Path) -> ScoreParts:
        """Return the parts of a planned run."""
        kind = plan.device.partition(":")[0]
        batch = next((e.micro_batch for e in plan.used), MICRO_BATCH["cpu"])
        header = {
            "palette_bench": canary.environment()["palette_bench"],  # readings are of its definitions
            "set": plan.target.manifest.set_fingerprint,
            "n": plan.target.manifest.n,
            "extractors": fingerprint(sorted(e.fingerprint for e in plan.used)),
            "diagnostics": fingerprint(sorted(row.id for row in plan.selection.diagnostics)),
            "distances": fingerprint(sorted(row.id for row in plan.selection.distances)),
            "diversities": fingerprint(sorted(row.id for row in plan.selection.diversities)),
            "device": kind,
            "batch": batch,
        }
        return cls(folder, header, batch)

    def journal(self, shard: Shard = WHOLE) -> Journal:
        """Return the journal of a shard, with the entries of all.

        Raises:
            InputError: PB605, the parts are those of another set or of other networks or metrics.
        """
        return Journal(self.folder, self.header, shard)

    def features(self, *, fresh: bool = False) -> ArrayCache:
        """Return the features of micro-batches."""
        return ArrayCache("features", fresh=fresh, folder=self.folder)

    def finished(self) -> FinishedParts:
        """Return what all shards have left so far."""
        entries = self.journal().entries.values()
        outputs = {(entry["id"], entry["px"]): _measured(entry) for entry in entries}
        distances = {
            key: [*map(float.fromhex, row)] for entry in entries for key, row in entry["distances"].items()
        }
        return FinishedParts(outputs, distances, self.features())


def entry_of(
    output: Fingerprint, measured: MeasuredOutput, distances: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return the journal entry of an output with the digest `output`; its numbers keep all their bits."""
    readings = {
        name: [one.value.hex(), one.largest, [value.hex() for value in one.detail]]
        for name, one in measured.readings.items()
    }
    return {
        "id": measured.image_id,
        "px": output,
        "scored": measured.digest,
        "readings": readings,
        "distances": {key: [float(value).hex() for value in row] for key, row in distances.items()},
    }


def _measured(entry: Mapping[str, Any]) -> MeasuredOutput:
    readings = {
        name: DiagnosticReading(float.fromhex(value), largest, tuple(map(float.fromhex, detail)))
        for name, (value, largest, detail) in entry["readings"].items()
    }
    return MeasuredOutput(entry["id"], entry["scored"], readings, intact=True)
