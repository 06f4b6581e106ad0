"""A file that was rewritten has a new name: which one is read, at each step and after a kill at each step."""

import pyarrow as pa
import pytest

from pipelines.workspace.editions import drop_editions, edition, next_edition, plain, stored, stored_files
from pipelines.workspace.failpoints import VARIABLE, InjectedFailure
from pipelines.workspace.new_editions import drop_superseded, prepare, start_over, take_over
from pipelines.workspace.parquet_files import column_names, read_table, row_count, write_table
from pipelines.workspace.rewrite import rewrite_folder
from pipelines.workspace.seal import PublishError, folder_problem, seal, verify_folder

NAMES = ("bucket=00.parquet", "bucket=01.parquet", "users.parquet")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in NAMES:
        write_table(pa.table({"n": [0]}), folder / name)
    (folder / "about.json").write_text("0")
    seal(folder)
    return folder


def new(tmp_path, name, number=1):
    path = tmp_path / f"new-{name}"
    path.write_text(str(number)) if name.endswith(".json") else write_table(pa.table({"n": [number]}), path)
    return path


def numbers(folder):
    """What each file says, as code that names no edition reads it."""
    return [read_table(folder / name, ["n"])["n"][0].as_py() for name in NAMES]


def named(folder, **how):
    return [path.name for path in stored_files(folder, "bucket=*.parquet", **how)]


def rewrite(folder, tmp_path, number=1):
    changed = [path for path in stored_files(folder, "*.parquet") if "01" not in path.name]
    changes = {path.name: new(tmp_path, plain(path).name, number) for path in changed}
    prepare(folder, changes | {"about.json": new(tmp_path, "about.json", number)})


def test_names(tmp_path):
    first = tmp_path / "bucket=00.parquet"
    second = next_edition(first)
    assert (second.name, edition(second), plain(second)) == ("bucket=00@1.parquet", 1, first)
    assert next_edition(second).name == "bucket=00@2.parquet"
    assert edition(tmp_path / "a@b.parquet") == edition(first) == 0
    assert stored(first) == first


def test_old_ones_are_read_until_the_new_ones_take_over_and_both_names_work(folder, tmp_path):
    rewrite(folder, tmp_path)
    assert (numbers(folder), (folder / "about.json").read_text()) == ([0, 0, 0], "0")
    assert named(folder) == ["bucket=00.parquet", "bucket=01.parquet"]
    assert named(folder, coming=True) == ["bucket=00@1.parquet", "bucket=01.parquet"]
    verify_folder(folder)
    take_over(folder)
    assert (named(folder), (folder / "about.json").read_text()) == (["bucket=00@1.parquet", "bucket=01.parquet"], "1")
    assert numbers(folder) == [0, 0, 0]  # a reader that names no edition takes what is there
    verify_folder(folder)
    assert folder_problem(folder, deep=True) is None
    drop_superseded(folder)
    assert numbers(folder) == [1, 0, 1]
    assert column_names(folder / NAMES[0]) == ["n"]
    assert row_count(folder / NAMES[0]) == 1
    assert not (folder / NAMES[0]).exists()
    rewrite(folder, tmp_path, 2)
    take_over(folder)
    drop_superseded(folder)
    assert (named(folder), numbers(folder)) == (["bucket=00@2.parquet", "bucket=01.parquet"], [2, 0, 2])
    assert folder_problem(folder, deep=True) is None


@pytest.mark.parametrize(
    "point", ["rewrite.started:1", "rewrite.replaced:1", "rewrite.replaced:2", "rewrite.replaced:3"]
)
def test_what_a_killed_run_prepared_is_taken_back(folder, tmp_path, monkeypatch, point):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setenv(VARIABLE, f"{point}:raise")
    with pytest.raises(InjectedFailure):
        rewrite(folder, tmp_path)
    monkeypatch.delenv(VARIABLE)
    assert folder_problem(folder, deep=True) is None
    start_over(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_an_earlier_release_left_half_replaced_is_finished(folder, tmp_path, monkeypatch):
    """It replaced files under their own names."""
    monkeypatch.setenv(VARIABLE, "rewrite.replaced:1:raise")
    with pytest.raises(InjectedFailure):
        rewrite_folder(folder, {name: new(tmp_path, name) for name in NAMES[:2]})
    monkeypatch.delenv(VARIABLE)
    start_over(folder)
    assert numbers(folder) == [1, 0, 0]
    assert folder_problem(folder, deep=True) is None
    rewrite(folder, tmp_path, 2)
    take_over(folder)
    drop_superseded(folder)
    assert numbers(folder) == [2, 0, 2]
    assert folder_problem(folder, deep=True) is None


def test_damage_is_never_sealed(folder, tmp_path):
    write_table(pa.table({"n": [7]}), folder / NAMES[0])
    with pytest.raises(PublishError, match="is damaged"):
        rewrite(folder, tmp_path)
    assert named(folder) == ["bucket=00.parquet", "bucket=01.parquet"]


def test_a_file_written_anew_is_the_only_one(folder):
    later = next_edition(folder / NAMES[0])
    write_table(pa.table({"n": [5]}), later)
    drop_editions(folder / NAMES[0])
    assert not later.exists()
    assert (folder / NAMES[0]).exists()


def test_a_stranger_is_still_one(folder):
    write_table(pa.table({"n": [5]}), folder / "bucket=07@1.parquet")
    assert "bucket=07@1.parquet" in folder_problem(folder, deep=False)
