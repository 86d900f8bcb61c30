"""Restoring with a run of any trained method: weights are verified, sets and user images restored.

A method adds its `SamplingMethod`: how its network makes an image from a source, and what cards say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import InputError, UsageError, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.rng import sampling_noise
from palette_bench.core.types import Image, ImageId
from palette_bench.runtime.device import open_device, reproducible_arithmetic
from palette_bench.runtime.tensors import to_pixels, to_tensor
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, UserImage
from palette_bench.submission.training_runs import trained_models

from .any_size import POLICIES, ModelFit, Network, TiledNetwork, restore_any_size
from .objective import HOLED
from .optimisation import prove
from .recipe import DataOptions, Recipe, read_recipe
from .unet import UNet, flop
from .weights import TrainedRun, open_run

_FILL = -1  # the noise "step" whose normals fill the holes of user images


@dataclass(frozen=True)
class ModelInput:
    """Images to restore, on the host.

    Attributes:
        names: N names, which key the noise.
        sample: index of the sample, from 0, where an input has several.
        inputs: (N, H, W, 1 or 3) uint8.
        masks: (N, H, W) bool, True = hole; None without holes.
        fill: (N, 3, H, W) float32 content of the holes, N(0, 1); None without holes.
    """

    names: tuple[ImageId, ...]
    sample: int
    inputs: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None
    fill: torch.Tensor | None

    @classmethod
    def of_batch(cls, batch: Batch) -> ModelInput:
        """Return the model input of a batch, with its holes filled as the protocol specifies."""
        fill = None if batch.masks is None else torch.from_numpy(batch.fill()).permute(0, 3, 1, 2)
        return cls(batch.ids, batch.sample, batch.inputs, batch.masks, fill)

    @classmethod
    def of_image(cls, image: UserImage, seed: int, sample: int = 0) -> ModelInput:
        """Return the model input of an image of any size; its name and the run's seed key the hole's fill."""
        inputs = image.input[None]
        if image.mask is None:
            return cls((image.name,), sample, inputs, None, None)
        fill = sampling_noise(seed, image.name, 0, _FILL, (1, 3, *image.mask.shape))
        return cls((image.name,), sample, inputs, image.mask[None], torch.from_numpy(fill))

    def tensors(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x, (N, 3, H, W) float32, and m, (N, 1, H, W) bool, which is all True without holes."""
        source = to_tensor(self.inputs, device)
        if self.masks is None or self.fill is None:
            return source, torch.ones_like(source[:, :1], dtype=torch.bool)
        mask = torch.from_numpy(np.require(self.masks, requirements="W")).to(device)[:, None]
        return torch.where(mask, self.fill.to(device), source), mask

    def answer(self, images: torch.Tensor) -> NDArray[np.uint8]:
        """Return restored images, (N, 3, H, W) in [-1, 1], as (N, H, W, 3) uint8, known pixels unchanged."""
        output = to_pixels(images)
        if self.masks is not None:
            known = ~self.masks
            output[known] = self.inputs[known]
        return output


R = TypeVar("R", bound=Recipe)

LARGEST = 10  # magnitude in the [-1, 1] scale; beyond it the method has diverged
WINDOWS = 8  # windows per forward pass of a tiled image
TAKEN = ("run", "device", "fast", "size_policy")  # options of every trained method


@dataclass(frozen=True)
class OpenedRun(Generic[R]):
    """A run whose weights are loaded into its recipe's network.

    Attributes:
        run: trained weights.
        recipe: resolved recipe.
        network: the network, on the host until `ready`.
        device: device that will restore.
        options: requested options.
    """

    run: TrainedRun
    recipe: R
    network: UNet
    device: torch.device
    options: RestoreOptions


@dataclass(frozen=True)
class SamplingMethod:
    """How a method restores with its network.

    Attributes:
        title: name of the method, for cards.
        sampling: sampling entries of cards.
        answer: (network, model input) -> restored images, (N, 3, H, W) float32 in the [-1, 1] scale; known
            pixels may hold any value.
        choices: what determines a pixel beside weights and `sampling`, as JSON values.
        paper: paper that describes the method.
    """

    title: str
    sampling: Sampling
    answer: Callable[[Network, ModelInput], torch.Tensor]
    choices: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None


