"""K_u as Parquet: one row for each user whose interests a version wrote, so that SQL need not read vectors to count.

    version_id, span_id, user_id, user_index, interests, distinct_interests, born, active

``born`` counts the interests that the span brought, ``active`` says whether the user had events in it, and
``distinct_interests`` leaves out those that say nearly what an older one says (`imsr_core.overlap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imsr_core.interests import InterestStore
from imsr_core.sorted_keys import is_in
from imsr_core.twin import TWIN
from pipelines.interests.interest_files import chunks, overlaps
from pipelines.workspace.parquet_files import write_tables

COUNTS = "interest_counts.parquet"


def write_counts(
    store: InterestStore,
    user_ids: pa.ChunkedArray,
    active: NDArray[np.int64],
    version_id: str,
    span: tuple[str, int],
    folder: Path,
) -> None:
    """Write the counts of a store; ``active`` are the users of the ``span``, which is an id and an ordinal."""

    def tables() -> Iterator[pa.Table]:
        for part, ids in chunks(store, user_ids):
            owners, users = part.user.numpy(), part.users.numpy()
            place = np.searchsorted(users, owners)
            alone = ~(overlaps(part).numpy() > TWIN)
            yield pa.table(
                {
                    "version_id": pa.array([version_id] * len(users), pa.string()),
                    "span_id": pa.array([span[0]] * len(users), pa.string()),
                    "user_id": ids,
                    "user_index": users,
                    "interests": part.counts.numpy(),
                    "distinct_interests": np.bincount(place, weights=alone, minlength=len(users)).astype(np.int64),
                    "born": np.bincount(place[part.born.numpy() == span[1]], minlength=len(users)),
                    "active": is_in(users, active),
                }
            )

    write_tables(tables(), folder / COUNTS)
