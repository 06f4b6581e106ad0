"""Settings of a rival, chosen on the tuning spans alone: a few points at random, and from the best of them a walk from
value to neighbouring value while it gets better.

A trial trains on all data before a tuning span and ranks that span, for each tuning span. What it is worth is
(HR + NDCG) / 2, in two ways: where everything may be shown (items that the user had left in or out, whichever ranks
better: nobody would show a film again), and for what is new to the user. Trials are kept, so a walk that was ended
goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rivals.protocol import Rival, Scores

from imsr_core.metrics import hit_rate, ndcg
from pipelines.bench.data import BenchData, BenchSpan
from pipelines.bench.ranking import Ranks, rank_both

#: What settings are chosen for: everything may be shown, the same without what the user had, and what is new.
Aim = Literal["everything", "unseen", "discover"]
CHUNK_USERS = 256


@dataclass(frozen=True)
class Trial:
    """What some settings were worth on the tuning spans, and the processor seconds of one training."""

    settings: Mapping[str, Any]
    everything: float
    unseen: float
    discover: float
    seconds: float

    def worth(self, *aims: Aim) -> float:
        """The best of these."""
        return max(getattr(self, aim) for aim in aims)


class Trials:
    """Trials of one rival on one log, kept in a file of JSON lines."""

    def __init__(self, rival: Rival, data: BenchData, top_n: int, path: Path) -> None:
        self.rival, self.data, self.top_n, self.path = rival, data, top_n, path
        self.done: dict[str, Trial] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                trial = Trial(**json.loads(line))
                self.done[_key(trial.settings)] = trial

    def of(self, settings: Mapping[str, Any]) -> Trial:
        """The trial of these settings, made now if there is none."""
        found = self.done.get(_key(settings))
        if found is None:
            found = self.done[_key(settings)] = self._make(settings)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(found)) + "\n")
        return found

    def walk(self, *aims: Aim, most: int) -> Iterator[Trial]:
        """Trials along the way; the best of them is where it ended. At most ``most`` new ones are made."""
        limit = len(self.done) + most
        for settings in self._first():
            yield self.of(settings)
        tried, moved = set(), True
        while moved:
            moved, best = False, self.best(*aims)
            for neighbour in self._neighbours(best.settings):
                if _key(neighbour) in tried:
                    continue
                if len(self.done) >= limit and _key(neighbour) not in self.done:
                    return
                tried.add(_key(neighbour))
                trial = self.of(neighbour)
                yield trial
                if trial.worth(*aims) > best.worth(*aims):
                    moved = True
                    break

    def best(self, *aims: Aim) -> Trial:
        """The best trial so far."""
        return max(self.done.values(), key=lambda trial: trial.worth(*aims))

    def _first(self) -> Iterator[Mapping[str, Any]]:
        """Where the walk may begin: the rival's own start and points at random."""
        yield self.rival.start
        rng = np.random.default_rng(0)
        for _ in range(self.rival.random):
            yield {name: values[rng.integers(len(values))] for name, values in self.rival.space.items()}

    def _neighbours(self, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for name, values in self.rival.space.items():
            place = list(values).index(settings[name])
            for near in (place + 1, place - 1):
                if 0 <= near < len(values):
                    yield {**settings, name: values[near]}

    def _make(self, settings: Mapping[str, Any]) -> Trial:
        numbers = range(1, 1 + self.data.tuning)
        rows, seconds = [], 0.0
        for number in numbers[-1:] if self.rival.once else numbers:
            started = time.process_time()
            scores = train(self.rival, self.data, number, settings)
            seconds += time.process_time() - started
            span = self.data.spans[number]
            everything, new = rank_span(scores, span, self.top_n)
            main, explore = (span.slices[self.data.slice_for(discover=d)] for d in (False, True))
            kinds = ((everything, main), (new, main), (new, explore))
            rows.append([_quality(ranks[member], self.top_n) for ranks, member in kinds])
        return Trial(dict(settings), *map(float, np.mean(rows, axis=0)), seconds / len(rows))


def train(rival: Rival, data: BenchData, number: int, settings: Mapping[str, Any]) -> Scores:
    """The rival trained on all that may be learnt before span ``number``."""
    return rival.fit(data.history(number), data.spans[number - 1].n_items, settings)


def rank_span(scores: Scores, span: BenchSpan, top_n: int) -> tuple[Ranks, Ranks]:
    """Ranks of a span's events: everything shown, and without what each user had before."""
    users = span.sequences.users

    def chunks() -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, len(users), CHUNK_USERS):
            found = np.ascontiguousarray(scores(users[first : first + CHUNK_USERS]), dtype=np.float32)
            yield first, torch.from_numpy(found)

    return rank_both(chunks(), span, top_n)


def quality_of(ranks: Mapping[str, Ranks], data: BenchData, top_n: int, *, discover: bool) -> float:
    """(HR + NDCG) / 2 of ranks by span, mean over the tuning spans."""
    spans = data.tested[: data.tuning]
    members = [span.slices[data.slice_for(discover=discover)] for span in spans]
    return float(np.mean([_quality(ranks[s.id][member], top_n) for s, member in zip(spans, members, strict=True)]))


def _quality(ranks: NDArray[np.int16], top_n: int) -> float:
    exact = torch.from_numpy(ranks.astype(np.int64))
    return float((hit_rate(exact, top_n).mean() + ndcg(exact, top_n).mean()) / 2)


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
