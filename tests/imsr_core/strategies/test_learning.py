"""Learning works: planted clusters are found, and a cluster that is new to a user gets an interest."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn import functional

from imsr_core.retrieval import top_items
from imsr_core.state import ModelState
from imsr_core.strategies import STRATEGIES, SpanUpdate, strategy_named
from imsr_core.testing.planted_logs import (
    CLUSTER,
    EXTRACTORS,
    INCREMENTAL,
    copy_of,
    planted_span,
    random_span,
    tiny_config,
)

CLUSTERS = 5
ITEMS = CLUSTERS * CLUSTER
LIKES = {user: [user % CLUSTERS, (user + 1 + user // CLUSTERS % 2) % CLUSTERS] for user in range(40)}
#: Users 0 .. 4 turn to a cluster that they never touched; the others go on as before.
MOVED = {user: [min(set(range(CLUSTERS)) - set(LIKES[user]))] for user in range(5)}
STAYED = {user: LIKES[user] for user in range(5, 40)}


@cache
def learn(extractor: str, strategy: str) -> tuple[SpanUpdate, SpanUpdate]:
    """Two spans: everybody's two clusters, then a new one for some."""
    config = tiny_config(
        extractor,
        model={"logit_scale": 4.0, "history": 12},
        training={
            "base_epochs": 10,
            "base_learning_rate": 0.03,
            "epochs": 8,
            "learning_rate": 0.01,
            "negatives": 0,
            "batch_size": 64,
        },
        detector={"c1": 1.0},
        trimmer={"c2": 0.05},
    )
    first = STRATEGIES[strategy](ModelState.initial(config), planted_span(LIKES, 24, seed=1), ITEMS)
    return first, STRATEGIES[strategy](first.state, planted_span(MOVED | STAYED, 12, seed=2), ITEMS)


def share_of_top(state: ModelState, likes: dict[int, list[int]], n: int) -> float:
    """Share of each user's n best items that lie in ``likes``: by chance 1 in 5 for each cluster."""
    users = torch.tensor(sorted(likes))
    found = top_items(state.store, users, state.item_vectors(), n).items // CLUSTER
    liked = [[c in likes[u] for c in row] for u, row in zip(users.tolist(), found.tolist(), strict=True)]
    return float(torch.tensor(liked).double().mean())


BOTH = pytest.mark.parametrize(("strategy", "extractor"), [(s, e) for s in INCREMENTAL for e in EXTRACTORS])


@BOTH
def test_planted_clusters_are_found_and_the_loss_falls(strategy, extractor):
    first, second = learn(extractor, strategy)
    assert share_of_top(first.state, LIKES, 8) > 0.9
    assert share_of_top(second.state, STAYED, 8) > 0.9
    assert first.losses[-1] < 0.8 * first.losses[0]


@BOTH
def test_the_next_span_is_predicted_far_better_than_by_chance(strategy, extractor):
    first, _ = learn(extractor, strategy)
    span = planted_span(STAYED, 12, seed=2)
    users = torch.from_numpy(span.users)
    top = top_items(first.state.store, users, first.state.item_vectors(), 8).items
    hits = (top[torch.from_numpy(span.rows)] == torch.from_numpy(span.items)[:, None]).any(1)
    assert float(hits.double().mean()) > 0.4  # 0.2 by chance; 0.5 is all that two clusters of eight allow


@BOTH
def test_a_new_taste_is_recommended(strategy, extractor):
    first, second = learn(extractor, strategy)
    assert share_of_top(first.state, MOVED, 8) < 0.1
    assert share_of_top(second.state, MOVED, 8) > 0.3


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_cluster_that_is_new_to_a_user_gets_an_interest(extractor):
    """One born in the span, with routing. Self-attention reads the new items into the old interests as well, and
    what is orthogonal to those cannot point there: any interest will do."""
    _, update = learn(extractor, "imsr")
    state, pointing = update.state, 0
    for user, (cluster,) in MOVED.items():
        own = state.store.take(state.store.user == user)
        if extractor != "comirec-sa":
            own = own.take(own.born == 1)
        best = (own.vectors @ state.item_vectors().T).topk(4, dim=1).indices // CLUSTER
        pointing += any(row.count(cluster) >= 3 for row in best.tolist())
    assert pointing >= 4


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_items_of_a_cluster_end_up_alike(extractor):
    first, _ = learn(extractor, "imsr")
    unit = functional.normalize(first.state.items.weight, dim=-1)
    cluster = torch.arange(ITEMS) // CLUSTER
    same = cluster[:, None] == cluster
    cosine = unit @ unit.T
    assert cosine[same].mean() > cosine[~same].mean() + 0.6


def test_early_stopping_goes_back_to_the_best_epoch():
    """With patience, training stops early, and the weights are those of the best epoch: those of a run of as many
    epochs without patience to look further."""
    likes = {user: [user % CLUSTERS] for user in range(10)}
    span = planted_span(likes, 30, seed=3)
    steps: list[float] = []

    def run(epochs: int, patience: int) -> SpanUpdate:
        training = {"base_epochs": epochs, "patience": patience, "base_learning_rate": 0.3, "window": 1}
        state = ModelState.initial(tiny_config(training=training))
        return strategy_named("imsr")(state, span, ITEMS, progress=lambda *step: steps.append(step[2]))

    stopped = run(40, 2)
    best = stopped.losses.index(min(stopped.losses))
    assert len(stopped.losses) == best + 3 < 40
    again = run(best + 1, 2)
    assert again.losses == stopped.losses[: best + 1]
    left, right = copy_of(stopped.state), copy_of(again.state)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_cost_of_a_step_is_the_batch_not_the_catalogue():
    """Rows beyond the batch are not even read by the optimiser: only touched clocks advance."""
    state = ModelState.initial(tiny_config(training={"negatives": 5, "batch_size": 64, "base_epochs": 1}))
    update = strategy_named("imsr")(state, random_span(1, range(3), 10), 5_000)
    touched = int((update.state.items.steps > 0).sum())
    assert 0 < touched <= 10 + 5


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_user_learns_from_the_first_event_of_a_span_if_interests_are_stored(extractor):
    first, _ = learn(extractor, "imsr")
    state = replace(first.state, config=replace(first.state.config, detector=tiny_config().detector))
    update = strategy_named("imsr")(state, planted_span({3: [3]}, 1, seed=5), ITEMS)
    assert len(update.losses) == 8
    assert not torch.equal(update.state.items.weight, state.items.weight)
