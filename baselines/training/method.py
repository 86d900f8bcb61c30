"""Trained methods as baselines found by name; torch is imported only to train or restore."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.methods import ImageRestorer, RestoreOptions, TrainOptions

if TYPE_CHECKING:
    from .objective import TrainedMethod


class PackagedMethod:
    """A `Trainable` implemented by a package, whose folder `recipes` holds its recipes.

    Args:
        package: name of the package.
        training: module of the package with `method(recipes)`.
        restoring: module of the package with `open_model(options)`.
    """

    def __init__(self, package: str, training: str, restoring: str) -> None:
        self._package = package
        self._training = training
        self._restoring = restoring

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the files in the folder `recipes`."""
        from .recipe import inherited  # noqa: PLC0415  # pydantic loads when it is needed

        folder = files(self._package).joinpath("recipes")
        found = [file for file in folder.iterdir() if file.name.endswith(".toml")]
        texts = {file.name.removesuffix(".toml"): file.read_text() for file in sorted(found, key=str)}
        return {name: inherited(text, texts, name) for name, text in texts.items()}

    def recipe(self, name: str) -> str:
        """Return a recipe as TOML with every key, defaults included."""
        from .recipe import read_recipe, spelled_out  # noqa: PLC0415  # lists of names do not need it

        text = self.recipes()[name]
        # the first line of the file is a comment on the recipe, which parsing would lose
        remark = text.partition("\n")[0]
        return f"{remark}\n{spelled_out(read_recipe(self.method().recipe_model, text, name))}"

    def method(self) -> TrainedMethod:
        """Return the method's recipes, networks and losses, as the training loop needs them."""
        method: TrainedMethod = import_module(f"{self._package}.{self._training}").method(self.recipes())
        return method

    def train(self, options: TrainOptions, progress: Progress = SILENT) -> None:
        """Train the method into `options.run`, or resume the run there."""
        from .train import train  # noqa: PLC0415  # torch loads when it is needed

        train(self.method(), options, progress)

    def restorer(self, options: RestoreOptions) -> ImageRestorer:
        """Return the model of `options.run`, ready to restore."""
        from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # torch, as above

        with reproducible_arithmetic(deterministic=not options.fast):
            model: ImageRestorer = import_module(f"{self._package}.{self._restoring}").open_model(options)
        return model
