"""The wheelhouse: every wheel of an application in one folder, which installs itself where there is no network.

<name>-<version>.wheelhouse/
    install.sh, install.py    what installs it
    wheels/                   every wheel of the closure, the application's own too, and its metadata
    simple/                   the same as a package index, for a web server
    pylock.toml               the same as a lock (PEP 751)
    requirements.txt          the same for pip
    house.json                the same for install.py
    hooks/                    the application's own scripts
    SHA256SUMS, README.md

A delta is the same folder without the wheels that an earlier house has. Completed from that house, by install.sh, it
is the whole house, file for file.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake import inventory
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.forecast import AS_THEY_ARE, packed
from boxsnake.house_index import index_pages
from boxsnake.house_since import SUMS, Since
from boxsnake.lock.pylock import pylock, shared_pylock
from boxsnake.manifest import SharedBox
from boxsnake.manifest.text import Word
from boxsnake.needs import Step
from boxsnake.pins import markers, pins, unique_wheels
from boxsnake.plan import expected
from boxsnake.system import SystemPart
from boxsnake.value import dataclass
from boxsnake.wheel_closure import check_closure, check_owners, closure_notes, python_host, start_command

if TYPE_CHECKING:
    from boxsnake.forecast import Forecast
    from boxsnake.lock import Wheel
    from boxsnake.packagers import Materials
    from boxsnake.plan import Part, Plan

_POST_INSTALL = "post-install"
_BESIDE_WHEELS, _FOR_EACH = 80_000, 6_500
"""What a house has beside its wheels, and with each of them, about, in bytes."""
_EXECUTABLE = frozenset({"install.sh", f"hooks/{_POST_INSTALL}"})
_README = """\
# {name} {version}

{summary}

This folder holds everything that {name} needs, for

{targets}

Nothing is downloaded when it is installed.

    sh install.sh --verify             # is it whole?
    sh install.sh --check              # does it fit this machine?
    sh install.sh /opt/{name}          # a virtual environment, replaced in one step
    /opt/{name}/bin/{program}

Without a shell, on Windows for one, a Python of the version above does the same:

    python install.py FOLDER

Into an environment of your own, with pip:

    python -m pip install --require-hashes -r requirements.txt

For many machines, this folder on any web server is a package index:

    python -m pip install --index-url https://SERVER/THIS-FOLDER/simple/ {name}
{host}"""
_DELTA_README = """\
This is a delta: it leaves out the wheels that an earlier wheelhouse has, the lines of DELTA. Complete it first, from
that one's folder:

    sh install.sh --from EARLIER-WHEELHOUSE
