"""Boards: who shares a table, who is pinned, who is unranked and why, and what the paper printed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from cards import make_card, make_scores, make_table, sha, with_outputs, write_card

from palette_bench.board.board_page import board_files, floor_words
from palette_bench.board.comparability import differences, groups, identity, unfit
from palette_bench.board.leaderboard import Board, Leaderboard, assemble
from palette_bench.board.paired_tests import evidence
from palette_bench.board.quoted import quoted_rows
from palette_bench.board.record import PublishedRecord, Tier, add_card, add_cards, board_key, read_record
from palette_bench.board.rows import lines_of
from palette_bench.board.set_again import set_command, set_ids
from palette_bench.board.site import build_site, check_site, site_files
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, RecordError, SpecError
from palette_bench.core.records import validate
from palette_bench.scoring.scorecard import (
    Score,
    Scorecard,
    read_scorecard,
    table_path,
    write_scorecard,
)
from palette_bench.submission.card import Method
from palette_bench.tasks.protocol import load

NO_VALUE = Score(value=None, n=30, direction="lower", unit="")
Spoil = Callable[[pd.DataFrame], pd.DataFrame]
TABLE = make_table([f"p{i}" for i in range(30)])


def signed(slug: str, **changes: object) -> Scorecard:
    return with_outputs(make_card(TABLE, slug, **changes)).signed()


def scored(slug: str, frechet: float, **changes: object) -> Scorecard:
    return signed(slug, scores=make_scores(30, frechet), **changes)


def published(*cards: Scorecard, **tiers: Tier) -> PublishedRecord:
    """Return a record of cards that all have the common table; `tiers` by slug."""
    known = {c.content_sha256: tiers[c.method.slug] for c in cards if c.method.slug in tiers}
    return PublishedRecord(cards, {c.content_sha256: evidence(TABLE) for c in cards}, known)


def only_board(*cards: Scorecard) -> Board:
    boards = assemble(published(*cards)).boards
    assert len(boards) == 1
    return boards[0]


def test_rows_stand_by_the_first_ranked_metric() -> None:
    board = only_board(scored("cc", 9.0), scored("aa", 3.0), scored("bb", 5.0))
    assert board.sort == "frechet_distance"  # fid's arithmetic on other features
    assert [row.slug for row in board.rows] == ["aa", "bb", "cc"]


def test_equal_values_stand_by_name() -> None:
    board = only_board(scored("b2", 3.0), scored("a1", 3.0))
    assert [row.slug for row in board.rows] == ["a1", "b2"]


def test_anchors_are_pinned_whatever_they_score() -> None:
    board = only_board(scored("copy-input", 0.1), scored("painter", 3.0), scored("original", 9.0))
    assert [row.slug for row in board.anchors] == ["original", "copy-input"]
    assert [row.slug for row in board.rows] == ["painter"]
    assert board.warnings == ()


def test_a_missing_anchor_is_a_warning() -> None:
    board = only_board(scored("painter", 3.0), scored("original", 0.0))
    assert board.warnings == ("The anchor copy-input is missing, so this board has no floor.",)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"training": {"saw_test_images": "yes"}}, "PB410"),
        ({"n_expected": 31}, "PB205"),
        ({"scores": make_scores(30, notes=("random-weights",))}, "PB608"),
        ({"scores": make_scores(30, notes=("rank-deficient",))}, "PB208"),
        ({"scores": make_scores(30) | {"frechet_distance": NO_VALUE}}, "PB207"),
    ],
)  # fmt: skip
def test_unranked_cards_are_listed_with_their_reason(changes: dict[str, object], code: str) -> None:
    board = only_board(scored("painter", 9.0), signed("odd", **changes))
    assert [row.slug for row in board.rows] == ["painter"]
    assert [(u.slug, u.code) for u in board.unranked] == [("odd", code)]
    assert code in board.unranked[0].reason


def test_a_card_without_the_sort_metric_joins_the_board_unranked() -> None:
    scores = make_scores(30)
    del scores["frechet_distance"]
    board = only_board(scored("painter", 3.0), signed("odd", scores=scores))
    assert [(u.slug, u.code) for u in board.unranked] == [("odd", "PB207")]


def test_an_unknown_training_set_is_no_bar() -> None:
    assert unfit(signed("aa", training={"saw_test_images": "unknown"}), "frechet_distance") == []


@pytest.mark.parametrize(
    ("fingerprints", "code"),
    [
        ({"protocol": sha("other")}, "PB601"),
        ({"set": sha("other")}, "PB602"),
        ({"extractors": {"smoke-random": sha("other")}}, "PB603"),
        ({"references": {"frechet_distance": sha("other")}}, "PB604"),
    ],
)
def test_other_fingerprints_open_another_board_that_names_them(
    fingerprints: dict[str, object], code: str
) -> None:
    here, there = signed("aa"), signed("bb", fingerprints=fingerprints)
    assert {p.code for p in differences(identity(here), identity(there))} == {code}
    boards = assemble(published(here, there)).boards
    assert len(boards) == 2
    assert boards[0].page == "boards/inpainting.photos-64.center32.html"
    assert boards[1].page.startswith("boards/inpainting.photos-64.center32-")
    assert boards[0].siblings[0].page == boards[1].page
    assert all(code in text for text in boards[0].siblings[0].differs)


def test_outputs_and_unranked_extractors_part_nobody() -> None:
    other = signed(
        "bb", fingerprints={"extractors": {"smoke-random": sha("extractor"), "lpips-alex": sha("l")}}
    )
    assert len(groups([signed("aa"), other])) == 1


def test_fid_and_other_features_never_share_a_board() -> None:
    scores = make_scores(30)
    scores["fid"] = scores.pop("frechet_distance").model_copy(update={"extractor": "inception-v3-fid"})
    fid = signed(
        "bb", scores=scores, fingerprints={"extractors": {"inception-v3-fid": sha("i")}, "references": {}}
    )
    assert {p.code for p in differences(identity(signed("aa")), identity(fid))} == {"PB603"}
    assert len(groups([signed("aa"), fid])) == 2


def test_grouping_ignores_the_order_of_cards() -> None:
    cards = [scored(f"m{i}", float(i), fingerprints={"set": sha(str(i % 3))}) for i in range(9)]
    assert assemble(published(*cards)) == assemble(published(*reversed(cards)))


def test_the_board_key_is_fit_for_a_file_name() -> None:
    assert board_key(signed("aa", source="folder:my-pictures")) == "inpainting.folder-my-pictures.center32"
    assert board_key(signed("aa", task="colorization", variant=None)) == "colorization.photos-64.default"
    for bad in ({"source": "folder:../../x"}, {"source": "elsewhere"}, {"task": "x/y"}, {"protocol": "../p"}):
        with pytest.raises(SpecError, match="PB609"):
            board_key(signed("aa", **bad))


def test_a_card_is_added_once_and_never_replaced(tmp_path: Path) -> None:
    record = tmp_path / "record"
    card = write_card(tmp_path)
    path, new = add_card(card, record)
    digest = read_scorecard(card).content_sha256
    assert path == record / "palette-mini/inpainting.photos-64.center32/painter" / f"{digest[:12]}.json"
    assert path.read_bytes() == card.read_bytes()
    assert new
    assert add_card(card, record) == (path, False)
    with pytest.raises(RecordError, match="PB404"):
        add_card(write_card(tmp_path / "again", seed=5), record)
    add_card(write_card(tmp_path / "two", seed=5, method={"version": "2"}), record)
    add_card(write_card(tmp_path / "three", seed=6, fingerprints={"set": sha("another set")}), record)
    assert len(read_record(record).cards) == 3


@pytest.mark.trust("people: many cards")
def test_many_cards_are_added_or_none_and_all_faults_are_named(tmp_path: Path) -> None:
    good = [write_card(tmp_path, slug) for slug in ("one", "two", "three")]
    edited, absent = write_card(tmp_path, "edited"), write_card(tmp_path, "absent")
    edited.write_text(edited.read_text().replace('"psnr"', '"pnsr"'))
    table_path(absent).unlink()
    twin = write_card(tmp_path / "twin", "one", seed=4)
    with pytest.raises(RecordError) as caught:
        add_cards([*good, edited, absent, twin], tmp_path / "record")
    assert [p.code for p in caught.value.problems] == ["PB407", "PB408", "PB404"]
    assert not (tmp_path / "record").exists()
    assert [new for _, new in add_cards(good, tmp_path / "record")] == [True] * 3
    assert len(read_record(tmp_path / "record").cards) == 3


@pytest.mark.trust("people: many cards")
def test_a_draft_gives_way_to_the_next_card_of_its_method(tmp_path: Path) -> None:
    record = tmp_path / "record"
    old = add_cards([write_card(tmp_path, "mine")], record)[0][0]
    ((new, fresh),) = add_cards([write_card(tmp_path / "again", "mine", seed=7)], record, replace=True)
    assert (old.exists(), table_path(old).exists(), new.exists(), fresh) == (False, False, True, True)


def test_a_record_with_damage_names_every_file(tmp_path: Path) -> None:
    record = tmp_path / "record"
    paths = [add_card(write_card(tmp_path, slug), record)[0] for slug in ("one", "two", "three")]
    paths[0].write_text(paths[0].read_text().replace("A. Person", "B. Person"))
    atomic.write_gzip(table_path(paths[1]), b"image_id,pixels\n")
    paths[2].rename(paths[2].with_name("0123456789ab.json"))
    paths[2].with_name(paths[2].stem + ".images.csv.gz").rename(
        paths[2].with_name("0123456789ab.images.csv.gz")
    )
    with pytest.raises(RecordError) as caught:
        build_site(record, tmp_path / "site")
    assert sorted(p.code for p in caught.value.problems) == ["PB407", "PB407", "PB408"]
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.drop(columns="pixels"),
        lambda t: t.assign(image_id="../" + t["image_id"]),
        lambda t: t.assign(image_id="same"),
        lambda t: t.assign(pixels="<script>"),
        lambda t: t.assign(perceptual_distance="=1+1"),
        lambda t: t.assign(perceptual_distance=float("inf")),
        lambda t: t.iloc[:-1],
    ],
)
def test_a_stranger_s_table_is_refused_whatever_it_holds(spoil: Spoil, tmp_path: Path) -> None:
    write_scorecard(make_card(TABLE), spoil(TABLE), tmp_path / "card.json")
    with pytest.raises(RecordError, match="PB408"):
        add_card(tmp_path / "card.json", tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_two_builds_are_equal_and_a_changed_site_is_noticed(tmp_path: Path) -> None:
    record, site = tmp_path / "record", tmp_path / "site"
    for at, slug in enumerate(("painter", "original", "copy-input")):
        add_card(write_card(tmp_path, slug, seed=at), record)
    for slug, frechet in {"blur": 9.0, "twin": 3.1, "other": 5.0}.items():
        add_card(write_card(tmp_path, slug, scores=make_scores(30, frechet)), record)
    again = tmp_path / "again"
    for path in sorted(tmp_path.glob("*.json"), reverse=True):  # cards come in another order
        add_card(path, again)
    assert site_files(record) == site_files(record) == site_files(again)
    build_site(record, site)
    check_site(record, site)
    (site / "leaderboard.csv").write_text("")
    (site / "index.html").unlink()
    with pytest.raises(InputError, match=r"index\.html\n.*leaderboard\.csv"):
        check_site(record, site)


def test_pages_of_boards_that_are_gone_are_removed_and_foreign_files_stay(tmp_path: Path) -> None:
    record, site = tmp_path / "record", tmp_path / "site"
    path, _ = add_card(write_card(tmp_path, "painter"), record)
    add_card(write_card(tmp_path, "gray", task="colorization", variant=None), record)
    build_site(record, site)
    (site / "boards" / "notes.html").write_text("mine")
    path.unlink()
    with pytest.raises(InputError, match="inpainting"):
        check_site(record, site)
    build_site(record, site)
    twins = [f"colorization.photos-64.default.{kind}" for kind in ("csv", "html", "json", "md", "tex")]
    assert sorted(p.name for p in (site / "boards").iterdir()) == [*twins, "notes.html"]
    assert sorted(p.name for p in (site / "methods").iterdir()) == ["gray.html", "gray.json"]
    assert len(list((site / "badges").iterdir())) == 1


@pytest.mark.parametrize(
    ("protocol", "source", "words"),
    [
        ("palette-mini", "photos-64", "--source photos-64 --limit 30 --expect"),
        ("palette-2022", "imagenet-ctest10k", "--source imagenet-ctest10k --images DIR --expect"),
        ("palette-2022", "folder:mine", "--source folder:mine --images DIR --expect"),
    ],
)
def test_a_board_s_command_names_what_its_source_needs(protocol: str, source: str, words: str) -> None:
    card = scored("aa", 3.0, protocol=protocol, source=source, task="jpeg", variant="qf5", n_expected=31)
    board = only_board(card)
    assert (
        set_command(board, "")
        == f"palette-bench generate {protocol} jpeg/qf5 {words} {sha('set')[:12]} -o SET"
    )
    page = board_files(board)[board.page]
    assert ("not on record" in page) == source.startswith("folder:")
    assert set_ids(board, published(card)) == ()  # no card scored the whole set


def test_the_ids_of_a_folder_s_set_leave_the_site_with_its_board(tmp_path: Path) -> None:
    record, site = tmp_path / "record", tmp_path / "site"
    path, _ = add_card(write_card(tmp_path, "painter", source="folder:mine", n=3), record)
    build_site(record, site)
    listed = site / "boards" / "inpainting.folder-mine.center32.ids.txt"
    assert listed.read_text() == "photo-000\nphoto-001\nphoto-002\n"
    path.unlink()
    build_site(record, site)
    assert not listed.exists()


def test_json_and_csv_hold_the_same_numbers(tmp_path: Path) -> None:
    record, site = tmp_path / "record", tmp_path / "site"
    add_card(write_card(tmp_path, "painter", method={"version": "=1+1"}), record)
    build_site(record, site)
    board = Leaderboard.read(site / "leaderboard.json").boards[0]
    rows = list(csv.DictReader(io.StringIO((site / "leaderboard.csv").read_text())))
    assert {r["metric"]: float(r["value"]) for r in rows} == {
        k: s.value for k, s in board.rows[0].scores.items()
    }
    assert {r["version"] for r in rows} == {"'=1+1"}  # a spreadsheet must not compute it
    assert "NaN" not in (site / "leaderboard.json").read_text()


def test_metrics_that_a_protocol_shows_stand_beside_those_that_rank(tmp_path: Path) -> None:
    fingerprints = {"protocol": load("palette-2026").fingerprint}
    changes = {"protocol": "palette-2026", "source": "folder:photos", "fingerprints": fingerprints}
    places = {"task": "super-resolution", "variant": "x4"}
    cards = [scored(name, value, **changes, **places) for name, value in (("one", 2.0), ("two", 9.0))]
    board = only_board(*cards)
    lines = lines_of(board)
    assert board.metrics == ("frechet_distance", "classification_agreement")  # no card has LPIPS
    assert [column.key for column in lines.columns] == [
        *board.metrics, "classifier_score", "perceptual_distance",
    ]  # fmt: skip
    assert [column.direction.endswith("not ranked") for column in lines.columns] == [False, False, True, True]
    assert "stands in for the networks of palette-2026 (Inception v3" in board_files(board)[board.page]
    other = cards[1].scores["classifier_score"].model_copy(update={"extractor": "another"})
    parted = scored("two", 9.0, **changes, **places)
    parted = parted.model_copy(update={"scores": parted.scores | {"classifier_score": other}}).signed()
    assert "classifier_score" not in [c.key for c in lines_of(only_board(cards[0], parted)).columns]


def test_an_empty_record_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    files = site_files(tmp_path / "record")
    assert sorted(files) == ["index.html", "leaderboard.csv", "leaderboard.json"]
    assert json.loads(files["leaderboard.json"])["boards"] == []


def test_script_links_are_refused_where_they_enter() -> None:
    method = {
        "slug": "ab",
        "name": "n",
        "version": "1",
        "authors": [],
        "license": "x",
        "url": "javascript:alert(1)",
    }
    with pytest.raises(RecordError, match="PB403"):
        validate(Method, method, "submission.toml")


def test_the_paper_is_quoted_for_its_own_images_only() -> None:
    rows = {r.method: r for r in quoted_rows("palette-2022", "inpainting", "center128", "imagenet-ctest10k")}
    assert rows["Palette (I+P)"].values == {
        "fid": "6.6",
        "inception_score": "173.9",
        "classification_accuracy": "69.3",
        "perceptual_distance": "59.5",
    }
    assert rows["Palette (I+P)"].tables == (2, 7, 9)  # one number is shown once
    assert "printed as Palette specialist in table 7" in rows["Palette (I+P)"].notes
    assert rows["original"].values["fid"] == "5.1"  # variant "all" stands on every board
    assert not any(row.other_images for row in rows.values())
    assert "Palette specialist" not in rows


@pytest.mark.parametrize(
    ("protocol", "task", "variant", "source"),
    [
        ("palette-2022", "inpainting", "center128", "folder:mine"),
        ("palette-mini", "jpeg", "qf5", "photos-64"),
        ("smoke", "jpeg", "qf5", "smoke-photos"),
        ("palette-2022", "uncropping", "left", "imagenet-ctest10k"),
    ],
)
def test_other_images_quote_nothing(protocol: str, task: str, variant: str, source: str) -> None:
    rows = quoted_rows(protocol, task, variant, source)
    assert [r for r in rows if r.method != "original"] == []


def test_other_images_are_marked() -> None:
    colour = quoted_rows("palette-2022", "colorization", "default", "imagenet-ctest10k")
    assert {r.tables for r in colour if r.other_images} == {(1,)}
    places = quoted_rows("palette-2022", "inpainting", "center128", "places10k-r1")
    assert places
    assert all(r.other_images for r in places)  # another list of images
    right = quoted_rows("palette-2022", "uncropping", "right", "imagenet-ctest10k")
    assert {r.tables[0]: r.other_images for r in right if r.split == "unstated"} == {3: True}


def test_quoted_numbers_are_folded_but_never_lost() -> None:
    """Table 8 holds what tables 6 and 7 repeat; the sample diversity of table 6 joins its method."""
    colour = quoted_rows("palette-2022", "colorization", "default", "imagenet-ctest10k")
    rows = {r.method: r for r in colour if not r.other_images}
    assert rows["Palette L2"].tables == (6, 7, 8)
    assert rows["Palette L2"].values["diversity_lpips"] == "0.15"
    assert set(rows) == {
        "Palette L1",
        "Palette L2",
        "Palette multi-task",
        "Regression specialist",
        "original",
    }


def test_quoted_rows_stand_apart_on_the_page(tmp_path: Path) -> None:
    scores = make_scores(30)
    scores["fid"] = scores.pop("frechet_distance")
    card = write_card(
        tmp_path, protocol="palette-2022", source="imagenet-ctest10k", variant="center128", scores=scores
    )  # fmt: skip
    add_card(card, tmp_path / "record")
    files = site_files(tmp_path / "record")
    page = files["boards/inpainting.imagenet-ctest10k.center128.html"].decode()
    assert page.index('id="systems"') < page.index('id="quoted"') < page.index("173.9")
    assert "No ranks claimed" not in page


def test_ranks_follow_the_tests_and_not_the_order_of_values() -> None:
    board = only_board(scored("aa", 3.0), scored("bb", 3.0), scored("cc", 9.0))
    assert [row.rank["frechet_distance"] for row in board.rows] == [(1, 2), (1, 2), (3, 3)]
    assert [row.tie_group["frechet_distance"] for row in board.rows] == [1, 1, 2]
    assert board.rows[0].rank["perceptual_distance"] == (1, 3)  # one table, hence one distance
    assert "frechet_distance" not in board.rows[2].vs_next
    assert board.rows[1].vs_next["frechet_distance"].delta == -6.0


def test_anchors_and_unranked_rows_take_no_place() -> None:
    barred = signed("zz", training={"saw_test_images": "yes"}, scores=make_scores(30, 0.1))
    board = only_board(scored("original", 0.0), scored("painter", 3.0), barred)
    assert board.rows[0].rank["frechet_distance"] == (1, 1)
    assert board.anchors[0].rank == {}
    assert board.unranked[0].row.rank == {}
    assert board.unranked[0].row.no_rank["frechet_distance"] == "its training saw test images (PB410)"


def test_without_influence_no_system_is_ranked_by_value() -> None:
    """Fewer images than dimensions: the distance has no influence, so no test and no rank."""
    scores = make_scores(30)
    scores["frechet_distance"] = scores["frechet_distance"].model_copy(
        update={"low": None, "high": None, "se": None, "interval": None, "notes": ("rank-deficient",)}
    )
    cards = [signed(slug, scores=scores) for slug in ("aa", "bb")]
    tables = {c.content_sha256: evidence(TABLE.drop(columns="fid_influence")) for c in cards}
    board = assemble(PublishedRecord(tuple(cards), tables, {})).boards[0]
    assert board.sort == "perceptual_distance"  # the others have their tests
    assert board.metrics[:2] == ("perceptual_distance", "frechet_distance")
    reason = "too few images for the metric (PB208)"
    assert [row.no_rank["frechet_distance"] for row in board.rows] == [reason, reason]
    assert all(
        "frechet_distance" not in row.rank and row.rank["perceptual_distance"] == (1, 2) for row in board.rows
    )


def test_the_page_says_which_metric_stands_in(tmp_path: Path) -> None:
    for seed, slug in enumerate(("aa", "bb")):
        scores = make_scores(30) | {"frechet_distance": NO_VALUE}
        add_card(write_card(tmp_path, slug, seed=seed, scores=scores), tmp_path / "record")
    page = site_files(tmp_path / "record")["boards/inpainting.photos-64.center32.html"].decode()
    promised = [
        "Too few systems may rank by Fréchet distance, so Perceptual distance sorts this board.",
        "No rank by Fréchet distance: Aa 1, Bb 1; the metric is missing (PB207).",
        "and more with 80 % power",
    ]
    assert [text for text in promised if text not in page] == []


def test_one_system_alone_with_a_distance_does_not_sort_the_board() -> None:
    scores = make_scores(30) | {"frechet_distance": NO_VALUE}
    odd = [signed(f"m{at}", scores=scores) for at in range(2)]
    assert only_board(scored("painter", 3.0), odd[0]).sort == "frechet_distance"
    assert only_board(scored("painter", 3.0), *odd).sort == "perceptual_distance"


def test_a_board_where_nobody_ranks_keeps_its_first_metric(tmp_path: Path) -> None:
    for slug in ("aa", "bb"):
        scores = make_scores(30, notes=("random-weights",))
        add_card(write_card(tmp_path, slug, scores=scores), tmp_path / "record")
    files = site_files(tmp_path / "record")
    (board,) = Leaderboard.parse(files["leaderboard.json"], "leaderboard.json").boards
    assert (board.sort, board.rows, board.resolution) == ("frechet_distance", (), {})
    assert "No ranks claimed" in files[board.page].decode()


def test_one_table_holds_everybody_in_the_order_of_values() -> None:
    barred = signed("half", scores=make_scores(30, 4.0), n_expected=31)
    cards = (scored("painter", 9.0), scored("copy-input", 6.0), scored("original", 0.1), barred)
    lines = lines_of(only_board(*cards))
    assert [line.row.slug for line in lines.rows] == ["original", "half", "copy-input", "painter"]
    assert [(line.role, line.place) for line in lines.rows if line.role or line.group] == [
        *(("ceiling", "\N{EN DASH}"), ("floor", "\N{EN DASH}"), ("", "1")),
    ]
    assert lines.rows[1].reason == "30 of 31 images were scored (PB205)"


@pytest.mark.parametrize(("frechet", "told"), [(6.2, False), (6.59, False), (6.61, True)])
def test_who_is_worse_than_nothing_is_named_where_the_intervals_lie_apart(frechet: float, told: bool) -> None:
    """Intervals of 0.3 to both sides."""
    board = only_board(scored("painter", frechet), scored("better", 2.0), scored("copy-input", 6.0))
    words = "painter is worse than copy-input, which changes nothing, by Fréchet distance"
    assert floor_words(board) == ((f"{words}: the intervals do not overlap.",) if told else ())


def test_a_small_board_that_ranks_says_how_far_its_ranks_reach(tmp_path: Path) -> None:
    scores = make_scores(30)
    few = scores["frechet_distance"].model_copy(update={"notes": ("rank-deficient",), "interval": None})
    for seed, slug in enumerate(("aa", "bb")):
        add_card(
            write_card(tmp_path, slug, seed=seed, scores=scores | {"frechet_distance": few}),
            tmp_path / "record",
        )
    page = site_files(tmp_path / "record")["boards/inpainting.photos-64.center32.html"].decode()
    assert page.count("Every row of this board") == 2  # the other: the network is not the protocol's
    assert "A small protocol: its ranks hold on this board, not for the paper&#39;s protocol." in page


def test_a_network_of_ones_own_ranks_and_its_board_says_so(tmp_path: Path) -> None:
    for seed, slug in enumerate(("aa", "bb")):
        scores = make_scores(30, notes=("unpinned-weights",))
        add_card(write_card(tmp_path, slug, seed=seed, scores=scores), tmp_path / "record")
    files = site_files(tmp_path / "record")
    (board,) = Leaderboard.parse(files["leaderboard.json"], "leaderboard.json").boards
    assert len(board.rows) == 2
    assert "known only by its digest (unpinned)" in files[board.page].decode()


def test_a_metric_of_its_own_may_lack_a_rank() -> None:
    """61.7 % of 30 images is no whole number: the table does not come to what the card says."""
    row = only_board(scored("painter", 3.0)).rows[0]
    assert set(row.rank) == {"frechet_distance", "classifier_score", "perceptual_distance"}
    assert row.no_rank["classification_agreement"].endswith("where the card says 61.7 (PB408)")


def test_a_card_below_the_least_tier_is_listed_without_rank() -> None:
    record = published(scored("painter", 3.0), scored("claimed", 1.0), painter="verified")
    board = assemble(record, "verified").boards[0]
    assert [(row.slug, row.tier) for row in board.rows] == [("painter", "verified")]
    assert [(u.slug, u.code, u.reason) for u in board.unranked] == [
        ("claimed", "", "self-reported; this board ranks verified cards")
    ]
    assert assemble(record, "reproduced").boards[0].rows == ()


@pytest.mark.trust("report: copies")
def test_copies_of_one_submission_share_a_row_and_take_no_place() -> None:
    honest = [scored("best", 1.0), scored("second", 2.0), scored("third", 9.0)]
    copies = [
        with_outputs(
            make_card(TABLE, f"copy-{i}", scores=make_scores(30, 1.0), date=f"2026-03-0{i}"), "best 1"
        )
        for i in (1, 2, 3)
    ]
    alone, crowded = only_board(*honest), only_board(*honest, *(c.signed() for c in copies))
    assert [row.slug for row in crowded.rows] == ["best", "second", "third"]
    assert [row.rank for row in crowded.rows] == [row.rank for row in alone.rows]
    assert [copy.slug for copy in crowded.rows[0].same_outputs] == ["copy-1", "copy-2", "copy-3"]
    assert crowded.systems == alone.systems


@pytest.mark.trust("report: copies")
def test_the_card_that_stands_for_copies_is_the_anchor_the_vouched_for_or_the_earliest() -> None:
    early = scored("early", 1.0, date="2026-02-01")
    late = with_outputs(make_card(TABLE, "late", date="2026-02-09"), "early 1").signed()
    assert [row.slug for row in only_board(late, early).rows] == ["early"]
    (board,) = assemble(published(late, early, late="verified")).boards
    assert [row.slug for row in board.rows] == ["late"]
    anchor = scored("copy-input", 3.0, date="2026-03-01")
    copied = with_outputs(make_card(TABLE, "my-model"), "copy-input 1").signed()
    board = only_board(anchor, copied, early)
    assert [row.slug for row in board.rows] == ["early"]
    assert [copy.slug for copy in board.anchors[0].same_outputs] == ["my-model"]


@pytest.mark.trust("report: copies")
def test_a_copy_is_named_on_the_board_and_keeps_its_page_and_badge(tmp_path: Path) -> None:
    record = tmp_path / "record"
    table = make_table([f"photo-{i:03d}" for i in range(30)])
    for slug, same in (("painter", 30), ("copyist", 30), ("borrower", 10)):
        own = table.assign(pixels=[*table["pixels"][:same], *(sha(f"{slug}{i}") for i in range(30 - same))])
        path = tmp_path / f"{slug}.json"
        write_scorecard(make_card(own, slug), own, path)
        add_card(path, record)
    build_site(record, tmp_path / "site")
    (board,) = Leaderboard.read(tmp_path / "site" / "leaderboard.json").boards
    assert {row.slug for row in board.rows} == {"borrower", "copyist"}
    assert "borrower 1 and copyist 1 share 10 of 30 output images, pixel for pixel." in board.warnings
    page = (tmp_path / "site" / board.page).read_text()
    assert 'the same outputs: <a href="../methods/painter.html">Painter</a>' in page
    assert "are those of copyist 1" in (tmp_path / "site" / "methods" / "painter.html").read_text()
    assert len(list((tmp_path / "site" / "badges").glob("*.painter-*.svg"))) == 1
    build_site(record, tmp_path / "site")
    check_site(record, tmp_path / "site")


def test_reviews_vouch_for_a_card_by_its_digest(tmp_path: Path) -> None:
    record = tmp_path / "record"
    path, _ = add_card(write_card(tmp_path, "painter"), record)
    digest = read_scorecard(path).content_sha256
    review = f'[cards.{digest}]\ntier = "reproduced"\nreviewer = "B. Person"\nday = "2026-02-04"\n'
    text = f'schema = "palette-bench/reviews/1.0"\n{review}'
    (record / "palette-mini" / "reviews.toml").write_text(text)
    files = site_files(record, "verified")
    assert "reproduced" in files["boards/inpainting.photos-64.center32.html"].decode()
    (record / "palette-mini" / "reviews.toml").write_text(text.replace(digest, sha("the card before")))
    assert read_record(record).tiers == {sha("the card before"): "reproduced"}
    (row,) = Leaderboard.parse(site_files(record)["leaderboard.json"], "leaderboard.json").boards[0].rows
    assert row.tier == "self-reported"


def test_a_card_without_its_table_is_listed_unranked(tmp_path: Path) -> None:
    record = tmp_path / "record"
    for slug in ("painter", "bare"):
        path, _ = add_card(write_card(tmp_path, slug), record)
    table_path(path).unlink()
    board = Leaderboard.parse(site_files(record)["leaderboard.json"], "leaderboard.json").boards[0]
    assert [row.slug for row in board.rows] == ["painter"]
    assert [(u.slug, u.code) for u in board.unranked] == [("bare", "PB408")]
    page = site_files(record)[board.page].decode()
    assert "its per-image table is missing" in page


def test_the_page_and_the_csv_show_ranks(tmp_path: Path) -> None:
    record = tmp_path / "record"
    for seed, (slug, frechet) in enumerate({"aa": 3.0, "bb": 3.01, "cc": 9.0}.items()):
        add_card(write_card(tmp_path, slug, seed=seed, scores=make_scores(30, frechet)), record)
    files = site_files(record)
    page = files["boards/inpainting.photos-64.center32.html"].decode()
    promised = ["1\N{EN DASH}2", "group 2", "compared on the same 30 images", "no rank", "80 % power"]
    assert [text for text in promised if text not in page] == []
    assert "first: Aa and Bb, not told apart" in files["index.html"].decode()
    rows = list(csv.DictReader(io.StringIO(files["leaderboard.csv"].decode())))
    ranks = {
        r["slug"]: (r["rank"], r["rank_low"], r["rank_high"], r["tie_group"])
        for r in rows
        if r["metric"] == "frechet_distance"
    }
    assert ranks == {
        "aa": ("1\N{EN DASH}2", "1", "2", "1"),
        "bb": ("1\N{EN DASH}2", "1", "2", "1"),
        "cc": ("3", "3", "3", "2"),
    }
    reasons = {r["unranked_reason"] for r in rows if r["metric"] == "classification_agreement"}
    assert all("PB408" in reason for reason in reasons)
