"""Designs balance, hide what they must, and never change."""

from __future__ import annotations

import json
import math
import shutil
import stat
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from plans import SECRET, make_plan, make_study, write_plan
from submissions import submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import InputError, RecordError, StorageError, SubmissionError, UsageError
from palette_bench.core.fingerprint import sha256, table_digest
from palette_bench.core.png import decode_strict
from palette_bench.study.assignment import DraftTrial, assign, choose, faults, methods_per_rater, reach
from palette_bench.study.design import design
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import StudyToml
from palette_bench.study.simulate import SimulatedRaters, logit_of, simulate
from palette_bench.submission.check import check

IDS = [f"picture-{n:04d}" for n in range(700)]


def lists(methods: int, secret: str = SECRET, **changes: int) -> tuple[StudyToml, list[list[DraftTrial]]]:
    plan = make_plan(**changes)
    assert not faults(plan, methods, len(IDS))
    slugs = [f"m{m}" for m in range(methods)]
    return plan, assign(plan, slugs, choose(plan, "0" * 64, IDS), secret)


DESIGNS = [
    (1, {"images": 100, "raters": 20, "trials_per_method": 30}),
    (2, {"images": 500, "raters": 100, "trials_per_method": 50}),
    (2, {"images": 97, "raters": 31, "trials_per_method": 45}),
    (2, {"images": 90, "raters": 9, "trials_per_method": 45}),  # every rater sees every image
    (5, {"images": 260, "raters": 25, "trials_per_method": 50}),  # two of five methods each
    (7, {"images": 211, "raters": 21, "trials_per_method": 17}),
]


@pytest.mark.parametrize(("methods", "changes"), DESIGNS)
def test_lists_balance_images_methods_raters_and_sides(methods: int, changes: dict[str, int]) -> None:
    plan, slots = lists(methods, **changes)
    per_rater = methods_per_rater(plan, methods)
    votes: Counter[tuple[str, str]] = Counter()
    for trials in slots:
        seen = [t.image_id for t in trials]
        assert len(set(seen)) == len(seen), "an image twice"
        test = [t for t in trials if t.kind == "test"]
        assert len(test) == per_rater * plan.trials_per_method <= 120
        shown = Counter(t.method for t in test)
        assert len(shown) == per_rater
        for method, count in shown.items():
            left = sum(t.real_side == "L" for t in test if t.method == method)
            assert count == plan.trials_per_method
            assert abs(2 * left - count) <= 1
        votes.update((t.method, t.image_id) for t in test)
    counts = [votes[f"m{m}", i] for m in range(methods) for i in choose(plan, "0" * 64, IDS).test]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("methods", "changes"), DESIGNS)
def test_catch_trials_hide_among_test_trials_and_practice_comes_first(
    methods: int, changes: dict[str, int]
) -> None:
    plan, slots = lists(methods, **changes)
    for trials in slots:
        kinds = [t.kind for t in trials]
        assert kinds[: plan.practice] == ["practice"] * plan.practice
        rest = kinds[plan.practice :]
        assert rest.count("catch") == plan.catch
        assert rest[0] == rest[-1] == "test"
        assert ("catch", "catch") not in set(pairwise(rest))
        catch = [t for t in trials if t.kind == "catch"]
        assert sum(t.real_side == "L" for t in catch) == plan.catch // 2


def test_raters_mix_rather_than_meet_the_same_images_in_blocks() -> None:
    _, slots = lists(1, images=100, raters=20, trials_per_method=25)
    seen = [{t.image_id for t in trials if t.kind == "test"} for trials in slots]
    shared = [len(a & b) for i, a in enumerate(seen) for b in seen[:i]]
    assert max(shared) < 15  # 25 where blocks stay together, 5.3 on average


def test_lists_are_golden_and_depend_on_the_secret() -> None:
    _, slots = lists(2, images=60, raters=4, trials_per_method=12)
    text = json.dumps([[(t.kind, t.image_id, t.method, t.real_side) for t in s] for s in slots])
    assert sha256(text.encode()) == GOLDEN
    _, others = lists(2, secret="6" * 64, images=60, raters=4, trials_per_method=12)
    assert others != slots


GOLDEN = "23b6fac6268cbeb8b32f00f27c87d65d8841adacde08556b3926d2f839b57962"


