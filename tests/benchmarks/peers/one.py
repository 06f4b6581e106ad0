"""One figure, in a process of its own: what one package does at import must not slow another.

python -m peers.one train imsr ComiRec-DR 20000 2.0        # package, model, items, seconds -> samples a second
python -m peers.one lists faiss - 50000 2.0                # -> users a second
"""

from __future__ import annotations

import sys

import torch
from peers.problem import Problem

LIST, USERS, QUERIED = 20, 256, 4


def trained(package: str, model: str, items: int, seconds: float) -> float:
    """Samples a second."""
    problem = Problem(items)
    if package == "imsr":
        from peers import ours

        return ours.samples_per_second(ours.EXTRACTORS[model], problem, seconds)
    if package == "torch-rechub":
        from peers import rechub

        return rechub.samples_per_second(model, problem, seconds)
    from peers import recbole_sine

    return recbole_sine.samples_per_second(problem, seconds)


def listed(package: str, items: int, seconds: float) -> float:
    """Users a second, of whose interests each has its 20 best items found. faiss is timed without uniting the lists;
    that both find the same is checked first."""
    from peers import ours
    from peers.machine import rate

    store, vectors = ours.interests_and_items(USERS, items, 64, QUERIED)
    if package == "imsr":
        return rate(lambda: ours.lists(store, vectors, LIST), seconds) * USERS
    from peers import faiss_flat

    index, interests = faiss_flat.index_of(vectors.numpy()), store.vectors.view(USERS, QUERIED, -1).numpy()
    same = (
        faiss_flat.united(*faiss_flat.search(index, interests, LIST), LIST) == ours.lists(store, vectors, LIST).numpy()
    )
    if same.mean() < 0.999:  # equal scores may change places
        raise SystemExit(f"the lists differ: {same.mean():.4f} of the places are the same")
    return rate(lambda: faiss_flat.search(index, interests, LIST), seconds) * USERS


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    what, package, model, items, seconds = sys.argv[1:]
    size, limit = int(items), float(seconds)
    print(trained(package, model, size, limit) if what == "train" else listed(package, size, limit))


if __name__ == "__main__":
    main()
