"""Whatever a caller has set in torch, NumPy or the environment: the same bits, or a refusal with a code.

One thread: the number of threads belongs to level L0, as the machine does.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ambient import GPU_STATES, STATES, snapshot
from questions import batch
from test_extractors import EXTRACTORS, LARGE
from timm.layers import set_fused_attn, use_fused_attn
from toy_method import weights_of, write_pack

from palette_bench import Evaluator
from palette_bench.baselines.palette import baseline as palette
from palette_bench.baselines.regression import baseline as regression
from palette_bench.baselines.training.method import PackagedMethod
from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import DeviceError, PaletteBenchError
from palette_bench.runtime.device import reproducible_arithmetic
from palette_bench.scoring.features import open_extractor, open_pair_distance
from palette_bench.scoring.features.network import drawn_images
from palette_bench.scoring.features.pairs import PAIRS
from palette_bench.submission.methods import RestoreOptions, TrainOptions, UserImage

pytestmark = pytest.mark.long  # minutes: make test-all

RECIPE = """\
schema = "palette-bench/recipe/1.0"
method = "{method}"
[network]
preset = "palette-toy"
[training]
batch = 2
steps = 2
learning_rate = 1e-3
warmup_steps = 1
ema_decay = 0.9
[speed]
autocast = "{autocast}"
"""

Bits = Mapping[str, str]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def tried(work: Callable[[], str]) -> str:
    """Return what work returns, or the code it is refused with; any other exception is no refusal."""
    try:
        return work()
    except PaletteBenchError as error:
        return error.problems[0].code if error.problems else f"without a code: {error}"
    except Exception as error:  # told beside the other cases
        return f"{type(error).__name__}: {error}"[:120]


def differing(found: Bits, expected: Bits) -> dict[str, str]:
    return {
        name: bits
        for name, bits in found.items()
        if bits != expected[name] and not (bits.startswith("PB") and len(bits) == 5)
    }


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return STATES[request.param]


# --- the judge ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return drawn_images(2)


@pytest.fixture(scope="module")
def networks(images: torch.Tensor) -> dict[str, Callable[[], str]]:
    """Every extractor and pair distance of the tables, opened plainly: name -> digest of a pass.

    The large transformers run the code of the small one.
    """
    passes: dict[str, Callable[[], str]] = {}
    for name in EXTRACTORS.keys() - set(LARGE):
        extractor = open_extractor(name, None if name == "smoke-random" else "random:0", "center224", "cpu")
        passes[name] = lambda extractor=extractor: digest(*extractor(images[:1]).values())
    for name in PAIRS:
        distance = open_pair_distance(name, dict.fromkeys(("lpips-alex", "dists-vgg16"), "random:0"))
        passes[name] = lambda distance=distance: digest(distance(images[:1], images[1:]))
    return passes


@pytest.fixture(scope="module")
def plain(networks: dict[str, Callable[[], str]]) -> Bits:
    return {name: run() for name, run in networks.items()}


@pytest.mark.trust("check: ambient state")
def test_a_pass_gives_equal_bits_and_leaves_the_state(
    networks: dict[str, Callable[[], str]], plain: Bits, state: Callable[[], Any]
) -> None:
    with state():
        before = snapshot()
        found = {name: tried(run) for name, run in networks.items()}
        assert snapshot() == before
    assert differing(found, plain) == {}


def opened(images: torch.Tensor) -> dict[str, str]:
    """Return the fingerprint and a pass of networks opened here.

    They do all that opening does: He-normal draws, calibrated norms, folding, constants, float64 windows. The
    other networks are opened by the same calls, at twenty times the cost.
    """

    def extractor(name: str, weights: str | None) -> str:
        network = open_extractor(name, weights, "center224", "cpu")
        return network.fingerprint + digest(*network(images[:1]).values())

    def distance(name: str) -> str:
        pair = open_pair_distance(name, dict.fromkeys(("lpips-alex", "dists-vgg16"), "random:0"))
        return pair.fingerprint + digest(pair(images[:1], images[1:]))

    return {
        "smoke-random": tried(lambda: extractor("smoke-random", None)),
        "efficientnet-lite0": tried(lambda: extractor("efficientnet-lite0", "random:0")),
        **{name: tried(lambda name=name: distance(name)) for name in PAIRS},
    }


@pytest.fixture(scope="module")
def opened_plainly(images: torch.Tensor) -> Bits:
    return opened(images)


@pytest.mark.trust("check: ambient state")
def test_a_network_opened_in_any_state_is_the_same_network(
    images: torch.Tensor, opened_plainly: Bits, state: Callable[[], Any]
) -> None:
    with state():
        before = snapshot()
        found = opened(images)
        assert snapshot() == before
    assert differing(found, opened_plainly) == {}


@pytest.mark.trust("check: ambient state")
@pytest.mark.parametrize("chosen", [(False, False), (True, True)])
def test_what_timm_was_told_of_attention_changes_nothing(
    plain: Bits, images: torch.Tensor, chosen: tuple[bool, bool]
) -> None:
    name = "timm:vit_tiny_patch16_224"
    set_fused_attn(chosen[0], experimental=chosen[1])
    try:
        assert (
            digest(*open_extractor(name, "random:0", "center224", "cpu")(images[:1]).values()) == plain[name]
        )
        assert (use_fused_attn(), use_fused_attn(experimental=True)) == chosen
    finally:
        set_fused_attn()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> BenchSet:
    folder = tmp_path_factory.mktemp("set") / "jpeg"
    generate("smoke", "jpeg/qf5", folder)
    return BenchSet.open(folder)


def scores(target: BenchSet) -> str:
    metrics = ("fid", "kid", "inception_score", "classification_accuracy", "perceptual_distance")
    filling = Evaluator(target, metrics, extractors=["smoke-random"])
    filling.update(np.stack([target.condition(i) for i in target.ids]), target.ids)
    return str(sorted(filling.compute().items()))


@pytest.mark.trust("check: ambient state")
def test_scores_are_equal_and_what_they_leave_in_the_cache_is_sound(
    target: BenchSet, state: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(target)
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "another cache"))
    with state():
        found = {"in it": tried(lambda: scores(target))}
    found["after it"] = tried(lambda: scores(target))
    assert differing(found, dict.fromkeys(found, expected)) == {}


# --- contestants --------------------------------------------------------------------------------


def trained(method: PackagedMethod, folder: Path, autocast: str = "off", deterministic: bool = True) -> str:
    """Return the digest of all tensors that two steps leave in `folder`."""
    folder.mkdir(parents=True)
    recipe, data = folder / "recipe.toml", folder / "pack.safetensors"
    recipe.write_text(RECIPE.format(method=method.method().name, autocast=autocast))
    options = TrainOptions(
        data=(write_pack(data),),
        run=folder / "run",
        task="inpainting",
        recipe=str(recipe),
        deterministic=deterministic,
    )
    method.train(options)
    tensors = sorted(weights_of(folder / "run", 2).items())
    return digest(*(np.frombuffer(tensor, np.uint8) for _, tensor in tensors))


# autocast of the recipe, deterministic
KINDS = [("off", True), ("off", False), ("bf16", True)]


@pytest.fixture(scope="module")
def trained_plainly(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], str]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: trained(regression, folder / str(i), *kind) for i, kind in enumerate(KINDS)}


@pytest.mark.trust("restore: ambient state")
def test_the_recipe_alone_says_how_training_computes(
    trained_plainly: dict[tuple[str, bool], str], state: Callable[[], Any], tmp_path: Path
) -> None:
    with state():
        before = snapshot()
        found = {
            str(kind): tried(lambda kind=kind: trained(regression, tmp_path / str(kind), *kind))
            for kind in KINDS
        }
        assert snapshot() == before
    assert differing(found, {str(kind): bits for kind, bits in trained_plainly.items()}) == {}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Palette, whose restoring differs from its input."""
    folder = tmp_path_factory.mktemp("palette") / "palette"
    trained(palette, folder)
    return folder / "run"


