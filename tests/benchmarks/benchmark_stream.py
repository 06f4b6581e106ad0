"""What `imsr stream` sustains, and how long a message takes until SQL sees it, against a broker on this machine.

    pip install 'imsr[kafka,broker]'
    python tests/benchmarks/benchmark_stream.py [--events 300000] [--rate 500] [--seconds 60] [--delay 1s]

Two runs, each in a workspace and a topic of its own. *Throughput*: the topic is filled first, then drained; events
divided by the seconds, once from the look before the first batch was there, and once with the process's start.
*Delay*: a producer sends ``rate`` events a second for ``seconds``; each carries its sending time, and a reader asks a
fresh SQL session for the newest one that it sees. The delay of a look is its clock less that time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from kafka_broker import Broker, running_broker  # noqa: E402

from pipelines.stream.watermark import stream_state  # noqa: E402
from pipelines.warehouse.catalog import connect  # noqa: E402
from pipelines.workspace.layout import Workspace  # noqa: E402

PARTITIONS = 4
USERS, ITEMS = 20_000, 5_000
TOML = """
[source]
value = "sent"
[spans]
unit = "hour"
[stream]
max_delay = "{delay}"
"""


def main() -> None:
    """Both runs, and a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=300_000)
    options.add_argument("--rate", type=int, default=500)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--delay", default="1s")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder)) as broker:
        throughput(broker, Path(folder), given.events, given.delay)
        delay(broker, Path(folder), given.rate, given.seconds, given.delay)


def throughput(broker: Broker, folder: Path, events: int, max_delay: str) -> None:
    """Drain a topic that is full."""
    workspace = Workspace.create(folder / "throughput", TOML.format(delay=max_delay))
    broker.create("full", PARTITIONS)
    broker.send("full", made_events(events))
    process = consumer(workspace, broker.url("full"))
    moments = []
    try:
        while not moments or moments[-1][1] < events:
            assert process.poll() is None, "the consumer ended"
            moments.append((time.perf_counter(), taken(workspace, "full")))
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait()
    started = next((before for before, after in pairwise(moments) if after[1]), moments[0])[0]
    joined = next(at for at, _ in moments)
    print(
        f"throughput: {events:,} events of {USERS:,} users in spans of an hour, {PARTITIONS} partitions: "
        f"{events / (moments[-1][0] - started):,.0f} a second after the first batch, "
        f"{events / (moments[-1][0] - joined):,.0f} with the start of the process"
    )


def delay(broker: Broker, folder: Path, rate: int, seconds: int, max_delay: str) -> None:
    """Send at a steady rate, and look from outside."""
    workspace = Workspace.create(folder / "delay", TOML.format(delay=max_delay))
    broker.create("steady", PARTITIONS)
    process = consumer(workspace, broker.url("steady"))
    while taken(workspace, "steady", positions=False) < PARTITIONS:
        time.sleep(0.1)
    time.sleep(8)  # until it has its partitions
    sender = threading.Thread(target=send_steadily, args=(broker, rate, seconds))
    sender.start()
    delays = []
    try:
        while sender.is_alive():
            with connect(workspace) as connection:
                ((newest,),) = connection.sql("SELECT max(value) FROM interactions").fetchall()
            if newest is not None:
                delays.append(time.time() - newest)
            time.sleep(0.2)
    finally:
        sender.join()
        process.terminate()
        process.wait()
    middle, high = np.quantile(delays, [0.5, 0.95])
    print(
        f"delay: {rate:,} events a second for {seconds} s, max_delay {max_delay}: from message to queryable row "
        f"{middle:.1f} s in the median of {len(delays)} looks, {high:.1f} s in 95 of 100"
    )


def made_events(count: int) -> list[tuple[int, dict[str, object]]]:
    """(partition, event): three hours of them, a user always in the same partition."""
    chance = np.random.default_rng(1)
    users, items = chance.integers(USERS, size=count).tolist(), chance.integers(ITEMS, size=count).tolist()
    start, step = datetime(2026, 3, 1, tzinfo=UTC), timedelta(hours=3) / count
    return [event(users[n], items[n], start + n * step, 0.0) for n in range(count)]


def event(user: int, item: int, at: datetime, sent: float) -> tuple[int, dict[str, object]]:
    """(partition, event)."""
    return user % PARTITIONS, {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": at.isoformat(), "sent": sent}


def send_steadily(broker: Broker, rate: int, seconds: int) -> None:
    """A tenth of a second's events at a time."""
    chance = np.random.default_rng(2)
    until = time.time() + seconds
    while (now := time.time()) < until:
        moment = datetime.fromtimestamp(now, UTC)
        users = chance.integers(USERS, size=rate // 10).tolist()
        broker.send("steady", [event(user, user % ITEMS, moment, now) for user in users])
        time.sleep(max(0.0, now + 0.1 - time.time()))


def consumer(workspace: Workspace, url: str) -> subprocess.Popen[bytes]:
    """The command, as a user starts it."""
    script = "from flows.cli import main; main()"
    command = [sys.executable, "-c", script, "stream", "-w", str(workspace.root), "--from", url, "--no-learn"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def taken(workspace: Workspace, topic: str, *, positions: bool = True) -> int:
    """Messages that are in the lake; or partitions that the stream knows."""
    with workspace.ledger.snapshot() as view:
        state = stream_state(view, f"kafka:{topic}")
    return sum(state.positions.values()) if positions else len(state.partitions)


if __name__ == "__main__":
    main()
