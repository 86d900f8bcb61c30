"""What a contestant is: the one door through which methods are trained and run.

Methods are found by the entry-point group `palette_bench.baselines`, outside tools by
`palette_bench.adapters`; other packages plug in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import UsageError, suggest
from palette_bench.core.rng import fill, sampling_noise, stream_key
from palette_bench.core.types import SILENT, Image, ImageId, Mask, Progress
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.plugins import load_plugin

# entry-point group -> what precedes the name on the command line
GROUPS = {"palette_bench.baselines": "", "palette_bench.adapters": "adapter:"}


@dataclass(frozen=True)
class MethodInfo:
    """What a method says of itself on its card."""

    method: Method
    training: Training
    sampling: Sampling
    declared: Declared


About = MethodInfo  # the former name, for one release


@dataclass(frozen=True)
class Batch:
    """What a restorer sees of some images.

    Attributes:
        ids: N names; a short batch repeats its last image, so that all batches of a run have one size.
        inputs: (N, S, S, 3) uint8, or (N, S, S, 1) for colorization.
        masks: (N, S, S) bool, True = hole; None for tasks without holes.
        benchset: the set, as contestants see it.
        sample: which of several samples, from 0.
    """

    ids: tuple[ImageId, ...]
    inputs: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None
    benchset: ContestantSet
    sample: int = 0

    def fill(self) -> NDArray[np.float32]:
        """Return the hole's Gaussian content, (N, S, S, 3) float32 in the [-1, 1] pixel scale.

        Source: protocol, section 2; one per image, of the public set.
        """
        public = self.benchset.public
        keys = (
            stream_key(
                self.benchset.protocol.stream, public.task, public.variant, public.source, image_id, "fill"
            )
            for image_id in self.ids
        )
        return np.stack([fill(key, self.benchset.protocol.side) for key in keys])

    def noise(self, seed: int, step: int) -> NDArray[np.float32]:
        """Return (N, 3, S, S) float32 normals keyed by run seed, id, sample and step.

        Source: trust, section 1.2 (pb-noise-v1).
        """
        side = self.benchset.protocol.side
        return np.stack([sampling_noise(seed, i, self.sample, step, (3, side, side)) for i in self.ids])


@dataclass(frozen=True)
class RestoreOptions:
    """How a method shall restore; None leaves the choice to the method.

    Attributes:
        run: folder of a training run, a checkpoint, or a weights file.
        seed: of the sampling noise.
        sampler: name of the method's sampler.
        steps: network evaluations per image.
        device: "cpu", "cuda", "cuda:1".
        fast: reduced precision and compilation, level L2.
        noise: where normals are drawn; "device" is level L2.
        pipeline: class of an outside library, for methods that run one.
        size_policy: how a set of another size than the trained one is met; None refuses it.
    """

    run: Path | None = None
    seed: int = 0
    sampler: str | None = None
    steps: int | None = None
    device: str = "cpu"
    fast: bool = False
    noise: Literal["host", "device"] = "host"
    pipeline: str | None = None
    size_policy: str | None = None

    def refuse_all_but(self, *taken: str) -> None:
        """Refuse what was asked of a method that does not take it: an option never does nothing.

        Raises:
            UsageError: names the options.
        """
        given = [f.name for f in fields(self) if f.name not in taken and getattr(self, f.name) != f.default]
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"this method does not take {names}")


@dataclass(frozen=True)
class TrainOptions:
    """What to train on what.

    Attributes:
        task: a task's name, or "multi".
        data: folders, lists, tar shards or packs.
        run: folder of the run; an existing one is resumed.
        recipe: name of one of the method's recipes or a TOML file; None takes the task's own.
        init: weights to start from, and their kind.
        seed: of every training draw.
        device: as `RestoreOptions`.
        workers: processes that prepare images.
        steps: length of the run instead of the recipe's; the schedule of the rate is fitted to it.
        deterministic: level L0 settings.
        override: resume although the recipe changed; recorded.
        until: stop once so many steps are done, to go on another time; the schedule stays that of `steps`.
        threads: of arithmetic on a CPU; None takes what the machine grants this process.
        unreadable: images that may be passed over; None: 0.1 % of all.
        force: train although memory or space are too small.
    """

    task: str
    data: tuple[Path, ...]
    run: Path
    recipe: str | None = None
    init: Path | None = None
    init_kind: str | None = None
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    steps: int | None = None
    deterministic: bool = False
    override: bool = False
    until: int | None = None
    threads: int | None = None
    unreadable: int | None = None
    force: bool = False


@dataclass(frozen=True)
class UserImage:
    """A person's own image, any size.

    Attributes:
        name: keys the noise.
        task: a task's name.
        input: (H, W, 3) uint8; 127 in the hole.
        mask: (H, W) bool, True = hole; None for tasks without holes.
    """

    name: str
    task: str
    input: Image
    mask: Mask | None


class Restorer(Protocol):
    """A model ready to restore."""

    @property
    def about(self) -> MethodInfo:
        """Return what it says of itself, knowing its weights and sampler."""

    @property
    def identity(self) -> str:
        """Return a digest or text of everything that decides a pixel; outputs of two are never mixed."""

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return (N, S, S, 3) uint8, row i for `batch.ids[i]`."""


