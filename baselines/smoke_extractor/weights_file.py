"""The weights file and its card: half precision, measured by the extractor that will use them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.torch

from palette_bench.core import atomic
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import today
from palette_bench.core.types import SILENT, Progress
from palette_bench.scoring.features import Wanted
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.features.smoke import FILE, NAME, SmokeNetwork, as_extractor, with_weights
from palette_bench.scoring.features.smoke_card import Accuracy, CardData, SmokeCard, card_path
from palette_bench.scoring.features.tables import extract
from palette_bench.scoring.features.tensors import parse_tensors, tensor_digest

from ..training.recipe import Recipe, to_toml
from .pictures import Labelled
from .recipe import SmokeRecipe
from .train import environment

logger = logging.getLogger(__name__)


def half_precision(network: SmokeNetwork) -> bytes:
    """Return the weights file of a network: float16 safetensors, equal bytes for equal weights."""
    tensors = network.state_dict().items()
    kept = {name: t.half().contiguous() for name, t in tensors if not name.endswith("num_batches_tracked")}
    return safetensors.torch.save(kept)


def write_weights(
    run: Path,
    network: SmokeNetwork,
    recipe: SmokeRecipe,
    training: Labelled,
    validation: Labelled,
    progress: Progress = SILENT,
) -> Path:
    """Write the weights of a network and their card into `run`; return the path of the weights.

    Raises:
        InputError: half precision made the network's logits infinite.
        StorageError: PB802.
    """
    data = half_precision(network)
    extractor = as_extractor(with_weights(data, len(training.classes)), Wanted(NAME))
    accuracy = measure(extractor, validation, progress)
    card = SmokeCard(
        schema=SmokeCard.schema_name(),
        sha256=sha256(data),
        bytes=len(data),
        tensors=tensor_digest(parse_tensors(data, NAME)),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=recipe.data.licence,
        date=today(),
        classes=training.classes,
        data=CardData(
            name=recipe.data.name,
            pictures=len(training),
            digest=training.digest,
            validation_pictures=len(validation),
            validation_digest=validation.digest,
        ),
        accuracy=accuracy,
        recipe=recipe.model_dump(mode="json", by_alias=True),
        environment=environment(),
    )
    path = run / FILE
    with atomic.Batch() as batch:
        batch.write(path, data)
        batch.write(card_path(path), to_toml(cast(Recipe, card)).encode())  # it writes any record
    logger.info(
        "top-1 %.2f %%, top-5 %.2f %% of %s pictures", accuracy.top1, accuracy.top5, f"{len(validation):,}"
    )
    return path


def measure(extractor: FeatureExtractor, pictures: Labelled, progress: Progress = SILENT) -> Accuracy:
    """Return the accuracy of an extractor whose classes are those of the pictures.

    Raises:
        InputError: it returns NaN or infinity.
    """
    images = (picture.permute(1, 2, 0).numpy() for picture in pictures.pixels)
    with progress("measuring", len(pictures)) as advance:
        (tables,) = extract([extractor], images, len(pictures), advance)
    guesses = np.argsort(-tables[extractor.heads["logits"]], axis=1, kind="stable")
    right = guesses == pictures.labels.numpy()[:, None]
    top1, top5 = (100 * float(right[:, :k].any(axis=1).mean()) for k in (1, 5))
    return Accuracy(top1=round(top1, 2), top5=round(top5, 2))
