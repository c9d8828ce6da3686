"""What a box has to prove once it is installed: each function is one step, and returns the detail of its success.

All raise NotPassedError where the box does not hold what it should.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from packaging.utils import canonicalize_name

from boxsnake.boot.asking import request_of
from boxsnake.boot.box import Box, NotPassedError, because, listed, modules_of, probe, said, shown
from boxsnake.boot_recipe import BootRecipe, Check
from boxsnake.boot_report.value import MEMORY, START
from boxsnake.container import Change
from boxsnake.plain_text import counted, shortened

# In seconds: a start (what runs longer has started), a whole probe.
_START_SECONDS = 20.0
PROBE_SECONDS = 900.0
_LACKS = re.compile(r"No module named '([\w.]+)'")
# What ends the name that a requirement begins with (PEP 508).
_AFTER_NAME = re.compile(r"[^A-Za-z0-9._-]")
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


# Imports


def check_imports(facts: Mapping[str, Any]) -> str:
    """Every module of the top level imports, each in a process of its own."""
    unable = [module for module in facts["imports"] if module["code"] != 0]
    failed = [module for module in unable if not _wants_an_extra(module, facts)]
    if failed:
        first = failed[0]
        others = f"\nand {len(failed) - 1} more: {listed([f['name'] for f in failed[1:]])}" if len(failed) > 1 else ""
        cause = f"import {first['name']} {_ended_as(first, facts)}{because(first['output'])}{others}"
        raise NotPassedError(cause, first["output"])
    note = f"; for extras that nobody asked for: {listed([module['name'] for module in unable])}" if unable else ""
    return f"{counted(len(facts['imports']) - len(unable), 'module')}{note}"


def _wants_an_extra(module: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether a module lacks nothing but what an extra of its distribution requires, which was not asked for.

    What a distribution's modules are called is not known before it is there: mostly as itself, or with more around it.
    """
    lacking = _LACKS.search(module["output"])
    if lacking is None or module["code"] is None:
        return False
    name = canonicalize_name(lacking[1].partition(".")[0])
    there = {canonicalize_name(found) for found, _, _ in facts["distributions"]}
    for text in (text for owner in module["owners"] for text in facts["requires"][owner] if "extra" in text):
        wanted = canonicalize_name(_AFTER_NAME.split(text, maxsplit=1)[0])
        if wanted not in there and (name in wanted or wanted in name):
            return True
    return False


