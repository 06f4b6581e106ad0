import duckdb
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake.schemas import bucket_of, bucket_sql, tie_of, tie_sql

DATABASE = duckdb.connect(config={"threads": 1})
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(texts, texts, st.integers(-(2**60), 2**60)), min_size=1, max_size=30), st.integers(1, 1024))
def test_sql_and_python_agree_on_bucket_and_tie(rows, buckets):
    users, items, times = (list(column) for column in zip(*rows, strict=True))
    sql = f"""SELECT {bucket_sql("u", buckets)}, {tie_sql("u", "i", "t")}
              FROM (SELECT unnest(?::VARCHAR[]) AS u, unnest(?::VARCHAR[]) AS i, unnest(?::BIGINT[]) AS t)"""
    found = DATABASE.execute(sql, [users, items, times]).fetchall()
    assert found == [(bucket_of(u, buckets), tie_of(u, i, t)) for u, i, t in rows]


def test_the_hashes_never_change():
    assert bucket_of("user", 16) == 11
    assert tie_of("user", "item", 1_483_271_606_000_000) == 7522854168463155953


def test_buckets_are_even():
    counts = [0] * 16
    for n in range(16_000):
        counts[bucket_of(str(n), 16)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150
