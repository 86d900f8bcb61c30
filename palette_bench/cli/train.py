"""`palette-bench train`: trains a method, or resumes a training run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from palette_bench.cli.options import DEVICE, EXISTING, PATH
from palette_bench.cli.terminal import finish, progress

TASKS = ("colorization", "inpainting", "uncropping", "jpeg", "multi")


@click.command("train", short_help="Train a method on images of yours; run again to resume.")
@click.argument("method", required=False)
@click.argument("more", metavar="", nargs=-1, type=EXISTING)  # more --data
@click.option("--task", type=click.Choice(TASKS), help="What to learn; multi: one model for several.")
@click.option(
    "--data",
    metavar="DIR",
    multiple=True,
    type=EXISTING,
    help="Training images: a folder of any depth, a list file (.txt), a .tar shard or a .safetensors pack; "
    "several may follow.",
)
@click.option("-o", "--out", "run", metavar="RUN", type=PATH, help="Folder of the run.")
@click.option(
    "--resume",
    metavar="RUN",
    type=PATH,
    help="Go on with a run as it was started; METHOD, --task and -o are its own. Options given win.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A recipe of the method, or a TOML file.  [default: the task's own, else the method's]",
)
@click.option(
    "--init",
    metavar="FILE",
    type=EXISTING,
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
    help="Processes that prepare images; 0: a thread.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Of arithmetic on a CPU.  [default: the processors granted]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Length of the run; warm-up and cooldown are fitted to it.  [default: the recipe's]",
)
@click.option(
    "--unreadable",
    metavar="N",
    type=click.IntRange(0),
    help="Training images that may be passed over; they are named.  [default: 0.1 %]",
)
@click.option("--deterministic", is_flag=True, help="Equal bits on equal machines, at some cost.")
@click.option("--override", is_flag=True, help="Resume although recipe, seed or data changed; recorded.")
@click.option("--force", is_flag=True, help="Train although memory or space look too small.")
@click.pass_context
def command(
    context: click.Context,
    /,
    method: str | None,
    more: tuple[Path, ...],
    data: tuple[Path, ...],
    run: Path | None,
    resume: Path | None,
    **options: Any,
) -> None:
    """Train METHOD into a run folder; run the same command again, or --resume RUN, to go on.

    Ctrl-C finishes the step and saves, a second one ends at once. On several GPUs or machines:
    `torchrun --nproc-per-node W -m palette_bench -- train ...` takes the same steps; `--` ends torchrun's
    options.

    \b
    palette-bench train palette --task inpainting --data DIR -o TRIAL --recipe smoke
    palette-bench train palette --task multi --data DIR -o RUN    # hours of training
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.core.errors import UsageError
    from palette_bench.core.processes import is_main_process
    from palette_bench.submission.methods import TrainOptions, load_baseline
    from palette_bench.submission.training_runs import RunOptions

    if resume and method is not None and Path(method).exists():
        # with --resume and `--data A B`, click takes B for METHOD
        more, method = (Path(method), *more), None
    data += more
    if resume:
        refused = [f"{name} {value}" for name, value in (("METHOD", method), ("-o", run)) if value]
        if refused or options["task"]:
            raise UsageError(
                f"leave out {', '.join(refused) or '--task'}: --resume RUN takes it from the run"
            )
        remembered = RunOptions.found(resume)
        typed = ParameterSource.COMMANDLINE
        given = {name: v for name, v in options.items() if context.get_parameter_source(name) is typed}
        train_options = remembered.again(resume, {**given, **({"data": data} if data else {})})
        method, run = remembered.method, resume
    else:
        needed = {"METHOD": method, "--task": options["task"], "--data": data, "-o RUN": run}
        if missing := [name for name, value in needed.items() if not value]:
            raise UsageError(
                f"missing {', '.join(missing)}: palette-bench train METHOD --task T --data DIR -o RUN, or "
                "palette-bench train --resume RUN"
            )
        assert method is not None, "proven above"
        assert run is not None, "proven above"
        train_options = TrainOptions(run=run, data=data, **options)
    if train_options.init_kind and not train_options.init:
        raise UsageError("--init-kind describes the weights of --init: give --init FILE too")
    baseline = load_baseline(method)
    if not hasattr(baseline, "train"):
        raise UsageError(f"{method} cannot be trained")
    if not is_main_process():
        logging.getLogger("palette_bench").setLevel(logging.ERROR)
    baseline.train(train_options, progress)
    if is_main_process():
        finish(run, next_command=f"restore {method} --run {run} --set SET -o SUB")
