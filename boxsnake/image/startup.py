"""How an image's processes start: the program, commands by name, an init, and the engine's own check of health."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from boxsnake.errors import PackError
from boxsnake.oci import Healthcheck
from boxsnake.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxsnake.packagers.image import ImageOptions

INIT = "tini"
"""The conda package that brings the init, and its program."""

# Both are run by the box's own interpreter with nothing but the standard library: an image need not have a shell.
_PYTHON_FLAGS = "-ISc"
# It is replaced by the program, which so gets the signals; Python's own way with SIGPIPE must not be inherited.
_LAUNCHER = (
    "import json,os,sys,signal as s;s.signal(s.SIGPIPE,s.SIG_DFL);s.signal(s.SIGXFSZ,s.SIG_DFL);"
    "t=json.loads(sys.argv[1]);a=sys.argv[2:];c=t['commands'].get(a[0]) if a else None;"
    "w=[*c,*a[1:]] if c else [*t['otherwise'],*a];os.execvp(w[0],w)"
)
_PROBE = (
    "import http.client as h,sys;p,u,s,t,e=sys.argv[1:];c=h.HTTPConnection('127.0.0.1',int(p),timeout=float(t));"
    "c.request('GET',u);r=c.getresponse();sys.exit(r.status!=int(s) or e.encode() not in r.read())"
)
_INTERVAL = 30.0
_LONGEST_TRY = 10.0
_TRIES = 3


def check_startup(plan: Plan) -> None:
    """Errors: PackError where an init is wanted that the lock does not have."""
    if plan.options.init and not any(package.name == INIT for package in plan.lock.conda):
        cause = f"is wanted for the image, and the lock has no conda package {INIT}"
        step = f'Add "{INIT}" to `conda` in [requires] and run `boxsnake lock`.'
        raise PackError("init", cause, step, package=INIT)


def started(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and command: the program by its absolute path, and arguments that `docker run` may replace.

    An application without a command is an environment: what is run by default is its interpreter. With commands by
    name, the first argument may be one of them.
    """
    options: ImageOptions = plan.options
    entrypoint, command = _own_words(plan)
    commands = commands_of(plan)
    if commands:
        entrypoint = (*_interpreted(plan, _LAUNCHER), _table(commands, entrypoint))
    if options.init:
        entrypoint = (f"{options.prefix}/bin/{INIT}", "--", *entrypoint)
    return entrypoint, command


def program_of(plan: Plan) -> str:
    """The absolute path of the program that `started` comes to, behind an init and what looks for commands."""
    entrypoint, command = _own_words(plan)
    return (*entrypoint, *command)[0]


def _own_words(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The program and its arguments, parted as entrypoint and command are."""
    options: ImageOptions = plan.options
    words = plan.application.command
    entrypoint = words[:1] if options.entrypoint is None else options.entrypoint
    arguments = words[1:] if options.entrypoint is None else ()
    command = arguments if options.command is None else options.command
    if entrypoint:
        return _absolute(entrypoint, options.prefix), command
    return (), _absolute(command or ("python",), options.prefix)


def commands_of(plan: Plan) -> Mapping[str, tuple[str, ...]]:
    """The application's further commands by name, each with its program's absolute path."""
    return {name: _absolute(words, plan.options.prefix) for name, words in plan.application.commands}


def healthcheck_of(plan: Plan) -> Healthcheck | None:
    """What asks the running image whether it is well: the manifest's first request, where it has one."""
    requests = [check for check in plan.checks if check.http is not None and check.port is not None]
    if not plan.options.healthcheck or not requests:
        return None
    check = requests[0]
    timeout = min(check.timeout, _LONGEST_TRY)
    asked = (str(check.port), check.http or "/", str(check.status), f"{timeout:g}", check.expect or "")
    return Healthcheck(
        test=("CMD", *_interpreted(plan, _PROBE), *asked),
        interval=_INTERVAL,
        timeout=timeout,
        start_period=check.timeout,
        retries=_TRIES,
    )


def _interpreted(plan: Plan, source: str) -> tuple[str, ...]:
    return (f"{plan.options.prefix}/bin/python", _PYTHON_FLAGS, source)


def _table(commands: Mapping[str, tuple[str, ...]], otherwise: tuple[str, ...]) -> str:
    return json.dumps({"commands": commands, "otherwise": otherwise}, sort_keys=True)


def _absolute(words: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    if not words or words[0].startswith("/"):
        return words
    return (f"{prefix}/bin/{words[0]}", *words[1:])
