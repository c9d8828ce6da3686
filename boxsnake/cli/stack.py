"""What `run` and `up` do alike: the artifact and its services prepared, started, and shown."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from packaging.utils import canonicalize_name

from boxsnake.cli.console import Console, printable
from boxsnake.cli.options import about_manifest
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.boxes import Box, Workspace
    from boxsnake.engine import Engine
    from boxsnake.stack.running import Running, Say, Terms
    from boxsnake.stack.value import Stack

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")

_OPTIONS = (
    click.argument("box", default="image", metavar="[BOX]"),
    about_manifest,
    click.option("-t", "--target", help="The target whose box it is (default: the first with one)."),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes are (default: dist, beside it)."),
    click.option("-E", "--environment", default="local", help="Settings of the manifest's [environments] (local)."),
    click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="One more variable."),
    click.option("-p", "--port", "ports", multiple=True, metavar="HERE:PORT", help="Where this machine has a port."),
    click.option("--mount-source", is_flag=True, help="The working copy over the installed application."),
    click.option("--with", "libraries", multiple=True, metavar="LIB=PATH", help="A checkout over that library."),
    click.option("--build", is_flag=True, help="Build the box first; else the one that lies there is started."),
    click.option("--offline", is_flag=True, help="Pull no image, and use nothing that is not in the store already."),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says of the stack to start."""

    box: str
    manifest: Path | None
    target: str | None
    output: Path | None
    environment: str
    variables: tuple[str, ...]
    ports: tuple[str, ...]
    mount_source: bool
    libraries: tuple[str, ...]
    build: bool
    offline: bool


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A box that lies there, and its stack, of which nothing is started yet."""

    box: Box
    workspace: Workspace
    stack: Stack
    secrets: dict[str, dict[str, str]] = field(repr=False)
    ports: dict[int, int]

    @property
    def is_image(self) -> bool:
        """Whether the box is itself the image, or is installed on a host first."""
        from boxsnake.boot_recipe import ARTIFACT_HOST

        return self.box.packager.boot(self.box.plan, self.box.path).host == ARTIFACT_HOST

    @property
    def python(self) -> tuple[str, ...]:
        """The box's own interpreter."""
        return self.box.packager.boot(self.box.plan, self.box.path).python


def about_stacks(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of those that start a stack; it is called with what is `Asked`, and its own."""

    @functools.wraps(function)
    def command(**given: Any) -> None:
        names = Asked.__dataclass_fields__
        function(Asked(**{name: given.pop(name) for name in names}), **given)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def prepare(asked: Asked, *, secrets: bool = True) -> Prepared:
    """The box, built where it is not there, and its stack, with its secrets unless it needs none.

    Errors: UsageError, ManifestError, and those of building.
    """
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.deployment import deployment
    from boxsnake.packagers.image import PACKAGER
    from boxsnake.stack.installed import as_installed
    from boxsnake.stack.plan import changed, environment_of, stack_of

    workspace = open_workspace(asked.manifest, output=asked.output, offline=asked.offline)
    box = _box(workspace, asked)
    loaded = workspace.asked
    # How the application is run is said with its image.
    image = box if box.packager is PACKAGER else workspace.boxes([PACKAGER.name], [box.plan.target.name])[0]
    facts = deployment(loaded.manifest, image.plan)
    stack = stack_of(loaded.manifest, facts, environment=asked.environment, identity=identity_of(loaded.root))
    if box is not image:
        stack = replace(stack, application=as_installed(stack.application, box.packager.boot(box.plan, box.path)))
    stack = changed(stack, environment=_variables(asked.variables))
    stack = with_copies(stack, copies(workspace, box, asked))
    table = environment_of(loaded.manifest, asked.environment)
    file = loaded.root / Path(table.secrets_file).expanduser() if table.secrets_file else None
    return Prepared(
        box=box,
        workspace=workspace,
        stack=stack,
        secrets=_secrets(stack, file) if secrets else {},
        ports=dict(_port(text, stack.application.ports) for text in asked.ports),
    )


def identity_of(root: Path) -> str:
    """A stack's id: that of the folder its manifest lies in."""
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:10]


def _box(workspace: Workspace, asked: Asked) -> Box:
    from boxsnake.boot_recipe import ARTIFACT_HOST
    from boxsnake.errors import UsageError
    from boxsnake.pack import pack
    from boxsnake.packagers import packagers

    if asked.box not in packagers():
        raise UsageError(asked.box, "there is no such format", f"There are {', '.join(packagers())}.")
    box = workspace.boxes([asked.box], [asked.target] if asked.target else [])[0]
    recipe = box.packager.boot(box.plan, box.path)
    if recipe.context or recipe.takes == "mount":
        step = "Run `boxsnake run`, or `boxsnake boot` to try it."
        raise UsageError(asked.box, "cannot be started in a container of a stack", step)
    if recipe.host != ARTIFACT_HOST and (asked.mount_source or asked.libraries):
        raise UsageError("--mount-source and --with", "are for images", "Run `boxsnake run` without a format.")
    if asked.build or not box.path.exists():
        pack(box, workspace.store, workspace.access)
    return box


