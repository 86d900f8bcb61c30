"""Methods of other packages that fail: what the terminal says, and that nothing finished is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from common import RunCli

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import MethodError
from palette_bench.submission.methods import MethodInfo
from palette_bench.submission.restore import restore

HEAD = """
from dataclasses import replace
from palette_bench.baselines.copy_input import baseline as copy

class Model:
    about, identity, calls = copy.about, "mine 1", 0
    def restore(self, batch):
        self.calls += 1
        return {returned}

class Baseline:
    def restorer(self, options):
        return Model()

baseline = Baseline()
"""
RAISES = HEAD.replace("        return {returned}", "        return broken(batch, self.calls)").replace(
    "class Model",
    """def broken(batch, calls):
    if calls == 2:
        raise RuntimeError("mat1 and mat2 cannot be multiplied (16x3 and 4x4)")
    return batch.inputs

class Model""",
)


def install(folder: Path, text: str, module: str = "mine", name: str = "mine") -> str:
    """Write a package that brings one method; return what PYTHONPATH needs."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[palette_bench.baselines]\n{name} = {module}:baseline\n")
    return str(folder)


@pytest.mark.trust("people: plug-in")
def test_an_exception_of_a_plug_in_is_shown_with_its_line_and_the_finished_part_is_kept(
    run_process: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    site = install(tmp_path / "site", RAISES)
    words = ("restore", "mine", "--set", smoke_sets / "inpainting.center128", "-o", "sub", "--batch", 4)
    failed = run_process(*words, PYTHONPATH=site)
    assert failed.returncode == 3
    assert "PB613 error  a method's own code failed" in failed.stderr
    assert f"{tmp_path}/site/mine.py:7, in broken: raise RuntimeError" in failed.stderr
    assert "RuntimeError: mat1 and mat2 cannot be multiplied (16x3 and 4x4)" in failed.stderr
    assert "internal error" not in failed.stderr
    Path(site, "mine.py").write_text(RAISES.replace("calls == 2", "False"))
    mended = run_process(*words, PYTHONPATH=site)
    assert mended.returncode == 0, mended.stderr
    assert "8 images in" in mended.stderr


@pytest.mark.trust("people: plug-in")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import a_library_that_is_absent", "No module named 'a_library_that_is_absent'"),
        ("import sys\nbaseline = sys.exit(7)", "mine.py:2"),
        (HEAD.replace("Baseline()", "Baseline").replace("{returned}", "0"), "a class, Baseline"),
        ("baseline = 3", "a int"),
        (HEAD.replace("{returned}", "__import__('sys').exit(9)"), "mine.py:9, in restore"),
    ],
)
def test_what_is_no_method_is_said_before_anything_is_written(
    text: str, told: str, run_process: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    site = install(tmp_path / "site", text)
    done = run_process(
        "restore", "mine", "--set", smoke_sets / "inpainting.center128", "-o", "sub", PYTHONPATH=site
    )
    assert done.returncode == 3, done.stderr
    assert "PB613" in done.stderr
    assert told in done.stderr
    assert "internal error" not in done.stderr
    assert not (tmp_path / "sub" / "submission.toml").exists()


@pytest.mark.trust("people: plug-in")
def test_two_packages_of_one_method_name_are_both_named(
    run_process: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    site = install(tmp_path / "site", HEAD, "one")
    install(tmp_path / "site", HEAD, "two")
    done = run_process(
        "restore", "mine", "--set", smoke_sets / "inpainting.center128", "-o", "sub", PYTHONPATH=site
    )
    assert done.returncode == 2
    assert "one:baseline" in done.stderr
    assert "two:baseline" in done.stderr


class Returns:
    """A model that returns what it is told to."""

    identity = "returns 1"

    def __init__(self, returned: object, about: MethodInfo) -> None:
        self.returned, self.about = returned, about

    def restore(self, batch: object) -> object:
        return self.returned


@pytest.mark.trust("people: plug-in")
@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "NoneType"),
        ([1, 2], "list"),
        (np.zeros((12, 256, 256, 3), np.float32), "float32, from 0 to 0"),
        (np.zeros((12, 3, 256, 256), np.uint8), r"\(12, 3, 256, 256\) uint8"),
    ],
)
def test_what_restore_returned_is_told_beside_what_it_must(
    returned: object, told: str, smoke_sets: Path, tmp_path: Path
) -> None:
    from palette_bench.baselines.copy_input import baseline

    target = ContestantSet.open(smoke_sets / "inpainting.center128")
    with pytest.raises(MethodError, match=told) as caught:
        restore(Returns(returned, baseline.about), target, tmp_path / "sub")  # type: ignore[arg-type]
    assert "(12, 256, 256, 3) uint8" in str(caught.value)
    assert caught.value.problems[0].code == "PB613"


@pytest.mark.trust("people: plug-in")
def test_a_model_that_lacks_something_is_told_all_of_it(smoke_sets: Path, tmp_path: Path) -> None:
    target = ContestantSet.open(smoke_sets / "inpainting.center128")
    with pytest.raises(MethodError, match=r"no about, a MethodInfo; no identity"):
        restore(object(), target, tmp_path / "sub")  # type: ignore[arg-type]
    assert not (tmp_path / "sub").exists()
