"""Counts of interests: what is summed from changes equals what is counted row by row, whatever the chain is like."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import DAYS, NOW

from imsr_core.twin import TWIN
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.engine import duckdb_session

VERSIONS = [f"{day}.1" for day in DAYS[1:]]
COUNTED = """
SELECT span_id, version_id, interests, distinct_interests, count(*), count(*) FILTER (active), sum(born)::BIGINT
FROM interest_counts GROUP BY ALL ORDER BY ALL"""
SUMMED = "FROM interest_histogram ORDER BY ALL"

COUNTED_COLUMNS = "interests BIGINT, distinct_interests BIGINT, born BIGINT, active BOOLEAN"
NO_VECTORS = """(SELECT NULL::VARCHAR version_id, NULL::VARCHAR span_id, NULL::VARCHAR user_id, NULL::BIGINT user_index,
NULL::VARCHAR born_span, NULL::FLOAT overlap WHERE false)"""


def views_of_counts():
    """The statements of views.sql that are about counts, over tables of a session."""
    text = files("pipelines.warehouse").joinpath("views.sql").read_text(encoding="utf-8")
    found = re.findall(r"^CREATE OR REPLACE (?:VIEW|MACRO) interest_(?:count|histogram).*?;$", text, re.M | re.S)
    sources = {"lineage": "lineage", "counts": "counts", "twin": str(TWIN)}
    return "\n".join(
        Template(each).substitute(sources, uncounted=NO_VECTORS, uncounted_changes=NO_VECTORS) for each in found
    )


def fill(connection, chain):
    """Tables of a chain: of each version whether it starts over, and its users' K, distinct, born and active."""
    lineage, pairs, counts, first = [], [], [], 0
    for place, (over, users) in enumerate(chain):
        first = place if over else first
        lineage.append((f"v{place:02}", f"s{place:02}", place))
        pairs += [(f"v{place:02}", f"v{older:02}", place - older) for older in range(first, place + 1)]
        counts += [(f"v{place:02}", f"s{place:02}", f"u{user}", user, *held) for user, held in users.items()]
    for name, columns, rows in (
        ("lineage", "version_id VARCHAR, span_id VARCHAR, place BIGINT", lineage),
        ("version_chain", "version_id VARCHAR, ancestor VARCHAR, depth BIGINT", pairs),
        (
            "counts",
            f"version_id VARCHAR, span_id VARCHAR, user_id VARCHAR, user_index BIGINT, {COUNTED_COLUMNS}",
            counts,
        ),
    ):
        connection.execute(f"CREATE TABLE {name} ({columns})")
        if rows:
            places = ", ".join("unnest(?)" for _ in rows[0])
            connection.execute(
                f"INSERT INTO {name} SELECT {places}", [list(column) for column in zip(*rows, strict=True)]
            )


def by_hand(chain):
    """(place, user) -> (K, distinct, born, active), version after version."""
    held, found = {}, {}
    for place, (over, users) in enumerate(chain):
        held = {} if over else {user: (k, distinct, 0, False) for user, (k, distinct, _, _) in held.items()}
        held |= users
        found |= {(place, user): each for user, each in held.items()}
    return found


COUNTS = st.tuples(st.integers(1, 3), st.none() | st.integers(1, 2), st.integers(0, 2), st.booleans())
VERSION = st.tuples(
    st.sampled_from([False, False, False, True]), st.dictionaries(st.integers(0, 4), COUNTS, max_size=4)
)


@given(st.lists(VERSION, min_size=1, max_size=40))
def test_any_chain_is_counted_as_by_hand(chain):
    wanted = by_hand(chain)
    with duckdb_session() as connection:
        fill(connection, chain)
        connection.execute(views_of_counts())
        rows = connection.execute(
            "SELECT span_id, user_id, interests, distinct_interests, born, active FROM interest_counts"
        ).fetchall()
        newest = connection.execute(
            "SELECT user_index, interests, distinct_interests FROM interest_counts_as_of(?)", [f"v{len(chain) - 1:02}"]
        ).fetchall()
        assert {(int(span[1:]), int(user[1:])): tuple(rest) for span, user, *rest in rows} == wanted
        assert len(rows) == len(wanted)
        assert connection.execute(SUMMED).fetchall() == connection.execute(COUNTED).fetchall()
    assert sorted(newest, key=str) == sorted(
        ((user, k, distinct) for (place, user), (k, distinct, _, _) in wanted.items() if place == len(chain) - 1),
        key=str,
    )


def ask(workspace, text, *values):
    with connect(workspace) as connection:
        return connection.execute(text, list(values)).fetchall()


def test_a_histogram_is_what_the_counts_of_a_real_chain_add_up_to(learnt):
    summed = ask(learnt, SUMMED)
    assert summed == ask(learnt, COUNTED)
    assert {row[1] for row in summed} == set(VERSIONS)


@pytest.mark.parametrize("version_id", VERSIONS)
def test_counts_as_of_a_version_are_those_of_its_interests(learnt, version_id):
    text = "SELECT user_id, count(*), max(updated_span) FROM interests_as_of(?) GROUP BY 1 ORDER BY 1"
    counted = "SELECT user_id, interests, updated_span FROM interest_counts_as_of(?) ORDER BY 1"
    assert ask(learnt, counted, version_id) == ask(learnt, text, version_id)


def test_of_earlier_releases_and_after_a_rollback_they_agree_too(learnt, copy_of):
    workspace = copy_of(learnt)
    for version_id in VERSIONS[1:3]:
        (workspace.version_folder(version_id) / "interest_counts.parquet").unlink()
    publish_catalog(workspace, anew=True)
    assert ask(workspace, SUMMED) == ask(learnt, SUMMED)
    with workspace.ledger.transaction() as tx:
        tx.promote("interests", VERSIONS[1], "rolled back", at=NOW)
    publish_catalog(workspace)
    assert ask(workspace, SUMMED) == ask(workspace, COUNTED)
    assert {row[1] for row in ask(workspace, SUMMED)} == set(VERSIONS[:2])


def test_a_user_has_a_row_of_history_for_each_version_that_wrote_it(learnt):
    written = Counter(version for (version,) in ask(learnt, "SELECT version_id FROM interest_count_history"))
    wanted = "SELECT version_id, count(DISTINCT user_index) FROM interest_history GROUP BY 1"
    assert written == dict(ask(learnt, wanted))
