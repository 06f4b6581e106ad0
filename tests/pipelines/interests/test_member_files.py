"""Versions of a model with a further member: what is written of it, read for some users, begun anew and forgotten."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small_world import (
    BASE,
    LATER,
    NOW,
    TOML,
    VERSIONS,
    day_of_events,
    land,
    log,
    make,
    run_all,
    run_one,
    user_name,
)

from imsr_core.errors import ImsrError
from imsr_core.testing.planted_logs import assert_equal, tensors_of_store
from pipelines.care import doctor_folders
from pipelines.care.doctor import examine
from pipelines.care.forget import forget
from pipelines.interests import version as version_files
from pipelines.interests.interest_files import member_file, read_interests
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.nights.begun_with import begun_otherwise
from pipelines.serving.export import export
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import READY, seal

TWO = TOML.replace("dim = 8\n", "dim = 8\nmembers = 2\n") + "[score]\nenabled = true\n"
ONE = TWO.replace("members = 2\n", "")
DIM = 8
VERSION_DAYS = [BASE[-1], *LATER]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six days learnt by a model of two members. Read only."""
    workspace = make(tmp_path_factory.mktemp("members") / "workspace", log(), TWO)
    run_all(workspace)
    return workspace


@pytest.fixture
def copy(world, tmp_path):
    shutil.copytree(world.root, tmp_path / "copy")
    return Workspace.open(tmp_path / "copy")


def member_of(version, users=None):
    (member,) = version.load(users).members
    return member


def test_the_first_member_is_the_model_alone(world, tmp_path):
    alone = make(tmp_path / "alone", log(), ONE)
    run_all(alone)
    for version_id in (VERSIONS[0], VERSIONS[-1]):
        together, single = Version.open(world, version_id), Version.open(alone, version_id)
        assert_equal(tensors_of_store(together.load().store), tensors_of_store(single.load().store))
        assert not member_file(single.folder, 1).exists()
    assert Version.open(alone).lineage.fingerprint != Version.open(world).lineage.fingerprint


def test_a_further_member_is_read_for_some_users_as_for_all(world):
    version = Version.open(world)
    whole = member_of(version)
    assert whole.store.users.tolist() == version.load().store.users.tolist()
    assert not torch.equal(whole.store.vectors, version.load().store.vectors)
    some = whole.store.users[[1, 4, 9]]
    assert_equal(tensors_of_store(member_of(version, some.numpy()).store), tensors_of_store(whole.store.of_users(some)))


def test_lists_are_of_both_members(world):
    recommender = Recommender.open(world)
    both = recommender.top_n([user_name(3)], 10)
    only_first = Recommender(Version.open(world), Version.open(world).load())
    only_first.state.members = ()
    assert both["score"].to_pylist() != only_first.top_n([user_name(3)], 10)["score"].to_pylist()


