"""The card beside weights that leave their run: what they learnt from, and the digest they must have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from palette_bench.core.errors import WeightsError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Record, Sha, Text
from palette_bench.submission.card import SawTestImages


class WeightsCard(Record):
    """What is known of a lone weights file.

    Attributes:
        sha256: of the file.
        bytes: its size.
        method: that restores with it.
        parameters: of the network.
        licence: of the weights, and what their training pictures ask for.
        date: of the file.
        data: what it was trained on.
        saw_test_images: whether pictures of test sets are among them.
        pictures: how many those are.
        data_sha256: of their names and sizes.
        started_from: SHA-256 of the weights the run began with; none if it began anew.
        started_from_note: what those weights are, and whether they can be had.
        seed: of the run.
        steps: optimiser steps done.
        images_seen: batch x steps.
        recipe: every choice that moved a weight.
        environment: versions and device it was trained with.
    """

    kind: ClassVar[str] = "weights-card"
    added: ClassVar[Mapping[str, int]] = {"started_from_note": 1}
    sha256: Sha
    bytes: int = Field(ge=1)
    method: Text
    parameters: int = Field(ge=1)
    licence: Text
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    data: Text
    saw_test_images: SawTestImages = "unknown"
    pictures: int = Field(ge=1)
    data_sha256: Sha
    started_from: Sha | None = None
    started_from_note: Text | None = None
    seed: int
    steps: int = Field(ge=1)
    images_seen: int = Field(ge=1)
    recipe: dict[str, Any]
    environment: dict[str, str]


def card_path(weights: Path) -> Path:
    """Return where the card of a weights file lies: beside it, under its name."""
    return weights.with_suffix(".toml")


def proven_card(weights: Path, data: bytes) -> WeightsCard | None:
    """Return the card beside a weights file that has the digest it tells of; None if there is no card.

    Raises:
        WeightsError: PB705, another digest. RecordError: the card is malformed.
    """
    if not card_path(weights).is_file():
        return None
    card = WeightsCard.read(card_path(weights))
    if sha256(data) != card.sha256:
        raise WeightsError(
            problem(
                "PB705",
                str(weights),
                expected=f"{card.bytes:,} bytes, sha256 {card.sha256}, as its card says",
                found=f"{len(data):,} bytes, sha256 {sha256(data)}",
                fix="install the package again, or take the card away from weights of your own",
            )
        )
    return card
