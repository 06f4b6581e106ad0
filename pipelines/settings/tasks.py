"""The settings of the `users` line: one encoder that keeps learning tasks, and the tasks it learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from imsr_core.encoders.config import EncoderConfig
from imsr_core.fields import Section, documented
from imsr_core.lifelong.config import (
    ConureConfig,
    LifelongConfig,
    ObjectiveConfig,
    PeterRecConfig,
    PretrainConfig,
    RetrainConfig,
    SplitConfig,
    TaskConfig,
    TeraconConfig,
)
from imsr_core.parts import METHODS


def _table(kind: type, doc: str) -> Any:
    return field(default_factory=kind, metadata={"doc": doc})


@dataclass(frozen=True)
class UsersSettings(Section):
    """The `users` line: how one encoder learns task after task. Nothing runs without a [tasks.NAME]."""

    method: str = documented(
        "conure",
        "conure, peterrec (old tasks stay bit for bit), teracon (one network, forgetting is measured); the others are "
        "baselines. A line keeps the method it began with: another one begins with `imsr task pretrain --anew`",
        choices=METHODS,
    )
    seed: int = documented(0, "seed of everything random in the line", at_least=0, at_most=2**32 - 1)
    nightly: bool = documented(
        True, "the nightly flow adds the tasks that are due, after the spans; false = only by hand"
    )
    max_forgetting: float = documented(
        0.05,
        "teracon, sinmoall: a version is rejected if an earlier task lost more than this share of the score that it "
        "had when it was learnt",
        at_least=0,
        at_most=1,
    )
    device: str = documented("cpu", "where tasks are learnt: cpu, cuda, ...")
    finetuned_sites: int = documented(2, "layers that finelast trains, counted from the end", at_least=1, at_most=1000)
    encoder: EncoderConfig = _table(EncoderConfig, "shape of the encoder")
    pretrain: PretrainConfig = _table(PretrainConfig, "how T1, the next item, is learnt")
    task: TaskConfig = _table(TaskConfig, "how a task is learnt")
    retrain: RetrainConfig = _table(RetrainConfig, "conure: how what is left after pruning is trained again")
    objective: ObjectiveConfig = _table(ObjectiveConfig, "losses")
    split: SplitConfig = _table(SplitConfig, "which users train, select and test")
    conure: ConureConfig = _table(ConureConfig, "conure")
    peterrec: PeterRecConfig = _table(PeterRecConfig, "peterrec")
    teracon: TeraconConfig = _table(TeraconConfig, "teracon")

    @property
    def lifelong(self) -> LifelongConfig:
        """The hyper-parameters as the core takes them."""
        return LifelongConfig(**{f.name: getattr(self, f.name) for f in fields(LifelongConfig)})


@dataclass(frozen=True)
class TaskSettings(Section):
    """One task of the `users` line; its name is the section's: [tasks.age]."""

    labels: str = documented(
        "",
        "where the labels are: a CSV, .dat, Parquet or RecBole file (relative to the workspace), or view:NAME for one "
        "of its views",
        like=(".+", "given"),
    )
    user_id: str = documented("user_id", "column with the user's id, as in the events", like=(".+", "given"))
    label: str = documented("label", "column with the label: a class, or an item of any domain", like=(".+", "given"))
    time: str = documented(
        "",
        "column with the time when the label became known (a date or a time, ISO 8601 as text; no offset = UTC). With "
        "it, labels from after the learnt spans wait, and a user's sequence ends before the user's first label",
    )
    kind: Literal["class", "items"] = documented(
        "class", "class = one label a user, judged by accuracy; items = any number, judged by the full ranking"
    )
    header: tuple[str, ...] = documented(
        (), "names of all columns of the labels, in order, where a file of text has no header (users.dat, u.user)"
    )
    from_span: str = documented("", "the task is due when this span is learnt; empty = at once")

    def clashes(self) -> Iterator[tuple[str, str]]:
        """Names that are there twice."""
        if len(set(self.header)) < len(self.header):
            yield "header", "names that differ"
