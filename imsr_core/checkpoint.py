"""The checkpoint format of the `interests` line: safetensors and JSON, never a pickle.

    config.json             the configuration and the number of spans learnt
    model.safetensors       items.weight (N, d), extractor.*
    optimizer.safetensors   Adam's moments and clocks, of item rows and of the extractor

Interests are data, not weights: the pipeline keeps them as Parquet beside these files, so that SQL can read them.
Loading checks every tensor's name, shape and type against the configuration, and that nothing is NaN.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from imsr_core.config import (
    DetectorConfig,
    InterestsConfig,
    ModelConfig,
    RetainerConfig,
    TrainingConfig,
    TrimmerConfig,
)
from imsr_core.errors import CheckpointError, ConfigError
from imsr_core.interests import InterestStore
from imsr_core.rows import RowTable
from imsr_core.state import ModelState

FORMAT = 1
SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "retainer": RetainerConfig,
    "detector": DetectorConfig,
    "trimmer": TrimmerConfig,
    "training": TrainingConfig,
}
#: What an error about a damaged checkpoint advises.
ADVICE = "run `imsr doctor`, or roll back to another version with `imsr rollback`"


def config_to_dict(config: InterestsConfig) -> dict[str, dict[str, Any]]:
    """The configuration as plain JSON values."""
    return asdict(config)


def config_from_dict(values: dict[str, dict[str, Any]]) -> InterestsConfig:
    """The inverse of `config_to_dict`. Raises `CheckpointError` on an unknown or missing section or key."""
    try:
        return InterestsConfig(**{name: SECTIONS[name](**section) for name, section in values.items()})
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"config.json does not describe a model: {error}", hint=ADVICE) from error


def save_state(state: ModelState, folder: Path) -> None:
    """Write the three files into ``folder``, which must exist. The interests are not among them."""
    config = {"format": FORMAT, "spans": state.spans, "config": config_to_dict(state.config)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    extractor = {f"extractor.{name}": tensor for name, tensor in state.extractor.state_dict().items()}
    save_file(_contiguous({"items.weight": state.items.weight} | extractor), folder / "model.safetensors")
    moments = {f"items.{name}": t for name, t in state.items.tensors().items() if name != "weight"}
    for name, parts in state.extractor_optimizer.items():
        for key, tensor in zip(("moment1", "moment2", "step"), parts, strict=True):
            moments[f"extractor.{name}.{key}"] = tensor
    save_file(_contiguous(moments), folder / "optimizer.safetensors")


def load_state(folder: Path, store: InterestStore | None = None, *, optimizer: bool = True) -> ModelState:
    """The state saved in ``folder``, with the interests of ``store``.

    ``optimizer = False`` skips the moments: enough to score, not to learn on. Raises `CheckpointError` naming the
    file if one is missing, damaged, or not of the shape that the configuration says.
    """
    described = _read_json(folder / "config.json")
    if described.get("format") != FORMAT:
        raise CheckpointError(f"{folder / 'config.json'}: format {described.get('format')!r}, expected {FORMAT}")
    config = config_from_dict(described.get("config", {}))
    state = ModelState.initial(config)
    state.spans = int(described.get("spans", 0))
    tensors = _read_tensors(folder / "model.safetensors")
    weight = _take(tensors, "items.weight", (None, config.model.dim), folder)
    own = state.extractor.state_dict()
    state.extractor.load_state_dict(
        {name: _take(tensors, f"extractor.{name}", tuple(like.shape), folder) for name, like in own.items()}
    )
    if tensors:
        raise CheckpointError(f"{folder / 'model.safetensors'}: unexpected tensor {min(tensors)!r}", hint=ADVICE)
    state.items = RowTable.of(weight)
    if optimizer:
        _load_moments(state, folder)
    if store is not None:
        state.store = store
    return state


def _load_moments(state: ModelState, folder: Path) -> None:
    tensors = _read_tensors(folder / "optimizer.safetensors")
    shape = tuple(state.items.weight.shape)
    moment1, moment2 = (_take(tensors, f"items.{name}", shape, folder) for name in ("moment1", "moment2"))
    steps = _take(tensors, "items.steps", shape[:1], folder)
    state.items = RowTable(state.items.weight, moment1, moment2, steps)
    for name, parameter in state.extractor.named_parameters():
        keys = [f"extractor.{name}.{key}" for key in ("moment1", "moment2", "step")]
        if keys[0] not in tensors:
            continue
        like = tuple(parameter.shape)
        first, second = _take(tensors, keys[0], like, folder), _take(tensors, keys[1], like, folder)
        state.extractor_optimizer[name] = (first, second, _take(tensors, keys[2], (), folder))


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=ADVICE) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint=ADVICE)
    return values


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}", hint=ADVICE) from error


def _take(tensors: dict[str, Tensor], name: str, shape: tuple[int | None, ...], folder: Path) -> Tensor:
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise CheckpointError(f"{folder}: tensor {name!r} is missing", hint=ADVICE)
    fits = tensor.dim() == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != torch.float32:
        found = f"{tuple(tensor.shape)} {tensor.dtype}"
        raise CheckpointError(f"{folder}: tensor {name!r} is {found}, expected {shape} float32", hint=ADVICE)
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{folder}: tensor {name!r} holds NaN or infinite values", hint=ADVICE)
    return tensor
