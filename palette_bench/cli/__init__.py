"""Command line interface: the main command, its exit codes, and one module per verb."""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import signal
import sys
import tempfile
import traceback
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any

import click

from palette_bench.core.errors import (
    MethodError,
    PaletteBenchError,
    StackError,
    StorageError,
    problem,
    suggest,
)
from palette_bench.core.processes import Interrupted, end_on_requeue

# verb -> one-line help; the command is `command` in the module palette_bench.cli.VERB, for `import` import_
VERBS: dict[str, str] = {
    "generate": "Make benchmark sets from a folder of images.",
    "verify": "Recompute a set and name every changed, missing or foreign file.",
    "export": "Write sets as a dataset that other libraries and hubs read.",
    "import": "Make sets from a dataset that export wrote.",
    "train": "Train a method on images of yours; run again to resume.",
    "restore": "Run a method on a set: its outputs become a submission.",
    "evaluate": "Check, score, report and rank a folder of outputs, in one command.",
    "check": "Check a submission against its set; list every problem at once.",
    "score": "Score a submission into a scorecard.",
    "card": "Extend a scorecard, or export it for another program.",
    "status": "Say how far a run is, over all its shards.",
    "report": "Write a scorecard as an HTML page, or compare two.",
    "board": "Collect scorecards and build the leaderboard site.",
    "study": "Measure the fool rate: design, run and analyse a human study.",
    "weights": "List, fetch or verify network weights.",
    "ls": "List protocols, tasks, metrics, extractors, baselines or recipes.",
    "show": "Print any record file in short, or a recipe to copy.",
    "doctor": "Say whether this machine can be trusted to generate and score.",
    "demo": "Run the whole chain on bundled photographs, offline.",
}

_HEAVY = {"torch", "torchvision", "timm", "torch_fidelity"}  # packages of the extras, not of the base


class LazyGroup(click.Group):
    """Command group that imports the module of a verb only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a typical workflow."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return its command; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command = import_module(f"palette_bench.cli.{module}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the verbs from `VERBS`, because click's own method would import all modules."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Add a suggestion to click's message about an unknown verb."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}: {suggest(args[0], VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-v", "--verbose", is_flag=True, help="Say more of what is done.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.version_option(package_name="palette-bench")
@click.pass_context
def main(ctx: click.Context, verbose: bool, quiet: bool) -> None:
    """Generate, score and publish benchmarks of image-to-image models, as Palette proposed them."""
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("palette_bench").setLevel(level)
    ctx.obj = {"quiet": quiet}
    try:
        os.getcwd()
    except FileNotFoundError:
        fix = "cd to a folder that exists"
        raise StorageError(problem("PB801", "the working folder", found="it was deleted", fix=fix)) from None
    # By default, waiting threads of torch spin and take processor time from the threads they wait for: with
    # one other busy process on two cores, training took 2.5 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run() -> None:
    """Run the command line and end the process with the exit code of `exit_code`."""
    # After a shell's `>&-`, or in a service without outputs, Python has no such stream, so messages are lost.
    # The descriptor must still be occupied: otherwise the next opened file would get its number, and with
    # it stray messages.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed on any terminal
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    words = io.BufferedWriter(_Words(2, "wb", closefd=False))
    sys.stderr = io.TextIOWrapper(words, encoding, errors="backslashreplace", line_buffering=True)
    end_on_requeue()
    sys.exit(exit_code())


class _Words(io.FileIO):
    """Raw stderr that ignores failed writes, so that a run continues after its reader has gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def exit_code(command: click.Command = main) -> int:
    """Run a command and return its exit code: 0, 2-6, 75, 130, 141 or 143."""
    try:
        code = command(standalone_mode=False)  # without standalone mode, this is the argument of ctx.exit()
        sys.stdout.flush()  # flushed here, where the failure on a full disk is still caught
    except click.ClickException as error:
        error.show()
        if "unexpected extra argument" in error.message:
            click.echo(
                "a pattern such as DIR/*.png becomes many arguments: give the folder DIR itself", err=True
            )
        return error.exit_code
    except click.Abort:
        return 130
    except Interrupted as error:
        click.echo(f"stopped by {error}; run the same command again to continue", err=True)
        return error.exit_code
    except PaletteBenchError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except OSError as error:
        return _output_lost(error) if error.filename is None else _crashed(error)
    except SystemExit as error:  # raised by a plug-in, or by click if nobody reads the output
        return _output_lost(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _HEAVY:
            return _crashed(error)
        extra = "train" if {"train", "restore"} & set(sys.argv) else "score"
        fix = f"pip install 'palette-bench[{extra}]'"
        click.echo(str(StackError(problem("PB711", package, fix=fix))), err=True)
        return StackError.exit_code
    except Exception as error:
        return _crashed(error)
    return code if isinstance(code, int) else 0


def _output_lost(error: OSError | SystemExit) -> int:
    """Return the exit code for a failed write to stdout; treat other errors as a crash.

    If the reader has gone, as with `| head`, the code is 141, which shells show for SIGPIPE. If the disk is
    full, it is that of StorageError.
    """
    poll = select.poll()
    poll.register(1, 0)
    unread = any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    if not (unread or full):
        return _crashed(error)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit does not fail again
    if unread:
        return 128 + signal.SIGPIPE
    click.echo(f"cannot write to the standard output: {os.strerror(getattr(error, 'errno', 0))}", err=True)
    return StorageError.exit_code


def _crashed(error: BaseException) -> int:
    """Write a crash file, print whether a plug-in's code or our own crashed, and return the exit code."""
    from palette_bench.core import atomic

    text = f"{' '.join(sys.argv)}\n{sys.version}\n\n{traceback.format_exc()}"
    try:
        path = Path(tempfile.mkdtemp(prefix="palette-bench-")) / "crash.txt"
        atomic.write_text(path, text)
        crash_file = str(path)
    except (OSError, StorageError):  # the temporary folder is missing or full: print the traceback instead
        crash_file = f"\n{text}"
    from palette_bench.submission.methods import baselines
    from palette_bench.submission.plugins import failure_of_plugin

    modules = {point.module.split(".")[0] for point in baselines().values()}
    if found := failure_of_plugin(error, modules, crash_file):
        click.echo(str(found), err=True)
        return MethodError.exit_code
    click.echo(f"internal error; details in {crash_file}", err=True)
    return 6
