"""Containers that run a program of their own, side by side in a network: what it takes to start one, and what it says.

What stands in an engine's configuration stands on its disk. Secrets do not: a program that needs some is started by a
launcher, which takes them from its standard input and hands over.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boxsnake.engine.frames import frames
from boxsnake.errors import EngineError

if TYPE_CHECKING:
    from boxsnake.engine.connection import Connection

LOOPBACK = "127.0.0.1"
_PROCESSES = 4096
_STOP_SECONDS = 10


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
    memory: str = ""
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


def create(connection: Connection, launch: Launch) -> str:
    """Create a container without starting it: its id."""
    client: Any = connection.untyped()
    limits = {"mem_limit": launch.memory.lower(), "memswap_limit": launch.memory.lower()} if launch.memory else {}
    if launch.cpu is not None:
        limits["nano_cpus"] = int(launch.cpu * 1e9)  # type: ignore[assignment]  # what the SDK takes
    with connection.faults(f"starting {launch.alias}"):
        created = client.create_container(
            launch.image,
            name=launch.name,
            hostname=launch.alias,
            command=None if launch.command is None else list(launch.command),
            entrypoint=None if launch.entrypoint is None else list(launch.entrypoint),
            user=launch.user or None,
            working_dir=launch.folder or None,
            environment=dict(launch.environment),
            labels=dict(launch.labels),
            ports=list(launch.ports),
            volumes=list(launch.volumes),
            stdin_open=launch.given is not None,
            networking_config=client.create_networking_config(
                {launch.network: client.create_endpoint_config(aliases=[launch.alias])}
            ),
            host_config=client.create_host_config(
                network_mode=launch.network,
                port_bindings={port: (LOOPBACK, here or None) for port, here in launch.ports.items()},
                read_only=launch.read_only,
                tmpfs=dict(launch.scratch),
                binds=[f"{source}:{target}:ro" for source, target in launch.mounts],
                cap_drop=["ALL"],
                cap_add=list(launch.capabilities),
                security_opt=["no-new-privileges"],
                pids_limit=_PROCESSES,
                init=True,
                **limits,
            ),
        )
    return str(created["Id"])


@contextlib.contextmanager
def giving(connection: Connection, identity: str, data: bytes | None) -> Iterator[None]:
    """Within the block the container is started; what it is given goes to its standard input, which then ends."""
    if data is None:
        yield
        return
    with connection.faults("handing secrets to a container"):
        attached: Any = connection.untyped().attach_socket(identity, params={"stdin": 1, "stream": 1})
    try:
        yield
        raw = getattr(attached, "_sock", attached)
        with connection.faults("handing secrets to a container"):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
    finally:
        attached.close()


def listed(facts: Mapping[str, Any]) -> Listed:
    """What inspecting a container has shown."""
    state = facts["State"]
    bound = (facts.get("NetworkSettings") or {}).get("Ports") or {}
    ports = {
        int(name.partition("/")[0]): int(places[0]["HostPort"]) for name, places in sorted(bound.items()) if places
    }
    running = state["Status"] == "running"
    return Listed(
        id=facts["Id"],
        labels=facts["Config"].get("Labels") or {},
        state=str(state["Status"]),
        exit_code=None if running else state.get("ExitCode"),
        ports=ports,
        created=str(facts.get("Created", "")),
        user=str(facts["Config"].get("User") or ""),
    )


def spoken(connection: Connection, identity: str, *, follow: bool, tail: int | None) -> Iterator[bytes]:
    """What a container has said, both streams, as it comes."""
    client: Any = connection.untyped()
    url = connection.url(f"/containers/{identity}/logs")
    query = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": "all" if tail is None else tail}
    # Not by the SDK: it loses what came together with the HTTP headers.
    with client.get(url, params=query, stream=True, timeout=(60.0, None)) as answer:
        if answer.status_code == 404:
            return
        answer.raise_for_status()
        for _, data in frames(answer.iter_content(chunk_size=None)):
            yield data


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