@runtime_checkable
class SelectiveRestorer(Restorer, Protocol):
    """A restorer that is not made for every set."""

    def accept(self, benchset: ContestantSet) -> None:
        """Refuse a set it is not made for, before anything is written."""


@runtime_checkable
class ImageRestorer(Restorer, Protocol):
    """A restorer that also takes images of any size."""

    def restore_image(self, image: UserImage, policy: str | None) -> Image:
        """Return (H, W, 3) uint8; `policy` is one of "tile", "scale", "native", None for the task's own."""


class Baseline(Protocol):
    """A contestant, found by the entry-point group `palette_bench.baselines`."""

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return the model, ready."""


class Trainable(Baseline, Protocol):
    """A contestant that can be trained."""

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the recipes that come with it."""

    def train(self, options: TrainOptions, progress: Progress = SILENT) -> None:
        """Train, or resume, into `options.run`."""


def baselines() -> dict[str, EntryPoint]:
    """Return the installed contestants by name, not yet imported."""
    return {
        f"{prefix}{point.name}": point
        for group, prefix in GROUPS.items()
        for point in entry_points(group=group)
    }


def load_baseline(name: str) -> Baseline:
    """Import a contestant.

    Raises:
        UsageError: it is not installed, or two packages bring one of this name.
        MethodError: PB613, it cannot be imported, or is no method.
    """
    known = baselines()
    if name not in known:
        raise UsageError(f"no method {name!r} is installed: {suggest(name, known)}")
    group, prefix = next((g, p) for g, p in reversed(GROUPS.items()) if name.startswith(p))
    bring = {point.value for point in entry_points(group=group, name=name.removeprefix(prefix))}
    if len(bring) > 1:
        raise UsageError(f"several packages bring the method {name!r}: {', '.join(sorted(bring))}; keep one")
    baseline: Baseline = load_plugin(name, known[name])
    return baseline


def load_image_restorer(name: str, options: RestoreOptions) -> ImageRestorer:
    """Return a contestant ready for images of any size.

    Raises:
        UsageError: it is not installed, or restores benchmark sets only.
    """
    restorer = load_baseline(name).restorer(options)
    if not isinstance(restorer, ImageRestorer):
        raise UsageError(f"{name} restores benchmark sets only: it does not take images of any size")
    return restorer


@dataclass(frozen=True)
class ToolOptions:
    """How a tool works with files; None takes the adapter's own.

    Attributes:
        hole_value: level of mask pixels to fill.
        template: name of a result, with `{id}` in it.
        tool_size: side the tool works at, pixels: inputs are enlarged, results reduced.
        accept_lossy: JPEG results are taken.
    """

    hole_value: int | None = None
    template: str | None = None
    tool_size: int | None = None
    accept_lossy: bool = False


@runtime_checkable
class Adapter(Protocol):
    """One tool's layout."""

    def export(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> None:
        """Write inputs and masks as the tool reads them; nothing else of the set is looked at."""

    def results(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> Restorer:
        """Return the tool's results, checked, behind the interface of a model."""


def load_adapter(name: str) -> Adapter:
    """Import an adapter.

    Raises:
        UsageError: it is not installed, or is a method that runs by itself.
    """
    adapter = load_baseline(name)
    if not isinstance(adapter, Adapter):
        known = ", ".join(sorted(point for point in baselines() if point.startswith("adapter:")))
        raise UsageError(f"{name} runs by itself: --export and --import are for adapters ({known})")
    return adapter
