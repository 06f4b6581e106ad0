"""What there is to beat, against plain loops."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from imsr_core.lifelong import references
from imsr_core.lifelong.config import SplitConfig
from imsr_core.lifelong.linear import fit_linear
from imsr_core.lifelong.references import (
    FREQUENT,
    LINEAR,
    PAIRS,
    POPULAR,
    POPULAR_LAST,
    main_values,
    next_item_references,
    task_references,
)
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import TaskData
from imsr_core.testing.planted_users import planted_sequences, planted_task, sequences_of

SPLIT = SplitConfig(train=0.6, validation=0.1)


def rank(scores: dict[int, tuple[float, ...]], label: int) -> int:
    return sorted(scores, key=lambda item: scores[item], reverse=True).index(label) + 1


def test_next_item_references_are_the_counts() -> None:
    sequences = planted_sequences(120)
    lists = [row.tolist() for row in np.split(sequences.items, sequences.offsets[1:-1])]
    parts = parts_of(sequences.users, SPLIT)
    train = [row for row, part in zip(lists, parts, strict=True) if part == 0]
    popular = Counter(item for row in train for item in row)
    last = Counter(row[-1] for row in train)
    pairs = Counter(pair for row in train for pair in pairwise(row))
    hits: dict[str, list[int]] = {POPULAR: [], POPULAR_LAST: [], PAIRS: []}
    for row, part in zip(lists, parts, strict=True):
        if part != 2 or len(row) < 2:
            continue
        by_popularity = {item: (popular[item], -item) for item in range(48)}
        scores = {
            POPULAR: by_popularity,
            POPULAR_LAST: {item: (last[item], *by_popularity[item]) for item in range(48)},
            PAIRS: {item: (pairs[row[-2], item], *by_popularity[item]) for item in range(48)},
        }
        for name, values in scores.items():
            hits[name].append(rank(values, row[-1]) <= 5)
    found = main_values(next_item_references(sequences, 48, SPLIT, 12), "hr@5")
    assert found == {name: np.mean(values) for name, values in hits.items()}
    assert found[PAIRS] > found[POPULAR]


def test_the_linear_model_learns_what_items_say_and_the_most_frequent_answer_does_not() -> None:
    sequences = planted_sequences()
    task = planted_task("genre", sequences)
    found = main_values(task_references(task, SPLIT, 12), "accuracy")
    parts = parts_of(task.users, SPLIT)
    top = np.bincount(task.labels[parts == 0]).argmax()
    assert found[FREQUENT] == np.mean(task.labels[parts == 2] == top)
    assert found[LINEAR] > 0.97


def test_the_linear_model_sees_the_last_items_only_and_no_test_label() -> None:
    rng = np.random.default_rng(0)
    lists = [[int(label)] + [2] * 5 for label in rng.integers(0, 2, 300)]  # the first item tells
    sequences = sequences_of(lists)
    task = TaskData("first", sequences, sequences.users, np.array([row[0] for row in lists]), 2)
    assert main_values(task_references(task, SPLIT, 6), "accuracy")[LINEAR] == 1.0
    assert main_values(task_references(task, SPLIT, 5), "accuracy")[LINEAR] < 0.7
    flipped = np.where(parts_of(task.users, SPLIT) == 2, 1 - task.labels, task.labels)
    again = TaskData("first", sequences, sequences.users, flipped, 2)
    assert main_values(task_references(again, SPLIT, 6), "accuracy")[LINEAR] == 0.0


def test_the_linear_model_is_the_plain_regression_and_items_have_one_where_it_is_asked_for(monkeypatch) -> None:
    asked = []

    def recorded(*arguments: object, directions: int) -> object:
        asked.append(directions)
        return fit_linear(*arguments, directions=directions)  # type: ignore[arg-type]

    monkeypatch.setattr(references, "fit_linear", recorded)
    rng = np.random.default_rng(0)
    sequences = sequences_of([rng.integers(0, 9, 6).tolist() for _ in range(60)])
    labels = rng.integers(0, 3, 60)
    about_items = TaskData("b", sequences, sequences.users, labels, 3, "items")
    assert LINEAR not in task_references(about_items, SPLIT, 6)
    assert set(task_references(about_items, SPLIT, 6, linear=True)[LINEAR]) >= {"mrr@5", "hr@20"}
    task_references(TaskData("a", sequences, sequences.users, labels, 3), SPLIT, 6)
    assert asked == [0, 0]


def test_items_have_no_linear_model_and_an_empty_part_no_metrics() -> None:
    sequences = planted_sequences()
    assert set(task_references(planted_task("shop", sequences), SPLIT, 12)) == {FREQUENT}
    everybody = SplitConfig(train=0.5, validation=0.49999)
    assert task_references(planted_task("genre", sequences), everybody, 12)[FREQUENT] == {}
    assert next_item_references(sequences, 48, everybody, 12)[PAIRS] == {}
