"""Kafka, and what speaks its protocol, as a ``Source``; needs the extra ``kafka``.

Positions come from the ledger, and are only reported to the broker. Offsets that the broker has not any more (deleted
by its retention, or the topic was made anew) are an error, never a silent jump: messages would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imsr_core.errors import ConfigError
from pipelines.stream.source import Bounds, Message, Positions, StreamError, anew

#: Messages that one poll gives at most.
_AT_ONCE = 10_000
#: Seconds to wait for the broker when something must be known.
_ANSWER = 20.0
#: Settings of the client that exactly-once rests on.
_OURS = {"enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof", "group.id"}


@dataclass(frozen=True)
class KafkaPlace:
    """A topic and the brokers to ask first, as ``host:port,host:port``."""

    brokers: str
    topic: str

    @classmethod
    def parse(cls, url: str) -> KafkaPlace:
        """Of ``kafka://HOST[:PORT][,HOST[:PORT]...]/TOPIC``. Raises ConfigError."""
        match = re.fullmatch(r"kafka://([^/\s]+)/([A-Za-z0-9._-]{1,249})", url)
        if match is None:
            raise ConfigError(f"{url!r} names no topic", hint="kafka://HOST:PORT/TOPIC")
        hosts = [host if ":" in host else f"{host}:9092" for host in match[1].split(",")]
        return cls(",".join(hosts), match[2])


