"""What is recorded of a forgotten user: a salted hash, counts, and which models learnt from the user; never the id.

While a forgetting is under way the ledger also holds its journal, with the id, so that any later run can finish it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipelines.workspace.decoding import decode_meta
from pipelines.workspace.ledger import Snapshot, Transaction

JOURNAL_KEY = "forgetting"
RECEIPTS_KEY = "forgotten"


def user_hash(user_id: str, salt: str) -> str:
    """scrypt of the id: 32 hex digits. Slow on purpose, so that short ids cannot be found by trying all of them."""
    digest = hashlib.scrypt(user_id.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=16)
    return digest.hex()


@dataclass(frozen=True)
class Receipt:
    """The lasting record of one forgotten user.

    Attributes:
        receipt_id: ``f0001``, ``f0002``, ...
        user_hash, salt: see ``user_hash``; whoever knows the id can check that it is this one.
        started_at, finished_at: ISO times; ``finished_at`` is when the last old file was gone, empty before.
        rows: place -> rows removed (in the vocabulary: ids replaced by a tombstone).
        spans: spans in which the user had events.
        sources: names of the files that brought the user's events.
        landing: files that people put there (in ``landing/``, labels) and that held the user -> what was done
            ("rewritten", or why not).
        left: damaged files, and others that could not be rewritten -> why; they may still hold the user.
        learnt_from: versions that learnt a span with the user's events; ``built_on_these``: their descendants. Their
            item vectors and extractor keep the influence of the user's events until they are learnt again.
        stale: spans that were marked to be learnt again without the user (``--retrain``).
    """

    receipt_id: str
    user_hash: str
    salt: str
    started_at: str
    finished_at: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    spans: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    landing: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    learnt_from: tuple[str, ...] = ()
    built_on_these: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    def is_of(self, user_id: str) -> bool:
        """Whether this is the receipt of the user."""
        return hmac.compare_digest(self.user_hash, user_hash(user_id, self.salt))


@dataclass(frozen=True)
class Journal:
    """A forgetting that is under way: the only place where the id is still written on purpose.

    ``found`` is path -> rows; ``lake`` are the (span, data version) that held the user's events; ``sequences`` the
    (span, fingerprint); ``rewritten`` maps the sha256 of files in ``landing/`` to that of what replaces them.
    ``committed``: the ledger has the new counts; what is left is to make the new files current and to remove the old.
    """

    user_id: str
    receipt: Receipt
    retrain: bool
    landing: bool
    found: dict[str, int] = field(default_factory=dict)
    lake: tuple[tuple[str, int], ...] = ()
    sequences: tuple[tuple[str, str], ...] = ()
    rewritten: dict[str, str] = field(default_factory=dict)
    committed: bool = False


def read_journal(view: Snapshot) -> Journal | None:
    """The forgetting that is under way, if one is."""
    text = view.meta(JOURNAL_KEY)
    if text is None:
        return None
    return decode_meta(JOURNAL_KEY, text, _journal)


def write_journal(tx: Transaction, journal: Journal) -> None:
    """Record a forgetting as under way."""
    tx.put_meta(JOURNAL_KEY, json.dumps(asdict(journal)))


def clear_journal(tx: Transaction) -> None:
    """Remove the journal; SQLite overwrites its bytes."""
    tx.delete("meta", key=JOURNAL_KEY)


def receipts(view: Snapshot) -> list[Receipt]:
    """All receipts, oldest first."""
    text = view.meta(RECEIPTS_KEY) or "[]"
    return decode_meta(RECEIPTS_KEY, text, lambda found: [_receipt(values) for values in found])


def put_receipt(tx: Transaction, receipt: Receipt) -> None:
    """Add a receipt, or replace it."""
    others = [each for each in receipts(tx) if each.receipt_id != receipt.receipt_id]
    tx.put_meta(RECEIPTS_KEY, json.dumps([asdict(each) for each in [*others, receipt]]))


def finished(receipt: Receipt, at: str) -> Receipt:
    """The receipt with its time of completion."""
    return replace(receipt, finished_at=at)


def _journal(values: dict[str, Any]) -> Journal:
    pairs = {name: tuple((a, b) for a, b in values[name]) for name in ("lake", "sequences")}
    return Journal(**(values | pairs | {"receipt": _receipt(values["receipt"])}))


def _receipt(values: dict[str, Any]) -> Receipt:
    names = ("spans", "sources", "learnt_from", "built_on_these", "stale")
    return Receipt(**(values | {name: tuple(values[name]) for name in names}))
