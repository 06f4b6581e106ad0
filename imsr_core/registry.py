"""Parts by name: what a setting names is imported when it is asked for, and not before.

A registry is a table of names and places ("package.module:object"), so that the names can be listed, documented and
checked without torch. A package outside adds its own by an entry point of the registry's group:

    [project.entry-points."imsr.strategies"]
    averaged = "my_package.averaged:averaged"

A name of ours cannot be taken by another package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from imsr_core.errors import ConfigError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """The parts of one kind: a mapping from a name to the part, which is imported at the first look-up."""

    def __init__(self, kind: str, group: str, places: Mapping[str, str]) -> None:
        """``kind`` is the word for people ("strategy"); ``places`` maps our names to "module:object"."""
        self.kind, self.group, self._own = kind, group, dict(places)

    @cached_property
    def places(self) -> dict[str, str]:
        """Where each part is, ours first, then what installed packages bring."""
        found = {point.name: point.value for point in sorted(entry_points(group=self.group), key=lambda p: p.value)}
        return self._own | {name: place for name, place in found.items() if name not in self._own}

    def __getitem__(self, name: str) -> T:
        """The part of this name. Raises `KeyError`; `named` is for names that a user wrote."""
        place = self._own[name] if name in self._own else self.places[name]
        module, _, attribute = place.partition(":")
        try:
            part: T = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self.kind} {name!r} cannot be loaded from {place}: {error}",
                hint="install or repair the package that brings it, or choose another",
            ) from error
        return part

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.places  # installed packages are asked only for what is not ours

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def named(self, name: str) -> T:
        """The part of this name. Raises `ConfigError` with the nearest name and all there are."""
        if name not in self:
            raise ConfigError(f"there is no {self.kind} {name!r}", hint=nearest(name, self))
        return self[name]


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """A hint: the known name that is most like ``name``, and all of them."""
    names = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), names, n=1)
    return (f"did you mean {names[close[0]]!r}? " if close else "") + f"choose one of: {', '.join(known)}"
