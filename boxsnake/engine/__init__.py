"""The container engine: images in and out of it, containers started, looked into and removed.

This package alone knows the Engine API, which Docker and podman's socket speak alike. Whatever goes wrong between us
and the engine is an EngineError, never a verdict about what runs inside a container.

Every container of ours bears two labels, `boxsnake.run` and `boxsnake.owner`. What a killed run left behind is removed
by the next one that connects, and by nobody while its owner lives.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from boxsnake import settings
from boxsnake.container import INSTALLING, MEMORY_BYTES, Change, Finished, Image, configured_image
from boxsnake.disk import file_chunks
from boxsnake.engine import places, seccomp, wanted
from boxsnake.engine.api import RefusedError
from boxsnake.engine.connection import ANSWER_SECONDS, TRANSFER_SECONDS, Connection, printable, translated
from boxsnake.engine.container import Container
from boxsnake.engine.launch import Launch, Listed, create, giving, lines, listed, spoken
from boxsnake.engine.owner import (
    LIFETIME_SECONDS,
    OWNER_LABEL,
    RUN_LABEL,
    is_leftover,
    is_leftover_name,
    is_leftover_network,
    own_name,
    passing_name,
)
from boxsnake.engine.places import KINDS, Place
from boxsnake.engine.terminal import converse
from boxsnake.errors import BootError, BoxsnakeError, EngineError, NetworkError, ResourceError
from boxsnake.progress import track
from boxsnake.reference import Reference, parse
from boxsnake.urls import redact

__all__ = [
    "INSTALLING",
    "KINDS",
    "MEMORY_BYTES",
    "Change",
    "Container",
    "Engine",
    "Finished",
    "Image",
    "Launch",
    "Listed",
    "Place",
    "connect",
    "diagnose",
    "passing_name",
    "sleeper",
]

_PROCESSES = 1024
_REMOVAL_SECONDS = 10
_MISSING, _CONFLICT = 404, 409


def connect(environment: Mapping[str, str] | None = None, *, reap: bool = True, kind: str | None = None) -> Engine:
    """The first engine that answers: the one of DOCKER_HOST alone where that is set, else those of the usual sockets.

    `kind` is "docker" or "podman", "" for either, and None for what BOXSNAKE_RUNTIME or the settings name.

    Removes what killed runs of this machine left in it, unless `reap` says otherwise. Errors: EngineError, whose remedy
    depends on whether there is no engine, no permission, or one that does not answer.
    """
    variables = os.environ if environment is None else environment
    if kind is None:
        named = settings.runtime(variables)
        kind = named if named in KINDS else ""
    seen = []
    for address in places.addresses(variables, kind):
        place = places.look(address, variables)
        if place.state == "answers":
            engine = Engine(address, variables)
            _check_kind(engine, kind)
            if reap:
                engine.reap()
            return engine
        seen.append(place)
    raise places.no_engine(seen, variables, kind)


def _check_kind(engine: Engine, kind: str) -> None:
    if kind and engine.is_podman != (kind == "podman"):
        step = f"Unset DOCKER_HOST, or have it name {kind}'s socket."
        raise EngineError(f"runtime {kind}", f"what answers at {engine.address} is {engine.version}", step)


def diagnose(environment: Mapping[str, str] | None = None) -> tuple[Place, ...]:
    """What is found at each address that `connect` tries, for people who wonder why there is no engine."""
    variables = os.environ if environment is None else environment
    return tuple(places.look(address, variables) for address in places.addresses(variables))


class Engine:
    """A container engine that has answered. Safe for threads: each has a connection of its own."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self.run = uuid.uuid4().hex
        self._connection = Connection(address, environment)
        self._abandoned = threading.Event()
        self._takes_filters: bool | None = None
        self._begun: dict[object, frozenset[Change]] = {}

    @property
    def address(self) -> str:
        """Where it listens, without credentials."""
        return self._connection.address

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What it says of itself, which no engine changes while it runs."""
        with self._connection.faults("the container engine"):
            return dict(self._connection.ask("GET", "/version"))

    @property
    def version(self) -> str:
        """The engine's name and version, for people."""
        components = self._facts.get("Components") or [{}]
        name = components[0].get("Name", "Engine")
        return f"{name.removesuffix(' Engine')} {self._facts.get('Version', '?')}"

    @property
    def architecture(self) -> str:
        """The processor of its containers, as the OCI image specification names it ("amd64", "arm64")."""
        return str(self._facts.get("Arch", ""))

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, whose networks resolve names only where a plugin for that is installed."""
        return "podman" in self.version.lower()

    @property
    def no_limits(self) -> str:
        """Why it cannot limit a container that runs, as a sentence; "" where it can."""
        # Of podman, no version that was tried has the call for it.
        return "podman does not limit a container that runs already" if self.is_podman else ""

    # Images

    def image(self, reference: str) -> Image | None:
        """The image of that name or id; None where the engine has none."""
        with self._connection.faults(f"image {reference}"):
            try:
                facts: dict[str, Any] = self._connection.ask("GET", f"/images/{_quoted(reference)}/json")
            except RefusedError as error:
                if error.status == _MISSING:
                    return None
                raise
        return configured_image(facts["Id"], (facts.get("RootFS") or {}).get("Layers") or (), facts.get("Config") or {})

    def existing(self, reference: str) -> Image:
        """The image of that name or id, which was there a moment ago. Errors: EngineError where it is gone."""
        found = self.image(reference)
        if found is None:
            raise EngineError(f"image {reference}", "it went away from the engine", "Run the command again.")
        return found

    def tags(self) -> dict[str, str]:
        """Every tag in the engine, and the id of its image."""
        with self._connection.faults("the engine's images"):
            images = self._connection.ask("GET", "/images/json")
        return {tag: image["Id"] for image in images for tag in image.get("RepoTags") or () if tag != "<none>:<none>"}

    def leading_layers(self, layers: Sequence[str], likely: Sequence[str] = ()) -> int:
        """How many of these diff ids, from the lowest on, some image in the engine has in the same order.

        Images with the names `likely` are looked at first; others only as long as more than the top layer is missing,
        since each takes a question of its own and an engine may have thousands.
        """
        best = 0
        for identity in self._images_from(likely):
            image = self.image(identity)
            if image is not None:
                pairs = zip(layers, image.layers, strict=False)
                best = max(best, len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))))
            if best >= len(layers) - 1:
                break
        return best

    def _images_from(self, likely: Sequence[str]) -> Iterator[str]:
        yield from likely
        yield from dict.fromkeys(self.tags().values())

    def load(self, archive: Path | Iterable[bytes]) -> tuple[str, ...]:
        """Take the images of a docker archive, a file or a stream of its bytes: their names, or ids without a name.

        Errors: BootError where the engine refuses the archive itself.
        """
        thing = f"image archive {archive}" if isinstance(archive, Path) else "image archive"
        data = file_chunks(archive) if isinstance(archive, Path) else archive
        with self._connection.faults(thing):
            try:
                answers = self._tells("/images/load", data)
            except RefusedError as error:
                answers = [{"error": error.words}]
        names = []
        for answer in answers:
            if "error" in answer:
                raise _refused(str(answer["error"]), thing, self.address, "the engine refuses it")
            _, loaded, name = str(answer.get("stream", "")).strip().partition(": ")
            if loaded and answer["stream"].startswith("Loaded image"):
                names.append(name)
        return tuple(names)

    def _tells(
        self, path: str, data: Iterable[bytes], query: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """What the engine tells of its work on a tar."""
        headers = {"Content-Type": "application/x-tar"}
        sent = self._connection.request("POST", path, query=query, data=data, headers=headers, seconds=TRANSFER_SECONDS)
        with sent as answer:
            return list(answer.told())

    def build(self, context: Iterable[bytes], tag: str, *, arguments: Mapping[str, str], thing: str) -> str:
        """Build an image from the tar of a context with a Dockerfile at its top: its id.

        By BuildKit where the engine has it. `thing` is what errors call it. Errors: BootError where it does not build.
        """
        query = {"version": "2", "t": tag, "buildargs": json.dumps(dict(arguments)), "rm": "1", "forcerm": "1"}
        with self._connection.faults(f"building {thing}"):
            answers = self._tells("/build", context, query)
        for answer in answers:
            if words := answer.get("error"):
                raise _refused(str(words), thing, self.address, "the engine cannot build it")
        image = self.image(tag)
        if image is None:
            raise EngineError(thing, "it was built, but the image is not there", "See the engine's log.")
        return image.id

    def import_rootfs(self, archive: Path, tag: str) -> str:
        """Make an image of one layer from the tar of a root file system: its id. The layer's diff id is the tar's."""
        repository, _, version = tag.rpartition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": version, "changes": 'CMD ["/bin/sh"]'}
        with self._connection.faults(f"importing {archive}"):
            answers = self._tells("/images/create", file_chunks(archive), query)
        for answer in answers:
            if "error" in answer:
                raise translated(str(answer["error"]), f"importing {archive}", self.address)
        # podman takes no heed of the name.
        identity = str(answers[-1]["status"])
        self.tag(identity, tag)
        return identity

    def pulled(self, reference: str, *, offline: bool) -> Image:
        """The image of this name, pulled where the engine has not got it.

        Errors: ResourceError for one that is not there while `offline`, NetworkError for one that its registry does not
        give.
        """
        found = self.image(reference)
        if found is None and offline:
            step = "Run without --offline to pull it, or load it into the engine yourself."
            raise ResourceError(f"image {reference}", "the engine has not got it", step, image=reference)
        if found is None:
            with track(f"pulling {reference}"):
                self.pull(reference)
            found = self.image(reference)
        if found is None:
            raise EngineError(f"image {reference}", "it was pulled, but is not there", "See the engine's log.")
        return found

    def pull(self, reference: str) -> None:
        """Fetch an image from its registry. Errors: NetworkError where the registry does not give it."""
        thing = f"image {reference}"
        with self._connection.faults(thing):
            try:
                refusals = [str(told["error"]) for told in self._pulling(parse(reference)) if "error" in told]
            except (RefusedError, ValueError) as error:
                refusals = [str(error)]
        if refusals:
            step = "Check the name and that its registry is reachable from the engine, or load the image by hand."
            raise NetworkError(thing, redact(refusals[0]), step, image=reference)

    def _pulling(self, meant: Reference) -> list[dict[str, Any]]:
        """What the engine tells of its pulling."""
        query = {"fromImage": str(replace(meant, tag="", digest="")), "tag": meant.version}
        login = self._login(meant)
        sent = self._connection.request("POST", "/images/create", query=query, headers=login, seconds=TRANSFER_SECONDS)
        with sent as answer:
            return list(answer.told())

    def _login(self, meant: Reference) -> dict[str, str]:
        """The header that tells the engine who we are to an image's registry."""
        from boxsnake.registry.logins import find_login, server

        # The engine knows where names without a registry lead; podman goes by its user's list.
        where = meant.registry or server(str(self._connection.ask("GET", "/info").get("IndexServerAddress") or ""))
        found = find_login(where, meant.repository) if where else None
        if found is None:
            return {}
        login = {"identitytoken": found.token}
        if found.login is not None:
            login = {"username": found.login.user, "password": found.login.password}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as a docker archive."""
        self._connection.receive(f"/images/{_quoted(reference)}/get", archive, f"saving image {reference}")

    def tag(self, reference: str, tag: str) -> None:
        """Give an image another name."""
        repository, _, version = tag.rpartition(":")
        with self._connection.faults(f"image {reference}"):
            query = {"repo": repository, "tag": version}
            self._connection.ask("POST", f"/images/{_quoted(reference)}/tag", query=query)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last name; absent or in use is fine."""
        with self._connection.faults(f"image {reference}"):
            try:
                self._connection.ask("DELETE", f"/images/{_quoted(reference)}", seconds=TRANSFER_SECONDS)
            except RefusedError as error:
                if error.status not in {_MISSING, _CONFLICT}:
                    raise

    @contextlib.contextmanager
    def image_of(self, container: str) -> Iterator[str]:
        """Have an image of the files of a container (its id), as they are now, for the block: its id."""
        name = passing_name("installed")
        repository, _, tag = name.rpartition(":")
        # What is started from it is not this container's run's.
        changes = f'LABEL {RUN_LABEL}="" {OWNER_LABEL}=""'
        query = {"container": container, "repo": repository, "tag": tag, "changes": changes}
        try:
            with self._connection.faults("making an image of a container"):
                made = self._connection.ask("POST", "/commit", query=query, body={}, seconds=TRANSFER_SECONDS)
            yield str(made["Id"])
        finally:
            self.remove_image(name)

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
        small: Mapping[str, int] | None = None,
        capabilities: Sequence[str] = (),
        memory: int = MEMORY_BYTES,
        hostname: str | None = None,
        network: bool = False,
        may_keep: bool = False,
        mounts: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Container]:
        """Start a container that only sleeps (`sleep`: a command that lasts), to run commands in.

        It has a network only where `network` says so. Its /tmp is outside of what `Container.changes` reports.
        `small` are folders in memory with their sizes in bytes, for trying what happens when a disk is full.
        `capabilities` are those of its root (`INSTALLING`), none by default. Left out, `hostname` is one of its own. It
        is removed when the block ends, however that ends; with `may_keep`, the block may decide otherwise
        (`Container.keep`). `mounts` are paths of this machine and where they are seen, for reading. Programs that want
        its files durable are told that they are, and nothing waits for the disk.

        Errors: EngineError; BootError where the image cannot run the command.
        """
        # A volume lies on the disk, where a large box has room to unpack; but it takes its mode from the image's
        # own /tmp, which a read-only artifact need not have.
        memory_folders = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"} if read_only else {}  # noqa: S108 - inside the box
        memory_folders |= {folder: f"rw,exec,mode=755,size={size}" for folder, size in (small or {}).items()}
        filters = () if read_only else self._filters(capabilities)
        document = {
            "Image": image,
            "Entrypoint": list(sleep[:1]),
            "Cmd": list(sleep[1:]),
            "User": user,
            "Hostname": hostname or "",
            "Env": wanted.variables(environment),
            "Volumes": {} if read_only else {"/tmp": {}},  # noqa: S108 - inside the box
            # Without an owner, nobody takes it for a leftover: it is there until somebody removes it.
            "Labels": {RUN_LABEL: self.run} if may_keep else {RUN_LABEL: self.run, OWNER_LABEL: own_name()},
            "NetworkDisabled": not network,
            "HostConfig": {
                "NetworkMode": "bridge" if network else "none",
                "Memory": memory,
                "MemorySwap": memory,
                "Tmpfs": memory_folders,
                **wanted.confinement(_PROCESSES, capabilities, mounts, read_only=read_only, filters=filters),
            },
        }
        with self._connection.faults(f"starting a container of {image}"):
            created = self._connection.ask("POST", "/containers/create", body=document)
        kind = (image, read_only, *memory_folders, *(target for _, target in mounts))
        container = Container(self._connection, str(created["Id"]), begun=self._begun, kind=kind)
        try:
            self._check_wanted()
            with self._connection.faults(f"starting a container of {image}"):
                _start(self._connection, container.id, image)
            yield container
        finally:
            if not container.kept:
                self._remove(container.id)

    def _filters(self, capabilities: Sequence[str]) -> tuple[str, ...]:
        if self._takes_filters is None:
            with self._connection.faults("the container engine"):
                self._takes_filters = seccomp.takes_filters(self._connection.ask("GET", "/info"))
        return (f"seccomp={seccomp.not_durable(tuple(capabilities))}",) if self._takes_filters else ()

    # Containers side by side

    def own_labels(self) -> dict[str, str]:
        """The labels of what shall be removed when this process is over, however it ends."""
        return {RUN_LABEL: self.run, OWNER_LABEL: own_name()}

    def make_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a network whose containers reach each other by name."""
        with self._connection.faults(f"network {name}"):
            document = {"Name": name, "Labels": dict(labels), "CheckDuplicate": True}
            self._connection.ask("POST", "/networks/create", body=document)

    def launch(self, launch: Launch) -> Container:
        """Start a container that runs its own program, and leave it running.

        Errors: EngineError; BootError where the image cannot run it. A container that cannot be started is removed.
        """
        identity = create(self._connection, launch)
        try:
            self._check_wanted()
            with (
                giving(self._connection, identity, launch.given),
                self._connection.faults(f"starting {launch.alias}"),
            ):
                _start(self._connection, identity, launch.image)
        except BaseException:
            self._remove(identity)
            raise
        return Container(self._connection, identity)

    def converse(self, identity: str, command: Sequence[str], **how: Any) -> int:
        """Run a command that one talks to; see `boxsnake.engine.terminal.converse`."""
        return converse(self._connection, identity, command, **how)

    def attached(self, identity: str) -> Container:
        """A container that somebody has started."""
        return Container(self._connection, identity)

    def look(self, identity: str) -> Listed | None:
        """A container as it is now; None where it is gone."""
        with self._connection.faults("a container"):
            try:
                return listed(self._connection.ask("GET", f"/containers/{identity}/json"))
            except RefusedError as error:
                if error.status == _MISSING:
                    return None
                raise

    def labelled(self, label: str, value: str = "") -> tuple[Listed, ...]:
        """The containers with a label, or with that value of it, by the time of their making."""
        with self._connection.faults("the engine's containers"):
            found = self._found("/containers/json", f"{label}={value}" if value else label)
        looked = [self.look(one["Id"]) for one in found]
        return tuple(sorted((one for one in looked if one is not None), key=lambda one: one.created))

    def said(self, identity: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """The lines that a container has said; with `follow`, those to come as well, until it ends."""
        with self._connection.faults("reading a container's log"):
            yield from lines(spoken(self._connection, identity, follow=follow, tail=tail))

    def stop(self, identity: str, seconds: int) -> None:
        """Ask a container to end, and end it after that time; one that is gone is fine."""
        with contextlib.suppress(EngineError), self._connection.faults("stopping a container"):
            answer = seconds + ANSWER_SECONDS
            self._connection.ask("POST", f"/containers/{identity}/stop", query={"t": seconds}, seconds=answer)

    def remove_container(self, identity: str) -> None:
        """Remove a container and its volumes, whether it runs or not; one that is gone is fine."""
        self._remove(identity)

    def remove_labelled(self, label: str, value: str) -> None:
        """Remove the containers and networks with a label, and the containers' own volumes."""
        with self._connection.faults("the engine's containers"):
            found = self._found("/containers/json", f"{label}={value}")
            networks = self._found("/networks", f"{label}={value}")
        for one in found:
            self._remove(one["Id"])
        for one in networks:
            self._remove_network(one["Id"])

    def _remove_network(self, identity: str) -> None:
        with contextlib.suppress(EngineError), self._connection.faults("removing a network"):
            self._connection.ask("DELETE", f"/networks/{identity}")

    def containers(self) -> tuple[str, ...]:
        """The ids of the containers that this run has started and not removed."""
        with self._connection.faults("the engine's containers"):
            found = self._found("/containers/json", f"{RUN_LABEL}={self.run}")
        return tuple(container["Id"] for container in found)

    def abandon(self) -> None:
        """Remove all containers of this run and start no more: other threads that work in one get an EngineError."""
        self._abandoned.set()
        deadline = time.monotonic() + _REMOVAL_SECONDS
        # A busy engine may refuse a removal, and whoever works in what is left would go on.
        while (left := self.containers()) and time.monotonic() < deadline:
            # All at once: what is removed last would work on until then.
            with ThreadPoolExecutor(len(left)) as pool:
                list(pool.map(self._remove, left))

    def _check_wanted(self) -> None:
        """Errors: EngineError for one that was created after `abandon` has looked for containers."""
        if self._abandoned.is_set():
            raise EngineError("a container", "the run was given up", "Run the command again.")

    def reap(self) -> int:
        """Remove the containers, networks and passing images of runs that were killed: how many."""
        with self._connection.faults("leftover containers"):
            found = self._found("/containers/json", OWNER_LABEL)
        left = [container for container in found if is_leftover(container)]
        for container in left:
            self._remove(container["Id"])
        with self._connection.faults("leftover networks"):
            networks = self._found("/networks", OWNER_LABEL)
        nets = [network for network in networks if is_leftover_network(network)]
        for network in nets:
            self._remove_network(network["Id"])
        names = [name for name in self.tags() if is_leftover_name(name)]
        for name in names:
            self.remove_image(name)
        return len(left) + len(nets) + len(names)

    def _remove(self, identity: str) -> None:
        # Gone already, or being removed by somebody else, is what is wanted; an engine that died takes no orders,
        # and the error that ended the block must not be replaced by this one.
        with contextlib.suppress(EngineError, ResourceError), self._connection.faults("removing a container"):
            try:
                self._connection.ask("DELETE", f"/containers/{identity}", query={"v": "true", "force": "true"})
            except RefusedError as error:
                if error.status != _CONFLICT:
                    raise
                # Another thread removes it: its image cannot be removed until that is done.
                path, query = f"/containers/{identity}/wait", {"condition": "removed"}
                self._connection.ask("POST", path, query=query, seconds=_REMOVAL_SECONDS)

    def _found(self, path: str, label: str) -> list[dict[str, Any]]:
        """What the engine lists that has a label, or a value of it ("label=value")."""
        query = {"all": "true", "filters": json.dumps({"label": [label]})}
        return list(self._connection.ask("GET", path, query=query) or ())