"""


@dataclass(frozen=True, kw_only=True)
class WheelhouseOptions(SharedBox):
    """`[boxes.wheelhouse]`."""

    host_brings: tuple[Word, ...] = ()
    """Conda packages without a wheel that the host is known to bring, such as "openssl"."""


class Wheelhouse:
    """The packager of wheelhouses; with `since`, of what one has beyond an earlier one."""

    def __init__(self, since: Since | None = None) -> None:
        self._since = since

    name = "wheelhouse"
    summary = "a folder of wheels with an installer, for sites without a network"
    options = WheelhouseOptions
    step: Step = "wheels"
    moments = frozenset({_POST_INSTALL})
    system: frozenset[SystemPart] = frozenset()
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_closure(plan, plan.options.host_brings, box=self.name)
        pins(plan.parts)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{self._folder(plan)}.tar"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"since": None if self._since is None else sorted(self._since.wheels)}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        wheels = unique_wheels(plan.parts)
        paths = materials.wheels(wheels)
        check_owners(plan, paths)
        there = frozenset[tuple[str, str]]() if self._since is None else self._since.wheels
        carried = [wheel for wheel in wheels if (wheel.file_name, wheel.sha256) not in there]
        left = [wheel.file_name for wheel in wheels if wheel not in carried]
        texts = _texts(plan, wheels, paths)
        if left:
            # Not under the sums, which are those of the whole house; what completes it removes them.
            texts["DELTA"] = "".join(f"{name}\n" for name in left).encode()
            texts["README-DELTA.md"] = _DELTA_README.encode()
        folder = self._folder(plan)
        members = [_member(folder, name, content) for name, content in texts.items()]
        members += [_member(folder, f"wheels/{wheel.file_name}", paths[wheel.file_name]) for wheel in carried]
        with disk_faults(out), out.open("xb") as stream:
            write_tar(members, stream, epoch=plan.epoch)
        notes = closure_notes(plan, plan.options.host_brings)
        if self._since is not None:
            notes.append(f"{len(carried)} of {len(wheels)} wheels: the earlier house has the others")
        return notes

    def _folder(self, plan: Plan) -> str:
        name = f"{plan.application.name}-{plan.application.version}.wheelhouse"
        return name if self._since is None else f"{name}-delta"

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        return ("its venv module", *sorted(plan.options.host_brings))

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        notes = closure_notes(plan, plan.options.host_brings)
        archives = inventory.wheels(plan, materials.store)
        own = _BESIDE_WHEELS + _FOR_EACH * len(archives)
        return packed(archives, AS_THEY_ARE, own=own, notes=notes)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        prefix = f"/opt/{plan.application.name}"
        house = "/tmp/house"  # noqa: S108 - in a container of its own
        archive = f"{house}/{artifact.name}"
        return BootRecipe(
            host=python_host(plan),
            takes="python",
            copies=((str(artifact), archive),),
            install=(
                ("tar", "-xf", archive, "-C", house),
                ("sh", f"{house}/{self._folder(plan)}/install.sh", prefix),
            ),
            python=(f"{prefix}/bin/python",),
            scripts=f"{prefix}/bin",
            command=start_command(plan, f"{prefix}/bin"),
            remove=(("rm", "-rf", prefix, house),),
            writes=(prefix, house),
            remains=(),
            expects=expected(plan, conda=False),
            environment=plan.application.environment,
        )


PACKAGER = Wheelhouse()


def _member(folder: str, name: str, source: bytes | Path) -> Member:
    return file_member(posixpath.join(folder, name), source, executable=name in _EXECUTABLE)


def _texts(plan: Plan, wheels: Sequence[Wheel], paths: Mapping[str, Path]) -> dict[str, bytes]:
    """Everything in the house but the wheels, by its path."""
    beside = Path(__file__).parent
    texts = {
        "README.md": _readme(plan),
        "house.json": _house(plan),
        "install.py": (beside / "_wheelhouse_install.py").read_bytes(),
        "install.sh": _install_script(plan, (beside / "_wheelhouse_install.sh").read_text("utf-8")),
        "pylock.toml": _pylock(plan).encode(),
        "requirements.txt": _requirements(plan),
        **index_pages(wheels, paths),
    }
    texts |= {f"hooks/{hook.moment}": hook.content for hook in plan.hooks if hook.moment == _POST_INSTALL}
    return {**texts, SUMS: _sums(texts, wheels)}


def _sums(texts: Mapping[str, bytes], wheels: Sequence[Wheel]) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in texts.items()}
    sums |= {f"wheels/{wheel.file_name}": wheel.sha256 for wheel in wheels}
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def _house(plan: Plan) -> bytes:
    targets = [
        {
            "name": part.target.name,
            "python": part.lock.python_minor,
            "wheels": [
                {"file": wheel.file_name, "name": wheel.name, "version": wheel.version}
                for wheel in sorted(part.wheels, key=lambda wheel: wheel.file_name)
            ],
        }
        for part in plan.parts
    ]
    house = {"name": plan.application.name, "version": plan.application.version, "targets": targets}
    return json.dumps(house, indent=2, sort_keys=True).encode() + b"\n"


def _pylock(plan: Plan) -> str:
    if not plan.others:
        return pylock(plan.lock, plan.wheels, folder="wheels")
    lowest = min(_minors(plan), key=lambda minor: [int(part) for part in minor.split(".")])
    return shared_pylock(pins(plan.parts), markers(plan.parts), python=lowest, folder="wheels")


def _requirements(plan: Plan) -> bytes:
    lines = [
        " ".join([pin.requirement, *(f"--hash=sha256:{wheel.sha256}" for wheel in pin.wheels)])
        for pin in pins(plan.parts)
    ]
    return "\n".join(["--no-index", "--find-links wheels", *lines, ""]).encode()


def _minors(plan: Plan) -> list[str]:
    return list(dict.fromkeys(part.lock.python_minor for part in plan.parts))


def _install_script(plan: Plan, template: str) -> bytes:
    values = {"NAME": plan.application.name, "VERSION": plan.application.version, "PYTHON": " ".join(_minors(plan))}
    values["EITHER"] = " or ".join(_minors(plan))
    for key, value in values.items():
        # Between single quotes: to the shell nothing in there has a meaning but a quote.
        template = template.replace(f"'@{key}@'", "'" + value.replace("'", "'\\''") + "'")
    return template.encode()


def _readme(plan: Plan) -> bytes:
    application = plan.application
    programs = [*application.command[:1], *application.console_scripts[:1], "python"]
    brings = "".join(f"- {name}\n" for name in sorted(plan.options.host_brings))
    return _README.format(
        name=application.name,
        version=application.version,
        # Metadata may hold line breaks where its specification has none.
        summary=" ".join(application.summary.split()),
        targets="\n".join(_described(part) for part in plan.parts),
        program=programs[0],
        host=f"\nThe machine itself must bring:\n\n{brings}" if brings else "",
    ).encode()


def _described(part: Part) -> str:
    """One target as a line of the README."""
    target = part.target
    system = {"linux": "Linux", "osx": "macOS", "win": "Windows"}[target.platform.partition("-")[0]]
    glibc = f" with glibc {target.glibc} or newer" if target.glibc else ""
    return f"- CPython {part.lock.python_minor} on {system}, {target.machine}{glibc}"
