"""Results of other systems beside the cells: whoever can rank a span's events can stand in the bench's tables.

    OUT/rivals/<name>.safetensors     ranks of every tested event, as a cell's, with the fingerprint of the data

A rival reads the same events (`pipelines.bench.data.load_bench_data`), ranks them with the same code
(`pipelines.bench.ranking`), and puts its result here; `imsr bench` takes in what it finds. What a rival needs is no
dependency of this project: those of `tests/benchmarks/rivals/` have a requirements file of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imsr_core.config import InterestsConfig
from pipelines.bench.cells import Cell, CellResult
from pipelines.bench.data import BenchData
from pipelines.bench.variants import RIVAL, Variant
from pipelines.workspace.seal import write_atomic


@dataclass(frozen=True)
class RivalFiles:
    """The rivals in a bench's folder."""

    root: Path

    def path(self, name: str) -> Path:
        """Where the result of this rival is, or would be."""
        return self.root / "rivals" / f"{name}.safetensors"

    def put(self, name: str, what: str, data: BenchData, top_n: int, result: CellResult) -> None:
        """Keep a result: the whole file or none. ``what`` says in a line what was done, settings included."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, result.to_bytes(rival_cell(name, what, data, top_n)))

    def all(self, data: BenchData, top_n: int) -> list[tuple[Cell, CellResult]]:
        """Every rival that was computed for this data and list length, by name; others are passed over."""
        found = []
        for path in sorted((self.root / "rivals").glob("*.safetensors")):
            about, result = CellResult.read_about(path)
            if about["data"] == data.fingerprint and about["top_n"] == top_n:
                found.append((rival_cell(path.stem, about["what"], data, top_n), result))
        return found


def rival_cell(name: str, what: str, data: BenchData, top_n: int) -> Cell:
    """The cell that a rival's result belongs to."""
    variant = Variant(name, RIVAL, what)
    return Cell(variant, "none", 0, InterestsConfig(), data.fingerprint, len(data.tested), top_n)
