"""A forgotten user is nowhere, everybody else is as before, and the chain goes on."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forget_cases import EVENTS, SALT, ZOE, places_of, zoes_world
from small_world import NOW, current, interests_of, land, run_all, states

from pipelines.care.doctor import examine
from pipelines.care.forget import ForgetError, forget, trace
from pipelines.care.forget_places import Place, Search
from pipelines.care.receipts import Receipt, receipts, user_hash
from pipelines.interests import interest_files
from pipelines.interests.recommend import Recommender, UnknownUserError
from pipelines.interests.version import Version
from pipelines.lake.ingest import ingest
from pipelines.lake.span_files import content_of
from pipelines.nights.plan import due
from pipelines.sequences import id_files
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import FEW_GROUPS
from pipelines.workspace.seal import verify_folder

SPANS = tuple(sorted({time[:10] for user, _, time in EVENTS if user == ZOE} | {"2024-03-04"}))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """With a file of ids in their own order in each span, as large ones have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_files, "LARGE", 1)
        return zoes_world(tmp_path_factory.mktemp("zoe") / "workspace")


@pytest.fixture(scope="module")
def forgotten(world, tmp_path_factory):
    import shutil

    root = tmp_path_factory.mktemp("forgotten") / "workspace"
    shutil.copytree(world.root, root)
    workspace = Workspace.open(root)
    return workspace, forget(workspace, ZOE, now=NOW, landing=True, salt=SALT)


def test_before_the_scan_finds_her_everywhere(world):
    tops = {path.split("/")[0] for path in places_of(world, ZOE)}
    everywhere = {"lake", "quarantine", "sequences", "versions", "recommendations", "labels", "landing", "catalog"}
    assert tops == {*everywhere, "ledger.sqlite"}


def test_no_byte_of_the_id_is_left(forgotten):
    workspace, _ = forgotten
    assert places_of(workspace, ZOE) == []
    assert not trace(workspace, ZOE)


def test_what_a_killed_run_left_of_a_report_goes_with_her(world, copy_of):
    workspace = copy_of(world)
    left = workspace.root / "reports" / ".2024-03-04.1.html.0a1b2c3d.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_text(f"<h2>The interests of user {ZOE}</h2>")
    assert [finding.where for finding in examine(workspace)] == [workspace.relative(left)]
    forget(workspace, ZOE, now=NOW, landing=True)
    assert places_of(workspace, ZOE) == []


def test_the_receipt_proves_it_without_naming_her(forgotten):
    workspace, receipt = forgotten
    with workspace.ledger.snapshot() as view:
        assert receipts(view) == [receipt]
    assert receipt.user_hash == user_hash(ZOE, SALT)
    assert receipt.is_of(ZOE)
    assert not receipt.is_of("u1")
    assert receipt.spans == SPANS
    assert receipt.rows["lake"] == sum(user == ZOE for user, *_ in EVENTS) + 1
    assert receipt.rows["vocabulary"] == receipt.rows["vocabulary by id"] == receipt.rows["labels"] == 1
    assert receipt.rows["quarantine"] == 3
    assert receipt.landing == {"landing/log.csv": "rewritten", "landing/more.jsonl": "rewritten"}
    assert receipt.sources == ("log.csv", "more.jsonl")
    assert receipt.learnt_from == ("2024-03-02.1", "2024-03-03.1", "2024-03-04.1")


def test_everything_is_sealed_and_adds_up(forgotten):
    workspace, _ = forgotten
    assert examine(workspace, deep=True) == []
    with workspace.ledger.snapshot() as view:
        for row in view.span_versions():
            verify_folder(workspace.resolve(row.path))
            content = content_of(workspace.resolve(row.path))
            assert {name: getattr(row, name) for name in vars(content)} == vars(content)
        for data, sequences in zip(view.current_span_versions(), view.sequences(), strict=True):
            assert (data.rows, data.users) == (sequences.events + sequences.truncated, sequences.users)


def test_the_lake_equals_one_that_never_had_her(forgotten, tmp_path):
    workspace, _ = forgotten
    never = Workspace.create(tmp_path / "never", workspace.settings_file.read_text())
    ingest(never, sorted((workspace.root / "landing").iterdir()), now=NOW)
    with workspace.ledger.snapshot() as one, never.ledger.snapshot() as other:
        mine, theirs = one.span_versions(), other.span_versions()
    assert [(r.span_id, r.fingerprint, r.rows, r.users, r.items) for r in mine] == [
        (r.span_id, r.fingerprint, r.rows, r.users, r.items) for r in theirs
    ]


