"""Scenarios: what may befall a box in its life, each tried on a fresh host of its own.

The usual course of a boot asks whether a box works where it was just installed. A scenario asks whether it does so the
second time, in another's hands, in an odd environment, or after an installation that was cut short. What a format must
be able to do for it, its boot recipe says.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from boxsnake.boot import contents as boot_contents
from boxsnake.boot import proofs as boot_proofs
from boxsnake.boot.box import Box, NotPassedError, because, run_as_root
from boxsnake.boot.course import Steps, brought, copy, use
from boxsnake.boot.runtime import Runtime
from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe, Check
from boxsnake.value import dataclass

UNKNOWN_USER = "54321:54321"
"""A uid and gid that no system has a name for."""

MEMORY_BYTES, PROCESSORS = 512 << 20, 0.5
"""The limits of the scenario of that name."""

_SMALL_BYTES = 4 << 20
_HOSTILE = "/tmp/hostile"  # noqa: S108 - in a container of its own
# What a careless shell profile may name: other people's modules, and libraries that are none.
_HOSTILE_MODULES = ("json", "logging", "sitecustomize", "typing")
_HOSTILE_LIBRARIES = ("libcrypto.so.3", "libexpat.so.1", "libffi.so.8", "libsqlite3.so.0", "libssl.so.3", "libz.so.1")
_SPEAKS_OF_ROOM = re.compile(r"\b(?:space|room|disk)\b|\bneeds \d", re.IGNORECASE)
_KILL_SECONDS = 60.0
# Runs $1 for $0 seconds at most. What apt starts is in sessions of its own, where nothing that is sent to a group
# reaches it: killed is whatever was not there before, until nothing of that is left.
_KILLING = """\
set -- "$1" /proc/[0-9]*
install=$1
shift
timeout -s KILL "$0" sh -c "$install"
status=$?
while [ "$status" -ne 0 ]; do
    left=
    for process in /proc/[0-9]*; do
        case " $* " in
            *" $process "*) ;;
            *) left="$left ${process#/proc/}" ;;
        esac
    done
    [ -n "$left" ] || break
    kill -9 $left
    sleep 0.02
done
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A started box to carry a scenario out on, before anything was copied into it or installed."""

    runtime: Runtime
    steps: Steps
    box: Box
    checks: tuple[Check, ...]
    older: BootRecipe | None = None
    """How an earlier artifact is installed."""


def _no_folders(recipe: BootRecipe) -> Mapping[str, int]:  # noqa: ARG001 - what most scenarios want
    return {}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One of them. `proves` is for people."""

    name: str
    proves: str
    carry_out: Callable[[Trial], None]
    lacking: Callable[[BootRecipe], str] = lambda _: ""
    """What a recipe lacks for it, as the end of a sentence; "" where it has all."""
    takes_older: bool = False
    limits: bool = False
    """Whether it limits memory and processors, which not every runtime can."""
    small: Callable[[BootRecipe], Mapping[str, int]] = _no_folders
    """Folders of the host in memory, with their sizes in bytes."""


def chosen(names: Sequence[str], recipe: BootRecipe, *, older: bool) -> list[Scenario]:
    """The scenarios of these names; of the word `all`, those that the recipe takes, with or without an older artifact.

    Errors: KeyError.
    """
    found = []
    for name in dict.fromkeys(names):
        if name == ALL:
            found += [one for one in SCENARIOS.values() if not one.lacking(recipe) and (older or not one.takes_older)]
        else:
            found.append(SCENARIOS[name])
    return list(dict.fromkeys(found))


ALL = "all"


# What all have in common


def _installed(trial: Trial) -> dict[str, Any]:
    """Install the box and look into it: the facts."""
    steps, box = trial.steps, trial.box
    if box.recipe.copies:
        steps.take("copy", lambda: copy(box))
    if box.recipe.install:
        steps.take("install", lambda: run_as_root(box, box.recipe.install))
    return _looked_into(trial)


def _looked_into(trial: Trial, note: str = "") -> dict[str, Any]:
    facts: dict[str, Any] = {}
    box, unlocked = trial.box, not (trial.steps.failed or trial.box.recipe.expects.locked)
    roots = brought(box, frozenset()) if unlocked else None
    trial.steps.take(f"packages{note}", lambda: boot_contents.check_packages(box, facts, roots=roots))
    return facts


# For every format


def _second_start(trial: Trial) -> None:
    facts = _installed(trial)
    use(trial.steps, trial.box, trial.checks, facts)
    use(trial.steps, trial.box, trial.checks, facts, note=" again")