def open_trained(method: str, model: type[R], options: RestoreOptions) -> OpenedRun[R]:
    """Return a run of a method, with its averaged weights loaded into the network.

    Raises:
        UsageError: no run is given, or the run belongs to another method.
        StorageError: PB801; WeightsError: PB705, PB712; DeviceError: PB707.
    """
    if options.run is None:
        raise UsageError(
            f"{method} needs trained weights: give --run RUN, a folder that `train {method}` filled"
            + "".join(f", or --run {name}" for name in trained_models() if name.startswith(f"{method}-"))
        )
    run = open_run(options.run)
    if run.method != method:
        raise UsageError(f"{options.run} was trained as {run.method}: restore it with that method")
    recipe = read_recipe(model, run.recipe, str(options.run))
    device = open_device(options.device)
    network = UNet(recipe.network.spec).eval().requires_grad_(False)
    prove(network, run.tensors, str(options.run))
    network.load_state_dict(dict(run.tensors))
    return OpenedRun(run, recipe, network, device, options)


def ready(opened: OpenedRun[Any], sampling_method: SamplingMethod) -> TrainedModel:
    """Return the model with its network on the device, compiled if --fast permits other bits."""
    opened.network.to(opened.device)
    if opened.options.fast:
        opened.network.compile()
    return TrainedModel(opened, sampling_method)


def about(opened: OpenedRun[Any], sampling_method: SamplingMethod) -> MethodInfo:
    """Return the card entries of the model; its version is the digest of the weights."""
    run, recipe, policy = opened.run, opened.recipe, opened.options.size_policy
    data = _data(run, recipe)
    tasks = "multi-task" if len(recipe.tasks) > 1 else recipe.tasks[0]
    return MethodInfo(
        method=Method(
            slug=run.method,
            name=f"{sampling_method.title}, {tasks}, {recipe.network.preset}, {run.step:,} steps",
            version=run.sha256[:12],
            authors=("palette-bench",),
            license="Apache-2.0",
            paper=sampling_method.paper,
        ),
        training=Training(
            datasets=(data.name,) if data.name else (),
            saw_test_images=data.saw_test_images,
            parameters=sum(p.numel() for p in opened.network.parameters()),
            task_specific=len(recipe.tasks) == 1,
        ),
        sampling=sampling_method.sampling.model_copy(
            update={"flop_per_image": _cost(opened, sampling_method)}
        ),
        declared=Declared(
            uses_mask=bool(set(HOLED) & set(recipe.tasks)),
            uses_label=False,
            postprocess=policy and f"size policy {policy}: trained at {recipe.side} px",
        ),
    )


def _data(run: TrainedRun, recipe: Recipe) -> DataOptions:
    """Return what is known of the training images: from the weights' card, else from the recipe."""
    card = run.card
    return DataOptions(name=card.data, saw_test_images=card.saw_test_images) if card else recipe.data


def _cost(opened: OpenedRun[Any], sampling_method: SamplingMethod) -> float | None:
    """Return the FLOP per image at the trained size, forward passes only; None with a size policy."""
    if opened.options.size_policy:
        return None
    return float(flop(opened.network.spec) * (sampling_method.sampling.steps or 1))


