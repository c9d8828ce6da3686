"""Names that are known at once, and values that are made when one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Value_co = TypeVar("Value_co", covariant=True)


class OnDemand(Mapping[str, Value_co]):
    """A mapping whose values are made when they are asked for, each time anew: most cost an import."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Value_co]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> Value_co:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
