"""The settings of `imsr stream`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from imsr_core.fields import Section, documented
from pipelines.settings.sections import duration_seconds

_DURATION = (r"[0-9]{1,6}[smhdw]", "a duration such as '0s', '90s', '15m', '1h', '2d'")


@dataclass(frozen=True)
class StreamSettings(Section):
    """Events as they happen, from a broker or a folder: when they are written, and when a span is over."""

    source: str = documented("", "kafka://HOST:PORT/TOPIC, or folder:PATH (of event files); --from overrules it")
    format: Literal["json", "avro"] = documented("json", "what a message holds; avro: one record without a registry")
    avro_schema: str = documented("", "file with the Avro schema (.avsc), from the workspace's folder")
    avro_skip_bytes: int = documented(
        0, "bytes before the Avro record; 5 skips the header of Confluent's registry", at_least=0
    )
    group: str = documented("", "consumer group, where the broker wants a certain one; unset: the workspace's own")
    client: str = documented(
        "", "file of key=value lines for the Kafka client (librdkafka), as for TLS and passwords; keep it private"
    )
    start: Literal["earliest", "latest"] = documented(
        "earliest", "where a partition that was never read begins; later the ledger knows"
    )
    max_delay: str = documented("5s", "a message waits this long, then its batch is written", like=_DURATION)
    max_batch: int = documented(200_000, "messages of a batch: with so many it is written at once", at_least=1)
    buffer_mb: int = documented(
        128, "messages in memory; with more, reading pauses until a batch is written", at_least=1
    )
    allowed_lateness: str = documented(
        "1h",
        "a span is over when the watermark is this far past its end; later events restate it, see lookback_spans",
        like=_DURATION,
    )
    idle: str = documented(
        "5m", "a partition that is read to its end and silent for so long holds up no span", like=_DURATION
    )
    keep_interim: str = documented(
        "2m",
        "how long what a batch superseded in a span that is still open stays for sessions that read it",
        like=_DURATION,
    )

    def clashes(self) -> Iterator[tuple[str, str]]:
        """Avro needs its schema."""
        if self.format == "avro" and not self.avro_schema:
            yield "avro_schema", "the schema's file, for format avro"

    @property
    def max_delay_seconds(self) -> int:
        """``max_delay`` in seconds."""
        return duration_seconds(self.max_delay)

    @property
    def lateness_us(self) -> int:
        """``allowed_lateness`` in microseconds."""
        return duration_seconds(self.allowed_lateness) * 1_000_000

    @property
    def idle_us(self) -> int:
        """``idle`` in microseconds."""
        return duration_seconds(self.idle) * 1_000_000

    @property
    def keep_interim_us(self) -> int:
        """``keep_interim`` in microseconds."""
        return duration_seconds(self.keep_interim) * 1_000_000
