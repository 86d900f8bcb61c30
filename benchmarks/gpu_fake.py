"""The GPU's code on a machine without one: `gpu_check.py --fake`.

Torch's fake tensors have a device, a shape and a dtype and hold no numbers. Under them the product's own
code runs on device "cuda": an operation that mixes devices, or that asks a GPU tensor for NumPy's view, fails
as it would on a GPU, and so does one without a deterministic kernel. What a GPU computes is not shown, nor
what its driver says: torch.cuda gives the answers of a pretended device, extractors are opened on the CPU and
moved, nothing is compiled, and a number read from a tensor is 1. Every line of a function that names "cuda"
is a branch; it tells those that ran from those that did not.
"""

from __future__ import annotations

import ast
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from palette_bench.baselines.gan.objective import GanObjective, GanRecipe
from palette_bench.baselines.palette import restore as palette_restore
from palette_bench.baselines.palette.diffusion import DenoisingObjective, Diffusion, PaletteRecipe
from palette_bench.baselines.palette.samplers import SAMPLERS, plan_for
from palette_bench.baselines.regression.method import RegressionObjective, RegressionRecipe
from palette_bench.baselines.training.dataset import HostBatch
from palette_bench.baselines.training.draws import KeyedDraws
from palette_bench.baselines.training.loader import to_examples
from palette_bench.baselines.training.optimisation import NetworkTrainer
from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.recipe import read_recipe
from palette_bench.baselines.training.resources import memory_available
from palette_bench.baselines.training.restorer import open_trained
from palette_bench.baselines.training.unet import UNet, sinusoids
from palette_bench.runtime import device as arithmetic
from palette_bench.runtime import distributed
from palette_bench.scoring import card as scorecards
from palette_bench.scoring import compat
from palette_bench.scoring.features import canary, open_extractor, open_pair_distance
from palette_bench.scoring.features.extractor import find_precision
from palette_bench.scoring.features.preprocess import MODES
from palette_bench.submission import cost
from palette_bench.submission.methods import Batch, RestoreOptions, UserImage

ROOT = Path(__file__).resolve().parents[1]
GPU = torch.device("cuda", 0)
SIDE, BATCH = 16, 2  # of palette-toy
PINNED = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}


# Operations that raise on a GPU under `torch.use_deterministic_algorithms`, whose documentation lists them.
UNDETERMINED = {
    *("avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
    *("adaptive_max_pool2d_backward", "max_unpool2d", "max_unpool3d"),
    *("fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "grid_sampler_2d_backward"),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "reflection_pad1d_backward", "reflection_pad3d_backward"),
    *("nll_loss2d_forward", "_ctc_loss_backward", "put_", "histc", "kthvalue"),
}


# a pretended GPU


class NumbersOfFakes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers what a fake tensor cannot: 1 for a number, False for a truth value (nothing is broken).

    It also refuses, as a GPU's kernels do, what has no deterministic kernel where only such are allowed.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or answer for it."""
        name = func.overloadpacket.__name__
        on_gpu = any(isinstance(a, torch.Tensor) and a.device.type == "cuda" for a in args)
        if name in UNDETERMINED and on_gpu and torch.are_deterministic_algorithms_enabled():
            raise RuntimeError(f"{name} has no deterministic kernel on cuda")
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return False if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1
        return func(*args, **(kwargs or {}))


class AtOnce:
    """An executor without a thread: fake tensors live in one thread."""

    def __init__(self, *arguments: object) -> None:
        """Take and ignore the number of threads."""

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: object) -> Future[Any]:
        """Do the work and return its result as a future."""
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


def as_numpy(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
    """Return zeros in the place of a fake tensor's numbers; a GPU tensor has none, as on a GPU."""
    if not isinstance(tensor, FakeTensor):
        return _REAL_NUMPY(tensor, *arguments, **options)
    if tensor.device.type != "cpu":
        raise TypeError(f"numpy() of a tensor on {tensor.device}: copy it to the CPU first")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).partition(".")[2])


