"""Import of published ADM networks (openai/guided-diffusion) as initial weights.

What a state dictionary does not contain (heads, order of rows, schedule) is listed in `imports.toml`. Every
tensor must have its counterpart: none may be missing, left over or of another shape.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from palette_bench.benchset.sources import file_sha256
from palette_bench.core.errors import Problem, UsageError, WeightsError, problem, suggest
from palette_bench.core.records import Part, Sha, validate

from .presets import PRESETS, UNetSpec
from .unet import COLOURS, UNet

_CLASSES = "label_emb.weight"
_HEAD_ROWS = 2 * COLOURS  # output channels of ADM: noise, then learned variance

# our names -> theirs; `input_blocks` counts the stem as number 0, `down` leaves it out
_PLACES = {
    "embed": "time_embed",
    "stem": "input_blocks.0.0",
    "down": "input_blocks",
    "mid": "middle_block",
    "up": "output_blocks",
    "norm": "out.0",
    "head": "out.2",
}
_LAYERS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "emb": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
    "out": "proj_out",
}


class AdmKind(Part):
    """A published network: a row of `imports.toml`.

    Attributes:
        file: published file name.
        preset: our network of the same shape.
        inputs: input channels of the stem; 3, or 6 in the upsampler.
        classes: rows of the class embedding; 0 without one.
        qkv_rows: index that varies slowest in the rows of a qkv matrix.
        schedule: noise schedule of its training.
        sha256: digest of the published file, if known.
    """

    file: str
    preset: str
    inputs: Literal[3, 6]
    classes: int
    qkv_rows: Literal["qkv", "head"]
    schedule: Literal["linear", "cosine"]
    sha256: Sha | None = None


@cache
def adm_kinds() -> Mapping[str, AdmKind]:
    """Return the networks that can be imported, by kind."""
    rows = tomllib.loads(files(__package__).joinpath("imports.toml").read_text(encoding="utf-8"))["imports"]
    return {name: validate(AdmKind, row, f"imports.toml: {name}") for name, row in rows.items()}


def load_adm(
    file: Path, kind: str, spec: UNetSpec, label: Literal["mean", "drop"] = "mean"
) -> dict[str, Tensor]:
    """Return the weights of an ADM network under our names.

    The source image enters through channels whose weights start at 0. The variance that ADM predicts and its
    class conditioning are left out. Our network then predicts the same noise as ADM's.

    Args:
        file: a torch or safetensors state dictionary; no code in it is executed.
        kind: a key of `adm_kinds()`.
        spec: shape of the network to load the weights into.
        label: "mean" adds the mean class embedding to that of the noise level, "drop" adds none.

    Returns:
        State dictionary of `UNet(spec)`, float32.

    Raises:
        UsageError: the kind is unknown.
        WeightsError: PB705, no such file or not the published one; PB712, it does not fit the network, with
            every tensor that is missing, left over or of another shape.

    Source: openai/guided-diffusion, README (flags) and unet.py (names and order of the tensors).
    """
    if kind not in adm_kinds():
        raise UsageError(f"--init-kind: no network {kind!r}: {suggest(kind, adm_kinds())}")
    row = adm_kinds()[kind]
    theirs = _read(file, row)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in UNet(spec).state_dict().items()}
    if misfits := list(_misfits(file, theirs, shapes, spec, row)):
        raise WeightsError(*misfits)
    ours = {}
    for name in shapes:
        tensor = theirs[_their_name(name)].float()
        if name == "stem.weight":
            # weights of 0 for the input channels that ADM does not have
            tensor = functional.pad(tensor, (0, 0, 0, 0, 0, 2 * COLOURS - row.inputs))
        elif name.startswith("head."):
            tensor = tensor[:COLOURS].clone()
        elif name.endswith((".qkv.weight", ".out.weight")):
            tensor = tensor.squeeze(2)
        if ".qkv." in name and row.qkv_rows == "head":
            # rows ordered (head, qkv, channel) -> (qkv, head, channel)
            heads = spec.heads_of(len(tensor) // 3)
            tensor = tensor.reshape(heads, 3, -1, *tensor.shape[1:]).transpose(0, 1).flatten(0, 2)
        ours[name] = tensor.contiguous()
    if row.classes and label == "mean":
        ours["embed.2.bias"] = ours["embed.2.bias"] + theirs[_CLASSES].float().mean(dim=0)
    return ours


def _read(file: Path, row: AdmKind) -> dict[str, Tensor]:
    """Return the tensors of a file, after checking its digest if one is published.

    Raises:
        WeightsError: PB705.
    """
    try:
        if file.suffix == ".safetensors":  # never published as such: no digest to compare with
            return safetensors.torch.load_file(file)
        digest = file_sha256(file) if row.sha256 else None
        if digest != row.sha256:
            raise ValueError(f"sha256 {digest}")
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
            raise TypeError("something else than a dictionary of tensors")
    except Exception as error:  # a damaged pickle may raise any exception
        known = f", sha256 {row.sha256}" if row.sha256 else ""
        found = str(error).partition("\n")[0][:200]
        fix = "give the published file, or its tensors as safetensors"
        raise WeightsError.of("PB705", str(file), expected=row.file + known, found=found, fix=fix) from error
    return tensors


def _misfits(
    file: Path, theirs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], spec: UNetSpec, row: AdmKind
) -> Iterator[Problem]:
    """Yield every difference between the file and this kind of network in this shape."""
    fix = f"take the kind of this file; {row.file} fits the preset {row.preset}"
    published = PRESETS[row.preset]
    if (spec.heads, spec.head_width) != (published.heads, published.head_width):
        expected_heads, found = (
            f"{s.heads} heads" if s.heads else f"heads of {s.head_width} channels" for s in (published, spec)
        )
        yield problem("PB712", f"{file}: heads", expected=expected_heads, found=found, fix=fix)
    if spec.fold > 1:
        yield problem("PB712", f"{file}: fold", expected="1", found=str(spec.fold), fix=fix)
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        their_shape = tuple(shape)
        if name == "stem.weight":
            their_shape = (shape[0], row.inputs, *shape[2:])
        elif name.startswith("head."):
            their_shape = (_HEAD_ROWS, *shape[1:])
        elif name.endswith((".qkv.weight", ".out.weight")):
            their_shape = (*shape, 1)  # one-dimensional convolutions of width 1
        expected[_their_name(name)] = their_shape
    if row.classes:
        expected[_CLASSES] = (row.classes, 4 * spec.width)
    missing = sorted(expected.keys() - theirs.keys())
    surplus = sorted(theirs.keys() - expected.keys())
    if missing:
        yield problem("PB712", f"{file}: tensors missing", fix=fix, ids=missing)
    if surplus:
        yield problem("PB712", f"{file}: tensors without a place", fix=fix, ids=surplus)
    for name in sorted(expected.keys() & theirs.keys()):
        own, dtype, layout = tuple(theirs[name].shape), theirs[name].dtype, theirs[name].layout
        if own != expected[name] or not dtype.is_floating_point or layout != torch.strided:
            wanted, found = f"{expected[name]}, real", f"{own} {dtype} {layout}"
            yield problem("PB712", f"{file}: {name}", expected=wanted, found=found, fix=fix)


def _their_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "down":
        parts[1] = str(int(parts[1]) + 1)
    parts[-2] = _LAYERS.get(parts[-2], parts[-2])
    parts[0] = _PLACES[parts[0]]
    return ".".join(parts)
