"""A planted log of short-lived items: articles that live for hours, as news do.

Every hour a few articles come out; how often one is read halves every three hours. Readers have a favourite topic,
which a third of their reading follows; nobody reads an article twice.
"""

from __future__ import annotations

import numpy as np

from imsr_core.ragged import SpanSequences, from_events
from pipelines.bench.data import BenchData, cut, renumbered

HOUR = 3_600_000_000  # microseconds
HALF_LIFE, PER_HOUR, TOPICS, READERS = 3.0, 4, 4, 120
#: An article that is older than this is read by nobody.
LIFE = 24


def read_articles(hours: int, reads_an_hour: int, seed: int = 0) -> SpanSequences:
    """The log of so many hours; article n came out in hour n // PER_HOUR and is on topic n % TOPICS."""
    rng = np.random.default_rng(seed)
    fame = rng.lognormal(sigma=1.0, size=hours * PER_HOUR)
    users, items, times = [], [], []
    read = np.zeros((READERS, hours * PER_HOUR), dtype=bool)
    for hour in range(hours):
        fresh = np.arange(max(0, hour - LIFE) * PER_HOUR, (hour + 1) * PER_HOUR)
        weight = fame[fresh] * np.exp2(-(hour - fresh // PER_HOUR) / HALF_LIFE)
        for who in rng.integers(READERS, size=reads_an_hour):
            liked = (fresh % TOPICS == who % TOPICS) | (rng.random() > 1 / 3)
            chance = weight * liked * ~read[who, fresh]
            if chance.sum() > 0:
                item = rng.choice(fresh, p=chance / chance.sum())
                read[who, item] = True
                users.append(who)
                items.append(item)
                times.append(hour * HOUR + rng.integers(HOUR))
    return from_events(np.array(users), np.array(items), np.array(times, dtype=np.int64))


def news(unit: int, pretrain: int, spans: int, reads_an_hour: int, seed: int = 0) -> BenchData:
    """The log in spans of ``unit`` hours, one of them for tuning."""
    log = read_articles(unit * (pretrain + spans), reads_an_hour, seed)
    owner = log.timestamps // (unit * HOUR)
    owner = np.maximum(owner - (pretrain - 1), 0)
    parts = [
        from_events(log.users[log.rows][owner == n], log.items[owner == n], log.timestamps[owner == n])
        for n in range(spans + 1)
    ]
    return cut([f"s{n}" for n in range(spans + 1)], renumbered(parts), "prequential", 1, unit * HOUR)
