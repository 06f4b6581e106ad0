"""imsr beside packages that one can install: samples trained a second, and exact lists of 20, in one run.

    python3 -m venv peers && peers/bin/pip install -r tests/benchmarks/peers/requirements.txt
    peers/bin/python tests/benchmarks/benchmark_peers.py                       # some ten minutes
    peers/bin/python tests/benchmarks/benchmark_peers.py --smoke               # one size, in a minute

One thread, processor seconds. Everybody trains batches of 128 targets with histories of 20 items, four interests, 64
numbers a vector and ten negatives a target: torch-rechub draws ten for each (softmax), RecBole repeats the target for
each of ten (BPR), imsr shares 1,280 in a batch (softmax). Peers get ready batches; imsr makes its own. Each figure is
taken in a process of its own. A package that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # imsr_core alone: the rest of imsr need not be installed

from peers.machine import measured  # noqa: E402

MODULES = {"imsr": "imsr_core", "torch-rechub": "torch_rechub", "RecBole": "recbole", "faiss": "faiss"}
TRAINED = (
    ("imsr", "ComiRec-DR"),
    ("torch-rechub", "ComiRec-DR"),
    ("imsr", "ComiRec-SA"),
    ("torch-rechub", "ComiRec-SA"),
    ("RecBole", "SINE"),
)
SIZES, LISTS = (20_000, 300_000, 1_700_000), (50_000, 300_000)


def figure(what: str, package: str, model: str, items: int, seconds: float) -> float | None:
    """One figure; None if the package is not installed."""
    if find_spec(MODULES[package]) is None:
        return None
    here = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{here}",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    }
    command = [sys.executable, "-W", "ignore", "-m", "peers.one", what, package, model, str(items), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{package} {model} at {items:,} items:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def shown(value: float | None, base: float | None) -> tuple[str, str]:
    """The figure, and how many times as much imsr does."""
    if value is None:
        return "not installed", "-"
    return f"{value:,.0f}", "1" if base is None else f"{base / value:.1f}"


def training(sizes: tuple[int, ...], seconds: float) -> None:
    """Print the table of samples a second."""
    print("| items | model | package | samples / s | imsr does |\n|---:|---|---|---:|---:|")
    for items in sizes:
        own: dict[str, float | None] = {}
        for package, model in TRAINED:
            value = figure("train", package, model, items, seconds)
            if package == "imsr":
                own[model] = value
            base = None if package == "imsr" else own.get(model, own.get("ComiRec-SA"))
            text, times = shown(value, base)
            print(f"| {items:,} | {model} | {package} | {text} | x {times} |", flush=True)


def exact_lists(sizes: tuple[int, ...], seconds: float) -> None:
    """Print the table of users a second."""
    print("\n| items | package | users / s | imsr does |\n|---:|---|---:|---:|")
    for items in sizes:
        own = figure("lists", "imsr", "-", items, seconds)
        for package, value in (("imsr", own), ("faiss", figure("lists", "faiss", "-", items, seconds))):
            text, times = shown(value, None if package == "imsr" else own)
            print(f"| {items:,} | {package} | {text} | x {times} |", flush=True)


def main() -> None:
    """See the module."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size, a tenth of a second each")
    parser.add_argument("--seconds", type=float, default=5.0, help="of processor for each figure, at least")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--lists", type=int, nargs="+", default=LISTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sizes, lists, seconds = (
        ((2_000,), (2_000,), 0.1) if asked.smoke else (tuple(asked.sizes), tuple(asked.lists), asked.seconds)
    )
    machine = measured(0.1 if asked.smoke else 1.0)
    print(f"This machine, one thread: {machine.gflops:.0f} GFLOP/s in matrix products, {machine.gigabytes:.1f} GB/s.\n")
    training(sizes, seconds)
    exact_lists(lists, seconds)


if __name__ == "__main__":
    main()
