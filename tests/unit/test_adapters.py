"""Adapters: tools that work on folders get what they may see, and their results come back unbent."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from palette_bench.baselines.adapters.pipelines import PIPELINES, InpaintingPipeline
from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import ContestantSet, export_public
from palette_bench.benchset.sources import Request
from palette_bench.core.errors import InputError, StackError, SubmissionError, UsageError, WeightsError
from palette_bench.core.png import decode_strict, encode
from palette_bench.core.types import Image
from palette_bench.submission.check import check
from palette_bench.submission.methods import Adapter, RestoreOptions, ToolOptions, load_adapter, load_baseline
from palette_bench.submission.restore import restore
from palette_bench.tasks.preprocess import crop_area

N = 5
PLAIN = ToolOptions()
# adapter -> files of an id, hole and other level of its mask, its result
LAYOUTS: dict[str, tuple[tuple[str, str], tuple[int, int], str]] = {
    "adapter:folder": (("{}.png", "{}_mask.png"), (255, 0), "{}.png"),
    "adapter:lama": (("{}.png", "{}_mask001.png"), (255, 0), "{}_mask001.png"),
    "adapter:repaint": (("gts/{}.png", "gt_keep_masks/{}.png"), (0, 255), "inpainted/{}.png"),
    "adapter:joligen": (("{}.png", "{}_mask.png"), (1, 0), "{}_generated.png"),
}
RESULTS = {name: result for name, (_, _, result) in LAYOUTS.items()} | {"adapter:janspiry": "Out_{}.png"}


@pytest.fixture(scope="module")
def made(smoke_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Five images of 64 px under any task."""
    source = smoke_sets / "jpeg.qf5" / "reference"

    def make(task: str) -> Path:
        (done,) = generate(
            "palette-mini",
            task,
            tmp_path_factory.mktemp("set"),
            request=Request("folder:few", source, limit=N),
        )
        return done.folder

    return make


@pytest.fixture(scope="module")
def holes(made: Callable[[str], Path]) -> ContestantSet:
    return ContestantSet.open(made("inpainting/freeform-20-30"))


@pytest.fixture(scope="module")
def public(holes: ContestantSet, tmp_path_factory: pytest.TempPathFactory) -> ContestantSet:
    """What `generate --public` writes: no references, no manifest."""
    out = tmp_path_factory.mktemp("public")
    export_public(holes.folder, out)
    return ContestantSet.open(out)


