"""How Sphinx builds the site; `python -m website` names this file's folder."""

import re

from pydantic import BaseModel
from sphinx.application import Sphinx

import palette_bench

project = "palette-bench"
author = "the authors of palette-bench"
copyright = "the authors of palette-bench, Apache-2.0"  # noqa: A001  # Sphinx reads this name
release = palette_bench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns: list[str] = []
highlight_language = "text"  # fences without a language hold commands, trees and messages
smartquotes = False  # formulas of docstrings have primes
default_role = "code"  # docstrings mark names by single backticks

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # so that page.md#a-heading leads where it leads on a code host

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Annotations name types that have no page here; links between pages stay strict.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"palette-bench {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # it fetches pages, which a browser refuses for a site opened from files
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}


def escape_plain_text(
    app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    """Keep |x|, * and trailing underscores of docstrings, which are plain text, names in backticks."""
    marks = re.compile(r"(`[^`]*`)|([*|]|_(?=\W|$))")
    lines[:] = [marks.sub(lambda found: found[1] or "\\" + found[2], line) for line in lines]


def leave_out_signature(
    app: Sphinx, what: str, name: str, of: object, options: object, given: str, returned: str
) -> tuple[str, str] | None:
    """Show no signature of a pydantic model: its page has a table of the fields."""
    return ("", "") if isinstance(of, type) and issubclass(of, BaseModel) else None


def setup(app: Sphinx) -> None:
    """Let docstrings be escaped before napoleon reads their sections, and models show no signature."""
    app.connect("autodoc-process-docstring", escape_plain_text, priority=400)
    app.connect("autodoc-process-signature", leave_out_signature)
