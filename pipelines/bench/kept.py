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
from imsr_core.members import Member
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
        for name, part in _stores(state).items():
            store = {f.name: getattr(part, f.name).contiguous() for f in fields(InterestStore)}
            safetensors.torch.save_file(store, staging / f"{name}.safetensors")
        memory = {name: tensor.contiguous() for name, tensor in state.user_memory.items()}
        safetensors.torch.save_file(memory, staging / "user_memory.safetensors")
        (staging / "record.json").write_text(json.dumps(asdict(record)))
        os.rename(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stores(state: ModelState) -> dict[str, InterestStore]:
    """The interests of each member, by the name of their file."""
    further = {f"member-{number}": member.store for number, member in enumerate(state.members, 1)}
    return {"interests": state.store} | further


def read_model(folder: Path) -> tuple[ModelState, SpanRecord]:
    """A model that was kept, and what it took."""
    record = SpanRecord(**json.loads((folder / "record.json").read_text()))
    state = load_state(folder)
    parts: list[ModelState | Member] = [state, *state.members]
    for part, name in zip(parts, _stores(state), strict=True):
        part.store = InterestStore(**safetensors.torch.load_file(folder / f"{name}.safetensors"))
    state.user_memory = safetensors.torch.load_file(folder / "user_memory.safetensors")
    return state, record
