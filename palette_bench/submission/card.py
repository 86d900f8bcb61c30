"""`submission.toml`: who made these outputs, for which set, with what."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from palette_bench.core.records import Link, Part, Record, Slug, Text

CARD = "submission.toml"
# what an import of a tool's outputs says of their maker until somebody says it better
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
    """The one benchmark set these outputs answer."""

    protocol: str
    source: str
    task: str
    variant: str | None = None
    set: ShortSha  # of the whole set; what `generate` prints of it, its first 12 digits, is enough
    samples_per_image: int = Field(default=1, ge=1)


class Training(Part):
    """What the method was trained on."""

    datasets: tuple[Text, ...]
    saw_test_images: SawTestImages
    parameters: int | None = Field(default=None, ge=0)
    task_specific: bool


class Sampling(Part):
    """How the outputs were sampled and what one cost; `steps` are network evaluations."""

    sampler: Text
    steps: int | None = Field(default=None, ge=0)
    seed: int | None = None
    seconds_per_image: float | None = Field(default=None, ge=0)
    hardware: Text | None = None
    flop_per_image: float | None = Field(default=None, ge=0)

    @model_serializer(mode="wrap")
    def _without_unstated_flop(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `flop_per_image` out where nobody stated it: cards older than the key keep their digest."""
        value: dict[str, Any] = write(self)
        if self.flop_per_image is None:
            value.pop("flop_per_image", None)
        return value


class Declared(Part):
    """What the method used beyond its input."""

    uses_mask: bool
    uses_label: bool
    postprocess: Text | None = None


class SubmissionCard(Record):
    """The card of one submission: one method, one set."""

    kind: ClassVar[str] = "submission"
    method: Method
    target: Target
    training: Training
    sampling: Sampling
    declared: Declared


def to_toml(card: SubmissionCard) -> str:
    """Return the card as TOML; keys without a value are left out."""
    value = card.model_dump(mode="json", by_alias=True, exclude_none=True)
    lines = [f'schema = "{value.pop("schema")}"']
    for section, fields in value.items():
        lines += ["", f"[{section}]"]
        # JSON strings, numbers, booleans and lists of them are TOML as they stand
        lines += [f"{key} = {json.dumps(item, ensure_ascii=False)}" for key, item in fields.items()]
    return "\n".join(lines) + "\n"
