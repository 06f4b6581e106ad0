"""An index for approximate nearest neighbours of the item vectors, with its recall measured where it was built.

    OUT/items.faiss   HNSW by inner product; row n is row n of items.parquet (``faiss.read_index``)
    OUT/ann.json      what it is, and how much of the exact answer it finds

What an interest asks for are the items of the largest inner product with it. An index finds most of them without
looking at every item, which pays with a catalogue of millions; how many is a property of the vectors, so that it is
measured on a sample of the interests that will ask. HNSW is due to Malkov and Yashunin (TPAMI 2020). Built by one
thread: the same vectors give the same index.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsr_core.counted import counted
from imsr_core.errors import ConfigError

INDEX_FILE, FACTS_FILE = "items.faiss", "ann.json"
#: Links of a vertex, and how many candidates are looked at while building and while asking.
LINKS, BUILD_WIDTH, ASK_WIDTH = 32, 100, 128
#: Items that are asked for, and interests that ask, where the recall is measured.
TOP, SAMPLE = 20, 1000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AnnFacts:
    """What an index is. ``recall_at_20`` is the mean share of the exact 20 best items that it finds, over ``sample``
    interests (drawn with seed 0), and ``low`` and ``high`` the 95 % interval of that mean; None where nobody asks. The
    milliseconds are those of one question, on one thread."""

    def __str__(self) -> str:
        asked = f"{counted(self.sample, 'interest')} asked"
        if self.recall_at_20 is None:
            return f"{self.kind}, {self.metric}, {counted(self.items, 'item')}; its recall is not known: {asked}"
        return (
            f"{self.kind}, {self.metric}, {counted(self.items, 'item')}: recall@{TOP} {self.recall_at_20:.1%} "
            f"({self.low:.1%} .. {self.high:.1%}, {asked})"
        )

    items: int
    dim: int
    kind: str
    metric: str
    ask_width: int
    recall_at_20: float | None
    low: float | None
    high: float | None
    sample: int
    exact_ms: float
    ann_ms: float


def write_ann(items: Floats, interests: Floats, folder: Path) -> AnnFacts:
    """Write an index of ``items`` (N, d) to ``folder``, asked by a sample of ``interests`` (R, d).

    Raises:
        ConfigError: the extra is not installed, or there is no item.
    """
    faiss = load_faiss()
    if not len(items):
        raise ConfigError("there is no item to index", hint="export without --ann")
    with _one_thread(faiss):
        index = faiss.IndexHNSWFlat(items.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = BUILD_WIDTH, ASK_WIDTH
        index.add(np.ascontiguousarray(items))
        facts = _measured(index, items, interests)
    faiss.write_index(index, str(folder / INDEX_FILE))
    (folder / FACTS_FILE).write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")
    return facts


def told(folder: Path) -> str:
    """The facts of the index in a folder, in a line."""
    return str(AnnFacts(**json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))))


def load_faiss() -> Any:
    """The library. Raises ConfigError where the extra is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError("an index of neighbours needs faiss", hint="pip install 'imsr[ann]'") from error
    return faiss


def _measured(index: Any, items: Floats, interests: Floats) -> AnnFacts:
    rng, top = np.random.default_rng(0), min(TOP, len(items))
    sample = interests[np.sort(rng.permutation(len(interests))[:SAMPLE])]
    began = time.perf_counter()
    exact = np.argpartition(-(sample @ items.T), top - 1, axis=1)[:, :top]
    between = time.perf_counter()
    found = index.search(np.ascontiguousarray(sample), top)[1]
    ended = time.perf_counter()
    shares = np.array([len(np.intersect1d(a, b)) / top for a, b in zip(exact, found, strict=True)])
    half = 1.96 * shares.std() / math.sqrt(max(len(shares), 1)) if len(shares) else 0.0
    mean, low, high = (
        [round(float(np.clip(value, 0, 1)), 4) for value in (shares.mean(), shares.mean() - half, shares.mean() + half)]
        if len(shares)
        else [None] * 3
    )
    each = 1000 / max(len(sample), 1)
    return AnnFacts(
        items=len(items),
        dim=items.shape[1],
        kind=f"HNSW{LINKS}",
        metric="inner product",
        ask_width=ASK_WIDTH,
        recall_at_20=mean,
        low=low,
        high=high,
        sample=len(sample),
        exact_ms=round((between - began) * each, 3),
        ann_ms=round((ended - between) * each, 3),
    )


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
