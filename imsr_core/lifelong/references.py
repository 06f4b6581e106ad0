"""What a task scores without an encoder: the answers that a model must beat to have learnt anything about users.

    next item       popular            items by how often the training users had them
                    popular last       items by how often a training user's history ends with them
                    table of pairs     what followed the last item before (a first-order Markov chain), then popular
    classes, items  most frequent      labels by how many training users have them
    classes (items) linear on items    softmax regression on which items users had, of those the task reads (`linear`)

All are fitted on the training users and scored on the test users, on the examples and by the ranking that the encoder's
tasks are scored by.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.config import SplitConfig
from imsr_core.lifelong.evaluation import label_ranks, metrics_of_ranks
from imsr_core.lifelong.linear import fit_linear
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import TaskData, next_item_examples, task_examples
from imsr_core.ragged import SpanSequences, drop_empty, take_rows

POPULAR, POPULAR_LAST, PAIRS = "popular", "popular last", "table of pairs"
FREQUENT, LINEAR = "most frequent", "linear on items"

References = dict[str, dict[str, float]]
"""Reference -> metric -> value; a reference without a test example has no metrics."""

_CELLS = 20_000_000  # scores held at once


def next_item_references(sequences: SpanSequences, n_items: int, split: SplitConfig, length: int) -> References:
    """``popular``, ``popular last`` and ``table of pairs`` on T1's examples of the test users."""
    examples = next_item_examples(sequences, length).part("test", split)
    train = drop_empty(take_rows(sequences, np.flatnonzero(parts_of(sequences.users, split) == 0)))
    popular = _by_frequency(train.items, n_items)
    ends = np.bincount(train.items[train.offsets[1:] - 1], minlength=n_items)
    last = ends + popular / (popular.max() + 1.0)  # popularity settles ties
    labels = examples.labels.numpy()
    known = {POPULAR: popular, POPULAR_LAST: last}
    scores = {name: metrics_of_ranks(_ranks_of(values)[labels], "next_item") for name, values in known.items()}
    pairs = _pair_ranks(train, popular, (examples.inputs[examples.rows, -1] - FIRST_ITEM).numpy(), labels)
    return scores | {PAIRS: metrics_of_ranks(pairs, "next_item")}


def task_references(task: TaskData, split: SplitConfig, length: int, linear: bool | None = None) -> References:
    """``most frequent`` and ``linear on items`` on a task's examples of the test users.

    Args:
        length: L, the most recent items of a user that the encoder reads, and so the linear model.
        linear: whether that is asked for; None: of tasks about classes.
    """
    examples = task_examples(task, length, 1)
    train, wanted = examples.part("train", split), examples.part("test", split)
    frequent = _ranks_of(_by_frequency(train.labels.numpy(), task.n_labels))
    scores = {FREQUENT: metrics_of_ranks(frequent[wanted.labels.numpy()], task.kind)}
    linear = task.kind == "classes" if linear is None else linear
    if linear and len(train) and len(wanted):
        judges = examples.part("validation", split)
        known = judges if len(judges) else train
        model = fit_linear(train, known, task.n_labels, length, split.seed, directions=0).model
        logits = model.logits(wanted.inputs).index_select(0, wanted.rows)
        scores[LINEAR] = metrics_of_ranks(label_ranks(logits, wanted.labels), task.kind)
    return scores


def _by_frequency(labels: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """(n_labels,) how often each occurs, with a fraction below 1 that settles ties in the order of the labels."""
    return np.bincount(labels, minlength=n_labels) + np.arange(n_labels, 0, -1) / (n_labels + 1.0)


def _ranks_of(scores: NDArray[np.float64]) -> Tensor:
    """(Y,) scores, all different -> (Y,) the rank of each label, 1 = highest."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return torch.from_numpy(ranks)


def _pair_ranks(
    train: SpanSequences, popular: NDArray[np.float64], before: NDArray[np.int64], labels: NDArray[np.int64]
) -> Tensor:
    """(N,) rank of each label after the item ``before``: by how often it followed, then by popularity."""
    n_items = len(popular)
    inside = np.ones(len(train.items), dtype=bool)
    inside[train.offsets[:-1]] = False  # a user's first item follows nothing
    steps = np.flatnonzero(inside)
    pairs, counts = np.unique(train.items[steps - 1] * n_items + train.items[steps], return_counts=True)
    tail = popular / (popular.max() + 1.0)  # below 1: it never outweighs a count
    ranks, chunk = [], max(1, _CELLS // n_items)
    for start in range(0, len(labels), chunk):
        own = slice(start, start + chunk)
        scores = np.tile(tail, (len(labels[own]), 1))
        first, last = (np.searchsorted(pairs, (before[own] + step) * n_items) for step in (0, 1))
        rows = np.repeat(np.arange(len(scores)), last - first)
        found = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - last, last - first)
        scores[rows, pairs[found] % n_items] += counts[found]
        ranks.append(label_ranks(torch.from_numpy(scores), torch.from_numpy(labels[own])))
    return torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.int64)


def main_values(references: Mapping[str, Mapping[str, float]], metric: str) -> dict[str, float]:
    """Reference -> its value of one metric, where it has one."""
    return {name: values[metric] for name, values in references.items() if metric in values}
