"""The wheelhouse: every wheel of an application in one folder, which installs itself where there is no network.

<name>-<version>.wheelhouse/
    install.sh, install.py    what installs it
    wheels/                   every wheel of the closure, the application's own too
    pylock.toml               the same as a lock (PEP 751)
    requirements.txt          the same for pip
    house.json                the same for install.py
    hooks/                    the application's own scripts
    SHA256SUMS, README.md
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.archive import Member, file_member, write_tar
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.lock import pylock
from boxsnake.manifest import Section
from boxsnake.manifest.text import Word
from boxsnake.plan import expected
from boxsnake.system import SystemPart
from boxsnake.wheel_closure import check_closure, check_owners, closure_notes, python_host, start_command

if TYPE_CHECKING:
    from boxsnake.lock import Wheel
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_POST_INSTALL = "post-install"
_EXECUTABLE = frozenset({"install.sh", f"hooks/{_POST_INSTALL}"})
_README = """\
# {name} {version}

{summary}

This folder holds everything that {name} needs, for CPython {python} on {machine}{glibc}.
Nothing is downloaded when it is installed.

    sh install.sh --check              # is it whole, and does it fit this machine?
    sh install.sh /opt/{name}          # a virtual environment, replaced in one step
    /opt/{name}/bin/{program}

Or into an environment of your own, with pip:

    python -m pip install --require-hashes -r requirements.txt
{host}"""


class WheelhouseOptions(Section):
    """`[boxes.wheelhouse]`."""

    host_brings: tuple[Word, ...] = ()
    """Conda packages without a wheel that the host is known to bring, such as "openssl"."""


class Wheelhouse:
    """The packager of wheelhouses."""

    name = "wheelhouse"
    summary = "a folder of wheels with an installer, for sites without a network"
    options = WheelhouseOptions
    moments = frozenset({_POST_INSTALL})
    system: frozenset[SystemPart] = frozenset()
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_closure(plan, plan.options.host_brings, box=self.name)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{_folder(plan)}.tar"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        wheels = sorted(plan.wheels, key=lambda wheel: wheel.file_name)
        paths = materials.wheels(wheels)
        check_owners(plan, paths)
        texts = _texts(plan, wheels)
        members = [_member(plan, name, content) for name, content in texts.items()]
        members += [_member(plan, f"wheels/{wheel.file_name}", paths[wheel.file_name]) for wheel in wheels]
        with disk_faults(out), out.open("xb") as stream:
            write_tar(members, stream, epoch=plan.epoch)
        return closure_notes(plan, plan.options.host_brings)

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
                ("sh", f"{house}/{_folder(plan)}/install.sh", prefix),
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


def _folder(plan: Plan) -> str:
    return f"{plan.application.name}-{plan.application.version}.wheelhouse"


def _member(plan: Plan, name: str, source: bytes | Path) -> Member:
    return file_member(posixpath.join(_folder(plan), name), source, executable=name in _EXECUTABLE)


def _texts(plan: Plan, wheels: Sequence[Wheel]) -> dict[str, bytes]:
    """Everything in the house but the wheels, by its path."""
    beside = Path(__file__).parent
    texts = {
        "README.md": _readme(plan),
        "house.json": _house(plan, wheels),
        "install.py": (beside / "_wheelhouse_install.py").read_bytes(),
        "install.sh": _install_script(plan, (beside / "_wheelhouse_install.sh").read_text("utf-8")),
        "pylock.toml": pylock(plan.lock, wheels, folder="wheels").encode(),
        "requirements.txt": _requirements(wheels),
    }
    texts |= {f"hooks/{hook.moment}": hook.content for hook in plan.hooks if hook.moment == _POST_INSTALL}
    return {**texts, "SHA256SUMS": _sums(texts, wheels)}


def _sums(texts: Mapping[str, bytes], wheels: Sequence[Wheel]) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in texts.items()}
    sums |= {f"wheels/{wheel.file_name}": wheel.sha256 for wheel in wheels}
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def _house(plan: Plan, wheels: Sequence[Wheel]) -> bytes:
    house = {
        "name": plan.application.name,
        "version": plan.application.version,
        "python": plan.lock.python_minor,
        "wheels": [{"file": wheel.file_name, "name": wheel.name, "version": wheel.version} for wheel in wheels],
    }
    return json.dumps(house, indent=2, sort_keys=True).encode() + b"\n"


def _requirements(wheels: Sequence[Wheel]) -> bytes:
    lines = [f"{w.name}=={w.version} --hash=sha256:{w.sha256}" for w in sorted(wheels, key=lambda w: w.name)]
    return "\n".join(["--no-index", "--find-links wheels", *lines, ""]).encode()


def _install_script(plan: Plan, template: str) -> bytes:
    values = {"NAME": plan.application.name, "VERSION": plan.application.version, "PYTHON": plan.lock.python_minor}
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
        python=plan.lock.python_minor,
        machine=plan.target.machine,
        glibc=f" with glibc {plan.target.glibc} or newer" if plan.target.glibc else "",
        program=programs[0],
        host=f"\nThe machine itself must bring:\n\n{brings}" if brings else "",
    ).encode()