def moved(
    module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
) -> nn.Module:
    """Apply what `to` applies, with new parameters: torch cannot swap fake ones in place."""
    for child in module.children():
        moved(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


# gradients: torch's engine asks the driver for streams, so that its nodes are called here one by one


def inner_nodes(root: Any) -> list[Any]:
    """Return the nodes below and with a root, every one before those that it passes gradients to."""
    seen: set[Any] = set()
    done: list[Any] = []
    stack = [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(after, False) for after, _ in node.next_functions if after is not None]
    return done[::-1]


def gradients(output: torch.Tensor, create_graph: bool = False) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the leaves below an output with their gradients.

    Raises:
        RuntimeError: a gradient is on another device than what it is the gradient of.
    """
    found = []
    root = output.grad_fn
    waiting: dict[Any, dict[int, torch.Tensor]] = {root: {output.output_nr: torch.ones_like(output)}}
    for node in inner_nodes(root):
        given = waiting.pop(node, {})
        if not given:
            continue
        if hasattr(node, "variable"):  # a leaf
            found.append((node.variable, given[0]))
            continue
        with torch.set_grad_enabled(create_graph):
            made = node(*(given.get(i) for i in range(len(node._input_metadata))))
            made = made if isinstance(made, tuple) else (made,)
            for (after, slot), gradient in zip(node.next_functions, made, strict=True):
                if after is not None and gradient is not None:
                    there = waiting.setdefault(after, {})
                    fitted = fitting(gradient, after._input_metadata[slot], node.name())
                    there[slot] = there[slot] + fitted if slot in there else fitted
    return found


def fitting(gradient: torch.Tensor, wanted: Any, where: str) -> torch.Tensor:
    """Return a gradient in the dtype and shape of what it belongs to, as the engine does."""
    if gradient.device != wanted.device:
        raise RuntimeError(f"{where}: a gradient on {gradient.device} of a tensor on {wanted.device}")
    shape = tuple(wanted.shape)
    return (gradient if gradient.shape == shape else gradient.sum_to_size(shape)).to(wanted.dtype)


def backward(tensor: torch.Tensor, *arguments: Any, **options: Any) -> None:
    """Do what `Tensor.backward` does."""
    with torch.no_grad():
        for leaf, gradient in gradients(tensor):
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


def grad(outputs: Any, inputs: Any, create_graph: bool = False, **options: Any) -> tuple[torch.Tensor, ...]:
    """Do what `torch.autograd.grad` does, of leaves."""
    output, wanted = (x if isinstance(x, torch.Tensor) else x[0] for x in (outputs, inputs))
    return tuple(gradient for leaf, gradient in gradients(output, create_graph) if leaf is wanted)


_REAL_NUMPY = torch.Tensor.numpy


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Pretend that this machine has one GPU, in this thread; nothing is computed on it."""
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_bf16_supported": True,
        "get_device_capability": (9, 0),
        "get_device_name": "a pretended GPU",
        "mem_get_info": (1 << 36, 1 << 37),
        "max_memory_allocated": 1 << 30,
        "set_device": None,
        "synchronize": None,
        "_lazy_init": None,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *a, _answer=answer, **k: _answer))
        # where a GPU is at hand, fake tensors would ask its driver
        stack.enter_context(mock.patch.object(FakeTensorMode, "avoid_device_init", True))
        stack.enter_context(mock.patch.object(torch.Tensor, "numpy", as_numpy))
        stack.enter_context(mock.patch.object(torch.Tensor, "backward", backward))
        stack.enter_context(mock.patch.object(torch.autograd, "grad", grad))
        # outside an engine's task, checkpointing would compute a stage again for each of its tensors
        stack.enter_context(mock.patch.object(torch._C, "_current_graph_task_id", return_value=1))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", moved))
        # fake tensors are a dispatch mode, which is refused for good reason where numbers count
        stack.enter_context(mock.patch.object(arithmetic, "is_in_torch_dispatch_mode", return_value=False))
        stack.enter_context(mock.patch.object(arithmetic, "_require_small_numbers", return_value=None))
        stack.enter_context(mock.patch.object(palette_restore, "ThreadPoolExecutor", AtOnce))
        yield


