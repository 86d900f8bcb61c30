"""What a distance is called follows from network and reference, on cards and on every page and export."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cards import make_card, make_scores, make_table, sha

from palette_bench.board.board_page import board_files, index_page
from palette_bench.board.comparability import ranked_keys, unfit
from palette_bench.board.leaderboard import assemble
from palette_bench.board.paired_tests import evidence
from palette_bench.board.record import PublishedRecord
from palette_bench.board.report import page
from palette_bench.board.report_content import ReportContent
from palette_bench.pages.text import METRICS, NETWORKS, basis_words, reference_words
from palette_bench.scoring.features import EXTRACTORS
from palette_bench.scoring.features.cache import ArrayCache
from palette_bench.scoring.metrics import METRICS as KNOWN
from palette_bench.scoring.references import own_originals
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.tasks.protocol import load

TABLE = make_table([f"p{i:02d}" for i in range(30)])
OWN = {"reference": "originals", "reference_n": 10_000}
WHOLE = {"reference": "val-full@crop-area-v1", "reference_n": 50_000}


def distance(key: str, params: dict[str, Any], interval: str, extractor: str = "inception-v3-fid") -> Any:
    score = make_scores(30)["frechet_distance"]
    return {key: score.model_copy(update={"params": params, "interval": interval, "extractor": extractor})}


def card(slug: str, scores: dict[str, Score], source: str = "imagenet-ctest10k") -> Scorecard:
    """Return a card of JPEG restoration under palette-2022."""
    others = {name: score for name, score in make_scores(30).items() if name != "frechet_distance"}
    prints = {
        "protocol": load("palette-2022").fingerprint,
        "references": {name: sha(str(score.params)) for name, score in scores.items()},
    }
    return make_card(
        TABLE, slug, scores=scores | others, protocol="palette-2022", task="jpeg", variant="qf5",
        source=source, fingerprints=prints,
    ).signed()  # fmt: skip


TO_WHOLE = card("whole", distance("fid", WHOLE, "influence-v2"))
TO_OWN = card("own", distance("fid_originals", OWN, "paired-influence-v1"))
EARLIER = card("earlier", distance("fid", OWN, "influence-v1"))


def published(*cards: Scorecard) -> PublishedRecord:
    return PublishedRecord(cards, {c.content_sha256: evidence(TABLE) for c in cards}, {})


def test_every_network_and_metric_has_words() -> None:
    assert set(EXTRACTORS) <= set(NETWORKS)
    assert set(KNOWN) <= set(METRICS)


@pytest.mark.parametrize(
    ("found", "key", "reason"),
    [
        (TO_WHOLE, "fid", ""),
        (TO_OWN, "fid_originals", "measured against the set's own originals, not the validation set"),
        (EARLIER, "fid", "measured against the set's own originals, not the validation set"),
    ],
)
def test_on_the_papers_images_only_the_validation_set_ranks(found: Scorecard, key: str, reason: str) -> None:
    assert ranked_keys(found)[0] == key
    assert [why.reason for why in unfit(found, key)] == ([reason] if reason else [])


def test_on_a_folder_own_originals_rank() -> None:
    of_folder = card("own", distance("fid_originals", OWN, "paired-influence-v1"), source="folder:mine")
    assert unfit(of_folder, "fid_originals") == []


@pytest.mark.parametrize(
    ("source", "notes"), [("imagenet-ctest10k", ("own-originals",)), ("folder:mine", ())]
)
def test_scores_against_own_originals_say_so_where_the_paper_has_a_validation_set(
    source: str, notes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path))
    target: Any = SimpleNamespace(protocol=load("palette-2022"), manifest=SimpleNamespace(source=source))
    assert own_originals(target, {}, {}, 5, ArrayCache("statistics")).notes == notes


@pytest.mark.parametrize(
    ("params", "notes", "words"),
    [
        (OWN, (), "the set's own 10,000 originals"),
        (WHOLE, (), "the whole validation set, 50,000 images reduced by area"),
        (WHOLE, ("partial-reference",), "a part of the validation set, 50,000 images reduced by area"),
        ({"reference": "imported:0123456789ab", "reference_n": 7}, (), "imported statistics of 7 images"),
        ({}, (), "each image's original"),
    ],
)
def test_references_are_named_in_words(params: dict[str, Any], notes: tuple[str, ...], words: str) -> None:
    score = Score(
        value=1.0, n=5, direction="lower", unit="", extractor="timm:resnet50.tv_in1k",
        reference=sha("r"), params=params, notes=notes,
    )  # fmt: skip
    assert reference_words(score) == words
    assert basis_words(score) == f"timm's resnet50.tv_in1k, against {words}"


def test_two_boards_of_one_variant_are_told_apart_in_words() -> None:
    boards = assemble(published(TO_WHOLE, TO_OWN))
    assert len(boards.boards) == 2
    index = index_page(boards)
    for words in (
        "Inception v3, the FID network, against the whole validation set, 50,000 images reduced by area",
        "reference of Fréchet distance: the set&#39;s own 10,000 originals",
    ):
        assert words in index
    (there,) = boards.boards[0].siblings
    assert all(word in " ".join(there.differs) for word in ("the whole validation set", "the set's own"))


def test_an_earlier_card_is_not_headed_fid_and_says_what_its_interval_took_as_fixed() -> None:
    (board,) = assemble(published(EARLIER)).boards
    html = board_files(board)[board.page]
    assert "FID against own originals" in html
    assert "took the originals as fixed" in html
    text, _ = page(ReportContent(EARLIER, TABLE), None)
    assert "FID against own originals" in text
    assert "took the originals as fixed: it is too wide or too narrow" in text


@pytest.mark.parametrize("found", [TO_WHOLE, TO_OWN])
def test_every_page_caption_and_export_names_network_and_reference(found: Scorecard) -> None:
    (board,) = assemble(published(found)).boards
    score = found.scores[ranked_keys(found)[0]]
    files = board_files(board)
    stem = board.page.removesuffix("html")
    assert basis_words(score) in files[f"{stem}tex"]
    plain = {kind: files[stem + kind].replace("\\", "").replace("&#39;", "'") for kind in ("html", "md")}
    assert all(basis_words(score) in text for text in plain.values())
    row = next(
        r for r in csv.DictReader(io.StringIO(files[f"{stem}csv"])) if r["metric"] in ("fid", "fid_originals")
    )
    assert (row["network"], row["reference"]) == ("Inception v3, the FID network", reference_words(score))
    report, _ = page(ReportContent(found, TABLE), None)
    report = report.replace("&#39;", "'")
    assert reference_words(score) in report
    assert "Inception v3, the FID network" in report
    assert "expected value at this number of images" in report
    assert "expected value at this number of images" in plain["html"]