def test_nobody_else_is_touched(world, forgotten):
    workspace, _ = forgotten
    version = current(world)
    before = {key: vector for key, vector in interests_of(world, version).items() if key[0] != ZOE}
    assert interests_of(workspace, version) == before
    old, new = Version.open(world).vocabulary, Version.open(workspace).vocabulary
    others = [user for user in dict.fromkeys(user for user, *_ in EVENTS) if user != ZOE]
    assert np.array_equal(old.users_of(others), new.users_of(others))
    assert old.n_users == new.n_users
    assert Recommender.open(world).top_n(others, 5).equals(Recommender.open(workspace).top_n(others, 5))


def test_look_ups_find_neither_her_nor_the_tombstone(world, forgotten):
    workspace, _ = forgotten
    index = Version.open(world).vocabulary.users_of([ZOE])
    vocabulary = Version.open(workspace).vocabulary
    (buried,) = vocabulary.user_ids(index).to_pylist()
    assert buried.startswith("forgotten:")
    assert vocabulary.users_of([ZOE, buried, buried.rstrip("\0")]).tolist() == [-1, -1, -1]
    recommender = Recommender.open(workspace)
    for user in (ZOE, buried):
        with pytest.raises(UnknownUserError):
            recommender.interests(user)
    assert set(recommender.top_n([ZOE], 3)["reason"].to_pylist()) == {"popular"}
    with connect(workspace) as session:
        seen = session.execute(f"SELECT count(*) FROM interest_history WHERE user_index = {index[0]}").fetchone()
    assert seen == (0,)


def test_nothing_is_stale_and_landing_counts_as_ingested(forgotten, copy_of):
    workspace = copy_of(forgotten[0])
    assert due(workspace, now=NOW) == []
    report = ingest(workspace, sorted((workspace.root / "landing").iterdir()), now=NOW)
    assert report.skipped == ("log.csv", "more.jsonl")


def test_she_may_come_back_as_a_new_user_and_the_chain_goes_on(forgotten, copy_of):
    workspace = copy_of(forgotten[0])
    users = Version.open(workspace).vocabulary.n_users
    land(workspace, [(ZOE, "i1", "2024-03-05T10:00:00Z"), ("u1", "i2", "2024-03-05T11:00:00Z")], "back.csv")
    (outcome,) = run_all(workspace)
    assert outcome.version.parent == "2024-03-04.1"
    assert Version.open(workspace).vocabulary.users_of([ZOE]).tolist() == [users]
    again = forget(workspace, ZOE, now=NOW, landing=True)
    assert (again.receipt_id, again.spans) == ("f0002", ("2024-03-05",))
    assert places_of(workspace, ZOE) == []
    assert examine(workspace, deep=True) == []


def test_retrain_learns_her_spans_again_without_her(world, copy_of):
    workspace = copy_of(world)
    receipt = forget(workspace, ZOE, now=NOW, retrain=True)
    assert receipt.stale[0] == "2024-03-01"
    assert set(states(workspace).values()) == {"stale"}
    outcomes = run_all(workspace)
    assert [outcome.version.version_id for outcome in outcomes] == ["2024-03-02.2", "2024-03-03.2", "2024-03-04.2"]
    vocabulary = Version.open(workspace).vocabulary
    assert vocabulary.n_users == Version.open(world).vocabulary.n_users - 1
    assert examine(workspace, deep=True) == []


def test_doing_it_twice_changes_nothing(forgotten, copy_of):
    workspace, receipt = copy_of(forgotten[0]), forgotten[1]
    before = {p: p.read_bytes() for p in workspace.root.rglob("*.parquet")}
    assert forget(workspace, ZOE, now=NOW) == receipt
    assert {p: p.read_bytes() for p in workspace.root.rglob("*.parquet")} == before


def test_landing_files_are_named_and_can_be_rewritten_later(world, copy_of):
    workspace = copy_of(world)
    first = forget(workspace, ZOE, now=NOW)
    assert set(first.landing.values()) == {"still there"}
    assert places_of(workspace, ZOE) == ["landing/log.csv", "landing/more.jsonl"]
    second = forget(workspace, ZOE, now=NOW, landing=True)
    assert second == replace(first, landing=dict.fromkeys(first.landing, "rewritten"))
    assert places_of(workspace, ZOE) == []


