"""docs/recipes.md lists every recipe key with its default, and every preset; `show` prints copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from common import REPOSITORY, RunCli
from pydantic import BaseModel

from palette_bench.baselines.palette.diffusion import LinearChain
from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.recipe import _toml, read_recipe, spelled_out
from palette_bench.submission.methods import load_baseline

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text()
ROWS = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
METHODS = ("palette", "regression", "gan")


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key with its default."""
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel) and part is not LinearChain:
            yield from keys(part, f"{above}{name}.")
        else:
            yield f"{above}{field.alias or name}", None if field.is_required() else field.default


def method_of(name: str) -> Any:
    return load_baseline(name).method()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_the_page_lists_every_key_with_its_default(name: str) -> None:
    for key, default in keys(method_of(name).recipe_model):
        assert key in ROWS, f"docs/recipes.md misses {key}"
        cell = ROWS[key].split("|")[3].strip()
        if default is None or key == "method":
            assert cell.split(":")[0] in ("none", "required", "its own name"), key
            continue
        plain = default.model_dump() if isinstance(default, BaseModel) else default
        value = _toml(list(plain) if isinstance(plain, tuple) else plain)
        own = next((part for part in cell.split("; ") if name in part), cell)
        assert f"`{value}`" in own, key


def test_the_page_lists_no_other_key_and_every_preset() -> None:
    known = {key for name in METHODS for key, _ in keys(method_of(name).recipe_model)}
    assert ROWS.keys() == known | PRESETS.keys()
    for name, spec in PRESETS.items():
        cells = [cell.strip() for cell in ROWS[name].split("|")[2:-1]]
        heads = str(spec.heads) if spec.heads else f"{spec.head_width} channels each"
        numbers = (", ".join(map(str, values)) for values in (spec.multipliers, spec.attention))
        multipliers, attention = numbers
        assert cells == [
            *(
                str(spec.side),
                str(spec.width),
                multipliers,
                str(spec.blocks),
                attention,
                heads,
                str(spec.groups),
                str(spec.fold),
            )
        ]


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_spelled_out_reads_back_as_itself_with_every_key(name: str) -> None:
    method = method_of(name)
    for text in method.texts.values():
        recipe = read_recipe(method.recipe_model, text)
        shown = spelled_out(recipe)
        assert read_recipe(method.recipe_model, shown) == recipe
        for key, _ in keys(method.recipe_model):
            assert key.rpartition(".")[2] in shown, key


@pytest.mark.trust("training: recipes to copy")
def test_show_prints_a_recipe_to_copy(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("show", "palette", "mini-cpu")
    assert done.returncode == 0
    assert "cooldown_steps = 5500" in done.stdout
    assert "# width = 32" in done.stdout
    assert "did you mean mini-cpu" in run_cli("show", "palette", "minicpu").stderr
    assert "show palette mini-cpu" in run_cli("show", "mini-cpu").stderr