def test_images_follow_study_v1_whatever_the_order_of_files() -> None:
    plan = make_plan(images=3, trials_per_method=3)
    choice = choose(plan, "0" * 64, IDS)
    assert choice == choose(plan, "0" * 64, reversed(IDS))
    by_hand = sorted(IDS, key=lambda i: sha256(f"study-v1|{'0' * 64}|0|{i}".encode()))
    assert [*choice.test, *choice.catch, *choice.practice] == by_hand[: 3 + 8 + 2]
    assert choose(make_plan(images=3, image_seed=1), "0" * 64, IDS) != choice


def test_a_plan_that_cannot_balance_is_refused_with_every_reason() -> None:
    plan = make_plan(images=120, raters=10, trials_per_method=50, catch=8)
    found = {p.where: p.expected for p in faults(plan, 3, 125)}
    assert found["study.toml: raters"].startswith("a multiple of 3")
    assert [p.expected[:20] for p in faults(plan, 3, 125) if p.where.endswith("images")] == [
        "at most 115, to leav",
        "at least methods x t",
    ]
    few = make_plan(trials_per_method=8, images=20)
    assert [p.where for p in faults(few, 1, 100)] == ["study.toml: catch"]
    blind = make_plan(catch=0)
    assert [p.where for p in faults(blind, 1, 100)] == ["study.toml: exclude.catch_min_correct"]


@pytest.mark.parametrize(
    ("raters", "images", "half", "naive"),
    [
        (50, 100, 4.9, 2.0),
        (50, 500, 3.8, 2.0),
        (100, 500, 2.9, 1.4),
        (100, 1000, 2.7, 1.4),
        (200, 1000, 2.0, 1.0),
    ],
)
def test_the_planning_table(raters: int, images: int, half: float, naive: float) -> None:
    found = reach(make_plan(raters=raters, images=images, trials_per_method=50), 1)
    assert (round(found.half_width, 1), round(found.naive, 1)) == (half, naive)
    assert f"± {half} points" in str(found)


@pytest.fixture(scope="module")
def made(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return make_study(tmp_path_factory.mktemp("study"), mini_jpeg, show_input=True)


def test_a_study_folder_holds_its_plan_and_images(made: StudyFolder) -> None:
    study = made.study
    assert study.id == f"st_{sha256((made.path / 'study.json').read_bytes())[:12]}"
    assert made.seal.study_id == study.id
    assert made.consent == "You may stop at any time.\n"
    truth = made.truth()
    assert len(truth) == study.raters * study.trials
    assert len({t for row in truth for t in (row.left, row.right, row.input)}) == 3 * len(truth)
    made.check_stimuli()


def test_tokens_lead_to_the_images_they_stand_for(made: StudyFolder, mini_jpeg: Path) -> None:
    target = BenchSet.open(mini_jpeg)
    for row in made.truth()[:40]:
        files = row.files()
        real = row.left if row.real_side == "L" else row.right
        pixels = {token: decode_strict(made.stimulus(f), 64, 64, 3)[0] for token, f in files.items()}
        assert (pixels[real] == target.reference(row.image_id)).all()
        assert (pixels[row.input] == target.condition(row.image_id)).all()
        model = row.right if real == row.left else row.left
        if row.kind != "test":
            assert (pixels[model] == target.condition(row.image_id)).all()
        elif row.method == "painter":
            assert (pixels[model] == (target.reference(row.image_id) ^ 4)).all()


def test_nothing_outside_private_tells_the_truth(made: StudyFolder) -> None:
    private = made.path / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in private.iterdir()} == {0o600}
    slot = made.slot(0)
    assert all(set(t) == {"trial", "practice", "left", "right", "input"} for t in slot.model_dump()["trials"])
    public = (made.path / "slots" / "000.json").read_text()
    assert not any(word in public for word in ("catch", "painter", "copier", *made.study.image_ids))
    assert {p.stem for p in (made.path / "stimuli").iterdir()}.isdisjoint(made.study.image_ids)
    for file in (made.path / "stimuli").iterdir():
        data = file.read_bytes()
        assert data[8:].count(b"IHDR") == data.count(b"IDAT") == data.count(b"IEND") == 1


