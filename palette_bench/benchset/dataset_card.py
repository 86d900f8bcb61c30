"""What an exported dataset says of itself: README.md, eval.yaml, CITATION.cff and LICENSE.md.

YAML values are written as JSON, which YAML 1.2 contains. Source: Citation File Format 1.2.0, and the Hugging
Face hub on dataset cards and eval.yaml.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from palette_bench.benchset.manifest import Manifest, PublicSet
from palette_bench.tasks.protocol import ImageNetSource, PhotoSource, PlacesSource, ProtocolSpec

VERSION = "1.0.0"
SPLIT = "test"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
KIND_WORDS = {
    "input": "the degraded image, which a method is given",
    "mask": "the hole: 255 where pixels are to be produced, 0 elsewhere",
    "reference": "the original",
}


@dataclass(frozen=True)
class DataFile:
    """A file of the dataset: POSIX name relative to its folder, bytes, SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Configuration:
    """A set in a dataset.

    Attributes:
        name: of the set in the dataset, TASK.VARIANT or TASK.
        record: its record, a manifest if the originals are in the dataset.
        kinds: kinds of images, of input, mask, reference.
        record_file: where the record lies.
        files: files of its images, or for a folder of images, of their table.
    """

    name: str
    record: Manifest | PublicSet
    kinds: tuple[str, ...]
    record_file: DataFile
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class Dataset:
    """What the descriptions of a dataset say.

    Attributes:
        name: for people.
        protocol: of all its sets.
        source: id of the source of all its sets.
        source_title: of the source, for people.
        container: how the images are stored; None if there are none.
        license: SPDX identifier.
        authors: who publishes it.
        by_people: whether the authors are people, not a program.
        url: its address; may be empty.
        date: of publication, YYYY-MM-DD.
        synthetic: whether the source images are computer-made.
        configurations: its sets.
    """

    name: str
    protocol: ProtocolSpec
    source: str
    source_title: str
    container: str | None
    license: str
    authors: tuple[str, ...]
    by_people: bool
    url: str
    date: str
    synthetic: bool
    configurations: tuple[Configuration, ...] = ()

    @property
    def n(self) -> int:
        """Return the number of images of all sets."""
        return sum(len(one.record.items) for one in self.configurations)

    @property
    def summary(self) -> str:
        """Return one sentence on what the dataset is."""
        side, rules = self.protocol.side, self.protocol.id
        parts = "and originals" if "reference" in self.configurations[0].kinds else "without originals"
        what = f"Inputs and masks {parts}" if self.container else "Digests, no images,"
        return (
            f"{what} of {len(self.configurations)} benchmark sets for image-to-image models: "
            f"{self.source_title}, {side} x {side} pixels, degraded by the protocol {rules} of palette-bench."
        )

    @property
    def license_url(self) -> str:
        """Return the address of the license's text."""
        return f"https://spdx.org/licenses/{self.license}"


