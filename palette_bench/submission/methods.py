"""Interfaces of methods and adapters: all methods are trained and run through them.

Installed methods are found by the entry-point group `palette_bench.baselines`, adapters of outside tools by
`palette_bench.adapters`. Other packages register theirs in the same groups.
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
from palette_bench.core.rng import hole_noise, sampling_noise, stream_key
from palette_bench.core.types import SILENT, Image, ImageId, Mask, Progress
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.plugins import load_plugin

# entry-point group -> prefix of the name on the command line
GROUPS = {"palette_bench.baselines": "", "palette_bench.adapters": "adapter:"}


@dataclass(frozen=True)
class MethodInfo:
    """The sections of the card that a method fills in about itself."""

    method: Method
    training: Training
    sampling: Sampling
    declared: Declared


About = MethodInfo  # the former name, for one release


@dataclass(frozen=True)
class Batch:
    """Input of a restorer: N images of a set.

    Attributes:
        ids: N image ids. A short batch repeats its last image, so that all batches of a run have the same
            size.
        inputs: (N, S, S, 3) uint8, or (N, S, S, 1) for colorization.
        masks: (N, S, S) bool, True = hole; None for tasks without holes.
        benchset: the public part of the set.
        sample: index of the sample, from 0, if there are several outputs per image.
    """

    ids: tuple[ImageId, ...]
    inputs: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None
    benchset: ContestantSet
    sample: int = 0

    def hole_noise(self) -> NDArray[np.float32]:
        """Return Gaussian noise to fill the holes with, (N, S, S, 3) float32 in the [-1, 1] pixel scale.

        The noise depends only on the image id and the public set. Source: protocol, section 2.
        """
        public = self.benchset.public
        keys = (
            stream_key(
                self.benchset.protocol.stream, public.task, public.variant, public.source, image_id, "fill"
            )
            for image_id in self.ids
        )
        return np.stack([hole_noise(key, self.benchset.protocol.side) for key in keys])

    def noise(self, seed: int, step: int) -> NDArray[np.float32]:
        """Return standard normal noise, (N, 3, S, S) float32, keyed per image by seed, id, sample and step.

        Source: trust, section 1.2 (pb-noise-v1).
        """
        side = self.benchset.protocol.side
        return np.stack([sampling_noise(seed, i, self.sample, step, (3, side, side)) for i in self.ids])


@dataclass(frozen=True)
class RestoreOptions:
    """Options of restoring; None leaves the choice to the method.

    Attributes:
        run: folder of a training run, a checkpoint, or a weights file.
        seed: seed of the sampling noise.
        sampler: name of one of the method's samplers.
        steps: network evaluations per image.
        device: "cpu", "cuda", "cuda:1".
        fast: use reduced precision and compilation (reproducibility level L2).
        noise: where normals are drawn; "device" is reproducibility level L2.
        pipeline: name of a pipeline class, for methods that run an outside library.
        size_policy: how to restore a set whose size differs from the trained one; None refuses such a set.
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
        """Reject options that the method does not support, instead of ignoring them silently.

        Args:
            taken: names of the options that the method supports.

        Raises:
            UsageError: another option differs from its default; lists all such options.
        """
        given = [f.name for f in fields(self) if f.name not in taken and getattr(self, f.name) != f.default]
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"this method does not take {names}")


