"""RecTools' SASRec on a split that `benchmark_next_item.py` wrote, in a virtual environment of its own:

    pip install -r tests/benchmarks/next_item/requirements.txt
    python tests/benchmarks/next_item/rectools_sasrec.py OUT/ml-100k.0.csv [--dropout 0.2]

It trains on the training users; every five epochs it is judged by NDCG@20 on the last ten items of each validation
user, and the best time counts. Its result is one line of OUT/results.jsonl. Nothing of imsr is imported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
from rectools.dataset import Dataset
from rectools.models import SASRecModel

BACK, TOP = 10, 20
EVERY, PATIENCE = 5, 25


class Held(NamedTuple):
    """Histories of made-up users, one a held-out item, and that item; ``last``: it is the user's last one."""

    histories: Dataset
    labels: pd.Series
    last: pd.Series


def held_out(log: pd.DataFrame, part: int, length: int) -> Held:
    """The last ten items of each user of a part, each with the ``length`` items before it."""
    histories, labels = [], []
    for _, own in log[log.part == part].sort_values("place").groupby("user_id"):
        for back in range(1, min(BACK, len(own) - 1) + 1):
            end = len(own) - back
            histories.append(own.iloc[max(0, end - length) : end].assign(user_id=len(labels)))
            labels.append((own.item_id.iloc[end], back == 1))
    found = pd.DataFrame(labels, columns=["item_id", "last"])
    return Held(dataset_of(pd.concat(histories)), found.item_id, found["last"])


def dataset_of(log: pd.DataFrame) -> Dataset:
    """Rows as RecTools takes them."""
    return Dataset.construct(log[["user_id", "item_id", "weight", "datetime"]])


def scores(model: Any, held: Held) -> dict[str, dict[str, float]]:
    """NDCG@20, HR@20 and MRR@5 over all held-out items, and over the last ones."""
    lists = model.recommend(held.labels.index.to_numpy(), held.histories, k=TOP, filter_viewed=False)
    hits = lists[lists.item_id.to_numpy() == held.labels.reindex(lists.user_id).to_numpy()]
    ranks = hits.set_index("user_id")["rank"].reindex(held.labels.index)
    return {"ten": _means(ranks), "last": _means(ranks[held.last.to_numpy()])}


def _means(ranks: pd.Series) -> dict[str, float]:
    gains = {"ndcg@20": 1 / np.log2(ranks + 1), "hr@20": ranks.notna().astype(float), "mrr@5": (1 / ranks)[ranks <= 5]}
    return {name: float(values.sum() / len(ranks)) for name, values in gains.items()}


def trainer(epochs: int) -> Callable[[], lightning.Trainer]:
    """A silent trainer on the processor."""
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
    return lambda: lightning.Trainer(max_epochs=epochs, min_epochs=epochs, accelerator="cpu", **quiet)


def main() -> None:
    """Train, keep the best time, write its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="OUT/DATASET.SEED.csv: user, item, place, part")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--dropout", type=float, default=0.2, help="RecTools' default is 0.2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--most", type=int, default=200, help="epochs at most")
    options = parser.parse_args()
    dataset, seed, _ = options.split.name.rsplit(".", 2)
    log = pd.read_csv(options.split).rename(columns={"user": "user_id", "item": "item_id"})
    log = log.assign(weight=1.0, datetime=pd.Timestamp("2020-01-01") + pd.to_timedelta(log.place, unit="s"))
    judges, test = held_out(log, 1, options.length), held_out(log, 2, options.length)
    lightning.seed_everything(int(seed))
    model = SASRecModel(
        n_factors=options.dim,
        n_heads=1,
        session_max_len=options.length,
        dropout_rate=options.dropout,
        batch_size=options.batch,
        epochs=1,
        get_trainer_func=trainer(1),
        recommend_torch_device="cpu",
    )
    train, started, best, reached, epoch = dataset_of(log[log.part == 0]), time.process_time(), 0, {}, 1
    model.fit(train)
    while epoch < options.most and epoch - best < PATIENCE:
        model.fit_partial(train, min_epochs=EVERY, max_epochs=EVERY)
        epoch += EVERY
        found = scores(model, judges)["ten"]["ndcg@20"]
        print(f"epoch {epoch}: {found:.4f}, {time.process_time() - started:.0f} s of processor", flush=True)
        if not reached or found > reached["judged"]:
            best, reached = epoch, {"judged": found, **scores(model, test)}
    name = f"RecTools SASRec, dropout {options.dropout:g}"
    result = {"dataset": dataset, "seed": int(seed), "model": name, "epoch": best, **reached}
    result["seconds"] = round(time.process_time() - started, 1)
    with (options.split.parent / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(result)


if __name__ == "__main__":
    main()