@pytest.mark.parametrize("name", ["study.json", "consent.txt", "instructions.txt", "slots/003.json"])
def test_a_later_change_is_refused(made: StudyFolder, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(made.path, tmp_path / "copy"))
    path = copy / name
    path.write_text(path.read_text().replace("You", "They").replace("7", "8").replace("Choose", "Pick"))
    with pytest.raises(RecordError, match="PB505"):
        StudyFolder.open(copy)


def test_changed_truth_or_stimuli_are_refused(made: StudyFolder, tmp_path: Path) -> None:
    copy = StudyFolder.open(Path(shutil.copytree(made.path, tmp_path / "copy")))
    truth = copy.path / "private" / "truth.csv"
    truth.write_text(truth.read_text().replace(",L,", ",R,", 1))
    with pytest.raises(RecordError, match="PB505"):
        copy.truth()
    one, other = sorted((copy.path / "stimuli").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(RecordError, match="PB509"):
        copy.check_stimuli()


def test_a_studied_method_is_known_by_the_digest_on_its_card(tmp_path: Path) -> None:
    """Also where the method changed known pixels: a card digests the files, raters see them composited."""
    generate("palette-mini", "inpainting/center32", tmp_path / "set")
    sub = submit(tmp_path / "set", tmp_path / "painter", lambda target, i: target.reference(i) ^ 4)
    frozen = design(
        write_plan(tmp_path),
        tmp_path / "set",
        [sub],
        tmp_path / "study",
    )
    assert frozen.methods[0].outputs == table_digest(check(sub, tmp_path / "set").pixels)


def test_a_frozen_study_is_never_overwritten_and_slugs_are_distinct(
    made: StudyFolder, mini_jpeg: Path, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path)
    sub = submit(mini_jpeg, tmp_path / "painter")
    with pytest.raises(StorageError, match="PB809"):
        design(plan, mini_jpeg, [sub], made.path)
    with pytest.raises(SubmissionError, match="PB404"):
        design(plan, mini_jpeg, [sub, sub], tmp_path / "new")
    with pytest.raises(InputError, match="PB403"):
        design(write_plan(tmp_path, images=250), mini_jpeg, [sub], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_simulated_votes_follow_the_rates_the_lists_and_the_seed(made: StudyFolder) -> None:
    rates = {"painter": 0.3, "copier": 0.5}
    simulated = SimulatedRaters(300, rates, rater_sd=0.2, seed=1)
    votes = simulate(made, simulated)
    assert votes[:200] == simulate(made, SimulatedRaters(8, rates, rater_sd=0.2, seed=1))[:200], (
        "more raters change none"
    )
    assert votes[:200] != simulate(made, SimulatedRaters(8, rates, rater_sd=0.2, seed=2))[:200]
    assert {v.source for v in votes} == {"simulated"}
    truth = {(t.slot, t.trial): t for t in made.truth()}
    for at, vote in enumerate(votes[: 2 * made.study.trials]):
        row = truth[divmod(at, made.study.trials)]
        assert (vote.image_id, vote.method, vote.real_side) == (row.image_id, row.method, row.real_side)
    for slug, rate in rates.items():  # 40 images only: their own spread is what is left
        chosen = [v.chose_model for v in votes if v.method == slug]
        assert sum(map(bool, chosen)) / len(chosen) == pytest.approx(rate, abs=0.08)
    catch = [v.chose_model for v in votes if v.kind == "catch"]
    assert sum(map(bool, catch)) / len(catch) == pytest.approx(0.01, abs=0.006)


def test_the_logit_of_a_rate_averages_to_it() -> None:
    assert logit_of(0.5, 0.9) == pytest.approx(0, abs=1e-9)
    assert logit_of(0.3, 0.0) == pytest.approx(math.log(0.3 / 0.7))
    draws = np.random.default_rng(0).normal(logit_of(0.2, 0.94), 0.94, 200_000)
    assert float((1 / (1 + np.exp(-draws))).mean()) == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"painter": 0.4}, "no rate for copier"),
        ({"painter": 0.4, "copier": 0.4, "copie": 0.4}, "did you mean copier"),
        ({"painter": 0.005, "copier": 0.4}, "lapses keep it"),
    ],
)
def test_rates_no_crowd_can_have_are_refused(
    made: StudyFolder, rates: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(made, SimulatedRaters(2, rates))
