"""``imsr.toml``: read, checked against the dataclasses, and written with its documentation.

Each section is a frozen dataclass and each key one of its fields; a field that is itself a dataclass is a section of
its own ([users.encoder]). [tasks.NAME] is a section for each task. An unknown section, key or choice is refused with
the nearest name; a wrong type is refused with key and value.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
import types
from dataclasses import Field, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from imsr_core.config import (
    AderConfig,
    DetectorConfig,
    ElasticConfig,
    InterestsConfig,
    ModelConfig,
    RetainerConfig,
    SmlConfig,
    TrainingConfig,
    TrendConfig,
    TrimmerConfig,
)
from imsr_core.errors import ConfigError
from pipelines.settings.bench import BenchSettings
from pipelines.settings.items import ItemsSettings
from pipelines.settings.sections import (
    EvaluationSettings,
    GateSettings,
    IngestSettings,
    RefreshSettings,
    RetentionSettings,
    SequencesSettings,
    SourceSettings,
    SpansSettings,
)
from pipelines.settings.tasks import TaskSettings, UsersSettings

#: What `imsr init` writes in place of tasks, which have no default.
_TASK_EXAMPLE = TaskSettings(labels="labels/age.csv")


@dataclass(frozen=True)
class Settings:
    """All of ``imsr.toml``: one attribute a section."""

    source: SourceSettings = field(default_factory=SourceSettings)
    spans: SpansSettings = field(default_factory=SpansSettings)
    items: ItemsSettings = field(default_factory=ItemsSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    sequences: SequencesSettings = field(default_factory=SequencesSettings)
    model: ModelConfig = field(default_factory=ModelConfig)
    retainer: RetainerConfig = field(default_factory=RetainerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    trimmer: TrimmerConfig = field(default_factory=TrimmerConfig)
    trend: TrendConfig = field(default_factory=TrendConfig)
    elastic: ElasticConfig = field(default_factory=ElasticConfig)
    sml: SmlConfig = field(default_factory=SmlConfig)
    ader: AderConfig = field(default_factory=AderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    bench: BenchSettings = field(default_factory=BenchSettings)
    users: UsersSettings = field(default_factory=UsersSettings)
    tasks: dict[str, TaskSettings] = field(default_factory=dict)

    @property
    def interests(self) -> InterestsConfig:
        """The hyper-parameters of the ``interests`` line."""
        names = [f.name for f in fields(InterestsConfig)]
        return InterestsConfig(**{name: getattr(self, name) for name in names})


def load_settings(path: Path | None = None, *, text: str | None = None) -> Settings:
    """Settings from a TOML file, or from its ``text``; what is not set has its default.

    Raises:
        ConfigError: unreadable, no TOML, or a section, key, choice, type or value that cannot be.
    """
    where = str(path) if path is not None else "settings"
    try:
        content = path.read_text(encoding="utf-8") if path is not None else text or ""
        document = tomllib.loads(content)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}", hint="run: imsr init") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is no valid TOML: {error}", hint='text needs quotes: key = "text"') from error
    sections = get_type_hints(Settings)
    read: dict[str, Any] = {}
    for name, table in document.items():
        if name not in sections:
            raise ConfigError(f"{where}: unknown section [{name}]", hint=_nearest(name, sections, "sections"))
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {name} is a section", hint=f"write [{name}] on a line of its own")
        read[name] = _section(sections[name], name, table) if name != "tasks" else _tasks(table)
    return Settings(**read)


def _tasks(tables: dict[str, Any]) -> dict[str, TaskSettings]:
    from pipelines.settings.names import WorkspaceError, check_name

    for name, table in tables.items():
        try:
            check_name(name)
        except WorkspaceError as error:
            raise ConfigError(f"[tasks.{name}]: {error.message}", hint=error.hint) from error
        if name == "T1" or len(name) > 64:
            why = "is the pre-training's name" if name == "T1" else "is longer than 64 characters"
            raise ConfigError(f"[tasks.{name}]: {name[:70]} {why}", hint="give the task another name")
        if not isinstance(table, dict):
            raise ConfigError(f"[tasks] {name} = {table!r}: a task is a section", hint=f"write [tasks.{name}]")
        if not table.get("labels"):
            raise ConfigError(f"[tasks.{name}] has no labels", hint='labels = "labels/age.csv" or "view:NAME"')
    return {name: _section(TaskSettings, f"tasks.{name}", table) for name, table in tables.items()}


def _section(kind: type, section: str, table: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise ConfigError(f"[{section}] has no key {key!r}", hint=_nearest(key, hints, "keys"))
    return kind(**{key: _value(hints[key], f"[{section}] {key}", value) for key, value in table.items()})


def _value(hint: Any, where: str, value: Any) -> Any:
    """``value`` as the field's type, without guessing: only an int where a float is wanted is converted."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} = {value!r}: is a section", hint=f"write {where.replace('] ', '.')}]")
        return _section(hint, where[1:].replace("] ", "."), value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], where, each) for each in value)
    choices, kinds = _shape(hint)
    if choices and value in choices and isinstance(value, str):
        return value
    if choices and isinstance(value, str):
        raise ConfigError(f"{where} = {value!r} is no choice", hint=_nearest(value, choices, "choices"))
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        wanted = " or ".join(sorted({"text" if k is str else k.__name__ for k in kinds}))
        raise ConfigError(f"{where} = {value!r}: must be {wanted}", hint=f"it is {type(value).__name__} now")
    return value