def _start(connection: Connection, identity: str, image: str) -> None:
    """Start a container; that its command cannot be run is the image's fault, everything else the engine's."""
    try:
        connection.ask("POST", f"/containers/{identity}/start")
    except RefusedError as error:
        # The words of runc and crun for what execve(2) has refused.
        reasons = ("executable file not found", "no such file or directory", "permission denied", "exec format error")
        if "exec" in error.words and any(reason in error.words.lower() for reason in reasons):
            step = "See that the image is whole, made for this machine's architecture, and has that program."
            raise BootError(f"image {image}", printable(error.words), step, image=image) from error
        raise


def _quoted(reference: str) -> str:
    return quote(reference, safe="/:@")


def _refused(words: str, thing: str, address: str, verdict: str) -> BoxsnakeError:
    fault = translated(words, thing, address)
    if isinstance(fault, ResourceError):
        return fault
    return BootError(thing, f"{verdict}: {fault.cause}", "Build it again; if that fails as well, report it.")


def sleeper(python: Sequence[str] = ()) -> tuple[str, ...]:
    """A command that lasts as long as a container may: by its own Python where there may be no `sleep`."""
    if python:
        return (*python, "-c", f"import time; time.sleep({LIFETIME_SECONDS})")
    return ("sleep", str(LIFETIME_SECONDS))
