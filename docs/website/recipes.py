"""Recipes and presets with every key: types, allowed values and defaults are read from the models of recipes.

What a key means is read from the table of docs/recipes.md, where each key has a row.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.recipe import Recipe, read_recipe, spelled_out
from palette_bench.submission.methods import baselines
from website.markdown import ROOT, Pages, code, fence, table, toctree, toml

_PRESET = ("side", "width", "multipliers", "blocks", "attention", "head_width", "heads", "groups", "fold")


def pages() -> Pages:
    """Return a page of keys and one of recipes for each method that trains, the presets, and their list."""
    meanings = _meanings()
    made: Pages = {"reference/recipes/presets.md": _presets()}
    for name, model, texts in trained_methods():
        made[f"reference/recipes/{name}.md"] = _method(name, model, texts, meanings)
    lines = [
        "# Recipes and presets\n",
        "A recipe says how a method is trained. [The guide](../../docs/recipes.md) says how to write one.\n",
        table(
            ("method", "recipes that come along"),
            (
                (f"[{name}]({name}.md)", ", ".join(f"[{r}]({name}.md#{name}-{r})" for r in texts))
                for name, _, texts in trained_methods()
            ),
        ),
        f"[Presets](presets.md) are {len(PRESETS)} networks by name.\n",
        toctree([*(name for name, _, _ in trained_methods()), "presets"]),
    ]
    return made | {"reference/recipes/index.md": "\n".join(lines)}


def trained_methods() -> list[tuple[str, type[Recipe], dict[str, str]]]:
    """Return (name, model of its recipes, text by recipe name) of the methods of this package that train."""
    found = []
    for name, point in sorted(baselines().items()):
        baseline = point.load()
        if hasattr(baseline, "recipes") and point.module.startswith("palette_bench."):
            found.append((name, baseline.method().recipe_model, dict(baseline.recipes())))
    return found


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, type in words, default) of every key of a recipe."""
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel) and above == "":
            yield from keys(part, f"{name}.")
        else:
            default = field.default.model_dump() if isinstance(field.default, BaseModel) else field.default
            shown = "required" if field.is_required() else "none" if default is None else code(toml(default))
            yield f"{above}{field.alias or name}", _type(part), shown


def _method(name: str, model: type[Recipe], texts: dict[str, str], meanings: dict[str, str]) -> str:
    rows = [(f"{code(key)}", meanings[key], kind, default) for key, kind, default in keys(model)]
    lines = [f"# Recipes of {name}\n", "## Keys\n", table(("key", "what", "type", "default"), rows)]
    for recipe, text in texts.items():
        about = text.partition("\n")[0].removeprefix("# ")
        lines += [f"({name}-{recipe})=\n", f"## {name} {recipe}\n", f"{about}\n"]
        lines.append(fence(spelled_out(read_recipe(model, text)), "toml"))
    return "\n".join(lines)


def _presets() -> str:
    head = ("preset", *(name.replace("_", " ") for name in _PRESET))
    rows = [
        (code(name), *(_short(getattr(spec, field)) for field in _PRESET)) for name, spec in PRESETS.items()
    ]
    return (
        "# Presets\n\nNetworks by name, for the key `network.preset`. Other keys of `network` change one "
        "number of it. `head width` is that of an attention head in channels; where it is none, `heads` is "
        "their number.\n\n" + table(head, rows)
    )


def _short(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _meanings() -> dict[str, str]:
    """Return what docs/recipes.md says of each key."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = (line.split(" | ") for line in text.splitlines() if line.startswith("| `"))
    return {cells[0].strip("| `"): cells[1] for cells in rows}


def _type(part: Any) -> str:
    """Return the type of a key in words."""
    origin = get_origin(part)
    if origin is Annotated:
        return _type(get_args(part)[0])
    if origin is Literal:
        return ", ".join(code(toml(value)) for value in get_args(part))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in get_args(part) if a is not type(None)))
    if origin is tuple:
        first, *others = get_args(part)
        return f"list of {_type(first)}" if others == [...] else f"{1 + len(others)} times {_type(first)}"
    if isinstance(part, type) and issubclass(part, BaseModel):
        return "table of " + ", ".join(code(name) for name in part.model_fields)
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}.get(
        getattr(part, "__name__", ""), str(part)
    )
