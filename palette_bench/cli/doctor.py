"""`palette-bench doctor`: tests whether sets and scores of this machine can be trusted."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from palette_bench.benchset.generate import generate
from palette_bench.cli import terminal
from palette_bench.cli.options import NEW_FOLDER
from palette_bench.core import atomic
from palette_bench.core.errors import PaletteBenchError, Problem, StorageError, errors_of, problem
from palette_bench.core.journal import locked
from palette_bench.scoring.features.cache import cache_folder
from palette_bench.scoring.features.weights import pinned, search
from palette_bench.tasks import canary

_NEEDED = 10_000 * 256 * 256 * 5  # bytes of a set of 10,000 images, as `generate` estimates them
_REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+)>=([0-9.]+)(?:; extra == ["'](score)["'])?""")
_SHOWN = ("numpy", "pillow", "torch", "torchvision")  # versions of these have changed pixels or scores before
_GPU_FILE = Path("/dev/nvidia0")
_EXIT_CODES = {"7": 4, "8": 5}  # first digit of a problem's code -> exit code; 3 for other digits


@dataclass(frozen=True)
class DoctorRow:
    """Result of one test: its area and subject, what was found, and the problems."""

    area: str
    what: str
    found: str
    problems: tuple[Problem, ...] = ()

    @property
    def state(self) -> str:
        """Return "ok", "warning" or "error", by the most severe problem."""
        return "error" if errors_of(self.problems) else "warning" if self.problems else "ok"


def examine(folder: Path) -> Iterator[DoctorRow]:
    """Yield one row per test, cheap tests first.

    Args:
        folder: folder for sets and outputs; its disk is tested.
    """
    yield from _versions()
    yield from _canaries()
    yield from _disks(folder)
    yield _sets()
    yield from _networks()
    yield from _weights()


def exit_code(rows: Sequence[DoctorRow]) -> int:
    """Return 0 without errors; else 4 for errors of libraries or devices, 5 of disks, or 3 of others."""
    codes = {_EXIT_CODES.get(p.code[2], 3) for row in rows for p in errors_of(row.problems)}
    return next((code for code in (4, 5, 3) if code in codes), 0)


def to_json(rows: Sequence[DoctorRow]) -> dict[str, Any]:
    """Return the rows as a JSON value."""
    return {
        "schema": "palette-bench/doctor/1.0",
        "trusted": exit_code(rows) == 0,
        "environment": canary.environment(),
        "rows": [{**asdict(row), "state": row.state} for row in rows],
    }


# --- versions -----------------------------------------------------------------------------------


