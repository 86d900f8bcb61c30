"""Protocols outside the package: every problem at once, one fingerprint per content, no mixing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from placeholders import own_protocol
from toy_method import write_images

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet, ContestantSet, export_public
from palette_bench.benchset.sources import Request
from palette_bench.core.errors import BenchSetError, InputError, SpecError, StorageError
from palette_bench.core.resources import protocol_ids
from palette_bench.pages.text import protocol_words
from palette_bench.scoring.features import EXTRACTORS
from palette_bench.scoring.metrics import RANKING_METRICS
from palette_bench.tasks.degradations import DEGRADATIONS
from palette_bench.tasks.own_protocol import open_protocol
from palette_bench.tasks.protocol import ProtocolSpec, UnderProtocol, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the protocol of the guide with texts replaced, and return its path."""

    def write(*replaced: tuple[str, str], name: str = "own.toml") -> Path:
        text = own_protocol()
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def opened(path: Path) -> ProtocolSpec:
    return open_protocol(str(path), RANKING_METRICS, EXTRACTORS)


def problems(path: Path) -> set[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        opened(path)
    return {(p.code, p.where.removeprefix(f"{path.name}: ")) for p in caught.value.problems}


def test_every_shipped_protocol_has_only_the_problem_that_its_id_is_taken(tmp_path: Path) -> None:
    for name in protocol_ids():
        text = (
            load(name)
            .model_copy(update={"lists": dict.fromkeys(load(name).list_names, "n01440764\n")})
            .to_json()
        )
        (tmp_path / f"{name}.json").write_text(text)
        assert problems(tmp_path / f"{name}.json") == {("PB609", "id")}


def test_all_problems_of_readable_keys_are_told_at_once(write: Write) -> None:
    path = write(
        ('id = "my-protocol"', 'id = "smoke"'),
        ("sigma = 1 }", "sigmas = 1 }"),
        ("factor = 2 }", "factor = 3 }"),
        ('["smoke-random"]', '["smoke-randon", "timm:any"]'),
        ('["perceptual_distance"]', '["fidd"]'),
        ("sources = []", 'sources = ["nowhere"]'),
    )
    mild, x2 = "tasks.deblurring.variants.mild.parameters", "tasks.super-resolution.variants.x2"
    assert problems(path) == {
        ("PB609", "id"),
        ("PB403", f"{mild}.sigma"),
        ("PB402", f"{mild}.sigmas"),
        ("PB403", x2),
        ("PB609", "tasks.deblurring.sources"),
        ("PB609", "tasks.super-resolution.sources"),
        ("PB609", "ranked.folder"),
        ("PB609", "extractors"),
    }


def test_missing_keys_and_an_unknown_degradation_are_told_at_once(write: Write) -> None:
    path = write(
        ('stream = "my-protocol"', ""),
        ("side = 64", "side = 60"),
        ('"blur-v1"', '"blurr-v1"'),
        ("ranked.", "rank."),
    )
    assert problems(path) == {
        ("PB403", "stream"),
        ("PB403", "side"),
        ("PB402", "rank"),
        ("PB403", "ranked"),
        ("PB609", "tasks.deblurring.degradation"),
    }


@pytest.mark.parametrize(
    ("keys", "code", "where"),
    [
        ("quality = 5, hole = { rows = [0, 1], columns = [0, 1] }", "PB402", ".hole"),
        ("", "PB403", ""),
        ("quality = 5, parameters = { factor = 2 }", "PB402", ".parameters.factor"),
    ],
)
def test_a_variant_has_exactly_the_keys_of_its_degradation(
    write: Write, keys: str, code: str, where: str
) -> None:
    path = write(
        ('degradation = "area-v1"', 'degradation = "jpeg-v1"'),
        ('"factor 2", parameters = { factor = 2 }', f'"any"{", " * bool(keys)}{keys}'),
    )
    assert problems(path) == {(code, f"tasks.super-resolution.variants.x2{where}")}


@pytest.mark.parametrize(
    ("hole", "fits"),
    [
        ("hole = { rows = [0, 63], columns = [0, 63] }", True),
        ("hole = { rows = [0, 64], columns = [0, 63] }", False),
        ("kept = { rows = [9, 8], columns = [0, 63] }", False),
        ("freeform_pixels = [410, 819]", True),
        ("freeform_pixels = [819, 410]", False),
        ("freeform_pixels = [410, 4096]", False),
    ],
)
def test_a_hole_lies_in_the_image(write: Write, hole: str, fits: bool) -> None:
    path = write(
        ('degradation = "area-v1"', 'degradation = "hole-v1"'),
        ("parameters = { factor = 2 }", hole),
    )
    if fits:
        opened(path)
    else:
        assert problems(path) == {("PB403", "tasks.super-resolution.variants.x2")}


def test_files_that_are_no_protocol_say_so(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("{")
    assert problems(tmp_path / "broken.toml") == {("PB401", "broken.toml")}
    (tmp_path / "other.toml").write_text('schema = "palette-bench/recipe/1.0"')
    assert problems(tmp_path / "other.toml") == {("PB411", "schema")}
    with pytest.raises(StorageError, match="PB801"):
        opened(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="PB609"):
        open_protocol("own")


def test_names_stay_names_of_files_and_folders(write: Write) -> None:
    names = {("PB403", "tasks.../x.[key]"), ("PB403", "wnids")}
    path = write(
        ("[tasks.deblurring]", '[tasks."../x"]'), ("sources = {}", 'sources = {}\nwnids = "../secret"')
    )
    assert problems(path) == names


def test_list_files_become_part_of_the_declaration_and_of_its_fingerprint(
    write: Write, tmp_path: Path
) -> None:
    path = write(("sources = {}", 'sources = {}\nwnids = "classes.txt"'))
    assert problems(path) == {("PB801", "classes.txt")}
    prints = []
    for text in ("n01440764\n", "n01443537\n"):
        (tmp_path / "classes.txt").write_text(text)
        prints.append(opened(path).fingerprint)
    assert len(set(prints)) == 2
    carried = opened(path)
    assert ProtocolSpec.parse(carried.to_json().encode(), "carried.json") == carried
    assert carried.class_names == ["n01443537"]


# --- sets of two versions of one file


def made(protocol: Path, folder: Path) -> BenchSet:
    images = write_images(folder.parent / "images", 3, (70, 80))
    generate(str(protocol), "deblurring/mild", folder, request=Request("folder:mine", images))
    return BenchSet.open(folder)


def test_a_set_needs_no_file_and_refuses_to_resume_under_another_version(
    write: Write, tmp_path: Path
) -> None:
    path = write()
    benchset = made(path, tmp_path / "set")
    export_public(tmp_path / "set", tmp_path / "public")
    spec = opened(path)
    path.unlink()
    assert BenchSet.open(tmp_path / "set").protocol == spec
    assert ContestantSet.open(tmp_path / "public").protocol == spec
    assert benchset.manifest.protocol_fingerprint == spec.fingerprint
    (tmp_path / "set" / "manifest.json").unlink()
    with pytest.raises(InputError, match="PB605"):
        made(write(("Mild blur", "Gentle blur")), tmp_path / "set")


def test_an_edited_declaration_is_found(write: Write, tmp_path: Path) -> None:
    made(write(), tmp_path / "set")
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sigma": 1', '"sigma": 2'))
    with pytest.raises(BenchSetError, match="PB601"):
        BenchSet.open(tmp_path / "set")


def test_a_declaration_under_a_shipped_id_is_told_apart_on_pages(write: Write) -> None:
    posing = opened(write()).model_copy(update={"id": "palette-2022"})
    record = UnderProtocol(protocol="palette-2022", declaration=posing)
    assert protocol_words(record) == f"palette-2022, a user's own ({posing.fingerprint[:12]})"
    assert protocol_words(UnderProtocol(protocol="palette-2022")) == "palette-2022"
    with pytest.raises(SpecError, match="PB609"):
        UnderProtocol(protocol="smoke", declaration=posing).rules  # noqa: B018  # a property that raises


def test_degradations_are_one_row_each_and_their_parameters_are_read(write: Write) -> None:
    """A parameter within its range makes an input of the reference's side, and each value another input."""
    reference = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    variant = load("palette-2022").variant("colorization", "default")
    for row in DEGRADATIONS.values():
        for key, (low, high) in row.parameters.items():
            ends: list[Any] = []
            for value in (low, high):
                chosen = variant.model_copy(update={"parameters": {key: value}})
                assert not row.misfit(chosen, 64)
                ends.append(row.apply(reference, chosen, None).input)  # type: ignore[arg-type]  # no draws
                assert ends[-1].shape == (64, 64, row.channels)
            assert (ends[0] != ends[1]).any()
