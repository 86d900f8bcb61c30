"""The submission card `submission.toml`: the method, its authors, the set, training and sampling."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from palette_bench.core.records import Link, Part, Record, Slug, SparsePart, Text

CARD = "submission.toml"
# Values that an import of a tool's outputs writes about the method until the user completes the card
PLACEHOLDER = "unknown"
PLACEHOLDER_SLUG = "outside-tool"
ShortSha = Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$")]
SawTestImages = Literal["no", "yes", "unknown"]


class Method(Part):
    """The method and its authors."""

    slug: Slug
    name: Text
    version: Text
    authors: tuple[Text, ...]
    license: Text
    url: Link | None = None
    paper: Link | None = None
    code: Link | None = None
    code_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None


class Target(Part):
    """The benchmark set that the outputs belong to."""

    protocol: str
    source: str
    task: str
    variant: str | None = None
    set: ShortSha  # fingerprint of the whole set; the first 12 digits, which `generate` prints, are enough
    samples_per_image: int = Field(default=1, ge=1)


class Training(Part):
    """The training data of the method, and the size of its network."""

    datasets: tuple[Text, ...]
    saw_test_images: SawTestImages
    parameters: int | None = Field(default=None, ge=0)
    task_specific: bool


class Sampling(SparsePart):
    """How the outputs were sampled, and the cost of one output; `steps` are network evaluations."""

    sparse: ClassVar[frozenset[str]] = frozenset({"flop_per_image"})
    sampler: Text
    steps: int | None = Field(default=None, ge=0)
    seed: int | None = None
    seconds_per_image: float | None = Field(default=None, ge=0)
    hardware: Text | None = None
    flop_per_image: float | None = Field(default=None, ge=0)


class Declared(Part):
    """What the method used in addition to its input, and how outputs were processed afterwards."""

    uses_mask: bool
    uses_label: bool
    postprocess: Text | None = None


class SubmissionCard(Record):
    """The card of one submission: one method on one set."""

    kind: ClassVar[str] = "submission"
    method: Method
    target: Target
    training: Training
    sampling: Sampling
    declared: Declared


def to_toml(card: SubmissionCard) -> str:
    """Return the card as TOML text, without the keys that have no value."""
    value = card.model_dump(mode="json", by_alias=True, exclude_none=True)
    lines = [f'schema = "{value.pop("schema")}"']
    for section, fields in value.items():
        lines += ["", f"[{section}]"]
        # Strings, numbers, booleans and lists of them are written alike in JSON and TOML.
        lines += [f"{key} = {json.dumps(item, ensure_ascii=False)}" for key, item in fields.items()]
    return "\n".join(lines) + "\n"
