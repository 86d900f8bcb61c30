"""Restoring with a run of any trained method: weights are verified, sets and user images restored.

A method opens its run with `open_trained` and makes a `TrainedModel` of it, which it tells how its network
makes an image from a source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.rng import sampling_noise
from palette_bench.core.types import Image, ImageId
from palette_bench.runtime.device import open_device, reproducible_arithmetic
from palette_bench.runtime.tensors import to_pixels, to_tensor
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, UserImage
from palette_bench.submission.training_runs import trained_models

from .any_size import POLICIES, TiledNetwork, restore_any_size
from .checkpoint import TrainedRun, open_run
from .objective import HOLED
from .optimisation import require_matching_tensors
from .recipe import Recipe, read_recipe
from .unet import Predictor, UNet, flop

R = TypeVar("R", bound=Recipe)

LARGEST = 10  # magnitude in the [-1, 1] scale; beyond it the method has diverged
WINDOWS = 8  # windows per forward pass of a tiled image
TAKEN = ("run", "device", "fast", "size_policy")  # options of every trained method
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

    def tensors(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x, (N, 3, H, W) float32, and m, (N, 1, H, W) bool, which is all True without holes."""
        source = to_tensor(self.inputs, device)
        if self.masks is None or self.fill is None:
            return source, torch.ones_like(source[:, :1], dtype=torch.bool)
        mask = torch.from_numpy(np.require(self.masks, requirements="W")).to(device)[:, None]
        return torch.where(mask, self.fill.to(device), source), mask


@dataclass(frozen=True)
class OpenedRun(Generic[R]):
    """A run whose weights are loaded into its recipe's network.

    Attributes:
        run: trained weights.
        recipe: resolved recipe.
        network: the network, on the host until a `TrainedModel` is made.
        device: device that will restore.
        options: requested options.
    """

    run: TrainedRun
    recipe: R
    network: UNet
    device: torch.device
    options: RestoreOptions


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
    require_matching_tensors(network, run.tensors, str(options.run))
    network.load_state_dict(dict(run.tensors))
    return OpenedRun(run, recipe, network, device, options)