def _ended_as(process: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    if process["late"]:
        return f"was still running after {process['seconds']:.0f} s"
    if process["signal"]:
        starved = " (the box ran out of memory)" if process["signal"] == "SIGKILL" and facts["starved"] else ""
        return f"was ended by {process['signal']}{starved}"
    return f"exited with {process['code']}"


# What starts


def start_scripts(box: Box, facts: Mapping[str, Any]) -> str:
    """Every console script starts, in a run of the box's interpreter for that alone."""
    job = scripts_job(box, facts)
    return judge_scripts(box, probe(box, job, PROBE_SECONDS) if job else {})


def scripts_job(box: Box, facts: Mapping[str, Any], *, with_program: bool = False) -> dict[str, Any] | None:
    """What starts every console script, and the application's program if that is another; None where there is none."""
    expects = box.recipe.expects
    passed_over = set(expects.rules.exempt)
    own = set(expects.console_scripts) - passed_over
    exempt = {name for name, module in facts["programs"] if {name, module.partition(".")[0]} & passed_over}
    names = sorted(own | {name for name, _ in facts["programs"]} - exempt)
    scripts = [(name, name in own) for name in names]
    if with_program and (program := _program_beside(box, names)):
        scripts.append((program, True))
    if not scripts:
        return None
    return {
        "do": "scripts",
        "programs": box.recipe.scripts or "",
        "launcher": [*box.recipe.python, "-c", _LAUNCHER],
        "scripts": scripts,
        "seconds": _START_SECONDS,
    }


def _program_beside(box: Box, names: Collection[str]) -> str:
    """The program that starts the application, where that is none of these scripts of the box, nor its Python."""
    recipe = box.recipe
    program = recipe.program or next(iter(recipe.command), "")
    if not recipe.expects.locked or not recipe.scripts or program in recipe.python:
        return ""
    passed_over = {program, posixpath.basename(program)} & set(recipe.expects.rules.exempt)
    return "" if passed_over or program in {f"{recipe.scripts}/{name}" for name in names} else program


def judge_scripts(box: Box, shown: Mapping[str, Any]) -> str:
    """Every console script starts: the application's own without an error, those of its packages at all."""
    if not shown:
        return "none"
    own = set(box.recipe.expects.console_scripts)
    ended = [script for script in shown["scripts"] if not _has_started(script)]
    failed = [script for script in ended if script["name"] in own or _is_the_boxs_fault(script)]
    if failed:
        first = failed[0]
        others = f"\nand {len(failed) - 1} more: {listed([f['name'] for f in failed[1:]])}" if len(failed) > 1 else ""
        cause = f"{first['name']} --help {_ended_as(first, shown)}{because(first['output'])}{others}"
        raise NotPassedError(cause, first["output"])
    note = f"; with an error of their own: {listed([script['name'] for script in ended])}" if ended else ""
    return f"{len(shown['scripts'])} started{note}"


def commands_job(box: Box) -> dict[str, Any] | None:
    """What starts every command of an image by its name as the image's first argument; None where there is none."""
    names = [name for name in box.recipe.commands if name not in box.recipe.expects.rules.exempt]
    if not names:
        return None
    return {
        "do": "scripts",
        "programs": "",
        "launcher": list(box.entrypoint),
        "scripts": [(name, False) for name in names],
        "seconds": _START_SECONDS,
    }


def judge_commands(shown: Mapping[str, Any]) -> str:
    """Every command of an image starts."""
    if not shown:
        return "none"
    failed = [script for script in shown["scripts"] if not _has_started(script)]
    if failed:
        first = failed[0]
        cause = f"{first['name']} --help {_ended_as(first, shown)}{because(first['output'])}"
        raise NotPassedError(cause, first["output"])
    return f"{listed([script['name'] for script in shown['scripts']])} started"


def _has_started(script: Mapping[str, Any]) -> bool:
    """Whether a program came to life: that it dislikes `--help` or serves for ever does not matter."""
    if script["late"] or script["code"] == 0:
        return True
    return not (_is_the_boxs_fault(script) or "Traceback (most recent call last)" in script["output"])


def _is_the_boxs_fault(script: Mapping[str, Any]) -> bool:
    """Whether a program lacks what no package of it could be blamed for: its interpreter, a library, memory.

    A package's own program may well want a package that nobody has required, and is then of no use anywhere.
    """
    lacks = ("cannot start ", "cannot open shared object file")
    return bool(script["signal"] or script["code"] in _CANNOT_RUN or any(word in script["output"] for word in lacks))


def _script(recipe: BootRecipe, name: str) -> tuple[str, ...]:
    """How an entry point is started."""
    return (f"{recipe.scripts}/{name}",) if recipe.scripts else (*recipe.python, "-c", _LAUNCHER, name)


# The manifest's checks


def run_job(box: Box, check: Check, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What runs a command of the manifest's."""
    argv = _found_in(box, check.run or (), {name for name, _ in facts["programs"]})
    return {"do": "run", "argv": list(argv), "seconds": check.timeout}


def judge_run(check: Check, shown: Mapping[str, Any]) -> str:
    """A command of the manifest's ends as it should and says what it should."""
    ran = shown["ran"]
    command = shlex.join(check.run or ())
    if ran["code"] != check.exit_code:
        wanted = f", not {check.exit_code}" if ran["code"] is not None else ""
        raise NotPassedError(f"`{command}` {_ended_as(ran, shown)}{wanted}{because(ran['output'])}", ran["output"])
    if check.expect is not None and check.expect not in ran["output"]:
        raise NotPassedError(f"`{command}` does not say {check.expect!r}{said(ran['output'])}", ran["output"])
    if check.matches is not None and not re.search(check.matches, ran["output"], re.MULTILINE):
        cause = f"`{command}` says nothing that matches {check.matches!r}{said(ran['output'])}"
        raise NotPassedError(cause, ran["output"])
    return ""


def file_job(check: Check) -> dict[str, Any]:
    """What reads a file."""
    return {"do": "read", "path": check.file}


def judge_file(check: Check, found: Mapping[str, Any]) -> str:
    """A file is there and holds what it should."""
    if found["problem"]:
        raise NotPassedError(f"{check.file}: {found['problem']}")
    if check.expect is not None and check.expect not in found["text"]:
        raise NotPassedError(f"{check.file} does not hold {check.expect!r}{said(found['text'])}", found["text"])
    if check.matches is not None and not re.search(check.matches, found["text"], re.MULTILINE):
        cause = f"{check.file} holds nothing that matches {check.matches!r}{said(found['text'])}"
        raise NotPassedError(cause, found["text"])
    return ""


def _found_in(box: Box, argv: tuple[str, ...], programs: set[str]) -> tuple[str, ...]:
    """A command with its program as the box has it: by its file, or by its entry point where there is no file."""
    if not argv:
        return ()
    if argv[0] in box.recipe.expects.console_scripts or (argv[0] in programs and not box.recipe.scripts):
        return (*_script(box.recipe, argv[0]), *argv[1:])
    if argv[0] == "python" and not box.recipe.scripts:
        return (*box.recipe.python, *argv[1:])
    return argv


def judge_request(box: Box, check: Check, requests: Sequence[Check], served: Mapping[str, Any]) -> str:
    """A request, one of those that one start of the application was asked, is answered as it should be."""
    answer = served["answers"][requests.index(check)]
    if answer["problem"]:
        application = served["application"]
        problem = answer["problem"]
        if problem == "it ended":
            problem = f"the application {_ended_as(application, served)} before it answered"
        started = f"`{shortened(shlex.join(box.command))}`: {_asked_for(check)}"
        body = f"\nits answer: {shown(answer['body'])}" if answer["body"] else ""
        if answer["late"]:
            problem += f" within {check.timeout:g} s, but {answer['late']}: a longer timeout of the check may do"
        times = "once" if answer["tries"] == 1 else f"{answer['tries']} times"
        tried = f" (tried {times} in {answer['seconds']:.1f} s)"
        output = application["output"]
        words = because(output) if answer["problem"] == "it ended" else said(output)
        raise NotPassedError(f"{started}: {problem}{tried}{body}{words}", output)
    if check is requests[-1] and served["died"]:
        ended = _ended_as(served["application"], served)
        output = served["application"]["output"]
        raise NotPassedError(f"the application {ended} after its answers{because(output)}", output)
    note = "; ignored SIGTERM" if check is requests[-1] and served["stopped"] == "KILL" else ""
    load = f", {check.requests} times in {answer['whole']:.1f} s" if check.requests > 1 else ""
    return f"{answer['status'] or 'there'} after {answer['seconds']:.1f} s{load}{note}"


def _asked_for(check: Check) -> str:
    if check.log is not None:
        return "its log"
    return f"port {check.tcp}" if check.tcp is not None else f"GET {check.http} on port {check.port}"


def check_budgets(box: Box, served: Mapping[str, Any]) -> str:
    """What the application took until its first answer, and of memory after the last, is within its budgets."""
    rules = box.recipe.expects.rules
    seconds, memory = figures_of(served).values()
    if rules.start_seconds is not None and seconds > rules.start_seconds:
        raise NotPassedError(f"took {seconds:.1f} s until its first answer, and {rules.start_seconds:g} are allowed")
    if rules.memory is not None and memory > rules.memory:
        raise NotPassedError(f"takes {_megabytes(memory)} of memory, and {_megabytes(rules.memory)} are allowed")
    return f"{seconds:.1f} s until the first answer, {_megabytes(memory)}"


def figures_of(served: Mapping[str, Any]) -> dict[str, float]:
    """What a start has taken: seconds until the first answer, bytes of memory after the last."""
    return {START: served["answers"][0]["seconds"], MEMORY: served["memory"]}


def _megabytes(size: float) -> str:
    return f"{size / (1 << 20):.1f} MB"


def serve_job(box: Box, requests: Sequence[Check]) -> dict[str, Any]:
    """What starts the application, makes the requests and stops it. Raises NotPassedError where that is not known."""
    if not box.command:
        hint = "" if box.recipe.expects.locked else "; name it as `command` in [app] of a TOML file for --checks"
        raise NotPassedError(f"there is no command to start the application with{hint}")
    nameless = [check.name for check in requests if check.http is not None and check.port is None]
    if nameless:
        raise NotPassedError(f"no port to ask: {listed(nameless)}")
    return {
        "do": "serve",
        "argv": list(box.command),
        "requests": [request_of(check) for check in requests],
        "modules": modules_of("boot.asking"),
    }


# What has changed


def check_changes(box: Box, before: frozenset[Change], allowed: Sequence[str], problem: str) -> str:
    """Nothing differs from the host's image but what did `before`, and what lies below the `allowed` paths."""
    after = box.container.changes()
    paths = {change.path for change in after}
    found = [
        change
        for change in after
        if change not in before and not is_below(change.path, allowed) and not _is_passage(box, change, paths, allowed)
    ]
    if found:
        raise NotPassedError(f"{problem}: {listed(_highest(found))}")
    return ""


def _highest(changes: Iterable[Change]) -> list[str]:
    """Changes as people read them: a folder that came or went stands for all in it."""
    inside: dict[Change, int] = {}
    for change in sorted(changes, key=lambda one: one.path.split("/")):
        top = next(reversed(inside), None)
        if top and top.kind == change.kind != "changed" and change.path.startswith(f"{top.path}/"):
            inside[top] += 1
        else:
            inside[change] = 0
    below = {one: f", with {counted(count, 'path')} below it" if count else "" for one, count in inside.items()}
    return [f"{one.path} ({one.kind}{others})" for one, others in below.items()]


def is_below(path: str, prefixes: Iterable[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    return any(path == prefix.rstrip("/") or path.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def _is_passage(box: Box, change: Change, paths: set[str], allowed: Sequence[str]) -> bool:
    """Whether a folder is listed only for what lies in it: that is judged by itself, or allowed."""
    inside = f"{change.path}/"
    if change.kind == "removed":
        return False
    if any(prefix.startswith(inside) for prefix in allowed) and box.container.is_folder(change.path):
        return True
    if change.kind == "added":
        return False
    return any(path.startswith(inside) for path in paths) or box.container.is_folder(change.path)
