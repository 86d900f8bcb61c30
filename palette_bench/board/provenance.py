"""Where the numbers of a card come from, as one block of lines to copy."""

from __future__ import annotations

from palette_bench.scoring.scorecard import Scorecard


def provenance(card: Scorecard) -> str:
    """Return every fingerprint, the weights, versions, device, level and command, one per line."""
    prints = card.fingerprints
    lines = {
        "card": card.content_sha256,
        "protocol": f"{card.protocol} {prints.protocol}",
        "set": prints.set,
        "outputs": prints.outputs,
        **{f"extractor {name}": sha for name, sha in sorted(prints.extractors.items())},
        **{f"weights {name}": words for name, words in sorted((card.networks or {}).items())},
        **{f"reference {name}": sha for name, sha in sorted(prints.references.items())},
        "table": f"{card.per_image.sha256} ({card.per_image.rows:,} rows)",
        **{f"parent {at + 1}": sha for at, sha in enumerate(card.parents)},
        **{name: _plain(value) for name, value in sorted(card.environment.items())},
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _plain(value: str | bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if not isinstance(value, str) else value
