"""Cards for other programs: read back by their own readers, every digit and digest kept, gaps said."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cards import make_card, make_scores, make_table, sha, write_card
from common import RunCli

from palette_bench.core.errors import RecordError
from palette_bench.pages.card_exports import FORMATS, export_card
from palette_bench.pages.text import NOTES
from palette_bench.scoring.scorecard import Score, Scorecard

TABLE = make_table([f"p{i}" for i in range(30)])
AWKWARD = [1e-06, 1e22, 5e-324, 0.1 + 0.2, -2.0, 123456789.12345679, 0.0]
HOSTILE = "# \u00e9\N{GRINNING FACE} 'a': \"b\" {{c}} \\ \u2028\u0085- [x]"


def score(value: float | None, **changes: Any) -> Score:
    stated = {"n": 30, "direction": "lower", "unit": "none", "extractor": "smoke-random"}
    return Score(value=value, **(stated | changes))


def card_of(scores: dict[str, Score], **changes: Any) -> Scorecard:
    return make_card(TABLE, scores=scores, **changes).signed()


def awkward() -> Scorecard:
    scores = {
        f"external:m{i}@x 1": score(v, low=v / 3, high=v * 3, se=abs(v) / 7, interval="mean-t-v1")
        for i, v in enumerate(AWKWARD)
    }
    return card_of(scores, method={"name": HOSTILE})


def read(text: str, to: str) -> Any:
    return yaml.safe_load(text) if to == "hub" else json.loads(text)


def numbers(record: Any, to: str) -> dict[str, tuple[float | None, ...]]:
    """Return metric -> (value, low, high, standard error), as a reader of the format finds them."""
    if to == "mlflow-json":
        flat = {m["key"]: m["value"] for m in record["metrics"]}
        parts = (".low", ".high", ".standard_error")
        keys = [key for key in flat if not key.endswith((*parts, ".images"))]
        return {k: tuple(flat.get(f"{k}{part}") for part in ("", *parts)) for k in keys}
    if to == "hub":
        (result,) = record["model-index"][0]["results"]
        names = ("low", "high", "standard_error")
        return {m["type"]: (m["value"], *(m["args"].get(n) for n in names)) for m in result["metrics"]}
    found = {}
    for result in record["evaluation_results"]:
        said = result["score_details"]["uncertainty"]
        reach, error = said.get("confidence_interval", {}), said.get("standard_error", {})
        key = result["metric_config"]["metric_id"].removeprefix("palette_bench.")
        values = reach.get("lower"), reach.get("upper"), error.get("value")
        found[key] = (result["score_details"]["score"], *values)
    return found


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("card", [awkward(), card_of(make_scores(30))], ids=["awkward", "usual"])
def test_every_number_comes_back_to_the_last_digit(card: Scorecard, to: str) -> None:
    text, left_out = export_card(card, to)
    found = numbers(read(text, to), to)
    kept = {key: s for key, s in card.scores.items() if key not in left_out}
    expected = [(s.value, s.low, s.high, s.se) for s in kept.values()]
    assert list(found.values()) == expected
    assert [repr(v) for row in found.values() for v in row] == [repr(v) for row in expected for v in row]
    if to != "mlflow-json":  # whose names hold fewer characters
        assert list(found) == list(kept)


@pytest.mark.parametrize("to", FORMATS)
def test_set_and_network_are_named_by_their_digests(to: str) -> None:
    card = card_of(make_scores(30), fingerprints={"extractors": {"smoke-random": sha("network")}})
    text, _ = export_card(card, to)
    for digest in (card.fingerprints.set, sha("network"), sha("reference"), card.content_sha256):
        assert digest in text


@pytest.mark.parametrize("to", FORMATS)
def test_a_score_without_value_is_left_out_and_the_file_says_why(to: str) -> None:
    card = card_of({"psnr": score(24.0, direction="higher"), "lpips": score(None, notes=("no-weights",))})
    text, left_out = export_card(card, to)
    assert left_out == {"lpips": NOTES["no-weights"]}
    assert list(numbers(read(text, to), to)) == ["psnr"]
    assert "lpips" in text
    assert NOTES["no-weights"] in text
    assert "lpips" not in export_card(card_of({"psnr": score(24.0, direction="higher")}), to)[0]


def test_every_eval_ever_gets_no_score_without_a_better_side() -> None:
    card = card_of(make_scores(30))
    text, left_out = export_card(card, "every-eval-ever")
    assert list(left_out) == ["psnr"]
    lower = {r["metric_config"]["metric_name"]: r["metric_config"]["lower_is_better"]
             for r in json.loads(text)["evaluation_results"]}  # fmt: skip
    assert lower["Fréchet distance"] is True
    assert lower["Classifier score"] is False


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("note", ["partial", "preview"])
def test_what_never_ranks_is_marked(to: str, note: str) -> None:
    marked, _ = export_card(card_of({"fid": score(3.0, notes=(note, "small-n"))}), to)
    plain, _ = export_card(card_of({"fid": score(3.0, notes=("small-n",))}), to)
    assert "never_ranks" in marked
    assert note in marked
    assert "never_ranks" not in plain


@pytest.mark.parametrize("to", FORMATS)
def test_a_card_without_any_value_is_refused(to: str) -> None:
    with pytest.raises(RecordError, match=r"(?s)PB207.*lpips: The network's weights"):
        export_card(card_of({"lpips": score(None, notes=("no-weights",))}), to)


def test_every_eval_ever_accepts_the_record() -> None:
    """Its schema, its models and the checks of its datastore; of the package that its users install."""
    package = pytest.importorskip("every_eval_ever.schema")
    checks = pytest.importorskip("every_eval_ever.validator.validation_core")
    jsonschema = pytest.importorskip("jsonschema")
    for card in (awkward(), card_of(make_scores(30, notes=("partial",)))):
        record = json.loads(export_card(card, "every-eval-ever")[0])
        assert record["schema_version"] == package.get_schema_version()
        jsonschema.Draft7Validator(package.schema_json()).validate(record)
        checks.EvaluationLog.model_validate(record)
        assert checks.check_score_metadata(record) == []
        assert checks.check_model_deployment(record) == []
    del record["evaluation_results"][0]["metric_config"]["lower_is_better"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(package.schema_json()).validate(record)


def test_the_hub_reads_the_model_index_and_writes_the_same() -> None:
    cards = pytest.importorskip("huggingface_hub.repocard_data")
    card = awkward()
    text, _ = export_card(card, "hub")
    index = yaml.safe_load(text)["model-index"]
    name, results = cards.model_index_to_eval_results(index)
    assert name == HOSTILE
    assert [r.metric_value for r in results] == AWKWARD
    assert {r.dataset_revision for r in results} == {card.fingerprints.set}
    assert {r.task_type for r in results} == {"image-to-image"}
    again = cards.eval_results_to_model_index(name, results)
    assert again == index
    front = cards.ModelCardData(model_name=name, eval_results=results).to_yaml()
    assert yaml.safe_load(front)["model-index"] == index


def test_mlflow_logs_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    entities = importlib.import_module("mlflow.entities")
    batch = json.loads(export_card(awkward(), "mlflow-json")[0])
    client = mlflow.MlflowClient(tracking_uri=tmp_path.as_uri())
    run = client.create_run(client.create_experiment("cards")).info.run_id
    client.log_batch(
        run,
        metrics=[entities.Metric(**metric) for metric in batch["metrics"]],
        params=[entities.Param(**param) for param in batch["params"]],
        tags=[entities.RunTag(**tag) for tag in batch["tags"]],
    )
    logged = client.get_run(run).data
    assert [logged.metrics[f"external_m{i}_x 1"] for i in range(len(AWKWARD))] == AWKWARD
    assert logged.params["set_sha256"] == awkward().fingerprints.set


@pytest.mark.parametrize("to", FORMATS)
def test_the_verb_writes_the_file_and_names_what_it_left_out(
    to: str, tmp_path: Path, run_cli: RunCli
) -> None:
    path = write_card(tmp_path, "painter", scores={"psnr": score(24.0), "lpips": score(None)})
    done = run_cli("card", "export", path, "--format", to, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "lpips: no value" in done.stderr
    assert numbers(read((tmp_path / "out").read_text(encoding="utf-8"), to), to)["psnr"][0] == 24.0
    path.write_text(path.read_text().replace("24.0", "25.0"))
    assert "PB407" in run_cli("card", "export", path, "--format", to, "-o", tmp_path / "edited").stderr
