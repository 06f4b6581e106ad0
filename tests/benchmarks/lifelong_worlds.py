"""Public logs as the `users` line takes them: one sequence a user, and the tasks T2, T3, ... in their order.

The first two are cut in time: a user's sequence ends before the events that later tasks ask about, so that no label is
in the input. Rare items are left out and users are few, because the benchmark is meant for one CPU core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np

from imsr_core.lifelong.config import SplitConfig
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import TaskData
from imsr_core.ragged import SpanSequences, take_rows

#: Sequences before this day, campaigns and the second domain after it.
CUT = "TIMESTAMP '2017-07-01'"
OTHER_DOMAIN = "DRUG GM"
LABELS_PER_USER = 5


@dataclass(frozen=True)
class World:
    """A data set: ``tasks`` are in the order in which they are learnt; ``about`` says what each one asks."""

    name: str
    sequences: SpanSequences
    n_items: int
    tasks: tuple[TaskData, ...]
    about: dict[str, str]


def complete_journey(folder: Path) -> World:
    """Grocery baskets of 2,469 households: product types bought in the first half of 2017, without one department.

    T2: up to five types of that department (drugs and general merchandise) bought afterwards, a domain in which
    everybody is cold; T3: no campaign received, received, or a coupon redeemed afterwards; T4 age, T5 household size,
    T6 income in five bands (801 households told).
    """
    db = duckdb.connect()
    whole = folder / "transactions.parquet"
    if whole.exists():
        events = f"SELECT household_id, product_id, epoch(transaction_timestamp) AS time FROM '{whole}'"
    else:
        events = f"""SELECT user_id AS household_id, item_id AS product_id, "timestamp" AS time
                     FROM '{folder / "events.parquet"}'"""
    db.execute(f"""CREATE TABLE log AS SELECT household_id::BIGINT AS u, product_type AS i,
        time::BIGINT AS time, time >= epoch({CUT}) AS late,
        department = '{OTHER_DOMAIN}' AS other
        FROM ({events}) JOIN '{folder / "products.parquet"}' USING (product_id)""")
    db.execute("CREATE TABLE past AS SELECT DISTINCT u, i, time FROM log WHERE NOT other AND NOT late")
    _number_ids(db, least_users=30)
    tables = {
        "T2": "SELECT u, i AS label, min(time) AS time FROM log WHERE other AND late GROUP BY ALL",
        "T3": f"""SELECT u, CASE WHEN u IN (SELECT household_id FROM '{folder / "coupon_redemptions.parquet"}'
                    WHERE redemption_date >= {CUT}) THEN 'redeemed'
                  WHEN u IN (SELECT household_id FROM '{folder / "campaigns.parquet"}') THEN 'received'
                  ELSE 'none' END AS label FROM users""",
        "T4": f"SELECT household_id AS u, age AS label FROM '{folder / 'demographics.parquet'}'",
        "T5": f"SELECT household_id AS u, household_size AS label FROM '{folder / 'demographics.parquet'}'",
        "T6": f"""SELECT household_id AS u, CASE WHEN income IN ('Under 15K', '15-24K', '25-34K') THEN '1: under 35K'
                    WHEN income = '35-49K' THEN '2' WHEN income = '50-74K' THEN '3' WHEN income = '75-99K' THEN '4'
                    ELSE '5: from 100K' END AS label FROM '{folder / "demographics.parquet"}'""",
    }
    about = {
        "T1": "next item",
        "T2": "other domain",
        "T3": "campaign response",
        "T4": "age",
        "T5": "household size",
        "T6": "income",
    }
    return _world("completejourney", db, tables, {"T2": 20}, about)


def movie_tweetings(folder: Path) -> World:
    """Film ratings of the 3,602 users with 10 or more: the first 70 % of each user's ratings are the sequence.

    T2: up to five films of the rest that the user rated 8 or more; T3: films rated 10.
    """
    db = duckdb.connect()
    raw = folder / "ratings.dat"
    if raw.exists():
        split = "string_split(line, '::')"
        columns = [f"{split}[{n}]::BIGINT AS {name}" for n, name in enumerate(("u", "i", "rating", "time"), 1)]
        source = f"(SELECT {', '.join(columns)} FROM read_csv('{raw}', delim = '\t', columns = {{'line': 'VARCHAR'}}))"
    else:
        events = folder / "events.parquet"
        source = f"(SELECT user_id AS u, item_id AS i, rating, \"timestamp\" AS time FROM '{events}')"
    db.execute(f"""CREATE TABLE log AS SELECT * FROM (SELECT *, count(*) OVER (PARTITION BY u) AS n,
        row_number() OVER (PARTITION BY u ORDER BY time, hash(u, i, time)) AS place FROM {source}) WHERE n >= 10""")
    db.execute("CREATE TABLE past AS SELECT u, i, time FROM log WHERE place <= 0.7 * n")
    _number_ids(db, least_users=8)
    later = "SELECT u, i AS label, time FROM log WHERE place > 0.7 * n AND rating >= {}"
    tables = {"T2": later.format(8), "T3": later.format(10)}
    about = {"T1": "watched", "T2": "rated 8 or more", "T3": "rated 10"}
    return _world("movietweetings", db, tables, {"T2": 8, "T3": 5}, about)


def movie_lens(folder: Path) -> World:
    """MovieLens-100K as RecBole's package ships it (ml-100k.inter, ml-100k.user): whole histories of 943 users.

    T2 gender, T3 age in the seven bands of MovieLens-1M, T4 one of 21 occupations.
    """
    db = duckdb.connect()
    columns = {
        "inter": {"u": "BIGINT", "i": "BIGINT", "rating": "DOUBLE", "time": "DOUBLE"},
        "user": {"u": "BIGINT", "age": "INTEGER", "gender": "VARCHAR", "occupation": "VARCHAR", "zip": "VARCHAR"},
    }
    for name, types in columns.items():
        source = f"read_csv('{folder / f'ml-100k.{name}'}', delim = '\t', header = false, skip = 1, columns = {types})"
        db.execute(f'CREATE TABLE "{name}" AS SELECT * FROM {source}')
    db.execute("CREATE TABLE past AS SELECT u, i, time::BIGINT AS time FROM inter")
    _number_ids(db, least_users=1)
    bands = " ".join(f"WHEN age < {edge} THEN {edge}" for edge in (18, 25, 35, 45, 50, 56))
    tables = {
        "T2": 'SELECT u, gender AS label FROM "user"',
        "T3": f'SELECT u, CASE {bands} ELSE 99 END AS label FROM "user"',
        "T4": 'SELECT u, occupation AS label FROM "user"',
    }
    about = {"T1": "rated", "T2": "gender", "T3": "age", "T4": "occupation"}
    return _world("ml-100k", db, tables, {}, about)


WORLDS: dict[str, Callable[[Path], World]] = {
    "completejourney": complete_journey,
    "movietweetings": movie_tweetings,
    "ml-100k": movie_lens,
}


def junk_task(world: World, seed: int) -> TaskData:
    """A task that says nothing: a random half of the users, each with one of 50 classes at random."""
    chance = np.random.default_rng(seed)
    users = np.sort(chance.permutation(world.sequences.users)[: len(world.sequences) // 2])
    return TaskData("junk", world.sequences, users, chance.integers(50, size=len(users)), 50)


def last_items(sequences: SpanSequences, n: int) -> SpanSequences:
    """Of each user the most recent ``n`` events."""
    place = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[1:], sequences.counts)
    kept = place >= -n
    offsets = np.concatenate([[0], np.cumsum(np.minimum(sequences.counts, n))]).astype(np.int64)
    return SpanSequences(sequences.users, offsets, sequences.items[kept], sequences.timestamps[kept])


def smaller(world: World, users: int) -> World:
    """The first users only, with their labels."""
    kept = world.sequences.users[:users]
    sequences = take_rows(world.sequences, np.arange(len(kept)))
    tasks = []
    for task in world.tasks:
        own = np.isin(task.users, kept)
        tasks.append(replace(task, sequences=sequences, users=task.users[own], labels=task.labels[own]))
    return replace(world, sequences=sequences, tasks=tuple(tasks))


def few_labels(task: TaskData, share: float, split: SplitConfig) -> TaskData:
    """The task with the labels of this share of its training users, and of all others."""
    train = np.unique(task.users[parts_of(task.users, split) == 0])
    chosen = np.random.default_rng(split.seed).permutation(train)[int(share * len(train)) :]
    kept = ~np.isin(task.users, chosen)
    return replace(task, users=task.users[kept], labels=task.labels[kept])


def _number_ids(db: duckdb.DuckDBPyConnection, least_users: int) -> None:
    """Tables users (u, user_index) and items (i, item_index): items that enough users have, users with two of them."""
    db.execute(f"""CREATE TABLE items AS SELECT i, row_number() OVER (ORDER BY i) - 1 AS item_index
        FROM (SELECT i FROM past GROUP BY i HAVING count(DISTINCT u) >= {least_users})""")
    db.execute("""CREATE TABLE users AS SELECT u, row_number() OVER (ORDER BY u) - 1 AS user_index
        FROM (SELECT u FROM past SEMI JOIN items USING (i) GROUP BY u HAVING count(*) >= 2)""")


def _world(
    name: str, db: duckdb.DuckDBPyConnection, tables: dict[str, str], least_users: dict[str, int], about: dict[str, str]
) -> World:
    rows = db.execute("""SELECT user_index, item_index, time FROM past JOIN users USING (u) JOIN items USING (i)
        ORDER BY user_index, time, hash(u, i)""").fetchnumpy()
    owners, items, times = (np.asarray(column, dtype=np.int64) for column in rows.values())
    users, counts = np.unique(owners, return_counts=True)
    sequences = SpanSequences(users, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items, times)
    tasks = tuple(_task(db, task, table, least_users.get(task), sequences) for task, table in tables.items())
    found = db.execute("SELECT count(*) FROM items").fetchone()
    assert found is not None
    return World(name, sequences, int(found[0]), tasks, about)


def _task(
    db: duckdb.DuckDBPyConnection, name: str, table: str, least_users: int | None, sequences: SpanSequences
) -> TaskData:
    """``least_users``: of a task about items, how many users must have an item for it to be a label; else classes."""
    known = f"SELECT * FROM ({table}) SEMI JOIN users USING (u) WHERE label IS NOT NULL"
    if least_users is not None:
        known = f"""SELECT u, label
            FROM (SELECT *, count(DISTINCT u) OVER (PARTITION BY label) AS popular FROM ({known}))
            WHERE popular >= {least_users}
            QUALIFY row_number() OVER (PARTITION BY u ORDER BY time, hash(u, label)) <= {LABELS_PER_USER}"""
    rows = db.execute(f"""SELECT user_index, dense_rank() OVER (ORDER BY label) - 1 AS label
        FROM ({known}) JOIN users USING (u) ORDER BY ALL""").fetchnumpy()
    users, labels = (np.asarray(column, dtype=np.int64) for column in rows.values())
    kind = "classes" if least_users is None else "items"
    return TaskData(name, sequences, users, labels, int(labels.max()) + 1, kind)
