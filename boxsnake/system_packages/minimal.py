"""What a minimal base is made of: glibc and what else is asked for, with all that they need of Debian's packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from boxsnake.apt import private_apt
from boxsnake.disk import disk_faults
from boxsnake.errors import NetworkError
from boxsnake.lock import SystemLock, SystemPackage
from boxsnake.os_packages.deb_requirement import check_deb_requirement
from boxsnake.store import Store
from boxsnake.system_packages.archives import archives_of
from boxsnake.system_packages.debian import line_of, packages_of, pins, system_lock, unsolvable, update
from boxsnake.system_packages.minimal_base import MACHINERY
from boxsnake.system_packages.question import SystemQuestion

_DISTRIBUTION = "debian"
_NEEDED = ("libc6", "libgcc-s1")
# For scripts of packages, which are not run: what they need is taken for installed.
_FOR_SCRIPTS = ("debconf", "dpkg", "init-system-helpers", "install-info", "perl-base", "sensible-utils", "ucf")
_STUB = """\
Package: {name}
Status: install ok installed
Version: 999
Architecture: all
Maintainer: boxsnake
{provides}Description: not there, and not needed

"""


def resolve_minimal(
    question: SystemQuestion,
    *,
    store: Store,
    mirrors: Mapping[str, str],
    kept: Sequence[SystemPackage] = (),
    offline: bool = False,
) -> SystemLock:
    """The packages of a minimal base for the question's target. Errors: as of `resolve_deb`."""
    for requirement in question.deb:
        check_deb_requirement(requirement)
    suite, architecture = question.target.debian_suite, question.target.deb_architecture
    archives = archives_of(_DISTRIBUTION, suite, (), mirrors)
    folder = store.cache_folder("apt") / f"minimal-{suite}-{architecture}"
    with store.lock(f"apt-{folder.name}"), disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        status = folder / "status"
        status.write_text("".join(_stub(name) for name in (*_FOR_SCRIPTS, *sorted(MACHINERY))))
        lines = [line_of(archive, folder) for archive in archives]
        apt = private_apt(folder, lines, architecture, status=status, preferences=pins(kept))
        update(apt, f"the package lists of Debian's {suite}", offline=offline)
        answer = apt.answer("satisfy", "--print-uris", "-y", "-qq", *_NEEDED, *question.deb)
        if answer.code != 0:
            raise unsolvable(question, answer)
        # By themselves: what they depend on is for their scripts.
        nothing = ("-o", "Dir::State::status=/dev/null")
        alone = apt.answer("download", "--print-uris", "-qq", *nothing, *sorted(MACHINERY))
        if alone.code != 0:
            step = "Look at the machine's apt sources and your settings' [mirrors]."
            raise NetworkError(f"packages of Debian's {suite}", alone.errors.strip() or "are not there", step)
        packages = packages_of(apt, answer.output + alone.output, archives)
    return system_lock(question, suite, packages, archives)


def _stub(name: str) -> str:
    return _STUB.format(name=name, provides="Provides: debconf-2.0\n" if name == "debconf" else "")
