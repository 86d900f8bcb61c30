"""`palette-bench generate`: makes benchmark sets from images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from palette_bench.cli.options import PATH, SHARD, WORKERS
from palette_bench.cli.terminal import finish, progress, say


@click.command("generate", short_help="Make benchmark sets from a folder of images.")
@click.argument("protocol")
@click.argument("task", metavar="TASK[/VARIANT]|all")
@click.option(
    "--source", help="Source id, or folder:NAME for a folder of your own.  [default: the task's first]"
)
@click.option("--images", type=PATH, help="Folder or tar with the source images.")
@click.option("--labels", type=PATH, help="Labels, where the images do not tell them.")
@click.option("-o", "--out", required=True, type=PATH, help="Folder of the set or sets.")
@WORKERS
@SHARD
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Take N images of a folder or of bundled photographs, chosen by their ids.",
)
@click.option("--ids", type=PATH, help="Take the images of a folder that FILE names, one id a line.")
@click.option(
    "--expect", default="", help="Fingerprint the set must come to, 12 digits or more; else exit 3."
)
@click.option("--rekey", default="", help="Key of a control set with fresh masks; not for boards.")
@click.option("--masks", type=PATH, help="Foreign masks: a folder, or the released file.")
@click.option("--mask-format", help="palette-release, lama, janspiry, repaint, mat or binary.")
@click.option(
    "--pair", help="How masks and images pair: stem, sorted, sorted-by-class, sorted-by-id, cyclic."
)
@click.option("--hole-value", type=click.Choice(["0", "255"]), help="Which value is hole, for binary masks.")
@click.option(
    "--verify",
    type=click.Choice(["sampled", "full"]),
    default="sampled",
    show_default=True,
    help="Prove 1 JPEG in 64, or all, against the integer definition.",
)
@click.option("--allow-unknown-source", is_flag=True, help="Accept other images than the listed ones.")
@click.option("--public", type=PATH, help="Also write the part contestants may see here.")
def command(
    protocol: str, task: str, images: Path | None, out: Path, public: Path | None, **given: Any
) -> None:
    """Make the benchmark set of TASK/VARIANT, or of every one with `all`, under PROTOCOL.

    PROTOCOL is an id of `palette-bench ls`, or the file of a protocol of your own.

    \b
    palette-bench generate smoke all -o sets
    palette-bench generate palette-2022 jpeg/qf5 --images ILSVRC2012/val -o set    # needs ILSVRC2012
    palette-bench generate palette-2022 all --source folder:mine --images DIR -o mine
    palette-bench generate ./my-protocol.toml all --source folder:mine --images DIR -o own
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.benchset.foreign_masks import MaskRequest
    from palette_bench.benchset.generate import generate
    from palette_bench.benchset.making import GenerateOptions
    from palette_bench.benchset.manifest import export_public
    from palette_bench.benchset.sources import Request
    from palette_bench.core.errors import SourceError
    from palette_bench.scoring.features import EXTRACTORS
    from palette_bench.scoring.metrics import RANKING_METRICS
    from palette_bench.tasks.own_protocol import open_protocol

    source, expect = given["source"], given["expect"]
    value = int(given["hole_value"]) if given["hole_value"] else None
    mask_format = given["mask_format"] or ""
    unknown = given["allow_unknown_source"]
    full = given["verify"] == "full"
    try:
        finished = generate(
            open_protocol(protocol, RANKING_METRICS, EXTRACTORS),
            task,
            out,
            request=Request(source or "", images, given["labels"], given["limit"], unknown, given["ids"]),
            masks=MaskRequest(given["masks"], mask_format, given["pair"], value) if given["masks"] else None,
            options=GenerateOptions(
                given["workers"], given["shard"], given["rekey"], verify_all=full, expect=expect
            ),
            progress=progress,
        )
    except SourceError as error:
        if source or images is None or not images.exists():
            raise
        own = f"--source folder:NAME takes {images} as images of your own, with any names and labels"
        raise SourceError(*(error.problems or (str(error),)), f"or: {own}") from error
    for made in finished:
        if made.set_fingerprint is None:
            say(f"{made.folder.name}: waiting for other shards")
            continue
        if public:
            export_public(made.folder, public / made.folder.name if len(finished) > 1 else public)
        verdict = "no published set to compare with"
        if made.published or expect:
            verdict = f"matches the {'published' if made.published else 'expected'} set"
        redone = f", {made.redone} items redone" if made.redone else ""
        name, digest = made.folder.name, made.set_fingerprint[:12]
        say(f"{name:<28} {digest}  {made.n:,} items, {verdict}{redone}")
    finish(out, next_command=f"restore METHOD --set {finished[0].folder} -o SUB")
