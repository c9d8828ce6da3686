"""Containers that run a program of their own, side by side in a network: what it takes to start one, and what it says.

What stands in an engine's configuration stands on its disk. Secrets do not: a program that needs some is started by a
launcher, which takes them from its standard input and hands over.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from boxsnake.engine import wanted
from boxsnake.engine.api import UPGRADE, RefusedError, losing
from boxsnake.engine.frames import frames
from boxsnake.errors import EngineError
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.engine.connection import Connection

LOOPBACK = "127.0.0.1"
_PROCESSES = 4096
_STOP_SECONDS = 10
_MISSING = 404


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A container to start. `ports` are those of the container and of this machine (0: any that is free).

    `entrypoint` and `command` are the image's own where they are None. `given` goes to its standard input, which then
    ends. `scratch` are folders in memory with their mount options, `volumes` folders that go with the container,
    `mounts` paths of this machine and where they are seen, for reading.
    """

    image: str
    name: str
    network: str
    alias: str
    labels: Mapping[str, str]
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    user: str = ""
    folder: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)
    scratch: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    capabilities: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Addresses by the names under which it finds them, whether the engine resolves these or not."""
    memory: int = 0
    """Bytes, or 0 for as much as there is."""
    cpu: float | None = None
    given: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A container as the engine lists it. `state` is "running", "exited", …; `exit_code` None while it runs."""

    id: str
    labels: Mapping[str, str]
    state: str
    exit_code: int | None
    ports: Mapping[int, int]
    """Of the container, and where this machine has them."""
    created: str
    user: str = ""
    address: str = ""
    """In its network; "" where it has none."""


def create(connection: Connection, launch: Launch) -> str:
    """Create a container without starting it: its id."""
    is_given = launch.given is not None
    document = {
        "Image": launch.image,
        "Hostname": launch.alias,
        "User": launch.user,
        "WorkingDir": launch.folder,
        "Env": wanted.variables(launch.environment),
        "Labels": dict(launch.labels),
        "ExposedPorts": {f"{port}/tcp": {} for port in launch.ports},
        "Volumes": {folder: {} for folder in launch.volumes},
        "OpenStdin": is_given,
        "StdinOnce": is_given,
        "AttachStdin": is_given,
        "NetworkingConfig": {"EndpointsConfig": {launch.network: {"Aliases": [launch.alias]}}},
        "HostConfig": {
            "NetworkMode": launch.network,
            "PortBindings": {f"{port}/tcp": [_bound(here)] for port, here in launch.ports.items()},
            "Tmpfs": dict(launch.scratch),
            "ExtraHosts": [f"{name}:{address}" for name, address in launch.hosts.items()],
            "Memory": launch.memory,
            "MemorySwap": launch.memory,
            "NanoCpus": int((launch.cpu or 0) * 1e9),
            **wanted.confinement(_PROCESSES, launch.capabilities, launch.mounts, read_only=launch.read_only),
        },
    }
    # Left out, the image's own are meant.
    document |= {} if launch.entrypoint is None else {"Entrypoint": list(launch.entrypoint)}
    document |= {} if launch.command is None else {"Cmd": list(launch.command)}
    with connection.faults(f"starting {launch.alias}"):
        return str(connection.ask("POST", "/containers/create", query={"name": launch.name}, body=document)["Id"])


def _bound(port: int) -> dict[str, str]:
    return {"HostIp": LOOPBACK, "HostPort": str(port) if port else ""}


@contextlib.contextmanager
def giving(connection: Connection, identity: str, data: bytes | None) -> Iterator[None]:
    """Within the block the container is started; what it is given goes to its standard input, which then ends."""
    if data is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with connection.faults("handing secrets to a container"):
            query = {"stdin": 1, "stream": 1}
            asked = connection.request("POST", f"/containers/{identity}/attach", query=query, headers=UPGRADE)
            wire = stack.enter_context(asked).wire
        yield
        with connection.faults("handing secrets to a container"), losing():
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)


def listed(facts: Mapping[str, Any]) -> Listed:
    """What inspecting a container has shown."""
    state = facts["State"]
    bound = (facts.get("NetworkSettings") or {}).get("Ports") or {}
    ports = {
        int(name.partition("/")[0]): int(places[0]["HostPort"]) for name, places in sorted(bound.items()) if places
    }
    networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
    running = state["Status"] == "running"
    return Listed(
        id=facts["Id"],
        labels=facts["Config"].get("Labels") or {},
        state=str(state["Status"]),
        exit_code=None if running else state.get("ExitCode"),
        ports=ports,
        created=str(facts.get("Created", "")),
        user=str(facts["Config"].get("User") or ""),
        address=next((str(one.get("IPAddress") or "") for one in networks.values()), ""),
    )


def spoken(connection: Connection, identity: str, *, follow: bool, tail: int | None) -> Iterator[bytes]:
    """What a container has said, both streams, as it comes."""
    query = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": "all" if tail is None else tail}
    # It may be silent for as long as it likes.
    waiting = None if follow else 0
    try:
        with connection.request("GET", f"/containers/{identity}/logs", query=query, waiting=waiting) as answer:
            for _, data in frames(answer.chunks()):
                yield data
    except RefusedError as error:
        if error.status != _MISSING:
            raise


def lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Whole lines of what comes in pieces; the last one may have no end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


LAUNCH_BY_PYTHON = (
    "import json,os,sys;os.environ.update(json.loads(sys.stdin.buffer.read()));"
    "f=os.open(os.devnull,os.O_RDONLY);os.dup2(f,0);a=sys.argv[1:];os.execvp(a[0],a)"
)
"""A program for a box's own Python: takes variables as a JSON object, then is replaced by its arguments."""

LAUNCH_BY_SHELL = 'while IFS= read -r line && [ "$line" ]; do export "$line"; done; exec "$@" </dev/null'
"""The same for images that have a shell: lines NAME=value, then an empty one."""


def as_json(secrets: Mapping[str, str]) -> bytes:
    """What `LAUNCH_BY_PYTHON` takes."""
    return json.dumps(dict(secrets)).encode()


def as_lines(secrets: Mapping[str, str]) -> bytes:
    """What `LAUNCH_BY_SHELL` takes. Errors: EngineError for a value of several lines."""
    for name, value in secrets.items():
        if "\n" in value:
            step = "Give it in one line."
            raise EngineError(f"secret {name}", "has several lines, which a service cannot be given", step)
    return "".join(f"{name}={value}\n" for name, value in secrets.items()).encode() + b"\n"