@contextmanager
def fakes() -> Iterator[None]:
    """Make every tensor that is created here a fake one."""
    with FakeTensorMode(allow_non_fake_inputs=True), NumbersOfFakes():  # type: ignore[no-untyped-call]
        yield


# what runs on it


def use_device() -> None:
    """Open the device, and ask all that cards and forecasts ask of it."""
    assert arithmetic.open_device("cuda") == torch.device("cuda")
    for tf32 in (False, True):
        with arithmetic.reproducible_arithmetic(tf32=tf32):
            pass
    assert memory_available(GPU) == 1 << 36
    assert cost.peak_memory("cuda") == 1 << 30
    assert "pretended" in cost.hardware_name("cuda")
    assert "cuda" in canary.devices()
    assert "pretended" in str(scorecards.environment("cuda", "fp32")["device"])
    for precision in ("fp32", "tf32", "bf16", "fp64"):
        find_precision(precision, GPU)


def use_group() -> None:
    """Open both groups as torchrun's children do, with the backend's start written down in place of done."""
    started: list[tuple[str, torch.device | None]] = []

    def start(backend: str, *, timeout: object, device_id: torch.device | None) -> None:
        started.append((backend, device_id))

    wrapped = mock.Mock()
    with mock.patch.dict(os.environ, PINNED), ExitStack() as stack:
        patches = {"init_process_group": start, "destroy_process_group": lambda: None}
        patches |= {"get_rank": lambda: 0, "get_world_size": lambda: 2}
        for name, stand_in in patches.items():
            stack.enter_context(mock.patch.object(torch.distributed, name, stand_in))
        stack.enter_context(mock.patch.object(distributed, "DistributedDataParallel", wrapped))
        with distributed.scoring_group():
            pass
        with distributed.training_group("cuda") as world:
            assert world.device == GPU
            world.wrap(nn.Linear(1, 1))
    assert started == [("gloo", None), ("nccl", GPU)], started
    assert wrapped.call_args.kwargs["device_ids"] == [GPU]


def use_extractor(name: str, weights: str | None, precision: str = "fp32") -> None:
    """Run a network on the GPU, resize and copy back included; opening and folding are done on the CPU."""
    opened = open_extractor(name, weights, "center224", "cpu", precision)
    with fakes():
        images = torch.zeros(BATCH, 3, 256, 256, dtype=torch.uint8)
        opened.network.to(GPU)
        found = replace(opened, device=GPU)
        assert found.micro_batch == 64
        modes = MODES.values() if name == "inception-v3-fid" else (None,)
        for mode in modes:
            if mode is not None:
                opened.network.mode = mode  # type: ignore[assignment]
            assert all(len(table) == BATCH for table in found(images).values())


def use_fidelity_keys() -> None:
    """Compute a metric under torch-fidelity's keyword, which takes a GPU where there is one."""
    asked: list[str] = []

    def opened(name: str, weights: str | None, crop: str, device: str) -> Any:
        asked.append(device)
        network = open_extractor("smoke-random", None, crop, "cpu")  # it has logits, too
        network.network.to(GPU)
        return replace(network, device=torch.device(device))

    images = np.zeros((BATCH, 64, 64, 3), np.uint8)
    with fakes(), mock.patch.object(compat, "open_extractor", opened):
        found = compat.calculate_metrics(images, isc=True, isc_splits=1)
    assert found["inception_score_mean"] == 1  # of equal logits
    assert asked == ["cuda"], asked


