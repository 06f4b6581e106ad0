"""A user's interests in a few sentences, for somebody who has never heard of interests as vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from imsr_core.counted import counted
from imsr_core.twin import TWIN
from pipelines.insight.explain import Meaning

#: Interests that are named; more would be a table.
NAMED = 3
#: Letters of a name in a sentence; tables have it whole.
LABEL = 60


def sentences(user_id: str, meanings: Sequence[Meaning]) -> str:
    """How many interests a user has, which ones the list comes from, which are new, and which are silent."""
    count, apart = len(meanings), sum(each.overlap is None or each.overlap <= TWIN for each in meanings)
    alike = "" if apart == count else f", {apart} of them distinct (the rest nearly repeat another)"
    parts = [f"User {user_id} has {counted(count, 'interest')}{alike}."]
    if not meanings:
        return parts[0]
    speaking = [each for each in meanings if each.brings]
    brought: Counter[str] = Counter()  # interests that stand for the same are one source
    for each in sorted(speaking, key=lambda each: (-each.brings, each.interest_id)):
        brought[each.label] += each.brings
    if speaking:
        sources = brought.most_common()
        named = ", ".join(f"{_short(label)} ({items})" for label, items in sources[:NAMED])
        more = sum(items for _, items in sources[NAMED:])
        others = len(sources) - NAMED
        rest = f", and {more} from {others} other{'s' * (others > 1)}" if more else ""
        parts.append(f"Where the first {meanings[0].of} recommendations come from: {named}{rest}.")
    silent = count - len(speaking)
    if silent:
        parts.append(f"{counted(silent, 'interest')} {'brings' if silent == 1 else 'bring'} none of these now.")
    newest = max(each.born_span for each in meanings)
    born = [each for each in meanings if each.born_span == newest]
    young = list(dict.fromkeys(_short(each.label) for each in born))
    if len(born) < count:
        parts.append(f"Newest, of {newest}: {', '.join(young[:NAMED])}{' ...' if len(young) > NAMED else ''}.")
    return " ".join(parts)


def _short(label: str) -> str:
    return label if len(label) <= LABEL else f"{label[: LABEL - 1].rstrip()}…"