def _two_at_once(trial: Trial) -> None:
    """Before anything else was started: what unpacks itself does so for both."""
    steps, box = trial.steps, trial.box
    if box.recipe.copies:
        steps.take("copy", lambda: copy(box))
    if box.recipe.install:
        steps.take("install", lambda: run_as_root(box, box.recipe.install))

    def start() -> str:
        none: dict[str, Any] = {"programs": []}
        with ThreadPoolExecutor(2) as pool:
            return "; ".join(pool.map(lambda _: boot_proofs.start_scripts(box, none), range(2)))

    steps.take("entry points, two at once", start)
    use(trial.steps, box, trial.checks, _looked_into(trial), note=" after that")


def _unknown_user(trial: Trial) -> None:
    environment = dict(trial.box.environment) | {"HOME": "/nonexistent"}
    box = dataclasses.replace(trial.box, user=UNKNOWN_USER, environment=environment)
    trial = dataclasses.replace(trial, box=box)
    use(trial.steps, box, trial.checks, _installed(trial))


def _limits(trial: Trial) -> None:
    facts = _installed(trial)

    def limit() -> str:
        trial.box.container.limit(memory=MEMORY_BYTES, processors=PROCESSORS)
        return f"{MEMORY_BYTES >> 20} MB and {PROCESSORS} processors"

    trial.steps.take("limits", limit)
    use(trial.steps, trial.box, trial.checks, facts)


def _no_network(trial: Trial) -> None:
    facts = _installed(trial)
    ways = (
        ("names are not resolved", "socket.getaddrinfo('example.org', 443)"),
        ("addresses are not reached", "socket.create_connection(('192.0.2.1', 443), timeout=5)"),
    )
    for name, call in ways:
        trial.steps.take(name, lambda call=call: _fails(trial.box, call))  # type: ignore[misc]  # mypy infers no default
    use(trial.steps, trial.box, trial.checks, facts)


def _fails(box: Box, call: str) -> str:
    script = f"import socket\ntry:\n    {call}\nexcept OSError as error:\n    print(error)\n    raise SystemExit(7)"
    command = (*box.recipe.python, "-c", script)
    ended = box.container.execute(command, seconds=_KILL_SECONDS, user=box.user, environment=box.environment)
    if ended.exit_code != 7:
        cause = f"the box has a network: {call} went through{because(ended.errors)}"
        raise NotPassedError(cause, ended.errors)
    return ended.output.decode("utf-8", "replace").strip()


def _hostile_environment(trial: Trial) -> None:
    path = trial.box.environment["PATH"]
    variables = {
        "LANG=C": {"LANG": "C", "LC_ALL": "C"},
        "a bad PATH": {"PATH": f"/nonexistent:{_HOSTILE}::{path}"},
    }
    if trial.box.recipe.expects.conda:
        # The host's own Python would be what breaks of it in boxes without one.
        variables["LD_LIBRARY_PATH"] = {"LD_LIBRARY_PATH": _HOSTILE}
    _surrounded_by(trial, variables)


def _python_variables(trial: Trial) -> None:
    _surrounded_by(trial, {"PYTHONPATH": {"PYTHONPATH": _HOSTILE}, "PYTHONHOME": {"PYTHONHOME": "/nonexistent"}})


def _surrounded_by(trial: Trial, variables: Mapping[str, Mapping[str, str]]) -> None:
    """Its programs, and the checks that are commands, among stray files that each of these sets of variables names."""
    facts = _installed(trial)
    trial.steps.take("stray files", lambda: _put_stray_files(trial.box))
    commands = tuple(check for check in trial.checks if check.run is not None)
    for name, values in variables.items():
        box = dataclasses.replace(trial.box, around=values)
        use(trial.steps, box, commands, facts, note=f" with {name}")


def _is_not_isolated(recipe: BootRecipe) -> str:
    return "" if recipe.isolated else "obeys PYTHONPATH and PYTHONHOME, as any Python does"


def _put_stray_files(box: Box) -> str:
    files = {f"{module}.py": f"raise SystemExit('a stray {module} was imported')\n" for module in _HOSTILE_MODULES}
    files |= dict.fromkeys(_HOSTILE_LIBRARIES, "not a library\n")
    # By its own Python: an image need have no shell, and its root cannot be written.
    script = f"import os\nos.mkdir({_HOSTILE!r})\nfor name, text in {files!r}.items():\n"
    script += f"    with open(os.path.join({_HOSTILE!r}, name), 'w') as out:\n        out.write(text)\n"
    command = (*box.recipe.python, "-c", script)
    ended = box.container.execute(command, seconds=_KILL_SECONDS, user=box.user, environment=box.environment)
    if ended.exit_code != 0:
        raise NotPassedError(f"nothing can be written below /tmp{because(ended.errors)}", ended.errors)
    return ""