def use_pairs(name: str, weights: dict[str, str]) -> None:
    """Compare pairs of images on the GPU."""
    opened = open_pair_distance(name, weights)
    with fakes():
        images = torch.zeros(BATCH, 3, 256, 256, dtype=torch.uint8)
        opened.module.to(GPU)
        assert len(replace(opened, device=GPU)(images, images)) == BATCH


def use_network(preset: str, checkpointing: bool = False, autocast: bool = False, last: bool = False) -> None:
    """Run a network forward and backward."""
    spec = PRESETS[preset]
    with fakes():
        network = UNet(spec, checkpointing).to(GPU)
        images = torch.zeros(BATCH, 6, spec.side, spec.side, device=GPU)
        if last:
            network.to(memory_format=torch.channels_last)
            images = images.to(memory_format=torch.channels_last)
        code = sinusoids(torch.zeros(BATCH, device=GPU), spec.width)
        with torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext():
            out = network(images, code)
        assert (out.device, out.dtype) == (GPU, torch.float32)
        out.sum().backward()
        assert all(p.grad is not None and p.grad.device == GPU for p in network.parameters())


METHODS: dict[str, tuple[Any, Any]] = {
    "palette": (PaletteRecipe, DenoisingObjective),
    "regression": (RegressionRecipe, RegressionObjective),
    "gan": (GanRecipe, GanObjective),
}


PRESET = {"palette": "palette-toy", "regression": "palette-toy", "gan": "palette-smoke"}  # the smallest


def recipe_of(method: str, speed: str, more: str = "") -> Any:
    """Return a recipe of the smallest network."""
    text = f"""
        schema = "palette-bench/recipe/1.0"
        method = "{method}"
        [network]
        preset = "{PRESET[method]}"
        [training]
        batch = {BATCH}
        steps = 4
        warmup_steps = 2
        ema_decay = 0.9
        {more}
        [speed]
        {speed}
    """
    return read_recipe(METHODS[method][0], text).resolved(method, "inpainting", "device")


def host_batch(side: int) -> HostBatch:
    """Return a batch as the loader gives it."""
    images = torch.zeros(BATCH, side, side, 3, dtype=torch.uint8)
    mask = torch.ones(BATCH, side, side, dtype=torch.bool)
    return HostBatch(0, np.arange(BATCH), ("inpainting",) * BATCH, images, images, mask, ())


def use_training(method: str, speed: str, more: str = "") -> None:
    """Take two steps of every network, preview, and load a state as a checkpoint's, from the CPU."""
    recipe = recipe_of(method, speed, more)
    draws, world = KeyedDraws(0, recipe.speed.noise), distributed.ProcessGroup(device=GPU)
    layout = torch.channels_last if recipe.speed.channels_last else torch.contiguous_format
    with fakes(), arithmetic.reproducible_arithmetic():
        objective = METHODS[method][1](recipe, GPU)
        trainers = [NetworkTrainer(part, recipe, world) for part in objective.trainables]
        for step in range(2):
            batch = replace(to_examples(host_batch(recipe.side), draws, GPU, layout), step=step)
            for trainer in trainers:
                assert trainer.step(step, [batch], 1, draws).finite
        for trainer in trainers:
            list(trainer.faults([batch], draws))
            held = trainer.state()
            trainer.load({k: {n: t.cpu() for n, t in v.items()} for k, v in held.items()}, moved=True)
        with trainers[-1].averaged() as network:
            assert objective.preview(network, batch, draws).device == GPU


