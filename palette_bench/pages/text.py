"""Metrics, notes and numbers of scorecards in words, as pages print them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from palette_bench.core.errors import SpecError
from palette_bench.core.types import Direction
from palette_bench.scoring import metrics
from palette_bench.scoring.scorecard import EXTERNAL, Score, Scorecard, against_originals
from palette_bench.tasks.protocol import PhotoSource, ProtocolSpec, UnderProtocol


@dataclass(frozen=True)
class MetricWords:
    """A metric's name on a page, and what the metric measures, in one clause."""

    name: str
    meaning: str


# --- tables of words ---

METRICS: dict[str, MetricWords] = {
    **{row.id: MetricWords(row.name, row.meaning) for row in metrics.METRICS.values()},
    "fid_matched": MetricWords("FID, matched crop", "FID against a reference cropped like the set"),
    "fool_rate": MetricWords(
        "Fool rate", "outputs people take for the photograph; 50 % means that they cannot tell"
    ),
}

DIRECTIONS: dict[Direction, str] = {
    "lower": "lower is better",
    "higher": "higher is better",
    "none": "no better side",
}

NOTES: dict[str, str] = {
    "random-weights": (
        "These numbers come from random weights: they show that the software works, not how good a model is."
    ),
    "rank-deficient": "Fewer images than feature dimensions: the distance has no interval and cannot rank.",
    "low-coverage": "The images cover too few classes for this metric.",
    "preview": "Computed in a preview precision; preview numbers never rank.",
    "audit": "Computed in an audit mode; such numbers never rank.",
    "partial": "Some images of the set are missing; a partial card never ranks.",
    "imported-reference": "The reference statistics were imported and cannot be traced to images.",
    "partial-reference": "The reference is a part of the validation set; such numbers never rank.",
    "own-originals": "Measured against the set's own originals, not the validation set, so not ranked here.",
    "unpinned-weights": (
        "The weights of the network are a user's own file, known only by its digest (unpinned): nobody "
        "without this file can reproduce these numbers."
    ),
    "simulated-votes": "The votes are simulated: no people were asked, and such a card never ranks.",
    "peeked": "Computed before the study's stop rule was met; such numbers never rank.",
    "too-few-votes": "Too few raters or images for an interval: only counts are known.",
    "small-study": "Fewer than 20 raters: read the interval with care.",
    "small-n": "Fewer than 2,048 images: this distance is larger on small sets.",
    "few-images-per-feature": "Too few images per feature: the limit has no interval.",
    "conservative-interval": "Images share neighbours: the interval is up to three times too wide.",
    "saturated": "So near 0 or 1 that images left out one by one show no spread: there is no interval.",
    "too-few-images": "Too few images for this number.",
    "near-zero": "So near zero that chance similarity of images dominates: the interval is rough.",
    "wide-interval": "Too few images to correct the interval for its noise: it is up to 1.4 times too wide.",
    "few-images": "Fewer than 100 images: the interval is rough and may cover less often than stated.",
    "external": "Computed by another program on the images of this card: its maker vouches for it.",
    "needs-features": "This number cannot be computed from statistics without features.",
    "no-weights": "The network's weights are not on this machine.",
    "pictures-too-small": "The images are too small for this number.",
    "capped": "Equal images have no finite value; they count with the largest one.",
    "n<2": "One image has no spread, so there is no interval.",
    "numerical-failure": "The arithmetic did not close within its error bound.",
}

NETWORKS: dict[str, str] = {
    "inception-v3-fid": "Inception v3, the FID network",
    "resnet50-v1": "ResNet-50 by torchvision",
    "efficientnet-b0-v1": "EfficientNet-B0 by torchvision",
    "efficientnet-b0-tf": "EfficientNet-B0 by TensorFlow",
    "efficientnet-lite0": "EfficientNet-Lite0 by Google",
    "efficientnet-lite2": "EfficientNet-Lite2 by Google",
    "googlenet-v1": "GoogLeNet by torchvision",
    "dinov2-vitl14": "DINOv2 ViT-L/14 by Meta",
    "dinov2-vits14": "DINOv2 ViT-S/14 by Meta",
    "clip-vitl14-336": "CLIP ViT-L/14 at 336 px by OpenAI",
    "smoke-random": "a small network of random weights",
    "lpips-alex": "LPIPS on AlexNet",
    "dists-vgg16": "DISTS on VGG16",
    "ms-ssim": "MS-SSIM, five scales",
}
_CAUTIONS = {
    "palette-mini": "A small protocol: its ranks hold on this board, not for the paper's protocol.",
    "smoke": "A protocol for testing installations: its twelve images show that the software works.",
}
_PREPROCESS = {"crop-area-v1": "reduced by area", "crop256-v1": "central crops of 256 px"}

