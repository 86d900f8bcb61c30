"""`palette-bench weights`: lists, fetches and verifies the weights of feature extractors."""

from __future__ import annotations

import click

from palette_bench.cli import terminal
from palette_bench.core.errors import WeightsError


@click.group("weights", short_help="List, fetch or verify network weights.")
def command() -> None:
    """List, fetch or verify network weights.

    They lie in the folder PALETTE_BENCH_WEIGHTS names, or in torch's own cache. `fetch` is the only verb of
    palette-bench that opens a connection.
    """


@command.command("list")
def list_weights() -> None:
    """List the pinned weights: extractor, file, size, licence, and where it lies here.

    \b
    palette-bench weights list
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.scoring.features.weights import find, pinned

    for name, row in pinned().items():
        try:
            place = str(find(name, row)[0])
        except WeightsError:
            place = "absent"
        click.echo(f"{name}  {row.files[0]}  {row.size}  sha256 {row.sha256}  {row.licence}  {place}")


@command.command()
@click.argument("extractors", metavar="ID...", nargs=-1, required=True)
def fetch(extractors: tuple[str, ...]) -> None:
    """Download the weights of extractors, prove their digests and keep them.

    \b
    palette-bench weights fetch resnet50-v1    # needs the network
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.scoring.features.weights import fetch as fetch_file
    from palette_bench.scoring.features.weights import pinned_file

    rows = {name: pinned_file(name) for name in extractors}
    for name, row in rows.items():
        path = fetch_file(name, row, terminal.progress)
        terminal.finish(path, row.sha256, f"weights verify {name}")


@command.command()
@click.argument("extractors", metavar="[ID...]", nargs=-1)
def verify(extractors: tuple[str, ...]) -> None:
    """Prove that the weights of extractors (default: all) are there and are the pinned bytes and tensors.

    \b
    palette-bench weights verify resnet50-v1    # needs the network
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.runtime.tensors import verify_tensors
    from palette_bench.scoring.features.weights import find, pinned, pinned_file

    faults = []
    for name in extractors or pinned():
        row = pinned_file(name)
        try:
            path, data = find(name, row)
            digest = verify_tensors(data, row.tensors, name)
            click.echo(f"{name}  ok  {path}  tensors {digest}")
        except WeightsError as error:
            faults.append(error)
    if faults:
        raise WeightsError(*map(str, faults))
