"""Draw docs/rooms.svg: the rooms of the code and which of them import which.

    python docs/draw_rooms.py            write the drawing
    python docs/draw_rooms.py --check    write nothing; exit 1 if the drawing is not current

The rooms, their descriptions and the arrows are read from the source files. An arrow that follows from two
others is left out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRAWING = Path(__file__).with_name("rooms.svg")
TOOLS = ("experiments", "trained")  # folders of baselines that drive the whole chain

WIDTH, HEIGHT, GAP_X, GAP_Y = 330, 58, 40, 34  # of a box and between boxes, SVG units

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c1c1c } .name { font-weight: 600; font-size: 15px }
rect { fill: #f4f4f2; stroke: #8a8a85 } path { fill: none; stroke: #6a6a66 } marker path { fill: #6a6a66 }
@media (prefers-color-scheme: dark) { text { fill: #e8e8e4 } rect { fill: #262624; stroke: #7d7d78 }
path { stroke: #a5a5a0 } marker path { fill: #a5a5a0 } }
"""


def rooms() -> dict[str, Path]:
    """Return the rooms that hold code: folder by name."""
    data = {"protocols", "reports", "baselines"}  # reached through palette_bench, but lie at the top level
    inside = [p.parent for p in (ROOT / "palette_bench").glob("*/__init__.py") if p.parent.name not in data]
    return {folder.name: folder for folder in [*sorted(inside), ROOT / "baselines"]}


def imported_rooms(room: str, folder: Path) -> set[str]:
    """Return the rooms that the files of a room import."""
    found = set()
    for path in folder.rglob("*.py"):
        if room == "baselines" and path.relative_to(folder).parts[0] in TOOLS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "palette_bench" and len(parts) > 1 and parts[1] != room:
                    found.add(parts[1])
    return found


def arrows(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports that do not follow from others (the transitive reduction)."""

    def reached(room: str) -> set[str]:
        return found[room].union(*(reached(other) for other in found[room]))

    return {
        room: {other for other in others if not any(other in reached(x) for x in others - {other})}
        for room, others in found.items()
    }


def svg() -> str:
    """Return the drawing: the rooms in rows, each above everything it imports."""
    folders = rooms()
    found = {room: imported_rooms(room, folder) & folders.keys() for room, folder in folders.items()}

    def level(room: str) -> int:
        return 1 + max((level(other) for other in found[room]), default=-1)

    levels = {room: level(room) for room in folders}
    for room in sorted(folders, key=lambda room: -levels[room]):
        if above := [levels[other] for other in folders if room in found[other]]:
            levels[room] = min(above) - 1  # close to what imports it, so that arrows are short
    rows: dict[int, list[str]] = {}
    for room in sorted(folders):
        rows.setdefault(levels[room], []).append(room)
    width = max(len(row) for row in rows.values()) * (WIDTH + GAP_X) + GAP_X
    places = {}
    for number, row in rows.items():
        left = (width - len(row) * (WIDTH + GAP_X) + GAP_X) / 2
        for k, room in enumerate(row):
            top = (max(rows) - number) * (HEIGHT + GAP_Y) + GAP_Y / 2
            places[room] = (left + k * (WIDTH + GAP_X), top)
    height = len(rows) * (HEIGHT + GAP_Y)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        "<title>Rooms of the code; an arrow points at what a room imports</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for room, others in sorted(arrows(found).items()):
        lines += [_arrow(places[room], places[other]) for other in sorted(others)]
    for room, (left, top) in sorted(places.items()):
        lines += _box(room, folders[room], left, top)
    return "\n".join([*lines, "</svg>", ""])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT
    x2, y2 = end[0] + WIDTH / 2, end[1]
    y3 = y2 - GAP_Y  # straight down past other rows, then a curve through the last gap
    curve = f"M{x1:g} {y1:g}V{y3:g}C{x1:g} {y3 + GAP_Y / 2:g} {x2:g} {y3 + GAP_Y / 2:g} {x2:g} {y2:g}"
    return f'<path d="{curve}" marker-end="url(#tip)"/>'


def _box(room: str, folder: Path, left: float, top: float) -> Iterator[str]:
    says = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    yield f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    yield f'<text class="name" x="{left + 12:g}" y="{top + 23:g}">{room}</text>'
    yield f'<text x="{left + 12:g}" y="{top + 43:g}">{says.partition(chr(10))[0].rstrip(".")}</text>'


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(DRAWING.read_text(encoding="utf-8") != svg())
    DRAWING.write_text(svg(), encoding="utf-8")
