"""``imsr.toml``: read, checked against the dataclasses, and written with its documentation.

Each section is a frozen dataclass and each key one of its fields; a field that is itself a dataclass is a section of
its own ([users.encoder]). [tasks.NAME] is a section for each task. An unknown section, key or choice is refused with
the nearest name; a wrong type is refused with key and value.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from imsr_core.config import (
    AderConfig,
    DetectorConfig,
    ElasticConfig,
    InterestsConfig,
    ModelConfig,
    RetainerConfig,
    ScoreConfig,
    SmlConfig,
    TrainingConfig,
    TrendConfig,
    TrimmerConfig,
)
from imsr_core.errors import ConfigError
from imsr_core.fields import choices_of
from imsr_core.parts import STRATEGIES
from pipelines.settings.alerts import AlertsSettings
from pipelines.settings.bench import BenchSettings
from pipelines.settings.edit_toml import with_keys
from pipelines.settings.items import ItemsSettings
from pipelines.settings.names import WorkspaceError, check_name
from pipelines.settings.reading import Reading, nearest
from pipelines.settings.sections import (
    EvaluationSettings,
    GateSettings,
    IngestSettings,
    RecommendSettings,
    RefreshSettings,
    ReportSettings,
    RetentionSettings,
    SequencesSettings,
    SpansSettings,
)
from pipelines.settings.segments import SegmentsSettings
from pipelines.settings.source import SourceSettings
from pipelines.settings.stream import StreamSettings
from pipelines.settings.tasks import TaskSettings, UsersSettings

#: What `imsr init` writes in place of tasks, which have no default.
_TASK_EXAMPLE = TaskSettings(labels="labels/age.csv")


@dataclass(frozen=True)
class Settings:
    """All of ``imsr.toml``: one attribute a section; ``own`` are those that strategies bring themselves, by name."""

    source: SourceSettings = field(default_factory=SourceSettings)
    spans: SpansSettings = field(default_factory=SpansSettings)
    items: ItemsSettings = field(default_factory=ItemsSettings)
    segments: SegmentsSettings = field(default_factory=SegmentsSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    sequences: SequencesSettings = field(default_factory=SequencesSettings)
    model: ModelConfig = field(default_factory=ModelConfig)
    retainer: RetainerConfig = field(default_factory=RetainerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    trimmer: TrimmerConfig = field(default_factory=TrimmerConfig)
    trend: TrendConfig = field(default_factory=TrendConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    elastic: ElasticConfig = field(default_factory=ElasticConfig)
    sml: SmlConfig = field(default_factory=SmlConfig)
    ader: AderConfig = field(default_factory=AderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    recommend: RecommendSettings = field(default_factory=RecommendSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    alerts: AlertsSettings = field(default_factory=AlertsSettings)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    bench: BenchSettings = field(default_factory=BenchSettings)
    users: UsersSettings = field(default_factory=UsersSettings)
    tasks: dict[str, TaskSettings] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interests(self) -> InterestsConfig:
        """The hyper-parameters of the ``interests`` line."""
        names = [f.name for f in fields(InterestsConfig)]
        return InterestsConfig(**{name: getattr(self, name) for name in names})


def load_settings(path: Path | None = None, *, text: str | None = None) -> Settings:
    """Settings from a TOML file, or from its ``text``; what is not set has its default.

    Raises:
        ConfigError: unreadable, no TOML, or sections, keys, choices, types or values that cannot be: all of them.
    """
    where = str(path) if path is not None else "settings"
    document, reading = _parsed(path, text, where), Reading(where)
    read: dict[str, Any] = {}
    sections, own = _sections(), {}
    for name, table in document.items():
        if name not in sections and name in STRATEGIES and isinstance(table, dict):
            own[name] = reading.own_section(name, table)
        elif name not in sections:
            reading.refuse(f"{where}: unknown section [{name}]", nearest(name, sections, "sections"))
        elif not isinstance(table, dict):
            reading.refuse(f"{where}: {name} is a section", f"write [{name}] on a line of its own")
        else:
            read[name] = reading.section(sections[name], name, table) if name != "tasks" else _tasks(reading, table)
    reading.finish()
    return Settings(**read, own=own)


def load_alerts(path: Path) -> AlertsSettings:
    """[alerts] of a TOML file, whatever its other sections say; raises ConfigError if it cannot be read."""
    reading = Reading(str(path))
    table = _parsed(path, None, str(path)).get("alerts", {})
    read: Any = reading.section(AlertsSettings, "alerts", table if isinstance(table, dict) else {"urls": table})
    reading.finish()
    return read


def _sections() -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(Settings).items() if name != "own"}


def _parsed(path: Path | None, text: str | None, where: str) -> dict[str, Any]:
    try:
        # utf-8-sig: editors of Windows put a mark at the beginning
        return tomllib.loads(path.read_text(encoding="utf-8-sig") if path is not None else text or "")
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}", hint="run: imsr init") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply", hint="a setting is text, a number, or a list") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where} is no valid TOML: no UTF-8 text, byte {error.start + 1} is {error.object[error.start]:#04x}",
            hint="save it as UTF-8, in an editor that can",
        ) from error
    except (tomllib.TOMLDecodeError, ValueError) as error:
        twice = any(words in str(error) for words in ("overwrite", "Cannot declare", "twice", "mutate"))
        hint = "a key or a section stands there twice: keep one" if twice else 'text needs quotes: key = "text"'
        raise ConfigError(f"{where} is no valid TOML: {error}", hint=hint) from error


def _tasks(reading: Reading, tables: dict[str, Any]) -> dict[str, TaskSettings]:
    return {name: _task(reading, name, table) for name, table in tables.items()}


def _task(reading: Reading, name: str, table: Any) -> Any:
    section = f"tasks.{name}"
    try:
        check_name(name)
    except WorkspaceError as error:
        return reading.refuse(f"[{section}]: {error.message}", error.hint)
    if name == "T1" or len(name) > 64:
        why = "is the pre-training's name" if name == "T1" else "is longer than 64 characters"
        return reading.refuse(f"[{section}]: {name[:70]} {why}", "give the task another name")
    if not isinstance(table, dict):
        return reading.refuse(f"[tasks] {name} = {table!r}: a task is a section", f"write [{section}]")
    settings = reading.section(TaskSettings, section, table)  # a misspelt key is named, too
    if "labels" not in table:
        return reading.refuse(f"[{section}] has no labels", 'labels = "labels/age.csv" or "view:NAME"')
    return settings


def default_toml() -> str:
    """A commented ``imsr.toml`` with every key, as a new workspace starts: at its default, or better where we know
    better by now (see `imsr_core.fields.documented`)."""
    parts = ["# Settings of this workspace: every key, as a new workspace starts.\n"]
    for section, kind in _sections().items():
        parts.append(_toml_section(section, kind) if section != "tasks" else _toml_tasks())
    return "".join(parts)


def as_new(text: str) -> str:
    """Somebody's ``imsr.toml`` as a new workspace starts: what it leaves out, and we know better by now, is added.

    Raises:
        ConfigError: it is not valid.
    """
    load_settings(text=text)
    given = tomllib.loads(text)
    fresh = {
        f"{section}.{entry.name}": entry.metadata["fresh"]
        for section, kind in _sections().items()
        if section != "tasks"
        for entry in fields(kind)
        if entry.metadata.get("fresh", entry.default) != entry.default
        if isinstance(entry.metadata["fresh"], int | float | str) and entry.name not in given.get(section, {})
    }
    return with_keys(text, fresh) if fresh else text


def _toml_section(section: str, kind: type) -> str:
    """A section with its keys, then the sections inside it."""
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    hints = get_type_hints(kind)
    inner = [f for f in fields(kind) if is_dataclass(hints[f.name])]
    keys = [_toml_key(f, choices_of(kind).get(f.name, ())) for f in fields(kind) if f not in inner]
    within = [_toml_section(f"{section}.{f.name}", hints[f.name]) for f in inner]
    return "".join([f"\n# {summary}\n[{section}]\n", *keys, *within])


def _toml_tasks() -> str:
    """The keys of a task, commented out: a task has no defaults to run with."""
    kind = _TASK_EXAMPLE
    lines = [f"\n# {(TaskSettings.__doc__ or '').strip().splitlines()[0]}\n# [tasks.age]\n"]
    for entry in fields(TaskSettings):
        comment, _ = _toml_key(entry, choices_of(TaskSettings).get(entry.name, ())).rsplit("\n", 2)[:2]
        lines.append(f"{comment}\n# {entry.name} = {_toml(getattr(kind, entry.name))}\n")
    return "".join(lines)


def _toml_key(entry: Field[Any], choices: Collection[str]) -> str:
    doc = entry.metadata["doc"]
    if choices:
        doc += f" [{' | '.join(choices)}]"
    if entry.metadata.get("range"):
        doc += f" [{entry.metadata['range']}]"
    comment = textwrap.fill(doc, 100, initial_indent="# ", subsequent_indent="#   ")
    default = {} if entry.default is MISSING else entry.default
    value = entry.metadata.get("fresh", default)
    if value != default:
        doc += f" (left out: {_toml(default)})"
        comment = textwrap.fill(doc, 100, initial_indent="# ", subsequent_indent="#   ")
    line = f"# {entry.name} = (unset)" if value is None else f"{entry.name} = {_toml(value)}"
    return f"{comment}\n{line}\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
