"""Dataclasses of values, which cost next to nothing to define.

`dataclasses.dataclass` writes the methods of each class and has them compiled, at each start: half a millisecond for
a class, and a command imports a hundred of which it makes values of a few. Here frozen, keyword-only classes share
methods, and the standard library reads a class's fields when somebody asks for them. Making values does not: what that
needs to know is read off the class itself, in a quarter of the time. All else about them is the standard library's:
`fields`, `replace`, `asdict` and `field` work as they do there. Modules that are handed to other interpreters as text
stay with the standard library's decorator; classes of which there are hundreds of thousands of values are named tuples,
which take less memory and are made faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from collections.abc import Callable, Mapping
    from operator import attrgetter, ge, gt, le, lt
    from reprlib import recursive_repr
    from threading import RLock
    from typing import Any

    def dataclass(
        *,
        frozen: bool,
        kw_only: bool,
        order: bool = False,
        repr: bool = True,  # noqa: A002 - as it is called there
    ) -> Callable[[type], type]:
        """Decorate a class of frozen values whose fields are given by name."""
        if not (frozen and kw_only):
            raise TypeError("this is for frozen values whose fields are given by name")
        shared = {**_METHODS, **(_ORDER if order else {}), **({"__repr__": _repr} if repr else {})}

        def decorated(kind: type) -> type:
            for name, method in shared.items():
                if name not in kind.__dict__:
                    setattr(kind, name, method)
            kind.__dataclass_fields__ = _Unread(kind)
            return kind

        return decorated

    class _Unread:
        """Stands for a class's fields until somebody asks for them."""

        def __init__(self, kind: type) -> None:
            self._kind = kind

        def __get__(self, instance: object, owner: type) -> object:
            with _reading:
                if self._kind.__dict__["__dataclass_fields__"] is self:  # and no other thread was here before
                    dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(self._kind)
            return self._kind.__dict__["__dataclass_fields__"]

    # One class at a time, and those that it is derived from.
    _reading = RLock()

    def _specs(kind: type) -> dict[str, dataclasses.Field[Any]]:
        """The fields of a class and of those that it is derived from, which the standard library may not have read."""
        found: dict[str, dataclasses.Field[Any]] = {}
        for one in reversed(kind.__mro__):
            told = one.__dict__.get("__dataclass_fields__")
            if isinstance(told, _Unread):
                for name, annotation in one.__annotations__.items():
                    if not str(annotation).startswith(_NOT_FIELDS):
                        given = one.__dict__.get(name, dataclasses.MISSING)
                        is_spec = isinstance(given, dataclasses.Field)
                        found[name] = given if is_spec else dataclasses.field(default=given)
            elif told is not None:
                found.update((spec.name, spec) for spec in dataclasses.fields(one))
        return found

    _NOT_FIELDS = ("ClassVar", "typing.ClassVar")

    class _Facts:
        """What the shared methods need to know of a class."""

        def __init__(self, kind: type) -> None:
            missing = dataclasses.MISSING
            with _reading:
                specs = _specs(kind)
            self.names = frozenset(specs)
            self.defaults = {name: spec.default for name, spec in specs.items() if spec.default is not missing}
            self.factories = tuple(
                (name, spec.default_factory) for name, spec in specs.items() if spec.default_factory is not missing
            )
            self.shown = tuple(name for name, spec in specs.items() if spec.repr)
            self.after: Callable[[Any], None] | None = getattr(kind, "__post_init__", None)
            compared = [name for name, spec in specs.items() if spec.compare]
            self.compared: Callable[[Any], object] = attrgetter(*compared) if compared else lambda _: ()

    _facts: dict[type, _Facts] = {}

    def _facts_of(kind: type) -> _Facts:
        return _facts.get(kind) or _facts.setdefault(kind, _Facts(kind))

    def _init(self: Any, /, **given: Any) -> None:
        facts = _facts_of(type(self))
        values = {**facts.defaults, **given}
        for name, make in facts.factories:
            if name not in values:
                values[name] = make()
        if values.keys() != facts.names:
            raise TypeError(_misfit(type(self), facts, values))
        self.__dict__.update(values)
        if facts.after is not None:
            facts.after(self)

    def _misfit(kind: type, facts: _Facts, values: Mapping[str, Any]) -> str:
        if unknown := sorted(values.keys() - facts.names):
            return f"{kind.__qualname__}() got an unexpected keyword argument {unknown[0]!r}"
        missing = sorted(facts.names - values.keys())
        return f"{kind.__qualname__}() is missing {', '.join(map(repr, missing))}"

    def _set(self: Any, name: str, value: object) -> None:  # noqa: ARG001 - Python's signature
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _delete(self: Any, name: str) -> None:  # noqa: ARG001 - Python's signature
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _equals(self: Any, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        compared = _facts_of(type(self)).compared
        return bool(compared(self) == compared(other))

    def _ordered(compare: Callable[[object, object], bool]) -> Callable[[Any, object], bool]:
        def method(self: Any, other: object) -> bool:
            if other.__class__ is not self.__class__:
                return NotImplemented
            compared = _facts_of(type(self)).compared
            return compare(compared(self), compared(other))

        return method

    def _hash(self: Any) -> int:
        return hash(_facts_of(type(self)).compared(self))

    @recursive_repr()
    def _repr(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in _facts_of(type(self)).shown)
        return f"{type(self).__qualname__}({shown})"

    _METHODS = {
        "__init__": _init,
        "__setattr__": _set,
        "__delattr__": _delete,
        "__eq__": _equals,
        "__hash__": _hash,
    }
    _ORDER = {f"__{compare.__name__}__": _ordered(compare) for compare in (lt, le, gt, ge)}
