"""The settings that are not hyper-parameters: where columns are, how time is cut, how the jobs run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from imsr_core.fields import Section, documented
from pipelines.settings.source import is_zone

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as ``90s``, ``15m``, ``1h``, ``2d``. Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]+)([smhdw])", text)
    if not match:
        raise ValueError(f"{text!r} is no duration")
    return int(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class SpansSettings(Section):
    """How time is cut. Frozen at the first ingest: spans already made keep their borders."""

    unit: Literal["hour", "day", "week", "month", "cut"] = documented(
        "month", "calendar unit (weeks are ISO weeks), or cut = the papers' protocol"
    )
    pretrain: int = documented(1, "number of first spans that train the base model together", at_least=1)
    alpha: float = documented(0.5, "cut: the part of the log's time that is the first span", above=0, below=1)
    count: int = documented(6, "cut: number of equal spans after the first", at_least=1)
    time_zone: str = documented("", "zone of the borders of days, weeks and months; empty = that of [source] time_zone")

    def clashes(self) -> Iterator[tuple[str, str]]:
        """A zone that this machine does not know."""
        if self.time_zone and not is_zone(self.time_zone):
            yield "time_zone", "the name of a time zone, such as UTC or Europe/Paris"


@dataclass(frozen=True)
class IngestSettings(Section):
    """What a row must be to enter the lake."""

    buckets: int = documented(
        16, "files a span is split into by a hash of the user; frozen at the first ingest", at_least=1, at_most=1024
    )
    max_id_bytes: int = documented(256, "longer ids are quarantined", at_least=1, at_most=65536)
    max_clock_skew: str = documented(
        "1h",
        "events further in the future than this are quarantined (s, m, h, d, w)",
        like=("[0-9]{1,6}[smhdw]", "a duration such as '90s', '15m', '1h', '2d'"),
    )
    min_year: int = documented(
        1980,
        "events before this year are quarantined: 0, or seconds in a file of milliseconds, would be in 1970",
        at_least=1,
        at_most=9998,
    )
    lookback_spans: int = documented(
        1,
        "late events are taken for this many of the newest learnt spans, which are then learnt again; older ones go "
        "to the quarantine as too_late and move nothing (0 = for no learnt span)",
        at_least=0,
    )
    max_quarantined_share: float = documented(
        0.5,
        "an ingest that has to quarantine more than this share of its rows fails, after it has recorded them; what is "
        "only too late does not count (1 = never)",
        at_least=0,
        at_most=1,
    )
    max_rows_per_file: int = documented(
        200_000_000,
        "a file with more rows is refused before it is unpacked: a few kilobytes can hold billions",
        at_least=1,
    )
    max_unpacked_mb: int = documented(
        8192, "a compressed file that unpacks to more than this is refused, for the same reason", at_least=1
    )
    memory_limit_mb: int = documented(
        512, "memory of the engine that reads and sorts; beyond it works on disk", at_least=64
    )

    @property
    def max_clock_skew_seconds(self) -> int:
        """``max_clock_skew`` in seconds."""
        return duration_seconds(self.max_clock_skew)


@dataclass(frozen=True)
class SequencesSettings(Section):
    """The Beam job that turns a span into one sequence a user."""

    max_events_per_user: int = documented(
        1000, "events of one user in one span that are kept, the most recent ones", at_least=1
    )
    runner: str = documented(
        "FnApiRunner",
        "Beam runner; FnApiRunner runs on this machine and needs nothing else",
        like=(".+", "the name of a Beam runner"),
    )
    workers: int = documented(1, "number of Beam workers", at_least=1, at_most=1024)
    mode: Literal["in_memory", "multi_threading", "multi_processing"] = documented(
        "in_memory", "how the workers of FnApiRunner run"
    )
    beam_flags: str = documented(
        "", "more flags for another Beam runner, as on a command line; unknown ones are refused"
    )
    timeout_seconds: float = documented(3600.0, "when a job of several workers is given up", above=0)
    few_events: int = documented(
        20_000,
        "a span of fewer events is built without Beam where one process does the work anyway: the same files, sooner",
        at_least=0,
    )


@dataclass(frozen=True)
class EvaluationSettings(Section):
    """How a version is measured."""

    top_n: int = documented(20, "length of the recommended lists that are scored", at_least=1, at_most=100_000)
    protocol: Literal["prequential", "holdout"] = documented(
        "prequential",
        "prequential = score a span before training on it; holdout = the papers' last item test, second last "
        "validation",
    )
    test_users: int = documented(
        0,
        "users of a span at most whom a version is tested on, drawn at random, the same for every version: on a span "
        "of many users the test would take longer than learning it; 0 = all of them",
        at_least=0,
        fresh=10_000,
    )
    matrix_users: int = documented(
        0,
        "users of each earlier span that a new live version is asked about again, for the views span_metrics and "
        "forgetting; 0 = none",
        at_least=0,
        fresh=100,
    )


@dataclass(frozen=True)
class GateSettings(Section):
    """What a new version must show before it goes live."""

    enabled: bool = documented(True, "off: a version goes live as soon as it can be loaded and asked")
    holdout: float = documented(
        0.02,
        "share of a span's events that are kept from learning, to judge the new version on; at most the last event "
        "of a user with two or more. The interests that go live know them all the same",
        at_least=0,
        at_most=0.5,
    )
    min_events: int = documented(
        30, "with fewer hidden events, in all or in a slice, quality is not judged", at_least=1
    )
    metric: Literal["ndcg", "hr"] = documented(
        "ndcg", "what decides whether the new version is worse than the current one"
    )
    max_drop: float = documented(
        0.01,
        "rejected if the metric fell by more than this: if the whole confidence interval of the change lies below. At "
        "0 one equally good version in forty is rejected by chance",
        at_least=0,
        at_most=1,
    )
    slice_max_drop: float = documented(
        0.05, "the same for each slice: old and new users, old and new items", at_least=0, at_most=1
    )
    confidence: float = documented(0.95, "of the interval of the change", at_least=0.5, below=1)
    resamples: int = documented(
        1000, "how often the paired bootstrap draws the users anew", at_least=100, at_most=1_000_000
    )
    min_hr: float = documented(
        0.0, "absolute bar, for a first version too: hit rate on the hidden events", at_least=0, at_most=1
    )
    min_ndcg: float = documented(
        0.0, "absolute bar, for a first version too: NDCG on the hidden events", at_least=0, at_most=1
    )

    @property
    def hidden_share(self) -> float:
        """``holdout``, or 0 where the gate is off."""
        return self.holdout if self.enabled else 0.0


@dataclass(frozen=True)
class RecommendSettings(Section):
    """What lists look like, where whoever asks does not say."""

    new_share: float = documented(
        0.0,
        "share of a list's places that are kept for what is new to the user: where tastes repeat the best list by hits "
        "is almost all repeats",
        at_least=0,
        at_most=1,
    )
    nightly: bool = documented(False, "a night writes everybody's lists to the view recommendations")
    n: int = documented(20, "nightly: items of each list", at_least=1, at_most=10_000)
    new_only: bool = documented(False, "nightly: leave out what the user had before")
    name: str = documented(
        "nightly",
        "nightly: the lists' name, the view's column variant; lists of another name stay beside them",
        like=("[a-z0-9_]{1,32}", "up to 32 small letters, digits and _"),
    )


@dataclass(frozen=True)
class ReportSettings(Section):
    """The report on the live version, one HTML file in reports/."""

    nightly: bool = documented(False, "a night writes it", fresh=True)


@dataclass(frozen=True)
class RefreshSettings(Section):
    """Training from scratch beside the chain, to see what the updates have lost."""

    every_spans: int = documented(
        0,
        "after this many learnt spans a night also trains a shadow from scratch; 0 = only `imsr refresh` does",
        at_least=0,
    )


@dataclass(frozen=True)
class RetentionSettings(Section):
    """What `imsr prune` keeps besides what is in use."""

    keep_versions: int = documented(
        30, "the last versions that were live, and the last that were made, of each line", at_least=1
    )
    keep_days: int = documented(0, "everything that is younger than this many days", at_least=0, at_most=36_500)
