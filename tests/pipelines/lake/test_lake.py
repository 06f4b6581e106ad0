from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import span_files as lake
from pipelines.lake.schemas import CONTENT_SCHEMA, LAKE_SCHEMA
from pipelines.lake.span_files import Fingerprint, SpanWriter, split_runs

TIME = datetime(2024, 1, 1, tzinfo=UTC)

cells = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
rows_of_content = st.lists(
    st.tuples(
        st.text(st.characters(max_codepoint=127), max_size=4),
        st.text(st.characters(max_codepoint=127), max_size=4),
        st.integers(0, 10**15),
        cells,
        st.one_of(st.none(), st.floats(allow_nan=False)),
        cells,
    ),
    max_size=12,
)


def content(rows):
    columns = list(zip(*rows, strict=True)) or [[]] * 6
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, CONTENT_SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=CONTENT_SCHEMA)


def digest(*batches):
    fingerprint = Fingerprint()
    for batch in batches:
        fingerprint.update(batch)
    return fingerprint.hexdigest()


@given(rows_of_content, st.data())
def test_the_fingerprint_does_not_depend_on_batches(rows, data):
    batch = content(rows)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [batch.slice(0, cut), batch.slice(cut)]
    assert digest(batch) == digest(*parts) == digest(pa.Table.from_batches(parts))


@given(rows_of_content, rows_of_content)
def test_the_fingerprint_tells_different_rows_apart(one, two):
    assert (digest(content(one)) == digest(content(two))) == (repr(one) == repr(two))


def test_the_fingerprint_tells_null_from_empty_and_zero_and_sees_borders():
    base = ("ab", "c", 0, "x", 1.0, "y")
    variants = [base, ("a", "bc", 0, "x", 1.0, "y"), ("ab", "c", 0, "", 1.0, "xy")]
    variants += [("ab", "c", 0, "x", v, "y") for v in (None, 0.0, -0.0)]
    variants += [("ab", "c", 0, e, 1.0, "y") for e in (None, "")]
    assert len({digest(content([v])) for v in variants}) == len(variants)
    assert digest(content([base, base])) != digest(content([base]))


def lake_rows(users):
    n = len(users)
    return pa.record_batch(
        [
            pa.array(users), pa.array([f"i{k % 3}" for k in range(n)]), pa.array([TIME] * n, LAKE_SCHEMA.field(2).type),
            pa.nulls(n, pa.string()), pa.nulls(n, pa.float64()), pa.nulls(n, pa.string()),
            pa.array(range(n), pa.uint64()), pa.array(["f"] * n), pa.array([TIME] * n, LAKE_SCHEMA.field(8).type),
        ],
        schema=LAKE_SCHEMA,
    )  # fmt: skip


@pytest.mark.parametrize("step", [1, 7, 100])
def test_files_do_not_depend_on_batches(tmp_path, monkeypatch, step):
    monkeypatch.setattr(lake, "ROW_GROUP_ROWS", 16)
    users = [f"u{k // 3:02d}" for k in range(50)]
    contents = []
    for name, size in (("whole", 50), ("parts", step)):
        (tmp_path / name).mkdir()
        writer = SpanWriter(tmp_path / name)
        for bucket in (2, 11):
            rows = lake_rows([f"{bucket}{u}" for u in users])
            for start in range(0, 50, size):
                writer.write(bucket, rows.slice(start, size))
        contents.append(writer.close())
    assert contents[0] == contents[1]
    assert (contents[0].rows, contents[0].users, contents[0].items) == (100, 34, 3)
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["bucket=02.parquet", "bucket=11.parquet"]
    for path in (tmp_path / "parts").iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
        file = pq.ParquetFile(path, page_checksum_verification=True)
        assert file.schema_arrow.equals(LAKE_SCHEMA)
        groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        assert groups == [16, 16, 16, 2]
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_flipped_byte_in_a_bucket_file_is_noticed_by_its_page_checksum(tmp_path):
    writer = SpanWriter(tmp_path)
    writer.write(0, lake_rows([f"user-{k:05d}" for k in range(20_000)]))
    writer.close()
    path = tmp_path / "bucket=00.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(OSError, match=r"CRC|checksum"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_no_rows(tmp_path):
    content = SpanWriter(tmp_path).close()
    assert (content.rows, content.users, content.items) == (0, 0, 0)
    assert content.fingerprint == Fingerprint().hexdigest()


def test_split_runs():
    assert split_runs(np.array([], int)) == []
    assert split_runs(np.array([4])) == [(4, 0, 1)]
    assert split_runs(np.array([1, 1, 2, 5, 5])) == [(1, 0, 2), (2, 2, 3), (5, 3, 5)]
