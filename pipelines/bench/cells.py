"""Cells of a bench and what is kept of them: a cell is variant x extractor x seed, its result one atomic file.

    OUT/cells/<variant>.<extractor>.s<seed>.<fingerprint>.safetensors   ranks of every tested event, R[t, i], K_u
    OUT/bases/<fingerprint>/                                            pre-trained models, shared by variants
    OUT/chains/<fingerprint>/<n>/                                       versions, to be scored anew: not needed else

A file is named by a fingerprint of the data, the configuration and what the cell is matched with: a bench that is
run again takes what is there and computes the rest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray

from imsr_core.checkpoint import config_identity
from imsr_core.config import DetectorConfig, InterestsConfig, TrimmerConfig
from imsr_core.interests import InterestStore
from imsr_core.state import ModelState
from imsr_core.strategies import STRATEGIES
from pipelines.bench.data import BenchError
from pipelines.bench.kept import MakeModel, SpanRecord, read_model, write_model
from pipelines.bench.variants import Variant
from pipelines.workspace.seal import write_atomic

#: Part of the fingerprint of what is trained: raise it when the same settings would give other interests.
TRAINED = 2
#: Part of a cell's fingerprint: raise it when the same interests would be scored otherwise. Nothing is trained again.
SCORED = 12
#: Arrays that a result holds for each span.
KINDS = ("ranks", "served", "discover", "discover_served", "counts")


@dataclass(frozen=True)
class Cell:
    """One chain of a bench. ``config`` is complete; ``like`` is the cell whose numbers of interests it takes, and
    ``described`` the fingerprint of what is known of items besides the events."""

    variant: Variant
    extractor: str
    seed: int
    config: InterestsConfig
    data: str
    until: int
    top_n: int
    like: Cell | None = None
    described: str = ""

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.variant.name}.{self.extractor}.s{self.seed}"

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that the result follows from."""
        like = self.like.fingerprint if self.like else None
        config = _read_by(self.variant.strategy, self.config) if self.variant.is_model else None
        known = [self.described] if self.described else []
        tested = (self.data, self.until, self.top_n)
        return _digest([TRAINED, SCORED, *tested, self.variant.strategy, config, like, *known])

    @property
    def base_fingerprint(self) -> str:
        """16 hex digits over everything that the pre-trained model follows from."""
        like = self.like.fingerprint if self.like else None
        base = base_config(self.config, self.pretraining)
        return _digest([TRAINED, self.data, self.pretraining, _read_by(self.pretraining, base), like])

    @property
    def is_scored_apart(self) -> bool:
        """Whether the interests are the same whatever the score is, so that a version of them can be scored anew."""
        return self.config.score.enabled and not self.config.training.residual

    @property
    def chain_fingerprint(self) -> str:
        """16 hex digits over everything that the versions follow from, but for their score."""
        like = self.like.chain_fingerprint if self.like else None
        config = _read_by(self.variant.strategy, replace(self.config, score=InterestsConfig().score))
        return _digest([TRAINED, self.data, self.variant.strategy, config, like])

    @property
    def pretraining(self) -> str:
        """The strategy that pre-trains: the cell's own if it has settings of its own, since it may begin to remember
        then; else imsr, as which all others pre-train."""
        strategy = self.variant.strategy
        return strategy if hasattr(self.config, strategy) else "imsr"


