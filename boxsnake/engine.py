"""The container engine: images in and out of it, containers started, looked into and removed.

This is the only module that knows the docker SDK, which speaks to Docker and to podman's socket alike. Whatever goes
wrong between us and the engine is an EngineError, never a verdict about what runs inside a container.

Every container of ours bears two labels, `boxsnake.run` and `boxsnake.owner`. What a killed run left behind is removed
by the next one that connects, and by nobody while its owner lives.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.errors import EngineError, NetworkError, ResourceError
from boxsnake.urls import redact, without_credentials

if TYPE_CHECKING:
    import requests

    import docker

RUN_LABEL = "boxsnake.run"
OWNER_LABEL = "boxsnake.owner"

# In seconds: how long an engine may take to say that it is there, and to answer what it has to work for.
_PING_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_TRANSFER_SECONDS = 600.0
# A container whose owner cannot be asked (another machine, another namespace) ends by itself after this time.
_LIFETIME_SECONDS = 7200
_MEMORY_BYTES = 4 << 30
_PROCESSES = 1024
_KEPT_OUTPUT = 1 << 20
_CHUNK = 1 << 20
# The exit code of a process that was ended by SIGKILL.
_KILLED = 137
# What installing as root takes (owners and modes of files), and nothing that reaches beyond the container.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETFCAP")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One address at which an engine may listen, and what was found there.

    `state`: "answers", "absent" (nothing there), "refused" (no permission) or "dead" (there, but no answer).
    """

    address: str
    state: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image in the engine. `layers` are diff ids, lowest first; the rest is its configuration."""

    id: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command in a container ended.

    `exit_code` is None where none is known. `ended_by` is "" where it ended by itself, "timeout" where it took too
    long, "memory" where the kernel killed it for want of memory. Output is capped: the end is kept, and `cut` counts
    the bytes left out.
    """

    exit_code: int | None
    output: bytes
    errors: bytes
    seconds: float
    cut: int = 0
    ended_by: str = ""


@dataclass(frozen=True, kw_only=True, order=True)
class Change:
    """One path that differs from the container's image: "added", "changed" or "removed"."""

    path: str
    kind: str


def connect(environment: Mapping[str, str] | None = None) -> Engine:
    """The first engine that answers: the one of DOCKER_HOST alone where that is set, else those of the usual sockets.

    Removes what killed runs of this machine left in it. Errors: EngineError, whose remedy depends on whether there
    is no engine, no permission, or one that does not answer.
    """
    variables = os.environ if environment is None else environment
    places = []
    for address in _addresses(variables):
        place = _look(address, variables)
        if place.state == "answers":
            engine = Engine(address, variables)
            engine.reap()
            return engine
        places.append(place)
    raise _no_engine(places, variables)


def diagnose(environment: Mapping[str, str] | None = None) -> tuple[Place, ...]:
    """What is found at each address that `connect` tries, for people who wonder why there is no engine."""
    variables = os.environ if environment is None else environment
    return tuple(_look(address, variables) for address in _addresses(variables))


