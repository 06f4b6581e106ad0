"""The checkpoint format of the `interests` line: safetensors and JSON, never a pickle.

    config.json             the configuration, the number of spans learnt, what the score's weights rest on
    model.safetensors       items.weight (N, d), extractor.*, trend.*, score.* where [score] is on; of M members items
                            side by side, (N, M d), and the extractor of the m-th further one as member<m>.*
    optimizer.safetensors   Adam's moments and clocks, of item rows and of the extractor
                            (of items, both files may hold only what changed since another checkpoint: `changed_rows`)
    memory.safetensors      what the strategy carries besides the model (`ModelState.memory`); often nothing

Interests are data, not weights: the pipeline keeps them as Parquet beside these files, so that SQL can read them. So
are the score's tables of users and of neighbours, and ``ModelState.user_memory``, so that a user can be forgotten.
Loading checks every tensor's name, shape and type against the configuration, and that nothing is NaN.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from imsr_core.changed_rows import ITEMS, Chain, changed_rows, link_of, only_changes, with_changes
from imsr_core.config import InterestsConfig, TrainingConfig
from imsr_core.errors import CheckpointError, ConfigError
from imsr_core.finite import is_finite
from imsr_core.interests import InterestStore
from imsr_core.members import Member, apart, joint
from imsr_core.older_checkpoints import FIRST_SECTIONS, LATER_TENSORS, completed, identified
from imsr_core.own_settings import settings_of
from imsr_core.parts import STRATEGIES
from imsr_core.rows import RowTable
from imsr_core.score import Score
from imsr_core.score.factors import RANK
from imsr_core.state import ModelState
from imsr_core.trend import Trend

FORMAT = 1
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
SECTIONS: dict[str, type] = {
    name: hint for name, hint in get_type_hints(InterestsConfig).items() if isinstance(hint, type) and name != "own"
}
#: What an error about a damaged checkpoint advises.
ADVICE = "run `imsr doctor`, or roll back to another version with `imsr rollback`"


@dataclass(frozen=True)
class Before:
    """The checkpoint that a state was made from: all that it held, and the chain that it ends."""

    state: ModelState
    chain: Chain


def config_to_dict(config: InterestsConfig) -> dict[str, dict[str, Any]]:
    """The configuration as plain JSON values."""
    values = asdict(config)
    return values | values.pop("own")


def config_identity(config: InterestsConfig) -> dict[str, dict[str, Any]]:
    """What identifies a configuration, for a fingerprint: equal for one that nobody touched since it was made, and
    wherever it is trained."""
    anywhere = replace(config, training=replace(config.training, device=TrainingConfig.device))
    return identified(config_to_dict(anywhere), config_to_dict(InterestsConfig()))


def config_from_dict(values: dict[str, dict[str, Any]]) -> InterestsConfig:
    """The inverse of `config_to_dict`. What came later may be missing (see `older_checkpoints`).

    Raises `CheckpointError` on an unknown or another missing section or key, and on a value of the wrong type.
    """
    try:
        sections = SECTIONS | _own_sections(values)
        _require_names("section", set(values) | (set(SECTIONS) - FIRST_SECTIONS), set(sections))
        values = completed(values, config_to_dict(InterestsConfig()))
        for name, section in sections.items():
            _require_names(f"key of [{name}]", set(values[name]), {f.name for f in fields(section)})
        made = {name: section(**values[name]) for name, section in sections.items()}
        own = {name: made.pop(name) for name in set(sections) - set(SECTIONS)}
        config = InterestsConfig(**made, own=own)
        _require_types(config)
    except (TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"config.json does not describe a model: {error}", hint=ADVICE) from error
    return config


def _own_sections(values: dict[str, Any]) -> dict[str, type]:
    """The sections that strategies of other packages brought."""
    others = [name for name in values if name not in SECTIONS and name in STRATEGIES]
    return {name: kind for name in others if (kind := settings_of(name)) is not None}


def _require_names(what: str, given: set[str], wanted: set[str]) -> None:
    if given != wanted:
        state = "unknown" if given - wanted else "missing"
        raise CheckpointError(f"config.json: {state} {what}: {min(given ^ wanted, key=str)!r}", hint=ADVICE)


def _require_types(config: InterestsConfig) -> None:
    """A whole number may stand for a float, nothing else: a dim of 64.5 must not reach torch."""
    for name, section in SECTIONS.items():
        hints = get_type_hints(section)
        for f in fields(section):
            value, hint = getattr(getattr(config, name), f.name), hints[f.name]
            choices = get_args(hint)
            wanted = {str} if get_origin(hint) is Literal else set(choices or (hint,))
            if type(value) not in wanted and not (type(value) is int and float in wanted):
                raise TypeError(f"[{name}] {f.name} = {value!r}")


def save_state(state: ModelState, folder: Path, before: Before | None = None) -> Chain:
    """Write the four files into ``folder``, which must exist. Interests and user memory are not among them.

    With ``before``, the checkpoint that ``state`` was made from, only the rows of items that changed are written, if
    they are few (see `changed_rows`). Returns what a reader has to read: no links if the files are whole.
    """
    rows = {} if before is None else changed_rows(before.state, state)
    chain = Chain() if before is None else before.chain.longer(rows[ITEMS])
    tables = state.item_tables()
    if before is not None and chain.is_worth_it(state.n_items):
        items = joint([table.take(rows[ITEMS]) for table in tables])
        parts = _model_tensors(state, items), _moments(state, items)
        model, moments = (only_changes(part, rows, before.state, state, chain.links) for part in parts)
    else:
        items, chain = joint(tables), Chain()
        model, moments = _model_tensors(state, items), _moments(state, items)
    _write_config(state, folder, {"changes": asdict(chain)} if chain.links else {})
    write_tensors(model, folder / MODEL)
    write_tensors(moments, folder / OPTIMIZER)
    write_tensors(state.memory, folder / "memory.safetensors")
    return chain


def save_model(state: ModelState, folder: Path) -> None:
    """Write what is needed to score, whole: config.json and model.safetensors."""
    _write_config(state, folder, {})
    write_tensors(_model_tensors(state, joint(state.item_tables())), folder / MODEL)


def _write_config(state: ModelState, folder: Path, more: dict[str, Any]) -> None:
    config: dict[str, Any] = {"format": FORMAT, "spans": state.spans, "config": config_to_dict(state.config)}
    if state.score is not None:
        config["score"] = state.score.described()
    (folder / "config.json").write_text(json.dumps(config | more, indent=2) + "\n")


def chain_at(folder: Path) -> Chain:
    """What a checkpoint lies upon. Raises `CheckpointError` if its config.json is damaged."""
    path = folder / "config.json"
    try:
        return Chain(**_read_json(path).get("changes", {}))
    except TypeError as error:
        raise CheckpointError(f"{path}: does not say what was changed: {error}", hint=ADVICE) from error


def _model_tensors(state: ModelState, items: dict[str, Tensor]) -> dict[str, Tensor]:
    """What scores, with the ``items`` as `joint` gives them."""
    extractor = {
        f"{prefix}{name}": tensor
        for prefix, part in _parts(state)
        for name, tensor in part.extractor.state_dict().items()
    }
    trend = {f"trend.{name}": tensor for name, tensor in state.trend.tensors().items()}
    score = {} if state.score is None else {f"score.{name}": t for name, t in state.score.tensors().items()}
    return {"items.weight": items["weight"]} | extractor | trend | score


def _moments(state: ModelState, items: dict[str, Tensor]) -> dict[str, Tensor]:
    moments = {f"items.{name}": t for name, t in items.items() if name != "weight"}
    for prefix, part in _parts(state):
        for name, parts in part.extractor_optimizer.items():
            for key, tensor in zip(("moment1", "moment2", "step"), parts, strict=True):
                moments[f"{prefix}{name}.{key}"] = tensor
    return moments


def _parts(state: ModelState) -> list[tuple[str, ModelState | Member]]:
    """The members, the first one's extractor as ``extractor.``, that of the m-th further one as ``member<m>.``."""
    return [("extractor.", state), *((f"member{m}.", member) for m, member in enumerate(state.members, 1))]


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as one safetensors file, which whoever may read its folder may read.

    Raises:
        CheckpointError: the disk does not take it.
    """
    try:
        save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path)
        with suppress(PermissionError):  # a file system without such rights
            path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors leaves it to its owner alone
    except (OSError, SafetensorError) as error:
        hint = "if its disk is full make room, and run the command again: what is published is as it was"
        raise CheckpointError(f"{path}: cannot be written: {error}", hint=hint) from error


def load_state(
    folder: Path | Sequence[Path], store: InterestStore | None = None, *, optimizer: bool = True
) -> ModelState:
    """The state saved in ``folder``, with the interests of ``store``, without user memory.

    ``folder`` may be a chain of checkpoints, oldest first: a whole one, and those that hold the changes since.
    ``optimizer = False`` skips moments and memory: enough to score, not to learn on. Raises `CheckpointError` naming
    the file if one is missing, damaged, or not of the shape that the configuration says.
    """
    folders = [folder] if isinstance(folder, Path) else list(folder)
    own = folders[-1]
    config, spans, described = _read_config(own / "config.json")
    state = ModelState.initial(config)
    state.spans = spans
    path = own / MODEL
    tensors = _as_of(folders, MODEL)
    has_trend = any(name.startswith(LATER_TENSORS) for name in tensors)
    members = config.model.members
    weights = apart(_take(tensors, "items.weight", (None, members * config.model.dim), path), members)
    for (prefix, part), weight in zip(_parts(state), weights, strict=True):
        shapes = {name: tuple(like.shape) for name, like in part.extractor.state_dict().items()}
        part.extractor.load_state_dict(
            {name: _take(tensors, f"{prefix}{name}", shape, path) for name, shape in shapes.items()}
        )
        part.items = RowTable.to_score_with(weight)
    state.trend = _take_trend(tensors, state.n_items, path) if has_trend else Trend.empty()
    state.score = _take_score(config, described, tensors, state.n_items, path)
    _require_no_more(tensors, path)
    if optimizer:
        _load_moments(state, _as_of(folders, OPTIMIZER), own / OPTIMIZER)
        # what strategies carry came with the trend
        state.memory = _read_memory(own / "memory.safetensors") if has_trend else {}
    if store is not None:
        state.store = store
    return state


def _as_of(folders: Sequence[Path], name: str) -> dict[str, Tensor]:
    """The tensors of a file as of the last checkpoint of a chain."""
    whole: dict[str, Tensor] = {}
    for number, folder in enumerate(folders):
        tensors = _read_tensors(folder / name)
        try:
            if (link := link_of(tensors)) != number:
                raise CheckpointError(f"is link {link} of a chain of changes (0 = whole), expected {number}")
            whole = with_changes(whole, tensors) if number else tensors
        except CheckpointError as error:
            raise CheckpointError(f"{folder / name}: {error.message}", hint=ADVICE) from error
    return whole


def _take_trend(tensors: dict[str, Tensor], n_items: int, path: Path) -> Trend:
    shapes: dict[str, tuple[int | None, ...]] = {
        name: tuple(like.shape) for name, like in Trend.empty().tensors().items()
    }
    shapes["counts"] = (shapes["counts"][0], n_items)
    kinds = {"until": torch.int64}
    return Trend.of(
        {name: _take(tensors, f"trend.{name}", shape, path, kinds.get(name)) for name, shape in shapes.items()}
    )


def _take_score(
    config: InterestsConfig, described: Any, tensors: dict[str, Tensor], n_items: int, path: Path
) -> Score | None:
    """The score without its tables of pairs, which are data; None if the version has none."""
    if described is None:
        return None
    try:
        empty = Score.of_description(config.score, described)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path.parent}: config.json does not describe a score: {error}", hint=ADVICE) from error
    named = {name: t for name, t in empty.tensors().items() if name != "factors" or "score.factors" in tensors}
    shapes = {name: (n_items, *tensor.shape[1:]) for name, tensor in named.items()}
    shapes["weights"] = tuple(empty.weights.values.shape)
    if "factors" in shapes and tensors["score.factors"].shape == (n_items, RANK):  # before there was a second table
        shapes["factors"] = (n_items, RANK)
    return empty.with_tensors(
        {name: _take(tensors, f"score.{name}", shapes[name], path, tensor.dtype) for name, tensor in named.items()}
    )


def _read_memory(path: Path) -> dict[str, Tensor]:
    memory = _read_tensors(path)
    _require_finite(memory, path)
    return memory


def _load_moments(state: ModelState, tensors: dict[str, Tensor], path: Path) -> None:
    members, (rows, dim) = 1 + len(state.members), state.items.weight.shape
    wide: tuple[int, ...] = (rows, members * dim)
    shapes = {"moment1": wide, "moment2": wide, "steps": (rows, members) if members > 1 else (rows,)}
    found = [apart(_take(tensors, f"items.{name}", shape, path), members) for name, shape in shapes.items()]
    for (prefix, part), *own in zip(_parts(state), *found, strict=True):
        part.items = RowTable(part.items.weight, *own)
        _load_extractor_moments(part, prefix, tensors, path)
    _require_no_more(tensors, path)


def _load_extractor_moments(part: ModelState | Member, prefix: str, tensors: dict[str, Tensor], path: Path) -> None:
    for name, parameter in part.extractor.named_parameters():
        keys = [f"{prefix}{name}.{key}" for key in ("moment1", "moment2", "step")]
        if not any(key in tensors for key in keys):
            continue
        like = tuple(parameter.shape)
        first, second = _take(tensors, keys[0], like, path), _take(tensors, keys[1], like, path)
        part.extractor_optimizer[name] = (first, second, _take(tensors, keys[2], (), path))


def _require_no_more(tensors: dict[str, Tensor], path: Path) -> None:
    if tensors:
        raise CheckpointError(f"{path}: unexpected tensor {min(tensors)!r}", hint=ADVICE)


def _read_config(path: Path) -> tuple[InterestsConfig, int, Any]:
    described = _read_json(path)
    if described.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {described.get('format')!r}, expected {FORMAT}", hint=ADVICE)
    spans = described.get("spans")
    if type(spans) is not int or spans < 0:
        raise CheckpointError(f"{path}: spans is {spans!r}, expected a count", hint=ADVICE)
    try:
        return config_from_dict(described.get("config", {})), spans, described.get("score")
    except CheckpointError as error:
        raise CheckpointError(f"{path.parent}: {error.message}", hint=ADVICE) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=ADVICE) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint=ADVICE)
    return values


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.exists() and not os.access(path, os.R_OK):  # safetensors says that there is none
            raise CheckpointError(f"{path}: this user may not read it", hint=f"as its owner: chmod go+r {path}")
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}", hint=ADVICE) from error


def _take(
    tensors: dict[str, Tensor], name: str, shape: tuple[int | None, ...], path: Path, kind: torch.dtype | None = None
) -> Tensor:
    kind = kind or torch.float32
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise CheckpointError(f"{path}: tensor {name!r} is missing", hint=ADVICE)
    fits = tensor.dim() == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != kind:
        found, wanted = f"{tuple(tensor.shape)} {tensor.dtype}", str(kind).removeprefix("torch.")
        raise CheckpointError(f"{path}: tensor {name!r} is {found}, expected {shape} {wanted}", hint=ADVICE)
    _require_finite({name: tensor}, path)
    return tensor


def _require_finite(tensors: dict[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinite values", hint=ADVICE)