def texts(dataset: Dataset) -> dict[str, str]:
    """Return the descriptions of a dataset but Croissant's, by file name."""
    return {
        "README.md": _readme(dataset),
        "eval.yaml": _eval(dataset),
        "CITATION.cff": _citation(dataset),
        "LICENSE.md": _license(dataset),
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _readme(dataset: Dataset) -> str:
    """Return the dataset card; its YAML tells `datasets` the files of each configuration."""
    configs = "configs:\n" if dataset.container else ""
    for one in dataset.configurations if dataset.container else ():
        place = {
            "parquet": f"data/{one.name}.parquet",
            "folder": f"{one.name}/**",
            "webdataset": f"data/{one.name}-*.tar",
        }[dataset.container or ""]
        files = f"  data_files:\n  - split: {SPLIT}\n    path: {_quoted(place)}\n"
        configs += f"- config_name: {one.name}\n{files}"
    rows = ""
    for one in dataset.configurations:
        images, kinds = f"{len(one.record.items):,}", ", ".join(one.kinds)
        rows += f"| {one.name} | {images} | {kinds} | `{one.record.set_fingerprint}` |\n"
    present = {kind for one in dataset.configurations for kind in one.kinds}
    columns = "".join(f"- `{kind}`: {words}\n" for kind, words in KIND_WORDS.items() if kind in present)
    rai = "".join(f"- **{title}.** {text}\n" for title, text in responsible(dataset).items())
    size = next((words for limit, words in _SIZES if dataset.n < limit), "n>1M")
    return f"""\
---
pretty_name: {_quoted(dataset.name)}
license: {dataset.license.lower()}
task_categories:
- image-to-image
size_categories:
- {size}
tags:
- benchmark
- palette-bench
{configs}---

# {dataset.name}

{dataset.summary}

| configuration | images | kinds | set fingerprint |
|---|---|---|---|
{rows}
{columns}
`palette-bench import DIR -o SET` makes the sets again. It compares every image with the digest in `records/`,
and the fingerprint says that they are the sets above.

{rai}
License: {dataset.license}, see LICENSE.md. Citation: CITATION.cff.
"""


def responsible(dataset: Dataset) -> dict[str, str]:
    """Return what a user must know before using the dataset, by title, as Croissant RAI asks for it."""
    side, title = dataset.protocol.side, dataset.source_title
    spec = dataset.protocol.sources.get(dataset.source)
    biases = f"Those of the source images ({title}), which palette-bench did not examine."
    personal = f"The images are those of the source ({title}); whether they show people was not examined."
    if isinstance(spec, PhotoSource):
        biases = f"All images are windows of {len(spec.photos)} photographs, chosen for their license."
        personal = "None is known."
        if "astronaut" in spec.photos:
            personal = "One photograph is NASA's public portrait of an astronaut, and one shows a retina."
    elif isinstance(spec, ImageNetSource | PlacesSource):
        personal = "The source images were collected from the web and show people without their consent."
    return {
        "Limitations": f"For evaluation at {side} x {side} pixels only. Degradations are computed, not "
        "photographed, and scores hold for these images and this protocol.",
        "Biases": biases,
        "Personal and sensitive information": personal,
        "Uses": "Comparing image-to-image models by the protocol's metrics. Training on these images makes "
        "scores on them worthless.",
        "Social impact": "Models that complete or restore images can falsify what a photograph shows; a "
        "benchmark helps to compare them and does not prevent misuse.",
        "Synthetic data": "The source images are computer-made."
        if dataset.synthetic
        else "None: the source images are photographs as their source gives them.",
    }


def origin(dataset: Dataset) -> str:
    """Return the address of the source images, or a name for a folder of one's own."""
    spec = dataset.protocol.sources.get(dataset.source)
    known = {
        "photos": "https://github.com/scikit-image/scikit-image",
        "imagenet-ctest10k": "https://www.image-net.org/",
        "places": "http://places2.csail.mit.edu/",
    }
    return known[spec.kind] if spec else f"urn:palette-bench:{dataset.source}"


def _eval(dataset: Dataset) -> str:
    """Return the hub's declaration of a benchmark: one task per configuration."""
    head = f"name: {_quoted(dataset.name)}\ndescription: {_quoted(dataset.summary)}\n"
    tasks = "".join(
        f"- id: {one.name.replace('.', '_')}\n  config: {one.name}\n  split: {SPLIT}\n"
        for one in dataset.configurations
    )
    return f"{head}evaluation_framework: palette-bench\ntasks:\n{tasks}"


def _citation(dataset: Dataset) -> str:
    authors = "".join(f"- name: {_quoted(name)}\n" for name in dataset.authors)
    url = f"url: {_quoted(dataset.url)}\n" if dataset.url else ""
    return f"""\
cff-version: 1.2.0
message: If you use this dataset, please cite it, and the paper whose protocol it follows.
type: dataset
title: {_quoted(dataset.name)}
authors:
{authors}license: {dataset.license}
version: {VERSION}
date-released: {dataset.date}
{url}references:
- type: conference-paper
  title: "Palette: Image-to-Image Diffusion Models"
  authors:
  - {{family-names: Saharia, given-names: Chitwan}}
  - {{family-names: Chan, given-names: William}}
  - {{family-names: Chang, given-names: Huiwen}}
  - {{family-names: Lee, given-names: Chris A.}}
  - {{family-names: Ho, given-names: Jonathan}}
  - {{family-names: Salimans, given-names: Tim}}
  - {{family-names: Fleet, given-names: David J.}}
  - {{family-names: Norouzi, given-names: Mohammad}}
  year: 2022
  url: https://arxiv.org/abs/2111.05826
"""


def _license(dataset: Dataset) -> str:
    return f"""\
# License

{dataset.name} is under {dataset.license}: {dataset.license_url}

Its images derive from {dataset.source_title} ({origin(dataset)}). Published by {", ".join(dataset.authors)}.
"""
