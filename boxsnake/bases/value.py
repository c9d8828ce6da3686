"""A base image as a value, and as the JSON that it is remembered by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import History, Runtime
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base image. `digest` changes whenever its content does; `layers` are gzip ones in the store."""

    name: str
    digest: str
    layers: tuple[LayerBlob, ...] = ()
    history: tuple[History, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    platform: tuple[str, str] | None = None
    """(os, architecture) where the base says; a bare root file system says nothing."""
    variant: str = ""
    """Of the architecture, such as "v8"."""
    manifest: str = ""
    """The digest of its manifest, where it came with one: what registries know it by."""
    is_reference: bool = False
    """Whether `name` is what other tools would find the same image by."""


def decode(known: Mapping[str, Any]) -> Base:
    """A base out of `dataclasses.asdict` of one."""
    layers = tuple(
        LayerBlob(
            **layer | {"environment": _pairs(layer["environment"]), "notes": tuple(layer["notes"]), "trimmed": ()}
        )
        for layer in known["layers"]
    )
    runtime = known["runtime"]
    return Base(
        name=known["name"],
        digest=known["digest"],
        layers=layers,
        history=tuple(History(**step) for step in known["history"]),
        runtime=Runtime(
            entrypoint=tuple(runtime["entrypoint"]),
            command=tuple(runtime["command"]),
            environment=_pairs(runtime["environment"]),
            user=runtime["user"],
            folder=runtime["folder"],
            ports=tuple(runtime["ports"]),
            labels=_pairs(runtime["labels"]),
        ),
        platform=(known["platform"][0], known["platform"][1]) if known["platform"] else None,
        variant=known["variant"],
        manifest=known["manifest"],
        is_reference=known["is_reference"],
    )


def _pairs(pairs: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in pairs)
