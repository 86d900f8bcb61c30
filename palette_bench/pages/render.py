"""From a template to one self-contained HTML file that asks nothing of the network.

Source: reports and studies, section 8: autoescape, no undefined names, a content security policy that
admits our own style and script by digest and images only as data.
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
    """Return the web address of a link of a record; any other scheme than the allowed three is refused."""
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
    """Return how a content security policy names an inline style or script."""
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
    """Return the page's one style and one script, and the digests that admit them."""
    style = "\n".join(report_text(f"assets/{name}.css") for name in ("page", *parts))
    script = "\n".join(report_text(f"assets/{name}.js") for name in ("page", *parts))
    return {
        "style": Markup(style),
        "script": Markup(script),
        "style_digest": csp_digest(style),
        "script_digest": csp_digest(script),
    }


def render(template: str, *, parts: tuple[str, ...] = (), beside: bool = False, **names: Any) -> str:
    """Return a page; a name the template uses and nobody gave is an error.

    Args:
        template: inside `reports/templates`.
        parts: assets this page adds to `page.css` and `page.js`, each a style and a script.
        beside: whether the page shows images and loads scripts that lie in files beside it.
        names: what the template prints.
    """
    return _environment().get_template(template).render(**_assets(parts), beside=beside, **names)
