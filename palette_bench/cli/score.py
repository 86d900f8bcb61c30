"""`palette-bench score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli import terminal

if TYPE_CHECKING:
    from palette_bench.scoring.scorecard import Scorecard


class WeightsType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """`ID=PATH`: where an extractor's weights lie."""

    name = "ID=PATH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return id and path."""
        extractor, _, path = str(value).partition("=")
        if not (extractor and path):
            self.fail(f"{value!r} is not ID=PATH, e.g. resnet50-v1=resnet50-0676ba61.pth", param, ctx)
        return extractor, path


@click.command("score", short_help="Score a submission into a scorecard.")
@click.argument("submission", metavar="SUB", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "benchset",
    metavar="SET",
    required=True,
    type=click.Path(path_type=Path),
    help="The set it answers.",
)
@click.option(
    "-o",
    "--out",
    metavar="CARD.json",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The card to write; its per-image table lies beside it.",
)
@click.option(
    "--extractor",
    "extractors",
    metavar="ID",
    multiple=True,
    help="Network to use: inception-v3-fid, resnet50-v1, smoke-random or timm:MODEL; repeat for more. "
    "Each metric takes the first that fits.  [default: the protocol's]",
)
@click.option(
    "--weights",
    type=WeightsType(),
    multiple=True,
    help="File of a network's weights, or ID=random:SEED to try the machinery; repeat for more.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--fresh", is_flag=True, help="Compute features anew even if they are cached.")
def command(
    submission: Path,
    benchset: Path,
    out: Path,
    extractors: tuple[str, ...],
    weights: tuple[tuple[str, str], ...],
    device: str,
    fresh: bool,
) -> None:
    """Score a submission into a scorecard.

    The submission is checked first: any error stops before a number is computed. Nothing is downloaded;
    `palette-bench weights fetch` does that.
    """
    from palette_bench.scoring.run import score

    card = score(
        submission,
        benchset,
        out,
        extractors=extractors,
        weights=dict(weights),
        device=device,
        fresh=fresh,
        progress=terminal.progress,
    )
    terminal.show_problems(p for p in card.problems if p.severity == "warning")
    terminal.say(*_lines(card))
    terminal.finish(out, card.content_sha256, f"report {out} -o report.html")


def _lines(card: Scorecard) -> list[str]:
    """Return the scores as aligned lines: metric, value, interval, network, notes."""
    from palette_bench.board.words import interval_text, value_text

    rows = [
        (name, value_text(s), interval_text(s), s.extractor or "", ", ".join(s.notes))
        for name, s in card.scores.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
