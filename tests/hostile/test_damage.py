"""Damaged files in every room of a workspace: whoever needs one names it and changes nothing; others go on.

Afterwards the file is put back, and everything is as if nothing had happened.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_world import NOW, current, run_one, span_rows, states, tree

from imsr_core.errors import ImsrError
from pipelines.care.doctor import examine
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.lake.ingest import ingest
from pipelines.sequences.build import sequence_span
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError, read_table
from pipelines.workspace.seal import READY, file_sha256

#: The day that is not learnt yet.
DUE = "2024-03-07"
#: What a night reads: name -> pattern; the last that matches is damaged.
READ_BY_A_NIGHT = {
    "lake": f"lake/span={DUE}/v=*/bucket=*.parquet",
    "sequences": f"sequences/span={DUE}/*/bucket=*.parquet",
    "users": "sequences/span=2024-03-06/*/users.parquet",
    "items": "sequences/span=2024-03-01/*/items.parquet",
    "chain": "sequences/span=2024-03-06/*/sequences.json",
    "model": "versions/2024-03-06.1/model.safetensors",
    "optimizer": "versions/2024-03-06.1/optimizer.safetensors",
    "config": "versions/2024-03-06.1/config.json",
    "lineage": "versions/2024-03-06.1/lineage.json",
    "interests": "versions/2024-03-06.1/interests.parquet",
}
Damage = Callable[[Path], None]


class Canary:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def cut(path: Path) -> None:
    """Only the first half is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, two thirds in."""
    data = bytearray(path.read_bytes())
    data[2 * len(data) // 3] ^= 0x10
    path.write_bytes(data)


def empty(path: Path) -> None:
    """No byte is left."""
    path.write_bytes(b"")


def remove(path: Path) -> None:
    """It is gone."""
    path.unlink()


def replace_by_pickle(path: Path) -> None:
    """Something that runs code when it is loaded by the wrong tool."""
    path.write_bytes(pickle.dumps(Canary(path.with_name("canary"))))


def slowly(*choices: Callable) -> list:
    """Choices that are tried in the slow run only."""
    return [pytest.param(each, marks=pytest.mark.slow) for each in choices]


def name_of(choice: Callable) -> str:
    return choice.__name__


def file_of(workspace: Workspace, pattern: str) -> Path:
    """The last file that matches; sequences of the due day are made for it."""
    if pattern.startswith(f"sequences/span={DUE}"):
        sequence_span(workspace, DUE, now=NOW)
    return sorted(workspace.root.glob(pattern))[-1]


def refused_by_night(workspace: Workspace) -> str:
    """What a night says that fails, after a look that it changed nothing but the state of its own span."""
    before, spans, live = tree(workspace.root), span_rows(workspace), current(workspace)
    with pytest.raises(ImsrError) as caught:
        run_one(workspace, DUE, now=NOW)
    published = [name for name in tree(workspace.root).keys() ^ before.keys() if f"span={DUE}" not in name]
    assert published == []
    assert current(workspace) == live
    assert {name: row for name, row in span_rows(workspace).items() if name != DUE} == {
        name: row for name, row in spans.items() if name != DUE
    }
    assert states(workspace)[DUE] == "failed"
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("damage", [flip, *slowly(cut, empty, remove, replace_by_pickle)], ids=name_of)
@pytest.mark.parametrize("name", READ_BY_A_NIGHT)
def test_a_night_names_what_is_damaged_and_goes_on_once_it_is_mended(due, tmp_path, name, damage):
    path = file_of(due, READ_BY_A_NIGHT[name])
    shutil.copy2(path, tmp_path / "whole")
    damage(path)
    said = refused_by_night(due)
    assert path.name in said or str(path.parent) in said
    assert not list(due.root.rglob("canary"))
    shutil.copy2(tmp_path / "whole", path)
    assert run_one(due, DUE, now=NOW).version is not None
    assert current(due) == f"{DUE}.1"


def reseal(path: Path) -> None:
    """Let READY say of a changed file what it is now: damage that was there when the folder was sealed."""
    ready = path.parent / READY
    content = json.loads(ready.read_text())
    content["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    ready.write_text(json.dumps(content))


def drop_tensor(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["items.weight"]


def add_nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["items.weight"][0, 0] = torch.nan


def add_column(tensors: dict[str, torch.Tensor]) -> None:
    tensors["items.weight"] = torch.cat([tensors["items.weight"], tensors["items.weight"][:, :1]], dim=1).contiguous()


def halve(tensors: dict[str, torch.Tensor]) -> None:
    tensors["items.weight"] = tensors["items.weight"].half()


@pytest.mark.parametrize("change", [drop_tensor, add_nan, add_column, halve], ids=name_of)
def test_a_sealed_checkpoint_that_holds_nonsense_is_refused(due, change):
    path = file_of(due, READ_BY_A_NIGHT["model"])
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    reseal(path)
    assert "items.weight" in refused_by_night(due)
    with pytest.raises(ImsrError, match=r"items\.weight"):
        Recommender.open(due)


@pytest.mark.parametrize("size", [0, 2**31, 2**63])
def test_a_sealed_checkpoint_whose_header_lies_is_refused(due, size):
    path = file_of(due, READ_BY_A_NIGHT["model"])
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    reseal(path)
    assert path.name in refused_by_night(due)
    with pytest.raises(ImsrError, match=path.name):
        Recommender.open(due)


def renamed(table: pa.Table, name: str) -> pa.Table:
    return table.rename_columns([f"my_{each}" if each == name else each for each in table.column_names])


def dropped(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


def retyped(table: pa.Table, name: str) -> pa.Table:
    at = table.column_names.index(name)
    kind = pa.string() if not pa.types.is_string(table.schema.field(name).type) else pa.binary()
    if pa.types.is_nested(table.schema.field(name).type):
        return table.set_column(at, name, pa.nulls(table.num_rows, pa.float64()))
    return table.set_column(at, name, table[name].cast(kind))


@pytest.mark.parametrize("drift", [retyped, *slowly(renamed, dropped)], ids=name_of)
@pytest.mark.parametrize(
    ("name", "column"),
    [("lake", "user_id"), ("lake", "timestamp"), ("sequences", "items"), ("users", "user_id"), ("interests", "vector")],
)
def test_a_sealed_table_of_another_schema_is_refused(due, name, column, drift):
    path = file_of(due, READ_BY_A_NIGHT[name])
    pq.write_table(drift(pq.ParquetFile(path).read(), column), path)
    reseal(path)
    assert path.name in refused_by_night(due)


def landed_parquet(path: Path) -> Path:
    times = pa.array([NOW.replace(day=7, hour=n) for n in range(6)], pa.timestamp("us", "UTC"))
    ids = {name: pa.array([f"{name[0]}{n}" for n in range(6)]) for name in ("user_id", "item_id")}
    pq.write_table(pa.table(ids | {"timestamp": times}), path, write_page_checksum=True)
    return path


@pytest.mark.parametrize("damage", [cut, flip, empty, remove, replace_by_pickle], ids=name_of)
def test_a_landed_file_that_is_damaged_changes_nothing(due, tmp_path, damage):
    path = landed_parquet(tmp_path / "more.parquet")
    damage(path)
    before = tree(due.root)
    with pytest.raises(ImsrError, match=r"more\.parquet"):
        ingest(due, [landed_parquet(tmp_path / "good.parquet"), path], now=NOW)
    assert tree(due.root).keys() == before.keys()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("drift", [renamed, dropped], ids=name_of)
@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp"])
def test_a_landed_file_of_another_schema_changes_nothing(due, tmp_path, drift, column):
    path = landed_parquet(tmp_path / "more.parquet")
    pq.write_table(drift(pq.read_table(path), column), path)
    before = tree(due.root)
    with pytest.raises(ImsrError, match=r"more\.parquet") as caught:
        ingest(due, [path], now=NOW)
    assert column in str(caught.value)
    assert tree(due.root).keys() == before.keys()


def error_of(path: Path, names: list[str]) -> str | None:
    """The message, if the table cannot be read; any other error than the one that is promised is raised."""
    try:
        read_table(path, names)
    except ParquetFileError as error:
        return error.message
    return None


@pytest.mark.parametrize("name", ["lake", "sequences", "users", "interests"])
@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_any_flipped_bit_is_refused_or_found_by_the_seal(learnt, tmp_path, name, step):
    """Whatever a flipped bit does to Arrow, it is one error that names the file; what Arrow takes, the seal refuses."""
    pattern = READ_BY_A_NIGHT[name].replace(DUE, "2024-03-06")
    whole, path = file_of(learnt, pattern), tmp_path / "flipped.parquet"
    names, data = pq.read_schema(whole).names, whole.read_bytes()
    for place in range(0, len(data), step):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        assert "flipped.parquet" in (error_of(path, names) or "flipped.parquet")
        assert file_sha256(path) != file_sha256(whole)


def test_damage_elsewhere_stops_no_night_and_is_found_by_the_doctor(due):
    """A night needs neither the model of an older version, nor older data, nor what a version changed."""
    damaged = ["versions/2024-03-03.1/model.safetensors", "lake/span=2024-03-03/v=1/bucket=00.parquet"]
    for name in damaged:
        file_of(due, name).write_bytes(b"nothing")
    assert run_one(due, DUE, now=NOW).version is not None
    assert Version.open(due).row.version_id == f"{DUE}.1"
    found = {finding.where for finding in examine(due)}
    assert {str(Path(name).parent) for name in damaged} <= found
