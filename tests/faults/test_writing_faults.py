"""Full disks, kills, signals and locks: whole files or none, and the next run ends as an undisturbed one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kills import final_files, in_child
from shims import FaultyOs, full_disk, kill, standing_in
from submissions import ready

from palette_bench.benchset.containers import FORMATS, Format
from palette_bench.benchset.generate import generate
from palette_bench.benchset.making import GenerateOptions
from palette_bench.benchset.manifest import ContestantSet
from palette_bench.benchset.set_export import ExportOptions, export_sets
from palette_bench.benchset.set_import import import_sets
from palette_bench.benchset.sources import Request
from palette_bench.core import atomic
from palette_bench.core.errors import StorageError
from palette_bench.core.journal import Journal, locked
from palette_bench.core.png import encode
from palette_bench.core.processes import Interrupted
from palette_bench.submission.restore import restore
from palette_bench.tasks.canary import pattern_p

Scenario = Callable[[Path], object]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small images."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        (folder / f"p{number}.png").write_bytes(encode(pattern_p(70 + number, 66)))
    return folder


def make(photos: Path, out: Path, **options: object) -> object:
    request = Request("folder:mine", photos)
    return generate("palette-mini", "jpeg/qf5", out, request=request, options=GenerateOptions(**options))


def everything(folder: Path) -> None:
    """Use every way of writing there is, over what may lie there already."""
    atomic.sweep(folder)
    atomic.write_bytes(folder / "bytes", b"0123456789" * 20)
    atomic.write_text(folder / "deeper" / "text", "text\n" * 9)
    atomic.write_gzip(folder / "table.gz", b"1,2\n" * 50)
    with atomic.FileBatch() as batch:
        for name in ("one", "two", "three"):
            batch.write(folder / name, name.encode() * 30)
    with suppress(StorageError):
        atomic.remove_folder(folder / "whole") if (folder / "whole").exists() else None
    with atomic.whole_folder(folder / "whole") as inside:
        atomic.write_bytes(inside / "part", b"part" * 20)
    with atomic.stream(folder / "streamed") as file:
        file.writelines([b"first" * 20, b"second" * 20])
    atomic.write_from(atomic.growing(folder / "grown"), 0, b"first" * 20)
    atomic.write_from(atomic.growing(folder / "grown"), 50, b"second" * 20)
    atomic.rename(atomic.growing(folder / "grown"), folder / "grown")
    journal = Journal(folder, {"set": "s"})
    journal.start(journal.entries.values())
    journal.add([{"id": "a", "px": "1"}, {"id": "b", "px": "2"}])


def set_of(photos: Path) -> Scenario:
    return lambda folder: make(photos, folder)


@pytest.mark.trust("all: ENOSPC")
@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "stays-full"])
@pytest.mark.parametrize("scenario", ["everything", "generate"])
def test_a_disk_full_at_any_write_leaves_whole_files_only(
    scenario: str, ever_after: bool, photos: Path, tmp_path: Path
) -> None:
    run = everything if scenario == "everything" else set_of(photos)
    with standing_in(FaultyOs()) as shim:
        run(tmp_path / "straight")
    expected = final_files(tmp_path / "straight")
    assert len(shim.calls) > 30
    for n in range(1, len(shim.calls) + 1):
        out = tmp_path / f"out{n}"
        with (
            standing_in(FaultyOs(full_disk, n, ever_after=ever_after)),
            pytest.raises(StorageError, match=r"PB802[\s\S]*No space left"),
        ):
            run(out)
        found = final_files(out) if out.exists() else {}
        assert found.items() <= expected.items(), f"write {n}: {shim.calls[n - 1]}"
        assert not [
            p for p in out.rglob("*") if atomic.is_temporary(p.name) and p.is_file() and not ever_after
        ]
        run(out)
        assert final_files(out) == expected, f"after write {n}: {shim.calls[n - 1]}"


@pytest.mark.trust("all: ENOSPC")
def test_old_files_stay_whole_at_any_write_that_fails(tmp_path: Path) -> None:
    with standing_in(FaultyOs()) as shim:
        everything(tmp_path / "straight")
    for n in range(1, len(shim.calls) + 1):
        out = tmp_path / f"out{n}"
        everything(out)
        before = final_files(out)
        with standing_in(FaultyOs(full_disk, n)), suppress(StorageError):
            everything(out)
        found = final_files(out)
        assert found.items() <= before.items()
        assert before.keys() - found.keys() <= {"whole/part"}  # removed whole, before it was made anew


@pytest.mark.trust("generate: power loss")
def test_no_final_name_appears_before_its_content_is_on_the_disk(photos: Path, tmp_path: Path) -> None:
    with standing_in(FaultyOs()) as shim:
        make(photos, tmp_path / "set")
    synced: set[str] = set()
    open_folders: set[str] = set()
    for call, path in shim.calls:
        if call == "fsync":
            synced.add(path)
            open_folders.discard(path)
        elif call == "replace":
            old, _, new = path.partition(" -> ")
            assert old in synced, f"{new} was named before it was synced"
            if new.endswith(("manifest.json", "public.json")):
                assert not open_folders, "a record was named before the images it names"
            open_folders.add(str(Path(new).parent))
    assert not open_folders
    assert shim.calls[-1] == ("fsync", str(tmp_path / "set"))
    assert [p for c, p in shim.calls if c == "replace"][-1].endswith("manifest.json")


@pytest.mark.trust("all: ENOSPC")
def test_a_real_limit_on_file_sizes_is_pb802_and_the_rerun_ends_well(photos: Path, tmp_path: Path) -> None:
    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            make(photos, tmp_path / "set")
        except StorageError as error:
            return 5 if "PB802" in str(error) else 1
        return 0

    assert in_child(limited) == 5
    assert not (tmp_path / "set" / "manifest.json").exists()
    make(photos, tmp_path / "set")
    make(photos, tmp_path / "straight")
    assert final_files(tmp_path / "set") == final_files(tmp_path / "straight")


@pytest.mark.trust("all: Ctrl-C, SIGTERM")
@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 75)]
)
def test_generate_stopped_at_any_write_keeps_what_is_done(
    stop: int, code: int, photos: Path, tmp_path: Path
) -> None:
    make(photos, tmp_path / "straight")
    with standing_in(FaultyOs()) as shim:
        make(photos, tmp_path / "count")
    journal = max(n for n, (call, path) in enumerate(shim.calls, 1) if call == "write" and "journal" in path)
    struck = FaultyOs(lambda path: signal.raise_signal(stop), journal)
    with standing_in(struck), pytest.raises(Interrupted) as caught:
        make(photos, tmp_path / "set")
    assert caught.value.exit_code == code
    assert (
        len(next((tmp_path / "set").glob("journal.*")).read_text().splitlines()) == 4
    )  # header, three items
    assert not (tmp_path / "set" / "manifest.json").exists()
    make(photos, tmp_path / "set")
    assert final_files(tmp_path / "set") == final_files(tmp_path / "straight")


HOLD = """
import sys
from pathlib import Path
from palette_bench.core.journal import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.trust("all: two runs, one folder")
def test_a_second_run_is_refused_and_a_killed_holder_lets_go(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "set")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=f"PB803[\\s\\S]*process {holder.pid}"):
            make(photos, tmp_path / "set")
        holder.kill()
    make(photos, tmp_path / "set")
    with locked(tmp_path / "set"):
        pass


