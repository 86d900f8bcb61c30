"""The base installation, in the environment of the Python that runs this: its size, and verbs without torch.

python tests/light_install.py          # run the verbs in a temporary folder; exit 1 at the first that fails
python tests/light_install.py --full   # with all extras: verbs with torch, too
python tests/light_install.py --oldest # print the lower bounds of the base as pip constraints
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "timm", "torch_fidelity")


def constraints() -> str:
    """Return the base's lower bounds, one a line: `numpy==1.26`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return "".join(f"{line.replace('>=', '==')}\n" for line in project["dependencies"])


def steps(work: Path) -> list[tuple[str, ...]]:
    """Write what the verbs read beside the package, and return the verbs with their arguments."""
    from plans import write_plan  # needs the package; --oldest is asked before it is installed

    write_plan(work)
    shutil.copytree(ROOT / "reports", work / "record", ignore=shutil.ignore_patterns("templates", "assets"))
    first, second, *_ = sorted(str(path) for path in work.glob("record/palette-mini/jpeg*/**/*.json"))
    design = ("study.toml", "--set", "set", "--submission", "sub", "-o", "study")
    return [
        ("generate", "palette-mini", "jpeg/qf5", "-o", "set"),
        ("verify", "set"),
        ("restore", "copy-input", "--set", "set", "-o", "sub"),
        ("restore", "classical", "--set", "set", "-o", "classical"),
        ("restore", "adapter:folder", "--set", "set", "--export", "exported"),
        ("check", "sub", "--set", "set"),
        ("show", first),
        ("report", first, "-o", "report.html"),
        ("report", first, second, "-o", "pair.html"),
        ("board", "build", "record", "-o", "site"),
        ("study", "design", *design),
        ("study", "simulate", "study", "-o", "votes.csv"),
        ("study", "analyse", "study", "votes.csv", "-o", "result"),
        ("study", "export", "study", "--platform", "folder", "-o", "pages"),
        ("ls", "extractors"),
        ("weights", "list"),
        ("doctor",),
    ]


# verbs that need the extras; they go on with the folders of `steps`
FULL = [
    ("score", "sub", "--set", "set", "-o", "card.json"),
    ("evaluate", "classical", "--set", "set", "-o", "out"),
    ("restore", "palette", "--run", "palette-mini-v1", "--set", "set", "-o", "restored"),
    (
        "train",
        "palette",
        "--task",
        "multi",
        "--recipe",
        "mini-cpu",
        "--data",
        "set/reference",
        "--steps",
        "2",
        "-o",
        "run",
    ),
]


def main() -> int:
    """Run the verbs and print a line for each; return 1 if one fails or torch is there wrongly."""
    if sys.argv[1:] == ["--oldest"]:
        print(constraints(), end="")
        return 0
    full = sys.argv[1:] == ["--full"]
    if not full and (found := [name for name in HEAVY if find_spec(name)]):
        print(f"this environment has {', '.join(found)}: not the base installation")
        return 1
    site = Path(str(find_spec("numpy").origin)).parents[1]  # type: ignore[union-attr]
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    print(f"{size / 1e6:,.0f} MB installed")
    with tempfile.TemporaryDirectory() as folder:
        for step in [*steps(Path(folder)), *(FULL if full else ())]:
            began = time.monotonic()
            command = [sys.executable, "-m", "palette_bench", *step]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            print(f"{time.monotonic() - began:6.1f} s  palette-bench {' '.join(step[:2])}")
            if done.returncode:
                print(done.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
