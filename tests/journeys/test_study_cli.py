"""A study through the real command line, without torch: design, simulate, analyse, board."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cards import card_of
from plans import write_plan
from submissions import original, plausible, submit
from test_light import light


@pytest.fixture(scope="module")
def done(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two methods, its simulated votes and their analysis."""
    folder = tmp_path_factory.mktemp("journey")
    submit(mini_jpeg, folder / "painter", plausible, slug="painter")
    submit(mini_jpeg, folder / "copier", original, slug="copier")
    write_plan(folder, images=60, raters=8, trials_per_method=30)
    card_of(folder / "painter", mini_jpeg, folder / "painter.json")
    steps = [
        ("design", "study.toml", "--set", mini_jpeg, "--submission", "painter", "--submission", "copier"),
        ("simulate", "study", "--rate", "0.3", "--rate", "copier=0.5", "--lapse", "0"),
        ("analyse", "study", "votes.csv", "--scorecard", "painter.json", "--invited", "9"),
    ]
    outs = ("study", "votes.csv", "found")
    said = []
    for step, out in zip(steps, outs, strict=True):
        run = light("study", *step, "-o", out, cwd=folder)
        assert run.returncode == 0, run.stderr
        said.append(run.stderr)
    folder.joinpath("said.txt").write_text("\n".join(said))
    return folder


def test_every_step_says_what_matters(done: Path) -> None:
    said = (done / "said.txt").read_text()
    assert "each rater   2 practice, 60 test and 8 catch trials" in said
    assert "± " in said
    assert "PB507 warning" in said
    assert "8 started, 8 finished, 8 analysed" in said


def test_the_analysis_its_tables_and_the_new_card_are_there(done: Path) -> None:
    assert {p.name for p in (done / "found").iterdir()} == {
        *("analysis.json", "datasheet.md", "images.csv", "index.html"),
        *("painter.json", "painter.images.csv.gz"),
    }
    found = json.loads((done / "found" / "analysis.json").read_text())
    assert found["simulated"]
    assert found["flow"]["invited"] == 9
    rows = list(csv.DictReader((done / "found" / "images.csv").read_text().splitlines()))
    votes = {
        slug: sum(int(r["votes"]) for r in rows if r["method"] == slug) for slug in ("painter", "copier")
    }
    assert votes == {"painter": 240, "copier": 240}
    sheet = (done / "found" / "datasheet.md").read_text()
    assert [line[3] for line in sheet.splitlines() if line.startswith("## ")] == list("12345")


def test_the_page_holds_every_rate_and_asks_nothing_of_the_network(done: Path) -> None:
    page = (done / "found" / "index.html").read_text()
    for method in json.loads((done / "found" / "analysis.json").read_text())["methods"]:
        assert f"{method['rate']['value']:.1f} %" in page
    assert "Nobody was asked." in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_equal_inputs_give_equal_bytes(done: Path) -> None:
    again = light("study", "analyse", "study", "votes.csv", "--invited", "9", "-o", "again", cwd=done)
    assert again.returncode == 0
    for name in ("index.html", "images.csv", "datasheet.md", "analysis.json"):
        assert (done / "again" / name).read_bytes() == (done / "found" / name).read_bytes()


def test_a_simulated_card_is_listed_and_never_ranked(done: Path) -> None:
    assert light("board", "add", "found/painter.json", "--record", "record", cwd=done).returncode == 0
    assert light("board", "build", "record", "-o", "site", cwd=done).returncode == 0
    board = json.loads((done / "site" / "leaderboard.json").read_text())["boards"][0]
    assert board["rows"] == []
    assert board["unranked"][0]["code"] == "PB507"


def test_refusals_name_what_to_do(done: Path) -> None:
    rows = (done / "votes.csv").read_text().splitlines()
    done.joinpath("bad.csv").write_text("\n".join([rows[0], rows[1].replace("keyboard", "feet")]) + "\n")
    bad = light("study", "analyse", "study", "bad.csv", "-o", "x", cwd=done)
    assert bad.returncode == 3
    assert "PB501" in bad.stderr
    assert "line 2" in bad.stderr
    done.joinpath("early.csv").write_text("\n".join(rows[:200]) + "\n")
    early = light("study", "analyse", "study", "early.csv", "-o", "x", cwd=done)
    assert early.returncode == 3
    assert "PB508" in early.stderr
    assert "--peek" in early.stderr
    wrong = light("study", "simulate", "study", "--rate", "paintr=0.3", "-o", "x.csv", cwd=done)
    assert wrong.returncode == 2
    assert "did you mean painter" in wrong.stderr
    assert not (done / "x").exists()
