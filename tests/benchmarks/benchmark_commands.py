"""What commands cost that look and ask, in a small generated workspace: most of it is their start.

    python tests/benchmarks/benchmark_commands.py
    python tests/benchmarks/benchmark_commands.py --beside ../the-release-before     # in turns with another checkout
    python tests/benchmarks/benchmark_commands.py --workspace W --user ID            # in a workspace that is there

Processor seconds of the process, imports and all (the least of some runs: other work on the machine only adds), and
its peak memory. Python may write bytecode, as an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import generated_workspace as generated
from command_costs import cost_of

CODE = "import sys; sys.argv[0] = 'imsr'; from flows.start import main; main()"
USERS, ITEMS, EVENTS = 200, 500, 3_000


def commands(user: str) -> dict[str, list[str] | None]:
    """What is typed, by name; None is Python with torch alone."""
    return {
        "imsr --help": ["--help"],
        "imsr status": ["status"],
        "imsr versions": ["versions"],
        "imsr plan": ["plan"],
        "imsr run, nothing due": ["run"],
        "imsr sql 'FROM spans'": ["sql", "FROM spans"],
        f"imsr recommend --user {user}": ["recommend", "--user", user],
        f"imsr explain --user {user}": ["explain", "--user", user],
        "imsr report": ["report", "--out", os.devnull],
        "python -c 'import torch'": None,
    }


def cost(tree: Path, words: list[str] | None, workspace: Path) -> tuple[float, float]:
    """Processor seconds and megabytes of a command of the checkout ``tree``."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(tree), "IMSR_WORKSPACE": str(workspace)}
    command = [sys.executable, "-c", "import torch"] if words is None else [sys.executable, "-c", CODE, *words]
    seconds, peak = cost_of(command, environment, tree)
    return seconds, peak / 1e6


def table(trees: list[Path], workspace: Path, user: str, runs: int) -> None:
    """Print the least of some runs of each command, for each checkout beside the others."""
    print("| command |" + " processor s | peak MB |" * len(trees))
    print("|---|" + "---:|---:|" * len(trees), flush=True)
    for name, words in commands(user).items():
        turns = [[cost(tree, words, workspace) for tree in trees] for _ in range(runs)]
        least = [(min(one[0] for one in own), max(one[1] for one in own)) for own in zip(*turns, strict=True)]
        print(f"| `{name}` |" + "".join(f" {seconds:.2f} | {peak:.0f} |" for seconds, peak in least), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout")
    parser.add_argument("--workspace", type=Path, help="one that is there, in place of a small generated one")
    parser.add_argument("--user", default="user-1")
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    trees = [*([asked.beside.resolve()] if asked.beside else []), generated.ROOT]
    with tempfile.TemporaryDirectory() as folder:
        workspace = asked.workspace
        if workspace is None:
            generated.make(Path(folder) / "generated", USERS, ITEMS, EVENTS)
            workspace = Path(folder) / "generated" / "workspace"
        table(trees, workspace.resolve(), asked.user, asked.runs)


if __name__ == "__main__":
    main()