EXPECTED_VALUE = (
    "The interval of a Fréchet distance covers the expected value at this number of images, not the value at "
    "infinitely many. The bias of a finite number of images falls as 1/N and can be many times the interval. "
    "Values at different numbers of images are not comparable."
)
ORIGINALS_FIXED = (
    "This interval took the originals as fixed: it is too wide or too narrow, often several times."
)

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_SHOWN_UNITS = frozenset({"%", "dB"})


# --- metrics, notes, networks and references ---


def metric_words(key: str) -> MetricWords:
    """Return the words for a metric id; an unknown id is used as the name."""
    if key.startswith(EXTERNAL):
        name, _, source = key.removeprefix(EXTERNAL).partition("@")
        return MetricWords(f"{name} by {source}", "one number per image, from another program")
    base, _, suffix = key.partition("@")
    known = METRICS.get(base) or MetricWords(base.replace("_", " "), "")
    return MetricWords(f"{known.name}, {suffix}", known.meaning) if suffix else known


def note_words(note: str) -> str:
    """Return a score's note as a sentence; an unknown note is returned unchanged."""
    return NOTES.get(note, note)


def protocol_caution(record: UnderProtocol) -> str:
    """Return the caution for boards of a protocol; "" for the paper's protocol, and those of users."""
    return "" if record.declaration else _CAUTIONS.get(record.protocol, "")


def protocol_words(record: UnderProtocol) -> str:
    """Return the id of a record's protocol, with the fingerprint if it is not shipped."""
    own = record.declaration
    return f"{own.id}, a user's own ({own.fingerprint[:12]})" if own else record.protocol


def network_words(extractor: str | None) -> str:
    """Return the name of the network that computes a score's features; "" for metrics on pixels."""
    name = extractor or ""
    return NETWORKS.get(name) or (
        f"timm's {name.removeprefix('timm:')}" if name.startswith("timm:") else name
    )


def reference_words(score: Score) -> str:
    """Return what a score compares with, including the number of images; "" if it reads outputs alone."""
    name, n = str(score.params.get("reference", "")), score.params.get("reference_n")
    count = f"{n:,} " if isinstance(n, int) else ""
    if name.startswith("val-full@"):
        part = "a part of the" if "partial-reference" in score.notes else "the whole"
        how = name.removeprefix("val-full@")
        return f"{part} validation set, {count}images {_PREPROCESS.get(how, how)}"
    if name.startswith("imported:"):
        return f"imported statistics of {count}images"
    if against_originals(score):
        return f"the set's own {count}originals"
    return name or ("each image's original" if score.reference else "")


def basis_words(score: Score, apart: str = ", ") -> str:
    """Return the network and the reference of a score; `apart` separates the two."""
    return f"{apart}against ".join(filter(None, (network_words(score.extractor), reference_words(score))))


def shown_key(key: str, score: Score) -> str:
    """Return the metric id under which a score is shown.

    Earlier cards use the id `fid` also for FID against a set's own originals.
    """
    return metrics.ORIGINALS_FORM.get(key, key) if against_originals(score) else key


def direction_words(key: str, score: Score) -> str:
    """Return which side is better, and for the numbers of other programs that they never rank."""
    return DIRECTIONS[score.direction] + (", never ranked" if key.startswith(EXTERNAL) else "")


def is_frechet(key: str) -> bool:
    """Return whether a metric is a Fréchet distance, on any network and against any reference."""
    return key in ("fid_matched", *metrics.forms_of("fid"), *metrics.forms_of("fd_dinov2"))


