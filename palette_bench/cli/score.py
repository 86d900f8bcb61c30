"""`palette-bench score`: scores a submission into a scorecard and prints the scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palette_bench.cli import terminal
from palette_bench.cli.options import DEVICE, EXISTING, NEW_FILE, PATH, SET, SHARD, WEIGHTS, WORKERS

if TYPE_CHECKING:
    from palette_bench.core.journal import Shard
    from palette_bench.scoring.scorecard import Scorecard


@click.command("score", short_help="Score a submission into a scorecard.")
@click.argument("submission", metavar="SUB", type=PATH)
@SET
@click.option(
    "-o",
    "--out",
    metavar="CARD.json",
    required=True,
    type=NEW_FILE,
    help="The card to write; its per-image table lies beside it.",
)
@click.option(
    "--extractor",
    "extractors",
    metavar="ID",
    multiple=True,
    help="Network to use, see `palette-bench ls extractors`, or timm:MODEL; repeat for more. "
    "Each metric takes the first that fits.  [default: the protocol's]",
)
@click.option(
    "--metrics",
    metavar="ID,ID",
    default="",
    help="Compute these alone; `palette-bench ls metrics` names them.  [default: all there are]",
)
@WEIGHTS
@DEVICE
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp64"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the networks; only fp32 ranks.",
)
@click.option(
    "--mode",
    type=click.Choice(["tf1", "clean", "pytorch"]),
    help="How images of the FID network and of DINOv2 are resized; modes never share a column.  [default: "
    "tf1; of DINOv2: pytorch]",
)
@click.option(
    "--reference",
    metavar="REF",
    help="What FID compares with: originals, val-full@crop-area-v1, val-full@crop256-v1, or a FILE.npz of "
    "statistics (with --mode and --n).  [default: the validation set once it is cached, else originals]",
)
@click.option(
    "--reference-images",
    metavar="DIR",
    type=EXISTING,
    help="Images of the validation set, needed the first time it is the reference.",
)
@click.option("--n", type=int, help="Images behind a FILE.npz.")
@click.option("--partial", is_flag=True, help="Score what there is if ids are missing; never ranked.")
@click.option("--calibrate", is_flag=True, help="Print the originals' own scores beside the paper's.")
@click.option("--explain", metavar="K", type=click.IntRange(1), help="Print the K images that move FID most.")
@click.option(
    "--export-statistics",
    metavar="FILE.npz",
    type=NEW_FILE,
    help="Also write mean and covariance of the outputs' features, as pytorch-fid reads them.",
)
@SHARD
@click.option(
    "--merge", is_flag=True, help="Write the card from the parts of shards; measure what they lack."
)
@click.option("--fresh", is_flag=True, help="Compute features anew even if they are cached.")
@WORKERS
def command(
    submission: Path,
    out: Path,
    weights: tuple[tuple[str, str], ...],
    calibrate: bool,
    explain: int | None,
    metrics: str,
    shard: Shard,
    merge: bool,
    **options: Any,
) -> None:
    """Score a submission into a scorecard.

    The submission is checked first: any error stops before a number is computed. Nothing is downloaded;
    `palette-bench weights fetch` does that. On several GPUs or machines:
    `torchrun --nproc-per-node W -m palette_bench -- score ...` gives the same card; `--` ends torchrun's
    options. In a job array: `--shard auto`; the last shard writes the same card.

    \b
    palette-bench score SUB --set SET -o CARD.json --extractor smoke-random
    palette-bench score SUB --set SET -o CARD.json --metrics psnr,ssim
    palette-bench score SUB --set SET -o CARD.json --device cuda    # needs a GPU
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.core.processes import is_main_process
    from palette_bench.pages.text import score_rows
    from palette_bench.scoring.score import score
    from palette_bench.scoring.shards import merge_shards, score_shard

    given = {**options, "weights": dict(weights), "metrics": metrics.replace(",", " ").split()}
    given["progress"] = terminal.progress
    if merge and shard.count > 1:
        raise click.UsageError("--merge closes what shards have made: leave out --shard")
    card: Scorecard | None
    if shard.count > 1:
        card = score_shard(submission, out=out, shard=shard, **given)
    else:
        card = (merge_shards if merge else score)(submission, out=out, **given)
    if card is None:
        terminal.say("waiting for other shards; the card is written when the last one ends")
        return
    if not is_main_process():
        return
    terminal.show_problems(p for p in card.problems if p.severity == "warning")
    terminal.say(*terminal.aligned(score_rows(card.scores)))
    # one line per reference that FID was compared with
    params = [score.params for score in card.scores.values() if "reference" in score.params]
    for name, n in sorted({(p["reference"], p["reference_n"]) for p in params}):
        terminal.say(f"reference    {name}, {n:,} images")
    if calibrate:
        terminal.say("", *_calibration_lines(card))
    if explain:
        terminal.say("", *_influence_lines(card, out, explain))
    terminal.finish(out, card.content_sha256, f"report {out} -o report.html")


def _calibration_lines(card: Scorecard) -> list[str]:
    """Return a line per metric with the scores of the originals, ours and the paper's."""
    from palette_bench.scoring.card import calibration, paper_row

    lines = ["the originals scored as outputs, beside the paper's original row:"]
    for anchor in calibration(card):
        ours = "-" if anchor.original is None else f"{anchor.original:.2f}"
        theirs = "-" if anchor.paper is None else f"{anchor.paper:g} +- {anchor.tolerance or 0:g}"
        verdict = f"anchor: {anchor.verdict}" if anchor.verdict else f"no verdict: {anchor.reason}"
        lines.append(f"  {anchor.metric:<24} {ours:>10}  paper {theirs:<12} {verdict}")
    if not paper_row(card.protocol, card.task, card.source):
        lines.append(f"  the paper has no original row for {card.task} on {card.source}")
    return lines


def _influence_lines(card: Scorecard, out: Path, count: int) -> list[str]:
    """Return lines with the images of the largest influence on FID, and the change that each causes."""
    from palette_bench.scoring.metrics.moments import most_influential
    from palette_bench.scoring.scorecard import read_table

    table = read_table(card, out)
    if "fid_influence" not in table:
        return ["the influence of images on FID is unknown: it needs more images than feature dimensions"]
    rows = most_influential(list(table["image_id"]), table["fid_influence"].to_numpy(), count)
    return [
        "images that move FID most, and by how much:",
        *(f"  {name:<32} {influence / len(table):+.4f}" for name, influence in rows),
    ]
