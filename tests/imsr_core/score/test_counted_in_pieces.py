"""Counting holds a piece of the log at a time: the same counts whatever the pieces, and room that follows a piece."""

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest
import torch

from imsr_core.config import ScoreConfig
from imsr_core.ragged import concatenate, pieces_of
from imsr_core.score import Score, contexts, counting, factors, neighbours, personal, trend
from imsr_core.score.contexts import Contexts
from imsr_core.testing.planted_logs import random_span

N_ITEMS, USERS = 60, 200
CONFIG = ScoreConfig(enabled=True, factors=False, neighbours_kept=7)
SPANS = [random_span(seed, range(first, USERS), N_ITEMS) for seed, first in enumerate((0, 50))]


def cut_into(monkeypatch, events, entries):
    for module in (counting, personal):
        monkeypatch.setattr(module, "EVENTS", events)
    for module in (contexts, trend):
        monkeypatch.setattr(module, "PIECE", events)
    monkeypatch.setattr(neighbours, "ENTRIES", entries)


def learnt():
    score = Score.empty(CONFIG, 86_400_000_000)
    for span in SPANS:
        score = score.after(span, N_ITEMS)
    return score


@pytest.mark.parametrize(("events", "entries"), [(1, 1), (37, 100), (1_000, 5_000)])
def test_pieces_of_any_size_give_the_same_counts(monkeypatch, events, entries):
    whole = learnt()
    cut_into(monkeypatch, events, entries)
    found = learnt()
    for mine, other in zip(found.neighbours.since, whole.neighbours.since, strict=True):
        assert all(np.array_equal(getattr(mine, f.name), getattr(other, f.name)) for f in fields(Contexts))
    assert np.array_equal(found.neighbours.degree, whole.neighbours.degree)
    assert np.array_equal(found.personal.pairs.keys, whole.personal.pairs.keys)
    np.testing.assert_allclose(found.personal.pairs.values, whole.personal.pairs.values, rtol=1e-12)
    base, pieces = whole.neighbours.settled.base, list(found.neighbours.settling())
    assert np.array_equal(found.neighbours.settled.base.values, base.values)
    assert np.array_equal(np.concatenate([piece.keys for piece in pieces]), base.keys)
    assert np.array_equal(found.trend.counts, whole.trend.counts)


def test_a_score_of_some_users_alone_says_of_them_what_the_whole_says():
    whole, users = learnt(), np.array([3, 70, 150])
    part = whole.only_of(users).found()
    assert not part.neighbours.since
    assert len(part.personal.pairs) < len(whole.personal.pairs)
    assert torch.equal(part.scorer(None).scores(users), whole.scorer(None).scores(users))
    mine, items = np.repeat(users, N_ITEMS), np.tile(np.arange(N_ITEMS), 3)
    assert np.array_equal(part.neighbours.because(mine, items), whole.neighbours.because(mine, items))


def test_no_piece_has_more_events_than_asked_but_that_of_one_user():
    span = concatenate(SPANS)
    pieces = list(pieces_of(span, 40))
    assert all(piece.n_events <= 40 or len(piece) == 1 for piece in pieces)
    assert np.array_equal(np.concatenate([piece.users for piece in pieces]), span.users)
    assert np.array_equal(np.concatenate([piece.items for piece in pieces]), span.items)
    assert len(list(pieces_of(SPANS[0], 10**9))) == 1


def test_entries_of_a_part_are_those_of_an_item_and_about_as_many_as_asked(monkeypatch):
    table, held = learnt().neighbours, []
    most = max(sum(c.entries_of_items(N_ITEMS) for c in table.since))
    entries = Contexts.entries

    def noted(self, bits, wanted):
        found = entries(self, bits, wanted)
        held.append(len(found))
        return found

    monkeypatch.setattr(Contexts, "entries", noted)
    monkeypatch.setattr(neighbours, "ENTRIES", 200)
    kept = sum(map(len, table.settling()))
    assert kept
    assert sum(held) > 20 * (200 + most)
    assert max(held) <= 200 + most


def test_the_room_of_settling_follows_the_piece_and_not_the_log(monkeypatch):
    n_items = 2_000
    span = random_span(3, range(4_000), n_items)
    table = Score.empty(CONFIG, 86_400_000_000).after(span, n_items).neighbours
    for name in ("partners", "followers"):  # kept with the contexts, a byte a row
        assert getattr(table.since[0], name).nbytes == len(table.since[0])

    def peak(entries):
        monkeypatch.setattr(neighbours, "ENTRIES", entries)
        monkeypatch.setattr(contexts, "PIECE", entries // 4)
        tracemalloc.start()
        rows = sum(map(len, table.settling()))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return rows, found

    (rows, small), (same, large) = peak(4_000), peak(10**9)
    assert rows == same
    assert small < large / 5


def test_factors_are_the_same_bits_however_many_systems_are_there_together(monkeypatch):
    whole = Score.empty(ScoreConfig(enabled=True), 86_400_000_000).after(SPANS[0], N_ITEMS).factors.factors
    monkeypatch.setattr(factors, "SYSTEMS", 7)
    few = Score.empty(ScoreConfig(enabled=True), 86_400_000_000).after(SPANS[0], N_ITEMS).factors.factors
    assert torch.equal(few, whole)
