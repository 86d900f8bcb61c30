"""A page for each public name of the package, from its docstring, with a block of a guide that uses it."""

from __future__ import annotations

import ast
import inspect
import re

from pydantic import BaseModel

import palette_bench
from palette_bench import compat
from website.markdown import ROOT, Pages, code, fence, table, toctree
from website.schemas import keys_table

GUIDES = ("docs/python.md", "docs/start/*.md", "docs/*.md")  # in this order


def pages() -> Pages:
    """Return the page of each public name, and their list."""
    made = {
        f"reference/api/{name}.md": _page(f"palette_bench.{name}", name) for name in palette_bench.__all__
    }
    made |= {
        f"reference/api/{name}.md": _page(f"palette_bench.compat.{name}", name) for name in compat.__all__
    }
    names = [*palette_bench.__all__, *compat.__all__]
    rows = [(f"[{code(name)}]({name}.md)", _summary(name)) for name in names]
    made["reference/api/index.md"] = "\n".join(
        (
            "# Python\n",
            "`from palette_bench import NAME`, and `from palette_bench.compat import calculate_metrics`. "
            "[From Python](../../docs/python.md) shows them together. Other names may change.\n",
            table(("name", "what"), rows),
            toctree(names),
        )
    )
    return made


def examples() -> dict[str, tuple[str, str]]:
    """Return (page, Python block) of each public name that a block of a guide imports; tests run them."""
    found: dict[str, tuple[str, str]] = {}
    for page in [page for pattern in GUIDES for page in sorted(ROOT.glob(pattern))]:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(block)):
                match node:
                    case ast.ImportFrom(module="palette_bench" | "palette_bench.compat", names=names):
                        for alias in names:
                            found.setdefault(alias.name, (page.relative_to(ROOT).as_posix(), block))
    return found


def _object(name: str) -> object:
    return getattr(compat if name in compat.__all__ else palette_bench, name)


def _summary(name: str) -> str:
    return (inspect.getdoc(_object(name)) or "").partition("\n\n")[0].replace("\n", " ")


def _page(path: str, name: str) -> str:
    found = _object(name)
    if inspect.isclass(found):
        own = "__init__" in vars(found) and (found.__init__.__doc__ or "") in inspect.getsource(found)
        directive = (
            f".. autoclass:: {path}\n   :members:\n   :exclude-members: model_config\n"
            f"   :class-doc-from: {'both' if own else 'class'}\n"
        )
    else:
        directive = f".. autofunction:: {path}\n"
    lines = [f"# {name}\n", f"```{{eval-rst}}\n{directive}```\n"]
    if inspect.isclass(found) and issubclass(found, BaseModel):
        lines += ["## Fields\n", keys_table(found.model_json_schema())]
    if name in examples():
        page, block = examples()[name]
        lines += [
            "## Example\n",
            fence(block, "python"),
            f"From [a guide](../../{page}), whose blocks a test runs.\n",
        ]
    return "\n".join(lines)