def restored(run: Path) -> str:
    model = palette.restorer(RestoreOptions(run=run, steps=2))
    own = UserImage("own", "inpainting", *own_pixels())
    return digest(model.restore(batch("inpainting", 16, 2)), model.restore_image(own, "tile"))


def own_pixels() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    return draw.integers(0, 256, (20, 40, 3), dtype=np.uint8), draw.random((20, 40)) < 0.5


@pytest.fixture(scope="module")
def restored_plainly(run: Path) -> str:
    return restored(run)


@pytest.mark.trust("restore: ambient state")
def test_restoring_gives_equal_pixels(run: Path, restored_plainly: str, state: Callable[[], Any]) -> None:
    with state():
        before = snapshot()
        found = tried(lambda: restored(run))
        assert snapshot() == before
    assert differing({"pixels": found}, {"pixels": restored_plainly}) == {}


# --- the environment, which libraries read when they are loaded -----------------------------------

PASS = """
from palette_bench.core.errors import PaletteBenchError
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.network import drawn_images
try:
    tables = open_extractor("smoke-random", None, "center224", "cpu")(drawn_images(2))
    print(*(table.tobytes().hex() for table in tables.values()))
except PaletteBenchError as error:
    print(error.problems[0].code)
"""
FLUSHING = """
import torch
torch.set_num_threads(2)
torch.set_flush_denormal(True)
torch.ones(1 << 20).sum()  # starts the other thread, which inherits that
"""


def in_a_process(script: str, **variables: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


HARMLESS = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "NVIDIA_TF32_OVERRIDE": "0",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}


@pytest.mark.trust("check: ambient state")
def test_variables_are_refused_or_change_no_bit() -> None:
    assert in_a_process(PASS, ONEDNN_DEFAULT_FPMATH_MODE="BF16") == "PB708"
    assert in_a_process(PASS, **HARMLESS) == in_a_process(PASS)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "TF32"),
        ("DNNL_DEFAULT_FPMATH_MODE", "any"),
        ("NVIDIA_TF32_OVERRIDE", "1"),
    ],
)
def test_a_refusal_names_the_variable_and_the_way_on(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(DeviceError, match=f"unset {variable} and start again"), reproducible_arithmetic():
        pass


def test_threads_that_flush_small_numbers_are_refused() -> None:
    assert in_a_process(FLUSHING + PASS, OMP_NUM_THREADS="2") == "PB708"


# --- GPU products, as far as a machine without a GPU can tell ---------------------------------------


@pytest.mark.parametrize("name", [*GPU_STATES, *(name for name in STATES if "precision" in name)])
@pytest.mark.parametrize("tf32", [False, True])
def test_older_and_newer_settings_of_products_agree_inside(name: str, tf32: bool) -> None:
    """Where they contradict each other torch raises an error in the middle of a pass."""
    with {**STATES, **GPU_STATES}[name]():
        before = snapshot()
        with reproducible_arithmetic(tf32=tf32):
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
            assert not torch.is_autocast_enabled("cuda")
            assert torch.backends.cudnn.enabled
            assert not torch.backends.cudnn.benchmark
        assert snapshot() == before
