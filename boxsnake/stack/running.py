"""A stack that runs: started service by service, each waited for until it is ready, told of, and removed."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace

from boxsnake.boot.asking import attempt, fault, request_of
from boxsnake.boot_recipe import Check
from boxsnake.engine import Engine, Launch, Listed
from boxsnake.engine.launch import LAUNCH_BY_PYTHON, LAUNCH_BY_SHELL, LOOPBACK, as_json, as_lines
from boxsnake.errors import BootError, BoxsnakeError, EngineError
from boxsnake.manifest.text import byte_count
from boxsnake.stack.debugger import PORT as DEBUGGER
from boxsnake.stack.value import Stack, Unit
from boxsnake.value import dataclass

STACK_LABEL = "boxsnake.stack"
NAME_LABEL = "boxsnake.stack-name"
UNIT_LABEL = "boxsnake.unit"
KIND_LABEL = "boxsnake.kind"
ENVIRONMENT_LABEL = "boxsnake.environment"

READY_SECONDS = 60.0
"""How long a service, or an application whose check names no time, may take to be ready."""

_STOP_SECONDS = 10
_SHORT_SECONDS = 5
_REQUEST_SECONDS = 5.0
_SHOWN_LINES = 15
_PAUSES = (0.03, 0.05, 0.1, 0.2)
# How long a program goes on that cannot be asked whether it is ready, and is not about to fail.
_SETTLING_SECONDS = 1.0

Say = Callable[[str, str], None]
"""(unit, text)"""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a stack is started with.

    `image` gives the engine's id of the application's image, once there is need of it; `secrets` are by unit. `python`
    is the box's own interpreter with the option before a program: it hands the application its secrets. `ports` are
    this machine's for the application's. `watch` is called with each unit and its container once that is started, `say`
    once it is ready.
    """

    image: Callable[[], str]
    secrets: Mapping[str, Mapping[str, str]] = field(repr=False)
    python: tuple[str, ...]
    labels: Mapping[str, str]
    ports: Mapping[int, int]
    say: Say
    watch: Say


class Running:
    """What has been started: containers by their units' names, and where this machine has their ports."""

    def __init__(self, engine: Engine, stack: Stack, terms: Terms) -> None:
        self.engine, self.stack = engine, stack
        self.containers: dict[str, str] = {}
        self.ports: dict[str, Mapping[int, int]] = {}
        self._addresses: dict[str, str] = {}
        self._terms = terms

    def urls(self) -> list[tuple[str, str]]:
        """Where this machine reaches what: (unit, URL)."""
        return urls(self.stack.application.name, self.ports)

    def bring(self, unit: Unit) -> None:
        """Start a unit and wait until it is ready. Errors: BootError, EngineError."""
        launch = _launch(self.engine, unit, self.stack, self._terms, self.ports.get(unit.name, self._terms.ports))
        if unit is self.stack.application:
            launch = replace(launch, hosts=self._addresses)
        started = time.monotonic()
        container = self.engine.launch(launch)
        self.containers[unit.name] = container.id
        self._terms.watch(unit.name, container.id)
        is_application = unit is self.stack.application
        # One that is to answer has not done its work when it ends.
        listed = _wait(self.engine, unit, container.id, started, may_end=is_application and unit.request is None)
        self.ports[unit.name] = listed.ports
        if not is_application and listed.address and self.engine.is_podman:
            self._addresses[unit.name] = listed.address
        done = "ready" if listed.state == "running" else "ended with 0"
        self._terms.say(unit.name, f"{done} after {time.monotonic() - started:.1f} s")

    def bring_again(self) -> None:
        """Start the application anew, at its ports; its services go on. Errors: those of `bring`."""
        old = self.containers.pop(self.stack.application.name, None)
        if old is not None:
            self.engine.remove_container(old)
        self.bring(self.stack.application)


def urls(application: str, ports: Mapping[str, Mapping[int, int]]) -> list[tuple[str, str]]:
    """(unit, URL) of published ports: the application's as pages, services' as addresses."""
    return [
        (unit, f"{'http' if unit == application and port != DEBUGGER else 'tcp'}://{LOOPBACK}:{here}")
        for unit, published in ports.items()
        for port, here in published.items()
    ]


def start(engine: Engine, stack: Stack, terms: Terms) -> Running:
    """Start services side by side, then the application; each is waited for.

    Where it fails, nothing is removed but what would go on starting. Errors: BootError for what does not become ready,
    with the last that it said; EngineError.
    """
    running = Running(engine, stack, terms)
    engine.make_network(network_name(stack), terms.labels)
    if stack.services:
        with ThreadPoolExecutor(len(stack.services)) as pool:
            try:
                list(pool.map(running.bring, stack.services))
            except BaseException:
                # The others must not be waited for to their ends.
                engine.abandon()
                raise
    running.stack = replace(stack, application=replace(stack.application, image=terms.image()))
    running.bring(running.stack.application)
    return running


def network_name(stack: Stack) -> str:
    """Of the stack's network, and the start of its containers' names."""
    return f"boxsnake-{stack.name}-{stack.id}"


def image_name(identity: str) -> str:
    """What the application's image is called while its stack is up."""
    return f"boxsnake-stack/{identity}:up"


def stack_labels(stack: Stack) -> dict[str, str]:
    """What its containers and its network bear."""
    return {STACK_LABEL: stack.id, NAME_LABEL: stack.name, ENVIRONMENT_LABEL: stack.environment}


