"""What a task reads of a user: the last state, or the mean of the states of several windows."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import run
from imsr_core.encoders.tokens import FIRST_ITEM, PAD, TASK
from imsr_core.lifelong.config import ObjectiveConfig
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.pooling import learnt_pooling, wanted_pooling
from imsr_core.lifelong.state import TaskRecord
from imsr_core.lifelong.view import Pooled, View, batched_vectors

LENGTH, ITEMS, DIM = 4, 30, 6


def view_of(name: str, pooling: Pooled, reading: str = "items") -> View:
    config = EncoderConfig(name=name, dim=DIM, length=LENGTH, dilations=(1,), layers=1)
    weights = initial_weights(config, ITEMS, seed=3)
    return View(build_encoder(config), weights, Head(torch.zeros(2, DIM)), ITEMS, reading=reading, pooling=pooling)  # type: ignore[arg-type]


def histories(width: int) -> torch.Tensor:
    """Left-padded rows of users with 0 to ``width`` items."""
    rows = torch.full((width + 1, width), PAD)
    for n in range(1, width + 1):
        rows[n, -n:] = torch.randint(FIRST_ITEM, FIRST_ITEM + ITEMS, (n,), generator=torch.Generator().manual_seed(n))
    return rows


@pytest.mark.parametrize("how", ["mean", "root"])
@pytest.mark.parametrize("reading", ["items", "token"])
@pytest.mark.parametrize("name", ["nextitnet", "sasrec", "gru4rec", "dssm"])
def test_windows_are_read_each_by_itself_and_every_state_counts_once(name: str, reading: str, how: str) -> None:
    view = view_of(name, Pooled(how, 3), reading)  # type: ignore[arg-type]
    found = view.vectors(histories(3 * LENGTH))
    for n, vector in enumerate(found):
        items = histories(3 * LENGTH)[n, 3 * LENGTH - n :]
        states = []
        while len(items):
            cut = max(0, len(items) - LENGTH)
            window, items = items[cut:], items[:cut]
            window = window if reading == "items" else torch.cat([window, torch.tensor([TASK])])
            states.append(run(view.encoder, view.weights, window.unsqueeze(0))[0])
        if states:
            joined = torch.cat(states)
            shrunk = joined.mean(dim=0) if how == "mean" else joined.sum(dim=0) / (len(joined) * LENGTH) ** 0.5
            torch.testing.assert_close(vector, shrunk)
        elif reading == "items":
            assert not vector.any()


def test_what_lies_before_the_windows_is_not_read() -> None:
    view = view_of("nextitnet", Pooled("mean", 2))
    rows = histories(5 * LENGTH)
    torch.testing.assert_close(view.vectors(rows), view.vectors(rows[:, -2 * LENGTH :]))
    last = view_of("nextitnet", Pooled())
    torch.testing.assert_close(last.vectors(rows), last.vectors(rows[:, -LENGTH:]))


def test_a_history_within_one_window_is_read_as_without_windows() -> None:
    rows = histories(LENGTH)
    torch.testing.assert_close(
        view_of("sasrec", Pooled("mean", 7)).vectors(rows), view_of("sasrec", Pooled("mean")).vectors(rows)
    )


@pytest.mark.parametrize("name", ["nextitnet", "gru4rec"])
def test_a_full_window_is_its_mean_and_a_short_one_less(name: str) -> None:
    rows = histories(LENGTH)
    mean, root = (view_of(name, Pooled(how, 2)).vectors(rows) for how in ("mean", "root"))  # type: ignore[arg-type]
    shares = (torch.arange(LENGTH + 1) / LENGTH).sqrt().unsqueeze(1)
    torch.testing.assert_close(root, mean * shares)


def test_batches_do_not_change_what_is_read() -> None:
    view, rows = view_of("gru4rec", Pooled("mean", 3)), histories(3 * LENGTH)
    torch.testing.assert_close(batched_vectors(view, rows, 6), view.vectors(rows))
    assert view.length == 3 * LENGTH


def test_classes_read_windows_and_items_the_end() -> None:
    config = ObjectiveConfig(windows=5)
    assert wanted_pooling("classes", config) == Pooled("root", 5)
    assert wanted_pooling("items", config) == Pooled(None, 1)
    assert wanted_pooling("items", dataclasses.replace(config, pooling="mean")) == Pooled("mean", 5)
    assert wanted_pooling("classes", dataclasses.replace(config, pooling="last")) == Pooled(None, 1)


@pytest.mark.parametrize(
    ("details", "pooling"),
    [
        ({}, Pooled(None, 1)),
        ({"pooling": "mean"}, Pooled("mean", 1)),
        ({"pooling": "mean", "windows": 4}, Pooled("mean", 4)),
    ],
)
def test_a_learnt_task_reads_what_it_was_learnt_with(details: dict[str, object], pooling: Pooled) -> None:
    assert learnt_pooling(TaskRecord("age", "classes", 2, 9, 0, {}, details)) == pooling
