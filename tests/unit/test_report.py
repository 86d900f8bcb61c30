"""The scorecard report: words, whiskers, which images are shown, and what is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cards import make_card, make_scores, make_table, sha, write_card
from jinja2.exceptions import UndefinedError

from palette_bench.board.image_selection import extremes, grid_ids, ranked_picks
from palette_bench.board.report import write_report
from palette_bench.board.report_content import provenance
from palette_bench.core.errors import RecordError, SpecError, UsageError
from palette_bench.core.fingerprint import sha256
from palette_bench.pages.images import webp
from palette_bench.pages.plots import PlotRow, dot_whisker, histogram
from palette_bench.pages.render import href, render
from palette_bench.pages.score_cell import nice_ceiling, whisker
from palette_bench.pages.text import compact, decimals, headline, metric_words, number, value_text
from palette_bench.scoring.scorecard import Score, write_scorecard
from palette_bench.submission.card import Sampling

SCORE = Score(value=11.93, low=11.73, high=12.13, n=10_000, direction="lower", unit="none")


def changed(**fields: object) -> Score:
    return SCORE.model_copy(update=fields)


def test_the_headline_follows_its_rule() -> None:
    card = make_card(make_table([f"p{i}" for i in range(256)]), "copy-input", method={"name": "copy-input"})
    assert headline(card, ("frechet_distance", "classifier_score")) == (
        "copy-input on inpainting / center32: "
        "Fréchet distance 3.10, perceptual distance 12.00 over 256 images"
    )


@pytest.mark.parametrize(("half", "digits"), [(0.2, 2), (0.02, 3), (3.4, 1), (34.0, 0), (1e-9, 4)])
def test_two_digits_of_the_half_width_are_printed(half: float, digits: int) -> None:
    assert decimals(changed(low=11.93 - half, high=11.93 + half)) == digits


def test_numbers_are_printed_for_people() -> None:
    assert number(-1234.5, 1) == "\N{MINUS SIGN}1,234.5"
    assert number(-0.0001, 2) == "0.00"
    assert number(None, 2) == "\N{EN DASH}"
    assert value_text(changed(unit="%", value=61.7, low=55.6, high=67.5)) == "61.7 %"
    assert value_text(changed(value=None, low=None, high=None)) == "\N{EN DASH}"
    assert [compact(n) for n in (0, 999, 62_600_000, 1_200, 3_000_000_000)] == [
        "0",
        "999",
        "62.6 M",
        "1.2 k",
        "3 G",
    ]
    assert (compact(2.9e-6), compact(0.25)) == ("< 0.001", "0.25")


def test_every_metric_of_the_table_has_words() -> None:
    assert metric_words("fool_rate@3s").name.endswith(", 3s")
    assert metric_words("fid").name == "FID"
    assert metric_words("never_heard_of").name == "never heard of"


@pytest.mark.parametrize(("value", "end"), [(0.3, 0.5), (1.0, 1.0), (1.01, 2.0), (12.1, 20.0), (99.0, 100.0)])
def test_axes_end_at_one_two_or_five(value: float, end: float) -> None:
    assert nice_ceiling(value) == pytest.approx(end)


def test_a_whisker_stands_where_its_numbers_are() -> None:
    drawn = whisker(SCORE)
    assert drawn is not None
    assert (drawn.start, drawn.end) == ("0", "20")
    assert (drawn.low, drawn.value, drawn.high) == (58.65, 59.65, 60.65)  # per cent of 0..20
    assert whisker(changed(value=None, low=None, high=None)) is None
    share = whisker(changed(unit="%", value=50.0, low=40.0, high=60.0))
    assert share is not None
    assert (share.low, share.value, share.high, share.end) == (40.0, 50.0, 60.0, "100")
    below_zero = whisker(changed(value=0.5, low=-0.5, high=1.5))
    assert below_zero is not None
    assert (below_zero.start, below_zero.end) == ("\N{MINUS SIGN}0.5", "2")


def test_the_grid_is_the_rule_of_grid_v1() -> None:
    ids = [f"p{i:02d}" for i in range(40)]
    prints = "f" * 64
    by_hand = sorted(ids, key=lambda i: sha256(f"grid-v1|{prints}|0|{i}".encode()))[:24]
    assert grid_ids(prints, reversed(ids)) == by_hand
    # golden: the rule may never drift
    assert by_hand[:6] == GOLDEN_GRID
    assert grid_ids(prints, ids, seed=3) != by_hand
    assert len(grid_ids(prints, ids[:5])) == 5


GOLDEN_GRID = ["p36", "p27", "p03", "p02", "p18", "p37"]  # by sha256sum(1)


def test_extremes_are_disjoint_and_ordered() -> None:
    table = pd.DataFrame({"image_id": [f"p{i}" for i in range(30)], "perceptual_distance": np.arange(30.0)})
    found = extremes(ranked_picks(table.sample(frac=1.0, random_state=0)))
    assert [p.image_id for p in found.worst] == [f"p{i}" for i in range(29, 21, -1)]
    assert [p.image_id for p in found.median] == [f"p{i}" for i in range(11, 19)]
    assert [p.image_id for p in found.best] == [f"p{i}" for i in range(8)]
    assert (found.best[0].percentile, found.worst[0].percentile) == (0.0, 100.0)


@pytest.mark.parametrize(("n", "size"), [(0, 0), (1, 0), (2, 0), (3, 1), (12, 4), (24, 8), (1000, 8)])
def test_no_image_stands_in_two_lists(n: int, size: int) -> None:
    table = pd.DataFrame({"image_id": [f"p{i}" for i in range(n)], "perceptual_distance": np.zeros(n)})
    found = extremes(ranked_picks(table))
    shown = [p.image_id for p in (*found.worst, *found.median, *found.best)]
    assert len(shown) == len(set(shown)) == 3 * size


def test_images_without_a_distance_are_left_out_of_the_order() -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "perceptual_distance": [np.nan, 2.0]})
    assert [p.image_id for p in ranked_picks(table)] == ["b"]
    assert ranked_picks(table[["image_id"]]) == []


def test_small_images_are_stored_without_loss() -> None:
    from io import BytesIO

    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert (np.asarray(Image.open(BytesIO(webp(pixels, None)))) == pixels).all()
    assert len(webp(pixels, 70)) < len(webp(pixels, None))


def test_plots_of_equal_input_are_equal_bytes_in_both_themes() -> None:
    values = np.random.default_rng(2).gamma(4.0, 3.0, 200)
    assert histogram(values, "distance") == histogram(values, "distance")
    rows = [PlotRow("a $x_1$ <b>", 3.0, 2.5, 3.5, "system"), PlotRow("b", 4.0, None, None, "anchor")]
    plot = dot_whisker(rows, "FID")
    assert plot == dot_whisker(rows, "FID")
    assert plot.light != plot.dark
    assert plot.light.startswith(b"<?xml")
    assert b"<dc:date>" not in plot.light


def test_a_histogram_of_zeros_is_drawn() -> None:
    assert b"<svg" in histogram(np.zeros(5), "distance").light


def test_links_have_three_schemes() -> None:
    assert href("doi:10.1/x") == "https://doi.org/10.1/x"
    assert href("arXiv:2111.05826") == "https://arxiv.org/abs/2111.05826"
    assert href("https://example.org") == "https://example.org"
    with pytest.raises(ValueError, match="not allowed"):
        href("javascript:alert(1)")


def test_a_name_nobody_gave_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("report.html.jinja", title="t")


def test_provenance_names_every_fingerprint() -> None:
    card = make_card(make_table(["a", "b"]))
    text = provenance(card)
    for part in (
        card.fingerprints.set,
        card.fingerprints.outputs,
        sha("extractor"),
        sha("reference"),
        "score SUB",
    ):
        assert part in text
    assert "dirty" in text
    assert "True" not in text


def test_the_page_says_its_numbers_without_images(tmp_path: Path) -> None:
    card = write_card(tmp_path, n=40)
    write_report(card, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for text in (
        "Fréchet distance",
        "3.10",
        "2.80 to 3.40",
        "61.7 %",
        "lower is better",
        "smoke-random",
        "grid-v1",
    ):
        assert text in page
    assert page.count("<h1") == 1
    assert "<img" in page  # the histogram
    assert "data:image/webp" not in page
    assert "Not a ranking" not in page


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({}, "photos"),
        ({"datasets": ()}, "none named"),
        ({"datasets": (), "parameters": 0}, "nothing"),
    ],
)
def test_what_was_not_named_is_not_called_nothing(
    tmp_path: Path, training: dict[str, object], said: str
) -> None:
    write_report(write_card(tmp_path, training=training), tmp_path / "r.html")
    assert f"<dt>Trained on</dt><dd>{said}</dd>" in (tmp_path / "r.html").read_text()


def test_the_compute_of_an_image_is_said_where_it_is_known(tmp_path: Path) -> None:
    spent = Sampling(sampler="ancestral", steps=3, flop_per_image=8_613_371_904)
    write_report(write_card(tmp_path, sampling=spent), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<dt>Cost</dt><dd>not stated</dd>" in page
    assert "<dt>Compute</dt><dd>8.61 G FLOP an image</dd>" in page


def test_random_weights_are_said_aloud(tmp_path: Path) -> None:
    card = write_card(tmp_path, scores=make_scores(30, notes=("random-weights",)))
    write_report(card, tmp_path / "r.html")
    assert "they show that the software works, not how good a model is" in (tmp_path / "r.html").read_text()


def test_style_and_script_are_admitted_by_digest(tmp_path: Path) -> None:
    write_report(write_card(tmp_path), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    for tag, body in re.findall(r"<(style|script)>(.*?)</\1>", page, flags=re.S):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert " style=" not in page
    assert "default-src 'none'" in policy[1]


def test_two_reports_of_one_card_are_equal_bytes(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    write_report(card, tmp_path / "a.html")
    write_report(card, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    plain = write_card(tmp_path / "plain")
    evil = write_card(
        tmp_path / "evil",
        method={"name": "</script><img src=x>{{7*7}}", "version": "\"'><b>", "authors": ("=1+1",)},
    )
    pages = []
    for card in (plain, evil):
        write_report(card, card.with_suffix(".html"))
        pages.append(card.with_suffix(".html").read_text())
    assert "{{7*7}}" in pages[1]
    assert "49</h1>" not in pages[1]
    for tag in ("<script", "<img", "<b>", "<a "):
        assert pages[0].count(tag) == pages[1].count(tag)


def test_one_folder_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both folders"):
        write_report(write_card(tmp_path), tmp_path / "r.html", benchset=tmp_path)


def test_an_edited_card_or_table_is_refused(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    text = card.read_text()
    card.write_text(text.replace('"value": 3.1\n', '"value": 2.1\n'))
    with pytest.raises(RecordError, match="PB407"):
        write_report(card, tmp_path / "r.html")
    card.write_text(text)
    (tmp_path / "painter.images.csv.gz").unlink()
    with pytest.raises(RecordError, match="PB408"):
        write_report(card, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.trust("archives: unpacked tables")
def test_a_table_that_was_unpacked_or_saved_by_a_spreadsheet_comes_with_what_helps(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    packed, plain = tmp_path / "painter.images.csv.gz", tmp_path / "painter.images.csv"
    whole = packed.read_bytes()
    data = gzip.decompress(whole)
    for content, under, said in (
        (data, plain, f"gzip {plain}"),
        (data, packed, f"mv {packed} {plain} && gzip {plain}"),
        (gzip.compress(data.replace(b",", b";")), packed, "saving it in a spreadsheet changes it"),
        (whole[:-9], packed, "copy it again"),
    ):
        packed.unlink(missing_ok=True)
        under.write_bytes(content)
        with pytest.raises(RecordError, match="PB408") as caught:
            write_report(card, tmp_path / "r.html")
        assert said in str(caught.value)


def test_a_table_of_other_outputs_is_refused(tmp_path: Path) -> None:
    table = make_table(["a", "b", "c"])
    card = make_card(table, fingerprints={"outputs": sha("others")})
    write_scorecard(card, table, tmp_path / "card.json")
    with pytest.raises(RecordError, match="PB408"):
        write_report(tmp_path / "card.json", tmp_path / "r.html")


def test_a_card_of_no_known_task_is_refused(tmp_path: Path) -> None:
    card = write_card(tmp_path, variant="../../etc")
    with pytest.raises(SpecError, match="PB609"):
        write_report(card, tmp_path / "r.html")


def test_findings_of_the_check_are_on_the_page(tmp_path: Path) -> None:
    from palette_bench.core.errors import problem

    finding = replace(problem("PB326", "outputs", found="3 constant images", ids=["a", "b", "c"]))
    write_report(write_card(tmp_path, problems=(finding,)), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "PB326" in page
    assert "3 constant images" in page
