"""`palette-bench restore`: restores a set or own images, or exports and imports the files of a tool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from palette_bench.cli.options import CREDITS, DEVICE, PATH, SHARD, credits_of
from palette_bench.cli.terminal import finish, progress, say

if TYPE_CHECKING:
    from palette_bench.submission.methods import RestoreOptions, ToolOptions

TASKS = ("colorization", "inpainting", "uncropping", "jpeg")

# option -> forms of the command that use it; other forms reject it instead of ignoring it
_FORMS = {
    "benchset": "set export import",
    "out": "set import",
    **dict.fromkeys(
        ("run", "seed", "sampler", "steps", "device", "fast", "noise", "size_policy"), "set images"
    ),
    **dict.fromkeys(("samples", "shard", "shards", "batch", "audit", "pipeline"), "set"),
    **dict.fromkeys(("task", "mask", "invert_mask", "large_hole", "extend", "times", "quality"), "images"),
    **{"export": "export", "import_": "import", "hole_value": "export"},
    **dict.fromkeys(("name", "slug", "version", "author", "license"), "import"),
    **{"template": "import", "accept_lossy": "import", "tool_size": "export import"},
}
_NEEDED = {
    "set": ("benchset", "out"),
    "export": ("benchset",),
    "import": ("benchset", "out"),
    "images": ("task",),
}
_NAMES = {
    "set": "METHOD --set SET -o SUB",
    "export": "adapter:NAME --set SET --export DIR",
    "import": "adapter:NAME --set SET --import DIR -o SUB",
    "images": "IN OUT --task T",
}


class SideType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """Parameter type for SIDE=PIXELS, such as `right=128`: a side and the pixels to add there."""

    name = "side=pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (side, pixels)."""
        from palette_bench.submission.user_images import SIDES

        side, _, pixels = str(value).partition("=")
        if side not in SIDES or not pixels.isdecimal() or int(pixels) < 1:
            self.fail(f"{value!r} is not SIDE=PIXELS with SIDE one of {', '.join(SIDES)}", param, ctx)
        return side, int(pixels)


def _run(_context: click.Context, _option: click.Parameter, named: Path | None) -> Path | None:
    """Return the path of the training run or bundled model that --run names; None without --run."""
    from palette_bench.submission.training_runs import find_run

    return named and find_run(named)


