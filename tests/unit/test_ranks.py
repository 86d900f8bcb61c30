"""Ranks: who shares one, who is told apart, who may not rank; by hand and by property."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cards import make_card, make_scores, make_table, sha
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from palette_bench.board.comparability import Ineligible
from palette_bench.board.paired_tests import (
    RULES,
    Contender,
    contender,
    evidence,
    images_of,
)
from palette_bench.board.ranking import RankInterval, rank, rank_text
from palette_bench.core.intervals import influence_se
from palette_bench.core.significance import holm, paired_t
from palette_bench.scoring.scorecard import Scorecard

N = 60
TABLE = make_table([f"p{i:02d}" for i in range(N)])
METRICS = ["frechet_distance", "classifier_score", "classification_agreement", "perceptual_distance"]


def column(metric: str, level: float, seed: int) -> NDArray[np.float64]:
    """Return per-image values of a system; the noise of images is shared, a little is its own."""
    shared, own = np.random.default_rng(99).random(N), np.random.default_rng(seed).random(N)
    mixed = 0.9 * shared + 0.1 * own
    return (mixed < level).astype(np.float64) if RULES[metric].column == "top1" else level + mixed


def system(metric: str, level: float, seed: int, name: str = "") -> Contender:
    """Return a contender; a Fréchet distance is a value of its own, the others their column's."""
    values = column(metric, level, seed)
    value = level if metric == "frechet_distance" else RULES[metric].summary(values, None)
    name = name or f"{level} {seed}"
    return Contender(sha(name), name, value, values)


def standings(metric: str, *systems: Contender) -> list[RankInterval]:
    found = rank(metric, systems).standings
    return [found[s.key] for s in systems]


@pytest.mark.parametrize("metric", METRICS)
def test_two_that_differ_by_noise_share_a_rank_and_the_third_is_told_apart(metric: str) -> None:
    near, far = (0.75, 0.1) if RULES[metric].column == "top1" else (0.5, 1.5)
    a, b, c = (system(metric, near, 1), system(metric, near + 0.002, 2), system(metric, far, 3))
    found = standings(metric, a, b, c)
    first, last = ((1, 2), (3, 3)) if RULES[metric].lower or far < near else ((2, 3), (1, 1))
    assert [s.rank for s in found] == [first, first, last]
    groups = [s.tie_group for s in found]
    assert groups == ([1, 1, 2] if last == (3, 3) else [2, 2, 1])


def test_a_system_alone_is_first_of_one() -> None:
    ranking = rank("perceptual_distance", [system("perceptual_distance", 1.0, 0)])
    assert list(ranking.standings.values()) == [RankInterval((1, 1), 1, None)]
    assert ranking.resolution is None


def test_equal_systems_share_every_place() -> None:
    twins = [replace(system("frechet_distance", 1.0, 0), key=sha(str(i))) for i in range(3)]
    assert [(s.rank, s.tie_group) for s in standings("frechet_distance", *twins)] == [((1, 3), 1)] * 3


def test_equal_values_never_differ_whatever_their_columns() -> None:
    one = system("frechet_distance", 1.0, 0)
    tiny = replace(one, key=sha("tiny"), column=np.zeros(N))
    assert [s.rank for s in standings("frechet_distance", one, tiny)] == [(1, 2), (1, 2)]


def test_the_middle_of_three_may_tie_with_both_neighbours() -> None:
    """A from B and B from C are within the noise, A from C is not: B may hold any place."""
    gap = 3.0  # standard errors between first and last
    noise = np.tile([1.0, -1.0], N // 2)
    se = float(noise.std(ddof=1)) / np.sqrt(N)
    levels = [10 + at * gap * se / 2 for at in range(3)]
    columns = [noise, np.zeros(N), np.zeros(N)]
    systems = [Contender(sha(str(v)), str(v), v, c) for v, c in zip(levels, columns, strict=True)]
    systems[1] = replace(systems[1], column=np.roll(noise, 1))
    found = standings("frechet_distance", *systems)
    assert [s.rank for s in found] == [(1, 2), (1, 3), (2, 3)]
    assert [s.tie_group for s in found] == [1, 1, 2]


def test_the_neighbour_s_test_is_corrected_for_every_pair() -> None:
    metric = "perceptual_distance"
    systems = [system(metric, level, seed) for seed, level in enumerate((1.0, 1.02, 1.03, 1.2))]
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    tests = [paired_t(systems[i].column, systems[j].column) for i, j in pairs]
    corrected = dict(zip(pairs, holm([t.p for t in tests if t]), strict=True))
    found = standings(metric, *systems)
    for at in range(3):
        comparison = found[at].vs_next
        assert comparison is not None
        assert comparison.p_holm == corrected[at, at + 1] >= comparison.p
        assert comparison.delta < 0
        assert comparison.test == "paired-t"
    assert found[3].vs_next is None
    spread = float(np.median([t.se for t in tests if t]))
    assert rank(metric, systems).resolution == pytest.approx(2.80 * spread)


SYSTEMS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=7)


