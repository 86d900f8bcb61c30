"""A page for each PB code: what it means, what causes it, what to do, and the messages as they are printed.

The messages are read from the calls in the source, so they say what the program says. `codes.toml` holds a
cause and a remedy of each code in words.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from palette_bench.core.errors import CODES, Problem, problem
from website.markdown import ROOT, Pages, fence, table, toctree

WRITTEN = Path(__file__).with_name("codes.toml")
GROUPS = {
    "PB1": "Files of a submission",
    "PB2": "Ids, images and numbers that are missing",
    "PB3": "Image files, and what images show",
    "PB4": "Record files",
    "PB5": "Human studies",
    "PB6": "Fingerprints, runs and methods",
    "PB7": "This machine",
    "PB8": "Disk",
}
_MESSAGES = 6  # shown on a page; more of them say little more
_FIELDS = ("where", "expected", "found", "fix")
_PLACES = {"PngError": "outputs/ID.png", "Ineligible": "a row of a board"}  # of errors that are told no place
_KINDS = {
    "error": "Ends the command.",
    "warning": "Does not end the command.",
    "info": "Only says what was done.",
}


def pages() -> Pages:
    """Return the page of each code, and their list.

    Raises:
        KeyError: `codes.toml` lacks a code.
    """
    written = tomllib.loads(WRITTEN.read_text(encoding="utf-8"))
    printed = messages()
    made = {
        f"reference/errors/{code}.md": _page(code, written[code], printed.get(code, [])) for code in CODES
    }
    return made | {"reference/errors/index.md": _list(written)}


def _page(code: str, words: dict[str, str], printed: list[Problem]) -> str:
    severity = problem(code, "").severity
    lines = [
        f"# {code}: {CODES[code]}\n",
        f"**{severity.capitalize()}.** {_KINDS[severity]}\n",
        f"## What causes it\n\n{words['cause']}\n",
        f"## What to do\n\n{words['do']}\n",
        "## The message as printed\n",
        "Words between « and » stand for what your case holds.\n" if printed else "",
        *(fence(str(found)) for found in printed[:_MESSAGES] or [_typical(code, words)]),
    ]
    return "\n".join(lines)


def _typical(code: str, words: dict[str, str]) -> Problem:
    """Return the message of a code whose parts the source puts together elsewhere, as `codes.toml` has it."""
    return problem(code, **{name: words[name] for name in _FIELDS if name in words})


def _list(written: dict[str, dict[str, str]]) -> str:
    lines = [
        "# Error codes\n",
        "Every problem has a code. The exit code of the command says of which kind it was: 2 wrong command, "
        "3 wrong input, 4 this machine's libraries, weights or devices, 5 disk, 6 our mistake.\n",
    ]
    for prefix, title in GROUPS.items():
        rows = [
            (f"[{code}]({code}.md)", problem(code, "").severity, text)
            for code, text in CODES.items()
            if code.startswith(prefix)
        ]
        lines += [f"## {title}\n", table(("code", "severity", "meaning"), rows)]
    return "\n".join([*lines, toctree(CODES)])


def messages() -> dict[str, list[Problem]]:
    """Return the problems that the source can raise, by code, those that say most first."""
    modules = [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("palette_bench", "baselines")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.is_relative_to(path.resolve().parent)  # not through a link
    ]
    constants: dict[str, set[str]] = {}
    for module in modules:
        for node in module.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for name in ast.walk(node.targets[0]):
                    if isinstance(name, ast.Name):
                        constants.setdefault(name.id, set()).add(str(node.value.value))
    shared = {name: values.pop() for name, values in constants.items() if len(values) == 1}
    found: dict[str, dict[str, Problem]] = {}
    for module in modules:
        for message in SourceMessages(module, shared).problems():
            found.setdefault(message.code, {}).setdefault(str(message), message)
    return {
        code: sorted(by_text.values(), key=lambda m: str(m).count("«") - 3 * str(m).count("\n"))
        for code, by_text in found.items()
    }


class SourceMessages:
    """The messages in one module: texts as they are, and what is known only when it runs as «its name»."""

    def __init__(self, module: ast.Module, constants: dict[str, str]) -> None:
        """Note which names are assigned where, and the tables of remedies by code.

        Args:
            module: the syntax tree.
            constants: values of names that have one value in the whole program, since modules import them.
        """
        self._module, self._constants = module, constants
        self._assigned: dict[str, list[tuple[int, ast.expr]]] = {}
        self._fixes: dict[str, ast.expr] = {}
        nodes = list(ast.walk(module))
        self._functions = [
            (node.lineno, node.end_lineno or 0) for node in nodes if isinstance(node, ast.FunctionDef)
        ]
        for node in nodes:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._note(node.targets[0], node.value, node.lineno)
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in CODES and len(_text_of(value)) > 20:
                        self._fixes[str(key.value)] = value

    def _note(self, target: ast.expr, value: ast.expr, line: int) -> None:
        if isinstance(target, ast.Name):
            self._assigned.setdefault(target.id, []).append((line, value))
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=False):
                self._note(one, its, line)

    def _value_of(self, name: str, line: int) -> tuple[int, ast.expr] | None:
        """Return what was last assigned to a name above a line of the same function, and where."""
        inside = [span for span in self._functions if span[0] <= line <= span[1]]
        first = max((start for start, _ in inside), default=0)
        known = [(at, value) for at, value in self._assigned.get(name, []) if first <= at < line]
        return max(known, key=lambda found: found[0], default=None)

    def problems(self) -> Iterator[Problem]:
        """Yield the problem of every call, and of every yielded row, that begins with a code."""
        for node in ast.walk(self._module):
            if isinstance(node, ast.Call) and node.args:
                name = _name(node.func)
                named = {word.arg: word.value for word in node.keywords if word.arg in _FIELDS}
                yield from self._problems_of(node.args, named, _PLACES.get(name, ""), node.lineno)
            if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                yield from self._problems_of(node.value.elts, {}, "", node.lineno)

    def _problems_of(
        self, given: list[ast.expr], named: dict[str, ast.expr], place: str, line: int
    ) -> Iterator[Problem]:
        first = [given[0].body, given[0].orelse] if isinstance(given[0], ast.IfExp) else given[:1]
        for node in first:
            code = node.value if isinstance(node, ast.Constant) else None
            if not isinstance(code, str) or code not in CODES or len(given) + len(named) < 2:
                continue
            order = ("found",) if place and len(given) == 2 else _FIELDS[1:] if place else _FIELDS
            parts = dict(zip(order, given[1:], strict=False)) | named
            texts = {name: self.text(value, line) for name, value in parts.items()}
            if code in self._fixes and texts.get("fix", "«fix»").startswith("«"):
                texts["fix"] = self.text(self._fixes[code], line)
            yield problem(code, texts.pop("where", place), **texts)

    def text(self, node: ast.expr, line: int) -> str:
        """Return what an expression prints in a line; a name prints what was last assigned to it above."""
        match node:
            case ast.Name(id=name):
                assigned = self._value_of(name, line)
                if assigned and not _text_of(assigned[1]).startswith("«"):
                    return self.text(assigned[1], assigned[0])
                return self._constants.get(name) or _text_of(node)
            case ast.JoinedStr(values=values):
                return "".join(self.text(value, line) for value in values)
            case ast.FormattedValue(value=value) | ast.IfExp(body=value):  # of two texts, the first
                return self.text(value, line)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.text(left, line) + self.text(right, line)
            case _:
                return _text_of(node)


def _text_of(node: ast.expr) -> str:
    """Return a constant's text, the start of a longer text, or the «name» of anything else."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=[first, *_]):
            return _text_of(first) if isinstance(first, ast.Constant) else "…"
        case ast.IfExp(body=value) | ast.BinOp(left=value, op=ast.Add()):
            return _text_of(value)
        case _:
            return f"«{_name(node)}»"


def _name(node: ast.expr) -> str:
    """Return words for the value of an expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return re.sub(r"_+", " ", name).strip()
        case ast.Call(args=[value, *_]):
            return _name(value)
        case ast.Call(func=value) | ast.Subscript(value=value) | ast.Starred(value=value):
            return _name(value)
        case ast.GeneratorExp(elt=value) | ast.ListComp(elt=value):
            return _name(value)
        case _:
            return "value"
