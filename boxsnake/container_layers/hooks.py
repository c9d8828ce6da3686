"""The hooks of images: run once, when the image is built.

What an image has no moment for (it is never removed as a package is) is not run. An image holds one version, so the
folder of all versions is the environment's own, and no version was there before.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from boxsnake.hook_script import hook_text, interpreter_of_hook

if TYPE_CHECKING:
    from boxsnake.container_layers.run import Job
    from boxsnake.plan import Application, Hook

FIRST = "pre-install"
MOMENTS = frozenset({FIRST, "post-install"})
"""Before the environment's layers are there, and on top of all of them."""

_FOLDER = "/tmp/boxsnake-hook"  # noqa: S108 - in a container of ours


def hook_job(hook: Hook, application: Application, prefix: str, environment: tuple[tuple[str, str], ...]) -> Job:
    """What running a hook is, for `made_layer`.

    `environment` is that of the image's processes. Errors: PackError for a hook that is no text, or whose interpreter
    is not there yet.
    """
    from boxsnake.container_layers.run import Job

    text = hook_text(hook).encode()
    python = f"{prefix}/bin/python"
    words = interpreter_of_hook(hook) or (python, "-B")
    told = {
        "BOXSNAKE_ACTION": "install",
        "BOXSNAKE_NAME": application.name,
        "BOXSNAKE_OLD_VERSION": "",
        "BOXSNAKE_PREFIX": prefix,
        "BOXSNAKE_ROOT": prefix,
        "BOXSNAKE_VERSION": application.version,
        "HOME": "/root",
    }
    return Job(
        title=f"the {hook.moment} hook ({hook.file_name})",
        layer=f"{hook.moment} hook",
        command=(*words, f"{_FOLDER}/{hook.file_name}"),
        environment=tuple(sorted((dict(environment) | told).items())),
        files=lambda: {hook.file_name: text},
        folder=_FOLDER,
        content=hashlib.sha256(text).hexdigest(),
        python="" if hook.moment == FIRST else python,
    )
