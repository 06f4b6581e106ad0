"""The chain of sequences: those of each span continue those of the span before, back to the first span.

The chain says which vocabulary deltas belong together. It is read from the ``sequences.json`` in each
(immutable) folder, so a model version keeps its own chain after an earlier span was restated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.known_content import KnownContent
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SequencesRow, Snapshot, SpanRow
from pipelines.workspace.seal import write_atomic

MANIFEST = "sequences.json"

#: Part of each fingerprint: a change of layout or of numbering makes new sequences.
FORMAT = 1


class SequenceOrderError(ImsrError):
    """Earlier spans must be sequenced first; ``spans`` lists them in order."""

    def __init__(self, span_id: str, spans: list[str]) -> None:
        super().__init__(
            f"span {span_id} cannot be sequenced yet: {', '.join(spans)} must come first",
            hint=f"sequence span {spans[0]} first; each span numbers its new ids after those before it",
        )
        self.spans = spans


class SequenceChainError(ImsrError):
    """A link of a chain is missing or damaged."""


@dataclass(frozen=True)
class ChainLink:
    """One link of the chain, the sequences of one span: which data they were made from, and where they are."""

    span_id: str
    fingerprint: str
    data_fingerprint: str
    folder: Path


def fingerprint_of(
    *,
    data_fingerprint: str,
    parent_fingerprint: str | None,
    max_events_per_user: int,
    buckets: Sequence[str],
) -> str:
    """16 hex digits of the sha256 over everything that decides the content of a span's sequences."""
    made_from = [FORMAT, data_fingerprint, parent_fingerprint, max_events_per_user, sorted(buckets)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def write_manifest(folder: Path, link: ChainLink, chain: Sequence[ChainLink]) -> None:
    """Write ``sequences.json``: the link itself and its parent."""
    parent = {"span": chain[-1].span_id, "fingerprint": chain[-1].fingerprint} if chain else None
    manifest = {
        "format": FORMAT,
        "span": link.span_id,
        "fingerprint": link.fingerprint,
        "data_fingerprint": link.data_fingerprint,
        "parent": parent,
    }
    write_atomic(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


def write_manifest_of(folder: Path, data_fingerprint: str, out: Path) -> None:
    """Write the ``sequences.json`` of ``folder`` to ``out``, made from data of another fingerprint."""
    manifest = _read_manifest(folder / MANIFEST) | {"data_fingerprint": data_fingerprint}
    write_atomic(out, (json.dumps(manifest, indent=1) + "\n").encode())


def chain_of(workspace: Workspace, span_id: str, fingerprint: str) -> list[ChainLink]:
    """The sequences of a span and all its ancestors, oldest first.

    Raises:
        SequenceChainError: a folder or its ``sequences.json`` is missing or is not what its name says.
        WorkspaceError: a folder is not in the workspace.
    """
    links: list[ChainLink] = []
    seen: set[Path] = set()
    parent: dict[str, str] | None = {"span": span_id, "fingerprint": fingerprint}
    while parent is not None:
        folder = workspace.sequences_folder(parent["span"], parent["fingerprint"])
        workspace.resolve(workspace.relative(folder))  # no link may lead out of the workspace
        manifest = _read_manifest(folder / MANIFEST)
        named = (manifest["span"], manifest["fingerprint"])
        if named != (parent["span"], parent["fingerprint"]) or folder in seen:
            raise SequenceChainError(f"{folder / MANIFEST} belongs to another folder", hint="run: imsr doctor")
        seen.add(folder)
        links.append(ChainLink(*named, manifest["data_fingerprint"], folder))
        parent = manifest["parent"]
    return links[::-1]


def parent_folder(workspace: Workspace, folder: Path) -> Path | None:
    """The sequences that those in ``folder`` continue; None for the first span's.

    Raises:
        SequenceChainError: the ``sequences.json`` is missing or damaged.
    """
    parent = _read_manifest(folder / MANIFEST)["parent"]
    return workspace.sequences_folder(parent["span"], parent["fingerprint"]) if parent else None


def vocabulary_of(workspace: Workspace, span_id: str, fingerprint: str) -> Vocabulary:
    """All ids up to and including a span, as the sequences of this fingerprint number them.

    Raises:
        SequenceChainError, VocabularyError: the chain is broken or damaged.
    """
    return Vocabulary.open([link.folder for link in chain_of(workspace, span_id, fingerprint)])


def latest_rows(snapshot: Snapshot) -> dict[str, SequencesRow]:
    """Span -> its sequences in force: of several, those that were built last, or found again last."""
    return {row.span_id: row for row in snapshot.sequences()}


def parent_chain(workspace: Workspace, snapshot: Snapshot, span: SpanRow) -> list[ChainLink]:
    """The chain that the sequences of ``span`` continue: one link for each earlier span with data.

    Raises:
        SequenceOrderError: earlier spans have no sequences of their data in force.
    """
    before = {row.span_id for row in snapshot.spans() if row.start_us < span.start_us}
    wanted = [(v.span_id, v.fingerprint) for v in snapshot.current_span_versions() if v.span_id in before]
    latest = latest_rows(snapshot)
    chain = _chain_in_force(workspace, latest, wanted)
    if chain is not None:
        return chain
    prefixes = [wanted[: n + 1] for n in range(len(wanted))]
    stale = [p[-1][0] for p in prefixes if _chain_in_force(workspace, latest, p) is None]
    raise SequenceOrderError(span.span_id, stale)


def _chain_in_force(
    workspace: Workspace, latest: dict[str, SequencesRow], wanted: list[tuple[str, str]]
) -> list[ChainLink] | None:
    """The chain through exactly these (span, data fingerprint), or None if the last span has another one."""
    if not wanted:
        return []
    row = latest.get(wanted[-1][0])
    chain = chain_of(workspace, row.span_id, row.fingerprint) if row else []
    return chain if [(link.span_id, link.data_fingerprint) for link in chain] == wanted else None


def link_of(folder: Path) -> ChainLink:
    """The link that the ``sequences.json`` of a folder describes.

    Raises:
        SequenceChainError: it is missing or damaged.
    """
    manifest = _read_manifest(folder / MANIFEST)
    return ChainLink(manifest["span"], manifest["fingerprint"], manifest["data_fingerprint"], folder)


_MANIFESTS: KnownContent[dict] = KnownContent(lambda path: json.loads(path.read_text(encoding="utf-8")))


def _read_manifest(path: Path) -> dict:
    try:
        manifest = _MANIFESTS.of(path)
        if manifest["format"] != FORMAT:
            raise SequenceChainError(
                f"{path} has format {manifest['format']}, this program knows {FORMAT}",
                hint="use the version of imsr that wrote it",
            )
        _ = manifest["span"], manifest["fingerprint"], manifest["data_fingerprint"]
        if manifest["parent"] is not None:
            _ = manifest["parent"]["span"], manifest["parent"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SequenceChainError(f"{path} is missing or damaged: {error}", hint="run: imsr doctor") from error
    return manifest