def test_row_groups_and_their_statistics_stay_and_those_of_others_are_not_split(world, tmp_path, monkeypatch):
    """Who reads one user reads the groups that can hold the user: the footer must go on to say which."""
    monkeypatch.setattr(interest_files, "GROUP_ROWS", 4)
    version, path, read = Version.open(world), tmp_path / "interests.parquet", []
    users = version.load().store
    ids = pa.chunked_array([[f"u{user}" for user in users.users.tolist()]])
    interest_files.write_interests(users, ids, version.lineage.spans, "v1", path)
    before = pq.read_metadata(path)
    groups = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", lambda *a, **k: read.append(k) or groups(*a, **k))
    monkeypatch.setattr(Search, "place_of", lambda *_: Place("versions", "versions/*/*.parquet"))
    for n, gone in enumerate(("u0", "u3")):
        left = Search(world, gone, "", 1)
        out = tmp_path / f"{n}.parquet"
        left.write_without(path, out)
        path = out
    after = pq.read_metadata(path)
    assert not {"u0", "u3"} & set(pq.read_table(path)["user_id"].to_pylist())
    sizes = [[meta.row_group(n).num_rows for n in range(meta.num_row_groups)] for meta in (before, after)]
    gone = pq.read_table(tmp_path / "interests.parquet")["user_id"].to_pylist()
    kept = [sum(user not in ("u0", "u3") for user in gone[at : at + 4]) for at in range(0, len(gone), 4)]
    assert sizes[1] == [size for size in kept if size]
    assert [counted(meta) for meta in (before, after)] == [set(interest_files.SOUGHT)] * 2
    assert max(len(each["row_groups"]) for each in read) <= FEW_GROUPS < len(sizes[0])


def counted(meta):
    group = meta.row_group(0)
    columns = (group.column(n) for n in range(group.num_columns))
    return {column.path_in_schema for column in columns if column.statistics is not None}


def test_a_user_who_is_nowhere_is_said_so(world):
    with pytest.raises(ForgetError, match="no user of this id"):
        forget(world, "nobody-at-all", now=NOW)


def test_an_item_of_the_same_name_stays(world, copy_of):
    workspace = copy_of(world)
    land(workspace, [("u1", "u2", "2024-03-04T20:00:00Z")], "item.csv")
    forget(workspace, "u2", now=NOW)
    with connect(workspace) as session:
        assert session.execute("SELECT count(*) FROM interactions WHERE item_id = 'u2'").fetchone() == (1,)
        assert session.execute("SELECT count(*) FROM interactions WHERE user_id = 'u2'").fetchone() == (0,)


def test_a_span_and_a_bucket_that_were_hers_alone(tmp_path):
    workspace = zoes_alone(tmp_path / "w")
    forget(workspace, ZOE, now=NOW, retrain=True)
    run_all(workspace)
    assert set(states(workspace).values()) == {"published"}
    assert examine(workspace, deep=True) == []


def zoes_alone(root):
    from small_world import log, make

    events = [event for event in log(range(3)) if event[2] < "2024-03-03"]
    workspace = make(root, [*events, (ZOE, "i1", "2024-03-03T01:00:00Z"), (ZOE, "i2", "2024-03-03T02:00:00Z")])
    run_all(workspace)
    return workspace


def test_damage_is_named_in_the_receipt_and_not_sealed_and_the_rest_is_done(world, copy_of):
    workspace = copy_of(world)
    with workspace.ledger.snapshot() as view:
        folder = workspace.resolve(view.span_version(SPANS[0]).path)
    (name,) = {p.name for p in folder.iterdir()} & {path.rpartition("/")[2] for path in trace(workspace, ZOE).found}
    whole = (folder / name).read_bytes()
    table = pq.ParquetFile(folder / name).read()
    pq.write_table(table.slice(0, table.num_rows - 1), folder / name)  # readable, and not what was published
    receipt = forget(workspace, ZOE, now=NOW, landing=True)
    assert list(receipt.left) == [workspace.relative(folder)]
    assert "is damaged" in receipt.left[workspace.relative(folder)]
    left = {path for path in places_of(workspace, ZOE) if not path.startswith("catalog/")}
    assert left == {workspace.relative(folder / name)}
    assert f"restore {workspace.relative(folder)} from a backup" in {each.mend for each in examine(workspace)}
    (folder / name).write_bytes(whole)
    assert isinstance(forget(workspace, ZOE, now=NOW, landing=True), Receipt)
    assert places_of(workspace, ZOE) == []