def remove(engine: Engine, identity: str) -> int:
    """Ask everything of a stack to end, then remove it: how many containers there were."""
    found = engine.labelled(STACK_LABEL, identity)
    if found:
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(lambda one: engine.stop(one.id, _STOP_SECONDS), found))
    engine.remove_labelled(STACK_LABEL, identity)
    return len(found)


def stop_run(engine: Engine) -> None:
    """Ask all containers of the engine's run to end in peace, at once; an engine that went away is passed over."""
    with contextlib.suppress(BoxsnakeError):
        found = engine.containers()
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            list(pool.map(lambda identity: engine.stop(identity, _SHORT_SECONDS), found))


def _whole(engine: Engine, unit: Unit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entry point and command, those of the image where the unit has none of its own."""
    image = engine.image(unit.image)
    entrypoint = unit.entrypoint if unit.entrypoint is not None else (image.entrypoint if image else ())
    inherited = image.command if image and unit.entrypoint is None else ()
    return entrypoint, unit.command if unit.command is not None else inherited


def _launch(engine: Engine, unit: Unit, stack: Stack, terms: Terms, wanted: Mapping[int, int]) -> Launch:
    network, secrets = network_name(stack), terms.secrets.get(unit.name, {})
    is_application = unit is stack.application
    entrypoint, command = unit.entrypoint, unit.command
    if secrets:
        # What is started by another program does not inherit the image's own command.
        entrypoint, command = _whole(engine, unit)
    launcher = (*terms.python, LAUNCH_BY_PYTHON) if is_application else ("sh", "-c", LAUNCH_BY_SHELL, unit.name)
    given = (as_json(secrets) if is_application else as_lines(secrets)) if secrets else None
    return Launch(
        image=unit.image,
        name=f"{network}-{unit.name}",
        network=network,
        alias=unit.name,
        labels={
            **terms.labels,
            UNIT_LABEL: unit.name,
            KIND_LABEL: "application" if is_application else "service",
        },
        entrypoint=(*launcher, *(entrypoint or ())) if secrets else entrypoint,
        command=command,
        user=unit.user,
        folder=unit.folder,
        environment=dict(unit.environment),
        ports={port: _free(wanted.get(port, port)) if is_application else 0 for port in unit.ports},
        scratch=dict(unit.scratch),
        volumes=unit.volumes,
        mounts=unit.mounts,
        read_only=unit.read_only,
        capabilities=unit.capabilities,
        memory=byte_count(unit.memory) if unit.memory else 0,
        cpu=unit.cpu,
        given=given,
    )


def _free(port: int) -> int:
    """The port itself, or 0 (any other) where somebody listens on it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
    return port


def _wait(engine: Engine, unit: Unit, identity: str, started: float, *, may_end: bool) -> Listed:
    """Wait until the unit is ready, or has done its work where it may end. Errors: BootError."""
    request = unit.request
    seconds = max(READY_SECONDS, request.timeout if request else 0.0)
    last = ""
    for number in range(1_000_000):
        listed = engine.look(identity)
        if listed and listed.state == "exited" and listed.exit_code == 0 and may_end:
            return listed
        if listed is None or listed.state != "running":
            raise _not_ready(engine, unit, identity, _ended(listed))
        last = _lack(engine, unit, listed, started, seconds)
        if not last:
            return listed
        if time.monotonic() - started > seconds:
            break
        time.sleep(_PAUSES[min(number, len(_PAUSES) - 1)])
    raise _not_ready(engine, unit, identity, f"is not ready after {seconds:.0f} s: {last}")


def _ended(listed: Listed | None) -> str:
    return "went away" if listed is None else f"ended with {listed.exit_code}"


def _lack(engine: Engine, unit: Unit, listed: Listed, started: float, seconds: float) -> str:
    """What it lacks of being ready; "" where it is."""
    if unit.check:
        try:
            environment = dict(unit.environment)
            done = engine.attached(listed.id).execute(unit.check, seconds=seconds, environment=environment)
        except EngineError as error:
            # It ended while it was asked; the next look tells how.
            return error.cause
        words = (done.output + done.errors).decode("utf-8", "replace").strip().splitlines()
        return "" if done.exit_code == 0 else f"its check exits with {done.exit_code}: {words[-1] if words else ''}"
    request = unit.request
    port = listed.ports.get(request.port or 0) if request else None
    if request and port:
        return _answer(request, port)
    return "" if time.monotonic() - started > _SETTLING_SECONDS else "it has only just started"


def _answer(check: Check, port: int) -> str:
    """What is wrong with the answer to a request, as a boot judges it; "" where nothing is."""
    request = request_of(replace(check, port=port))
    status, body, problem = attempt(request, b"", _REQUEST_SECONDS)
    problem = problem if status is None else fault(request, status, body)
    return f"{check.http}: {problem}" if problem else ""


def _not_ready(engine: Engine, unit: Unit, identity: str, cause: str) -> BootError:
    try:
        lines = list(engine.said(identity, tail=_SHOWN_LINES))
    except EngineError:
        lines = []
    shown = "".join(f"\n  {line}" for line in lines[-_SHOWN_LINES:])
    step = f"See what {unit.name} says{' above' if shown else ''}; its image and settings are in the manifest."
    return BootError(unit.name, f"{cause}{shown}", step, unit=unit.name)