def answer(benchset: ContestantSet, folder: Path, template: str = "{}.png", side: int = 64) -> Path:
    """Play the tool: write a result per id, that of `painted`."""
    for image_id in benchset.ids:
        place = folder / template.format(image_id)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(painted(benchset, image_id).repeat(side // 64, 0).repeat(side // 64, 1)))
    return folder


def painted(benchset: ContestantSet, image_id: str) -> Image:
    return benchset.condition(image_id) ^ 4


def pixels(path: Path, channels: int = 3, side: int = 64) -> Image:
    return decode_strict(path.read_bytes(), side, side, channels)[0]


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_export_is_the_tool_s_layout_made_from_the_public_part(
    name: str, public: ContestantSet, tmp_path: Path
) -> None:
    (image, mask), (hole, other), _ = LAYOUTS[name]
    load_adapter(name).export(public, tmp_path, PLAIN)
    assert files(tmp_path) == {template.format(i) for i in public.ids for template in (image, mask)}
    for i in public.ids:
        np.testing.assert_array_equal(pixels(tmp_path / image.format(i)), public.condition(i))
        expected = np.where(public.mask(i), hole, other)
        np.testing.assert_array_equal(pixels(tmp_path / mask.format(i), 1)[:, :, 0], expected)


@pytest.mark.parametrize("name", RESULTS)
def test_results_become_a_sound_submission(
    name: str, public: ContestantSet, holes: ContestantSet, tmp_path: Path
) -> None:
    answer(public, tmp_path / "results", RESULTS[name])
    (tmp_path / "results" / "log.txt").touch()  # tools leave other things too
    results = load_adapter(name).results(public, tmp_path / "results", PLAIN)
    card = restore(results, public, tmp_path / "sub")
    assert card is not None
    assert card.declared.uses_mask
    assert card.declared.postprocess is None
    assert card.training.saw_test_images == "unknown"
    report = check(tmp_path / "sub", holes.folder)
    assert report.ok, report.problems
    for i in public.ids:
        np.testing.assert_array_equal(pixels(tmp_path / "sub" / "outputs" / f"{i}.png"), painted(public, i))


def test_a_gray_input_is_exported_three_times_and_without_a_mask(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    target = ContestantSet.open(made("colorization"))
    load_adapter("adapter:folder").export(target, tmp_path, PLAIN)
    assert files(tmp_path) == {f"{i}.png" for i in target.ids}
    first = pixels(tmp_path / f"{target.ids[0]}.png")
    np.testing.assert_array_equal(first, target.input(target.ids[0]).repeat(3, 2))
    answer(target, tmp_path / "results")
    results = load_adapter("adapter:folder").results(target, tmp_path / "results", PLAIN)
    card = restore(results, target, tmp_path / "sub")
    assert card is not None
    assert not card.declared.uses_mask


@pytest.mark.parametrize("name", ["adapter:lama", "adapter:repaint", "adapter:joligen"])
def test_tools_that_fill_holes_do_nothing_else(
    name: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    target = ContestantSet.open(made("jpeg/qf5"))
    with pytest.raises(UsageError, match="fills holes: jpeg has none"):
        load_adapter(name).export(target, tmp_path, PLAIN)
    with pytest.raises(UsageError, match="fills holes: jpeg has none"):
        load_adapter(name).results(target, tmp_path, PLAIN)


def test_a_tool_without_mask_files_gets_no_export(public: ContestantSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads no mask files"):
        load_adapter("adapter:janspiry").export(public, tmp_path, PLAIN)


def test_a_method_that_runs_by_itself_is_no_adapter() -> None:
    with pytest.raises(UsageError, match=r"copy-input runs by itself.*adapter:folder, .*adapter:lama"):
        load_adapter("copy-input")


def test_an_export_is_repeated_but_never_mixed_with_other_files(
    public: ContestantSet, tmp_path: Path
) -> None:
    adapter = load_adapter("adapter:lama")
    adapter.export(public, tmp_path, PLAIN)
    adapter.export(public, tmp_path, PLAIN)
    (tmp_path / "other.png").touch()
    with pytest.raises(InputError, match=r"PB809[\s\S]*other\.png"):
        adapter.export(public, tmp_path, PLAIN)


def test_the_hole_s_level_is_the_user_s_to_choose(public: ContestantSet, tmp_path: Path) -> None:
    first = public.ids[0]
    for value, other in ((0, 255), (128, 0)):
        load_adapter("adapter:folder").export(public, tmp_path, ToolOptions(hole_value=value))
        mask = pixels(tmp_path / f"{first}_mask.png", 1)[:, :, 0]
        np.testing.assert_array_equal(mask, np.where(public.mask(first), value, other))


def test_another_size_goes_up_bicubic_and_comes_down_by_areas(public: ContestantSet, tmp_path: Path) -> None:
    adapter, larger = load_adapter("adapter:lama"), ToolOptions(tool_size=160)
    adapter.export(public, tmp_path / "in", larger)
    first = public.ids[0]
    up = PillowImage.fromarray(public.condition(first)).resize((160, 160), PillowImage.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels(tmp_path / "in" / f"{first}.png", side=160), np.asarray(up))
    mask = pixels(tmp_path / "in" / f"{first}_mask001.png", 1, 160)[:, :, 0]
    assert set(np.unique(mask)) == {0, 255}
    back = mask[1::5, 1::5]  # 160 / 64 is 5 / 2: rows 1, 6, 11 ... come from rows 0, 2, 4 ...
    np.testing.assert_array_equal(back == 255, np.asarray(public.mask(first))[::2, ::2])
    results = tmp_path / "out"
    results.mkdir()
    for i in public.ids:
        (results / f"{i}_mask001.png").write_bytes(encode(np.asarray(up)))
    card = restore(adapter.results(public, results, larger), public, tmp_path / "sub")
    assert card is not None
    assert card.declared.postprocess == (
        "worked at 160 x 160: inputs enlarged bicubically, results averaged over areas"
    )
    output = pixels(tmp_path / "sub" / "outputs" / f"{first}.png")
    np.testing.assert_array_equal(output, crop_area(np.asarray(up), 64))


def test_results_larger_than_a_submission_s_limit_are_read(public: ContestantSet, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    for i in public.ids:
        (tmp_path / f"{i}.png").write_bytes(encode(noise))
    found = load_adapter("adapter:folder").results(public, tmp_path, ToolOptions(tool_size=640))
    assert found.identity


def jpeg(image: Image) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def test_all_problems_of_results_are_told_at_once(public: ContestantSet, tmp_path: Path) -> None:
    answer(public, tmp_path)
    missing, lossy, small, alpha, twin = (tmp_path / f"{i}.png" for i in public.ids)
    missing.unlink()
    lossy.write_bytes(jpeg(painted(public, public.ids[1])))
    small.write_bytes(encode(np.zeros((32, 32, 3), np.uint8)))
    PillowImage.new("RGBA", (64, 64)).save(alpha)
    twin.with_suffix(".jpg").write_bytes(twin.read_bytes())
    (tmp_path / "stranger.png").touch()
    with pytest.raises(SubmissionError) as caught:
        load_adapter("adapter:folder").results(public, tmp_path, PLAIN)
    found = {p.code: (p.ids, p.fix) for p in caught.value.problems}
    assert {code: ids for code, (ids, _) in found.items()} == {
        "PB201": (public.ids[0],),
        "PB202": ("stranger",),
        "PB203": (public.ids[4],),
        "PB301": (public.ids[1],),
        "PB302": (public.ids[2],),
        "PB303": (public.ids[3],),
    }
    assert "--tool-size" in found["PB302"][1]
    assert "--accept-lossy" in found["PB301"][1]


def test_jpeg_results_are_taken_only_on_request_and_declared(public: ContestantSet, tmp_path: Path) -> None:
    answer(public, tmp_path / "r")
    for i in public.ids[:2]:
        (tmp_path / "r" / f"{i}.png").unlink()
        (tmp_path / "r" / f"{i}.jpg").write_bytes(jpeg(painted(public, i)))
    adapter = load_adapter("adapter:folder")
    with pytest.raises(SubmissionError, match=r"PB301[\s\S]*a JPEG"):
        adapter.results(public, tmp_path / "r", PLAIN)
    lossy = ToolOptions(accept_lossy=True)
    card = restore(adapter.results(public, tmp_path / "r", lossy), public, tmp_path / "sub")
    assert card is not None
    assert card.declared.postprocess == "2 results decoded from JPEG"
    cut = (tmp_path / "r" / f"{public.ids[0]}.jpg").read_bytes()[:500]
    (tmp_path / "r" / f"{public.ids[0]}.jpg").write_bytes(cut)
    with pytest.raises(SubmissionError, match="PB306"):
        adapter.results(public, tmp_path / "r", lossy)


def test_a_template_names_results_anywhere_below_the_folder(public: ContestantSet, tmp_path: Path) -> None:
    answer(public, tmp_path, "run 1/x_{}_out.png")
    options = ToolOptions(template="run 1/x_{id}_out.png")
    assert load_adapter("adapter:joligen").results(public, tmp_path, options)


@pytest.mark.parametrize(
    "template",
    ["out.png", "{id}", "{id}.jpg", "{id}_{id}.png", "/elsewhere/{id}.png", "../{id}.png", "{id}/out.png"],
)
def test_a_template_that_cannot_be_meant_is_refused(
    template: str, public: ContestantSet, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="relative name"):
        load_adapter("adapter:folder").results(public, tmp_path, ToolOptions(template=template))


def test_changed_results_do_not_mix_with_imported_ones(public: ContestantSet, tmp_path: Path) -> None:
    adapter = load_adapter("adapter:folder")
    answer(public, tmp_path / "r")
    restore(adapter.results(public, tmp_path / "r", PLAIN), public, tmp_path / "sub")
    restore(adapter.results(public, tmp_path / "r", PLAIN), public, tmp_path / "sub")
    (tmp_path / "r" / f"{public.ids[0]}.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(InputError, match="PB605"):
        restore(adapter.results(public, tmp_path / "r", PLAIN), public, tmp_path / "sub")


# -- diffusers, in process ---------------------------------------------------------------------------------

DIFFUSERS = load_baseline("adapter:diffusers")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RePaint pipeline with random weights, as save_pretrained writes it."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    import torch

    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=64,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    folder = tmp_path_factory.mktemp("pipeline")
    diffusers.RePaintPipeline(unet=network, scheduler=diffusers.RePaintScheduler()).save_pretrained(folder)
    return folder


def repaint(weights: Path, **options: Any) -> Any:
    return DIFFUSERS.restorer(
        RestoreOptions(run=weights, pipeline="RePaintPipeline", **{"steps": 3, **options})
    )


def test_a_pipeline_restores_offline_and_its_evaluations_are_counted(
    weights: Path, public: ContestantSet, holes: ContestantSet, tmp_path: Path
) -> None:
    card = restore(repaint(weights), public, tmp_path / "sub", batch_size=2, device="cpu")
    assert card is not None
    assert card.sampling.steps == 3
    assert card.method.slug == "diffusers-repaint"
    assert card.declared.uses_mask
    report = check(tmp_path / "sub", holes.folder)
    assert report.ok, report.problems
    again = restore(repaint(weights), public, tmp_path / "sub", batch_size=2, device="cpu")
    assert again == card  # the count is remembered where nothing is left to do


def test_a_pipeline_s_hole_is_the_set_s_hole(weights: Path, public: ContestantSet, tmp_path: Path) -> None:
    restore(repaint(weights), public, tmp_path / "sub")
    for i in public.ids:
        gap = np.abs(pixels(tmp_path / "sub" / "outputs" / f"{i}.png").astype(int) - public.condition(i))
        mask = np.asarray(public.mask(i))
        assert gap[~mask].max() <= 4  # RePaint's last step leaves a little noise on known pixels
        assert gap[mask].mean() > 10


def test_a_pipeline_s_noise_is_keyed_by_image_and_sample(
    weights: Path, public: ContestantSet, tmp_path: Path
) -> None:
    def outputs(folder: str, **options: Any) -> dict[str, bytes]:
        seed = options.pop("seed", 0)
        restore(repaint(weights, seed=seed), public, tmp_path / folder, **options)
        return {
            name: (tmp_path / folder / name).read_bytes()
            for name in files(tmp_path / folder)
            if ".png" in name
        }

    one, other = outputs("a", batch_size=1), outputs("b", batch_size=3, samples=2)
    assert one.items() <= other.items()
    assert len(set(other.values())) == 2 * N
    assert not set(one.values()) & set(outputs("c", seed=1).values())


@pytest.mark.parametrize("name", PIPELINES)
def test_every_class_is_called_with_its_polarity_and_nothing_to_say(
    name: str, public: ContestantSet, weights: Path, tmp_path: Path
) -> None:
    import torch

    calls: list[dict[str, Any]] = []

    class Pipeline:
        unet = transformer = torch.nn.Identity()

        def __call__(self, **call: Any) -> Any:
            calls.append(call)
            return SimpleNamespace(images=[np.full((64, 64, 3), 0.5, np.float32)])

    options = RestoreOptions(run=weights, pipeline=name, steps=9)
    restore(InpaintingPipeline(options, Pipeline(), PIPELINES[name], "1"), public, tmp_path, batch_size=1)
    hole = 0 if name == "RePaintPipeline" else 255
    for i, call in zip(public.ids, calls, strict=True):
        expected = np.where(public.mask(i), hole, 255 - hole)
        np.testing.assert_array_equal(np.asarray(call["mask_image"]), expected)
        np.testing.assert_array_equal(np.asarray(call["image"]), public.condition(i))
        assert call["num_inference_steps"] == 9
        assert call.get("prompt", "") == ""
    assert len({call["generator"].initial_seed() for call in calls}) == N
    assert pixels(tmp_path / "outputs" / f"{public.ids[0]}.png").max() == 128  # 255 * 0.5, half up


def test_guidance_counts_twice(weights: Path) -> None:
    import torch

    restorer = repaint(weights)
    network = restorer._pipeline.unet
    network(torch.zeros(2, 3, 64, 64), 0)
    assert restorer._evaluations == 2


def test_a_pipeline_needs_a_hole(weights: Path, made: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fills holes: jpeg has none"):
        restore(repaint(weights), ContestantSet.open(made("jpeg/qf5")), tmp_path)


def test_what_a_pipeline_cannot_be_is_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean RePaintPipeline"):
        DIFFUSERS.restorer(RestoreOptions(run=weights, pipeline="RepaintPipeline"))
    with pytest.raises(UsageError, match="--weights DIR"):
        DIFFUSERS.restorer(RestoreOptions(pipeline="RePaintPipeline"))
    with pytest.raises(UsageError, match="--sampler, --fast"):
        repaint(weights, fast=True, sampler="ddim")
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*save_pretrained"):
        repaint(tmp_path)


def test_pickled_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    import shutil

    import torch

    folder = Path(shutil.copytree(weights, tmp_path / "pickled"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="PB705"):
        repaint(folder)


def test_other_weights_are_another_identity(weights: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(weights, tmp_path / "other"))
    assert repaint(weights).identity == repaint(folder).identity
    configuration = folder / "scheduler" / "scheduler_config.json"
    configuration.write_text(configuration.read_text().replace("0.02", "0.03"))
    assert repaint(weights).identity != repaint(folder).identity


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(StackError, match=r"PB711[\s\S]*palette-bench\[diffusers\]"):
        repaint(tmp_path)


def test_every_adapter_is_one_or_a_method() -> None:
    from palette_bench.submission.methods import baselines

    names = {name for name in baselines() if name.startswith("adapter:")}
    assert names == {*RESULTS, "adapter:diffusers"}
    assert all(isinstance(load_baseline(name), Adapter) for name in RESULTS)


@pytest.mark.trust("images: own pattern")
@pytest.mark.parametrize("second", ["a_mask", "A_MASK"])
def test_an_id_that_holds_the_tool_s_own_pattern_is_refused(second: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(("a", second, "b")):
        PillowImage.effect_noise((128, 128), 20 + number).convert("RGB").save(images / f"{name}.png")
    (made,) = generate(
        "palette-mini", "inpainting/center32", tmp_path / "set", request=Request("folder:mine", images)
    )
    target = ContestantSet.open(made.folder)
    with pytest.raises(InputError, match=r"PB203[\s\S]*a_mask\.png"):
        load_adapter("adapter:folder").export(target, tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()
    load_adapter("adapter:repaint").export(target, tmp_path / "out", PLAIN)
