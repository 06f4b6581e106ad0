"""One bucket: grouped, ordered by time then tie, cut to the most recent, written the same every time."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_logs import write_lake

from pipelines.sequences.bucket import (
    BucketCounts,
    BucketTask,
    UnknownIdError,
    build_bucket,
    count_bucket,
    group_events,
)
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.parquet_files import ParquetFileError


def task_for(folder, events, limit=1000, **lake) -> BucketTask:
    (file,) = write_lake(folder / "lake", events, buckets=1, **lake)
    ids = Vocabulary.open([]).extend([file])
    pq.write_table(ids.users, folder / "users.parquet")
    pq.write_table(ids.items, folder / "items.parquet")
    names = [folder / name for name in ("users.parquet", "items.parquet", "bucket=00.parquet")]
    return BucketTask(str(file), *map(str, names), limit)


def test_equal_times_are_ordered_by_tie_and_not_by_item():
    users, times = np.array([1, 0, 1, 1]), np.array([5, 5, 5, 4])
    items, tie = np.array([3, 9, 4, 8]), np.array([2**64 - 1, 0, 7, 9], dtype=np.uint64)
    grouped = group_events(users, items, times, tie)
    assert grouped.users.tolist() == [0, 1]
    assert grouped.offsets.tolist() == [0, 1, 4]
    assert grouped.items.tolist() == [9, 8, 4, 3]


def test_the_most_recent_events_stay_and_the_cut_is_counted(tmp_path):
    events = [("ann", f"i{n}", n) for n in range(10)] + [("bob", "i3", 4)]
    task = task_for(tmp_path, events, limit=3)
    build_bucket(task)
    rows = pq.read_table(task.out, partitioning=None).to_pylist()
    assert rows == [
        {"user_index": 0, "items": [7, 8, 9], "timestamps": [7, 8, 9], "truncated": 7},
        {"user_index": 1, "items": [3], "timestamps": [4], "truncated": 0},
    ]
    assert count_bucket(tmp_path / "bucket=00.parquet") == BucketCounts(users=2, events=4, truncated=7)


def test_shuffled_rows_and_a_second_run_give_the_same_bytes(tmp_path):
    chance = random.Random(3)
    events = [(f"u{chance.randrange(9)}", f"i{chance.randrange(9)}", chance.randrange(5)) for _ in range(300)]
    outputs = []
    for name, shuffle in (("sorted", None), ("shuffled", chance)):
        (tmp_path / name).mkdir()
        task = task_for(tmp_path / name, events, limit=20, shuffle=shuffle)
        for _ in range(2):
            build_bucket(task)
            outputs.append((tmp_path / name / "bucket=00.parquet").read_bytes())
    assert len(set(outputs)) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_times_of_other_units_are_read_as_microseconds(tmp_path):
    task = task_for(tmp_path, [("ann", "tea", 7_000_000)])
    table = pq.read_table(task.events, partitioning=None)
    seconds = table["timestamp"].cast(pa.timestamp("ms", "UTC"))
    pq.write_table(table.set_column(2, "timestamp", seconds), task.events)
    build_bucket(task)
    assert pq.read_table(task.out, partitioning=None)["timestamps"].to_pylist() == [[7_000_000]]


def test_an_id_without_an_index_is_named(tmp_path):
    task = task_for(tmp_path, [("ann", "tea", 1), ("bob", "jam", 2)])
    pq.write_table(pq.read_table(task.items).slice(0, 1), task.items)
    with pytest.raises(UnknownIdError, match="id 'jam' is not in"):
        build_bucket(task)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"user_id,item_id\n", None])
def test_a_damaged_lake_file_is_named_and_leaves_no_output(tmp_path, content):
    task = task_for(tmp_path, [("ann", "tea", 1)])
    file = tmp_path / "lake" / "bucket=00.parquet"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParquetFileError, match=r"lake.bucket=00\.parquet"):
        build_bucket(task)
    assert not (tmp_path / "bucket=00.parquet").exists()


def test_a_lake_file_without_ties_is_refused(tmp_path):
    task = task_for(tmp_path, [("ann", "tea", 1)])
    pq.write_table(pq.read_table(task.events, partitioning=None).drop_columns(["tie"]), task.events)
    with pytest.raises(ParquetFileError, match="no column tie"):
        build_bucket(task)
