"""`python -m palette_bench`."""

from palette_bench.cli import run

if __name__ == "__main__":
    run()
