"""What stands in the way of a forgetting is named in its receipt, and stops neither the rest nor the next night."""

import os
import shutil

import pytest
from forget_cases import ZOE, places_of, zoes_world
from small_world import NOW, TOML, day_of_events, land, run_all

from flows.holding import holding
from pipelines.care.doctor import examine
from pipelines.care.forget import finish_forgetting, forget, trace
from pipelines.care.forget_places import Search
from pipelines.care.prune import prune
from pipelines.care.receipts import read_journal
from pipelines.workspace.failpoints import InjectedFailure
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError
from pipelines.workspace.writer import writing


@pytest.fixture(autouse=True)
def _quick(without_beam):
    """Nothing here is about Beam."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return zoes_world(tmp_path_factory.mktemp("zoe") / "workspace")


def with_labels(world, copy_of, place, text, tmp_path):
    """A copy whose settings name a label file; ``place`` is below the workspace, or outside."""
    workspace = copy_of(world)
    path = tmp_path / place if place.startswith("..") else workspace.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    stored = path.resolve() if place.startswith("..") else place
    workspace.settings_file.write_text(f'{TOML}\n[tasks.club]\nlabels = "{stored}"\nuser_id = "who"\n')
    return Workspace.open(workspace.root), path


LABELS = f'who,label,note\nu1,gold,"a ""b"", c"\n{ZOE},silver,\nu2,gold,x\n'


@pytest.mark.parametrize("place", ["labels/club.csv", "club.csv", "deep/er/club.csv"])
def test_her_labels_go_from_every_file_that_the_settings_name(world, copy_of, tmp_path, place):
    workspace, path = with_labels(world, copy_of, place, LABELS, tmp_path)
    receipt = forget(workspace, ZOE, now=NOW)
    assert path.read_text() == 'who,label,note\nu1,gold,"a ""b"", c"\nu2,gold,x\n'
    assert receipt.landing[place] == "rewritten"


def test_labels_outside_the_workspace_are_listed_and_left(world, copy_of, tmp_path):
    workspace, path = with_labels(world, copy_of, "../outside.csv", LABELS, tmp_path / "deep")
    assert forget(workspace, ZOE, now=NOW).landing[str(path.resolve())] == "still there: it lies outside the workspace"
    assert path.read_text() == LABELS


def test_labels_that_were_put_back_are_found_again(world, copy_of, tmp_path):
    workspace, path = with_labels(world, copy_of, "club.csv", LABELS, tmp_path)
    forget(workspace, ZOE, now=NOW)
    path.write_text(LABELS)
    assert trace(workspace, ZOE).labels
    assert forget(workspace, ZOE, now=NOW).landing["club.csv"] == "rewritten"
    assert ZOE not in path.read_text()


def killed(workspace, monkeypatch, point):
    monkeypatch.setenv("IMSR_FAIL", f"{point}:1:raise")
    with pytest.raises(InjectedFailure):
        forget(workspace, ZOE, now=NOW, landing=True)
    monkeypatch.delenv("IMSR_FAIL")


def require_a_night(workspace):
    """What comes first in any night works, and so does the night."""
    with holding(workspace, "test", now=NOW):
        pass
    with workspace.ledger.snapshot() as view:
        assert read_journal(view) is None
    land(workspace, day_of_events(5), "next.csv")
    run_all(workspace)


@pytest.mark.parametrize("point", ["forget.journaled", "rewrite.started", "rewrite.replaced", "forget.before_commit"])
@pytest.mark.parametrize(
    "what", ["lake/*/*/bucket=*.parquet", "versions/*/lineage.json", "sequences/*/*/users.parquet"]
)
def test_a_killed_forgetting_and_a_damaged_file(world, copy_of, monkeypatch, point, what):
    workspace = copy_of(world)
    killed(workspace, monkeypatch, point)
    damaged = sorted(workspace.root.glob(what))[0]
    damaged.write_bytes(b"nothing")
    with writing(workspace, "test", now=NOW) as writer:
        receipt = finish_forgetting(writer)
    assert receipt.finished_at
    if what.startswith("lake"):
        place = workspace.relative(damaged)
        assert place in receipt.left or place.rpartition("/")[0] in receipt.left or ZOE not in str(receipt.rows)
    require_a_night(workspace) if what.startswith("versions") else None


@pytest.mark.parametrize("point", ["rewrite.replaced", "forget.before_commit", "forget.after_commit"])
def test_a_killed_forgetting_and_damage_of_what_says_how_far_it_was(world, copy_of, monkeypatch, point):
    workspace = copy_of(world)
    killed(workspace, monkeypatch, point)
    damaged = sorted(workspace.root.glob("*/*/READY.next")) + sorted(workspace.root.glob("*/*/*/READY.next"))
    damaged[0].write_bytes(b"nothing")
    with writing(workspace, "test", now=NOW) as writer:
        receipt = finish_forgetting(writer)
    place = workspace.relative(damaged[0].parent)
    assert place in receipt.left
    assert {path.rpartition("/")[0] for path in places_of(workspace, ZOE)} <= {place}
    assert place in {finding.where for finding in examine(workspace, deep=True)}


@pytest.mark.parametrize("point", ["forget.journaled", "rewrite.replaced", "forget.before_commit"])
def test_a_killed_forgetting_and_then_what_the_doctor_advises(world, copy_of, monkeypatch, point):
    workspace = copy_of(world)
    killed(workspace, monkeypatch, point)
    assert {finding.mend for finding in examine(workspace, deep=True)} & {"imsr forget"}
    prune(workspace, now=NOW, damaged=True)
    require_a_night(workspace)
    assert places_of(workspace, ZOE) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_landing_folder_that_may_not_be_written(world, copy_of):
    workspace = copy_of(world)
    (workspace.root / "landing").chmod(0o500)
    try:
        receipt = forget(workspace, ZOE, now=NOW, landing=True)
    finally:
        (workspace.root / "landing").chmod(0o700)
    assert all(done.startswith("still there") for done in receipt.landing.values())


def test_a_landing_file_that_cannot_be_rewritten_is_named(world, copy_of, monkeypatch):
    from pipelines.care import forget as module
    from pipelines.care.landing_files import LandingError

    workspace = copy_of(world)

    def refuse(path, *_):
        raise LandingError(f"{path}: cannot be taken out without doubt")

    monkeypatch.setattr(module, "without_user", refuse)
    receipt = forget(workspace, ZOE, now=NOW, landing=True)
    assert {done.partition(":")[0] for done in receipt.landing.values()} == {"still there"}
    require_a_night(workspace)


def test_sequences_that_prune_discarded_in_between(world, copy_of, monkeypatch):
    workspace = copy_of(world)
    killed(workspace, monkeypatch, "forget.journaled")
    shutil.rmtree(sorted(workspace.root.glob("sequences/span=*"))[-1])
    prune(workspace, now=NOW, damaged=True)
    require_a_night(workspace)
    assert places_of(workspace, ZOE) == []


@pytest.mark.parametrize("place", ["sequences/span=*/*/bucket=*.parquet", "versions/*/*.parquet", "lake/span=*/v=*/*"])
def test_a_file_that_could_not_be_read_for_once_is_cleaned_by_the_same_command_again(
    world, copy_of, monkeypatch, place
):
    workspace, whole = copy_of(world), copy_of(world, "whole")
    forget(whole, ZOE, now=NOW)
    held = [path for path in trace(workspace, ZOE).found if (workspace.root / path) in workspace.root.glob(place)]
    refused = workspace.root / held[-1]
    write = Search.write_without

    def write_without(search, path, out):
        if path == refused:
            raise ParquetFileError(f"{path}: the disk does not answer")
        write(search, path, out)

    monkeypatch.setattr(Search, "write_without", write_without)
    first = forget(workspace, ZOE, now=NOW)
    assert list(first.left) == [workspace.relative(refused.parent)]
    assert list(trace(workspace, ZOE).found) == held[-1:]
    monkeypatch.undo()
    second = forget(workspace, ZOE, now=NOW)
    assert (second.receipt_id, second.left, second.is_of(ZOE)) == ("f0002", {}, True)
    assert trace(workspace, ZOE).found == {}
    assert forget(workspace, ZOE, now=NOW).receipt_id == "f0002"  # nothing is left to do
    files = [set(each.root.glob("[!c]*/*/**/*.parquet")) for each in (workspace, whole)]  # not those of the catalog
    names = [
        {path.relative_to(each.root) for path in found} for each, found in zip((workspace, whole), files, strict=True)
    ]
    assert names[0] == names[1] != set()
    require_a_night(workspace)
