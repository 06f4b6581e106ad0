"""RecBole's SINE, its only model of several interests, by its own loss, and Adam as its trainer steps it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from peers.machine import rate
from peers.problem import Problem
from recbole.model.sequential_recommender.sine import SINE

NAMES = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
}
#: RecBole's own defaults of the model (sine.yaml), but for its length and number of interests.
SHAPE = {"layer_norm_eps": 1e-12, "prototype_size": 500, "tau_ratio": 0.1, "reg_loss_ratio": 0.1, "loss_type": "BPR"}


def samples_per_second(problem: Problem, seconds: float) -> float:
    """Targets that a second of processor trains: BPR, for which RecBole repeats a target for each of its negatives."""
    torch.autograd.set_detect_anomaly(False)  # importing the model switches it on for everybody
    sizes = {"embedding_size": problem.dim, "interest_size": problem.interests}
    config = NAMES | SHAPE | sizes | {"MAX_ITEM_LIST_LENGTH": problem.history, "device": "cpu"}
    counts = {"user": problem.users, "item": problem.items + 1}
    dataset = SimpleNamespace(user_num=counts["user"], item_num=counts["item"], num=counts.get)
    model = SINE(config, dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ((past, target, negatives),) = problem.batches(1)
    times = problem.negatives
    batch = {
        "item_list": torch.from_numpy(np.repeat(past + 1, times, axis=0)),
        "length": torch.full((problem.batch * times,), problem.history),
        "item": torch.from_numpy(np.repeat(target + 1, times)),
        "neg_item": torch.from_numpy(negatives.flatten() + 1),
    }

    def step() -> None:
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()

    return rate(step, seconds) * problem.batch
