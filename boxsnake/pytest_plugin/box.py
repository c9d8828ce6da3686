"""What the fixture `boxsnake` is: the box and its services, started as `boxsnake run` starts them."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from boxsnake.cli.stack import Asked, Prepared, in_engine, prepare, terms_of
from boxsnake.engine import Engine, connect
from boxsnake.engine.owner import RUN_LABEL
from boxsnake.errors import UsageError
from boxsnake.stack.running import Running, image_name, remove, stack_labels, start, stop_run
from boxsnake.stack.warden import watched
from boxsnake.store import Store

_SECONDS = 60.0


class RunningUnit:
    """One container: the application, or a service by its name in the manifest."""

    def __init__(self, engine: Engine, running: Running, name: str) -> None:
        self._engine, self._running = engine, running
        self.name = name

    @property
    def id(self) -> str:
        """What the engine calls its container, such as for `docker inspect`."""
        return self._running.containers[self.name]

    @property
    def ports(self) -> Mapping[int, int]:
        """Where this machine has its ports, by their numbers in the container."""
        return self._running.ports[self.name]

    @property
    def url(self) -> str:
        """Where this machine reaches its first port: "http://127.0.0.1:32768", "tcp://…" of a service.

        Errors: UsageError where it has no port.
        """
        found = [url for unit, url in self._running.urls() if unit == self.name]
        if not found:
            step = "Name its ports in the manifest: `ports` in [app] or in the service's table."
            raise UsageError(self.name, "listens on no port that this machine reaches", step)
        return found[0]

    def exec(
        self, command: Sequence[str], *, timeout: float = _SECONDS, check: bool = False, user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as its own user: exit code and both streams, as text.

        One that takes longer than `timeout` seconds is ended, and the container with it. Errors: with `check`,
        subprocess.CalledProcessError for another exit code than 0; EngineError.
        """
        done = self._engine.attached(self.id).execute(tuple(command), seconds=timeout, user=user)
        output, errors = (data.decode("utf-8", "replace") for data in (done.output, done.errors))
        code = 124 if done.ended_by or done.exit_code is None else done.exit_code
        found = subprocess.CompletedProcess(list(command), code, output, errors)
        if check:
            found.check_returncode()
        return found

    def logs(self, *, lines: int | None = None) -> str:
        """All that it has said since it was started, or the last lines of that."""
        return "\n".join(self._engine.said(self.id, tail=lines))

    def ended(self) -> str:
        """How it has ended, as a sentence; "" while it runs."""
        found = self._engine.look(self.id) if self.name in self._running.containers else None
        if found is not None and found.state == "running":
            return ""
        how = "went away" if found is None else f"ended with {found.exit_code}"
        return f"{self.name} {how}"


class RunningBox(RunningUnit):
    """The application of the box, and its services beside it."""

    def __init__(self, engine: Engine, running: Running) -> None:
        super().__init__(engine, running, running.stack.application.name)
        self.services = {unit.name: RunningUnit(engine, running, unit.name) for unit in running.stack.services}
        """By their names in the manifest."""

    @property
    def urls(self) -> dict[str, str]:
        """Where this machine reaches what, the first port of each: by the names of units."""
        return dict(reversed(self._running.urls()))

    def restart(self) -> None:
        """Start the application anew, at the same ports, and wait until it is ready; services go on.

        Errors: BootError where it does not become ready, EngineError.
        """
        self._running.bring_again()


@contextlib.contextmanager
def running_box(*, box: str, manifest: Path, environment: str, build: bool, keep: bool) -> Iterator[RunningBox]:
    """Start a box of the manifest and its services for the block; with `keep`, they stay as `boxsnake up` leaves them.

    Ports are any that are free. Errors: those of `boxsnake run`.
    """
    asked = Asked(
        box=box,
        manifest=manifest,
        target=None,
        output=None,
        environment=environment,
        variables=(),
        ports=(),
        mount_source=False,
        libraries=(),
        build=build,
        offline=False,
    )
    engine = connect()
    prepared = _prepared(asked, keep=keep)
    with contextlib.ExitStack() as until:
        if not keep:
            until.enter_context(watched(engine))
        stack, image = until.enter_context(in_engine(engine, prepared, asked))
        if keep:
            remove(engine, stack.id)
        labels = {RUN_LABEL: engine.run} if keep else engine.own_labels()
        with contextlib.ExitStack() as unless_kept:
            unless_kept.callback(engine.remove_labelled, RUN_LABEL, engine.run)
            unless_kept.callback(stop_run, engine)
            terms = terms_of(prepared, image, labels | stack_labels(stack), lambda _unit, _text: None)
            running = start(engine, stack, terms)
            if keep:
                engine.tag(image(), image_name(stack.id))
                unless_kept.pop_all()
            yield RunningBox(engine, running)


def _prepared(asked: Asked, *, keep: bool) -> Prepared:
    """The box, made by one process while the others wait, and its stack under an id that no other has."""
    with Store(Store.default_root()).lock("pytest-box"):
        prepared = prepare(asked)
    stack = prepared.stack
    ports = dict.fromkeys(stack.application.ports, 0)
    # `boxsnake down` finds what is kept by the manifest's own id.
    own = stack if keep else replace(stack, id=f"{stack.id}-{os.getpid()}-{secrets.token_hex(2)}")
    return replace(prepared, stack=own, ports=ports)
