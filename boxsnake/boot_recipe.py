"""How a box is booted, as data: what a packager says and what the boot harness carries out. Values only.

A packager knows its format but starts no container; the harness knows containers but no format. What passes between
them is a `BootRecipe`, and the checks that the manifest asks for.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from boxsnake.value import dataclass

ARTIFACT_HOST = "artifact"
"""The host's name in a recipe whose artifact is itself the image that is started."""

Takes = Literal["rpm", "dpkg", "python", "shell", "mount", "engine"]
"""What a box needs of its host to be installed there: a package manager, a Python, no more than a shell, to be
mounted, which containers may not, or a container engine, as it is an image itself."""


@dataclass(frozen=True, kw_only=True)
class BootRules:
    """What a boot passes over, as it is known and does no harm, and what it holds the application to.

    `exempt` are the top-level modules that do not import (a platform's own, a plug-in of something absent), and the
    programs that do not start. `optional_libraries` are the names of shared libraries, or patterns of names
    ("libtbb.so.*"), that nothing is lost without. `start_seconds` and `memory` (bytes) are the most that the
    application may take until its first answer, and once it has answered all; None for no such budget.
    """

    exempt: tuple[str, ...] = ()
    optional_libraries: tuple[str, ...] = ()
    start_seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a booted box must hold, no more and no less.

    `distributions` are (normalised name, version) of the Python distributions, `conda` (name, version, build) of the
    records in `conda-meta` (empty: not looked at), `console_scripts` the names of the application's own entry points.
    Where it is not `locked`, nobody has said what it holds: what is found is told, and compared with nothing.
    """

    distributions: tuple[tuple[str, str], ...]
    conda: tuple[tuple[str, str, str], ...]
    console_scripts: tuple[str, ...]
    rules: BootRules = field(default_factory=BootRules)
    locked: bool = True


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What an artifact that is a build context (a tar of one folder with a Dockerfile) is built with.

    `base` is the name of the base image that the engine is given as the build argument BASE (None: the context has
    all that it takes); `platform` is (os, architecture).
    """

    base: str | None
    platform: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class BootRecipe:
    """What it takes to boot one artifact.

    `host`: name of the system that it is installed on, or `ARTIFACT_HOST` where the artifact is itself the image.
    `takes`: what any other system must have to be such a host.
    `copies`: (file or folder on this machine, absolute path in the container) pairs.
    `install`, `remove`: commands that must exit 0, run as root.
    `python`: argv prefix of the box's own interpreter; what follows it are the interpreter's own options.
    `scripts`: the folder of the console scripts after the install; None where there is none, and each entry point is
    called through `python`.
    `command`: what starts the application, its program an absolute path. `program`: that program, where an init or a
    launcher comes before it.
    `writes`: path prefixes that installing and running may write. `remains`: path prefixes that may still differ
    from the clean host after the removal.
    `user`: the uid[:gid] as which everything but installing and removing runs; None is the harness's own unprivileged
    uid. `read_only` mounts the root read-only where the artifact is the image; formats that are installed first have
    a writable root, and what they write is judged by `writes`. `context`: the image must be built from the artifact
    first.
    `again`: commands that install it where it is installed already, whole or half; `replace`: where another version is,
    an older or a newer one; `rollback`: that go back to the version before, without its artifact. As root, and none
    where the format has no such way. `isolated`: its programs take no heed of PYTHONPATH and PYTHONHOME.
    `stock`: path prefixes of files that are linked, placed or unpacked elsewhere, and not used where they lie.

    Of artifacts that somebody else has made: `python` is empty where the box need have none of its own; it is looked
    for in an image, and lent otherwise. `borrows`: it is the host's, and so are distributions that the installation
    has not brought. `image`: what the engine calls the image that is booted, where there is no file of it.
    """

    host: str
    copies: tuple[tuple[str, str], ...]
    install: tuple[tuple[str, ...], ...]
    python: tuple[str, ...]
    scripts: str | None
    command: tuple[str, ...]
    remove: tuple[tuple[str, ...], ...]
    writes: tuple[str, ...]
    remains: tuple[str, ...]
    expects: Expected
    takes: Takes = "shell"
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    read_only: bool = True
    program: str = ""
    commands: tuple[str, ...] = ()
    context: BuildContext | None = None
    again: tuple[tuple[str, ...], ...] = ()
    replace: tuple[tuple[str, ...], ...] = ()
    rollback: tuple[tuple[str, ...], ...] = ()
    isolated: bool = False
    stock: tuple[str, ...] = ()
    borrows: bool = False
    image: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the manifest: a command (`run`), something asked of the running application, or a `file`.

    `run` is started as it stands and must exit with `exit_code`; `expect`, where given, must be in its output.
    `http` is a path (`/health`) that must answer `status` on `port` of 127.0.0.1 inside the box; `expect`, where
    given, must be in the body, `matches` is a regular expression for it, `values` are values of its JSON by path, and
    it is asked `requests` times. `tcp` is a port that must be open, `log` a regular expression for what the application
    writes, `file` the absolute path of a file that must be there, with `expect` and `matches` for its text. `timeout`
    is in seconds, for the check as a whole.
    """

    name: str
    run: tuple[str, ...] | None = None
    expect: str | None = None
    exit_code: int = 0
    http: str | None = None
    port: int | None = None
    status: int = 200
    timeout: float = 30.0
    matches: str | None = None
    values: tuple[tuple[str, str | int | float | bool], ...] = ()
    requests: int = 1
    tcp: int | None = None
    log: str | None = None
    file: str | None = None

    @property
    def is_asked(self) -> bool:
        """Whether it is something that the running application is asked."""
        return self.run is None and self.file is None