@dataclass
class CellResult:
    """Ranks (E,) int16 of each tested span's events: ``ranks`` by the model alone, ``served`` with all that is in the
    score when it is served (none where that is the same); ``discover`` and ``discover_served`` the same where what a
    user had before is left out. ``matrix`` (T, T) is the hit rate of version t on span i; ``counts`` (U, 2) user and
    number of interests after each span; ``records`` one a learnt span, base first."""

    name: str
    ranks: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    served: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    discover: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    discover_served: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    records: list[SpanRecord] = field(default_factory=list)
    seconds: float = 0.0

    def ranks_of(self, *, served: bool, discover: bool) -> dict[str, NDArray[np.int16]]:
        """The ranks of one kind, by span; a result without scores of its own for serving serves the model's."""
        alone, whole = (self.discover, self.discover_served) if discover else (self.ranks, self.served)
        return whole if served and whole else alone

    def to_bytes(self, cell: Cell) -> bytes:
        """As it is kept."""
        arrays: dict[str, NDArray] = {"matrix": self.matrix}
        for kind in KINDS:
            arrays |= {f"{kind}.{span}": array for span, array in getattr(self, kind).items()}
        about = {
            "name": self.name,
            "seconds": self.seconds,
            "records": [asdict(record) for record in self.records],
            "config": config_identity(cell.config),
            "what": cell.variant.what,
            "data": cell.data,
            "top_n": cell.top_n,
        }
        return safetensors.numpy.save(arrays, {"cell": json.dumps(about)})

    @classmethod
    def read(cls, path: Path) -> CellResult:
        """The result in a file. Raises `BenchError` if it is damaged."""
        return cls.read_about(path)[1]

    @classmethod
    def read_about(cls, path: Path) -> tuple[dict[str, Any], CellResult]:
        """What the file says of itself, and the result. Raises `BenchError` if it is damaged."""
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["cell"])
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise BenchError(f"{path} is damaged: {error}", hint="remove it and run the bench again") from error

        named: dict[str, dict[str, NDArray]] = {kind: {} for kind in KINDS}
        for key, array in arrays.items():
            kind, _, span = key.partition(".")
            if span:
                named[kind][span] = array
        records = [SpanRecord(**record) for record in about["records"]]
        result = cls(about["name"])
        for kind, by_span in named.items():
            setattr(result, kind, by_span)
        result.matrix, result.records, result.seconds = arrays["matrix"], records, about["seconds"]
        return about, result


@dataclass(frozen=True)
class CellFiles:
    """The results in a bench's folder."""

    root: Path

    def path(self, cell: Cell) -> Path:
        """Where a cell's result is, or would be."""
        return self.root / "cells" / f"{cell.name}.{cell.fingerprint}.safetensors"

    def get(self, cell: Cell) -> CellResult | None:
        """The result of a cell, None if it was not computed yet."""
        path = self.path(cell)
        return CellResult.read(path) if path.is_file() else None

    def put(self, cell: Cell, result: CellResult) -> None:
        """Keep a result: the whole file or none."""
        path = self.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, result.to_bytes(cell))

    def base(self, cell: Cell, make: MakeModel) -> tuple[ModelState, SpanRecord]:
        """The cell's pre-trained model with the cell's configuration, and what it took; made once for all cells of
        the same base."""
        return self._model(cell, self.root / "bases" / cell.base_fingerprint, make)

    def version(self, cell: Cell, number: int, make: MakeModel) -> tuple[ModelState, SpanRecord]:
        """The cell's version after span ``number`` without its score, and what it took; made once for all cells that
        differ in their score alone."""
        return self._model(cell, self.root / "chains" / cell.chain_fingerprint / str(number), make)

    def _model(self, cell: Cell, folder: Path, make: MakeModel) -> tuple[ModelState, SpanRecord]:
        if not folder.is_dir():
            write_model(folder, *make())
        state, record = read_model(folder)
        state.config = cell.config
        return state, record


def base_config(config: InterestsConfig, strategy: str = "imsr") -> InterestsConfig:
    """``config`` with everything at its default that pre-training by ``strategy`` does not read."""
    plain = InterestsConfig()
    default = plain.training
    training = replace(
        config.training, epochs=default.epochs, learning_rate=default.learning_rate, moments=default.moments
    )
    # all users are new, and have no prior yet
    read: dict[str, Any] = {
        "model": replace(config.model, prior_mass=0.0),
        "training": training,
        "detector": DetectorConfig(new_scale=config.detector.new_scale),
        "trimmer": TrimmerConfig(merge_cosine=config.trimmer.merge_cosine if config.trimmer.enabled else 0.0),
    }
    own: dict[str, Any] = {strategy: getattr(config, strategy)} if hasattr(config, strategy) else {}
    return replace(plain, **read, **own)


def store_of_counts(counts: NDArray[np.int64], dim: int, query_units: int) -> InterestStore:
    """A store with as many (zero) interests for each user as ``counts`` (U, 2) says."""
    generator = torch.Generator().manual_seed(0)
    users, number = torch.from_numpy(counts[:, 0].copy()), torch.from_numpy(counts[:, 1].copy())
    most = int(number.max()) if len(number) else 0
    store = InterestStore.random(users, most, dim, scale=0.0, born=0, generator=generator, query_units=query_units)
    return store.take(store.interest_id < number.repeat_interleave(most))


def _read_by(strategy: str, config: InterestsConfig) -> dict[str, Any]:
    """The configuration without the sections that are named after other strategies."""
    others = set(STRATEGIES) - {strategy}
    return {name: section for name, section in config_identity(config).items() if name not in others}


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
