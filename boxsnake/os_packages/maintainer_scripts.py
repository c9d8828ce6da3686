"""dpkg's maintainer scripts, rendered from the files of `rpm/deb/` and from those that RPM's scriptlets are made of.

dpkg calls a script by what happens (deb-preinst(5) and its fellows). A file of `rpm/deb/` answers those calls that are
dpkg's alone, and lets the others go on to the shared text.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from boxsnake.os_packages import scriptlets
from boxsnake.os_packages.nfpm import Scripts
from boxsnake.os_packages.shared_store import FOLDER
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.plan import Hook
from boxsnake.system import NOTHING, System

# By the names of `nfpm.Scripts`: the files in `rpm/` that each is put together from.
_PARTS = {
    "before_install": ("deb/preinst.sh", "before_install.sh", "deb/keep.sh"),
    "after_install": ("deb/postinst.sh", "after_install.sh"),
    "before_remove": ("deb/prerm.sh",),
    "after_remove": ("deb/postrm.sh", "deb/opt.sh", "after_remove.sh"),
}
_ENVIRONMENT_PARTS = {
    "before_install": ("deb/env_preinst.sh", "env/before_install.sh"),
    "after_install": ("deb/env_postinst.sh", "env/after_install.sh"),
    "before_remove": ("env/before_remove.sh", "deb/env_prerm.sh"),
    "after_remove": ("env/after_remove.sh", "deb/opt.sh"),
}
_START = "#!/bin/sh"
_BEFORE = "before=$root/install/before # names the version that was in use before an installation was begun\n"


def scripts(
    layout: Layout,
    *,
    app_version: str,
    needed: int,
    hooks: Sequence[Hook],
    keep: int,
    system: System = NOTHING,
    owns_tree: bool = True,
) -> Scripts:
    """preinst, postinst, prerm and postrm of one version; the values are those of `scriptlets.scripts`."""
    values = scriptlets.assignments(layout, app_version=app_version, needed=needed, keep=keep, owns_tree=owns_tree)
    by_script = {scriptlets.MOMENTS[hook.moment]: hook for hook in hooks}

    def rendered(script: str) -> str:
        hook = scriptlets.hook_function(by_script.get(script))
        texts = (scriptlets.text(name) for name in _PARTS[script])
        return "\n".join((_START, values, hook, scriptlets.functions(system), _BEFORE, *texts))

    return Scripts(**{script: rendered(script) for script in _PARTS})


def environment_scripts(layout: Layout, *, app_version: str, needed: int) -> Scripts:
    """The same of a version's environment, where that is a package of its own."""
    values = scriptlets.assignments(layout, app_version=app_version, needed=needed, keep=0)
    parts = {script: map(scriptlets.text, names) for script, names in _ENVIRONMENT_PARTS.items()}
    shared = scriptlets.shared_text()
    return Scripts(**{script: "\n".join((_START, values, shared, *texts)) for script, texts in parts.items()})


def store_scripts(prefix_root: str) -> Scripts:
    """The same of a package of the store that applications share."""
    return Scripts(
        after_remove=f"{_START}\nroot={shlex.quote(f'{prefix_root}/{FOLDER}')}\n{scriptlets.text('deb/opt.sh')}"
    )
