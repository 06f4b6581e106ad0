"""What the flow layer costs: nights as a Prefect flow against the same steps called as functions, in one run.

    python tests/benchmarks/benchmark_flow_overhead.py              # 5 rounds, about two minutes
    python tests/benchmarks/benchmark_flow_overhead.py --rounds 9

A small world (30 users, six days) is learnt again and again from the same lake, by turns as functions and as the flow
`nightly`, which talks to a Prefect server of its own on the loopback address. A night with nothing due is measured in
both ways, too, and as a command. What the flow costs a span is

    ((flow, all spans - flow, nothing due) - (functions, all spans - functions, nothing due)) / spans

so that it does not contain what a flow run costs once. All figures are medians, the least and the most beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import torch  # noqa: E402
from small_world import LATER, NOW, log, make, run_all  # noqa: E402

from flows.holding import holding  # noqa: E402
from flows.server import DEFAULTS, HOST, prefect_server  # noqa: E402
from pipelines.nights.night import run_span  # noqa: E402
from pipelines.nights.plan import due  # noqa: E402
from pipelines.warehouse.catalog import publish_catalog  # noqa: E402
from pipelines.workspace.layout import Workspace  # noqa: E402

#: The base and the days after it: a version each.
SPANS = 1 + len(LATER)
IMSR = [sys.executable, "-c", "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"]


def functions(workspace: Workspace) -> None:
    """A night without Prefect, as `imsr run` does it."""
    with holding(workspace, "benchmark", now=NOW) as writer:
        for run in due(workspace, now=NOW):
            run_span(writer, run)
        publish_catalog(workspace)


def as_flow(workspace: Workspace) -> None:
    """The same night as a flow run."""
    from flows.nightly import nightly

    nightly(str(workspace.root), now=NOW.isoformat())


def command(*words: str) -> Callable[[Workspace], None]:
    """A command as a process of its own, on a workspace."""

    def call(workspace: Workspace) -> None:
        arguments = [*IMSR, *words, "--workspace", str(workspace.root)]
        subprocess.run(arguments, check=True, capture_output=True, cwd=TESTS.parent)

    return call


def seconds(call: Callable[[Workspace], None], workspace: Workspace) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call(workspace)
    return time.perf_counter() - started


def fresh(source: Workspace, root: Path) -> Workspace:
    """A copy of a workspace in place of the last one."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source.root, root)
    return Workspace.open(root)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of night, a value a round; the first round warms up and is not kept."""
    ingested = make(folder / "ingested", log())
    learnt = fresh(ingested, folder / "learnt")
    run_all(learnt)
    nights: dict[str, tuple[Workspace, Callable[[Workspace], None]]] = {
        f"functions, {SPANS} spans": (ingested, functions),
        f"flow, {SPANS} spans": (ingested, as_flow),
        "functions, nothing due": (learnt, functions),
        "flow, nothing due": (learnt, as_flow),
        "imsr run, nothing due": (learnt, command("run")),
        "imsr nightly, nothing due": (learnt, command("nightly")),
    }
    found: dict[str, list[float]] = {name: [] for name in nights}
    for number in range(rounds + 1):
        for name, (source, call) in nights.items():
            taken = seconds(call, fresh(source, folder / "night"))
            if number:
                found[name].append(taken)
    return found


def overhead(found: dict[str, list[float]]) -> list[float]:
    """Seconds that the flow costs a span, a value a round."""
    columns = (found[f"{kind}, {what}"] for kind in ("flow", "functions") for what in (f"{SPANS} spans", "nothing due"))
    return [((a - b) - (c - d)) / SPANS for a, b, c, d in zip(*columns, strict=True)]


def show(found: dict[str, list[float]]) -> None:
    """A small table."""
    per_span, once = overhead(found), [
        a - b for a, b in zip(found["flow, nothing due"], found["functions, nothing due"], strict=True)
    ]  # fmt: skip
    ratio = [a / b for a, b in zip(found[f"flow, {SPANS} spans"], found[f"functions, {SPANS} spans"], strict=True)]
    rows = [(name, [1000 * value for value in values], "ms") for name, values in found.items()]
    rows += [("the flow layer, a span", [1000 * value for value in per_span], "ms")]
    rows += [("the flow layer, a flow run", [1000 * value for value in once], "ms")]
    rows += [(f"flow / functions, {SPANS} spans", ratio, "x")]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':32} {'median':>9} {'least':>9} {'most':>9}")
    for name, values, unit in rows:
        digits = 2 if unit == "x" else 0
        figures = [statistics.median(values), min(values), max(values)]
        print(f"{name:32} " + " ".join(f"{figure:9,.{digits}f}" for figure in figures) + f" {unit}")


def main() -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        probe.close()
        os.environ |= DEFAULTS | {"PREFECT_HOME": f"{name}/prefect", "PREFECT_LOGGING_LEVEL": "ERROR"}
        os.environ.pop("PREFECT_API_URL", None)
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{HOST},localhost"
        with prefect_server(port):
            show(measure(Path(name), rounds))


if __name__ == "__main__":
    main()
