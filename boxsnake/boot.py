"""Booting: an artifact is started on a clean host and has to prove that it is what it should be.

The harness carries out a packager's `BootRecipe` in a container without network, as an unprivileged user wherever the
format allows, and stops at the first thing that does not hold. What a box does wrong is a failed step of the report;
what the engine or this machine does wrong is an error, and says nothing about the box.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, canonicalize_version

from boxsnake import boot_image, hosts
from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe, Check
from boxsnake.boot_report import BootReport, Step
from boxsnake.engine import INSTALLING, MEMORY_BYTES, Change, Container, Engine, Finished, Image, sleeper
from boxsnake.errors import BootError, UsageError
from boxsnake.store import Store
from boxsnake.urls import redact

UNPRIVILEGED = "10001:10001"
"""The uid and gid of everything that needs no root, unless the recipe or the image names another."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# In seconds: a command that installs or removes, an import, a start (what runs longer has started), a whole probe.
_INSTALL_SECONDS = 900.0
_IMPORT_SECONDS = 60.0
_START_SECONDS = 20.0
_PROBE_SECONDS = 900.0
_MARGIN_SECONDS = 30.0
_SHOWN_LINES = 12
_SHOWN_COLUMNS = 300
_SHOWN_NAMES = 8
# The exit codes by which shells and env(1) say that a program cannot be run, or is not there.
_CANNOT_RUN = (126, 127)
# Where there is no folder of scripts, an entry point is called as its script would call it.
_LAUNCHER = """\
import importlib.metadata, sys
name = sys.argv[1]
sys.argv = [name, *sys.argv[2:]]
points = [p for d in importlib.metadata.distributions() for p in d.entry_points]
found = [p for p in points if p.group == "console_scripts" and p.name == name]
if not found:
    sys.exit(f"cannot start {name}: there is no such entry point")
sys.exit(found[0].load()())
"""


class _NotPassedError(Exception):
    """A step did not pass; the text says why."""


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A started container with what is needed to run things in it as they would run in production."""

    container: Container
    recipe: BootRecipe
    user: str
    folder: str
    environment: Mapping[str, str]
    command: tuple[str, ...]


class _Steps:
    """The steps of one boot, in order: after a failure the others are skipped, except those that clean up."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.failed = False

    def take(self, name: str, verb: Callable[[], str], *, anyway: bool = False) -> None:
        """Carry out one step, timed; the verb gives the detail of success, or raises _NotPassedError."""
        if self.failed and not anyway:
            self.done.append(Step(name=name, outcome="skipped", seconds=0.0, detail=""))
            return
        started = time.monotonic()
        try:
            detail, failed = verb(), False
        except _NotPassedError as reason:
            detail, failed = str(reason), True
        self.failed = self.failed or failed
        seconds = time.monotonic() - started
        self.done.append(Step(name=name, outcome="failed" if failed else "passed", seconds=seconds, detail=detail))


def boot(  # the recipe and the checks are all that a format has to say
    engine: Engine,
    store: Store,
    artifact: Path,
    recipe: BootRecipe,
    checks: Sequence[Check],
    *,
    format: str = "",  # noqa: A002 - the report's own word for it
    keep: bool = False,
    offline: bool = False,
) -> BootReport:
    """Boot one artifact and report what it has shown. With `keep`, its container is left for people to look into.

    Errors: EngineError where the engine does not answer or goes away, and whatever making the host raises. Several
    threads may boot at once with one engine.
    """
    steps = _Steps()
    with contextlib.ExitStack() as stack:
        box: _Box | None = None

        def start() -> str:
            nonlocal box
            try:
                box = stack.enter_context(_started(engine, store, artifact, recipe, keep=keep, offline=offline))
            except BootError as error:
                raise _NotPassedError(f"{error.thing}: {error.cause}") from error
            return f"kept as container {box.container.id[:12]}" if keep else ""

        steps.take("start", start)
        if box is not None:
            _carry_out(steps, box, checks)
    return BootReport(artifact=str(artifact), format=format, host=recipe.host, steps=tuple(steps.done))


