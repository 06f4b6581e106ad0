"""Settings that the base model of a chain was made with: a later change of them has no effect, or stops the next run.

A run that is refused says so itself; this says it before, to those who look at what would run.
"""

from __future__ import annotations

from imsr_core.counted import counted
from imsr_core.errors import CheckpointError
from pipelines.nights.plan import PlannedRun
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.lineage import Lineage
from pipelines.versions.rebuilding import head_of_learning
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow

#: Keys of [model] that give the tensors of a chain their shapes.
_SHAPES = ("extractor", "dim", "members", "attention_units")
#: What versions have that were made before there was the key.
_BEFORE = {"members": 1}


def begun_otherwise(workspace: Workspace, runs: list[PlannedRun]) -> list[str]:
    """What to say of settings that the chain which goes on was begun with otherwise; nothing where ``runs`` begin anew.

    A lineage that cannot be read says nothing here: it is damage, and `imsr doctor` names it.
    """
    with workspace.ledger.snapshot() as view:
        chain = chain_of_versions(view, head_of_learning(view))
    if not chain or (runs and runs[0].base):
        return []
    head, first = chain[0], chain[-1]
    anew = f"to learn everything anew with it: imsr restate {first.spans[0]}"
    return [*_pretraining(workspace, first, anew), *_shape(workspace, head, anew)]


def _pretraining(workspace: Workspace, first: VersionRow, anew: str) -> list[str]:
    wanted, learnt = workspace.settings.spans.pretrain, len(first.spans)
    if first.parent is not None or first.shadow_of is not None or wanted == learnt:
        return []
    return [
        f"[spans] pretrain = {wanted}: the base model was learnt from {counted(learnt, 'span')} and stays so; {anew}"
    ]


def _shape(workspace: Workspace, head: VersionRow, anew: str) -> list[str]:
    try:
        was = _BEFORE | Lineage.read(workspace.resolve(head.path)).config.get("model", {})
    except CheckpointError:
        return []
    now = workspace.settings.model
    changed = [key for key in _SHAPES if was.get(key) and getattr(now, key) and was[key] != getattr(now, key)]
    return [
        f"[model] {key} = {getattr(now, key)!r}: version {head.version_id} was made with {was[key]!r}, so that no span "
        f"can be learnt from it; set it back, or {anew}"
        for key in changed
    ]