def is_percent(score: Score) -> bool:
    """Return whether a score is a percentage from 0 to 100."""
    return score.unit == "%"


# --- numbers ---


def decimals_for(size: float, digits: int, otherwise: int = 0) -> int:
    """Return the number of decimals (0 to 4) that shows `digits` digits of `size`; `otherwise` for size 0."""
    return max(0, min(4, digits - 1 - math.floor(math.log10(size)))) if size > 0 else otherwise


def decimals(score: Score) -> int:
    """Return the number of decimals (0 to 4) that shows two digits of the interval's half width.

    Without an interval, three digits of the value are shown.
    """
    value = score.value or 0.0
    spread = abs(value) / 10 if score.low is None or score.high is None else (score.high - score.low) / 2
    return decimals_for(spread, 2, otherwise=0 if value == 0 else 2)


def number(value: float | None, digits: int) -> str:
    """Return a number with thousands separators and a true minus sign; a dash for None."""
    if value is None:
        return NOTHING
    text = f"{value:,.{digits}f}"
    return MINUS + text[1:] if text.startswith("-") and text.strip("-0.,") else text.lstrip("-")


def value_text(score: Score) -> str:
    """Return a score's value as printed, with its unit if the unit is % or dB."""
    text = number(score.value, decimals(score))
    return f"{text} {score.unit}" if score.unit in _SHOWN_UNITS and score.value is not None else text


def interval_text(score: Score) -> str:
    """Return 'low to high', or "" without an interval."""
    if score.low is None or score.high is None:
        return ""
    digits = decimals(score)
    return f"{number(score.low, digits)} to {number(score.high, digits)}"


def compact(count: float) -> str:
    """Return a count or a cost in short form: 62600000 gives '62.6 M', 2e-6 gives '< 0.001'."""
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return "< 0.001" if 0 < count < 0.001 else f"{count:.3g}"


# --- tasks, sources and whole cards ---


def task_words(rules: ProtocolSpec, task: str, variant: str | None) -> str:
    """Return the titles of task and variant, e.g. 'Inpainting, central 32x32 hole'.

    Raises:
        SpecError: PB609, the protocol has no such task or variant.
    """
    return f"{rules.task(task).title}, {rules.variant(task, variant or 'default').title}"


def source_words(rules: ProtocolSpec, source: str, n: int | None = None) -> str:
    """Return the title of a source, with the number of images if the set contains only `n` of them.

    A user's folder is described as a folder.

    Raises:
        SpecError: the protocol has no such source.
    """
    known = rules.sources.get(source)
    if known:
        part = isinstance(known, PhotoSource) and n is not None and n < known.count
        return f"{n} of the {known.title}" if part else known.title
    if not source.startswith("folder:"):
        raise SpecError(f"{source!r} is no source of {rules.id}")
    return f"the folder {source.removeprefix('folder:')!r}"


def place(task: str, variant: str | None) -> str:
    """Return 'inpainting / center32', or only the task for the default variant."""
    return task if variant in (None, "default") else f"{task} / {variant}"


def headline(card: Scorecard, ranked: tuple[str, ...]) -> str:
    """Return the sentence that summarizes a card, by the same rule for every method.

    The sentence gives the first ranked metric and the perceptual distance, then the number of images.
    """
    parts = []
    for key in dict.fromkeys(k for k in (*ranked[:1], "perceptual_distance") if k in card.scores):
        name = metric_words(key).name
        # inside a sentence, only abbreviations and names of people keep their capital
        keeps = name[:2].isupper() or name.startswith(("Fréchet", "Inception"))
        parts.append(f"{name if keeps else name[0].lower() + name[1:]} {value_text(card.scores[key])}")
    scores = ", ".join(parts) or "no scores"
    return f"{card.method.name} on {place(card.task, card.variant)}: {scores} over {card.n_scored:,} images"


def score_rows(scores: Mapping[str, Score]) -> list[tuple[str, ...]]:
    """Return the scores of a card as rows of text: metric, value, interval, network, notes."""
    return [
        (name, value_text(s), interval_text(s), s.extractor or "", ", ".join(s.notes))
        for name, s in scores.items()
    ]