def _read_only_root(trial: Trial) -> None:
    facts = _installed(trial)
    if trial.steps.failed:
        return
    box = trial.box
    with (
        trial.runtime.image_of(box.container) as image,
        trial.runtime.container(image, environment=box.environment, read_only=True, mounts=box.mounts) as container,
    ):
        use(trial.steps, dataclasses.replace(box, container=container), trial.checks, facts)


def _is_read_only(recipe: BootRecipe) -> str:
    if recipe.host != ARTIFACT_HOST:
        return ""
    return "has a read-only root in any boot" if recipe.read_only else "is run as it is, and may write where it likes"


# For what is installed


def _reinstall(trial: Trial) -> None:
    _installed(trial)
    recipe = trial.box.recipe
    trial.steps.take("install again", lambda: run_as_root(trial.box, recipe.again))
    use(trial.steps, trial.box, trial.checks, _looked_into(trial, " again"))


def _killed_install(trial: Trial) -> None:
    """Killed at once, and at a third and two thirds of the time that it takes as a whole."""
    steps, box = trial.steps, trial.box
    steps.take("copy", lambda: copy(box))
    steps.take("install, killed at once", lambda: _install_killed(box, 0.1))
    steps.take("install again", lambda: run_as_root(box, box.recipe.again))
    steps.take("remove", lambda: run_as_root(box, box.recipe.remove))
    steps.take("copy again", lambda: copy(box))
    steps.take("install", lambda: run_as_root(box, box.recipe.install))
    whole = steps.done[-1].seconds
    for name, share in (("a third", 1 / 3), ("two thirds", 2 / 3)):
        steps.take(f"remove before {name}", lambda: run_as_root(box, box.recipe.remove))
        steps.take(f"copy before {name}", lambda: copy(box))
        seconds = max(0.1, whole * share)
        steps.take(f"install, killed after {name}", lambda seconds=seconds: _install_killed(box, seconds))  # type: ignore[misc]  # mypy infers no default
        steps.take(f"install again after {name}", lambda: run_as_root(box, box.recipe.again))
    use(trial.steps, box, trial.checks, _looked_into(trial))


def _install_killed(box: Box, seconds: float) -> str:
    """Install, and kill that after some time with all that it has started; it may have come to its end before."""
    script = " && ".join(shlex.join(command) for command in box.recipe.install)
    command = ("sh", "-c", _KILLING, f"{seconds:.2f}", script)
    environment = dict(box.environment) | {"HOME": "/root"}
    ended = box.container.execute(command, seconds=seconds + _KILL_SECONDS, user="0:0", environment=environment)
    return f"killed after {seconds:.1f} s" if ended.exit_code else f"had ended after {seconds:.1f} s"


def _full_disk(trial: Trial) -> None:
    steps, box = trial.steps, trial.box
    steps.take("copy", lambda: copy(box))

    def refuse() -> str:
        try:
            run_as_root(box, box.recipe.install)
        except NotPassedError as refusal:
            if not _SPEAKS_OF_ROOM.search(str(refusal)):
                raise NotPassedError(f"does not say that the disk is full: {refusal}") from None
            return str(refusal).partition("\n")[0]
        raise NotPassedError(f"was installed on a disk of {_SMALL_BYTES >> 20} MB, which cannot be")

    steps.take("install on a full disk", refuse)


def _small_disk(recipe: BootRecipe) -> Mapping[str, int]:
    return {posixpath.dirname(recipe.writes[0]): _SMALL_BYTES} if recipe.writes else {}


def _cannot_repair(recipe: BootRecipe) -> str:
    return "" if recipe.again else "is not installed by a program of its own"


# For what takes the place of another version


def _upgrade(trial: Trial) -> None:
    steps, box, older = trial.steps, trial.box, _with_older(trial)
    steps.take("copy the older", lambda: copy(older))
    steps.take("copy", lambda: copy(box))
    clean = frozenset() if steps.failed else frozenset(box.container.changes())
    steps.take("install the older", lambda: run_as_root(older, older.recipe.install))
    steps.take("upgrade", lambda: run_as_root(box, box.recipe.replace))
    use(trial.steps, box, trial.checks, _looked_into(trial))
    steps.take("remove", lambda: run_as_root(box, box.recipe.remove))
    allowed = (*box.recipe.remains, *older.recipe.remains)
    why = "left behind by the removal"
    steps.take("leftovers", lambda: boot_proofs.check_changes(box, clean, allowed, why))


