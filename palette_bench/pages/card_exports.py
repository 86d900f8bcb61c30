"""A scorecard in the formats of other programs: Every Eval Ever, the Hugging Face Hub, MLflow.

Each format has a record per metric with value, interval, set digest and network digest. Numbers keep every
digit, and equal cards give equal bytes: the time of a record is the day of its card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from palette_bench.core.errors import RecordError
from palette_bench.pages.text import metric_words, note_words, source_words, task_words
from palette_bench.scoring.scorecard import BARRING, Score, Scorecard


def export_card(card: Scorecard, to: str) -> tuple[str, dict[str, str]]:
    """Return the text of a file that another program reads, and why metrics are absent from it, by metric.

    Args:
        card: the scorecard.
        to: a key of `FORMATS`.

    Raises:
        RecordError: PB207, the file would hold no metric.
    """
    left_out = {key: _absence(score) for key, score in card.scores.items() if score.value is None}
    if to == "every-eval-ever":  # a record there must say which side is better
        left_out |= {
            key: "no better side, which Every Eval Ever requires"
            for key, score in card.scores.items()
            if score.direction == "none" and key not in left_out
        }
    scores = {key: score for key, score in card.scores.items() if key not in left_out}
    if not scores:
        found = "; ".join(f"{key}: {reason}" for key, reason in left_out.items()) or "no scores"
        fix = "score the submission with another metric"
        raise RecordError.of("PB207", "scorecard", expected="a score with a value", found=found, fix=fix)
    return FORMATS[to](card, scores, left_out), left_out


def _absence(score: Score) -> str:
    return " ".join(map(note_words, score.notes)) or "no value"


def _barring(score: Score) -> list[str]:
    """Return the notes that bar a score from ranking, e.g. `partial`, `preview`."""
    return sorted(BARRING.intersection(score.notes))


def _seconds(card: Scorecard) -> int:
    """Return the start of the card's day, in seconds since 1970, UTC."""
    return int(datetime.fromisoformat(card.date).replace(tzinfo=UTC).timestamp())


def _question(card: Scorecard) -> dict[str, str]:
    """Return what the card answers: protocol, task, variant, source, with the digests of protocol and set."""
    return {
        "protocol": card.protocol,
        "protocol_sha256": card.fingerprints.protocol,
        "task": card.task,
        "variant": card.variant or "default",
        "source": card.source,
        "set_sha256": card.fingerprints.set,
        "images_expected": str(card.n_expected),
        "images_scored": str(card.n_scored),
    }


def _basis(card: Scorecard, score: Score) -> dict[str, str]:
    """Return what a score was computed from: network and reference with their digests, and its notes."""
    network = score.extractor or ""
    found = {
        "extractor": network,
        "extractor_sha256": card.fingerprints.extractors.get(network, ""),
        "network": (card.networks or {}).get(network, ""),
        "reference_sha256": score.reference or "",
        "direction": score.direction,
        "notes": ", ".join(score.notes),
        "never_ranks": ", ".join(_barring(score)),
    }
    return {key: value for key, value in found.items() if value}


# --- Every Eval Ever ---

EVERY_EVAL_EVER = "0.3.0"  # version of its schema `eval.schema.json`, of the package every-eval-ever


def every_eval_ever(card: Scorecard, scores: dict[str, Score], left_out: dict[str, str]) -> str:
    """Return an aggregate record of Every Eval Ever as JSON.

    A card does not say who scored it or who may have the weights, so these keys are `unknown` and `other`.
    """
    method, variant = card.method, card.variant or "default"
    declared = {
        "deployment_type": "unknown",
        "model_availability": "unknown",
        "version": method.version,
        "license": method.license,
        "paper": method.paper,
        "code": method.code,
        "code_commit": method.code_commit,
        "outputs_sha256": card.fingerprints.outputs,
        "training_datasets": ", ".join(card.training.datasets),
        "saw_test_images": card.training.saw_test_images,
        "parameters": card.training.parameters,
        "sampler": card.sampling.sampler,
        "network_evaluations": card.sampling.steps,
    }
    about = {
        "scorecard_sha256": card.content_sha256,
        "never_ranks": ", ".join(card.watermarks),
        **{f"left_out.{key}": reason for key, reason in left_out.items()},
    }
    record = {
        "schema_version": EVERY_EVAL_EVER,
        "evaluation_id": f"{card.protocol}.{card.task}.{variant}/{method.slug}/{card.content_sha256[:12]}",
        "evaluation_timestamp": card.date,
        "retrieved_timestamp": str(_seconds(card)),
        "source_metadata": {
            "source_name": "palette-bench scorecard",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": _strings(about),
        },
        "eval_library": {
            "name": "palette-bench",
            "version": str(card.environment.get("palette_bench", "unknown")),
            "additional_details": _strings(card.environment),
        },
        "model_info": {
            "name": method.name,
            "id": method.slug,
            "developer": ", ".join(method.authors) or "unknown",
            "additional_details": _strings(declared),
        },
        "evaluation_results": [_every_eval_result(card, key, score) for key, score in scores.items()],
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _every_eval_result(card: Scorecard, key: str, score: Score) -> dict[str, Any]:
    words = metric_words(key)
    uncertainty: dict[str, Any] = {"num_samples": score.n}
    if score.se is not None:
        uncertainty["standard_error"] = {"value": score.se}
    if score.low is not None and score.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": score.low,
            "upper": score.high,
            "confidence_level": score.level,
            "method": score.interval or "unknown",
        }
    flat = {
        name: value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)
        for name, value in score.params.items()
    }
    return {
        "evaluation_result_id": f"{card.content_sha256[:12]}/{key}",
        "evaluation_name": "/".join((card.protocol, card.task, card.variant or "default")),
        "source_data": {
            "dataset_name": source_words(card.rules, card.source, card.n_expected),
            "source_type": "other",
            "additional_details": _question(card),
        },
        "metric_config": {
            "evaluation_description": f"{task_words(card.rules, card.task, card.variant)}: {words.meaning}",
            "metric_id": f"palette_bench.{key}",
            "metric_name": words.name,
            "metric_unit": score.unit,
            "metric_parameters": flat,
            "lower_is_better": score.direction == "lower",
            "additional_details": _basis(card, score),
        },
        "score_details": {"score": score.value, "uncertainty": uncertainty},
    }


