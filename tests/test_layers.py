"""Imports point down: the tower of the architecture, held by the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOWER = ["core", "runtime", "tasks", "benchset", "submission", "scoring", "pages", "board", "study", "cli"]
CORE = [
    {"errors", "types", "litter", "text", "notebook"},
    {"resources", "fingerprint", "rng", "atomic", "processes", "npz"},
    {"records", "journal", "png", "intervals", "significance"},
]
TORCH_IN = (
    *("runtime/", "scoring/features/", "scoring/networks.py", "scoring/compat.py"),
    "submission/cost.py",
)
TOOLS = {
    "experiments",  # runs the whole chain
    "trained",  # packs runs for passing on
}  # no contestants: nobody imports them
HEAVY = {"torch", "torchvision", "timm", "torch_fidelity", "lpips"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


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


@pytest.mark.parametrize("path", sources("palette_bench"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_judge_imports_downwards_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[1]
    if own.endswith(".py"):
        return  # the package's own door, which names everything lazily
    assert own in TOWER, f"{own} is not in the tower"
    for name in imports(path, package_of(path)):
        target = layer(name)
        assert target != "baselines", f"{path.name} names a contestant: {name}"
        if target in TOWER:
            assert TOWER.index(target) <= TOWER.index(own), f"{path.name} imports up: {name}"


def core_level(name: str) -> int:
    return next(i for i, level in enumerate(CORE) if name in level)


@pytest.mark.parametrize("path", sources("palette_bench/core"), ids=lambda p: p.stem)
def test_core_has_an_order_of_its_own(path: Path) -> None:
    if path.stem == "__init__":
        return
    level = core_level(path.stem)
    for name in imports(path, package_of(path)):
        parts = name.split(".")
        if parts[:2] == ["palette_bench", "core"] and len(parts) > 2:
            assert core_level(parts[2]) <= level, f"{path.stem} imports up: {name}"


@pytest.mark.parametrize("path", sources("baselines"), ids=lambda p: str(p.relative_to(ROOT)))
def test_contestants_stand_on_submission_and_below_and_not_on_each_other(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    allowed = TOWER if parts[1] in TOOLS else TOWER[: TOWER.index("submission") + 1]
    for name in imports(path, "palette_bench." + package_of(path)):
        target = layer(name)
        assert target in {None, "baselines", *allowed}, name
        if target == "baselines" and len(name.split(".")) > 2:
            assert name.split(".")[2] in {"training", parts[1]}, f"one method imports another: {name}"


@pytest.mark.parametrize("path", sources("palette_bench"), ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    relative = path.relative_to(ROOT / "palette_bench").as_posix()
    if not relative.startswith(TORCH_IN):
        assert not {name.split(".")[0] for name in imports(path, package_of(path))} & HEAVY


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


@pytest.mark.parametrize(
    "path", sources("palette_bench") + sources("baselines"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_only_atomic_opens_files_for_writing(path: Path) -> None:
    if path.name == "atomic.py":
        return
    writers = [n.lineno for n in ast.walk(ast.parse(path.read_text())) if opens_for_writing(n)]
    assert not writers, f"{path.name} writes at lines {writers}: use core.atomic"
