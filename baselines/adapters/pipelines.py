"""Inpainting pipelines of diffusers as methods: the worked example of a tool that runs in process.

Weights are local safetensors; nothing is downloaded. Reproducibility level L2: diffusers draws its noise with
torch, from one CPU generator per image, seeded by the image's noise key. Batch, order and ranks therefore
change nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from palette_bench.benchset.sources import file_sha256
from palette_bench.core.errors import StackError, UsageError, WeightsError, suggest
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.rng import noise_key
from palette_bench.core.types import Image, ImageId, Mask
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, Restorer

# inpainting, not editing: an empty prompt, and strength 1.0, so that the gray fill of the hole has no effect
_WORDLESS: Mapping[str, Any] = MappingProxyType({"prompt": "", "strength": 1.0})


@dataclass(frozen=True)
class PipelineRow:
    """How to call one pipeline class.

    Attributes:
        hole: level of mask pixels to fill, 0 or 255; pixels to keep get the other level.
        network: attribute of the pipeline that holds the network whose evaluations are counted.
        call: further keyword arguments of every call.
        sized: whether the call takes `height` and `width`.
    """

    hole: int
    network: str
    call: Mapping[str, Any] = field(default_factory=dict)
    sized: bool = True


# polarity as read in diffusers 0.42: "white pixels are repainted"; RePaintScheduler: "0.0 ... to inpaint"
PIPELINES: dict[str, PipelineRow] = {
    "FluxInpaintPipeline": PipelineRow(255, "transformer", _WORDLESS),
    "RePaintPipeline": PipelineRow(0, "unet", sized=False),
    "StableDiffusion3InpaintPipeline": PipelineRow(255, "transformer", _WORDLESS),
    "StableDiffusionInpaintPipeline": PipelineRow(255, "unet", _WORDLESS),
    "StableDiffusionXLInpaintPipeline": PipelineRow(255, "unet", _WORDLESS),
}


class Diffusers:
    """The method `adapter:diffusers`; it needs `--pipeline CLASS` and `--weights DIR`."""

    def restorer(self, options: RestoreOptions) -> Restorer:
        """Return the loaded pipeline as a restorer.

        Raises:
            UsageError: the class has no row in `PIPELINES`, no weights are given, or an option is not
                supported.
            StackError: PB711, diffusers or a package that the class needs is not installed.
            WeightsError: PB705, the folder holds no safetensors of this class.
        """
        options.refuse_all_but("run", "pipeline", "seed", "steps", "device")
        if options.pipeline not in PIPELINES:
            raise UsageError(f"--pipeline {options.pipeline}: {suggest(options.pipeline or '', PIPELINES)}")
        if options.run is None:
            raise UsageError("adapter:diffusers needs --weights DIR, a folder as save_pretrained writes it")
        try:
            import diffusers as library  # noqa: PLC0415  # optional, and seconds to import
        except ImportError as error:
            fix = "pip install 'palette-bench[diffusers]'"
            raise StackError.of("PB711", "diffusers", found=str(error)[:200], fix=fix) from error
        from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # imports torch

        with reproducible_arithmetic(deterministic=False):
            pipeline = _loaded(library, options.pipeline, options.run).to(options.device)
        pipeline.set_progress_bar_config(disable=True)
        return InpaintingPipeline(options, pipeline, PIPELINES[options.pipeline], library.__version__)


def _loaded(library: Any, name: str, folder: Path) -> Any:
    try:
        return getattr(library, name).from_pretrained(
            str(folder.resolve()), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    except ImportError as error:  # text encoders come from the package transformers
        fix = "pip install transformers"
        raise StackError.of("PB711", name, found=str(error)[:200], fix=fix) from error
    except (OSError, ValueError) as error:
        raise WeightsError.of(
            "PB705",
            str(folder),
            expected=f"model_index.json and safetensors of {name}",
            found=str(error)[:200],
            fix="save the pipeline with save_pretrained(DIR), then give --weights DIR",
        ) from error


class InpaintingPipeline:
    """A loaded pipeline as a restorer; it counts the evaluations of its network."""

    def __init__(self, options: RestoreOptions, pipeline: Any, row: PipelineRow, version: str) -> None:
        """Register the evaluation counter as a forward hook of the network."""
        assert options.run is not None, "a pipeline was loaded from there"
        self._options, self._pipeline, self._row = options, pipeline, row
        self._evaluations = self._images = 0
        network = getattr(pipeline, row.network)
        network.register_forward_hook(self._count)
        name = type(pipeline).__name__
        unknown, parameters = "unknown", sum(p.numel() for p in network.parameters())
        slug = f"diffusers-{name.removesuffix('Pipeline').lower()}"
        # the owner adds authors and training data on the card
        self._about = MethodInfo(
            method=Method(slug=slug, name=name, version=version, authors=(unknown,), license=unknown),
            training=Training(
                datasets=(), saw_test_images="unknown", parameters=parameters, task_specific=False
            ),
            sampling=Sampling(sampler=f"{name} of diffusers", seed=options.seed),
            declared=Declared(uses_mask=True, uses_label=False),
        )
        steps = "its own" if options.steps is None else options.steps
        # configuration and weights of the pipeline
        suffixes, folder = {".json", ".safetensors", ".txt", ".model"}, options.run
        files = sorted(p for p in folder.rglob("*") if p.suffix in suffixes)
        digest = fingerprint({path.relative_to(folder).as_posix(): file_sha256(path) for path in files})
        self.identity = f"{name} {digest} steps {steps} diffusers {version}"

    def _count(self, network: Any, inputs: Any, output: Any) -> None:
        self._evaluations += len(output[0])  # with guidance, one call evaluates each image twice

    @property
    def about(self) -> MethodInfo:
        """Return the card entries; `steps` is the counted number of evaluations per image so far."""
        steps = self._evaluations // self._images if self._images else None
        return replace(self._about, sampling=self._about.sampling.model_copy(update={"steps": steps}))

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return the filled images, (N, S, S, 3) uint8.

        Raises:
            UsageError: the task has no holes.
        """
        if batch.masks is None:
            raise UsageError(
                f"{type(self._pipeline).__name__} fills holes: {batch.benchset.public.task} has none"
            )
        rows = zip(batch.ids, batch.inputs, batch.masks, strict=True)
        return np.stack([self._filled(i, image, mask, batch.sample) for i, image, mask in rows])

    def _filled(self, image_id: ImageId, image: Image, mask: Mask, sample: int) -> Image:
        """Return one filled image. Images go one by one: some classes take a single generator per batch."""
        import torch  # noqa: PLC0415  # the other adapters run without it

        from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415

        key = noise_key(self._options.seed, image_id, sample, 0)
        call = dict(self._row.call)
        if self._row.sized:
            call.update(height=len(image), width=len(image))
        if self._options.steps is not None:
            call["num_inference_steps"] = self._options.steps
        polarised = np.where(mask, self._row.hole, 255 - self._row.hole).astype(np.uint8)
        with reproducible_arithmetic(deterministic=False), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # from diffusers, about its own old pipelines
            filled: NDArray[np.float32] = self._pipeline(
                image=PillowImage.fromarray(image),
                mask_image=PillowImage.fromarray(polarised),
                generator=torch.Generator("cpu").manual_seed(key % 2**63),
                output_type="np",
                **call,
            ).images[0]
        self._images += 1
        levels: NDArray[np.float32] = np.floor(255 * np.clip(filled, 0, 1) + 0.5)
        return levels.astype(np.uint8)