@pytest.mark.trust("restore: killed", "all: ENOSPC")
@pytest.mark.parametrize("tars", [False, True])
def test_restore_resumes_after_a_disk_full_at_any_write(tars: bool, photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "set")

    def answer(out: Path) -> None:
        restore(ready("copy-input"), ContestantSet.open(tmp_path / "set"), out, batch_size=2, tars=tars)

    with standing_in(FaultyOs()) as shim:
        answer(tmp_path / "straight")
    expected = final_files(tmp_path / "straight")
    expected.pop("submission.toml", None)  # names the seconds an image took
    for n in range(1, len(shim.calls) + 1):
        out = tmp_path / f"out{n}"
        with standing_in(FaultyOs(full_disk, n)), pytest.raises(StorageError, match="PB802"):
            answer(out)
        answer(out)
        found = final_files(out)
        assert found.pop("submission.toml", None)
        assert found == expected


@pytest.mark.parametrize("container", FORMATS)
def test_an_export_and_an_import_killed_at_any_write_leave_all_or_nothing(
    container: Format, photos: Path, tmp_path: Path
) -> None:
    make(photos, tmp_path / "set")
    options = ExportOptions(container, True, license="MIT", authors=("A",))
    steps: dict[str, Callable[[Path], Any]] = {
        "data": lambda out: export_sets([tmp_path / "set"], out, options),
        "back": lambda out: import_sets(tmp_path / "data", out),
    }
    for name, step in steps.items():
        with standing_in(FaultyOs()) as shim:
            step(tmp_path / name)
        expected = final_files(tmp_path / name)
        for n in range(1, len(shim.calls) + 1, 4):
            out = tmp_path / f"{name}-killed-{n}" / name
            with standing_in(FaultyOs(kill, n)):
                assert in_child(partial(step, out)) == -9
            if not out.exists():
                step(out)
            assert final_files(out.parent) == {f"{name}/{file}": d for file, d in expected.items()}


def kill_script(verb: str, kills: int, folder: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("kills.py")
    return subprocess.run(
        [sys.executable, script, "--verb", verb, "--kills", str(kills)],
        capture_output=True, text=True, cwd=folder, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.trust(
    "generate: kill -9",
    "check: kill -9",
    "restore: killed",
    "restore: kill -9 while saving",
    "report: kill -9",
)
@pytest.mark.parametrize("verb", ["generate", "restore", "restore-tars", "score", "board", "train"])
def test_verbs_killed_at_seeded_writes_end_as_undisturbed_ones(verb: str, tmp_path: Path) -> None:
    done = kill_script(verb, 2, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout
