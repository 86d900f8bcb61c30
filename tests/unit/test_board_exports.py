"""What a site holds beside its pages: tables to paste, badges, methods, Parquet; and that bytes are equal."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from cards import make_card, make_scores, make_table, with_outputs, write_card

from palette_bench.board.board_page import board_files
from palette_bench.board.exports import (
    badge,
    badge_words,
    latex,
    latex_table,
    markdown,
    markdown_table,
    parquet_bytes,
)
from palette_bench.board.image_selection import grid_ids
from palette_bench.board.leaderboard import Board, Leaderboard, assemble
from palette_bench.board.method_page import MethodRecord, method_records
from palette_bench.board.paired_tests import evidence
from palette_bench.board.record import PublishedRecord, Tier, add_card, read_record
from palette_bench.board.rows import PrintedTable, lines_of
from palette_bench.board.site import build_site, site_files
from palette_bench.core.errors import RecordError, StackError
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.submission.card import Sampling

TABLE = make_table([f"p{i}" for i in range(30)])
HOSTILE = r"\input{x} & 50% _a_ | <img src=x onerror=alert(1)> $1^2$ [l](javascript:alert(1)) `c`"
DASH = "\N{EN DASH}"


def scored(slug: str, frechet: float, **changes: object) -> Scorecard:
    return with_outputs(make_card(TABLE, slug, **({"scores": make_scores(30, frechet)} | changes))).signed()


def record_of(*cards: Scorecard, **tiers: Tier) -> PublishedRecord:
    known = {c.content_sha256: tiers[c.method.slug] for c in cards if c.method.slug in tiers}
    return PublishedRecord(cards, {c.content_sha256: evidence(TABLE) for c in cards}, known)


def board_of(*cards: Scorecard) -> Board:
    (board,) = assemble(record_of(*cards)).boards
    return board


@pytest.fixture(scope="module")
def lines() -> PrintedTable:
    cards = [
        scored("copy-input", 14.0),
        scored("aa", 3.0, method={"name": HOSTILE}),
        scored("bb", 3.0),
        scored("cc", 9.0),
        scored("half", 1.0, n_expected=31),
    ]
    return lines_of(board_of(*cards))


def test_the_latex_table_is_a_table_and_a_name_is_no_command(lines: PrintedTable) -> None:
    text = latex_table(lines, "a board\nof two lines")
    rows = [row for row in text.splitlines() if row.endswith(r"\\") and "multicolumn" not in row]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1 + len(lines.columns)}
    assert "\\begin{tabular}{ll" + "r" * len(lines.columns) + "}" in text
    assert text.count(r"\midrule") == 1  # anchors, ranked and unranked stand together
    body = text.partition(r"\toprule")[2]
    named = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert named <= {
        *("midrule", "bottomrule", "end", "textbf", "scriptsize", "footnotesize", "multicolumn"),
        *("textbackslash", "textless", "textgreater", "textasciicircum", "downarrow", "uparrow"),
    }
    assert text.splitlines()[0] == "% a board of two lines"
    assert r"3.00 {\scriptsize [2.70, 3.30]}" in text.replace(r"\textbf{3.00}", "3.00")


def test_bold_marks_the_whole_first_group_and_nobody_else(lines: PrintedTable) -> None:
    for text, bold in ((latex_table(lines, ""), r"\textbf{%s}"), (markdown_table(lines), "**%s**")):
        assert text.count(bold % "3.00") == 2
        assert bold % "9.00" not in text
        assert bold % "14.00" not in text  # an anchor
        assert bold % "1.00" not in text  # unranked, whatever its value


def test_the_markdown_table_is_a_table_and_says_why(lines: PrintedTable) -> None:
    text = markdown_table(lines)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(lines.columns) + 4}
    assert "(PB205" in text.replace("\\", "")
    assert "<img" not in re.sub(r"\\.", "", text)
    assert "](" not in re.sub(r"\\.", "", text)
    assert f"| 1{DASH}2 |" in text


@pytest.mark.parametrize("text", ["", "a_b", "100 %", "~^", "\N{EN DASH}\N{MINUS SIGN}↓…", HOSTILE])
def test_escaping_leaves_plain_words_and_tames_the_rest(text: str) -> None:
    assert not re.search(r"(?<!\\)[&%#_]", latex(text))
    assert re.sub(r"\\(.)", r"\1", markdown(text)) == text


def test_costs_stand_in_page_csv_and_parquet(tmp_path: Path) -> None:
    spent = Sampling(sampler="x", steps=50, seconds_per_image=2.5, hardware="a GPU", flop_per_image=7.1e13)
    files = board_files(board_of(scored("aa", 3.0, sampling=spent), scored("bb", 4.0)))
    page = next(text for name, text in files.items() if name.endswith(".html"))
    assert all(text in page for text in ("71 T", ">50<", "2.5", "a GPU", "1,000", "62.6 M"))
    text = next(text for name, text in files.items() if name.endswith(".csv"))
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["slug"] == "aa"]
    assert {(r["steps"], r["seconds_per_image"], r["flop_per_image"]) for r in rows} == {
        ("50", "2.5", "71000000000000.0")
    }
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(io.BytesIO(parquet_bytes(text.encode())))
    assert list(frame.columns) == text.splitlines()[0].split(",")
    assert frame["value"].tolist() == [float(row["value"]) for row in csv.DictReader(io.StringIO(text))]
    assert frame["steps"].isna().sum() == 0
    assert frame["flop_per_image"].isna().sum() == 5  # bb states none


def test_a_cost_nobody_states_has_no_column() -> None:
    unstated = Sampling(sampler="x")
    page = next(iter(board_files(board_of(scored("aa", 3.0, sampling=unstated))).values()))
    assert 'data-key="parameters"' in page
    assert not re.search(r'data-key="(steps|seconds_per_image|flop_per_image)"', page)


def test_without_pyarrow_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_card(write_card(tmp_path), tmp_path / "record")

    def absent(*args: object, **options: object) -> None:
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    with pytest.raises(StackError, match=r"PB711[\s\S]*palette-bench\[parquet\]"):
        build_site(tmp_path / "record", tmp_path / "site", parquet=True)
    assert not (tmp_path / "site").exists()


def test_a_badge_says_value_rank_and_tier() -> None:
    record = record_of(scored("aa", 3.0), scored("bb", 3.0), scored("original", 0.1), aa="verified")
    (board,) = assemble(record).boards
    rows = {row.slug: row for row in (*board.rows, *board.anchors)}
    assert badge_words(board.sort, rows["aa"]) == f"Fréchet distance 3.00 ±0.30 · rank 1{DASH}2 · verified"
    assert badge_words(board.sort, rows["original"]) == "Fréchet distance 0.10 ±0.30 · anchor"
    barred = board_of(scored("cc", 3.0, training={"saw_test_images": "yes"})).unranked[0].row
    assert badge_words(board.sort, barred) == "Fréchet distance 3.00 ±0.30 · not ranked · self-reported"


def test_a_badge_is_whole_xml_whatever_it_is_called() -> None:
    row = board_of(scored("aa", 3.0, method={"name": HOSTILE})).rows[0]
    root = ElementTree.fromstring(badge("inpainting", "center32", "frechet_distance", row))
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names == {"svg", "title", "clipPath", "rect", "g", "text"}
    assert HOSTILE in (root.get("aria-label") or "")


def methods(published: PublishedRecord) -> dict[str, MethodRecord]:
    return {m.slug: m for m in method_records(assemble(published), published)}


def test_a_method_s_page_gathers_its_versions_boards_and_findings() -> None:
    old = scored("aa", 3.0)
    new = scored("aa", 2.0, method={"version": "2", "name": "New Name"}, date="2026-03-01")
    gray = scored("aa", 5.0, task="colorization", variant=None)
    found = methods(record_of(old, new, gray, scored("bb", 3.0)))
    assert sorted(found) == ["aa", "bb"]
    assert (found["aa"].name, found["aa"].versions) == ("New Name", ("1", "2"))
    where = [(a.task, a.row.version) for a in found["aa"].appearances]
    assert where == [("colorization", "1"), ("inpainting", "2"), ("inpainting", "1")]


def test_every_method_of_a_set_shows_the_same_ids() -> None:
    first, second = scored("aa", 3.0), scored("bb", 4.0)
    found = methods(record_of(second, first))
    grids = {a.grid for m in found.values() for a in m.appearances}
    assert grids == {tuple(grid_ids(first.fingerprints.set, list(TABLE["image_id"])))}


# R10: whatever is broken stands last or apart


@pytest.mark.trust("report: namesakes")
def test_versions_and_namesakes_are_told_apart_in_tables_to_paste() -> None:
    board = board_of(
        scored("aa", 3.0, method={"name": "Same", "version": "1"}),
        scored("aa", 3.1, method={"name": "Same", "version": "2"}),
        scored("bb", 3.2, method={"name": "Same", "version": "2"}),
        scored("cc", 3.3, method={"name": "Other", "version": "2"}),
    )
    labels = [line.label for line in lines_of(board).ranked]
    assert labels == ["Same 1", "Same 2 (aa)", "Same 2 (bb)", "Other"]
    for label in labels:
        assert f" {label} &" in latex_table(lines_of(board), "a board")
        assert f"| {markdown(label)} |" in markdown_table(lines_of(board))


@pytest.mark.long
def test_five_hundred_systems_rank_and_the_broken_ones_never_come_first() -> None:
    only = {"frechet_distance"}
    cards = [
        scored(
            f"m{i:03d}", 3 + i / 4, scores={k: s for k, s in make_scores(30, 3 + i / 4).items() if k in only}
        )
        for i in range(500)
    ]
    bad = {
        "no-value": scored(
            "no-value", 0.0, scores={"frechet_distance": Score(value=None, n=30, direction="lower", unit="")}
        ),
        "partial": scored("partial", 0.0, n_expected=31),
        "foreign": scored("foreign", 0.0, fingerprints={"set": "f" * 64}),
        "duplicate": scored("m000", 0.0, method={"version": "2"}, date="2026-02-04", n_expected=31),
    }
    boards = assemble(record_of(*cards, *bad.values())).boards
    assert [len(board.rows) for board in boards] == [500, 1]
    assert [row.slug for row in boards[0].rows] == [f"m{i:03d}" for i in range(500)]
    assert boards[0].rows[-1].rank["frechet_distance"][1] == 500
    assert {u.slug: u.code for u in boards[0].unranked} == {
        "no-value": "PB207",
        "partial": "PB205",
        "m000": "PB205",
    }
    assert boards[1].rows[0].slug == "foreign"  # first of nobody else
    files = board_files(boards[0])
    page = files[boards[0].page]
    assert page.count("data-value=") > 500
    assert "463 rows that do not fit a plot" in page
    assert len(page) < 8_000_000


def test_values_that_are_not_finite_never_reach_a_board(tmp_path: Path) -> None:
    for word in ("NaN", "Infinity", "1e999"):
        path = write_card(tmp_path)
        path.write_text(path.read_text().replace('"value": 3.1', f'"value": {word}'))
        with pytest.raises(RecordError, match=r"PB40[137]"):
            add_card(path, tmp_path / "record")


# R2: equal records, equal bytes


def build(record: Path, site: Path, cwd: Path, **environment: str) -> dict[str, bytes]:
    command = [sys.executable, "-m", "palette_bench", "board", "build", record, "-o", site]
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,  # a guard against hanging, not a claim
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {str(p.relative_to(site)): p.read_bytes() for p in sorted(site.rglob("*")) if p.is_file()}


def test_two_builds_elsewhere_at_another_time_are_equal_bytes(tmp_path: Path) -> None:
    record = tmp_path / "record"
    for at, (slug, frechet) in enumerate(
        {"painter": 3.1, "twin": 3.11, "blur": 9.8, "original": 0.2}.items()
    ):
        add_card(write_card(tmp_path, slug, seed=at, scores=make_scores(30, frechet)), record)
    moved = tmp_path / "clock"
    moved.mkdir()
    (moved / "sitecustomize.py").write_text("import time\ntime.time = lambda: 978307200.5\n")
    here = {"TZ": "UTC", "LANG": "C.UTF-8", "PYTHONHASHSEED": "1"}
    first = build(record, tmp_path / "site", tmp_path, **here)
    for path in record.rglob("*.json"):
        os.utime(path, (1, 1))
    there = {
        "TZ": "Asia/Kathmandu",
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "2",
        "SOURCE_DATE_EPOCH": "1",
    }
    second = build(record, tmp_path / "elsewhere", moved, PYTHONPATH=str(moved), **there)
    assert list(first) == list(second)
    assert [name for name, data in first.items() if second[name] != data] == []
    assert {name.rpartition(".")[2] for name in first} == {"html", "json", "csv", "md", "tex", "svg"}


# R14: tiers


def test_a_reviewed_card_that_is_edited_and_signed_again_loses_its_tier(tmp_path: Path) -> None:
    record = tmp_path / "record"
    path, _ = add_card(write_card(tmp_path, "painter"), record)
    digest = read_record(record).cards[0].content_sha256
    review = f'[cards.{digest}]\ntier = "verified"\nreviewer = "B. Person"\nday = "2026-02-04"\n'
    (record / "palette-mini/reviews.toml").write_text(f'schema = "palette-bench/reviews/1.0"\n{review}')
    assert first_row(record).tier == "verified"
    for file in (path, path.with_name(f"{path.stem}.images.csv.gz")):
        file.unlink()
    add_card(write_card(tmp_path, "painter", training={"parameters": 1}), record)  # one number changed
    assert first_row(record).tier == "self-reported"
    assert first_row(record, "verified") is None


def first_row(record: Path, min_tier: Tier = "self-reported") -> object:
    files = site_files(record, min_tier)
    (board,) = Leaderboard.parse(files["leaderboard.json"], "leaderboard.json").boards
    return board.rows[0] if board.rows else None