@contextlib.contextmanager
def _started(
    engine: Engine, store: Store, artifact: Path, recipe: BootRecipe, *, keep: bool, offline: bool
) -> Iterator[_Box]:
    is_image = recipe.host == ARTIFACT_HOST
    with contextlib.ExitStack() as stack:
        if is_image:
            identity = stack.enter_context(boot_image.loaded(engine, artifact))
        else:
            identity = hosts.image_id(engine, store, _host(recipe.host), offline=offline)
        image = _image(engine, identity)
        user = recipe.user or (image.user if is_image and image.user not in {"", "0", "root"} else UNPRIVILEGED)
        environment = _environment(recipe, image)
        container = stack.enter_context(
            engine.container(
                identity,
                sleep=sleeper(recipe.python if is_image else ()),
                user=user if is_image else "",
                environment=environment,
                read_only=is_image and recipe.read_only,
                memory=MEMORY_BYTES,
                keep=keep,
                capabilities=() if is_image else INSTALLING,
            )
        )
        if is_image:
            _greet(container, recipe, user, environment)
        yield _Box(
            container=container,
            recipe=recipe,
            user=user,
            folder=image.folder,
            environment=environment,
            # What the image says itself is what will be started in production.
            command=(image.entrypoint + image.command if is_image else ()) or recipe.command,
        )


def _greet(container: Container, recipe: BootRecipe, user: str, environment: Mapping[str, str]) -> None:
    """See that the image's own Python starts at all: nothing else can be asked without it."""
    command = (*recipe.python, "-c", "")
    ended = container.execute(command, seconds=_START_SECONDS, user=user, environment=environment)
    if ended.exit_code != 0:
        cause = f"{_ending(ended)}{_said(ended.output + ended.errors)}"
        raise BootError(f"`{shlex.join(recipe.python)}`", cause, "Build the image again.")


def _host(name: str) -> hosts.Host:
    known = hosts.load_hosts()
    if name not in known:
        step = f"There are {', '.join(known)}; others can be defined in the folder that your settings name."
        raise UsageError(f"host {name}", "there is no such host", step, hosts=list(known))
    return known[name]


def _image(engine: Engine, identity: str) -> Image:
    image = engine.image(identity)
    if image is None:
        raise BootError(f"image {identity}", "it is not in the engine", "Run the command again.")
    return image


def _environment(recipe: BootRecipe, image: Image) -> dict[str, str]:
    """What production has: the image's own variables and the recipe's, a PATH with the box's scripts, a home."""
    found = {"PATH": _PATH, "HOME": "/tmp"} | dict(image.environment) | dict(recipe.environment)  # noqa: S108 - in the box
    if recipe.scripts and recipe.scripts not in found["PATH"].split(":"):
        found["PATH"] = f"{recipe.scripts}:{found['PATH']}"
    return found


def _carry_out(steps: _Steps, box: _Box, checks: Sequence[Check]) -> None:
    """Every step after the start, in order."""
    recipe = box.recipe
    if recipe.copies:
        steps.take("copy", lambda: _copy(box))
    clean = frozenset() if steps.failed else frozenset(box.container.changes())
    if recipe.install:
        steps.take("install", lambda: _run_as_root(box, recipe.install))
    installed = not steps.failed
    facts: dict[str, Any] = {}
    steps.take("packages", lambda: _check_packages(box, facts))
    steps.take("imports", lambda: _check_imports(facts))
    if recipe.expects.console_scripts:
        steps.take("entry points", lambda: _start_scripts(box))
    _take_checks(steps, box, checks)
    steps.take("writes", lambda: _check_changes(box, clean, recipe.writes, "written outside of the declared paths"))
    if recipe.remove:
        # A box that fails may be removable all the same, and then says so; one that is not installed has nothing to.
        steps.take("remove", lambda: _run_as_root(box, recipe.remove), anyway=installed)
        removed = installed and steps.done[-1].outcome == "passed"
        why = "left behind by the removal"
        steps.take("leftovers", lambda: _check_changes(box, clean, recipe.remains, why), anyway=removed)


