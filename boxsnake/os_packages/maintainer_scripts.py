"""dpkg's maintainer scripts, rendered from the files of `rpm/deb/` and from those that RPM's scriptlets are made of.

dpkg calls a script by what happens (deb-preinst(5) and its fellows). A file of `rpm/deb/` answers those calls that are
dpkg's alone, and lets the others go on to the shared text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from boxsnake import resources
from boxsnake.os_packages import scriptlets
from boxsnake.os_packages.nfpm import Scripts
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.plan import Hook
from boxsnake.system import NOTHING, System

# By the names of `nfpm.Scripts`: the files in `rpm/` that each is put together from.
_PARTS = {
    "before_install": ("deb/preinst.sh", "before_install.sh", "deb/keep.sh"),
    "after_install": ("deb/postinst.sh", "after_install.sh"),
    "before_remove": ("deb/prerm.sh",),
    "after_remove": ("deb/postrm.sh", "after_remove.sh"),
}
_BEFORE = "before=$root/install/before # names the version that was in use before an installation was begun\n"


def scripts(
    layout: Layout, *, app_version: str, needed: int, hooks: Sequence[Hook], keep: int, system: System = NOTHING
) -> Scripts:
    """preinst, postinst, prerm and postrm of one version; the values are those of `scriptlets.scripts`."""
    values = scriptlets.assignments(layout, app_version=app_version, needed=needed, keep=keep)
    by_script = {scriptlets.MOMENTS[hook.moment]: hook for hook in hooks}

    def rendered(script: str) -> str:
        hook = scriptlets.hook_function(by_script.get(script))
        texts = (_text(name) for name in _PARTS[script])
        return "\n".join(("#!/bin/sh", values, hook, scriptlets.functions(system), _BEFORE, *texts))

    return Scripts(**{script: rendered(script) for script in _PARTS})


def digest() -> str:
    """The digest of all files of `rpm/deb/` and `rpm/`: part of what decides a package's bytes."""
    found = hashlib.sha256(scriptlets.digest().encode())
    for path in sorted((resources.folder("rpm") / "deb").glob("*.sh")):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _text(name: str) -> str:
    return (resources.folder("rpm") / name).read_text(encoding="utf-8")
