"""The reference model: Palette, conditional diffusion for image-to-image translation."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import PictureRestorer, RestoreOptions, TrainOptions


class Palette:
    """The contestant; torch is imported when something is trained or restored."""

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the recipes in the folder `recipes`."""
        found = [
            file for file in files(__package__).joinpath("recipes").iterdir() if file.name.endswith(".toml")
        ]
        return {file.name.removesuffix(".toml"): file.read_text() for file in sorted(found, key=str)}

    def train(self, options: TrainOptions, progress: Progress = SILENT) -> None:
        """Train, or resume, into `options.run`."""
        from ..training.loop import train  # noqa: PLC0415  # torch loads when it is needed
        from .train import PaletteMethod  # noqa: PLC0415

        train(PaletteMethod(self.recipes()), options, progress)

    def restorer(self, options: RestoreOptions) -> PictureRestorer:
        """Return the model of `options.run`, ready."""
        from .restore import open_model  # noqa: PLC0415  # torch loads when it is needed

        return open_model(options)


baseline = Palette()