class TrainedModel:
    """A trained model, ready to restore: an `ImageRestorer`.

    Args:
        opened: the run, with its network on the device that computes.
        manner: how the method restores.
    """

    def __init__(self, opened: OpenedRun[Any], sampling_method: SamplingMethod) -> None:
        self._opened = opened
        self._manner = sampling_method
        self.about = about(opened, sampling_method)
        sampling, options = sampling_method.sampling, opened.options
        self.identity = fingerprint(
            {
                "weights": opened.run.sha256,
                **sampling_method.choices,
                "sampler": sampling.sampler,
                "steps": sampling.steps,
                "seed": sampling.seed,
                "noise": options.noise,
                "fast": options.fast,
                "device": opened.device.type,
                **({"size_policy": options.size_policy} if options.size_policy else {}),
            }
        )

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return restored images, (N, S, S, 3) uint8; known pixels equal the input bit for bit.

        Calls with the same number of images give equal bits. With another number, a pixel differs by one
        level at most.

        Raises:
            UsageError: as `accept`.
            InputError: PB612, images that stay not finite or beyond `LARGEST`, by id.
        """
        self._accept(batch.benchset.public.task)
        self._accept_size(batch.inputs.shape[1], "the batch")
        policy = self._opened.options.size_policy
        with self._computing():
            if policy is None:
                return self._answer(ModelInput.of_batch(batch), self._opened.network)
            task = batch.benchset.public.task
            masks = [None] * len(batch.ids) if batch.masks is None else batch.masks
            inputs = np.broadcast_to(batch.inputs, (*batch.inputs.shape[:3], 3))
            images = map(UserImage, batch.ids, repeat(task), inputs, masks)
            fit = self._fit(batch.sample, warns=False)
            return np.stack([restore_any_size(image, policy, fit) for image in images])

    def accept(self, benchset: ContestantSet) -> None:
        """Raise unless the run was trained for the task and size of a set.

        Raises:
            UsageError: another task; PB302, another size without a size policy, or a policy that is not
                needed.
        """
        self._accept(benchset.public.task)
        self._accept_size(benchset.protocol.side, f"set {benchset.public.set_fingerprint[:12]}")

    def _accept_size(self, side: int, where: str) -> None:
        trained = self._opened.recipe.side
        policy = self._opened.options.size_policy
        if (trained == side) == (policy is None):
            return
        if policy is None:
            expected = f"{trained} x {trained} px, the size the run was trained at"
            fix = f"--size-policy {' or '.join(POLICIES)}: as own images are restored, and the card says so"
        else:
            expected = f"another size than the run's, for --size-policy {policy}"
            fix = "leave --size-policy out"
        raise UsageError(problem("PB302", where, expected=expected, found=f"{side} x {side} px", fix=fix))

    def restore_image(self, image: UserImage, policy: str | None) -> Image:
        """Return an image restored at any size from 16 px, (H, W, 3) uint8; see `restore_any_size`."""
        self._accept(image.task)
        with self._computing():
            return restore_any_size(image, policy, self._fit(sample=0, warns=True))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Disable gradients; unless --fast was given, use kernels with reproducible bits."""
        with reproducible_arithmetic(deterministic=not self._opened.options.fast), torch.no_grad():
            yield

    def _fit(self, sample: int, warns: bool) -> ModelFit:
        spec = self._opened.network.spec
        return ModelFit(spec.side, spec.multiple, partial(self._restore_canvas, sample), warns)

    def _restore_canvas(self, sample: int, image: UserImage, by_windows: bool) -> Image:
        """Return a restored image; with `by_windows` it may have any size from the trained one up."""
        question = ModelInput.of_image(image, self._opened.options.seed, sample)
        network: Network = self._opened.network
        if by_windows:
            needed = question.tensors(self._opened.device)[1][0, 0]
            network = TiledNetwork(network, needed, self._opened.recipe.side, WINDOWS)
        answer: Image = self._answer(question, network)[0]
        return answer

    def _accept(self, task: str) -> None:
        tasks = self._opened.recipe.tasks
        if task not in tasks:
            raise UsageError(f"this run was trained for {', '.join(tasks)}, not for {task}")

    def _answer(self, question: ModelInput, network: Network) -> NDArray[np.uint8]:
        """Return restored images, (N, H, W, 3) uint8; with --fast, repeat diverged images in float32."""
        fast = self._opened.options.fast
        images = self._images(question, network, fast)
        broken = _diverged(images)
        if fast and broken.any():
            images[broken] = self._images(question, network, fast=False)[broken]
            broken = _diverged(images)
        if broken.any():
            raise InputError(
                problem(
                    "PB612",
                    self._manner.sampling.sampler,
                    expected=f"finite values within {LARGEST}",
                    fix="sample with clip static or more steps, where the method samples; else train on",
                    ids=[name for name, bad in zip(question.names, broken.tolist(), strict=True) if bad],
                )
            )
        return question.answer(images)

    def _images(self, question: ModelInput, network: Network, fast: bool) -> torch.Tensor:
        """Return the method's images, (N, 3, H, W) float32."""
        with torch.autocast(self._opened.device.type, torch.bfloat16, enabled=fast):
            return self._manner.answer(network, question)


def _diverged(images: torch.Tensor) -> torch.Tensor:
    """Return which images hold a value that is not finite or beyond `LARGEST`, (N,) bool."""
    # negated, because every comparison with NaN is False
    return ~(images.abs() <= LARGEST).flatten(1).all(1)
