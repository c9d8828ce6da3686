"""Values behave as the standard library's dataclasses do, whose decorator they do without."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any, ClassVar

import pytest

from boxsnake import value


@value.dataclass(frozen=True, kw_only=True, order=True)
class Ours:
    name: str
    size: int = 1
    parts: tuple[str, ...] = field(default_factory=tuple)
    secret: str = field(default="", repr=False)
    aside: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("is negative")


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Theirs:
    name: str
    size: int = 1
    parts: tuple[str, ...] = field(default_factory=tuple)
    secret: str = field(default="", repr=False)
    aside: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("is negative")


@value.dataclass(frozen=True, kw_only=True)
class Below(Ours):
    more: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "its own"


@value.dataclass(frozen=True, kw_only=True)
class Holder:
    held: Any = None


@value.dataclass(frozen=True, kw_only=True)
class Empty:
    pass


GIVEN: list[dict[str, Any]] = [
    {"name": "a"},
    {"name": "a", "size": 2, "parts": ("x", "y")},
    {"name": "b", "secret": "s", "aside": 7},
    {"name": "a", "aside": 3},
]


@pytest.mark.parametrize("first", GIVEN)
@pytest.mark.parametrize("second", GIVEN)
def test_they_compare_hash_and_show_alike(first: dict[str, Any], second: dict[str, Any]) -> None:
    def told(kind: Callable[..., Any]) -> list[object]:
        one, other = kind(**first), kind(**second)
        orders = [one < other, one <= other, one > other, one >= other]
        return [one == other, hash(one) == hash(other), one != other, *orders, asdict(one), repr(one)]

    ours, theirs = told(Ours), told(Theirs)
    assert [*ours[:-1], str(ours[-1]).replace("Ours", "Theirs")] == theirs


@pytest.mark.parametrize(
    "wrong", [{}, {"size": 1}, {"name": "a", "nmae": "b"}, {"name": "a", "self": 1}, {"name": "a", "size": -1}]
)
def test_the_same_is_refused(wrong: dict[str, Any]) -> None:
    raised = []
    for kind in (Ours, Theirs):
        with pytest.raises((TypeError, ValueError)) as caught:
            kind(**wrong)
        raised.append(caught.type)
    assert raised[0] is raised[1]


def test_the_refusal_names_the_field() -> None:
    with pytest.raises(TypeError, match=r"Ours\(\) is missing 'name'"):
        Ours()  # type: ignore[call-arg]  # what is tried
    with pytest.raises(TypeError, match=r"Ours\(\) got an unexpected keyword argument 'nmae'"):
        Ours(name="a", nmae="b")  # type: ignore[call-arg]  # what is tried
    with pytest.raises(TypeError):
        Ours("a")  # type: ignore[call-arg]  # what is tried


def test_they_are_frozen() -> None:
    made = Ours(name="a")
    with pytest.raises(FrozenInstanceError, match="name"):
        made.name = "b"  # type: ignore[misc]  # what is tried
    with pytest.raises(FrozenInstanceError, match="name"):
        del made.name
    with pytest.raises(FrozenInstanceError):
        made.other = 1  # type: ignore[attr-defined]  # what is tried
    assert made == Ours(name="a")


def test_what_comes_from_a_factory_is_each_ones_own() -> None:
    one, other = Below(name="a"), Below(name="a")
    one.more["x"] = 1
    assert other.more == {}
    assert Below(name="a", more={"y": 2}).more == {"y": 2}


def test_inheritance() -> None:
    made = Below(name="a", size=3)
    assert [spec.name for spec in fields(made)] == ["name", "size", "parts", "secret", "aside", "more"]
    assert (repr(made), made.size, made.more) == ("its own", 3, {})
    assert made != Ours(name="a", size=3)
    with pytest.raises(TypeError, match="<"):
        _ = Ours(name="a") < made
    with pytest.raises(ValueError, match="negative"):
        Below(name="a", size=-1)


@pytest.mark.parametrize("read", ["none", "the upper", "both"])
def test_fields_are_the_same_whoever_reads_them_first(read: str) -> None:
    @value.dataclass(frozen=True, kw_only=True)
    class Upper:
        kind: ClassVar[str] = "upper"
        name: str
        parts: dict[str, int] = field(default_factory=dict)
        size: int = field(default=1, compare=False)

    @value.dataclass(frozen=True, kw_only=True)
    class Lower(Upper):
        name: str = "b"
        more: tuple[str, ...] = ()

    if read != "none":
        fields(Upper)
    if read == "both":
        fields(Lower)
    assert repr(Lower()).rpartition(".")[2] == "Lower(name='b', parts={}, size=1, more=())"
    assert Lower(size=2) == Lower()
    assert [spec.name for spec in fields(Lower())] == ["name", "parts", "size", "more"]
    with pytest.raises(TypeError, match="name"):
        Upper()  # type: ignore[call-arg]  # what is tried


def test_replaced_and_copied() -> None:
    made = Ours(name="a", parts=("x",))
    assert replace(made, size=2) == Ours(name="a", size=2, parts=("x",))
    with pytest.raises(TypeError):
        replace(made, nmae="b")  # type: ignore[call-arg]  # what is tried
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - our own
        assert again == made
        assert hash(again) == hash(made)


def test_one_that_holds_itself_and_one_that_holds_nothing() -> None:
    held: list[object] = []
    made = Holder(held=held)
    held.append(made)
    assert repr(made) == "Holder(held=[...])"
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    assert repr(Empty()) == "Empty()"


@pytest.mark.parametrize("told", [{"frozen": False, "kw_only": True}, {"frozen": True, "kw_only": False}])
def test_other_classes_are_refused(told: dict[str, bool]) -> None:
    with pytest.raises(TypeError, match="frozen"):
        value.dataclass(**told)
