"""Each strategy as the nights of a workspace: what it carries is in the version, so a stop costs nothing."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_world import NOW, TOML, VERSIONS, log, make, run_all

from imsr_core.ragged import concatenate
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from pipelines.care.forget import forget
from pipelines.interests.version import Version
from pipelines.sequences.chain import chain_of
from pipelines.sequences.loader import load_sequences
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.warehouse.catalog import connect

pytestmark = pytest.mark.slow

ELASTIC = """
[trimmer]
c2 = 0.05
[elastic]
budget = 3
idle_spans = 2
merge_cosine = 0.5
"""


def toml(strategy: str) -> str:
    text = TOML.replace("[training]\n", f'[gate]\nenabled = false\n[training]\nstrategy = "{strategy}"\n', 1)
    return text.replace("[detector]\n", "[detector]\nc1 = 1.0\n", 1) + ELASTIC if strategy == "elastic" else text


@pytest.fixture(scope="module", params=["ader", "sml", "elastic"])
def learnt(request, tmp_path_factory):
    workspace = make(tmp_path_factory.mktemp(request.param) / "shop", log(), toml(request.param))
    run_all(workspace)
    return request.param, workspace


def test_the_nights_of_a_workspace_are_the_chain_in_memory(learnt):
    strategy, workspace = learnt
    version = Version.open(workspace, VERSIONS[-1])
    assert version.lineage.strategy == strategy
    links = chain_of(workspace, version.lineage.span_id, next(iter(version.lineage.data.values())))
    parts = [load_sequences(link.folder) for link in links]
    spans = [concatenate(parts[:2]), *parts[2:]]
    state = ModelState.initial(workspace.settings.interests)
    for number, span in enumerate(spans):
        n_items = Vocabulary.open([link.folder for link in links[: number + 2]]).n_items
        state = strategy_named(strategy)(state, span, n_items).state
    loaded = version.load(optimizer=True)
    assert torch.equal(loaded.items.weight, state.items.weight)
    assert torch.equal(loaded.store.vectors, state.store.vectors)
    for own, other in ((loaded.memory, state.memory), (loaded.user_memory, state.user_memory)):
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own)
    assert loaded.memory or loaded.user_memory


def test_what_is_forgotten_shows_with_its_reason(learnt):
    strategy, workspace = learnt
    with connect(workspace) as connection:
        rows = connection.execute("SELECT DISTINCT change, reason, interest_id FROM interest_changes").fetchall()
    reasons = {(change, reason) for change, reason, _ in rows}
    kept = {("born", None), ("kept", None)}
    assert kept <= reasons
    if strategy == "elastic":
        assert {("trimmed", "redundant"), ("forgotten", "budget")} & reasons
        assert reasons - kept - {("trimmed", "redundant")}
        assert all(number is not None for change, _, number in rows if change == "forgotten")
    else:
        assert reasons == kept


def test_a_forgotten_user_is_in_no_memory(learnt):
    strategy, workspace = learnt
    version = Version.open(workspace, VERSIONS[-1])
    memory = version.load(optimizer=True).user_memory
    owners = {name for name in memory if name.endswith(".user")}
    user = next(int(u) for name in sorted(owners) for u in memory[name].tolist())
    forget(workspace, version.vocabulary.user_ids(np.array([user])).to_pylist()[0], now=NOW)
    files = list(workspace.root.glob("versions/*/memory-*.parquet"))
    assert files
    assert all(user not in pq.read_table(path)["user_index"].to_pylist() for path in files)
    after = Version.open(workspace, VERSIONS[-1]).load(optimizer=True).user_memory
    assert after.keys() == memory.keys()
    assert any(len(after[name]) for name in owners) or strategy == "elastic"
