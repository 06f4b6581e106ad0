"""torch-rechub's ComiRec, trained by its own trainer on ready batches."""

from __future__ import annotations

import torch
from peers.machine import rate
from peers.problem import Problem
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import ComirecDR, ComirecSA
from torch_rechub.trainers import MatchTrainer


def samples_per_second(model_name: str, problem: Problem, seconds: float) -> float:
    """Targets that a second of processor trains: softmax over the target and its own negatives, dense Adam."""
    vocabulary, dim = problem.items + 1, problem.dim  # 0 is padding
    user = [SparseFeature("user", vocab_size=problem.users, embed_dim=dim)]
    item = [SparseFeature("item", vocab_size=vocabulary, embed_dim=dim)]
    past = [SequenceFeature("past", vocab_size=vocabulary, embed_dim=dim, pooling="concat", shared_with="item")]
    others = [SequenceFeature("others", vocab_size=vocabulary, embed_dim=dim, pooling="concat", shared_with="item")]
    if model_name == "ComiRec-DR":
        model = ComirecDR(user, past, item, others, max_length=problem.history, interest_num=problem.interests)
        torch.nn.init.normal_(model.capsule.w, std=0.02)  # the package leaves this memory as it was
    else:
        model = ComirecSA(user, past, item, others, interest_num=problem.interests)
    trainer = MatchTrainer(model, mode=2, optimizer_params={"lr": 1e-3})
    batches = [
        (
            {
                "user": torch.arange(problem.batch) % problem.users,
                "past": torch.from_numpy(past + 1),
                "item": torch.from_numpy(target + 1),
                "others": torch.from_numpy(negatives + 1),
            },
            torch.zeros(problem.batch),
        )
        for past, target, negatives in problem.batches(1)
    ]
    return rate(lambda: trainer.train_one_epoch(batches), seconds) * problem.batch