def test_an_export_says_whose_vectors_it_has(world, tmp_path):
    export(world, tmp_path / "out", lists=5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The model has 2 members" in card
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet").filter(pc.field("user_id") == user_name(3))
    assert lists["item_id"].to_pylist() == Recommender.open(world).top_n([user_name(3)], 5)["item_id"].to_pylist()


def test_a_chain_that_begins_anew_has_everybody_of_both(tmp_path, monkeypatch):
    monkeypatch.setattr(version_files, "COMPACTION_FACTOR", 0.1)
    workspace = make(tmp_path / "anew", log(), TWO)
    run_all(workspace)
    version = Version.open(workspace)
    assert len(version.interest_files()) == 1
    users = version.load().store.users
    assert read_interests(version.member_files(1), DIM, 0).users.tolist() == users.tolist()


def test_learning_goes_on_with_the_moments_of_both(world, tmp_path):
    one_by_one = make(tmp_path / "one-by-one", log(), TWO)
    for day in VERSION_DAYS:
        run_one(one_by_one, day)
    found, wanted = Version.open(one_by_one).load(optimizer=True), Version.open(world).load(optimizer=True)
    for mine, theirs in zip((found, *found.members), (wanted, *wanted.members), strict=True):
        assert_equal(mine.items.tensors(), theirs.items.tensors())
        assert_equal(tensors_of_store(mine.store), tensors_of_store(theirs.store))


def test_who_is_forgotten_is_gone_from_both(copy):
    gone = user_name(4)
    index = int(Version.open(copy).vocabulary.users_of([gone])[0])
    assert index in member_of(Version.open(copy)).store.users.tolist()
    forget(copy, gone, now=NOW)
    for folder in (copy.root / "versions").iterdir():
        for path in folder.glob("member-1*.parquet"):
            assert gone not in pq.read_table(path)["user_id"].to_pylist()
    assert Recommender.open(copy).top_n([gone], 5)["reason"].unique().to_pylist() == ["popular"]


def test_the_doctor_misses_the_interests_of_a_member(copy):
    member_file(Version.open(copy).folder, 1).unlink()
    assert any("member-1.parquet" in finding.what for finding in examine(copy))


def poison(path):
    """Interests of the file's first user that are no numbers, sealed as if they had been written so."""
    table = pq.read_table(path)
    values = np.stack(table["vector"].to_numpy()).astype(np.float32)
    values[0, 0] = np.nan
    place = table.schema.get_field_index("vector")
    broken = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM)
    pq.write_table(table.set_column(place, "vector", broken), path)
    (path.parent / READY).unlink()
    seal(path.parent)


def harmed(workspace):
    """The versions in which the doctor finds interests that are no numbers."""
    found = [finding for finding in examine(workspace, deep=True) if "interests hold NaN" in finding.what]
    return {finding.where.rpartition("/")[2] for finding in found}


def test_the_doctor_finds_interests_that_are_no_numbers(copy):
    poison(member_file(Version.open(copy).folder, 1))
    assert harmed(copy) == {VERSIONS[-1]}


def test_it_finds_them_in_every_version_that_reads_them_and_looks_into_no_file_twice(copy, monkeypatch):
    poison(member_file(copy.version_folder(VERSIONS[1]), 1))
    wanted, looked = set(), []
    for version in (Version.open(copy, name) for name in VERSIONS):
        if not read_interests(version.member_files(1), DIM, 0).vectors.isfinite().all():
            wanted.add(version.row.version_id)
    look = doctor_folders.not_finite
    monkeypatch.setattr(doctor_folders, "not_finite", lambda *of: looked.append(of) or look(*of))
    assert harmed(copy) == wanted
    assert VERSIONS[1] in wanted
    assert VERSIONS[-1] not in wanted  # the user came back, and was written anew
    assert len(looked) == len(set(looked))


def test_another_number_of_members_is_said_before_a_run_and_refused_by_it(copy):
    settings = copy.settings_file
    settings.write_text(settings.read_text().replace("members = 2", "members = 3"))
    workspace = Workspace.open(copy.root)
    (said,) = begun_otherwise(workspace, [])
    assert f"[model] members = 3: version {VERSIONS[-1]} was made with 2" in said
    assert f"imsr restate {BASE[0]}" in said
    land(workspace, day_of_events(6), "more.csv")
    with pytest.raises(ImsrError, match=r"\[model\] members = 3: version .* was made with 2"):
        run_all(workspace, now=datetime(2024, 3, 20, tzinfo=UTC))


def test_a_version_from_before_there_were_members_has_one(tmp_path):
    workspace = make(tmp_path / "older", log(range(2)), ONE)
    run_all(workspace)
    for path in (workspace.root / "versions").glob("*/lineage.json"):
        lineage = json.loads(path.read_text())
        del lineage["config"]["model"]["members"]
        path.write_text(json.dumps(lineage))
    workspace.settings_file.write_text(TWO)
    (said,) = begun_otherwise(Workspace.open(workspace.root), [])
    assert "members = 2" in said
    assert "was made with 1" in said
