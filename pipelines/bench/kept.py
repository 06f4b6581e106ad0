"""Models that a bench keeps: pre-trained ones and versions of a chain, each a folder, without their score.

A score is counted anew from the events and fitted again when a model is read, so a change of it costs no training.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import safetensors.torch

from imsr_core.checkpoint import load_state, save_state
from imsr_core.interests import InterestStore
from imsr_core.state import ModelState


@dataclass(frozen=True)
class SpanRecord:
    """What learning one span took, and what came out of it."""

    span: str
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_mb: float = float("nan")
    mean_interests: float = float("nan")
    stored_floats: int = 0
    born: int = 0
    trimmed: int = 0
    forgotten: int = 0


#: Trains a model, and says what that took.
MakeModel = Callable[[], tuple[ModelState, SpanRecord]]


def write_model(folder: Path, state: ModelState, record: SpanRecord) -> None:
    """Keep a model: the whole folder or none."""
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    staging.mkdir(parents=True)
    try:
        save_state(replace(state, score=None), staging)
        store = {f.name: getattr(state.store, f.name).contiguous() for f in fields(InterestStore)}
        safetensors.torch.save_file(store, staging / "interests.safetensors")
        memory = {name: tensor.contiguous() for name, tensor in state.user_memory.items()}
        safetensors.torch.save_file(memory, staging / "user_memory.safetensors")
        (staging / "record.json").write_text(json.dumps(asdict(record)))
        os.rename(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_model(folder: Path) -> tuple[ModelState, SpanRecord]:
    """A model that was kept, and what it took."""
    store = safetensors.torch.load_file(folder / "interests.safetensors")
    record = SpanRecord(**json.loads((folder / "record.json").read_text()))
    state = load_state(folder, InterestStore(**store))
    state.user_memory = safetensors.torch.load_file(folder / "user_memory.safetensors")
    return state, record