def use_samplers(noise: str) -> None:
    """Sample with every sampler."""
    recipe = recipe_of("palette", f'noise = "{noise}"')
    diffusion = Diffusion(recipe)
    with fakes(), torch.no_grad():
        network = UNet(recipe.network.spec).to(GPU)
        source, mask = torch.zeros(BATCH, 3, SIDE, SIDE, device=GPU), torch.ones(
            BATCH, 1, SIDE, SIDE, dtype=torch.bool, device=GPU
        )  # fmt: skip
        normal = palette_restore.KeyedNoise(0, ("a", "b"), 0, (SIDE, SIDE), GPU, noise)  # type: ignore[arg-type]
        for sampler in SAMPLERS:
            plan = plan_for(diffusion.sampled, diffusion.trained, 3, sampler=sampler)  # type: ignore[arg-type]
            found = diffusion.sample(network, plan, diffusion.codes(plan, GPU), source, mask, normal)
            assert (found.device, found.shape) == (GPU, source.shape)


def use_restoring(folder: Path, fast: bool) -> None:
    """Open a run and restore a batch of a set and an image of another size."""
    from safetensors.torch import save_file  # noqa: PLC0415

    from palette_bench.baselines.training.recipe import to_toml  # noqa: PLC0415

    recipe, file = recipe_of("palette", ""), folder / "weights.safetensors"
    metadata = {"recipe": to_toml(recipe), "method": "palette", "step": "0"}
    save_file(UNet(recipe.network.spec).state_dict(), file, metadata)
    options = RestoreOptions(run=file, steps=3, device="cuda", fast=fast, noise="device" if fast else "host")
    public = SimpleNamespace(task="inpainting", set_fingerprint="0" * 64)
    protocol = SimpleNamespace(side=SIDE, name="fake")
    pixels, holes = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8), np.ones((BATCH, SIDE, SIDE), bool)
    batch = Batch(("a", "b"), pixels, holes, SimpleNamespace(public=public, protocol=protocol))  # type: ignore[arg-type]
    fill = np.zeros((BATCH, SIDE, SIDE, 3), np.float32)
    opened = open_trained("palette", PaletteRecipe, options)
    # fake tensors are what a compiler traces with: it is left out
    opened.network.compile = mock.Mock()  # type: ignore[method-assign]
    with (
        fakes(),
        mock.patch.object(Batch, "hole_noise", return_value=fill),
        mock.patch.object(palette_restore, "open_trained", return_value=opened),
    ):
        model = palette_restore.open_model(options)
        assert {p.device for p in model.network.parameters()} == {GPU}
        assert model.restore(batch).shape == pixels.shape
        image = UserImage("c", "inpainting", np.zeros((24, 40, 3), np.uint8), np.ones((24, 40), bool))
        for policy in ("tile", "native"):
            assert model.restore_image(image, policy).shape == image.input.shape


def parts(folder: Path) -> dict[str, Callable[[], None]]:
    """Return what runs, by name."""
    found: dict[str, Callable[[], None]] = {
        "device, memory, precisions": use_device,
        "process groups": use_group,
        "extractor smoke-random": partial(use_extractor, "smoke-random", None),
        "extractor efficientnet-lite0": partial(use_extractor, "efficientnet-lite0", None),
        "extractor efficientnet-lite0, bf16": partial(use_extractor, "efficientnet-lite0", None, "bf16"),
        "extractor inception-v3-fid": partial(use_extractor, "inception-v3-fid", "random:0"),
        "extractor resnet50-v1": partial(use_extractor, "resnet50-v1", "random:0"),
        "scores under torch-fidelity's keys": use_fidelity_keys,
        "pairs lpips-alex": partial(use_pairs, "lpips-alex", {"lpips-alex": "random:0"}),
        "pairs dists-vgg16": partial(use_pairs, "dists-vgg16", {"dists-vgg16": "random:0"}),
        "pairs ms-ssim": partial(use_pairs, "ms-ssim", {}),
        "U-Net": partial(use_network, "palette-toy"),
        "U-Net, checkpointing, bf16": partial(use_network, "palette-toy", True, True),
        "U-Net, folded, channels last": partial(use_network, "palette-64f", False, True, True),
        "training palette, host noise": partial(use_training, "palette", 'noise = "host"'),
        "training palette, all of [speed]": partial(
            use_training, "palette", 'autocast = "bf16"\nchannels_last = true\nfused_adam = true'
        ),
        "training regression": partial(use_training, "regression", 'autocast = "bf16"'),
        "training gan": partial(use_training, "gan", ""),
    }
    more = '[discriminator]\nregularisation = "r1"'
    found["training gan, r1"] = partial(use_training, "gan", "", more)
    for noise in ("host", "device"):
        found[f"samplers, {noise} noise"] = partial(use_samplers, noise)
    for fast in (False, True):
        found[f"restoring{', fast' if fast else ''}"] = partial(use_restoring, folder, fast)
    return found