# Installing and removing


def _copy(box: _Box) -> str:
    for source, target in box.recipe.copies:
        box.container.copy(Path(source), target)
    return ""


def _run_as_root(box: _Box, commands: Iterable[tuple[str, ...]]) -> str:
    environment = dict(box.environment) | {"HOME": "/root"}
    for command in commands:
        ended = box.container.execute(command, seconds=_INSTALL_SECONDS, user="0:0", environment=environment)
        if ended.exit_code != 0 or ended.ended_by:
            raise _NotPassedError(f"`{shlex.join(command)}` {_ending(ended)}{_said(ended.output + ended.errors)}")
    return ""


def _ending(ended: Finished) -> str:
    if ended.ended_by == "timeout":
        return f"was still running after {ended.seconds:.0f} s"
    if ended.ended_by == "memory":
        return "was killed by the kernel: it took more memory than the box has"
    return f"exited with {ended.exit_code}"


# What is in the box


def _check_packages(box: _Box, facts: dict[str, Any]) -> str:
    job = {"do": "inspect", "exempt": list(box.recipe.expects.exempt), "seconds": _IMPORT_SECONDS}
    facts.update(_probe(box, job, _PROBE_SECONDS))
    expects = box.recipe.expects
    found = _normal((name, version) for name, version, _ in facts["distributions"])
    wanted = _normal(expects.distributions)
    faults = _differences("distribution", wanted, found)
    if expects.conda:
        records = Counter((name, f"{version} {build}") for name, version, build in facts["conda"])
        faults += _differences(
            "conda package", Counter((name, f"{version} {build}") for name, version, build in expects.conda), records
        )
    if faults:
        raise _NotPassedError("\n".join(faults))
    conda = f", {len(expects.conda)} conda packages" if expects.conda else ""
    return f"{len(expects.distributions)} distributions{conda}, Python {facts['python']}"


