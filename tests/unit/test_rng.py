"""stream-v1 against the golden values of the protocol, appendix B."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palette_bench.core.fingerprint import sha256
from palette_bench.core.rng import (
    Stream,
    cosine_table,
    hole_noise,
    normal_table,
    normals,
    sampling_noise,
    stream_key,
)

KEY = stream_key(
    "palette-2022", "inpainting", "freeform-20-30", "imagenet-ctest10k", "ILSVRC2012_val_00025275", "mask"
)


def test_the_tables_have_the_published_digests() -> None:
    assert sha256(normal_table().astype("<i2").tobytes()) == (
        "1ea009ce409dac97d6bd609266910f809c5fb912f78e16bd89145b08174d6fc5"
    )
    assert sha256(cosine_table().astype("<i4").tobytes()) == (
        "cdd64e43c9954d42ae8507473f36e4345d021ff9b0cbed784367501f5c0a25e3"
    )


def test_words_bounded_integers_and_normals_are_the_published_ones() -> None:
    words, bounded, normal = Stream(KEY), Stream(KEY), Stream(KEY)
    assert [words.u32() for _ in range(4)] == [872388430, 3885269449, 970505555, 2353510029]
    assert [bounded.below(n) for n in (3, 8, 241, 28, 256)] == [1, 1, 1, 17, 75]
    assert [normal.normal() for _ in range(4)] == [-3402, 5359, -3081, 494]


def test_the_fill_is_the_published_one_and_exact_in_float32() -> None:
    key = KEY.replace("|mask|", "|fill|")
    content = hole_noise(key, 256)
    assert content.dtype == np.float32
    assert content[0, 0] == pytest.approx([-0.32788086, 0.13598633, -1.5795898], abs=1e-7)
    assert sha256((content * 4096).astype("<i2").tobytes())[:16] == "a3f176712be6b724"
    np.testing.assert_array_equal(content * 4096, normals(key, (256, 256, 3)))


def test_the_normal_table_is_symmetric_with_unit_variance() -> None:
    table = normal_table().astype(float) / 4096
    np.testing.assert_array_equal(table, -table[::-1])
    assert table.var() == pytest.approx(0.99998, abs=1e-5)


@given(st.integers(1, 2**32), st.text("abc-", max_size=8))
def test_bounded_integers_stay_in_range(n: int, item: str) -> None:
    stream = Stream(stream_key("p", "t", "v", "s", item, "mask"))
    assert all(0 <= stream.below(n) < n for _ in range(8))


def test_each_field_of_the_key_changes_the_draws() -> None:
    fields = ["palette-2022", "inpainting", "center128", "source", "id", "mask", ""]
    first = {Stream(stream_key(*fields)).u32()}
    for i in range(len(fields)):
        changed = [*fields[:i], fields[i] + "x", *fields[i + 1 :]]
        first.add(Stream(stream_key(*changed)).u32())
    assert len(first) == len(fields) + 1


@pytest.mark.parametrize(
    ("key", "shape", "first", "digest"),
    [
        (
            (0, "ILSVRC2012_val_00025275", 0, 0),
            (3, 256, 256),
            [0.41425231, -0.32438555, -0.30150685, 0.65467989],
            "485902f027ee7bce",
        ),
        (
            (7, "astronaut", 1, 1000),
            (3, 64, 64),
            [-0.08419670, 0.88505143, -1.33965778, 0.63949090],
            "44a1d54d95c86091",
        ),
    ],
)
def test_sampling_noise_is_philox_under_the_hashed_key(
    key: tuple[int, str, int, int], shape: tuple[int, ...], first: list[float], digest: str
) -> None:
    noise = sampling_noise(*key, shape)
    assert (noise.shape, noise.dtype) == (shape, np.float32)
    assert noise.ravel()[:4] == pytest.approx(first, abs=1e-7)
    assert sha256(noise.astype("<f4").tobytes())[:16] == digest


def test_seed_id_sample_and_step_each_change_the_noise_and_shape_only_cuts_it() -> None:
    keys = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    assert len({sampling_noise(*key, (4,)).tobytes() for key in keys}) == len(keys)
    np.testing.assert_array_equal(sampling_noise(0, "a", 0, 0, (64,))[:4], sampling_noise(0, "a", 0, 0, (4,)))
