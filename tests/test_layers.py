"""Imports point down, one module writes files, class names are unique, and the map of the code is current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOWER = ["core", "runtime", "tasks", "benchset", "submission", "scoring", "pages", "board", "study", "cli"]
CORE = [
    {"errors", "types", "text"},
    {"resources", "fingerprint", "notebook", "rng", "atomic", "processes", "npz"},
    {"records", "journal", "png", "tar", "intervals", "significance"},
]
TORCH_IN = (
    *("runtime/", "scoring/features/", "scoring/card.py", "scoring/compat.py"),
    "submission/cost.py",
)
TOOLS = {
    "experiments",  # runs the whole chain
    "trained",  # packs runs for passing on
}  # no contestants: nobody imports them
HEAVY = {"torch", "torchvision", "timm", "torch_fidelity", "lpips"}


def sources(*folders: str) -> list[Path]:
    """Return the Python files below folders; not those reached through a link."""
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in found if path.is_relative_to(path.resolve().parent)]


def imports(path: Path, package: str) -> Iterator[str]:
    """Yield the absolute names a file imports, TYPE_CHECKING blocks and function bodies included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "palette_bench" else None


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts[:-1])


def test_the_judge_imports_downwards_only() -> None:
    faults = []
    for path in sources("palette_bench"):
        room = path.relative_to(ROOT).parts[1]
        if room.endswith(".py"):
            continue  # the package's public names, loaded on first use
        assert room in TOWER, f"{room} is not in the tower"
        for name in imports(path, package_of(path)):
            target = layer(name)
            if target == "baselines" or (target in TOWER and TOWER.index(target) > TOWER.index(room)):
                faults.append(f"{path.relative_to(ROOT)} imports {name}")
    assert faults == []


def test_core_has_an_order_of_its_own() -> None:
    levels = {name: i for i, names in enumerate(CORE) for name in names}
    faults = []
    for path in sources("palette_bench/core"):
        for name in imports(path, package_of(path)):
            parts = name.split(".")
            within = parts[:2] == ["palette_bench", "core"] and len(parts) > 2 and path.stem != "__init__"
            if within and levels[parts[2]] > levels[path.stem]:
                faults.append(f"{path.name} imports {name}")
    assert faults == []


def test_baselines_stand_on_submission_and_below_and_not_on_each_other() -> None:
    faults = []
    for path in sources("baselines"):
        own = path.relative_to(ROOT).parts[1]
        allowed = TOWER if own in TOOLS else TOWER[: TOWER.index("submission") + 1]
        for name in imports(path, "palette_bench." + package_of(path)):
            target, parts = layer(name), name.split(".")
            other = target == "baselines" and len(parts) > 2 and parts[2] not in {"training", own}
            if target not in {None, "baselines", *allowed} or other:
                faults.append(f"{path.relative_to(ROOT)} imports {name}")
    assert faults == []


def test_torch_stays_in_its_rooms() -> None:
    faults = []
    for path in sources("palette_bench"):
        if not path.relative_to(ROOT / "palette_bench").as_posix().startswith(TORCH_IN):
            heavy = {name.split(".")[0] for name in imports(path, package_of(path))} & HEAVY
            faults += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(heavy)]
    assert faults == []


def opens_for_writing(node: ast.AST) -> bool:
    """Return whether a call writes a file: open(..., 'w'), os.open, write_text, write_bytes."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"write_text", "write_bytes"}:
        return not (isinstance(node.func.value, ast.Name) and node.func.value.id == "atomic")
    if isinstance(node.func, ast.Name) and node.func.id == "open":
        modes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
        return any(not (isinstance(m, ast.Constant) and set(str(m.value)) <= set("rb")) for m in modes)
    return False


def test_only_atomic_opens_files_for_writing() -> None:
    writers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("palette_bench", "baselines")
        if path.name != "atomic.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if opens_for_writing(node)
    ]
    assert writers == [], "use core.atomic"


def test_every_class_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for path in sources("palette_bench", "baselines"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_map_of_the_code_is_current() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:palette_bench|baselines)/[\w/.]*)`", page)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert max(map(int, re.findall(r"^(\d+)\.", page, re.MULTILINE))) <= 8, "a journey is read in eight files"
    drawn = subprocess.run([sys.executable, ROOT / "docs" / "draw_rooms.py", "--check"], check=False)
    assert drawn.returncode == 0, "run python docs/draw_rooms.py"
