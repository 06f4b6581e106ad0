import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.workspace.parquet_files import groups_with, read_table, write_table


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A thousand owners with three rows each, a hundred rows a row group."""
    path = tmp_path_factory.mktemp("groups") / "rows.parquet"
    owner = np.repeat(np.arange(1000), 3)
    write_table(pa.table({"owner": owner, "value": np.arange(3000)}), path, row_group_size=100)
    return path


def test_of_one_owner_one_group_in_thirty_is_read(path):
    table = read_table(path, ["owner", "value"], having=("owner", np.array([500])))
    assert table.num_rows <= 200
    assert table["value"].to_numpy()[table["owner"].to_numpy() == 500].tolist() == [1500, 1501, 1502]


def test_of_nobody_nothing_is_read_and_the_columns_are_there(path):
    table = read_table(path, ["value"], having=("owner", np.zeros(0, dtype=np.int64)))
    assert (table.num_rows, table.column_names) == (0, ["value"])
    assert read_table(path, ["value"], having=("owner", np.array([-1, 5000]))).num_rows == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.integers(-5, 1005), max_size=12))
def test_no_wanted_row_is_missed(path, wanted):
    keys = np.array(wanted, dtype=np.int64)
    table = read_table(path, ["owner", "value"], having=("owner", keys))
    found = table["value"].to_numpy()[np.isin(table["owner"].to_numpy(), keys)]
    assert found.tolist() == [3 * owner + n for owner in sorted(set(wanted)) if 0 <= owner < 1000 for n in range(3)]


def test_a_file_without_statistics_is_read_whole(tmp_path):
    path = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"owner": np.arange(10)}), path, row_group_size=2, write_statistics=False)
    with pq.ParquetFile(path) as file:
        assert groups_with(file, "owner", np.array([3])) == [0, 1, 2, 3, 4]


def test_of_many_groups_only_the_rows_that_are_wanted_are_held(path):
    keys = np.arange(0, 1000, 9)
    table = read_table(path, ["owner", "value"], having=("owner", keys))
    assert table["owner"].to_numpy().tolist() == np.repeat(keys, 3).tolist()
    assert table["value"].to_numpy().tolist() == [3 * owner + n for owner in keys.tolist() for n in range(3)]