def _downgrade(trial: Trial) -> None:
    facts = _installed(trial)
    older = _with_older(trial)
    trial.steps.take("copy the older", lambda: copy(older))
    trial.steps.take("downgrade", lambda: run_as_root(older, older.recipe.replace))
    trial.steps.take("entry points of the older", lambda: boot_proofs.start_scripts(older, {**facts, "programs": []}))
    trial.steps.take("upgrade again", lambda: run_as_root(trial.box, trial.box.recipe.replace))
    use(trial.steps, trial.box, trial.checks, _looked_into(trial, " again"), note=" again")


def _rollback(trial: Trial) -> None:
    older = _with_older(trial)
    box = trial.box
    trial.steps.take("copy the older", lambda: copy(older))
    trial.steps.take("install the older", lambda: run_as_root(older, older.recipe.install))
    trial.steps.take("copy", lambda: copy(box))
    trial.steps.take("upgrade", lambda: run_as_root(box, box.recipe.replace))
    facts = _looked_into(trial)
    trial.steps.take("rollback", lambda: run_as_root(box, box.recipe.rollback))
    trial.steps.take("entry points of the older", lambda: boot_proofs.start_scripts(box, {**facts, "programs": []}))
    trial.steps.take("upgrade again", lambda: run_as_root(box, box.recipe.replace))
    use(trial.steps, box, trial.checks, _looked_into(trial, " again"))


def _with_older(trial: Trial) -> Box:
    if trial.older is None:
        raise ValueError("the scenario takes an older artifact, and there is none")
    return dataclasses.replace(trial.box, recipe=trial.older)


def _cannot_replace(recipe: BootRecipe) -> str:
    return "" if recipe.replace else "does not take the place of another version"


def _cannot_go_back(recipe: BootRecipe) -> str:
    return "" if recipe.rollback else "keeps no earlier version"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="second-start", proves="it works when it is started again", carry_out=_second_start),
        Scenario(name="two-at-once", proves="two first starts do not harm each other", carry_out=_two_at_once),
        Scenario(name="unknown-user", proves="it works for a uid without a name and a home", carry_out=_unknown_user),
        Scenario(
            name="limits", proves="it works with 512 MB of memory and half a processor", carry_out=_limits, limits=True
        ),
        Scenario(name="no-network", proves="nothing resolves or is reached, and it works", carry_out=_no_network),
        Scenario(
            name="hostile-environment",
            proves="LANG=C, a bad PATH and, for boxes with their own interpreter, stray libraries do not harm it",
            carry_out=_hostile_environment,
        ),
        Scenario(
            name="python-variables",
            proves="PYTHONPATH and PYTHONHOME do not harm its programs",
            carry_out=_python_variables,
            lacking=_is_not_isolated,
        ),
        Scenario(
            name="read-only-root",
            proves="once installed, it works where nothing but /tmp can be written",
            carry_out=_read_only_root,
            lacking=_is_read_only,
        ),
        Scenario(
            name="reinstall", proves="it can be installed over itself", carry_out=_reinstall, lacking=_cannot_repair
        ),
        Scenario(
            name="killed-install",
            proves="an installation that was killed can be done again, and is whole then",
            carry_out=_killed_install,
            lacking=_cannot_repair,
        ),
        Scenario(
            name="full-disk",
            proves="an installation says that there is no room",
            carry_out=_full_disk,
            lacking=_cannot_repair,
            small=_small_disk,
        ),
        Scenario(
            name="upgrade",
            proves="it takes the place of the artifact that --from names, and is removed whole",
            carry_out=_upgrade,
            lacking=_cannot_replace,
            takes_older=True,
        ),
        Scenario(
            name="downgrade",
            proves="that artifact takes its place again, and it that one's",
            carry_out=_downgrade,
            lacking=_cannot_replace,
            takes_older=True,
        ),
        Scenario(
            name="rollback",
            proves="after the upgrade, the version before comes back without its artifact",
            carry_out=_rollback,
            lacking=_cannot_go_back,
            takes_older=True,
        ),
    )
}
"""All scenarios by name, the cheap ones first."""