def _normal(distributions: Iterable[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Names and versions as they compare (PEP 503, PEP 440)."""
    return Counter(
        (str(canonicalize_name(name)), str(canonicalize_version(version, strip_trailing_zero=False)))
        for name, version in distributions
    )


def _differences(what: str, wanted: Counter[tuple[str, str]], found: Counter[tuple[str, str]]) -> list[str]:
    """Tell two sets of (name, version) apart, as sentences: missing, of another version, not expected, found twice."""
    missing, surplus = dict((wanted - found).keys()), dict((found - wanted).keys())
    others = sorted(missing.keys() & surplus.keys() - {name for name, _ in wanted & found})
    twice = sorted({name for name, count in Counter(name for name, _ in found.elements()).items() if count > 1})
    sentences = (
        ("missing", [f"{name} {version}" for name, version in sorted(missing.items()) if name not in others]),
        ("of another version", [f"{name} {surplus[name]} instead of {missing[name]}" for name in others]),
        ("found twice", twice),
        (
            "not expected",
            [f"{name} {version}" for name, version in sorted(surplus.items()) if name not in {*others, *twice}],
        ),
    )
    return [f"{what} {problem}: {_listed(names)}" for problem, names in sentences if names]


def _check_imports(facts: Mapping[str, Any]) -> str:
    failed = [facts for facts in facts["imports"] if facts["code"] != 0]
    if failed:
        first = failed[0]
        others = f"\nand {len(failed) - 1} more: {_listed([f['name'] for f in failed[1:]])}" if len(failed) > 1 else ""
        raise _NotPassedError(f"import {first['name']} {_ended_as(first, facts)}{_said(first['output'])}{others}")
    return f"{len(facts['imports'])} modules"


def _ended_as(process: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    if process["late"]:
        return f"was still running after {process['seconds']:.0f} s"
    if process["signal"]:
        starved = " (the box ran out of memory)" if process["signal"] == "SIGKILL" and facts["starved"] else ""
        return f"was ended by {process['signal']}{starved}"
    return f"exited with {process['code']}"


# What starts


def _start_scripts(box: _Box) -> str:
    names = box.recipe.expects.console_scripts
    # What all have in common is told once: one argument of a program holds 128 KiB at most.
    scripts = [(name, _script(box.recipe, name)) for name in names]
    job = {
        "do": "scripts",
        "start": scripts[0][1][:-1],
        "scripts": [(name, argv[-1]) for name, argv in scripts],
        "seconds": _START_SECONDS,
    }
    facts = _probe(box, job, _PROBE_SECONDS)
    exempt = set(box.recipe.expects.exempt)
    failed = [script for script in facts["scripts"] if not _has_started(script) and script["name"] not in exempt]
    if failed:
        first = failed[0]
        others = f"\nand {len(failed) - 1} more: {_listed([f['name'] for f in failed[1:]])}" if len(failed) > 1 else ""
        raise _NotPassedError(f"{first['name']} --help {_ended_as(first, facts)}{_said(first['output'])}{others}")
    return f"{len(names)} started"


def _has_started(script: Mapping[str, Any]) -> bool:
    """Whether a program came to life: that it dislikes `--help` or serves for ever does not matter."""
    if script["late"] or script["code"] == 0:
        return True
    return not (
        script["signal"]
        or script["code"] in _CANNOT_RUN
        or "Traceback (most recent call last)" in script["output"]
        or "cannot start" in script["output"]
    )


def _script(recipe: BootRecipe, name: str) -> tuple[str, ...]:
    """How an entry point is started."""
    return (f"{recipe.scripts}/{name}",) if recipe.scripts else (*recipe.python, "-c", _LAUNCHER, name)


# The manifest's checks


def _take_checks(steps: _Steps, box: _Box, checks: Sequence[Check]) -> None:
    """Commands one by one; requests all of one start of the application."""
    served: dict[str, Any] = {}
    requests = [check for check in checks if check.http is not None]
    for check in checks:
        verb = _run_check if check.http is None else _request_check
        steps.take(f"check: {check.name}", lambda verb=verb, check=check: verb(box, check, requests, served))  # type: ignore[misc]


def _run_check(box: _Box, check: Check, _requests: Sequence[Check], _served: Mapping[str, Any]) -> str:
    argv = check.run or ()
    if argv and argv[0] in box.recipe.expects.console_scripts:
        argv = (*_script(box.recipe, argv[0]), *argv[1:])
    facts = _probe(box, {"do": "run", "argv": list(argv), "seconds": check.timeout}, check.timeout)
    ran = facts["ran"]
    shown = shlex.join(check.run or ())
    if ran["code"] != check.exit_code:
        wanted = f", not {check.exit_code}" if ran["code"] is not None else ""
        raise _NotPassedError(f"`{shown}` {_ended_as(ran, facts)}{wanted}{_said(ran['output'])}")
    if check.expect is not None and check.expect not in ran["output"]:
        raise _NotPassedError(f"`{shown}` does not say {check.expect!r}{_said(ran['output'])}")
    return ""


def _request_check(box: _Box, check: Check, requests: Sequence[Check], served: dict[str, Any]) -> str:
    if not served:
        served.update(_serve(box, requests))
    answer = served["answers"][requests.index(check)]
    if answer["problem"]:
        application = served["application"]
        problem = answer["problem"]
        if problem == "it ended":
            problem = f"the application {_ended_as(application, served)} before it answered"
        started = f"`{shlex.join(box.command)}`: GET {check.http} on port {check.port}"
        body = f"\nits answer: {_shown(answer['body'])}" if answer["body"] else ""
        tried = f" after {answer['seconds']:.1f} s and {answer['tries']} tries"
        raise _NotPassedError(f"{started}: {problem}{tried}{body}{_said(application['output'])}")
    if check is requests[-1] and served["died"]:
        ended = _ended_as(served["application"], served)
        raise _NotPassedError(f"the application {ended} after its answers{_said(served['application']['output'])}")
    note = "; ignored SIGTERM" if check is requests[-1] and served["stopped"] == "KILL" else ""
    return f"{answer['status']} after {answer['seconds']:.1f} s{note}"


def _serve(box: _Box, requests: Sequence[Check]) -> dict[str, Any]:
    if not box.command:
        raise _NotPassedError("there is no command to start the application with")
    nameless = [check.name for check in requests if check.port is None]
    if nameless:
        raise _NotPassedError(f"no port to ask: {_listed(nameless)}")
    asked = [
        {"path": c.http, "port": c.port, "status": c.status, "expect": c.expect, "timeout": c.timeout} for c in requests
    ]
    job = {"do": "serve", "argv": list(box.command), "requests": asked}
    return _probe(box, job, sum(check.timeout for check in requests))


# The probe


def _probe(box: _Box, job: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Have the box's own interpreter do a job (see boot_probe.py) and tell the facts."""
    nonce = secrets.token_hex(16)
    source = Path(__file__).with_name("boot_probe.py").read_text(encoding="utf-8")
    text = json.dumps({**job, "nonce": nonce, "environment": dict(box.environment), "folder": box.folder})
    command = (*box.recipe.python, "-c", source, text)
    ended = box.container.execute(
        command,
        seconds=seconds + _MARGIN_SECONDS,
        user=box.user,
        environment=box.environment,
        folder=box.folder,
    )
    for line in reversed(ended.output.decode("utf-8", "replace").splitlines()):
        if line.startswith(f"{nonce} "):
            facts: dict[str, Any] = json.loads(line.removeprefix(nonce))
            return facts
    python = shlex.join(box.recipe.python)
    raise _NotPassedError(f"the box's own Python (`{python}`) {_ending(ended)}{_said(ended.output + ended.errors)}")


# What has changed


def _check_changes(box: _Box, before: frozenset[Change], allowed: Sequence[str], problem: str) -> str:
    after = box.container.changes()
    paths = {change.path for change in after}
    found = [
        f"{change.path} ({change.kind})"
        for change in after
        if change not in before and not _is_below(change.path, allowed) and not _is_passage(box, change, paths, allowed)
    ]
    if found:
        raise _NotPassedError(f"{problem}: {_listed(found)}")
    return ""


def _is_below(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix.rstrip("/") or path.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def _is_passage(box: _Box, change: Change, paths: set[str], allowed: Sequence[str]) -> bool:
    """Whether a folder is listed only for what lies in it: that is judged by itself, or allowed."""
    inside = f"{change.path}/"
    if change.kind == "removed":
        return False
    if any(prefix.startswith(inside) for prefix in allowed) and box.container.is_folder(change.path):
        return True
    if change.kind == "added":
        return False
    return any(path.startswith(inside) for path in paths) or box.container.is_folder(change.path)


# Text for people


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_shown(name) for name in names[:_SHOWN_NAMES])
    return f"{shown} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else shown


def _said(output: str | bytes) -> str:
    """The last lines of an output, as the end of a sentence."""
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    lines = [line for line in redact(text).splitlines() if line.strip()][-_SHOWN_LINES:]
    return "".join(f"\n  {_shown(line)}" for line in lines)


def _shown(text: str) -> str:
    """Text from a box, which may hold anything, as it may be shown."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return line if len(line) <= _SHOWN_COLUMNS else f"{line[:_SHOWN_COLUMNS]}…"