@click.command("restore", short_help="Run a method on a set: its outputs become a submission.")
@click.argument("words", metavar="METHOD | IN OUT", nargs=-1, required=True)
@click.option("--set", "benchset", metavar="SET", type=PATH, help="The benchmark set, or its public part.")
@click.option("-o", "--out", metavar="SUB", type=PATH, help="Folder of the submission.")
@click.option(
    "--run",
    "--weights",
    "run",
    metavar="RUN",
    type=PATH,
    callback=_run,
    help="Training run, checkpoint or weights; or a trained model that comes along, by name.",
)
@click.option("--samples", default=1, show_default=True, type=click.IntRange(1, 1000), help="Outputs per id.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the sampling noise.")
@click.option("--sampler", help="Sampler of the method.  [default: the method's]")
@click.option("--steps", type=click.IntRange(1), help="Network evaluations.  [default: the method's]")
@DEVICE
@click.option("--fast", is_flag=True, help="Reduced precision, compiled: other bits, same statistics.")
@click.option(
    "--noise",
    type=click.Choice(["host", "device"]),
    default="host",
    show_default=True,
    help="Where noise is drawn.",
)
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1), help="Images per step.")
@SHARD
@click.option(
    "--shards", type=click.Choice(["tar"]), help="Write one tar per part instead of a file per output."
)
@click.option(
    "--audit",
    metavar="[K]",
    is_flag=False,
    flag_value=4,
    default=0,
    type=click.IntRange(0),
    help="Redo K outputs in another batch and tell the largest difference.  [alone: 4]",
)
@click.option(
    "--pipeline", metavar="CLASS", help="adapter:diffusers: pipeline class; --weights is its folder."
)
@click.option("--export", metavar="DIR", type=PATH, help="Adapters: write the set as the tool reads it.")
@click.option("--import", "import_", metavar="DIR", type=PATH, help="Adapters: take the tool's results.")
@click.option("--hole-value", type=click.IntRange(0, 255), help="--export: mask level of the hole.")
@click.option("--template", metavar="NAME", help="--import: name of a result, with {id} in it.")
@click.option("--accept-lossy", is_flag=True, help="--import: take JPEG results; the card says so.")
@click.option("--tool-size", metavar="SIDE", type=click.IntRange(16, 8192), help="Side the tool works at.")
@CREDITS
@click.option("--task", type=click.Choice(TASKS), help="Own images: what to do with them.")
@click.option("--mask", type=PATH, help="inpainting: white = hole; a file, or a folder of equal names.")
@click.option("--invert-mask", is_flag=True, help="inpainting: black = hole.")
@click.option("--large-hole", is_flag=True, help="inpainting: more than half of an image may be hole.")
@click.option(
    "--extend", metavar="SIDE=PIXELS", type=SideType(), multiple=True, help="uncropping: right=128; repeat."
)
@click.option("--times", default=1, show_default=True, type=click.IntRange(1), help="uncropping: how often.")
@click.option("--quality", type=click.IntRange(1, 100), help="jpeg: degrade to this quality first.")
@click.option(
    "--size-policy",
    type=click.Choice(["tile", "scale", "native"]),
    help="How sizes the network does not know are met.  [default: the task's; of a set: refused]",
)
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], **given: Any) -> None:
    """Run METHOD (see `palette-bench ls baselines`) on a set; run again to resume.

    \b
    palette-bench restore palette --run RUN --set SET -o SUB
    palette-bench restore adapter:folder --set SET --export GIVEN            # then run the tool, then
    palette-bench restore adapter:folder --set SET --import RESULTS -o TAKEN
    palette-bench restore photo.png new.png --task jpeg --run RUN            # own JPEG or PNG, any size

    On several GPUs: `torchrun --nproc-per-node W -m palette_bench -- restore ...`; `--` ends torchrun's
    options.
    """  # noqa: D301  # click looks for the backspace character itself
    form = "export" if given["export"] else "import" if given["import_"] else "set"
    if len(words) > 1 or given["task"]:
        form = "images"
    # all faults at once: options that do not belong to this form, and missing options or arguments
    flags = {p.name: p.opts[-1] if p.name != "run" else "--run" for p in ctx.command.params if p.name}
    foreign = [
        flags[name]
        for name, forms in _FORMS.items()
        if form not in forms.split() and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    missing = [flags[name] for name in _NEEDED[form] if not given[name]]
    faults = [f"does not take {', '.join(foreign)}"] if foreign else []
    faults += [f"needs {', '.join(missing)}"] if missing else []
    if len(words) != (2 if form == "images" else 1):
        faults.append(f"takes {'IN and OUT' if form == 'images' else 'one METHOD'}, not {' '.join(words)!r}")
    if faults:
        raise click.UsageError(f"restore {_NAMES[form]} {'; '.join(faults)}", ctx)
    _FORM_OF[form](words, given)


def _restore_set(words: tuple[str, ...], given: Mapping[str, Any]) -> None:
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.core.errors import UsageError
    from palette_bench.core.processes import is_main_process, launched
    from palette_bench.core.types import SILENT
    from palette_bench.submission.methods import Adapter, load_baseline
    from palette_bench.submission.restore import restore

    benchset = ContestantSet.open(given["benchset"])
    options = replace(_options(given), size_policy=given["size_policy"])
    found = load_baseline(words[0])
    if isinstance(found, Adapter):
        raise UsageError(
            f"{words[0]} does not run the tool: give --export DIR, run the tool, then give --import DIR"
        )
    restorer = found.restorer(options)
    shard = given["shard"]
    if launched():
        # under torchrun each rank is a shard, and only rank 0 reports, on its own shard
        if shard.count > 1:
            raise UsageError("leave out --shard under torchrun: each rank already is a shard")
        shard = None
    if not is_main_process():
        logging.getLogger("palette_bench").setLevel(logging.ERROR)
    card = restore(
        restorer,
        benchset,
        given["out"],
        samples=given["samples"],
        batch_size=given["batch"],
        shard=shard,
        device=options.device,
        audit=given["audit"],
        tars=given["shards"] == "tar",
        progress=progress if is_main_process() else SILENT,
    )
    if card is None:
        say("waiting for other shards; the card is written when the last one ends")
        return
    method = restorer.about.method
    say(f"model        {method.slug} {method.version}: {restorer.identity}")
    finish(
        given["out"],
        benchset.public.set_fingerprint,
        f"score {given['out']} --set {given['benchset']} -o CARD.json",
    )


def _export(words: tuple[str, ...], given: Mapping[str, Any]) -> None:
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.submission.methods import load_adapter

    benchset = ContestantSet.open(given["benchset"])
    load_adapter(words[0]).export(benchset, given["export"], _tool_options(given), progress)
    say("run the tool on these files alone: it may see nothing else of the set")
    again = f"restore {words[0]} --set {given['benchset']} --import RESULTS -o SUB"
    finish(given["export"], benchset.public.set_fingerprint, again)


def _import(words: tuple[str, ...], given: Mapping[str, Any]) -> None:
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.submission.importing import import_results

    out, credit = given["out"], credits_of(given)
    benchset = ContestantSet.open(given["benchset"])
    import_results(words[0], benchset, given["import_"], out, _tool_options(given), credit, progress)
    say(f"now complete {out / 'submission.toml'}: authors, license, training data, sampler, cost")
    finish(out, benchset.public.set_fingerprint, f"check {out} --set {given['benchset']}")


def _restore_images(words: tuple[str, ...], given: Mapping[str, Any]) -> None:
    from palette_bench.core.errors import UsageError
    from palette_bench.submission.methods import load_image_restorer
    from palette_bench.submission.training_runs import method_of, trained_models
    from palette_bench.submission.user_images import RestoreRequest, jobs, restore_images

    source, out = map(Path, words)
    asked = ("task", "mask", "extend", "times", "quality", "size_policy", "invert_mask", "large_hole")
    request = RestoreRequest(*(given[name] for name in asked))
    found = jobs(source, out, request)  # reports problems of the images before a model is loaded
    if given["run"] is None:
        raise UsageError(
            "your own images need --run RUN, weights that `palette-bench train` made"
            + "".join(f", or --run {name}" for name in trained_models())
        )
    restorer = load_image_restorer(method_of(given["run"]), _options(given))
    restore_images(restorer, found, request, out if source.is_dir() else None, progress)
    finish(found[0].target if len(found) == 1 else out)


_FORM_OF: dict[str, Callable[[tuple[str, ...], Mapping[str, Any]], None]] = {
    "set": _restore_set,
    "export": _export,
    "import": _import,
    "images": _restore_images,
}


def _options(given: Mapping[str, Any]) -> RestoreOptions:
    from palette_bench.core.processes import own_device
    from palette_bench.submission.methods import RestoreOptions

    names = ("run", "seed", "sampler", "steps", "fast", "noise", "pipeline")
    return RestoreOptions(device=own_device(given["device"]), **{name: given[name] for name in names})


def _tool_options(given: Mapping[str, Any]) -> ToolOptions:
    from palette_bench.submission.methods import ToolOptions

    return ToolOptions(given["hole_value"], given["template"], given["tool_size"], given["accept_lossy"])
