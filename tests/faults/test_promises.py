"""The table of promises is that of the tests, and every cited test exists."""

from __future__ import annotations

from page import PAGE
from promises import page_with, promises


def test_every_promise_is_proven_and_the_page_says_by_what() -> None:
    rows = promises()
    assert not [row.id for row in rows if not row.tests]
    assert len({row.id for row in rows}) == len(rows)
    assert page_with(rows) == PAGE.read_text(), "run python tests/faults/promises.py"
