"""A version as files for other programs: vectors, interests and lists as Parquet, the model as a Hugging Face folder.

    OUT/items.parquet             item_id, vector (as scores use it)
    OUT/interests.parquet         user_id, interest_id, born_span, active_span, support, vector
    OUT/recommendations.parquet   user_id, rank, item_id, score, ... (or .csv), if lists are asked for
    OUT/model.safetensors         all tensors; nothing in it runs
    OUT/config.json               the configuration that made them
    OUT/items.faiss, ann.json     an index for nearest neighbours with its measured recall, if wanted (see `ann`)
    OUT/README.md                 the model card: window, counts, scores, verdict, limits

The folder appears whole or not at all. It is a copy: whoever is forgotten afterwards is still in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from imsr_core.checkpoint import save_model
from imsr_core.errors import ImsrError
from pipelines.interests.recommend import Recommender
from pipelines.serving.ann import load_faiss, write_ann
from pipelines.serving.card import model_card
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import write_table
from pipelines.workspace.seal import fsync_path

#: Users whose lists are in memory at once.
CHUNK = 4096


class ExportError(ImsrError):
    """The folder is there already."""


def export(
    workspace: Workspace,
    out: Path,
    version_id: str | None = None,
    *,
    lists: int = 0,
    new: bool = False,
    csv: bool = False,
    ann: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a version (the current one) to ``out``, which must not exist; returns it.

    Args:
        lists: how many items of everybody's list to write; 0: no lists.
        new: leave out of the lists what the user had.
        csv: the lists as CSV instead of Parquet.
        ann: an index of the item vectors, too.
        progress: called with (users done, users) while lists are written.

    Raises:
        ExportError: ``out`` exists.
        ConfigError: ``ann``, and the extra is not installed.
        VersionError, CheckpointError: there is no such version, or it is damaged.
    """
    if ann:
        load_faiss()  # said before anything is read
    if out.exists():
        raise ExportError(f"{out} exists already", hint="name another folder, or remove it first")
    recommender = Recommender.open(workspace, version_id)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)  # of an export that was killed
    work.mkdir()
    try:
        write_table(_items(recommender), work / "items.parquet")
        write_table(_interests(recommender), work / "interests.parquet")
        if lists:
            _write_lists(_lists(recommender, lists, new, progress), work, csv)
        save_model(recommender.state, work)
        state = recommender.state
        index = write_ann(state.item_vectors().numpy(), state.store.vectors.numpy(), work) if ann else None
        (work / "README.md").write_text(model_card(recommender.version, workspace, index), encoding="utf-8")
        for path in (*work.iterdir(), work):
            fsync_path(path)
        work.rename(out)
        fsync_path(out.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _items(recommender: Recommender) -> pa.Table:
    vectors = recommender.state.item_vectors().numpy()
    ids = recommender.version.vocabulary.item_ids(np.arange(len(vectors)))
    return pa.table({"item_id": ids, "vector": _vectors(vectors)})


def _interests(recommender: Recommender) -> pa.Table:
    store, labels = recommender.state.store, pa.array(recommender.version.lineage.spans, pa.string())
    users = recommender.version.vocabulary.user_ids(store.users.numpy())
    return pa.table(
        {
            "user_id": users.take(pa.array(np.repeat(np.arange(len(store.users)), store.counts.numpy()))),
            "interest_id": store.interest_id.numpy(),
            "born_span": labels.take(pa.array(store.born.numpy())),
            "active_span": labels.take(pa.array(store.active.numpy())),
            "support": store.support.numpy(),
            "vector": _vectors(store.vectors.numpy()),
        }
    )


def _vectors(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def _lists(
    recommender: Recommender, n: int, new: bool, progress: Callable[[int, int], None] | None
) -> Iterator[pa.Table]:
    users = recommender.version.vocabulary.user_ids(recommender.state.store.users.numpy())
    users = users.filter(pc.invert(pc.ends_with(users, "\0")))  # who was forgotten has no list
    for first in range(0, max(len(users), 1), CHUNK):
        part = users.slice(first, CHUNK).to_pylist()
        yield recommender.top_n(part, n, exclude_seen=new)
        if progress is not None:
            progress(first + len(part), len(users))


def _write_lists(tables: Iterator[pa.Table], folder: Path, csv: bool) -> None:
    first = next(tables)
    path = folder / f"recommendations.{'csv' if csv else 'parquet'}"
    kind = pa_csv.CSVWriter if csv else pq.ParquetWriter
    with kind(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
