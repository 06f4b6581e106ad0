"""What many cells of `benchmark_lifelong.py` need, made once: T1 of each kind, and the scores without an encoder.

Each is a file of one folder, named by what it was made from, the code of `imsr_core` included: a run that was killed
goes on from them, processes share them, and a file of other code is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lifelong_arms import PLAIN
from lifelong_worlds import World

import imsr_core
from imsr_core.lifelong.config import LifelongConfig, SplitConfig
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.references import References, next_item_references, task_references
from imsr_core.lifelong.state import LifelongState, from_tensors
from imsr_core.lifelong.tasks import TaskData

#: Parts of `imsr_core` that a cell's scores come from.
ROOMS = ("lifelong", "encoders")
META = "meta"


@cache
def code_digest() -> str:
    """Twelve hex digits of the source that learns and scores."""
    folder = Path(imsr_core.__file__).parent
    files = sorted(path for room in ROOMS for path in (folder / room).rglob("*.py"))
    return _digest([*(path.read_bytes() for path in files), torch.__version__.encode()])


def base_file(folder: Path, dataset: str, method: str, config: LifelongConfig, seed: int) -> Path:
    """Where T1 of a method lies: one file for all methods with the same T1."""
    own: Any = {"conure": config.conure, "teracon": (config.teracon.s_max, config.teracon.clamp)}.get(method, "")
    kind = "plain" if method in PLAIN else method
    made_from = f"{config.encoder} {config.pretrain} {config.retrain} {config.objective.tied} {own} {code_digest()}"
    made_from += " with counts" if config.objective.wide_next else ""
    return folder / f"{dataset}.{seed}.{kind}.{_digest([made_from.encode()])}.npz"


def learn_base(folder: Path, world: World, method: str, config: LifelongConfig, seed: int) -> None:
    """Learn T1 and keep it, unless it is there."""
    path = base_file(folder, world.name, method, config, seed)
    if path.exists():
        return
    started = time.process_time()
    state = get_method(method).pretrain(world.sequences, config, seed, world.n_items)
    tensors, meta = state.to_tensors()
    meta = {"seconds": time.process_time() - started, "state": meta}
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    arrays[META] = np.array(json.dumps(meta))
    _write(path, lambda part: np.savez(part, **arrays))


def read_base(path: Path) -> tuple[LifelongState, float]:
    """T1 and the CPU seconds that it took."""
    with np.load(path) as arrays:
        meta = json.loads(str(arrays[META]))
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != META}
    return from_tensors(tensors, meta["state"]), meta["seconds"]


def kept_references(folder: Path, data: TaskData | World, split: SplitConfig, length: int) -> References:
    """`next_item_references` of a world, or `task_references` of a task."""
    if isinstance(data, World):
        made_from = [data.name.encode()]
    else:
        sequences = data.sequences
        parts = [data.users, data.labels, sequences.users, sequences.offsets, sequences.items]
        made_from = [data.name.encode(), *(np.ascontiguousarray(part).tobytes() for part in parts)]
    name = _digest([*made_from, f"{split} {length} {code_digest()}".encode()])
    path = folder / f"references.{data.name}.{split.seed}.{name}.json"
    if not path.exists():
        if isinstance(data, World):
            found = next_item_references(data.sequences, data.n_items, split, length)
        else:
            found = task_references(data, split, length, linear=True)
        _write(path, lambda part: part.write_text(json.dumps(found), encoding="utf-8"))
    known: References = json.loads(path.read_text(encoding="utf-8"))
    return known


def _write(path: Path, put: Callable[[Path], object]) -> None:
    """The whole file or none: two processes may make the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}{path.suffix}")
    put(part)
    os.replace(part, path)


def _digest(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]
