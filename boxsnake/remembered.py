"""What was found out once, from the store: values that follow from inputs alone and take long to make or to import."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from boxsnake.canonical import canonical_json
from boxsnake.errors import ResourceError
from boxsnake.own_code import digest_of_code
from boxsnake.urls import redact
from boxsnake.written import plain, value_of

if TYPE_CHECKING:
    from boxsnake.store import Store

T = TypeVar("T")


def remembered(
    store: Store,
    kind: str,
    inputs: Mapping[str, object],
    make: Callable[[], T],
    *,
    write: Callable[[T], Any] = plain,
    read: Callable[[Any], T] = value_of,
    holds: Callable[[T], bool] = lambda _: True,
) -> T:
    """What `make` gives for these inputs (JSON values) by this version of boxsnake; its errors are not remembered.

    `write` and `read` turn it into JSON values and back. If it was made of more than the inputs, `holds` says whether
    that is still the same: no other value is kept or taken. The store keeps no credentials: the inputs are kept as a
    digest, and a value with credentials in it is made each time.
    """
    key = {"of": hashlib.sha256(canonical_json(inputs)).hexdigest(), "code": digest_of_code(store)}
    known = store.selected(kind, key)
    if known is not None:
        with suppress(AttributeError, ImportError, KeyError, TypeError):
            value = read(known["value"])
            if holds(value):
                return value
    made = make()
    document = {"value": write(made)}
    text = canonical_json(document).decode("ascii")
    if redact(text) == text and holds(made):
        with suppress(ResourceError):  # only time is lost
            store.select(kind, key, document)
    return made
