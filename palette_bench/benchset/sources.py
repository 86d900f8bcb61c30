"""Sources: the images that a set is made of. All problems are found before anything is written.

Source: protocol, section 3.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from palette_bench.benchset import splits
from palette_bench.benchset.folders import folder_images, listed, subset
from palette_bench.benchset.images import ImageLocation, SourceImage, find_images, no_images, photo_path
from palette_bench.benchset.manifest import Selection, SelectionRule
from palette_bench.core.errors import Problem, SourceError, UsageError, problem, suggest
from palette_bench.core.fingerprint import lines_digest, sha256
from palette_bench.core.processes import in_threads
from palette_bench.core.records import read_file
from palette_bench.core.rng import Stream, stream_key
from palette_bench.core.types import SILENT, Fingerprint, Progress
from palette_bench.tasks.preprocess import DecodeError, decode, image_size
from palette_bench.tasks.protocol import ImageNetSource, PhotoSource, PlacesSource, ProtocolSpec, Window

FOLDER = "folder:"
SMALLEST_SIDE = 64
_FOLDER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LABEL_FILES = (
    "val_labels.txt",
    "val.txt",
    "LOC_val_solution.csv",
    "ILSVRC2012_validation_ground_truth.txt",
)


@dataclass(frozen=True)
class Source:
    """The chosen images of a source, sorted by id.

    Attributes:
        id: id of the source.
        images: the chosen images.
        registered: whether a digest pins each image.
        ignored: number of images that were not chosen.
        rule: how the images were chosen.
        limit: requested number of images, or None.
    """

    id: str
    images: tuple[SourceImage, ...]
    registered: bool = False
    ignored: int = 0
    rule: SelectionRule = "split"
    limit: int | None = None

    @property
    def state(self) -> str:
        """Return "registered" if a digest pins each image, else "unregistered"."""
        return "registered" if self.registered else "unregistered"

    @property
    def split_sha256(self) -> Fingerprint:
        """Return the digest of the sorted ids."""
        return lines_digest(image.id for image in self.images)

    @property
    def selection(self) -> Selection:
        """Return the record of how the images were chosen."""
        return Selection(rule=self.rule, candidates=len(self.images) + self.ignored, limit=self.limit)


@dataclass(frozen=True)
class Request:
    """A request for a source.

    Attributes:
        id: id of the source; if empty, the first source of the task.
        images: folder or tar of the images.
        labels: file of the labels.
        limit: number of images to take of a folder or of bundled photographs; None for all.
        allow_unknown: accept images that are not the listed ones.
        ids: text file that names the images to take of a folder; None for all.
    """

    id: str = ""
    images: Path | None = None
    labels: Path | None = None
    limit: int | None = None
    allow_unknown: bool = False
    ids: Path | None = None

    def __post_init__(self) -> None:
        """Convert paths that are given as text."""
        for name in ("images", "labels", "ids"):
            if isinstance(given := getattr(self, name), str):
                object.__setattr__(self, name, Path(given))


def open_source(protocol: ProtocolSpec, request: Request, progress: Progress = SILENT) -> Source:
    """Return a source after verifying that all its images are present, well named and readable.

    Raises:
        SourceError: PB2xx, PB309, PB607, lists all problems; PB609, the source is unknown.
        UsageError: an option does not fit the source.
    """
    if request.id.startswith(FOLDER):
        return _checked(_folder(protocol, request), progress)
    spec = protocol.sources.get(request.id)
    if request.ids is not None:
        raise UsageError("--ids is for folder sources; the others are fixed lists")
    if isinstance(spec, PhotoSource):
        return _photos(protocol, request, spec)
    if request.limit is not None:
        raise UsageError("--limit is for folders and bundled photographs; the others are fixed lists")
    if isinstance(spec, ImageNetSource):
        return _checked(_imagenet(protocol, request, spec), progress, request)
    if isinstance(spec, PlacesSource):
        return _checked(_places(request, spec), progress, request)
    expected = f"a source of {protocol.id}, or folder:NAME"
    fix = suggest(request.id, protocol.sources)
    raise SourceError.of("PB609", "source", expected=expected, found=request.id, fix=fix)


def _needed(request: Request) -> Path:
    if request.images is None:
        raise UsageError(f"source {request.id} needs --images DIR")
    if not request.images.exists():
        raise no_images(request.images)
    return request.images


# --- folders ----------------------------------------------------------------------------------


def _folder(protocol: ProtocolSpec, request: Request) -> Source:
    if not _FOLDER_NAME.fullmatch(request.id.removeprefix(FOLDER)):
        raise UsageError(f"{request.id}: the name after folder: must match {_FOLDER_NAME.pattern}")
    if request.limit is not None and request.ids is not None:
        raise UsageError("--limit and --ids both choose images: give only one of them")
    every = folder_images(protocol, _needed(request), request.labels)
    rule: SelectionRule = "all"
    chosen = every
    if request.ids is not None:
        rule, chosen = "ids", listed(every, request.ids)
    elif request.limit is not None:
        rule, chosen = "subset-v1", subset(every, request.limit)
    images, ignored = sorted(chosen, key=lambda p: p.id), len(every) - len(chosen)
    return Source(request.id, tuple(images), ignored=ignored, rule=rule, limit=request.limit)


# --- published editions -----------------------------------------------------------------------


def _imagenet(protocol: ProtocolSpec, request: Request, spec: ImageNetSource) -> Source:
    places = find_images(
        _needed(request), "ILSVRC2012_img_val.tar", lambda name: splits.imagenet_number(name) is not None
    )
    dropped = [int(text) for text in protocol.list_file(spec.dropped).split()]
    chosen = splits.ctest10k(_imagenet_labels(request, places), spec, dropped)
    wanted: dict[str, int | None] = {splits.imagenet_id(number): label for number, label in chosen.items()}
    return _select(request.id, places, wanted)


def _imagenet_labels(request: Request, places: list[ImageLocation]) -> dict[int, int]:
    """Return number -> label from --labels, else from class folders, else from a label file nearby."""
    if request.labels:
        return splits.read_imagenet_labels(request.labels)
    folders = {place.name: PurePosixPath(place.name).parent.name for place in places}
    if all(splits.is_wnid(folder) for folder in folders.values()):
        return splits.labels_of_wnids(folders)
    images = _needed(request)
    for folder in (images, images.parent):
        for name in _LABEL_FILES:
            if (folder / name).is_file():
                return splits.read_imagenet_labels(folder / name)
    expected = f"class folders, or one of {', '.join(_LABEL_FILES)}"
    fix = "give the labels with --labels FILE"
    raise SourceError.of("PB607", str(images), expected=expected, found="images without labels", fix=fix)


def _places(request: Request, spec: PlacesSource) -> Source:
    images = _needed(request)
    lists = [request.labels, images / "places365_val.txt", images.parent / "places365_val.txt"]
    found = next((path for path in lists if path and path.is_file()), None)
    if found is None:
        raise SourceError.of(
            "PB607", str(images), expected="places365_val.txt", found="no list", fix="give it with --labels"
        )
    # The labels serve only to choose the split. The items get none, because no network used here has these
    # classes.
    chosen: dict[str, int | None] = {PurePosixPath(name).stem: None for name in splits.places10k(found, spec)}
    return _select(request.id, find_images(images, "val_large.tar", lambda name: True), chosen)


def _select(source_id: str, places: list[ImageLocation], wanted: dict[str, int | None]) -> Source:
    """Return the source that consists of the wanted images; `wanted` maps ids to labels.

    Raises:
        SourceError: PB201, images are missing; PB203, several files have the same id. Lists all of them.
    """
    by_id: dict[str, list[ImageLocation]] = defaultdict(list)
    for place in places:
        by_id[PurePosixPath(place.name).stem].append(place)
    missing = sorted(image_id for image_id in wanted if image_id not in by_id)
    double = sorted(image_id for image_id in wanted if len(by_id.get(image_id, ())) > 1)
    problems = []
    if missing:
        problems.append(problem("PB201", source_id, fix="complete the copy of the images", ids=missing))
    if double:
        problems.append(problem("PB203", source_id, fix="keep one file of each", ids=double))
    if problems:
        raise SourceError(*problems)
    images = tuple(SourceImage(i, label, by_id[i][0]) for i, label in sorted(wanted.items()))
    return Source(source_id, images, ignored=len(places) - len(images))


# --- bundled photographs ----------------------------------------------------------------------


def _photos(protocol: ProtocolSpec, request: Request, spec: PhotoSource) -> Source:
    places = {name: ImageLocation(photo.file, photo_path(photo.file)) for name, photo in spec.photos.items()}
    data = {name: read_file(place.file) for name, place in places.items()}
    wrong = sorted(n for n, photo in spec.photos.items() if sha256(data[n])[:16] != photo.sha256)
    if wrong and not request.allow_unknown:
        raise SourceError.of(
            "PB607", "scikit-image's photographs", fix="pip install -U scikit-image", ids=wrong
        )
    windows = spec.windows or drawn_windows(protocol, request.id, spec, data)
    every = [SourceImage(image_id, None, places[w.photo], w) for image_id, w in sorted(windows.items())]
    if request.limit is None or request.limit >= len(every):
        return Source(request.id, tuple(every), registered=not wrong)
    chosen, ignored = subset(every, request.limit), len(every) - request.limit
    images = tuple(sorted(chosen, key=lambda p: p.id))
    return Source(request.id, images, ignored=ignored, rule="subset-v1", limit=request.limit)


def drawn_windows(
    protocol: ProtocolSpec, source_id: str, spec: PhotoSource, data: dict[str, bytes]
) -> dict[str, Window]:
    """Return id -> randomly drawn square window of a photograph, in drawing order.

    Source: protocol, section 12, photos-64.
    """
    names = sorted(spec.photos)
    sizes = {name: image_size(data[name]) for name in names}
    windows = {}
    for j in range(spec.drawn):
        stream = Stream(stream_key(protocol.stream, "windows", "default", source_id, f"{j:03d}", "window"))
        photo = names[stream.below(len(names))]
        height, width = sizes[photo]
        side = spec.smallest + stream.below(min(height, width) - (spec.smallest - 1))
        top = stream.below(height - side + 1)
        left = stream.below(width - side + 1)
        windows[f"{photo}-{j:03d}"] = Window(photo=photo, top=top, left=left, height=side, width=side)
    return windows


# --- checks -----------------------------------------------------------------------------------


def _checked(source: Source, progress: Progress, request: Request | None = None) -> Source:
    """Return the source after decoding every image.

    Args:
        source: the source.
        progress: callback that reports each image.
        request: the request for a published edition, to detect a resized copy; None for a folder.

    Raises:
        SourceError: PB309, images are unreadable or too small; PB607, a published edition was resized.
    """
    sizes: dict[str, tuple[int, int]] = {}
    broken: dict[str, str] = {}

    def proven(image: SourceImage) -> tuple[int, int] | str:
        try:
            height, width, _ = decode(image.place.read()).shape
            return height, width
        except (DecodeError, OSError) as error:
            return str(error)

    with progress("checking images", len(source.images)) as advance:
        for image, found in zip(source.images, in_threads(proven, source.images), strict=True):
            if isinstance(found, str):
                broken[image.place.name] = found
            else:
                sizes[image.id] = found
            advance(1)
    problems = unreadable(source.id, broken)
    small = sorted(i for i, size in sizes.items() if min(size) < SMALLEST_SIDE)
    if small:
        problems.append(
            problem("PB309", source.id, expected=f"sides of at least {SMALLEST_SIDE} pixels", ids=small)
        )
    # Published editions have images of many sizes; a single size means that the copy was resized.
    resized = request is not None and len(sizes) > 1 and len(set(sizes.values())) == 1
    if resized and request and not request.allow_unknown:
        height, width = next(iter(sizes.values()))
        expected = "images of many sizes, as published"
        same = f"every image is {width} x {height}: a resized copy"
        fix = "use the original edition; --allow-unknown-source makes a set that no board compares"
        problems.append(problem("PB607", source.id, expected=expected, found=same, fix=fix))
    if problems:
        raise SourceError(*problems)
    return source


def unreadable(source_id: str, broken: dict[str, str]) -> list[Problem]:
    """Return one PB309 per reason, with the names of its files; `broken` maps names to reasons."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name in sorted(broken):
        by_reason[broken[name]].append(name)
    return [
        problem("PB309", source_id, found=why, fix="replace or remove these files", ids=names)
        for why, names in sorted(by_reason.items())
    ]


def file_sha256(path: Path) -> Fingerprint:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
