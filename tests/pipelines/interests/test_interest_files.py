"""Interests in files: what is read as of a version is the store that the strategies had in memory."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_world import DAYS, NOW, TOML, VERSIONS, interests_of, land, log, make, run_all

from imsr_core.holdout import hide_last
from imsr_core.interests import InterestStore
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from pipelines.interests import interest_files
from pipelines.interests import version as versions_module
from pipelines.interests.gate_events import salt_of
from pipelines.interests.interest_files import read_interests, rows_in, write_interests
from pipelines.interests.version import Version
from pipelines.nights.night import run_span
from pipelines.nights.plan import due
from pipelines.sequences.loader import load_history, load_sequences
from pipelines.workspace.parquet_files import FEW_GROUPS, ParquetFileError
from pipelines.workspace.writer import writing


def in_memory(workspace) -> list[ModelState]:
    """The same spans learnt by the strategy alone, with everybody's interests in memory."""
    with workspace.ledger.snapshot() as view:
        rows = [view.sequences(day)[-1] for day in DAYS]
    folders = [workspace.resolve(row.path) for row in rows]
    spans = [load_history(folders[:2]), *(load_sequences(folder) for folder in folders[2:])]
    items = np.cumsum([row.new_items for row in rows])[1:].tolist()
    state, states = ModelState.initial(workspace.settings.interests), []
    kept_back = workspace.settings.gate.hidden_share
    for day, span, n_items in zip(DAYS[1:], spans, items, strict=True):
        visible, _ = hide_last(span, kept_back, salt_of(workspace.settings.training.seed, day))
        state = strategy_named("imsr")(state, span, n_items, visible=visible).state
        states.append(state)
    return states


def assert_same_store(one: InterestStore, two: InterestStore) -> None:
    for name in ("user", "interest_id", "born", "active", "support", "vectors", "queries", "query_moments"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert torch.equal(one.query_steps, two.query_steps)


@pytest.fixture(scope="module", params=["comirec-dr", "comirec-sa"])
def world(request, learnt, tmp_path_factory):
    """The learnt workspace, and one with an interest's own query (self-attention)."""
    if request.param == "comirec-dr":
        return learnt
    toml = TOML.replace("[model]", f'[model]\nextractor = "{request.param}"\nattention_units = 6')
    workspace = make(tmp_path_factory.mktemp("attention") / "w", log(), toml)
    run_all(workspace)
    return workspace


def test_as_of_every_version_equals_the_chain_in_memory(world):
    for version_id, state in zip(VERSIONS, in_memory(world), strict=True):
        loaded = Version.open(world, version_id).load(optimizer=True)
        assert_same_store(loaded.store, state.store)
        assert torch.equal(loaded.items.weight, state.items.weight)
        assert torch.equal(loaded.items.moment2, state.items.moment2)
        assert loaded.spans == state.spans


def test_some_users_equal_the_same_users_of_all(world):
    version = Version.open(world)
    everybody = version.load().store
    for users in ([], [0], [3, 4, 11], [999], everybody.users.tolist()):
        index = np.array(users, dtype=np.int64)
        assert_same_store(version.load(index).store, everybody.of_users(torch.from_numpy(index)))


def test_a_file_holds_the_users_of_its_span_only(learnt):
    for version_id in VERSIONS[1:]:
        version = Version.open(learnt, version_id)
        rows = pq.read_table(version.folder / "interests.parquet")
        if len(version.lineage.interests) == 1:
            continue
        with learnt.ledger.snapshot() as view:
            span = load_sequences(learnt.resolve(view.sequences(version.lineage.span_id)[-1].path))
        assert sorted(set(rows["user_index"].to_pylist())) == span.users.tolist()
        assert set(rows["version_id"].to_pylist()) == {version_id}


def test_starting_a_chain_over_changes_nothing_that_is_read(learnt, tmp_path, monkeypatch):
    monkeypatch.setattr(versions_module, "COMPACTION_FACTOR", 1e9)
    workspace = make(tmp_path / "w", log())
    run_all(workspace)
    assert [len(Version.open(workspace, version_id).lineage.interests) for version_id in VERSIONS] == [1, 2, 3, 4, 5]
    assert 1 in [len(Version.open(learnt, version_id).lineage.interests) for version_id in VERSIONS[2:]]
    for version_id in VERSIONS:
        one, two = Version.open(workspace, version_id), Version.open(learnt, version_id)
        assert_same_store(one.load().store, two.load().store)
        assert one.row.fingerprint == two.row.fingerprint
        assert one.row.summary["interests"] == two.row.summary["interests"]


def test_a_chain_never_holds_much_more_than_what_is_alive(tmp_path):
    workspace = make(tmp_path / "w", log(range(2)))
    run_all(workspace)
    for day in range(10, 22):  # the same few users, again and again
        land(workspace, [(f"u{n}", f"i{n}", f"2024-03-{day}T00:00:{n:02d}Z") for n in range(9)], f"{day}.csv")
    later = NOW.replace(day=30)
    with writing(workspace, "test", now=later) as writer:
        for run in due(workspace, now=later):
            outcome = run_span(writer, run)
            version = Version.open(workspace, outcome.version.version_id)
            own = pq.read_metadata(version.folder / "interests.parquet").num_rows
            assert rows_in(version.interest_files()) <= 2 * len(version.load().store) + own
    assert len(version.lineage.interests) < 12


@pytest.mark.parametrize("damage", ["missing", "cut", "no column"])
def test_a_damaged_older_file_is_named(learnt, copy_of, damage):
    workspace = copy_of(learnt)
    version = next(v for v in map(partial(Version.open, workspace), VERSIONS) if len(v.interest_files()) > 1)
    path = version.interest_files()[0]
    assert path.parent != version.folder
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["support"]), path)
    with pytest.raises(ParquetFileError) as caught:
        version.load()
    assert str(path) in caught.value.message
    assert "doctor" in caught.value.hint