def read_client_file(path: Path) -> dict[str, str]:
    """The client settings in a file of ``key=value`` lines; ``#`` begins a comment line. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="[stream] client") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() in _OURS:
            why = "is no key=value" if not equals else f"sets {key.strip()}, which imsr decides"
            raise ConfigError(f"{path}: line {number} {why}", hint="remove the line")
        found[key.strip()] = value.strip()
    return found


class KafkaSource:
    """One consumer of a group.

    Args:
        say: told of trouble with the broker that passes by itself.
    """

    def __init__(
        self,
        place: KafkaPlace,
        group: str,
        client: dict[str, str],
        *,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = f"kafka:{place.topic}"
        self.label, self._identity = place.topic, ""
        self._place, self._client, self._say = place, client, say
        self._api = _import_client()
        self._consumer = self._api.Consumer(
            {
                "bootstrap.servers": place.brokers,
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "range",
                "logger": _quiet_logger(),
                "error_cb": lambda error: self._say(f"broker: {error.str()}"),
                **client,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )
        self._held = False
        self._next: dict[int, int] = {}
        self._assigned_with: dict[int, Bounds] = {}
        self._at_end: set[int] = set()
        self._resume: Callable[[], Positions] = dict
        self._revoked: Callable[[set[str]], None] = lambda names: None

    def identity(self) -> str:
        """The topic's id. Raises StreamError: no broker answers, or it has no such topic."""
        self._partitions()
        self._identity = self._topic_id()
        return self._identity

    def open(self, resume: Callable[[], Positions], revoked: Callable[[set[str]], None]) -> dict[str, Bounds]:
        """Join the group; what every partition of the topic holds.

        Raises:
            StreamError: no broker answers, or it has no such topic.
        """
        self._resume, self._revoked = resume, revoked
        partitions = self._partitions()
        bounds = {str(n): self._ask_bounds(n) for n in partitions}
        self._consumer.subscribe(
            [self._place.topic], on_assign=self._assigned, on_revoke=self._taken, on_lost=self._taken
        )
        return bounds

    def poll(self, seconds: float) -> Sequence[Message]:
        """The next messages. Raises StreamError if some are gone, or the broker refuses us."""
        found = []
        for each in self._consumer.consume(_AT_ONCE, seconds):
            if each.error() is not None:
                self._trouble(each)
                continue
            partition, offset = each.partition(), each.offset()
            found.append(Message(str(partition), offset, each.value()))
            self._next[partition] = offset + 1
            self._at_end.discard(partition)
        return found

    def hold(self, on: bool) -> None:
        """Stop to fetch, or go on."""
        self._held = on
        assigned = self._consumer.assignment()
        if assigned:
            (self._consumer.pause if on else self._consumer.resume)(assigned)

    def bounds(self) -> dict[str, Bounds]:
        """By what the last answers said. Until the end was met there is at least one more message; once it was, the end
        is behind the last message: what may still lie there (marks of transactions, what compaction removed) is none.
        """
        found = {}
        for partition, position in self._next.items():
            first, end = self._assigned_with[partition]
            if partition in self._at_end:
                end = position
            else:  # before its first answer the client knows no end, and says so with a negative number
                known = self._consumer.get_watermark_offsets(self._of(partition), cached=True)[1]
                end = max(position + 1, end, known)
            found[str(partition)] = Bounds(first, end)
        return found

    def settle(self, positions: Positions) -> None:
        """Report the positions to the broker; they count for nothing here."""
        offsets = [self._of(int(name), at) for name, at in positions.items()]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except self._api.KafkaException as error:
                self._say(f"broker: positions not reported: {error}")

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _of(self, partition: int, offset: int | None = None) -> Any:
        topic = self._place.topic
        return (
            self._api.TopicPartition(topic, partition)
            if offset is None
            else self._api.TopicPartition(topic, partition, offset)
        )

    def _partitions(self) -> list[int]:
        where = f"{self._place.topic} at {self._place.brokers}"
        try:
            found = self._consumer.list_topics(self._place.topic, timeout=_ANSWER).topics[self._place.topic]
        except self._api.KafkaException as error:
            raise StreamError(
                f"no broker answers for {where}: {error.args[0].str()}", hint="is it up, and the address right?"
            ) from error
        if found.error is not None or not found.partitions:
            reason = found.error.str() if found.error is not None else "it has no partitions"
            raise StreamError(f"cannot read {where}: {reason}", hint="make the topic first, or check its name")
        return sorted(found.partitions)

    def _topic_id(self) -> str:
        """The id that the broker gave the topic when it was made; empty of a broker that gives none."""
        from confluent_kafka.admin import AdminClient

        topics = self._api.TopicCollection([self._place.topic])
        asked = AdminClient({"bootstrap.servers": self._place.brokers, "logger": _quiet_logger(), **self._client})
        try:
            found = asked.describe_topics(topics, request_timeout=_ANSWER)[self._place.topic].result().topic_id
        except self._api.KafkaException:
            return ""
        bits = (found.get_most_significant_bits(), found.get_least_significant_bits())
        return str(found) if any(bits) else ""

    def _ask_bounds(self, partition: int) -> Bounds:
        try:
            return Bounds(*self._consumer.get_watermark_offsets(self._of(partition), timeout=_ANSWER, cached=False))
        except self._api.KafkaException as error:
            where = f"{self._place.topic}/{partition}"
            raise StreamError(
                f"the broker does not say what {where} holds: {error}", hint="run the command again"
            ) from error

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        positions = self._resume()
        if self._identity and partitions and self._topic_id() not in ("", self._identity):
            raise anew(self.name)
        for each in partitions:
            bounds = self._ask_bounds(each.partition)
            each.offset = positions.get(str(each.partition), bounds.first)
            if each.offset < bounds.first:  # one that is past the end the first fetch finds out
                why = f"is to go on at {each.offset:,}, and begins at {bounds.first:,}"
                raise _lost(self._place.topic, each.partition, why)
            self._assigned_with[each.partition], self._next[each.partition] = bounds, each.offset
        consumer.assign(partitions)
        if self._held and partitions:
            consumer.pause(partitions)

    def _taken(self, consumer: Any, partitions: list[Any]) -> None:
        for each in partitions:
            self._next.pop(each.partition, None)
            self._at_end.discard(each.partition)
        self._revoked({str(each.partition) for each in partitions})

    def _trouble(self, message: Any) -> None:
        error, code = message.error(), self._api.KafkaError
        if error.code() == code._PARTITION_EOF:
            self._at_end.add(message.partition())
        elif error.code() == code._AUTO_OFFSET_RESET:
            raise _lost(self._place.topic, message.partition(), f"has not the next one ({error.str()})")
        elif error.fatal() or error.code() in {code.TOPIC_AUTHORIZATION_FAILED, code.GROUP_AUTHORIZATION_FAILED}:
            raise StreamError(f"{self._place.topic}: {error.str()}", hint="see [stream] client in imsr.toml")
        else:
            self._say(f"broker: {error.str()}")


def _lost(topic: str, partition: int, why: str) -> StreamError:
    return StreamError(
        f"messages of {topic}/{partition} are gone before they were read: it {why}",
        hint="was the topic made anew, or is its retention too short? to go on anyway: imsr stream --skip-lost",
    )


def _import_client() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise ConfigError("reading Kafka needs confluent-kafka", hint="pip install 'imsr[kafka]'") from error
    return confluent_kafka


def _quiet_logger() -> Any:
    """librdkafka's log, which would go to standard error, at what matters."""
    import logging

    logger = logging.getLogger("imsr.kafka")
    logger.setLevel(logging.CRITICAL)
    return logger
