"""Booting: an artifact is started on a clean host and has to prove that it is what it should be.

The harness carries out a packager's `BootRecipe` in a container without network, as an unprivileged user wherever the
format allows, and stops at the first thing that does not hold. What a box does wrong is a failed step of the report;
what the runtime or this machine does wrong is an error, and says nothing about the box.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from boxsnake import hosts
from boxsnake.bases import Base
from boxsnake.boot.box import Box, NotPassedError, ending, said
from boxsnake.boot.course import Steps, carry_out
from boxsnake.boot.lent_python import PLACE as LENT
from boxsnake.boot.lent_python import lent_python
from boxsnake.boot.own_python import own_python
from boxsnake.boot.runtime import BaseOf, Runtime
from boxsnake.boot.scenarios import Scenario, Trial
from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe, Check
from boxsnake.boot_report.value import BootReport, Step
from boxsnake.container import INSTALLING, MEMORY_BYTES, Container, Image
from boxsnake.errors import BootError, EngineError, UsageError
from boxsnake.store import Store

UNPRIVILEGED = "10001:10001"
"""The uid and gid of everything that needs no root, unless the recipe or the image names another."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How many times its bytes an artifact takes in the end: it is carried, unpacked, and compressed tenfold at the most.
_RATIO = 12
# In seconds, for the image's own Python to say that it is there.
_GREETING_SECONDS = 60.0


def boot(
    runtime: Runtime,
    store: Store,
    artifact: Path,
    recipe: BootRecipe,
    checks: Sequence[Check],
    *,
    format: str = "",  # noqa: A002 - the report's own word for it
    base_of: BaseOf | None = None,
    traces: Sequence[str] = (),
    scenario: Scenario | None = None,
    older: BootRecipe | None = None,
    note: str = "",
    keep: bool = False,
    offline: bool = False,
    room: AbstractContextManager[object] | None = None,
) -> BootReport:
    """Boot one artifact and report what it has shown. With `keep`, the container of one that fails is left.

    What is left is as it was at the failure: the box is not removed from it. `traces` are paths of the machine that
    made it, which its files must not name. With a `scenario`, that is carried out instead of the usual course; `older`
    is the recipe of an earlier artifact, for those that want one.

    `base_of` finds the base images of build contexts, which boot without one only if they carry their base. `note` is
    what the step tells that starts it. `room` is waited for and held while the box is proven: the start of its
    container and its removal are waiting for the most part.

    Errors: EngineError where the runtime does not answer or goes away, and whatever making the host raises. Several
    threads may boot at once with one runtime.
    """
    if unable := _unable(runtime, recipe, scenario):
        return _not_proven(artifact, recipe, scenario, format, unable)
    steps = Steps(keep=keep)
    with contextlib.ExitStack() as stack:
        box: Box | None = None

        def start() -> str:
            nonlocal box
            try:
                box = stack.enter_context(
                    _started(
                        runtime,
                        store,
                        artifact,
                        recipe,
                        base_of or _no_base,
                        scenario=scenario,
                        keep=keep,
                        offline=offline,
                    )
                )
            except BootError as error:
                raise NotPassedError(f"{error.thing}: {error.cause}") from error
            return note

        steps.take("start", start)
        if box is not None:
            with room or contextlib.nullcontext():
                if scenario is None:
                    carry_out(steps, box, checks, traces)
                else:
                    scenario.carry_out(Trial(runtime=runtime, steps=steps, box=box, checks=tuple(checks), older=older))
                if keep and steps.failed:
                    steps.add(f"kept: {box.container.keep()}")
    name = scenario.name if scenario else ""
    return BootReport(artifact=str(artifact), format=format, host=recipe.host, scenario=name, steps=tuple(steps.done))


def _unable(runtime: Runtime, recipe: BootRecipe, scenario: Scenario | None) -> str:
    """Why this cannot be tried in the runtime; "" where it can."""
    if recipe.context and runtime.no_builds:
        return runtime.no_builds
    return runtime.no_limits if scenario and scenario.limits else ""


def _not_proven(artifact: Path, recipe: BootRecipe, scenario: Scenario | None, word: str, why: str) -> BootReport:
    step = Step(name="start", outcome="skipped", seconds=0.0, detail=f"not proven here: {why}")
    name = scenario.name if scenario else ""
    return BootReport(artifact=str(artifact), format=word, host=recipe.host, scenario=name, steps=(step,))