def _versions() -> Iterator[DoctorRow]:
    """Compare the versions of Python and the packages with the lower bounds of the distribution.

    The packages of the extra `score` may be absent together, but not one of them alone.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    oldest = metadata.metadata("palette-bench")["Requires-Python"].lstrip(">=")
    yield DoctorRow("versions", "Python", python, tuple(_outside("Python", python, oldest)))
    wanted = [m for text in metadata.requires("palette-bench") or () if (m := _REQUIREMENT.fullmatch(text))]
    found: dict[str, str | None] = {}
    for match in wanted:
        try:
            found[match[1]] = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            found[match[1]] = None
    if not any(found[match[1]] for match in wanted if match[3]):
        wanted = [match for match in wanted if not match[3]]
    problems = [p for match in wanted for p in _outside(match[1], found[match[1]], match[2])]
    shown = ", ".join(f"{name} {found[name] or 'absent'}" for name in _SHOWN)
    yield DoctorRow("versions", f"{len(wanted)} packages", shown, tuple(problems))


def _outside(name: str, found: str | None, oldest: str) -> Iterator[Problem]:
    """Yield PB711 for an absent package, or PB709 for one older than its lower bound."""
    fix = f"pip install -U '{name}>={oldest}'"
    if found is None:
        yield problem("PB711", name, expected=f"{oldest} or later", fix=fix)
    elif _numbers(found) < _numbers(oldest):
        yield problem("PB709", name, expected=f"{oldest} or later", found=found, fix=fix)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release part of a version as numbers: (2, 6, 0) for 2.6.0+cpu."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


# --- codecs, integers, noise and published sets -------------------------------------------------


def _canaries() -> Iterator[DoctorRow]:
    """Run the canaries of JPEG decoder, JPEG encoder, integer arithmetic and noise."""
    broken = canary.findings()
    for code, what in canary.KINDS.items():
        found = tuple(p for p in broken if p.code == code)
        yield DoctorRow("canary", what, f"{len(found)} differ" if found else "as published", found)


def _sets() -> DoctorRow:
    """Generate all sets of `smoke` and compare their fingerprints with the published ones."""
    try:
        with tempfile.TemporaryDirectory(prefix="palette-bench-doctor-") as folder:
            made = generate("smoke", "all", Path(folder))
    except PaletteBenchError as error:
        problems = error.problems or (problem("PB703", "sets of smoke", found=str(error)),)
        return DoctorRow("digests", "sets of smoke", "differ", problems)
    return DoctorRow("digests", "sets of smoke", f"{len(made)} of {len(made)} as published")


# --- networks -----------------------------------------------------------------------------------


def _networks() -> Iterator[DoctorRow]:
    """Test the features of a network on each device that torch can use.

    If settings outside the package reduce the precision of float32 products, one row reports them instead, as
    no network would run.
    """
    try:
        from palette_bench.runtime.device import arithmetic_findings  # imports torch
        from palette_bench.scoring.features import canary as extractor
    except ModuleNotFoundError as error:
        absent = f"no {error.name}: score needs pip install 'palette-bench[score]'"
        yield DoctorRow("device", "networks", absent)
        return

    reduced = tuple(arithmetic_findings())
    if reduced:
        yield DoctorRow("device", "arithmetic", ", ".join(finding.where for finding in reduced), reduced)
        return
    devices = extractor.devices()
    for name, model in devices.items():
        yield DoctorRow("device", name, model, tuple(extractor.findings(name)))
    if "cuda" not in devices:
        yield _no_gpu()


def _no_gpu() -> DoctorRow:
    if not _GPU_FILE.exists():
        return DoctorRow("device", "cuda", "no GPU: scores are computed on the CPU")
    unused = problem(
        "PB707",
        "cuda",
        expected=f"a GPU that torch can use, because {_GPU_FILE} exists",
        fix="install a CUDA build of torch that fits the driver; scores on the CPU are correct, but slow",
    )
    return DoctorRow("device", "cuda", "a GPU that torch cannot use", (_as_warning(unused),))


def _weights() -> Iterator[DoctorRow]:
    """Look for each pinned weights file; a missing file is a warning, as only some metrics need it."""
    for name, row in pinned().items():
        proven, looked = search(name, row)
        if proven:
            yield DoctorRow("weights", name, f"{row.licence}, {proven[0]}")
            continue
        places = " | ".join(looked[1:])  # without the first place, which is an option of `score`
        fix = f"palette-bench weights fetch {name}"
        lost = problem("PB705", name, expected=row.files[0], found=places, fix=fix)
        yield DoctorRow("weights", name, places, (_as_warning(lost),))


def _as_warning(finding: Problem) -> Problem:
    """Return the finding as a warning, because it affects some metrics or the speed, but no result."""
    return replace(finding, severity="warning")


# --- disks --------------------------------------------------------------------------------------


def _disks(folder: Path) -> Iterator[DoctorRow]:
    """Test writing and locking in the work folder and the cache, and the free space."""
    problems = _unwritable(folder)
    if shutil.disk_usage(_existing(folder)).free < _NEEDED:
        fix = "free space, or work in another folder; smaller sets need less"
        expected = f"{_NEEDED / 1e9:,.1f} GB for a set of 10,000 images"
        short = problem("PB804", str(folder), expected=expected, found=_free(folder), fix=fix)
        problems = (*problems, _as_warning(short))
    yield DoctorRow("disk", str(folder), _free(folder), problems)
    cache = cache_folder()
    if cache is None:
        yield DoctorRow("cache", "none", "no home folder; set PALETTE_BENCH_CACHE to use a cache")
        return
    lost = tuple(map(_as_warning, _unwritable(cache)))  # without a cache, scores only take longer
    yield DoctorRow("cache", str(cache), _free(cache), lost)


def _unwritable(folder: Path) -> tuple[Problem, ...]:
    """Return the problems of writing, syncing and locking in a folder."""
    try:
        atomic.make_folder(folder)
        with (
            tempfile.TemporaryDirectory(prefix=".palette-bench-doctor-", dir=folder) as name,
            locked(Path(name)),
        ):
            atomic.write_bytes(Path(name) / "probe", b"written, synced and renamed")
    except StorageError as error:
        return error.problems
    except OSError as error:
        return atomic.cannot_write(folder, error).problems
    return ()


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(_existing(folder)).free / 1e9:,.1f} GB free"


_SIGNS = {"ok": ("green", "ok"), "warning": ("yellow", "warn"), "error": ("red", "WRONG")}


@click.command("doctor", short_help="Say whether this machine can be trusted to generate and score.")
@click.option(
    "--folder",
    default=".",
    show_default=True,
    metavar="DIR",
    type=NEW_FOLDER,
    help="Where sets and outputs will lie.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Try what every digest and score rests on, and say how to mend what is wrong.

    Versions, codecs, integer arithmetic, the published sets of `smoke`, disks, devices, a network's
    features, and the weights here. Exit code 0: every set and score made here is what it would be
    elsewhere; warnings cost metrics, speed or space, never trust. 3, 4 or 5: something differs.

    \b
    palette-bench doctor --folder DIR
    """  # noqa: D301  # click looks for the backspace character itself
    import json
    import logging
    from functools import partial

    log = logging.getLogger("palette_bench")
    ctx.call_on_close(partial(log.setLevel, log.level))
    log.setLevel(logging.ERROR)  # the rows already state all findings
    rows = []
    for row in examine(folder):
        rows.append(row)
        if as_json:
            continue
        # below the row, the fixes of its warnings or the full text of its errors
        colour, sign = _SIGNS[row.state]
        click.echo(f"{click.style(f'{sign:<6}', fg=colour)} {row.area:<8} {row.what:<27} {row.found}")
        for finding in row.problems:
            lines = str(finding).splitlines() if row.state == "error" else [f"{finding.code}  {finding.fix}"]
            click.echo("\n".join(f"       {line}" for line in lines))
    if as_json:
        click.echo(json.dumps(to_json(rows), indent=2, sort_keys=True, ensure_ascii=False))
    code = exit_code(rows)
    warnings = sum(row.state == "warning" for row in rows)
    terminal.say(f"{'not trusted' if code else 'trusted'}: {len(rows)} tests, {warnings} warnings")
    ctx.exit(code)