@pytest.mark.parametrize("metric", METRICS)
@given(drawn=SYSTEMS, order=st.randoms(use_true_random=False))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_ranks_hold_their_promises(metric: str, drawn: list[tuple[int, int]], order: object) -> None:
    systems = [system(metric, 0.3 + 0.03 * step, seed, name=str(at)) for at, (step, seed) in enumerate(drawn)]
    found: Mapping[str, RankInterval] = rank(metric, systems).standings
    shuffled = list(systems)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank(metric, shuffled).standings == found
    lower = RULES[metric].lower
    for a in systems:
        better = sum(b.value < a.value if lower else b.value > a.value for b in systems)
        low, high = found[a.key].rank
        assert 1 <= low <= 1 + better <= high <= len(systems)  # the place by value is one of those left open
    groups = {s.tie_group for s in found.values()}
    assert groups == set(range(1, len(groups) + 1))
    best = min(systems, key=lambda s: s.value if lower else -s.value)
    assert found[best.key].tie_group == 1
    assert found[best.key].rank[0] == 1
    twin = replace(systems[0], key=sha("twin"))
    both = rank(metric, [*systems, twin]).standings
    assert both[twin.key].rank == both[systems[0].key].rank
    assert both[twin.key].tie_group == both[systems[0].key].tie_group


def entered(table: pd.DataFrame | None, metric: str = "frechet_distance", **changes: object) -> object:
    card = card_of(TABLE, **changes)
    return contender(card, metric, None if table is None else evidence(table), sorted(TABLE["image_id"]))


def card_of(table: pd.DataFrame, **changes: object) -> Scorecard:
    return make_card(table, **{"scores": make_scores(len(table))} | changes).signed()


def test_a_whole_card_enters_with_its_column_in_id_order() -> None:
    found = entered(TABLE.sample(frac=1, random_state=3))
    assert isinstance(found, Contender)
    assert found.value == 3.1
    assert found.column.tolist() == TABLE.sort_values("image_id")["fid_influence"].tolist()


@pytest.mark.parametrize(
    ("table", "metric", "code", "reason"),
    [
        (None, "frechet_distance", "PB408", "table is missing"),
        (TABLE.drop(columns="fid_influence"), "frechet_distance", "PB207", "no usable fid_influence"),
        (TABLE.assign(fid_influence=[None] * N), "frechet_distance", "PB207", "no usable fid_influence"),
        (TABLE.assign(fid_influence="=1+1"), "frechet_distance", "PB207", "no usable fid_influence"),
        (TABLE.assign(fid_influence=1e200), "frechet_distance", "PB207", "no usable fid_influence"),
        (TABLE.assign(fid_influence=0.0), "frechet_distance", "PB408", "comes to 0 where the card says"),
        (TABLE.assign(perceptual_distance=1.0), "perceptual_distance", "PB408", "comes to 1 where"),
        (TABLE.assign(is_kl=1e5), "classifier_score", "PB408", "where the card says 9.4"),
        (TABLE.assign(top1=2), "classification_agreement", "PB207", "no usable top1"),
        (TABLE.assign(image_id="x" + TABLE["image_id"]), "frechet_distance", "PB408", "other images"),
        (TABLE.iloc[1:], "frechet_distance", "PB408", "other images"),
        (TABLE, "psnr", "PB207", "no paired test"),
    ],
)  # fmt: skip
def test_without_a_test_there_is_no_rank_and_the_reason_is_told(
    table: pd.DataFrame | None, metric: str, code: str, reason: str
) -> None:
    found = entered(table, metric)
    assert isinstance(found, Ineligible)
    assert found.code == code
    assert reason in found.reason


def test_a_distance_that_took_the_originals_as_fixed_does_not_rank() -> None:
    scores = make_scores(N)
    old = scores["frechet_distance"].model_copy(update={"params": {"reference": "originals"}})
    found = entered(TABLE, scores=scores | {"frechet_distance": old})
    assert isinstance(found, Ineligible)
    assert (found.code, "took the originals as fixed" in found.reason) == ("PB608", True)
    paired = old.model_copy(update={"interval": "paired-influence-v1"})
    assert isinstance(entered(TABLE, scores=scores | {"frechet_distance": paired}), Contender)


def test_the_standard_error_is_proven_with_the_halves() -> None:
    halves = 1.2 * TABLE["fid_influence"]
    table = TABLE.assign(fid_influence_halves=halves)
    scores = make_scores(N)
    whole = table.sort_values("image_id")
    se = influence_se(whole["fid_influence"].to_numpy(), whole["fid_influence_halves"].to_numpy())
    kept = scores | {"frechet_distance": scores["frechet_distance"].model_copy(update={"se": se})}
    found = entered(table, scores=kept)
    assert isinstance(found, Contender)
    assert found.halves is not None
    edited = entered(table.assign(fid_influence_halves=halves * 1.1), scores=kept)
    assert isinstance(edited, Ineligible)
    assert edited.code == "PB408"


def test_the_images_of_a_board_are_those_most_tables_list() -> None:
    other = evidence(TABLE.assign(image_id="x" + TABLE["image_id"]))
    ours = evidence(TABLE)
    assert images_of([other, ours, ours]) == tuple(sorted(TABLE["image_id"]))
    assert images_of([other, ours]) == images_of([ours, other])
    assert images_of([]) == ()


def test_ranks_are_printed_as_intervals() -> None:
    assert rank_text((2, 2)) == "2"
    assert rank_text((1, 3)) == "1\N{EN DASH}3"