@dataclass(frozen=True)
class TrainOptions:
    """Options of training.

    Attributes:
        task: name of a task, or "multi".
        data: folders, lists, tar shards or packs with the training images.
        run: folder of the run; an existing run is resumed.
        recipe: name of one of the method's recipes, or a TOML file; None uses the recipe of the task.
        init: weights to start from.
        init_kind: kind of the weights in `init`, e.g. of a published file; None for our own.
        seed: seed of all random draws of the training.
        device: as in `RestoreOptions`.
        workers: number of processes that prepare images.
        steps: length of the run, instead of the recipe's; the learning-rate schedule is fitted to it.
        deterministic: use the settings of reproducibility level L0.
        override: resume although the recipe changed; the run records it.
        until: stop after this many steps, to resume later; the schedule still has the length of `steps`.
        threads: CPU threads for arithmetic; None uses the processors granted to this process.
        unreadable: number of unreadable images to tolerate; None for 0.1 % of all.
        force: train although memory or disk space is too small.
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
    """An image of the user, of any size.

    Attributes:
        name: name that keys the sampling noise.
        task: name of the task.
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
        """Return the card sections of this method, with its actual weights and sampler."""

    @property
    def identity(self) -> str:
        """Return a digest or text of everything that determines the pixels.

        A submission never mixes outputs of different identities.
        """

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the restored images, (N, S, S, 3) uint8; row i belongs to `batch.ids[i]`."""


@runtime_checkable
class SelectiveRestorer(Restorer, Protocol):
    """A restorer that does not support every set."""

    def accept(self, benchset: ContestantSet) -> None:
        """Raise unless the restorer supports the set; called before anything is written."""


@runtime_checkable
class ImageRestorer(Restorer, Protocol):
    """A restorer that also restores images of any size."""

    def restore_image(self, image: UserImage, policy: str | None) -> Image:
        """Return the restored image, (H, W, 3) uint8.

        Args:
            image: the image to restore.
            policy: "tile", "scale", "native", or None for the default of the task.
        """


class Baseline(Protocol):
    """A method, found by the entry-point group `palette_bench.baselines`."""

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return a restorer with loaded weights."""


class Trainable(Baseline, Protocol):
    """A method that can be trained."""

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the recipes that are installed with the method."""

    def train(self, options: TrainOptions, progress: Progress = SILENT) -> None:
        """Start or resume the training run in the folder `options.run`."""


def baselines() -> dict[str, EntryPoint]:
    """Return name -> entry point of the installed methods and adapters, without importing them."""
    return {
        f"{prefix}{point.name}": point
        for group, prefix in GROUPS.items()
        for point in entry_points(group=group)
    }


def load_baseline(name: str) -> Baseline:
    """Import and return an installed method or adapter.

    Raises:
        UsageError: it is not installed, or several packages provide one of this name.
        MethodError: PB613, it cannot be imported, or it is not a method.
    """
    known = baselines()
    if name not in known:
        raise UsageError(f"no method {name!r} is installed: {suggest(name, known)}")
    group, prefix = next((g, p) for g, p in reversed(GROUPS.items()) if name.startswith(p))
    bring = {point.value for point in entry_points(group=group, name=name.removeprefix(prefix))}
    if len(bring) > 1:
        raise UsageError(
            f"several packages provide the method {name!r}: {', '.join(sorted(bring))}; keep one"
        )
    baseline: Baseline = load_plugin(name, known[name])
    return baseline


def load_image_restorer(name: str, options: RestoreOptions) -> ImageRestorer:
    """Return a method's restorer for images of any size.

    Raises:
        UsageError: the method is not installed, or restores benchmark sets only.
    """
    restorer = load_baseline(name).restorer(options)
    if not isinstance(restorer, ImageRestorer):
        raise UsageError(f"{name} restores benchmark sets only: it does not take images of any size")
    return restorer


# --- adapters of outside tools ------------------------------------------------------------------


@dataclass(frozen=True)
class ToolOptions:
    """File conventions of an outside tool; None uses the adapter's default.

    Attributes:
        hole_value: level of the mask pixels that the tool fills.
        template: file name of a result, with `{id}` in it.
        tool_size: height and width in pixels that the tool works at; inputs are enlarged to this size, and
            results reduced from it.
        accept_lossy: accept JPEG results.
    """

    hole_value: int | None = None
    template: str | None = None
    tool_size: int | None = None
    accept_lossy: bool = False


@runtime_checkable
class Adapter(Protocol):
    """Conversion between a set and the files of an outside tool."""

    def export(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> None:
        """Write the inputs and masks in the tool's format; no other part of the set is read."""

    def results(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> Restorer:
        """Check the tool's results, and return a restorer that serves them as outputs."""


def load_adapter(name: str) -> Adapter:
    """Import and return an installed adapter.

    Raises:
        UsageError: it is not installed, or it is a method that runs by itself.
        MethodError: PB613, it cannot be imported.
    """
    adapter = load_baseline(name)
    if not isinstance(adapter, Adapter):
        known = ", ".join(sorted(point for point in baselines() if point.startswith("adapter:")))
        raise UsageError(f"{name} runs by itself: --export and --import are for adapters ({known})")
    return adapter
