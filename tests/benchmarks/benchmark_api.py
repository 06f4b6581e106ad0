"""How fast `imsr api` answers: latency and requests a second of each route, and of all in a mixture.

    imsr demo --out shop
    python tests/benchmarks/benchmark_api.py shop [--seconds 10] [--clients 1,8]

Starts the service as a process on a free port of the loopback address and asks it with keep-alive connections, one a
client, each as fast as it is answered. Client and server share the machine. Users and items are drawn from the
workspace at random with a fixed seed. Beside the wall times stand the seconds of processor that an answer took in the
server, which a loaded machine changes less.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from pipelines.warehouse.catalog import connect  # noqa: E402
from pipelines.workspace.layout import Workspace  # noqa: E402

#: A request: method, path and body.
Request = tuple[str, str, str | None]


@dataclass
class Run:
    """Seconds of each answer, and how many were no success."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0


def main() -> None:
    """All routes with all numbers of clients, a line each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("workspace")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--clients", default="1,8")
    given = options.parse_args()
    users, items = known_ids(given.workspace)
    draws = requests_by_route(users, items, random.Random(0))
    print(f"{len(users):,} users, {len(items):,} items; load of the machine before: {os.getloadavg()[0]:.1f}")
    print("| route | clients | requests/s | 50 % ms | 95 % ms | 99 % ms | server CPU ms a request |")
    print("|---|---|---|---|---|---|---|")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from flows.cli import main; main()", "api", "-w", given.workspace]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([*command, "--port", str(port)], env=env, stdout=subprocess.DEVNULL)
    try:
        wait(port)
        for clients in map(int, given.clients.split(",")):
            for route, draw in draws.items():
                print(line(route, clients, *measured(server.pid, port, draw, clients, given.seconds)), flush=True)
    finally:
        server.terminate()
        server.wait(20)


def known_ids(workspace: str) -> tuple[list[str], list[str]]:
    """All users and items of the live chain."""
    with connect(Workspace.open(workspace)) as connection:
        found = [connection.execute(f"SELECT {one}_id FROM {one}s ORDER BY 1").fetchall() for one in ("user", "item")]
    return [row[0] for row in found[0]], [row[0] for row in found[1]]


def requests_by_route(users: list[str], items: list[str], chance: random.Random) -> dict[str, Callable[[], Request]]:
    """Makes the next request, of each route and of all together."""

    def user() -> Request:
        return "GET", f"/users/{quote(chance.choice(users), safe='')}/recommendations?n=20", None

    def new() -> Request:
        return "GET", f"/users/{quote(chance.choice(users), safe='')}/recommendations?n=20&new=true", None

    def session() -> Request:
        return "POST", "/recommendations", json.dumps({"items": chance.choices(items, k=5), "n": 20})

    def similar() -> Request:
        return "GET", f"/items/{quote(chance.choice(items), safe='')}/similar?n=20", None

    each = {"a user's list": user, "only what is new": new, "a session of 5 items": session, "similar items": similar}
    return each | {"a mixture": lambda: chance.choice(list(each.values()))()}


def measured(
    pid: int, port: int, draw: Callable[[], Request], clients: int, seconds: float
) -> tuple[Run, float, float]:
    """The answers, the wall time, and the server's seconds of processor."""
    runs = [Run() for _ in range(clients)]
    for request in (draw() for _ in range(5)):
        ask(http.client.HTTPConnection("127.0.0.1", port), request)
    before, began = processor(pid), time.perf_counter()
    threads = [threading.Thread(target=client, args=(port, draw, run, began + seconds)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, spent = time.perf_counter() - began, processor(pid) - before
    return Run([s for run in runs for s in run.seconds], sum(run.errors for run in runs)), took, spent


def client(port: int, draw: Callable[[], Request], run: Run, until: float) -> None:
    """Ask until the time is over."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.perf_counter() < until:
        request, began = draw(), time.perf_counter()
        run.errors += ask(connection, request) != 200
        run.seconds.append(time.perf_counter() - began)


def ask(connection: http.client.HTTPConnection, request: Request) -> int:
    """One answer's status; its body is read."""
    method, path, body = request
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def processor(pid: int) -> float:
    """Seconds of processor that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def line(route: str, clients: int, run: Run, took: float, spent: float) -> str:
    """A row of the table."""
    ordered = sorted(run.seconds)
    shares = [1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99)]
    figures = [f"{len(ordered) / took:.0f}", *(f"{ms:.1f}" for ms in shares), f"{1000 * spent / len(ordered):.1f}"]
    wrong = f" ({run.errors} errors)" if run.errors else ""
    return f"| {route}{wrong} | {clients} | {' | '.join(figures)} |"


def wait(port: int) -> None:
    """Until the service answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if ask(http.client.HTTPConnection("127.0.0.1", port), ("GET", "/health", None)) == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the service did not come up")


if __name__ == "__main__":
    main()