def copies(workspace: Workspace, box: Box, asked: Asked) -> tuple[tuple[str, str], ...]:
    """What is mounted over the environment's packages, as the command line asks. Errors: UsageError."""
    from boxsnake.errors import UsageError
    from boxsnake.materials import StoreMaterials
    from boxsnake.stack.source import mounts

    if not (asked.mount_source or asked.libraries):
        return ()
    plan = box.plan
    site = f"{plan.options.prefix}/lib/python{plan.lock.python_minor}/site-packages"
    wanted = []
    if asked.mount_source:
        folder = workspace.asked.root / (workspace.asked.manifest.app.source or "")
        if plan.application.wheel is None or not folder.is_dir():
            step = "Name the project's folder as `source` in [app]."
            raise UsageError("--mount-source", "the application is made of no folder here", step)
        wanted.append((plan.application.wheel, folder, "--mount-source"))
    wheels = {wheel.name: wheel for wheel in plan.lock.wheels}
    for text in asked.libraries:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).is_dir():
            raise UsageError(f"--with {text}", "is not LIB=PATH of a folder", "Name a library and its checkout.")
        if canonicalize_name(name) not in wheels:
            raise UsageError(
                f"--with {text}", f"the lock has no library {name}", "See `boxsnake inspect boxsnake.lock`."
            )
        wanted.append((wheels[canonicalize_name(name)], Path(path), f"--with {text}"))
    with StoreMaterials(workspace.store, plan, workspace.access) as materials:
        paths = materials.wheels([wheel for wheel, _, _ in wanted])
        return tuple(
            one for wheel, folder, thing in wanted for one in mounts(paths[wheel.file_name], folder, site, thing=thing)
        )


def with_copies(stack: Stack, copied: tuple[tuple[str, str], ...]) -> Stack:
    """The stack with these over its application's packages."""
    from boxsnake.stack.plan import changed

    if any(target.endswith(".py") for _, target in copied):
        # Byte-code that lies beside an installed module is taken whatever the module says.
        stack = changed(stack, environment={"PYTHONPYCACHEPREFIX": "/tmp/pycache"})  # noqa: S108 - in the container
    return replace(stack, application=replace(stack.application, mounts=copied))


def _variables(texts: tuple[str, ...]) -> dict[str, str]:
    from boxsnake.errors import UsageError

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--env {text}", "is not NAME=VALUE", "Give a name and a value.")
        found[name] = value
    return found


def _port(text: str, known: tuple[int, ...]) -> tuple[int, int]:
    from boxsnake.errors import UsageError

    here, colon, port = text.partition(":")
    numbers = here.isdecimal() and port.isdecimal() and 0 < int(here) < 65536
    if not colon or not numbers:
        raise UsageError(f"--port {text}", "is not HERE:PORT", "Give two numbers, such as 8080:8000.")
    if int(port) not in known:
        there = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--port {text}", f"the application has no port {port}", f"app.ports has {there}.")
    return int(port), int(here)


def _secrets(stack: Stack, file: Path | None) -> dict[str, dict[str, str]]:
    from boxsnake.stack.secrets import secrets_of

    return {
        unit.name: found
        for unit in stack.units
        if (found := secrets_of(unit.secrets, os.environ, file, thing=unit.name))
    }


@contextlib.contextmanager
def in_engine(engine: Engine, prepared: Prepared, asked: Asked) -> Iterator[tuple[Stack, Callable[[], str]]]:
    """The stack with its services' images in the engine, by id, and what waits for the application's and gives its id.

    That one is brought there meanwhile, and has a name of this run for the block.
    """
    from concurrent.futures import ThreadPoolExecutor

    from boxsnake import settings
    from boxsnake.stack.services import prepared as with_image

    instead = settings.load().services
    stack, store = prepared.stack, prepared.workspace.store
    with contextlib.ExitStack() as until, ThreadPoolExecutor(1 + len(stack.services)) as pool:
        image = pool.submit(until.enter_context, image_of(engine, prepared, offline=asked.offline))
        waited = [
            pool.submit(with_image, engine, store, unit, instead, offline=asked.offline) for unit in stack.services
        ]
        yield replace(stack, services=tuple(one.result() for one in waited)), image.result


def terms_of(
    prepared: Prepared, image: Callable[[], str], labels: Mapping[str, str], say: Say, watch: Say | None = None
) -> Terms:
    """What the stack is started with."""
    from boxsnake.stack.running import Terms

    return Terms(
        image=image,
        secrets=prepared.secrets,
        python=(*prepared.python, "-ISc" if prepared.is_image else "-c"),
        labels=labels,
        ports=prepared.ports,
        say=say,
        watch=watch or (lambda _unit, _identity: None),
    )


def image_of(engine: Engine, prepared: Prepared, *, offline: bool) -> AbstractContextManager[str]:
    """Have the box in the engine as an image for the block: its id."""
    from boxsnake.boot.image import loaded
    from boxsnake.stack.installed import installed

    box = prepared.box
    if prepared.is_image:
        return loaded(engine, box.path)
    recipe = box.packager.boot(box.plan, box.path)
    return installed(engine, prepared.workspace.store, recipe, offline=offline)


class Screen:
    """Where lines of several containers go, each with its unit's name, in colour on a terminal."""

    def __init__(self, console: Console, names: tuple[str, ...]) -> None:
        self._console = console
        self._width = max(map(len, names))
        self._colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)}
        self._lock = threading.Lock()

    def line(self, unit: str, text: str) -> None:
        """One line of a unit's."""
        head = click.style(f"{unit:<{self._width}} |", fg=self._colours.get(unit))
        with self._lock:
            self._console.say(f" {text}", before=head)

    def note(self, unit: str, text: str) -> None:
        """One line of our own about a unit."""
        self.line(unit, click.unstyle(printable(text)))


def show_urls(console: Console, running: Running) -> None:
    """Say where this machine reaches what."""
    for unit, url in running.urls():
        console.say(f"{unit}: {url}")
