"""What a span of few events reads and writes follows its events, not the users and items that there are."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from small_world import NOW, START, land, make, run_all
from wide_world import TOML

from pipelines.interests import interest_files
from pipelines.workspace import parquet_files

USERS, ITEMS, GROUP = 900, 1_500, 32
#: Files of which a night reads what its users need.
BY_USER = ("interests.parquet", "user_items.parquet", "recent_items.parquet")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A base model of 900 users with 1,800 interests in small row groups, and a night of three events in the lake."""
    patch = pytest.MonkeyPatch()
    patch.setattr(interest_files, "GROUP_ROWS", GROUP)
    for name in ("_GROUP_ROWS", "_COUNT_ROWS"):
        patch.setattr(f"pipelines.interests.score_files.{name}", GROUP)
    chance = random.Random(0)
    times = [(START + timedelta(seconds=n)).isoformat() for n in range(2 * USERS)]
    base = [(f"u{n % USERS}", f"i{chance.randrange(ITEMS)}", at) for n, at in enumerate(times)]
    workspace = make(tmp_path_factory.mktemp("costs") / "workspace", base, TOML)
    run_all(workspace)
    patch.undo()
    at = START + timedelta(days=1)
    land(workspace, [(f"u{n}", f"i{n}", (at + timedelta(seconds=n)).isoformat()) for n in (7, 300, 800)], "night.csv")
    return workspace


@pytest.fixture(scope="module")
def night(workspace):
    """Rows read of each kind of file, bytes of each file of the version that was made, and how often what goes with
    what was read."""
    read, times, patch = Counter(), Counter(), pytest.MonkeyPatch()

    def noted(path, columns, **options):
        table = original(path, columns, **options)
        read[path.name] += table.num_rows
        times[path.name] += 1
        return table

    original = parquet_files.read_table
    for module in ("interests.interest_files", "interests.score_files"):
        patch.setattr(f"pipelines.{module}.read_table", noted)
    (outcome,) = run_all(workspace, now=NOW)
    patch.undo()
    folder = workspace.resolve(outcome.version.path)
    return read, {path.name: path.stat().st_size for path in folder.iterdir()}, times["neighbour_counts.parquet"]


def test_it_reads_the_row_groups_of_its_users(night):
    read, _, _ = night
    for name in BY_USER:
        assert 0 < read[name] <= 4 * 3 * GROUP + USERS / 10, name  # three loads, and the gate's own


def test_what_goes_with_what_is_read_once_for_the_items_that_vote(night):
    read, _, times = night
    assert times == 1  # for the test and the training; the gate needs none of it
    assert 0 < read["neighbour_counts.parquet"] <= 3 * 2 * 2 * GROUP  # three users had two items each


def test_it_writes_what_it_changed(workspace, night):
    _, written, _ = night
    base = {path.name: path.stat().st_size for path in workspace.version_folder("2024-03-01.1").iterdir()}
    assert sum(written.values()) < 60_000
    for name in ("model.safetensors", "optimizer.safetensors", "interests.parquet", "interest_counts.parquet"):
        assert written[name] < base[name] / 2, name