class Engine:
    """A container engine that has answered. Safe for threads: each has a connection of its own."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self.address = without_credentials(address)
        self.run = uuid.uuid4().hex
        self._address = address
        self._environment = environment
        self._threads = threading.local()

    @property
    def version(self) -> str:
        """The engine's name and version, for people."""
        with self._faults("the container engine"):
            facts = self.client().version()
        components = facts.get("Components") or [{}]
        name = components[0].get("Name", "Engine")
        return f"{name.removesuffix(' Engine')} {facts.get('Version', '?')}"

    def client(self, seconds: float = _ANSWER_SECONDS) -> docker.APIClient:
        """Give this thread's connection, whose calls take at most so long without a sign of life."""
        clients: dict[float, docker.APIClient] = self._threads.__dict__.setdefault("clients", {})
        if seconds not in clients:
            with self._faults("the container engine"):
                clients[seconds] = _client(self._address, self._environment, seconds)
        return clients[seconds]

    def _untyped(self, seconds: float = _ANSWER_SECONDS) -> Any:
        """The same connection, for the calls that the SDK's stubs leave without types."""
        return self.client(seconds)

    # Images

    def image(self, reference: str) -> Image | None:
        """The image of that name or id; None where the engine has none."""
        from docker.errors import ImageNotFound

        with self._faults(f"image {reference}"):
            try:
                facts: dict[str, Any] = self._untyped().inspect_image(reference)
            except ImageNotFound:
                return None
        config = facts.get("Config") or {}
        pairs = [variable.partition("=") for variable in config.get("Env") or ()]
        return Image(
            id=facts["Id"],
            layers=tuple((facts.get("RootFS") or {}).get("Layers") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            environment=tuple((name, value) for name, _, value in pairs),
            user=config.get("User") or "",
            folder=config.get("WorkingDir") or "/",
        )

    def tags(self) -> dict[str, str]:
        """Every tag in the engine, and the id of its image."""
        with self._faults("the engine's images"):
            images = self.client().images()
        return {tag: image["Id"] for image in images for tag in image.get("RepoTags") or () if tag != "<none>:<none>"}

    def leading_layers(self, layers: Sequence[str]) -> int:
        """How many of these diff ids, from the lowest on, some image in the engine has in the same order."""
        best = 0
        for identity in {*self.tags().values()}:
            image = self.image(identity)
            if image is not None:
                pairs = zip(layers, image.layers, strict=False)
                best = max(best, len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))))
        return best

    def load(self, archive: Path | Iterable[bytes]) -> tuple[str, ...]:
        """Take the images of a docker archive, a file or a stream of its bytes: their names, or ids without a name."""
        with contextlib.ExitStack() as files:
            data = files.enter_context(archive.open("rb")) if isinstance(archive, Path) else archive
            with self._faults(f"loading {archive}" if isinstance(archive, Path) else "loading an image"):
                answers = list(self._untyped(_TRANSFER_SECONDS).load_image(data))
        names = []
        for answer in answers:
            _raise_reported(answer, "loading an image")
            _, loaded, name = str(answer.get("stream", "")).strip().partition(": ")
            if loaded and answer["stream"].startswith("Loaded image"):
                names.append(name)
        return tuple(names)

    def import_rootfs(self, archive: Path, tag: str) -> str:
        """Make an image of one layer from the tar of a root file system: its id. The layer's diff id is the tar's."""
        repository, _, version = tag.rpartition(":")
        client = self.client()
        # Not by the SDK: its import of a file knows no timeout.
        query = {"fromSrc": "-", "repo": repository, "tag": version, "changes": 'CMD ["/bin/sh"]'}
        with self._faults(f"importing {archive}"), archive.open("rb") as stream:
            answer = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params=query,
                data=stream,
                headers={"Content-Type": "application/tar"},
                timeout=_TRANSFER_SECONDS,
            )
            _raise_unless_fine(answer)
        found = self.image(tag)
        if found is None:
            raise EngineError(str(archive), f"it was not imported: {_printable(answer.text)}", "See the engine's log.")
        return found.id

    def pull(self, reference: str) -> None:
        """Fetch an image from its registry. Errors: NetworkError where the registry does not give it."""
        from docker.errors import APIError

        thing = f"image {reference}"
        with self._faults(thing):
            try:
                answers = self.client(_TRANSFER_SECONDS).pull(reference, stream=True, decode=True)
                refusals = [str(answer["error"]) for answer in answers if "error" in answer]
            except APIError as error:
                refusals = [str(error.explanation)]
        if refusals:
            step = "Check the name and that its registry is reachable from the engine, or load the image by hand."
            raise NetworkError(thing, redact(refusals[0]), step, image=reference)

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as a docker archive."""
        with self._faults(f"saving image {reference}"), archive.open("wb") as out:
            for chunk in self.client(_TRANSFER_SECONDS).get_image(reference, chunk_size=_CHUNK):
                out.write(chunk)

    def tag(self, reference: str, tag: str) -> None:
        """Give an image another name."""
        repository, _, version = tag.rpartition(":")
        with self._faults(f"image {reference}"):
            self.client().tag(reference, repository, version)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last name; absent or in use is fine."""
        from docker.errors import APIError

        with self._faults(f"image {reference}"):
            try:
                self.client(_TRANSFER_SECONDS).remove_image(reference)
            except APIError as error:
                if error.status_code not in {404, 409}:
                    raise

    # Containers

    @contextlib.contextmanager
    def container(
        self,
        image: str,
        *,
        sleep: Sequence[str],
        user: str = "",
        environment: Mapping[str, str] | None = None,
        read_only: bool = False,
        capabilities: Sequence[str] = _CAPABILITIES,
        memory: int = _MEMORY_BYTES,
        keep: bool = False,
    ) -> Iterator[Container]:
        """Start a container without network that only sleeps (`sleep`: a command that lasts), to run commands in.

        Its /tmp is outside of what `Container.changes` reports. It is removed when the block ends, however that
        ends, unless `keep`. Errors: EngineError.
        """
        client = self.client()
        # A volume lies on the disk, where a large box has room to unpack; but it takes its mode from the image's
        # own /tmp, which a read-only artifact need not have.
        scratch: dict[str, Any] = (
            {"tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}} if read_only else {}  # noqa: S108 - inside the box
        )
        with self._faults(f"starting a container of {image}"):
            created = client.create_container(
                image,
                command=list(sleep[1:]),
                entrypoint=list(sleep[:1]),
                user=user or None,
                environment=dict(environment or {}),
                volumes=None if read_only else ["/tmp"],  # noqa: S108 - inside the box
                labels={RUN_LABEL: self.run, OWNER_LABEL: _own_name()},
                network_disabled=True,
                host_config=client.create_host_config(
                    network_mode="none",
                    read_only=read_only,
                    cap_drop=["ALL"],
                    cap_add=list(capabilities),
                    security_opt=["no-new-privileges"],
                    mem_limit=memory,
                    memswap_limit=memory,
                    pids_limit=_PROCESSES,
                    init=True,
                    **scratch,
                ),
            )
        container = Container(self, str(created["Id"]))
        try:
            with self._faults(f"starting a container of {image}"):
                client.start(container.id)
            yield container
        finally:
            if not keep:
                self._remove(container.id)

    def reap(self) -> int:
        """Remove the containers of runs that were killed: how many."""
        with self._faults("leftover containers"):
            found = self.client().containers(all=True, filters={"label": OWNER_LABEL})
        left = [container for container in found if _is_leftover(container)]
        for container in left:
            self._remove(container["Id"])
        return len(left)

    def _remove(self, identity: str) -> None:
        from docker.errors import APIError

        # Gone already, or being removed by somebody else, is what is wanted; an engine that died takes no orders,
        # and the error that ended the block must not be replaced by this one.
        with contextlib.suppress(APIError, EngineError), self._faults("removing a container"):
            self.client().remove_container(identity, v=True, force=True)

    @contextlib.contextmanager
    def _faults(self, thing: str) -> Iterator[None]:
        """Within the block, the SDK's and the connection's faults become EngineError (or ResourceError: disk full)."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (DockerException, RequestException, HTTPError, ConnectionError, TimeoutError) as error:
            raise _translated(error, thing, self.address) from error


class Container:
    """A running container of ours."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self.id = identity
        self._engine = engine

    def execute(
        self,
        command: Sequence[str],
        *,
        seconds: float,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
    ) -> Finished:
        """Run a command to its end. One that takes longer than `seconds` is ended, and the container with it.

        Errors: EngineError where the engine or the container went away for a reason that is not the command's.
        """
        started = time.monotonic()
        client = self._engine.client()
        output, errors = _Tail(), _Tail()
        late = threading.Event()
        with self._engine._faults(f"running {command[0]}"):  # noqa: SLF001 - the other half of this module
            made = client.exec_create(
                self.id,
                list(command),
                user=user,
                environment=dict(environment or {}),
                workdir=folder,
            )
            # The API cannot end an exec; it can end the container, which nothing survives.
            alarm = threading.Timer(seconds, self._end, args=[late])
            alarm.start()
            try:
                _collect(client, made["Id"], seconds, output, errors)
                exit_code = _exit_code(client, made["Id"])
            finally:
                alarm.cancel()
            ended_by = "timeout" if late.is_set() else self._ended_by(client)
        if exit_code == _KILLED and not ended_by and self._was_starved():
            ended_by = "memory"
        return Finished(
            exit_code=None if ended_by == "timeout" else exit_code,
            output=output.kept,
            errors=errors.kept,
            seconds=time.monotonic() - started,
            cut=output.cut + errors.cut,
            ended_by=ended_by,
        )

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder to an absolute path, owned by root and readable by all; parents are made."""
        from boxsnake.tar_stream import tar_stream

        parent = target
        names: list[str] = []
        while parent != "/" and (not names or not self.is_folder(parent)):
            parent, _, name = parent.rpartition("/")
            parent = parent or "/"
            names.insert(0, name)
        with self._engine._faults(f"copying {source.name} into a container"):  # noqa: SLF001
            self._engine.client(_TRANSFER_SECONDS).put_archive(self.id, parent, tar_stream(source, "/".join(names)))

    def is_folder(self, path: str) -> bool:
        """Whether a path of the container is a folder (a link to one is not)."""
        import base64
        import json

        client = self._engine.client()
        with self._engine._faults(f"looking at {path} in a container"):  # noqa: SLF001
            answer = client.head(
                f"{client.base_url}/v{client.api_version}/containers/{self.id}/archive",
                params={"path": path},
                timeout=_ANSWER_SECONDS,
            )
            if answer.status_code == 404:
                return False
            _raise_unless_fine(answer)
            facts = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        # The mode is Go's: its highest bit is the folder's.
        return bool(facts["mode"] >> 31 & 1)

    def changes(self) -> tuple[Change, ...]:
        """Every path that differs from the image, sorted."""
        kinds = {0: "changed", 1: "added", 2: "removed"}
        with self._engine._faults("comparing a container with its image"):  # noqa: SLF001
            found = self._engine.client(_TRANSFER_SECONDS).diff(self.id) or []
        return tuple(sorted(Change(path=entry["Path"], kind=kinds[entry["Kind"]]) for entry in found))

    def _end(self, late: threading.Event) -> None:
        late.set()
        with contextlib.suppress(Exception):
            self._engine.client().kill(self.id)

    def _ended_by(self, client: docker.APIClient) -> str:
        """Why the container has ended while a command ran in it: "" where it has not, "memory", or EngineError."""
        state = client.inspect_container(self.id)["State"]
        if state.get("Running"):
            return ""
        if state.get("OOMKilled"):
            return "memory"
        cause = f"it ended with {state.get('ExitCode')} while a command ran in it, and not by our doing"
        raise EngineError("a container", cause, "See the engine's log, then run the command again.", state=state)

    def _was_starved(self) -> bool:
        """Whether the kernel has killed a process in the container for want of memory.

        The engine's own `OOMKilled` speaks of the container's first process alone.
        """
        counters = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
        counted = self.execute(["cat", *counters], seconds=_PING_SECONDS).output.decode(errors="replace")
        words = counted.split()
        return any(word == "oom_kill" and count != "0" for word, count in itertools.pairwise(words))


class _Tail:
    """The last bytes of a stream, and how many came before them."""

    def __init__(self) -> None:
        self.kept = b""
        self.cut = 0

    def add(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > 2 * _KEPT_OUTPUT:
            self.trim()

    def trim(self) -> None:
        surplus = max(0, len(self.kept) - _KEPT_OUTPUT)
        self.kept = self.kept[surplus:]
        self.cut += surplus


def _collect(client: docker.APIClient, identity: str, seconds: float, output: _Tail, errors: _Tail) -> None:
    """Read an exec's output to its end.

    Not by the SDK: it reads from the bare socket and so loses what has come in together with the HTTP headers.
    The stream is the Engine API's: frames of one byte (1 output, 2 errors), three of padding, a 32-bit length, data.
    """
    address = f"{client.base_url}/v{client.api_version}/exec/{identity}/start"
    waiting = (_ANSWER_SECONDS, seconds + _ANSWER_SECONDS)
    with client.post(address, json={"Detach": False, "Tty": False}, stream=True, timeout=waiting) as answer:
        _raise_unless_fine(answer)
        rest = b""
        for data in answer.iter_content(chunk_size=None):
            rest += data
            while len(rest) >= 8 and len(rest) >= (end := 8 + int.from_bytes(rest[4:8], "big")):
                (errors if rest[0] == 2 else output).add(rest[8:end])
                rest = rest[end:]
    output.trim()
    errors.trim()


def _exit_code(client: docker.APIClient, identity: str) -> int | None:
    """The exit code of an exec whose output has ended; the engine notes it a moment later."""
    deadline = time.monotonic() + _PING_SECONDS
    while time.monotonic() < deadline:
        facts = client.exec_inspect(identity)
        if not facts["Running"] and facts["ExitCode"] is not None:
            return int(facts["ExitCode"])
        time.sleep(0.02)
    return None


# Finding an engine


def _addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    named = environment.get("DOCKER_HOST")
    if named:
        return (named,)
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    home = environment.get("HOME", "/nonexistent")
    sockets = (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{home}/.docker/run/docker.sock",
        f"{home}/.docker/desktop/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    )
    return tuple(f"unix://{socket}" for socket in sockets)


def _look(address: str, environment: Mapping[str, str]) -> Place:
    shown = without_credentials(address)
    socket = Path(address.removeprefix("unix://")) if address.startswith("unix://") else None
    # A folder above the socket that we may not search is a matter of permission as well, and no sign of absence.
    try:
        if socket is not None:
            socket.stat()
            if not os.access(socket, os.R_OK | os.W_OK):
                return Place(address=shown, state="refused", detail="permission denied")
    except PermissionError as error:
        return Place(address=shown, state="refused", detail=str(error.strerror))
    except OSError as error:
        return Place(address=shown, state="absent", detail=str(error.strerror))
    try:
        _client(address, environment, _PING_SECONDS).ping()
    except Exception as error:  # noqa: BLE001 - each library below has its own ways to say that nobody answers
        return Place(address=shown, state="dead", detail=_first_line(error))
    return Place(address=shown, state="answers", detail="")


def _client(address: str, environment: Mapping[str, str], seconds: float) -> docker.APIClient:
    from docker.utils import kwargs_from_env

    import docker

    settings = kwargs_from_env(environment={**environment, "DOCKER_HOST": address})
    return docker.APIClient(version="auto", timeout=seconds, **settings)  # type: ignore[arg-type]  # stubs: int alone


def _no_engine(places: Sequence[Place], environment: Mapping[str, str]) -> EngineError:
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
    return EngineError("container engine", cause, _how_to_get_one(), **data)


def _how_to_get_one() -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if shutil.which("dockerd", path=path):
        return "Start it, as root: `systemctl start docker`, or `sh docker/engine.sh` where there is no systemd."
    if shutil.which("podman", path=path):
        return "Start podman's socket: `systemctl --user start podman.socket`, or `podman system service -t 0 &`."
    return "Install one: `apt-get install docker.io iptables` or `dnf install podman`; then `boxsnake doctor`."


# Whose container is it


def _own_name() -> str:
    """Name this process so that nobody mistakes another for it: boot, namespace of process ids, id, start time."""
    return f"{_scope()}:{os.getpid()}:{_start_time(os.getpid())}"


def _scope() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; "" where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in parentheses, and may hold anything; start time is the 22nd.
    return text.rpartition(")")[2].split()[19]


def _is_leftover(container: Mapping[str, Any]) -> bool:
    scope, _, process = str(container["Labels"].get(OWNER_LABEL, "")).partition(":")
    pid, _, start = process.partition(":")
    if scope == _scope() and pid.isdecimal():
        return _start_time(int(pid)) != start
    # Another machine's or namespace's: its sleep is over and nobody has cleared it away.
    return container["State"] == "exited" and time.time() - float(container["Created"]) > _LIFETIME_SECONDS


def sleeper(python: Sequence[str] = ()) -> tuple[str, ...]:
    """A command that lasts as long as a container may: by its own Python where there may be no `sleep`."""
    if python:
        return (*python, "-c", f"import time; time.sleep({_LIFETIME_SECONDS})")
    return ("sleep", str(_LIFETIME_SECONDS))


# Faults


def _translated(error: Exception, thing: str, address: str) -> EngineError | ResourceError:
    cause = _first_line(error)
    if "no space left on device" in cause.lower() or "disk quota exceeded" in cause.lower():
        step = "Make room for the engine's images and containers (`docker system df`), then run the command again."
        return ResourceError(thing, f"the engine's disk is full: {cause}", step)
    step = f"See whether the engine at {address} is well (`boxsnake doctor`), then run the command again."
    return EngineError(thing, cause, step, address=address)


def _raise_unless_fine(answer: requests.Response) -> None:
    """Raise the SDK's own error, which bears the engine's words, for a request that was made past the SDK."""
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    try:
        answer.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)


def _raise_reported(answer: Mapping[str, Any], thing: str) -> None:
    if "error" in answer:
        raise _translated(RuntimeError(str(answer["error"])), thing, "the socket")


def _first_line(error: Exception) -> str:
    """The most telling part of a library's exception: the engine's own words, else the innermost cause."""
    text = str(getattr(error, "explanation", None) or error) or type(error).__name__
    return redact(_printable(text.strip().splitlines()[0] if text.strip() else type(error).__name__))[:500]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