# branches


def branches() -> dict[Path, dict[int, str]]:
    """Return file -> line -> text of the lines within functions of the product that name "cuda"."""
    found: dict[Path, dict[int, str]] = {}
    for room in ("palette_bench", "baselines"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.is_relative_to(path.resolve().parent):  # not those reached through a link
                text = path.read_text()
                lines = {n: text.splitlines()[n - 1].strip() for n in named(ast.parse(text))}
                found |= {path: lines} if lines else {}
    return found


def named(tree: ast.Module) -> list[int]:
    """Return the lines of expressions that name "cuda"; documentation and defaults of options do not."""
    lines: set[int] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for statement in function.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            for node in ast.walk(statement):
                name = (
                    getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "value", None)
                )
                if isinstance(name, str) and "cuda" in name and hasattr(node, "lineno"):
                    lines.add(node.lineno)
    return sorted(lines)


class Watch:
    """Notes which of the branches run, in every thread.

    Attributes:
        ran: file and line.
    """

    def __init__(self, wanted: dict[Path, dict[int, str]]) -> None:
        """Watch these files."""
        self.ran: set[tuple[str, int]] = set()
        # baselines are imported through a link of the checkout, or from an installed overlay
        self._files = {os.path.realpath(path) for path in wanted}
        self._real = lru_cache(None)(os.path.realpath)

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        """Follow a call into a watched file."""
        return self._line if self._real(frame.f_code.co_filename) in self._files else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.ran.add((self._real(frame.f_code.co_filename), frame.f_lineno))
        return self._line

    def __enter__(self) -> Watch:
        sys.settrace(self)
        threading.settrace(self)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)
        threading.settrace(None)


def run_all(folder: Path) -> dict[str, Any]:
    """Run every part; return the error of each, or None, and the branches that ran and did not."""
    wanted, rows = branches(), dict[str, dict[str, Any]]()
    with pretended_gpu(), Watch(wanted) as watch:
        for name, use in parts(folder).items():
            start, error = time.perf_counter(), None
            try:
                use()
            except Exception as failure:  # a part's failure is its row
                last = traceback.extract_tb(failure.__traceback__)
                ours = [f for f in last if str(ROOT) in os.path.realpath(f.filename)] or list(last)
                place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
                error = f"{place}: {type(failure).__name__}: {str(failure).partition(chr(10))[0][:300]}"
            rows[name] = {"error": error, "seconds": round(time.perf_counter() - start, 2)}
    told: dict[str, list[str]] = {"exercised": [], "not exercised": []}
    for path, lines in wanted.items():
        for number, text in lines.items():
            ran = (os.path.realpath(path), number) in watch.ran
            told["exercised" if ran else "not exercised"].append(f"{path.relative_to(ROOT)}:{number}: {text}")
    return {"parts": rows, "branches": told}


def described(found: dict[str, Any]) -> str:
    """Return the report of `run_all`."""
    lines = [
        f"{name:<36} {row['seconds']:6.2f} s  {row['error'] or 'no device mismatch'}"
        for name, row in found["parts"].items()
    ]
    for kind, named_lines in found["branches"].items():
        lines += [f"{kind}: {len(named_lines)}", *(f"    {text}" for text in named_lines)]
    return "\n".join(lines)
