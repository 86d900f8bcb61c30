"""Which metric comes from which network, under which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import UsageError
from palette_bench.scoring.evaluate import needed_extractors, plan, wanted_metrics
from palette_bench.tasks.protocol import load

BOTH = {"features": "pool", "logits": "logits"}


@dataclass(frozen=True)
class Network:
    """An extractor in name only."""

    id: str
    label_space: str | None = None
    heads: Mapping[str, str] = field(default_factory=lambda: dict(BOTH))


FID = Network("inception-v3-fid")
RESNET = Network("resnet50-v1", "imagenet-1k")
SMOKE = Network("smoke-random")
GOOGLENET = Network("googlenet-v1", None, {"features": "avgpool"})

RANKED = ("fid", "kid", "inception_score", "classification_accuracy", "perceptual_distance")


def names(*networks: Network, labelled: bool = True, wanted: tuple[str, ...] = RANKED) -> dict[str, str]:
    return {s.metric.id: s.extractor.id for s in plan(wanted, networks, labelled)}  # type: ignore[arg-type]


def test_the_papers_networks_keep_the_reserved_names() -> None:
    assert names(FID, RESNET) == {
        "fid": "inception-v3-fid",
        "kid": "inception-v3-fid",
        "inception_score": "inception-v3-fid",
        "classification_accuracy": "resnet50-v1",
        "perceptual_distance": "inception-v3-fid",
    }


def test_any_other_network_gives_the_general_names() -> None:
    assert names(SMOKE) == dict.fromkeys(
        (
            *("frechet_distance", "kernel_distance", "classifier_score"),
            *("classification_agreement", "perceptual_distance"),
        ),
        "smoke-random",
    )


def test_general_and_reserved_names_mean_the_same_arithmetic() -> None:
    assert names(FID, wanted=("frechet_distance", "kernel_distance")) == {
        "fid": "inception-v3-fid",
        "kid": "inception-v3-fid",
    }


def test_without_labels_agreement_stands_for_accuracy() -> None:
    assert "classification_agreement" in names(FID, RESNET, labelled=False)


def test_a_metric_of_one_network_is_computed_on_that_one_alone() -> None:
    wanted = ("perceptual_distance_googlenet",)
    assert names(FID, GOOGLENET, wanted=wanted) == {"perceptual_distance_googlenet": "googlenet-v1"}
    with pytest.raises(UsageError, match="needs googlenet-v1"):
        names(FID, wanted=wanted)


def test_a_missing_head_and_an_unknown_metric_are_refused() -> None:
    with pytest.raises(UsageError, match="a network that tells classes apart; chosen: googlenet-v1"):
        names(GOOGLENET, wanted=("inception_score",))
    with pytest.raises(UsageError, match="did you mean fid"):
        names(FID, wanted=("fdi",))


def test_kid_stands_beside_fid_where_sets_are_small(smoke_sets: Path) -> None:
    target = BenchSet.open(smoke_sets / "jpeg.qf5")
    ranked = target.protocol.ranked_metrics("smoke-photos", "jpeg")
    assert wanted_metrics(target, ["smoke-random"]) == (*ranked, "kid")
    assert wanted_metrics(target, ["googlenet-v1"]) == (*ranked, "kid", "perceptual_distance_googlenet")


def test_a_classifier_is_opened_only_where_classes_count() -> None:
    available = load("palette-2022").extractors
    assert needed_extractors(("fid", "kid"), available) == ("inception-v3-fid",)
    assert needed_extractors(("fid", "classification_accuracy"), available) == tuple(available)
    assert needed_extractors(("perceptual_distance_googlenet",), available)[-1] == "googlenet-v1"
