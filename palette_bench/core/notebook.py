"""HTML by which records show themselves in notebooks: tables and strips of images.

It has no colours of its own, so that it is readable in light and dark notebooks, and no style sheet.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image as PillowImage

from palette_bench.core.types import Image

_SIDE = 96  # pixels; larger images are reduced to it, so that a notebook stays small


def html_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table with a caption; None becomes an empty cell, and all text is escaped."""
    body = ""
    for row in rows:
        cells = ("" if cell is None else escape(str(cell)) for cell in row)
        body += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    top = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f"<table><caption>{escape(title)}</caption>{top}<tbody>{body}</tbody></table>"


def html_images(title: str, images: Iterable[tuple[str, Image]]) -> str:
    """Return a strip of images with a caption; all text is escaped.

    Args:
        title: caption of the strip.
        images: (alternative text, (H, W, 1 or 3) uint8 pixels) of each.
    """
    strip = ""
    for alternative, pixels in images:
        shown, file = PillowImage.fromarray(np.squeeze(pixels)), io.BytesIO()
        shown.thumbnail((_SIDE, _SIDE))
        shown.save(file, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
        size = f'width="{_SIDE}" style="display:inline;margin:0 4px 0 0"'
        strip += f'<img src="{address}" alt="{escape(alternative)}" title="{escape(alternative)}" {size}>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{strip}</figure>"
