"""Where engines listen, what was found there, and what to do when none answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from boxsnake.engine.api import LostError, RefusedError
from boxsnake.engine.connection import Connection, first_line
from boxsnake.errors import EngineError
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

KINDS = ("docker", "podman")
"""Engines by the names that users call them."""

_PING_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """One address at which an engine may listen, and what was found there.

    `state`: "answers", "absent" (nothing there), "refused" (no permission) or "dead" (there, but no answer).
    """

    address: str
    state: str
    detail: str


def addresses(environment: Mapping[str, str], kind: str = "") -> tuple[str, ...]:
    """Where to look, in order: where DOCKER_HOST says and nowhere else, or at Docker's and podman's usual sockets.

    With a `kind`, "docker" or "podman", at its sockets alone.
    """
    named = environment.get("DOCKER_HOST")
    if named:
        return (named,)
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    home = environment.get("HOME", "/nonexistent")
    sockets = {
        "docker": (
            "/var/run/docker.sock",
            f"{runtime}/docker.sock",
            f"{home}/.docker/run/docker.sock",
            f"{home}/.docker/desktop/docker.sock",
        ),
        "podman": (f"{runtime}/podman/podman.sock", "/run/podman/podman.sock"),
    }
    kinds = [kind] if kind else list(sockets)
    return tuple(f"unix://{socket}" for one in kinds for socket in sockets[one])


def look(address: str, environment: Mapping[str, str]) -> Place:
    """Ask an address whether there is an engine."""
    shown = without_credentials(address)
    try:
        Connection(address, environment).ping(_PING_SECONDS)
    except LostError as error:
        cause = error.__cause__
        # A folder above the socket that we may not search is a matter of permission as well, and no sign of absence.
        if isinstance(cause, PermissionError):
            return Place(address=shown, state="refused", detail=str(cause.strerror))
        if isinstance(cause, FileNotFoundError | NotADirectoryError):
            return Place(address=shown, state="absent", detail=str(cause.strerror))
        return Place(address=shown, state="dead", detail=first_line(str(error)))
    except RefusedError as error:
        return Place(address=shown, state="dead", detail=first_line(error.words))
    return Place(address=shown, state="answers", detail="")


def no_engine(places: Sequence[Place], environment: Mapping[str, str], kind: str = "") -> EngineError:
    """Say why none of these places has an engine for us, and what to do about it."""
    data = {"tried": [{"address": p.address, "state": p.state, "detail": p.detail} for p in places]}
    named = environment.get("DOCKER_HOST")
    if named:
        step = "Start the engine that DOCKER_HOST names, or unset DOCKER_HOST to use the one of this machine."
        return EngineError(f"DOCKER_HOST {places[0].address}", f"does not answer: {places[0].detail}", step, **data)
    refused = [place.address for place in places if place.state == "refused"]
    if refused:
        step = "Run as root, or let an administrator add you to the group of that socket (usually `docker`)."
        return EngineError("container engine", f"no permission to use {', '.join(refused)}", step, **data)
    dead = [f"{place.address} ({place.detail})" for place in places if place.state == "dead"]
    tried = ", ".join(place.address for place in places)
    cause = f"does not answer at {', '.join(dead)}" if dead else f"none found; tried {tried}"
    return EngineError(kind or "container engine", cause, _how_to_get_one(kind), **data)


def _how_to_get_one(kind: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if kind != "podman" and shutil.which("dockerd", path=path):
        return "Start it, as root: `systemctl start docker`, or `sh docker/engine.sh` where there is no systemd."
    if kind != "docker" and shutil.which("podman", path=path):
        return "Start podman's socket: `systemctl --user start podman.socket`, or `podman system service -t 0 &`."
    ways = {"docker": "`apt-get install docker.io iptables`", "podman": "`apt-get install podman`"}
    return f"Install it: {ways[kind] if kind else ' or '.join(ways.values())}; then `boxsnake doctor`."
