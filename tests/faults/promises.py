"""Which test proves which promise: the table of docs/trust.md, written from the tests themselves.

python tests/faults/promises.py            write the table; name promises without a test
python tests/faults/promises.py --check    write nothing; exit 1 if the page is not up to date
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from page import PAGE, put

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Promise:
    """One row: a fault, what happens then, and the tests that prove it."""

    id: str
    section: str
    fault: str
    behaviour: str
    tests: tuple[str, ...]


def functions() -> dict[str, tuple[str, ...]]:
    """Return every test as FILE::NAME, with the promises it is marked to prove."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS).as_posix()}::{node.name}"] = tuple(_marked(node))
    return found


def _marked(node: ast.FunctionDef) -> Iterator[str]:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.trust":
            yield from (argument.value for argument in mark.args if isinstance(argument, ast.Constant))


def promises() -> list[Promise]:
    """Return all promises with the tests that are cited for them or marked.

    Raises:
        LookupError: a cited test, or the promise of a mark, does not exist.
    """
    tests = functions()
    marked = defaultdict(list)
    for test, ids in tests.items():
        for promise in ids:
            marked[promise].append(test)
    rows, missing = [], []
    for section, table in tomllib.loads(Path(__file__).with_suffix(".toml").read_text()).items():
        title = table.pop("title")
        for name, (fault, behaviour, *cited) in table.items():
            missing += [test for test in cited if not _exists(test, tests)]
            proven = (*cited, *marked.pop(f"{section}: {name}", ()))
            rows.append(Promise(f"{section}: {name}", title, fault, behaviour, proven))
    missing += [f"mark {promise!r} of {test}" for promise, of in marked.items() for test in of]
    if missing:
        raise LookupError(f"not there: {', '.join(missing)}")
    return rows


def _exists(test: str, tests: dict[str, tuple[str, ...]]) -> bool:
    """Return whether a cited test is there; FILE::* stands for all of a file."""
    return test in tests or (test.endswith("::*") and any(t.startswith(test[:-1]) for t in tests))


def table(rows: list[Promise]) -> str:
    """Return the promises as Markdown, a table per group of commands."""
    lines: list[str] = []
    for row in rows:
        if f"### {row.section}" not in lines:
            lines += [
                "",
                f"### {row.section}",
                "",
                "| Fault or input | What happens | Proven by |",
                "|---|---|---|",
            ]
        proven = "<br>".join(f"`{test}`" for test in row.tests) or "**no test yet**"
        lines.append(f"| {row.fault} | {row.behaviour} | {proven} |")
    return "\n".join([*lines, ""])


def page_with(rows: list[Promise]) -> str:
    """Return docs/trust.md with the table of today."""
    return put("promises", table(rows))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is outdated")
    given = parser.parse_args()
    rows = promises()
    current = page_with(rows)
    stale = current != PAGE.read_text()
    if not given.check:
        PAGE.write_text(current)
    proven = sum(bool(row.tests) for row in rows)
    print(f"{proven} of {len(rows)} promises have a test")
    for row in rows:
        if not row.tests:
            print(f"  none: {row.id}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