class TrainedModel:
    """A trained model, ready to restore: an `ImageRestorer`.

    Attributes:
        network: the network, on the device that computes.
        about: card entries; the version is the digest of the weights.
        identity: digest of everything that determines a pixel.
    """

    def __init__(
        self,
        opened: OpenedRun[Any],
        title: str,
        sampling: Sampling,
        restore_batch: Callable[[Predictor, ModelInput], torch.Tensor],
        choices: Mapping[str, Any] | None = None,
        paper: str | None = None,
    ) -> None:
        """Move the network to the device; compile it if --fast permits other bits.

        Args:
            opened: the run.
            title: name of the method, for cards.
            sampling: sampling entries of cards.
            restore_batch: (network, model input) -> restored images, (N, 3, H, W) float32 in the [-1, 1]
                scale; known pixels may hold any value.
            choices: what determines a pixel beside weights and `sampling`, as JSON values.
            paper: paper that describes the method.
        """
        self.network = opened.network.to(opened.device)
        if opened.options.fast:
            self.network.compile()
        self._device, self._options = opened.device, opened.options
        self._restore_batch, self._sampler = restore_batch, sampling.sampler
        run, recipe, policy = opened.run, opened.recipe, opened.options.size_policy
        self._tasks, self._side = recipe.tasks, recipe.side
        # what it was trained on is told by the weights' card, else by the recipe
        name = run.card.data if run.card else recipe.data.name
        # of forward passes at the trained size, so unknown with a size policy
        operations = None if policy else float(flop(opened.network.spec) * (sampling.steps or 1))
        tasks = "multi-task" if len(recipe.tasks) > 1 else recipe.tasks[0]
        self.about = MethodInfo(
            method=Method(
                slug=run.method,
                name=f"{title}, {tasks}, {recipe.network.preset}, {run.step:,} steps",
                version=run.sha256[:12],
                authors=("palette-bench",),
                license="Apache-2.0",
                paper=paper,
            ),
            training=Training(
                datasets=(name,) if name else (),
                saw_test_images=(run.card or recipe.data).saw_test_images,
                parameters=sum(p.numel() for p in self.network.parameters()),
                task_specific=len(recipe.tasks) == 1,
            ),
            sampling=sampling.model_copy(update={"flop_per_image": operations}),
            declared=Declared(
                uses_mask=bool(set(HOLED) & set(recipe.tasks)),
                uses_label=False,
                postprocess=policy and f"size policy {policy}: trained at {recipe.side} px",
            ),
        )
        self.identity = fingerprint(
            {
                "weights": run.sha256,
                **(choices or {}),
                "sampler": sampling.sampler,
                "steps": sampling.steps,
                "seed": sampling.seed,
                "noise": opened.options.noise,
                "fast": opened.options.fast,
                "device": opened.device.type,
                **({"size_policy": policy} if policy else {}),
            }
        )

    def accept(self, benchset: ContestantSet) -> None:
        """Raise unless the run was trained for the task and size of a set.

        Raises:
            UsageError: another task; PB302, another size without a size policy, or a policy that is not
                needed.
        """
        where = f"set {benchset.public.set_fingerprint[:12]}"
        self._accept(benchset.public.task, benchset.protocol.side, where)

    def _accept(self, task: str, side: int | None, where: str) -> None:
        """Raise unless the run was trained for a task, and for images of a side where one is given."""
        if task not in self._tasks:
            raise UsageError(f"this run was trained for {', '.join(self._tasks)}, not for {task}")
        policy = self._options.size_policy
        if side is None or (self._side == side) == (policy is None):
            return
        if policy is None:
            expected = f"{self._side} x {self._side} px, the size the run was trained at"
            fix = f"--size-policy {' or '.join(POLICIES)}: as own images are restored, and the card says so"
        else:
            expected = f"another size than the run's, for --size-policy {policy}"
            fix = "leave --size-policy out"
        raise UsageError.of("PB302", where, expected=expected, found=f"{side} x {side} px", fix=fix)

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return restored images, (N, S, S, 3) uint8; known pixels equal the input bit for bit.

        Calls with the same number of images give equal bits. With another number, a pixel differs by one
        level at most.

        Raises:
            UsageError: as `accept`.
            InputError: PB612, images that stay not finite or beyond `LARGEST`, by id.
        """
        task, policy = batch.benchset.public.task, self._options.size_policy
        self._accept(task, batch.inputs.shape[1], "the batch")
        with reproducible_arithmetic(deterministic=not self._options.fast):
            if policy is None:
                fill = (
                    None if batch.masks is None else torch.from_numpy(batch.hole_noise()).permute(0, 3, 1, 2)
                )
                model_input = ModelInput(batch.ids, batch.sample, batch.inputs, batch.masks, fill)
                return self._restored(model_input, self.network)
            masks = [None] * len(batch.ids) if batch.masks is None else batch.masks
            inputs = np.broadcast_to(batch.inputs, (*batch.inputs.shape[:3], 3))
            images = map(UserImage, batch.ids, repeat(task), inputs, masks)
            return np.stack([self._any_size(image, policy, batch.sample, warns=False) for image in images])

    def restore_image(self, image: UserImage, policy: str | None) -> Image:
        """Return an image restored at any size from 16 px, (H, W, 3) uint8; see `restore_any_size`."""
        self._accept(image.task, None, image.name)
        with reproducible_arithmetic(deterministic=not self._options.fast):
            return self._any_size(image, policy, sample=0, warns=True)

    def _any_size(self, image: UserImage, policy: str | None, sample: int, warns: bool) -> Image:
        """Return a restored image; its name and the run's seed key the noise that fills its hole."""

        def restore(canvas: UserImage, by_windows: bool) -> Image:
            masks = fill = None
            if canvas.mask is not None:
                noise = sampling_noise(self._options.seed, canvas.name, 0, _FILL, (1, 3, *canvas.mask.shape))
                masks, fill = canvas.mask[None], torch.from_numpy(noise)
            model_input = ModelInput((canvas.name,), sample, canvas.input[None], masks, fill)
            network: Predictor = self.network
            if by_windows:
                needed = model_input.tensors(self._device)[1][0, 0]
                network = TiledNetwork(network, needed, self._side, WINDOWS)
            (output,) = self._restored(model_input, network)
            return np.asarray(output)

        return restore_any_size(image, policy, restore, self._side, self.network.spec.multiple, warns)

    @torch.no_grad()
    def _restored(self, model_input: ModelInput, network: Predictor) -> NDArray[np.uint8]:
        """Return restored images, (N, H, W, 3) uint8; with --fast, repeat diverged images in float32."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._options.fast):
            images = self._restore_batch(network, model_input)
        broken = _diverged(images)
        if self._options.fast and broken.any():
            images[broken] = self._restore_batch(network, model_input)[broken]
            broken = _diverged(images)
        if broken.any():
            raise InputError.of(
                "PB612",
                self._sampler,
                expected=f"finite values within {LARGEST}",
                fix="sample with clip static or more steps, where the method samples; else train on",
                ids=[name for name, bad in zip(model_input.names, broken.tolist(), strict=True) if bad],
            )
        output = to_pixels(images)
        if model_input.masks is not None:
            output[~model_input.masks] = model_input.inputs[~model_input.masks]
        return output


def _diverged(images: torch.Tensor) -> torch.Tensor:
    """Return which images hold a value that is not finite or beyond `LARGEST`, (N,) bool."""
    # negated, because every comparison with NaN is False
    return ~(images.abs() <= LARGEST).flatten(1).all(1)
