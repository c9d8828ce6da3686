"""What an image has of its own, beyond its base: told by a label, so that it can be put on another base.

The same functions put the two together when an image is built and when it is put on another base, so that both give the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from boxsnake.oci import canonical
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.bases import Base

LABEL = "boxsnake.own"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Own:
    """What is the image's own; the values themselves are in its configuration."""

    layers: int
    """How many of the topmost."""
    environment: tuple[str, ...]
    """The names of variables, in the order in which they are set."""
    labels: tuple[str, ...]
    """Their names, sorted."""
    path: str
    """The folder that stands first in PATH."""
    glibc: str
    """The oldest that it works with."""
    bound: tuple[str, ...] = ()
    """Layers that were made in the base itself and fit no other, by name."""

    @property
    def label(self) -> str:
        """The text of the label."""
        return canonical({"format": _FORMAT, **asdict(self)}).decode()


def read_label(text: str) -> Own:
    """The label's value. Errors: ValueError where it is none, or of another format."""
    try:
        values: dict[str, Any] = json.loads(text)
        if values.pop("format") != _FORMAT:
            raise ValueError("it is of another version of boxsnake")
        lists = {key: tuple(map(str, values[key])) for key in ("environment", "labels", "bound")}
        own = Own(layers=int(values["layers"]), path=str(values["path"]), glibc=str(values["glibc"]), **lists)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its label cannot be read ({error!r})") from None
    if own.layers < 0:
        raise ValueError("its label counts fewer layers than none")
    return own


def environment_on(base: Base, path: str, own: Mapping[str, str]) -> dict[str, str]:
    """The image's variables: the base's, PATH with a folder before what the base has there, and its own."""
    environment = dict(base.runtime.environment)
    environment["PATH"] = f"{path}:{environment.get('PATH') or _PATH}"
    return environment | dict(own)


def labels_on(base: Base, own: Mapping[str, str]) -> dict[str, str]:
    """The image's labels: the base's, what tells of the base, and its own."""
    return dict(base.runtime.labels) | base_annotations(base) | dict(own)


def base_annotations(base: Base) -> dict[str, str]:
    """What the OCI image specification has for telling of a base; nothing of one that this machine alone knows."""
    if not base.is_reference:
        return {}
    return {BASE_NAME: base.name} | ({BASE_DIGEST: base.manifest} if base.manifest else {})


def without_base(annotations: Mapping[str, str]) -> dict[str, str]:
    """Annotations without those that tell of the base."""
    return {name: text for name, text in annotations.items() if name not in {BASE_NAME, BASE_DIGEST}}


def own_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as `Own.labels` has them."""
    return tuple(sorted(set(names)))
