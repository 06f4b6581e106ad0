"""The doctor's look into published folders: all files there, of the right size and (deep) content, chains unbroken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from imsr_core.checkpoint import load_state
from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from imsr_core.sorted_keys import IntArray, is_in
from pipelines.care.finding import DAMAGED, PRUNE, Finding, Severity
from pipelines.care.orphans import LISTS, lists_of_versions, version_of_list
from pipelines.care.receipts import read_journal
from pipelines.interests.interest_files import not_finite, owners_in
from pipelines.interests.version import Version
from pipelines.lake.span_files import content_of
from pipelines.sequences.chain import link_of, parent_folder
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.versions.dependencies import read_by
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.parquet_files import read_pieces
from pipelines.workspace.seal import NEXT, folder_problem
from pipelines.workspace.states import GONE, VersionState

#: Users (U,) some of whose interests in a file, with vectors of this length and so many query units, are no numbers.
NotFinite = Callable[[Path, int, int], IntArray]


def check_data(workspace: Workspace, view: Snapshot, deep: bool) -> Iterator[Finding]:
    """The lake: every data version, the one in force being all there is of its span."""
    current = {row.path for row in view.current_span_versions()}
    for row in view.span_versions():
        folder = workspace.resolve(row.path)
        problem = folder_problem(folder, deep=deep)
        if problem is None and deep:
            problem = _content_problem(folder, row.fingerprint)
        if problem is None:
            continue
        if row.path in current:
            mend = f"restore {row.path} from a backup"
            yield Finding(Severity.ERROR, problem, row.path, mend)
        else:
            yield Finding(Severity.ERROR, f"{problem} (old data)", row.path, DAMAGED, ("data", row.path))
    yield from _interrupted(workspace, view)


def check_quarantine(workspace: Workspace, view: Snapshot, deep: bool) -> Iterator[Finding]:
    """The refused rows of every ingest."""
    for batch in view.batches():
        if batch.quarantine_path:
            problem = _parquet_problem(workspace.resolve(batch.quarantine_path), "reason", deep)
            if problem:
                mend = f"restore {batch.quarantine_path} from a backup"
                yield Finding(Severity.ERROR, problem, batch.quarantine_path, mend)


def check_sequences(workspace: Workspace, view: Snapshot, deep: bool) -> Iterator[Finding]:
    """Every set of sequences, and that its parent is there."""
    named = {row.path for row in view.sequences()}
    for row in view.sequences():
        folder = workspace.resolve(row.path)
        problem = folder_problem(folder, deep=deep) or _link_problem(workspace, folder, row.fingerprint, named)
        if problem:
            yield Finding(Severity.ERROR, problem, row.path, DAMAGED, ("sequences", row.path))


def check_versions(workspace: Workspace, view: Snapshot, deep: bool) -> Iterator[Finding]:
    """Every model version, its files, and what it reads of others."""
    named, looked_at = view.paths(), cache(not_finite)  # many versions read the same files of interests
    for row in view.versions():
        if row.state == VersionState.PRUNED:
            continue
        folder = workspace.resolve(row.path)
        problem = folder_problem(folder, deep=deep)
        if problem is None:
            problem = _reading_problem(workspace, row, named)
        if problem is None and row.line == Line.INTERESTS:
            problem = _version_problem(workspace, row, looked_at if deep else None)
        if problem:
            yield Finding(Severity.ERROR, problem, row.path, DAMAGED, ("version", row.version_id))


def check_lists(workspace: Workspace, view: Snapshot, deep: bool) -> Iterator[Finding]:
    """Lists of recommendations and of nearest items: readable, and of a version that is kept."""
    whole = {row.version_id for row in view.versions() if row.state not in GONE}
    for path in lists_of_versions(workspace):
        where = workspace.relative(path)
        if version_of_list(path) not in whole:
            yield Finding(Severity.WARNING, "lists of a version that is not kept", where, PRUNE)
        elif problem := _parquet_problem(path, None, deep):
            command = LISTS[path.parent.name].format(version_of_list(path))
            mend = command if "~" not in path.name else "remove the file: the next night writes it"
            yield Finding(Severity.ERROR, problem, where, mend)


def _interrupted(workspace: Workspace, view: Snapshot) -> Iterator[Finding]:
    mend = PRUNE if read_journal(view) is None else "imsr forget"
    for path in sorted(workspace.root.glob(f"*/*/{NEXT}")) + sorted(workspace.root.glob(f"*/*/*/{NEXT}")):
        yield Finding(Severity.WARNING, "its rewriting was interrupted", workspace.relative(path.parent), mend)


def _content_problem(folder: Path, fingerprint: str) -> str | None:
    try:
        found = content_of(folder).fingerprint
    except ImsrError as error:
        return error.message
    return None if found == fingerprint else "its content is not what the ledger says (fingerprint)"


def _parquet_problem(path: Path, column: str | None, deep: bool) -> str | None:
    """What is wrong with a file, as far as ``column`` shows (None: its first one), or all of them."""
    if not path.is_file():
        return "it is missing"
    try:
        names = list(_names(path)) if deep or column is None else [column]
        read_pieces(path, names if deep else names[:1], lambda table: None)
    except ImsrError as error:
        return error.message.removeprefix(f"{path}: ")
    return None


def _names(path: Path) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return ("user_id",)  # reading will say what is wrong


def _link_problem(workspace: Workspace, folder: Path, fingerprint: str, named: set[str]) -> str | None:
    try:
        link, parent = link_of(folder), parent_folder(workspace, folder)
    except ImsrError as error:
        return error.message
    if link.fingerprint != fingerprint:
        return "its sequences.json belongs to another folder"
    if parent is not None and workspace.relative(parent) not in named:
        return f"it continues {workspace.relative(parent)}, which the ledger does not name"
    return None


def _reading_problem(workspace: Workspace, row: VersionRow, named: set[str]) -> str | None:
    """Everything that a version reads of others must be in the ledger."""
    if row.state == VersionState.ARCHIVED:
        return None
    try:
        reads = read_by(workspace, workspace.resolve(row.path))
    except ImsrError as error:
        return error.message
    versions = [workspace.relative(workspace.version_folder(name)) for name in reads.versions]
    lost = [path for path in (*reads.sequences, *versions) if path not in named]
    return f"it reads {lost[0]}, which the ledger does not name" if lost else None


def _version_problem(workspace: Workspace, row: VersionRow, looked_at: NotFinite | None) -> str | None:
    try:
        lineage = Lineage.read(workspace.resolve(row.path))
        if (lineage.version_id, lineage.fingerprint) != (row.version_id, row.fingerprint):
            return "its lineage.json belongs to another version"
        if row.state == VersionState.ARCHIVED:
            return None
        vocabulary = Vocabulary.open([workspace.resolve(path) for path in lineage.vocabulary])
        return _tensor_problem(Version(workspace, row, lineage), vocabulary, looked_at) if looked_at else None
    except ImsrError as error:
        return error.message


def _tensor_problem(version: Version, vocabulary: Vocabulary, looked_at: NotFinite) -> str | None:
    """Damage that a hash cannot show: it was there when the folder was sealed."""
    state = load_state(version.model_folders(), optimizer=True)
    if state.n_items > vocabulary.validate().n_items:
        return f"it has {counted(state.n_items, 'item')}, its vocabulary {vocabulary.n_items}"
    model = state.config.model
    for files in (version.interest_files(), *map(version.member_files, range(1, model.members))):
        harmed = [looked_at(path, model.dim, model.query_units) for path in files]
        if any(len(users) and not _written_anew(users, files[n + 1 :]) for n, users in enumerate(harmed)):
            return "its interests hold NaN or infinite values"
    return None


def _written_anew(users: IntArray, later: Sequence[Path]) -> bool:
    """Whether all these users are in later files of a chain, whose rows stand in the place of theirs."""
    return bool(is_in(users, np.concatenate([users[:0], *map(owners_in, later)])).all())
