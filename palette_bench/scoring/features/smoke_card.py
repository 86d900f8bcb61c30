"""The card beside the smoke weights: what they were trained on and by, and the digest they must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from palette_bench.core.errors import Problem, RecordError, StorageError, WeightsError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Part, Record, Sha, Text, read_file

_FIX = (
    "give a file written by `python -m palette_bench.baselines.smoke_extractor`, its card (.toml) beside it"
)


class CardData(Part):
    """Which pictures: how many, and the digest of their names in order."""

    name: Text
    pictures: int = Field(ge=1)
    digest: Sha
    validation_pictures: int = Field(ge=1)
    validation_digest: Sha


class Accuracy(Part):
    """Per cent of the validation pictures whose class is the first, or among the first five, guesses."""

    top1: float = Field(ge=0, le=100)
    top5: float = Field(ge=0, le=100)


class SmokeCard(Record):
    """What is known of a weights file of the `smoke` extractor.

    Attributes:
        sha256: of the file.
        bytes: its size.
        tensors: digest of its tensors.
        parameters: of the network.
        licence: of the weights, and what their training pictures ask for.
        date: of the file.
        classes: names in the order of the logits.
        data: what it was trained and measured on.
        accuracy: of this very file, run by the extractor.
        recipe: every choice of its training.
        environment: versions and device it was trained with.
    """

    kind: ClassVar[str] = "smoke-card"
    sha256: Sha
    bytes: int = Field(ge=1)
    tensors: Sha
    parameters: int = Field(ge=1)
    licence: Text
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    classes: tuple[Text, ...] = Field(min_length=2)
    data: CardData
    accuracy: Accuracy
    recipe: dict[str, Any]
    environment: dict[str, str]


def card_path(weights: Path) -> Path:
    """Return where the card of a weights file lies: beside it, under its name."""
    return weights.with_suffix(".toml")


def read_proven(weights: Path) -> tuple[bytes, SmokeCard]:
    """Return a weights file's bytes and its card, which agree.

    Raises:
        WeightsError: PB705, file or card absent, the card malformed, or the file of another digest.
    """
    try:
        data, card = read_file(weights), SmokeCard.read(card_path(weights))
    except (StorageError, RecordError) as error:
        raise WeightsError(_unusable(weights, error.problems[0]), *error.problems) from error
    if sha256(data) != card.sha256:
        raise WeightsError(
            problem(
                "PB705",
                f"smoke: {weights}",
                expected=f"{card.bytes:,} bytes, sha256 {card.sha256}, as its card says",
                found=f"{len(data):,} bytes, sha256 {sha256(data)}",
                fix=_FIX,
            )
        )
    return data, card


def _unusable(weights: Path, cause: Problem) -> Problem:
    return problem(
        "PB705",
        f"smoke: {weights}",
        expected="a weights file and its card",
        found=f"{cause.where}: {cause.found or cause.title}",
        fix=_FIX,
    )
