"""The weights store: where it looks, what it refuses, and that nothing unproven is ever parsed."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import nn

from palette_bench.cli.weights import command
from palette_bench.core.errors import UsageError, WeightsError
from palette_bench.core.fingerprint import sha256
from palette_bench.runtime.tensors import load_strictly, parse_tensors, tensor_digest
from palette_bench.scoring.features import weights
from palette_bench.scoring.features.network import seed_of
from palette_bench.scoring.features.weights import WeightsFile, fetch, find, pinned, pinned_file, read_pinned

DATA = b"weights of a network"


@pytest.fixture
def row(tmp_path: Path) -> WeightsFile:
    origin = tmp_path / "origin.pth"
    origin.write_bytes(DATA)
    return WeightsFile(
        files=("net.pth", "net-other-name.pth"),
        bytes=len(DATA),
        sha256=sha256(DATA),
        licence="MIT",
        origin=origin.as_uri(),
    )


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("PALETTE_BENCH_WEIGHTS", raising=False)


def put(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_the_pinned_digests_are_those_of_the_specification() -> None:
    assert {name: (r.bytes, r.sha256) for name, r in pinned().items()} == {
        "inception-v3-fid": (95_628_359, "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"),
        "resnet50-v1": (102_530_333, "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
        "efficientnet-b0-v1": (
            21_444_401,
            "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        ),
        "efficientnet-lite0": (
            18_826_032,
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        "efficientnet-lite2": (
            24_666_229,
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
        "googlenet-v1": (None, "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef"),
        "lpips-alex": (244_408_911, "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"),
        "lpips-alex-heads": (6_009, "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        "dists-vgg16": (None, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
        "dists-vgg16-heads": (12_288, "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"),
    }


def test_a_file_whose_size_is_not_pinned_is_proven_by_its_digest(
    row: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "own"))
    sizeless = row.model_copy(update={"bytes": None})
    wrong = put(tmp_path / "own", "net.pth", b"another network")
    with pytest.raises(WeightsError, match="size not pinned") as caught:
        find("net", sizeless)
    assert f"{wrong} has another sha256" in str(caught.value)
    wrong.unlink()
    assert fetch("net", sizeless).read_bytes() == DATA


@pytest.mark.parametrize("order", [1, -1])
def test_the_tensor_digest_does_not_know_packings(order: int) -> None:
    tensors = {**nn.BatchNorm2d(3).state_dict(), "z": torch.arange(6.0).view(2, 3)}
    repacked = dict(list(tensors.items())[::order])
    repacked.pop("num_batches_tracked")
    strided = {**repacked, "z": tensors["z"].t().contiguous().t()}
    assert tensor_digest(repacked) == tensor_digest(strided) == tensor_digest(tensors)
    assert tensor_digest({**repacked, "z": tensors["z"].reshape(3, 2)}) != tensor_digest(tensors)


def test_the_command_line_lists_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: WeightsFile
) -> None:
    path = put(tmp_path / "own", "net.safetensors", safetensors.torch.save(nn.Linear(3, 2).state_dict()))
    data = path.read_bytes()
    digest = tensor_digest(parse_tensors(data, "net"))
    known = row.model_copy(
        update={"files": (path.name,), "bytes": len(data), "sha256": sha256(data), "tensors": digest}
    )
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setattr(weights, "pinned", lambda: {"net": known, "absent": row})
    listed = CliRunner().invoke(command, ["list"])
    assert listed.output.splitlines()[0].endswith(f"MIT  {path}")
    assert listed.output.splitlines()[1].endswith("absent")
    verified = CliRunner().invoke(command, ["verify", "net"])
    assert verified.output == f"net  ok  {path}  tensors {digest}\n"
    missing = CliRunner().invoke(command, ["verify"])
    assert isinstance(missing.exception, WeightsError)
    monkeypatch.setattr(weights, "pinned", lambda: {"net": known.model_copy(update={"tensors": "0" * 64})})
    other = CliRunner().invoke(command, ["verify"])
    assert isinstance(other.exception, WeightsError)


def test_absent_weights_say_what_where_and_how() -> None:
    with pytest.raises(WeightsError) as caught:
        read_pinned("inception-v3-fid", None)
    assert str(caught.value).splitlines()[1:] == [
        "  file    pt_inception-2015-12-05-6726825d.pth, 95,628,359 bytes",
        "  sha256  6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "  looked  --weights: not given | PALETTE_BENCH_WEIGHTS: unset | library cache: absent",
        "  fix     palette-bench weights fetch inception-v3-fid",
        "          offline: copy the file into a folder and set PALETTE_BENCH_WEIGHTS to it",
    ]
    assert "inception-v3-fid not found" in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_own_folder_comes_before_the_library_cache(
    row: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put(tmp_path / "torch" / "hub" / "checkpoints", "net-other-name.pth", DATA)
    assert find("net", row) == (cached, DATA)
    own = put(tmp_path / "own", "net.pth", DATA)
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "own"))
    assert find("net", row) == (own, DATA)


@pytest.mark.parametrize("data", [b"WEIGHTS of a network", b"", DATA + b"!"])
def test_wrong_files_are_named_and_passed_over(
    data: bytes,
    row: WeightsFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "own"))
    wrong = put(tmp_path / "own", "net.pth", data)
    with pytest.raises(WeightsError, match=re.escape(f"PALETTE_BENCH_WEIGHTS: {wrong} has ")):
        find("net", row)
    right = put(tmp_path / "torch" / "hub" / "checkpoints", "net.pth", DATA)
    caplog.clear()
    assert find("net", row)[0] == right
    assert str(wrong) in caplog.text


def test_an_explicit_wrong_path_is_an_error_not_a_hint(
    row: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "pinned", lambda: {"net": row})
    put(tmp_path / "torch" / "hub" / "checkpoints", "net.pth", DATA)
    wrong = put(tmp_path, "given.pth", b"another network")
    with pytest.raises(WeightsError, match=sha256(b"another network")):
        read_pinned("net", str(wrong))
    with pytest.raises(WeightsError, match="No such file"):
        read_pinned("net", str(tmp_path / "nowhere.pth"))
    assert read_pinned("net", str(put(tmp_path, "right.pth", DATA))) == DATA


def test_fetch_keeps_the_proven_file_where_it_is_found(
    row: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "own"))
    path = fetch("net", row)
    assert path == tmp_path / "own" / "net.pth"
    assert find("net", row) == (path, DATA)
    (tmp_path / "origin.pth").unlink()
    assert fetch("net", row) == path  # already there and right: nothing is downloaded


@pytest.mark.parametrize("sent", [b"a login page", DATA + b" and more", b""])
def test_fetch_of_other_bytes_leaves_nothing(sent: bytes, row: WeightsFile, tmp_path: Path) -> None:
    (tmp_path / "origin.pth").write_bytes(sent)
    with pytest.raises(WeightsError, match=row.sha256):
        fetch("net", row)
    assert not list((tmp_path / "torch").rglob("*.*"))


def test_fetch_without_an_origin_says_how_to_go_on_offline(row: WeightsFile, tmp_path: Path) -> None:
    (tmp_path / "origin.pth").unlink()
    with pytest.raises(WeightsError, match="copy it here and set PALETTE_BENCH_WEIGHTS"):
        fetch("net", row)


def test_unknown_names_are_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean resnet50-v1"):
        pinned_file("resnet-v1")


# tensors


def test_both_formats_parse_to_equal_tensors(tmp_path: Path) -> None:
    tensors = nn.Linear(3, 2).state_dict()
    torch.save(tensors, tmp_path / "net.pth")
    parsed = parse_tensors((tmp_path / "net.pth").read_bytes(), "net")
    stored = parse_tensors(safetensors.torch.save(dict(tensors)), "net")
    assert tensor_digest(parsed) == tensor_digest(stored) == tensor_digest(tensors)


class _Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("hostile-pickle-ran"),)  # type: ignore[return-value]


def test_code_in_a_pickle_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Hostile()}, tmp_path / "zip.pth")
    for data in (pickle.dumps(_Hostile(), protocol=2), (tmp_path / "zip.pth").read_bytes()):
        with pytest.raises(WeightsError):
            parse_tensors(data, "net")
    assert not (tmp_path / "hostile-pickle-ran").exists()


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{", b"no weights at all", b"PK\x03\x04cut"])
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match="PB705"):
        parse_tensors(data, "net")


def test_a_checkpoint_with_other_things_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state": {}}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="flat dictionary of tensors"):
        parse_tensors((tmp_path / "net.pth").read_bytes(), "net")


def test_every_difference_of_names_and_shapes_is_counted() -> None:
    tensors = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}
    with pytest.raises(WeightsError, match="3 differences, first: missing bias; unknown extra; weight is"):
        load_strictly(nn.Linear(3, 2), tensors, "net")


def test_half_precision_is_widened_and_batch_counters_do_not_count() -> None:
    network = nn.BatchNorm1d(2)
    tensors = {k: v.half() for k, v in network.state_dict().items() if k != "num_batches_tracked"}
    load_strictly(network, tensors, "net")
    assert network.weight.dtype == torch.float32
    assert tensor_digest(network.state_dict()) == tensor_digest({k: v.float() for k, v in tensors.items()})


def test_a_random_seed_is_a_number() -> None:
    assert seed_of("net", "random:7") == 7
    assert seed_of("net", "file.pth") is None
    with pytest.raises(UsageError, match="random:SEED"):
        seed_of("net", "random:x")
