"""Rendering of templates to self-contained HTML files that need no network access.

Source: reports and studies, section 8: autoescape, no undefined names, and a content security policy that
allows only the page's own style and script (by digest), and images only as data.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from palette_bench import __version__
from palette_bench.core.resources import report_text
from palette_bench.pages.text import compact

_RESOLVERS = {"doi:": "https://doi.org/", "arXiv:": "https://arxiv.org/abs/"}


def href(link: str) -> str:
    """Return the web address of a link of a record.

    Raises:
        ValueError: the scheme is not one of the allowed ones (https, doi, arXiv).
    """
    for scheme, address in _RESOLVERS.items():
        if link.startswith(scheme):
            return address + link.removeprefix(scheme)
    if not link.startswith("https:"):
        raise ValueError(f"link scheme not allowed: {link[:40]!r}")
    return link


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as a `data:` address; `kind` is the MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def csp_digest(text: str) -> str:
    """Return the digest by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: report_text(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(href=href, compact=compact)
    environment.globals["version"] = __version__
    return environment


@cache
def _assets(parts: tuple[str, ...]) -> dict[str, Markup | str]:
    """Return the page's style and script, each as one text, and the digests that allow them."""
    style = "\n".join(report_text(f"assets/{name}.css") for name in ("page", *parts))
    script = "\n".join(report_text(f"assets/{name}.js") for name in ("page", *parts))
    return {
        "style": Markup(style),
        "script": Markup(script),
        "style_digest": csp_digest(style),
        "script_digest": csp_digest(script),
    }


def render(template: str, *, parts: tuple[str, ...] = (), beside: bool = False, **names: Any) -> str:
    """Return a page. A name that the template uses and that is not given is an error.

    Args:
        template: name inside `reports/templates`.
        parts: assets to add to `page.css` and `page.js`; each name is a style and a script.
        beside: whether the page loads images and scripts from files beside it.
        names: the names that the template uses.
    """
    return _environment().get_template(template).render(**_assets(parts), beside=beside, **names)
