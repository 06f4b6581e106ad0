"""Lists as people read them: items by their names, and reasons that name items and interests.

{"item_id": "1082185", "reason": "goes with 981760"}
    -> + {"name": "Bananas", "categories": {"department": "Produce"}, "why": "goes with Onions"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.errors import ConfigError
from pipelines.insight.meaning import tidy
from pipelines.interests.catalogue import Catalogue
from pipelines.sequences.vocabulary import Vocabulary

Row = dict[str, Any]
_GOES_WITH, _INTEREST = re.compile("goes with (.+)", re.DOTALL), re.compile(r"interest (\d+)")
#: What the most popular items of a stranger's list are said to be.
_STRANGER = {"popular": "popular of late", "interest": "near an interest"}


@dataclass(frozen=True)
class Words:
    """What the items of a version are called; ids without a name, and ids that it does not know, stay as they are."""

    catalogue: Catalogue
    vocabulary: Vocabulary

    def names(self, item_ids: Sequence[str]) -> list[str]:
        """(n,) ids -> (n,) names."""
        return [row["name"] for row in self._items(item_ids)]

    def of_list(self, rows: Sequence[Row], interests: Mapping[int, str] | None = None) -> list[Row]:
        """Rows with an ``item_id``, perhaps a ``reason``: with ``name``, ``categories``, ``why`` and ``interest``, too.

        ``interests`` says what each of the user's interests stands for.
        """
        said = [_GOES_WITH.fullmatch(row.get("reason") or "") for row in rows]
        others = [match[1] for match in said if match]
        names = dict(zip(others, self.names(others), strict=True))
        about = interests or {}
        found = []
        for row, item, match in zip(rows, self._items([row["item_id"] for row in rows]), said, strict=True):
            more: Row = dict(item)
            if (interest := about.get(row.get("interest_id", -1))) is not None:
                more["interest"] = interest
            if row.get("reason"):
                more["why"] = f"goes with {names[match[1]]}" if match else _why(row["reason"], about)
            found.append(row | more)
        return found

    def search(self, text: str, n: int) -> list[Row]:
        """At most ``n`` items whose name or id has ``text`` in it, in the order in which they came."""
        if not text.strip():
            raise ConfigError("search for what?", hint="give a part of a name or of an id")
        has = [
            pc.match_substring(column, text.strip(), ignore_case=True)
            for column in (self.catalogue.names, self.catalogue.ids)
        ]
        place = pc.indices_nonzero(pc.or_(*has))[:n].to_numpy()
        return self._items(self.catalogue.ids.take(pa.array(place)).to_pylist(), with_id=True)

    def _items(self, item_ids: Sequence[str], *, with_id: bool = False) -> list[Row]:
        index = self.vocabulary.items_of(pa.array(list(item_ids), pa.string()))
        known = [0 <= at < len(self.catalogue.names) for at in index.tolist()]
        rows = []
        for item, at, there in zip(item_ids, index.tolist(), known, strict=True):
            name = self.catalogue.names[at].as_py() if there else item
            groups = {
                each.name: ", ".join(map(tidy, values))
                for each in (self.catalogue.categories if there else ())
                if (values := each.of(at))
            }
            own = {"item_id": item} if with_id else {}
            rows.append(own | {"name": name if name == item else tidy(name), "categories": groups})
        return rows


def _why(reason: str, about: Mapping[int, str]) -> str:
    match = _INTEREST.fullmatch(reason)
    if match and int(match[1]) in about:
        return f"fits the interest {about[int(match[1])]}"
    return _STRANGER.get(reason, reason)
