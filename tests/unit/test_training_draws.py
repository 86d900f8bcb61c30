"""Keyed draws: the same for any rank, batch and device; normals that are normal."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from palette_bench.baselines.training.draws import (
    KeyedDraws,
    device_normals,
    draw_key,
    host_normals,
    philox,
)
from palette_bench.baselines.training.objective import TrainingBatch

CPU = torch.device("cpu")


def examples(positions: list[int], step: int = 3) -> TrainingBatch:
    empty = torch.zeros(len(positions), 3, 4, 4)
    where = np.array(positions, np.int64)
    return TrainingBatch(step, where, ("jpeg",) * len(positions), empty, empty, empty[:, :1] > -1)


def textbook_philox(counter: list[int], key: list[int], bits: int) -> list[int]:
    """Philox-4x`bits`-10 in Python's integers, from the paper's definition."""
    multipliers = {32: (0xD2511F53, 0xCD9E8D57), 64: (0xD2E7470EE14C6C93, 0xCA5A826395121157)}[bits]
    weyl = {32: (0x9E3779B9, 0xBB67AE85), 64: (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)}[bits]
    word = (1 << bits) - 1
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        p0, p1 = multipliers[0] * c0, multipliers[1] * c2
        c0, c1, c2, c3 = p1 >> bits ^ c1 ^ k0, p1 & word, p0 >> bits ^ c3 ^ k1, p0 & word
        k0, k1 = k0 + weyl[0] & word, k1 + weyl[1] & word
    return [c0, c1, c2, c3]


def test_the_textbook_philox_of_64_bits_is_numpys() -> None:
    key = [0x0123456789ABCDEF, 0xFEDCBA9876543210]
    raw = np.random.Philox(key=np.array(key, np.uint64)).random_raw(8).tolist()
    assert raw == textbook_philox([1, 0, 0, 0], key, 64) + textbook_philox([2, 0, 0, 0], key, 64)


@pytest.mark.parametrize(
    ("counter", "key", "words"),  # known answers of Random123's kat_vectors
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_textbook_philox_of_32_bits_gives_the_published_words(
    counter: list[int], key: list[int], words: str
) -> None:
    assert " ".join(f"{word:08x}" for word in textbook_philox(counter, key, 32)) == words


def test_the_tensor_philox_is_the_textbooks_word_for_word() -> None:
    keys = torch.tensor([[0, 0], [0xFFFFFFFF, 0xFFFFFFFF], [0xA4093822, 0x299F31D0]])
    counters = torch.tensor([0, 1, 2, 12345, 0xFFFFFFFF])
    found = torch.stack(philox(keys, counters), dim=-1).tolist()
    expected = [[textbook_philox([c, 0, 0, 0], k, 32) for c in counters.tolist()] for k in keys.tolist()]
    assert found == expected


def test_host_normals_are_numpys_by_the_first_sixteen_bytes_of_the_digest() -> None:
    digest = hashlib.sha256(b"pb-train-v1|1|3|5|noise").digest()
    assert draw_key(1, 3, 5, "noise") == "pb-train-v1|1|3|5|noise"
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    drawn = KeyedDraws(1).normal(examples([5]), "noise", (3, 4, 4))
    assert np.array_equal(drawn[0].numpy(), generator.standard_normal((3, 4, 4), dtype=np.float32))


@pytest.mark.parametrize("noise", ["host", "device"])
def test_a_draw_depends_on_seed_step_position_and_purpose_alone(noise: str) -> None:
    draws = KeyedDraws(0, noise)  # type: ignore[arg-type]
    whole = draws.normal(examples([0, 1, 2, 3]), "noise", (3, 4, 4))
    parts = [draws.normal(examples([p]), "noise", (3, 4, 4)) for p in range(4)]
    assert torch.equal(whole, torch.cat(parts))
    others = [
        KeyedDraws(1, noise).normal(examples([0]), "noise", (3, 4, 4)),  # type: ignore[arg-type]
        draws.normal(examples([0], step=4), "noise", (3, 4, 4)),
        draws.normal(examples([0]), "fill", (3, 4, 4)),
        *parts[1:],
    ]
    assert all(not torch.equal(whole[:1], other) for other in others)


@pytest.mark.parametrize("kind", ["host", "device"])
def test_normals_are_normal(kind: str) -> None:
    digests = [hashlib.sha256(bytes([i])).digest() for i in range(8)]
    if kind == "device":
        values = device_normals(digests, (50_001,), CPU).numpy()
    else:
        values = np.stack([host_normals(digest, (50_001,)) for digest in digests])
    assert values.shape == (8, 50_001)
    assert values.dtype == np.float32
    assert stats.kstest(values.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(values)[np.triu_indices(8, 1)]).max() < 5 / 50_001**0.5
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 5 / 400_000**0.5
    assert stats.kurtosis(values.ravel()) == pytest.approx(0, abs=0.04)


def test_uniform_and_below_cover_their_range_evenly() -> None:
    many = examples(list(range(4000)))
    draws = KeyedDraws(5)
    uniform = draws.uniform(many, "gamma")
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    counts = np.bincount(draws.below(many, "level", 7), minlength=7)
    assert stats.chisquare(counts).pvalue > 0.01
    again = draws.uniform(replace(many, step=many.step), "gamma")
    assert np.array_equal(uniform, again)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_words_and_nearly_the_same_normals() -> None:
    keys, counters = torch.tensor([[1, 2], [0xFFFFFFFF, 7]]), torch.arange(1000)
    there = torch.stack(philox(keys.cuda(), counters.cuda())).cpu()
    assert torch.equal(there, torch.stack(philox(keys, counters)))
    digests = [hashlib.sha256(b"gpu").digest()]
    there = device_normals(digests, (100_000,), torch.device("cuda")).cpu()
    assert torch.allclose(there, device_normals(digests, (100_000,), CPU), rtol=0, atol=1e-6)