def _shape(hint: Any) -> tuple[tuple[str, ...], set[type]]:
    """The choices and the types that a field's annotation allows (``None`` apart: TOML has none)."""
    if get_origin(hint) is Literal:
        return get_args(hint), {str}
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_shape(part) for part in get_args(hint) if part is not type(None)]
        return sum((p[0] for p in parts), ()), set().union(*(p[1] for p in parts))
    return (), {hint if get_origin(hint) is None else get_origin(hint)}


def _nearest(name: str, known: Any, what: str) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    listing = f"{what}: {', '.join(known)}"
    return f"did you mean {close[0]!r}? {listing}" if close else listing


def default_toml() -> str:
    """A commented ``imsr.toml`` with every key at its default; reading it gives ``Settings()``."""
    parts = ["# Settings of this workspace. Every key is shown with its default; a key left out keeps it.\n"]
    for section, kind in get_type_hints(Settings).items():
        parts.append(_toml_section(section, kind) if section != "tasks" else _toml_tasks())
    return "".join(parts)


def _toml_section(section: str, kind: type) -> str:
    """A section with its keys, then the sections inside it."""
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    hints = get_type_hints(kind)
    inner = [f for f in fields(kind) if is_dataclass(hints[f.name])]
    keys = [_toml_key(f, _shape(hints[f.name])[0]) for f in fields(kind) if f not in inner]
    within = [_toml_section(f"{section}.{f.name}", hints[f.name]) for f in inner]
    return "".join([f"\n# {summary}\n[{section}]\n", *keys, *within])


def _toml_tasks() -> str:
    """The keys of a task, commented out: a task has no defaults to run with."""
    kind = _TASK_EXAMPLE
    hints = get_type_hints(TaskSettings)
    lines = [f"\n# {(TaskSettings.__doc__ or '').strip().splitlines()[0]}\n# [tasks.age]\n"]
    for entry in fields(TaskSettings):
        comment, _ = _toml_key(entry, _shape(hints[entry.name])[0]).rsplit("\n", 2)[:2]
        lines.append(f"{comment}\n# {entry.name} = {_toml(getattr(kind, entry.name))}\n")
    return "".join(lines)


def _toml_key(entry: Field[Any], choices: tuple[str, ...]) -> str:
    doc = entry.metadata["doc"]
    if choices:
        doc += f" [{' | '.join(choices)}]"
    comment = textwrap.fill(doc, 100, initial_indent="# ", subsequent_indent="#   ")
    line = f"# {entry.name} = (unset)" if entry.default is None else f"{entry.name} = {_toml(entry.default)}"
    return f"{comment}\n{line}\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return repr(list(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
