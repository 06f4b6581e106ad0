"""Vectors in Parquet: smaller than their numbers, without a dictionary of them, and the same to every reader."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.workspace.parquet_files import ParquetFileError, read_table, write_table

ROWS, WIDTH = 2_048, 128


@pytest.fixture(scope="module")
def vectors():
    """A table as interests have it: vectors that are no two alike."""
    numbers = np.random.default_rng(1).standard_normal(ROWS * WIDTH).astype(np.float32)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(numbers), WIDTH)
    return pa.table({"user_index": np.repeat(np.arange(ROWS // 4), 4), "vector": vector})


@pytest.mark.parametrize("rising", [(), ("user_index",)])
def test_vectors_take_less_than_their_numbers(vectors, rising, tmp_path):
    path = tmp_path / "interests.parquet"
    write_table(vectors, path, rising=rising)
    assert path.stat().st_size < 4 * ROWS * WIDTH
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert not column.has_dictionary_page
    assert read_table(path, ["user_index", "vector"]).equals(vectors)
    asked = duckdb.sql(f"SELECT vector FROM '{path}'").fetchnumpy()["vector"]
    assert np.array_equal(np.stack(asked), np.stack(vectors["vector"].to_numpy()))


def test_lists_that_are_missing_or_have_gaps_come_back(tmp_path):
    path = tmp_path / "lists.parquet"
    lists = pa.table({"vector": pa.array([None, [], [1.5, None]], pa.list_(pa.float32()))})
    write_table(lists, path)
    assert read_table(path, ["vector"]).equals(lists)


def test_damage_to_vectors_is_found(vectors, tmp_path):
    path = tmp_path / "interests.parquet"
    write_table(vectors, path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ParquetFileError, match="damaged"):
        read_table(path, ["vector"])