def test_vectors_of_another_length_are_refused(learnt):
    files = Version.open(learnt).interest_files()
    with pytest.raises(ParquetFileError, match="vector is not of length 9"):
        read_interests(files, 9, 0)


@pytest.mark.parametrize("users", [None, np.arange(0, 600, 3)], ids=["everybody", "a third"])
def test_no_more_than_a_few_row_groups_are_there_at_once(tmp_path, monkeypatch, users):
    """A third of the users have rows in every group; who wants everybody holds a few groups beside the store, too."""
    store = InterestStore.random(torch.arange(600), 3, 4, scale=1.0, born=0, generator=torch.Generator().manual_seed(0))
    path, ids = tmp_path / "interests.parquet", pa.chunked_array([[f"u{n}" for n in range(600)]])
    monkeypatch.setattr(interest_files, "GROUP_ROWS", 50)
    write_interests(store, ids, ["s1"], "v1", path)
    assert pq.read_metadata(path).num_row_groups == 36
    read, asked = pq.ParquetFile.read_row_groups, []

    def counted(file, groups, columns):
        asked.append(len(groups))
        return read(file, groups, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    found = read_interests([path], 4, 0, users)
    assert_same_store(found, store if users is None else store.of_users(torch.from_numpy(users)))
    assert (sum(asked), max(asked)) == (36, FEW_GROUPS)


def test_a_store_of_nobody_is_written_and_read(tmp_path):
    path = tmp_path / "interests.parquet"
    write_interests(InterestStore.empty(4), pa.chunked_array([], pa.string()), ["s1"], "v1", path)
    assert_same_store(read_interests([path], 4, 0), InterestStore.empty(4))
    assert rows_in([path]) == 0
    assert_same_store(read_interests([], 4, 0), InterestStore.empty(4))


def test_labels_are_the_spans_of_birth_and_of_the_last_use(learnt):
    version = Version.open(learnt)
    store, spans = version.load().store, version.lineage.spans
    rows = {}
    for path in version.interest_files():
        for row in pq.ParquetFile(path).read().to_pylist():
            rows[row["user_index"], row["interest_id"]] = row
    for user, interest, born, active in zip(
        store.user.tolist(), store.interest_id.tolist(), store.born.tolist(), store.active.tolist(), strict=True
    ):
        row = rows[user, interest]
        assert (row["born_span"], row["active_span"]) == (spans[born], spans[active])
        assert row["norm"] == pytest.approx(np.linalg.norm(row["vector"]), rel=1e-5)
    assert len(interests_of(learnt, VERSIONS[-1])) == len(store)
