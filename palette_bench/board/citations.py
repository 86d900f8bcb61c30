"""Citations of methods and boards as BibTeX, and a board as a dataset for search engines (JSON-LD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from palette_bench.board.exports import latex
from palette_bench.board.leaderboard import Board
from palette_bench.board.rows import all_rows, columns_of
from palette_bench.core.fingerprint import fingerprint
from palette_bench.pages.render import href
from palette_bench.pages.text import metric_words, protocol_words, source_words, task_words

# Saharia et al. 2022, as ACM's library and arXiv list it
PALETTE = {
    "author": (
        "Saharia, Chitwan and Chan, William and Chang, Huiwen and Lee, Chris A. and Ho, Jonathan and "
        "Salimans, Tim and Fleet, David J. and Norouzi, Mohammad"
    ),
    "title": "Palette: Image-to-Image Diffusion Models",
    "booktitle": "ACM SIGGRAPH 2022 Conference Proceedings",
    "year": "2022",
    "doi": "10.1145/3528233.3530757",
    "eprint": "2111.05826",
    "archiveprefix": "arXiv",
}

# --- BibTeX ---

_BRACES = {r"\{": r"\textbraceleft{}", r"\}": r"\textbraceright{}"}  # BibTeX counts an escaped brace, too


def method_bibtex(
    slug: str, name: str, versions: Sequence[str], authors: Sequence[str], links: Mapping[str, str], date: str
) -> str:
    """Return the BibTeX entry of a method, with its paper as its card links it.

    A card knows neither title nor year of the paper, so the entry has the method's name and the day of its
    newest card.

    Args:
        slug: the key of the entry.
        name: name of the method.
        versions: all its versions.
        authors: as the card lists them.
        links: `paper`, `website` and `code`, each if known: https:, doi: or arXiv:.
        date: day of the newest card, YYYY-MM-DD.
    """
    plural = "s" if len(versions) > 1 else ""
    fields = {
        "title": f"{{{_text(name)}}}",  # the inner braces keep its capitals
        "author": " and ".join(map(_text, authors)),
        "note": _text(f"Version{plural} {', '.join(versions)}, scored {date}"),
    }
    paper = links.get("paper", "")
    kind, _, rest = paper.partition(":")
    if kind == "arXiv":
        fields |= {"eprint": _address(rest), "archiveprefix": "arXiv"}
    elif kind == "doi":
        fields["doi"] = _address(rest)
    address = links.get("website") or links.get("code") or (paper if kind == "https" else "")
    if address:
        fields["url"] = _address(href(address))
    return _entry("misc", slug, fields)


def board_bibtex(board: Board) -> str:
    """Return the BibTeX entries of a board, with the digest of its set, and of the protocol's paper."""
    newest = max(row.date for row in all_rows(board))
    title = f"Leaderboard of {protocol_words(board)}: {task_words(board.rules, board.task, board.variant)}"
    fields = {
        "title": f"{{{_text(title)}}}",
        "author": "{palette-bench}",
        "year": newest[:4],
        "note": _text(f"Set {board.fingerprints['set'][:12]}, newest scorecard {newest}"),
    }
    key = f"board-{PurePosixPath(board.page).stem}"
    return "\n".join([_entry("misc", key, fields), _entry("inproceedings", "saharia2022palette", PALETTE)])


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])


def _text(text: str) -> str:
    """Return text for a field, every special character escaped and all braces in pairs."""
    escaped = latex(text)
    for brace, command in _BRACES.items():
        escaped = escaped.replace(brace, command)
    return escaped


def _address(text: str) -> str:
    """Return an address for a field that is printed as it is; braces and backslashes are percent-encoded."""
    return text.replace("\\", "%5C").replace("{", "%7B").replace("}", "%7D")


# --- JSON-LD ---


def board_dataset(board: Board, authors: Sequence[str], license_url: str = "") -> dict[str, Any]:
    """Return a board as a `Dataset` of schema.org, whose files lie beside the page.

    Args:
        board: the board.
        authors: authors of its scorecards.
        license_url: address of the licence of the scores; a record does not say it.
    """
    rows, stem = all_rows(board), PurePosixPath(board.page).stem
    title = task_words(board.rules, board.task, board.variant)
    source = source_words(board.rules, board.source, max(row.n for row in rows))
    units = {key: score.unit for row in rows for key, score in row.scores.items()}
    dataset = {
        "@context": "https://schema.org",
        "@type": "Dataset",
        "name": f"Leaderboard of {protocol_words(board)}: {title}",
        "description": (
            f"Scores of {len(rows)} image-to-image methods on one benchmark set ({title}; {source}), with "
            "95 % intervals over the images, and the ranks that paired significance tests support."
        ),
        "creator": {"@type": "Organization", "name": ", ".join(authors)},
        "dateModified": max(row.date for row in rows),
        "version": fingerprint(board.model_dump(mode="json"))[:12],
        "identifier": f"sha256:{board.fingerprints['set']}",
        "measurementTechnique": f"palette-bench, protocol {protocol_words(board)}",
        "variableMeasured": [
            {
                "@type": "PropertyValue",
                "propertyID": column.key,
                "name": column.name,
                "description": f"{metric_words(column.key).meaning}; {column.direction}",
                "unitText": units[column.key],
            }
            for column in columns_of(board)
        ],
        "distribution": [
            {"@type": "DataDownload", "encodingFormat": kind, "contentUrl": f"{stem}.{suffix}"}
            for suffix, kind in (("csv", "text/csv"), ("json", "application/json"))
        ],
    }
    return dataset | ({"license": license_url} if license_url else {})