@contextlib.contextmanager
def _started(
    runtime: Runtime,
    store: Store,
    artifact: Path,
    recipe: BootRecipe,
    base_of: BaseOf,
    *,
    scenario: Scenario | None = None,
    keep: bool,
    offline: bool,
) -> Iterator[Box]:
    is_image = recipe.host == ARTIFACT_HOST
    with contextlib.ExitStack() as stack:
        mounts: list[tuple[str, str]] = []
        lent: tuple[str, ...] = ()
        if not recipe.python:
            folder, lent = lent_python(store)
            mounts.append((str(folder), LENT))
        had: AbstractContextManager[Image]
        if recipe.context:
            had = runtime.built(store, artifact, recipe.context, base_of)
        elif recipe.image:
            had = contextlib.nullcontext(_named(runtime, recipe.image))
        elif is_image:
            had = runtime.artifact(store, artifact)
        else:
            had = runtime.host(store, _host(recipe.host), offline=offline)
        image = stack.enter_context(had)
        user = _user(recipe, image)
        environment = _environment(recipe, image)
        container = stack.enter_context(
            runtime.container(
                image,
                python=lent or (recipe.python if is_image else ()),
                user=user if is_image else "",
                environment=environment,
                read_only=is_image and recipe.read_only,
                small=scenario.small(recipe) if scenario else {},
                memory=MEMORY_BYTES,
                # What will be limited further must have none of its files in memory.
                room=MEMORY_BYTES if scenario and scenario.limits else _room(artifact),
                may_keep=keep,
                # Somebody else's image may start as root and take a user of its own.
                capabilities=() if is_image and recipe.expects.locked else INSTALLING,
                mounts=mounts,
            )
        )
        if lent:
            own = own_python(container, image, user, environment, lent) if is_image else ()
            recipe = dataclasses.replace(recipe, python=own or lent)
        elif is_image:
            _greet(container, recipe, user, environment)
        yield Box(
            container=container,
            recipe=recipe,
            user=user,
            folder=image.folder,
            environment=environment,
            # What the image says itself is what will be started in production.
            command=(image.entrypoint + image.command if is_image else ()) or recipe.command,
            entrypoint=image.entrypoint if is_image else (),
            is_lent=bool(lent) and recipe.python == lent,
            mounts=tuple(mounts),
        )


def _room(artifact: Path) -> int:
    """How many bytes an artifact takes that is copied and installed, unpacks itself and writes, as a rule."""
    files = artifact.rglob("*") if artifact.is_dir() else [artifact]
    return _RATIO * sum(path.stat().st_size for path in files if path.is_file())


def _named(runtime: Runtime, name: str) -> Image:
    image = runtime.image(name)
    if image is None:
        raise EngineError(f"image {name}", "it went away from the engine", "Run the command again.")
    return image


def _user(recipe: BootRecipe, image: Image) -> str:
    """As whom everything runs that needs no root."""
    if recipe.user or recipe.host != ARTIFACT_HOST:
        return recipe.user or UNPRIVILEGED
    if image.user in {"", "0", "root"}:
        return UNPRIVILEGED if recipe.expects.locked else "0:0"
    return image.user


def _no_base(name: str, platform: tuple[str, str]) -> Base:
    raise UsageError(f"base image {name}", f"nobody was named who has it for {'/'.join(platform)}", "Give `base_of`.")


def _greet(container: Container, recipe: BootRecipe, user: str, environment: Mapping[str, str]) -> None:
    """See that the image's own Python starts at all: nothing else can be asked without it."""
    command = (*recipe.python, "-c", "")
    ended = container.execute(command, seconds=_GREETING_SECONDS, user=user, environment=environment)
    if ended.exit_code != 0:
        cause = f"{ending(ended)}{said(ended.output + ended.errors)}"
        raise BootError(f"`{shlex.join(recipe.python)}`", cause, "Build the image again.")


def _host(name: str) -> hosts.Host:
    known = hosts.load_hosts()
    if name not in known:
        step = f"There are {', '.join(known)}; others can be defined in the folder that your settings name."
        raise UsageError(f"host {name}", "there is no such host", step, hosts=list(known))
    return known[name]


def _environment(recipe: BootRecipe, image: Image) -> dict[str, str]:
    """What production has: the image's own variables and the recipe's, a PATH with the box's scripts, a home."""
    found = {"PATH": _PATH, "HOME": "/tmp"} | dict(image.environment) | dict(recipe.environment)  # noqa: S108 - in the box
    if recipe.scripts and recipe.scripts not in found["PATH"].split(":"):
        found["PATH"] = f"{recipe.scripts}:{found['PATH']}"
    return found
