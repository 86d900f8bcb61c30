"""The contenders of metrics_speed.py: what each does at each stage. One process runs one of them.

    python benchmarks/metrics_contenders.py STAGE CONTENDER FOLDER

It makes ready, says so, and then repeats its work once per line read from stdin, answering with a line of
JSON: CPU and wall seconds, growth of peak memory in MB, and the file that holds what it found.
"""

# ruff: noqa: PLC0415  # a contender imports its own package, so that an absent one fails alone

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.scoring.features import FID_NETWORK, open_extractor, weights
from palette_bench.scoring.features.weights import sha256

Run = Callable[[], Any]

WIDTH = 2048
REPLICATES = 150  # of a bootstrap


@dataclass(frozen=True)
class Work:
    """What all contenders share: images, weights, features, all below one folder."""

    folder: Path
    images: int
    batch: int
    threads: int
    device: str
    weights: str

    @classmethod
    def read(cls, folder: Path) -> Work:
        """Return the work whose options the parent wrote into a folder."""
        return cls(folder, **json.loads((folder / "options.json").read_text()))

    def pixels(self, count: int) -> torch.Tensor:
        """Return (count, 3, 256, 256) uint8 of the first images."""
        from PIL import Image

        files = sorted((self.folder / "outputs").iterdir())[:count]
        images = [np.asarray(Image.open(file)) for file in files]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    def features(self, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return two (n, 2048) tables, non-negative and correlated as pooled activations are."""
        return tuple(np.load(self.folder / f"features-{n}-{side}.npy") for side in "ab")  # type: ignore[return-value]

    def sides(self) -> tuple[str, str]:
        """Return the folders of outputs and originals."""
        return str(self.folder / "outputs"), str(self.folder / "originals")

    def accept_weights(self) -> str:
        """Return the path of the shared weights, after making ours take a random file as the pinned one."""
        data = Path(self.weights).read_bytes()
        row = weights.pinned()[FID_NETWORK]
        if sha256(data) != row.sha256:
            row = row.model_copy(update={"bytes": len(data), "sha256": sha256(data)})
            weights.pinned = lambda: {FID_NETWORK: row}  # type: ignore[assignment]
        return self.weights


def _their_inception(work: Work) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    module = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=work.weights
    )
    return module.to(work.device)


def _pytorch_fid(work: Work) -> Any:
    """Return pytorch-fid's package with its download replaced by the shared weights."""
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *a, **k: torch.load(work.weights, weights_only=True)
    return fid_score


# TF1 resize: 16 images to 299


def resize_ours(work: Work) -> Run:
    from palette_bench.scoring.features.preprocess import tf1

    pixels = work.pixels(work.batch).float().to(work.device)
    return lambda: tf1(pixels).cpu().numpy()


def resize_fidelity(work: Work) -> Run:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    pixels = work.pixels(work.batch).float().to(work.device)
    run = interpolate_bilinear_2d_like_tensorflow1x
    return lambda: run(pixels, size=(299, 299), align_corners=False).cpu().numpy()


def resize_clean_ours(work: Work) -> Run:
    from palette_bench.scoring.features.preprocess import clean

    pixels = work.pixels(work.batch).float().to(work.device)
    return lambda: clean(pixels).cpu().numpy()


def resize_clean(work: Work) -> Run:
    from cleanfid.resize import make_resizer

    resizer = make_resizer("PIL", False, "bicubic", (299, 299))
    images = list(work.pixels(work.batch).permute(0, 2, 3, 1).contiguous().numpy())
    return lambda: np.stack([resizer(p) for p in images]).transpose(0, 3, 1, 2)


# forward with resize: one batch


def forward_ours(work: Work) -> Run:
    pixels = work.pixels(work.batch)
    extractor = open_extractor(FID_NETWORK, work.accept_weights(), "center224", work.device)
    return lambda: extractor(pixels)["pool_3"]


def forward_fidelity(work: Work) -> Run:
    pixels, module = work.pixels(work.batch), _their_inception(work)
    return lambda: module(pixels.to(work.device))[0].cpu().numpy()


def forward_pytorch_fid(work: Work) -> Run:
    _pytorch_fid(work)
    from pytorch_fid.inception import InceptionV3

    pixels, module = work.pixels(work.batch).float() / 255, InceptionV3([3]).to(work.device).eval()
    return lambda: module(pixels.to(work.device))[0].flatten(1).cpu().numpy()


# Fréchet distance, from features and from their means and covariances


def frechet_ours(work: Work, n: int) -> Run:
    from palette_bench import frechet_distance

    one, two = work.features(n)
    return lambda: frechet_distance(one, two).value


def closing_ours(work: Work, n: int) -> Run:
    from palette_bench import frechet_distance

    one, two = (_moments(table) for table in work.features(n))
    return lambda: frechet_distance(_afresh(one), _afresh(two)).value


def _moments(table: NDArray[np.float32]) -> Any:
    from palette_bench.scoring.metrics.moments import Moments

    return Moments.of(table)


def _afresh(moments: Any) -> Any:
    """Return moments without the factor that the run before left in them."""
    return type(moments)(moments.n, moments.mean, moments.covariance)


def _statistics(table: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    return table.mean(axis=0), np.cov(table, rowvar=False)


def frechet_fidelity(work: Work, n: int) -> Run:
    from torch_fidelity.metric_fid import fid_features_to_statistics

    tables = [torch.from_numpy(table) for table in work.features(n)]
    return lambda: _close_fidelity(*map(fid_features_to_statistics, tables))


def closing_fidelity(work: Work, n: int) -> Run:
    from torch_fidelity.metric_fid import fid_features_to_statistics

    one, two = (fid_features_to_statistics(torch.from_numpy(table)) for table in work.features(n))
    return lambda: _close_fidelity(one, two)


def _close_fidelity(one: Any, two: Any) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    return float(fid_statistics_to_metric(one, two, verbose=False)["frechet_inception_distance"])


def frechet_pytorch_fid(work: Work, n: int) -> Run:
    close, tables = _pytorch_fid(work).calculate_frechet_distance, work.features(n)
    return lambda: close(*_statistics(tables[0]), *_statistics(tables[1]))


def closing_pytorch_fid(work: Work, n: int) -> Run:
    close, tables = _pytorch_fid(work).calculate_frechet_distance, work.features(n)
    given = (*_statistics(tables[0]), *_statistics(tables[1]))
    return lambda: close(*given)


def frechet_clean(work: Work, n: int) -> Run:
    from cleanfid.fid import frechet_distance as close

    tables = work.features(n)
    return lambda: close(*_statistics(tables[0]), *_statistics(tables[1]))


def closing_clean(work: Work, n: int) -> Run:
    from cleanfid.fid import frechet_distance as close

    tables = work.features(n)
    given = (*_statistics(tables[0]), *_statistics(tables[1]))
    return lambda: close(*given)


# interval of FID


def interval_ours(work: Work, n: int) -> Run:
    from palette_bench.scoring.metrics.moments import distance_influence

    one, two = work.features(n)
    moments, reference = _moments(one), _moments(two)

    def run() -> float:
        found = distance_influence(one, _afresh(moments), None, reference)
        assert found is not None
        return float(found.whole.std(ddof=1) / np.sqrt(n))

    return run


def interval_bootstrap(work: Work, n: int) -> Run:
    from palette_bench import frechet_distance

    one, two = work.features(n)
    reference, draw = _moments(two), np.random.default_rng(0)
    return lambda: frechet_distance(one[draw.integers(0, n, n)], reference).value


# end to end: folders of PNG to FID


def cold_ours(work: Work) -> Run:
    import palette_bench.scoring.features.inception  # noqa: F401  # imports are not timed, ours or theirs
    from palette_bench.scoring.compat import calculate_metrics

    path, gpu = work.accept_weights(), work.device == "cuda"
    return lambda: calculate_metrics(*work.sides(), fid=True, feature_extractor_weights_path=path, cuda=gpu)[
        "frechet_inception_distance"
    ]


def cached_ours(work: Work) -> Run:
    from palette_bench import frechet_distance
    from palette_bench.core.processes import in_threads
    from palette_bench.scoring.extraction import extract
    from palette_bench.scoring.features.cache import ArrayCache
    from palette_bench.scoring.folders import find_folder

    os.environ["PALETTE_BENCH_CACHE"] = str(work.folder / "cache")
    path = work.accept_weights()

    def features(folder: str) -> Any:
        images = find_folder(Path(folder), ["png"], deep=False)
        extractor = open_extractor(FID_NETWORK, path, "center224", work.device)
        decoded = in_threads(images.read, range(len(images)))
        return extract([extractor], decoded, len(images), lambda count: None)[0]

    outputs, originals = work.sides()
    ArrayCache("features").store("0" * 64, features(originals), {})

    def run() -> float | None:
        stored = ArrayCache("features").load("0" * 64)
        assert stored is not None
        return frechet_distance(features(outputs)["pool_3"], stored["pool_3"]).value

    return run


def _fidelity(work: Work, **options: Any) -> Run:
    from torch_fidelity import calculate_metrics

    one, two = work.sides()
    common = {"fid": True, "cuda": work.device == "cuda", "batch_size": work.batch, "verbose": False}
    common |= {"feature_extractor_weights_path": work.weights, "save_cpu_ram": True}
    return lambda: calculate_metrics(input1=one, input2=two, **common, **options)[
        "frechet_inception_distance"
    ]


def cold_fidelity(work: Work) -> Run:
    return _fidelity(work, cache=False)


def cached_fidelity(work: Work) -> Run:
    run = _fidelity(work, cache=True, cache_root=str(work.folder / "fidelity"), input2_cache_name="originals")
    run()  # fills its cache
    return run


def cold_pytorch_fid(work: Work) -> Run:
    package = _pytorch_fid(work)
    return lambda: package.calculate_fid_given_paths(work.sides(), work.batch, work.device, WIDTH, 0)


def cached_pytorch_fid(work: Work) -> Run:
    package, stored = _pytorch_fid(work), str(work.folder / "pytorch-fid.npz")
    package.save_fid_stats([work.sides()[1], stored], work.batch, work.device, WIDTH, 0)
    paths = (work.sides()[0], stored)
    return lambda: package.calculate_fid_given_paths(paths, work.batch, work.device, WIDTH, 0)


# the clean-fid network is a packed TorchScript file of its own, which the shared weights cannot fill
FIELD = {
    "TF1 resize": {"ours": resize_ours, "torch-fidelity": resize_fidelity},
    "clean resize": {"ours": resize_clean_ours, "clean-fid": resize_clean},
    "forward with resize": {
        "ours": forward_ours,
        "torch-fidelity": forward_fidelity,
        "pytorch-fid": forward_pytorch_fid,
    },
    "Frechet from features": {
        "ours": frechet_ours,
        "torch-fidelity": frechet_fidelity,
        "pytorch-fid": frechet_pytorch_fid,
        "clean-fid": frechet_clean,
    },
    "Frechet from moments": {
        "ours": closing_ours,
        "torch-fidelity": closing_fidelity,
        "pytorch-fid": closing_pytorch_fid,
        "clean-fid": closing_clean,
    },
    "FID interval": {"ours": interval_ours, "bootstrap": interval_bootstrap},
    "end to end, cold": {
        "ours": cold_ours,
        "torch-fidelity": cold_fidelity,
        "pytorch-fid": cold_pytorch_fid,
    },
    "end to end, reference cached": {
        "ours": cached_ours,
        "torch-fidelity": cached_fidelity,
        "torch-fidelity, cold": cold_fidelity,
        "pytorch-fid": cached_pytorch_fid,
    },
}


def prepared(stage: str, contender: str, work: Work) -> Run:
    """Return the work of one contender at `STAGE` or `STAGE, N = 1000`."""
    name, _, n = stage.partition(", N = ")
    make: Callable[..., Run] = FIELD[name][contender]
    return make(work, int(n)) if n else make(work)


def resident_mb(what: str) -> float:
    """Return VmRSS, the resident size now, or VmHWM, its peak; 0 where /proc has neither."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), 0.0)


def timed(run: Run, device: str) -> tuple[dict[str, float], Any]:
    """Return seconds of one run, how far memory rose above what was resident, and what it found.

    A short run is repeated for a second and its median told: one alone is mostly the machine's weather.
    """
    before = resident_mb("VmRSS")
    cpus, walls = [], []
    while not walls or (sum(walls) < 1 and len(walls) < 25):
        cpu, wall = time.process_time(), time.perf_counter()
        found = run()
        if device == "cuda":
            torch.cuda.synchronize()
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    spent = {"cpu": statistics.median(cpus), "wall": statistics.median(walls)}
    return spent | {"memory": max(resident_mb("VmHWM") - before, 0.0)}, found


def answers(stage: str, contender: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one answer when ready and one per line read, or the error that ended it."""
    work = Work.read(folder)
    torch.set_num_threads(work.threads)
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    result = folder / f"{stage}-{contender}.npy"
    try:
        run = prepared(stage, contender, work)
        yield {"ready": True}
        for _ in sys.stdin:
            spent, found = timed(run, work.device)
            np.save(result, np.asarray(found, np.float64))
            yield {**spent, "result": str(result)}
    except Exception as error:  # whatever a contender raises is a result: it is printed beside its name
        reason = str(error).strip() or type(error).__name__
        yield {"error": f"{type(error).__name__}: {reason.splitlines()[0][:120]}"}


def main() -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # contenders print to stdout
    for line in answers(sys.argv[1], sys.argv[2], Path(sys.argv[3])):
        print(json.dumps(line), file=answer, flush=True)


if __name__ == "__main__":
    main()