def _strings(values: dict[str, Any]) -> dict[str, str]:
    """Return the values as text, without those that are unknown; the schema allows nothing else."""
    return {key: str(value) for key, value in values.items() if value not in (None, "")}


# --- Hugging Face Hub ---


def hub(card: Scorecard, scores: dict[str, Score], left_out: dict[str, str]) -> str:
    """Return the `model-index` of a model card as YAML, to paste into the metadata of the model's README."""
    metrics = []
    for key, score in scores.items():
        stated = {
            "images": score.n,
            "unit": score.unit,
            "low": score.low,
            "high": score.high,
            "level": score.level,
            "interval": score.interval,
            "standard_error": score.se,
        }
        args = _basis(card, score) | {name: value for name, value in stated.items() if value is not None}
        metrics.append({"type": key, "value": score.value, "name": metric_words(key).name, "args": args})
    result = {
        "task": {"type": "image-to-image", "name": task_words(card.rules, card.task, card.variant)},
        "dataset": {
            "name": source_words(card.rules, card.source, card.n_expected),
            "type": card.protocol,
            "config": f"{card.task}-{card.variant or 'default'}",
            "revision": card.fingerprints.set,
            "args": {**_question(card), "scorecard_sha256": card.content_sha256},
        },
        "metrics": metrics,
    }
    marks = [f"never ranks: {', '.join(card.watermarks)}"] if card.watermarks else []
    marks += [f"left out: {key}: {reason}" for key, reason in left_out.items()]
    index = {"model-index": [{"name": card.method.name, "results": [result]}]}
    return "\n".join([*(f"# {_yaml_scalar(mark)[1:-1]}" for mark in marks), *_yaml(index), ""])


def _yaml(value: Any) -> Iterator[str]:
    """Yield the lines of nested dicts and lists in YAML's block style; none of them may be empty."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list):
                yield f"{key}:"
                yield from (f"  {line}" for line in _yaml(item))
            else:
                yield f"{key}: {_yaml_scalar(item)}"
    else:
        for item in value:
            first, *rest = _yaml(item)
            yield from [f"- {first}", *(f"  {line}" for line in rest)]


def _yaml_scalar(value: str | int | float) -> str:
    """Return a scalar that readers of YAML 1.1 and 1.2 take for what it is.

    Text is quoted as in JSON, whose quotes YAML shares. YAML 1.1 takes 1e-06 for text: it wants a dot.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text)


# --- MLflow ---


def mlflow_json(card: Scorecard, scores: dict[str, Score], left_out: dict[str, str]) -> str:
    """Return the body of MLflow's `runs/log-batch`, without the id of the run, as JSON.

    A metric is up to five of MLflow's: KEY, KEY.low, KEY.high, KEY.standard_error and KEY.images. No name has
    a slash, because MLflow's file store keeps KEY as a file, which cannot be a folder too.
    """
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {
        "palette_bench.scorecard_sha256": card.content_sha256,
        "palette_bench.never_ranks": ", ".join(card.watermarks),
    }
    for key, score in scores.items():
        name = _mlflow_name(key)
        stated = {
            name: score.value,
            f"{name}.low": score.low,
            f"{name}.high": score.high,
            f"{name}.standard_error": score.se,
            f"{name}.images": score.n,
        }
        metrics |= {part: value for part, value in stated.items() if value is not None}
        basis = _basis(card, score) | {
            "metric": key,
            "unit": score.unit,
            "interval": score.interval or "none",
        }
        tags[f"palette_bench.score.{name}"] = json.dumps(basis, ensure_ascii=False)
    tags |= {f"palette_bench.left_out.{_mlflow_name(key)}": reason for key, reason in left_out.items()}
    method = card.method
    params = _question(card) | {
        "method": method.slug,
        "method_version": method.version,
        "outputs_sha256": card.fingerprints.outputs,
        **{f"extractor_sha256.{_mlflow_name(k)}": v for k, v in card.fingerprints.extractors.items()},
    }
    stamp = {"timestamp": 1000 * _seconds(card), "step": 0}  # milliseconds since 1970
    body = {
        "metrics": [{"key": key, "value": value, **stamp} for key, value in metrics.items()],
        "params": [{"key": key, "value": value} for key, value in params.items()],
        "tags": [{"key": key, "value": value} for key, value in tags.items() if value],
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _mlflow_name(key: str) -> str:
    """Return a name that MLflow takes on every system: letters, digits, `_`, `-`, `.` and spaces."""
    return re.sub(r"[^\w.\- ]", "_", key)


Write = Callable[[Scorecard, dict[str, Score], dict[str, str]], str]
FORMATS: dict[str, Write] = {"every-eval-ever": every_eval_ever, "hub": hub, "mlflow-json": mlflow_json}
