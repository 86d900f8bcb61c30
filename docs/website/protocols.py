"""A page for each protocol, with images of every variant, made by the library from a bundled photograph."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from palette_bench.benchset.generate import generate
from palette_bench.benchset.making import GenerateOptions
from palette_bench.benchset.sources import Request
from palette_bench.core.resources import protocol_ids
from palette_bench.tasks.protocol import ProtocolSpec, load, set_folder
from website.markdown import Pages, code, table, toctree, toml

PHOTOGRAPH = "coffee.png"  # of scikit-image's package data, as the bundled sources


def pages() -> Pages:
    """Return the page of each protocol, and their list."""
    rules = {name: load(name) for name in protocol_ids()}
    made = {f"reference/protocols/{name}.md": _page(spec) for name, spec in rules.items()}
    rows = [
        (f"[{code(name)}]({name}.md)", spec.title, f"{spec.side} px", str(len(spec.pairs("all"))))
        for name, spec in rules.items()
    ]
    made["reference/protocols/index.md"] = "\n".join(
        (
            "# Protocols and variants\n",
            "[The protocols](../../docs/protocols.md) says what is exact in them, and how to write one.\n",
            table(("id", "title", "side", "variants"), rows),
            toctree(rules),
        )
    )
    return made


def draw(source: Path, work: Path) -> None:
    """Write the images of all variants below the source folder of the site, from sets made in `work`.

    Every set is that of one photograph, generated as any other set is.
    """
    photographs = work / "photographs"
    photographs.mkdir(parents=True, exist_ok=True)
    (photographs / PHOTOGRAPH).write_bytes((files("skimage") / "data" / PHOTOGRAPH).read_bytes())
    for name in protocol_ids():
        target = source / "reference" / "protocols" / name
        target.mkdir(parents=True, exist_ok=True)
        request, options = Request("folder:one", photographs), GenerateOptions(workers=1)
        for made in generate(name, "all", work / name, request=request, options=options):
            for side in ("input", "mask"):
                if (image := made.folder / side / PHOTOGRAPH).exists():
                    shutil.copy(image, target / _image(made.folder.name, side))
            shutil.copy(
                made.folder / "reference" / PHOTOGRAPH, target / _image(made.folder.name, "reference")
            )


def _image(folder: str, side: str) -> str:
    return f"{folder}.{side}.png"


def _page(rules: ProtocolSpec) -> str:
    ranked = (
        ("images of a folder" if source == "folder" else code(source), ", ".join(_metric(m) for m in metrics))
        for source, metrics in rules.ranked.items()
    )
    sources = ((code(name), spec.title) for name, spec in rules.sources.items())
    facts = [
        ("side", f"{rules.side} px"),
        ("networks", ", ".join(f"[{code(name)}](../networks/{name}.md)" for name in rules.extractors)),
        ("fingerprint", code(rules.fingerprint[:12])),
    ]
    if rules.shown:
        facts.append(("shown beside the ranked metrics", ", ".join(map(_metric, rules.shown))))
    lines = [
        f"# {rules.id}\n",
        f"{rules.title}.\n",
        table(("", ""), facts),
        "## Metrics that rank\n\nThe first sorts boards.\n",
        table(("source", "metrics"), ranked),
        "## Sources\n",
        table(("id", "what"), [*sources, ("`folder:NAME`", "any folder of images")]),
    ]
    for task, spec in rules.tasks.items():
        lines.append(f"## {spec.title}\n")
        facts = [
            ("task", code(task)),
            ("preprocessing", code(spec.preprocess)),
            ("input", code(spec.degradation)),
        ]
        if spec.ranked:
            facts.append(("ranks by these, too", ", ".join(map(_metric, spec.ranked))))
        lines.append(table(("", ""), facts))
        for variant in spec.variants:
            lines.append(_variant(rules, task, variant))
    return "\n".join(lines)


def _metric(name: str) -> str:
    return f"[{code(name)}](../metrics/{name}.md)"


def _variant(rules: ProtocolSpec, task: str, variant: str) -> str:
    spec, folder = rules.variant(task, variant), set_folder(task, variant)
    masked = any((spec.hole, spec.kept, spec.freeform_pixels))
    sides = ["input", *(["mask"] if masked else []), "reference"]
    keys = spec.model_dump(mode="json", exclude_defaults=True, exclude={"title", "paper"})
    images = "".join(
        f"```{{image}} {rules.id}/{_image(folder, side)}\n:alt: {side} of {task}/{variant}\n:class: variant\n"
        f":width: 256px\n```\n"
        for side in sides
    )
    return "\n".join(
        (
            f"### {code(f'{task}/{variant}')}\n",
            f"{spec.title}{', in the paper' if spec.paper else ''}. Shown: {', '.join(sides)}.\n",
            *(f"- {code(f'{key} = {toml(value)}')}" for key, value in keys.items()),
            f"\n{images}",
        )
    )
