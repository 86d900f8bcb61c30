"""What `board diff` names: new, gone, value, rank, tier."""

from __future__ import annotations

from typing import Any

from cards import make_card, make_scores, make_table, sha, with_outputs

from palette_bench.board.diff import changes
from palette_bench.board.leaderboard import Leaderboard, assemble
from palette_bench.board.paired_tests import evidence
from palette_bench.board.record import PublishedRecord, Tier

TABLE = make_table([f"p{i}" for i in range(30)])
HERE = "palette-mini inpainting / center32 on photos-64"


def board_of(tier: Tier = "self-reported", set_name: str = "set", **values: float) -> Leaderboard:
    """Return the leaderboard of systems with these Fréchet distances."""
    prints: dict[str, Any] = {"fingerprints": {"set": sha(set_name)}}
    cards = [
        with_outputs(make_card(TABLE, slug, scores=make_scores(30, value), **prints)).signed()
        for slug, value in values.items()
    ]
    digests = [card.content_sha256 for card in cards]
    return assemble(
        PublishedRecord(tuple(cards), {d: evidence(TABLE) for d in digests}, dict.fromkeys(digests, tier))
    )


def lines(old: Leaderboard, new: Leaderboard) -> list[str]:
    return [str(change) for change in changes(old, new)]


def test_equal_boards_say_nothing() -> None:
    assert lines(board_of(aa=3.0, bb=4.0), board_of(bb=4.0, aa=3.0)) == []


def test_a_new_system_and_whom_it_moves() -> None:
    assert lines(board_of(bb=4.0), board_of(aa=3.0, bb=4.0)) == [
        f"new    {HERE}: aa 1 frechet_distance 3.0, rank 1",
        f"rank   {HERE}: bb 1 frechet_distance 1 -> 2",
        f"rank   {HERE}: bb 1 perceptual_distance 1 -> 1\N{EN DASH}2",
        f"rank   {HERE}: bb 1 classifier_score 1 -> 1\N{EN DASH}2",
    ]


def test_a_system_that_is_gone_and_a_value_that_moved() -> None:
    found = lines(board_of(aa=3.0, bb=4.0), board_of(aa=2.5))
    assert f"value  {HERE}: aa 1 frechet_distance 3.0 -> 2.5" in found
    assert found[-1] == f"gone   {HERE}: bb 1"


def test_a_tier_that_was_earned() -> None:
    assert lines(board_of(aa=3.0), board_of("verified", aa=3.0)) == [
        f"tier   {HERE}: aa 1 self-reported -> verified"
    ]


def test_boards_of_other_images_never_meet() -> None:
    assert lines(board_of(aa=3.0), board_of(set_name="another", aa=3.0)) == [
        f"new    {HERE}: a board of 1 system",
        f"new    {HERE}: aa 1 frechet_distance 3.0, rank 1",
        f"gone   {HERE}: a board of 1 system",
    ]
