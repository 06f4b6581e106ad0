"""What the ledger must say after any commands, as a few dictionaries: no files, no training, no crashes.

Days are spans; ids of days sort as time does. A span is ``published``, ``rejected`` or ``due`` (whatever is to do).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: user_id, item_id, time as ISO text in UTC; the day is its first ten letters.
Event = tuple[str, str, str]

DUE, PUBLISHED, REJECTED = "due", "published", "rejected"


@dataclass
class LedgerModel:
    """The model; ``today`` is the first day that is not over."""

    pretrain: int
    lookback: int
    today: str
    events: dict[str, set[Event]] = field(default_factory=dict)
    data_version: dict[str, int] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    files: set[tuple[Event, ...]] = field(default_factory=set)
    batches: list[tuple[int, int, int, int]] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    begun: tuple[str | None, str | None] | None = None

    def ingest(self, rows: tuple[Event, ...]) -> None:
        """A file of rows: bad ones and late ones to the quarantine, the first of equal ones kept."""
        if rows in self.files:
            return
        learnt = sorted(self.named)
        oldest = learnt[-self.lookback :][0] if learnt else ""
        seen: set[Event] = set()
        new: list[Event] = []
        refused: list[Event] = []
        for row in rows:
            if not row[0] or row[2][:10] > self.today:
                refused.append(row)
            elif row not in seen and row not in self.events.get(row[2][:10], ()):
                (refused if row[2][:10] < oldest else new).append(row)
            seen.add(row)
        self.files.add(rows)
        self.batches.append((len(rows), len(new), len(rows) - len(new) - len(refused), len(refused)))
        self.quarantined += [row[0] for row in refused]
        for row in new:
            self.events.setdefault(row[2][:10], set()).add(row)
        for span in {row[2][:10] for row in new}:
            self.data_version[span] = self.data_version.get(span, 0) + 1
            self.state.setdefault(span, DUE)
        if new:
            self.due_from(min(row[2][:10] for row in new))
        self.forgotten -= {row[0] for row in (*new, *refused)}

    def due_from(self, span: str) -> None:
        """A span and all later ones are to be learnt again."""
        self.state |= {other: DUE for other in self.state if other >= span}

    def runs(self) -> list[tuple[str, ...]]:
        """What is due, in order; the first spans together."""
        closed = [span for span in sorted(self.state) if span < self.today]
        base, rest = closed[: self.pretrain], closed[self.pretrain :]
        runs = [tuple(base)] if len(base) == self.pretrain and DUE in {self.state[span] for span in base} else []
        for span in rest:
            if runs or self.state[span] == DUE:
                runs.append((span,))
        return runs

    def restate(self, span: str) -> None:
        """A span, or the base that it belongs to, and all later ones are learnt again."""
        order = sorted(self.state)
        position = order.index(span)
        self.due_from(order[position if position >= self.pretrain else 0])

    def within(self, first: str | None, last: str | None) -> list[tuple[str, ...]]:
        """The runs of a range."""
        return [run for run in self.runs() if any((first or "") <= span <= (last or "~") for span in run)]

    def live(self, learnt: set[str]) -> None:
        """A version that has learnt these spans was put live by hand: it does not go on with what others learnt."""
        self.state |= {s: REJECTED for s, state in self.state.items() if state == PUBLISHED and s not in learnt}

    def knows(self, user: str) -> bool:
        """Whether anything of a user is there."""
        return user in self.quarantined or any(user == event[0] for span in self.events.values() for event in span)

    def forget(self, user: str, retrain_from: Iterable[str] = ()) -> None:
        """Nothing of the user is left; with spans to retrain from, the first that had the user's events is due."""
        touched = [s for s, events in sorted(self.events.items()) if any(event[0] == user for event in events)]
        first = next((span for span in touched if span in set(retrain_from)), None)
        if first is not None:
            self.restate(first)
        self.events = {s: {event for event in events if event[0] != user} for s, events in self.events.items()}
        self.quarantined = [other for other in self.quarantined if other != user]
        self.forgotten.add(user)
