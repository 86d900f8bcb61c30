"""Compute the package list: the judge, and three overlay folders shipped under its name."""

from setuptools import find_packages, setup

OVERLAYS = ("baselines", "protocols", "reports")

setup(
    packages=find_packages(include=["palette_bench", "palette_bench.*"])
    + [f"palette_bench.{name}" for name in OVERLAYS]
    + [f"palette_bench.{name}.{sub}" for name in OVERLAYS for sub in find_packages(name)]
)
