"""`palette-bench train`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from palette_bench.cli.options import DEVICE
from palette_bench.cli.terminal import finish, progress

TASKS = ("colorization", "inpainting", "uncropping", "jpeg", "multi")


@click.command("train", short_help="Train a method on pictures of yours; run again to resume.")
@click.argument("method")
@click.argument("more", metavar="", nargs=-1, type=click.Path(exists=True, path_type=Path))  # of --data
@click.option(
    "--task", required=True, type=click.Choice(TASKS), help="What to learn; multi: one model for several."
)
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Training pictures: a folder of any depth, a list file (.txt), a .tar shard or a .safetensors pack; "
    "several may follow.",
)
@click.option(
    "-o",
    "--out",
    "run",
    metavar="RUN",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the run.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A recipe of the method, or a TOML file.  [default: the task's own, else the method's]",
)
@click.option(
    "--init",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="Weights to start from: a run of ours, or with --init-kind a published file.",
)
@click.option("--init-kind", metavar="KIND", help="Whose weights, e.g. adm-256-uncond.  [default: ours]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of every draw.")
@DEVICE
@click.option(
    "--workers",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Processes that prepare pictures; 0: a thread.",
)
@click.option("--steps", type=click.IntRange(1), help="Stop after this many.  [default: the recipe's]")
@click.option("--deterministic", is_flag=True, help="Equal bits on equal machines, at some cost.")
@click.option("--override", is_flag=True, help="Resume although recipe, seed or data changed; recorded.")
def command(method: str, more: tuple[Path, ...], data: tuple[Path, ...], run: Path, **options: Any) -> None:
    """Train METHOD into a run folder; run the same command again to resume.

    Ctrl-C finishes the step and saves. On several GPUs or machines:
    `torchrun --nproc-per-node W -m palette_bench -- train ...` takes the same steps; `--` ends torchrun's
    options.

    \b
    palette-bench train palette --task inpainting --data DIR -o TRIAL --recipe smoke
    palette-bench train palette --task multi --data DIR -o RUN    # hours of training
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.core.errors import UsageError
    from palette_bench.core.ranks import speaks
    from palette_bench.submission.contestant import TrainOptions, load_baseline

    if options["init_kind"] and not options["init"]:
        raise UsageError("--init-kind says whose weights --init holds; give --init FILE too")
    baseline = load_baseline(method)
    if not hasattr(baseline, "train"):
        raise UsageError(f"{method} has nothing to train")
    if not speaks():
        logging.getLogger("palette_bench").setLevel(logging.ERROR)
    baseline.train(TrainOptions(run=run, data=data + more, **options), progress)
    if speaks():
        finish(run, next_command=f"restore {method} --run {run} --set SET -o SUB")
