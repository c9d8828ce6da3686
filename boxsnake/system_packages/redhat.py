"""Red Hat's distributions and their kin: dnf says what a base lacks, in a container of the base with a network."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxsnake import resources
from boxsnake.bases import Base
from boxsnake.container_layers.run import Below, container_of, last_lines
from boxsnake.engine import Container, Finished
from boxsnake.errors import NetworkError, UnsolvableError
from boxsnake.lock import SystemLock, SystemPackage
from boxsnake.store import Blob, Store
from boxsnake.system_packages.question import SystemQuestion
from boxsnake.urls import without_credentials

_FOLDER = "/tmp/boxsnake-resolve"  # noqa: S108 - in a container of ours
_SCRIPT = "resolve-rpms.sh"
_SECONDS = 1800.0
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# The first of a repository's URLs, as `dnf repoinfo` shows them.
_REPOSITORY = re.compile(r"^Repo-id *: (\S+)$.*?^Repo-baseurl *: ([^\s,]+)", re.MULTILINE | re.DOTALL)


def resolve_rpm(
    question: SystemQuestion,
    base: Base,
    release: Mapping[str, str],
    *,
    store: Store,
    kept: Sequence[SystemPackage] = (),
    offline: bool = False,
) -> SystemLock:
    """The packages that a base lacks of what is asked, and all that they need; they are in the store then.

    Weak dependencies are left out; versions of `kept` are taken where they are still to be had. Errors: EngineError
    without an engine, NetworkError when `offline`, UnsolvableError.
    """
    thing = f"requires.rpm on {question.base} ({', '.join(question.rpm)})"
    if offline:
        raise NetworkError(thing, "dnf is to be asked, and nobody may be asked", "Run it without --offline once.")
    held = [f"{package.name}-{package.version}" for package in kept]
    below = Below(layers=base.layers, platform=question.platform)
    with container_of(store, below, thing, network=True) as container, store.scratch("rpms") as folder:
        container.copy(resources.folder("docker") / _SCRIPT, f"{_FOLDER}/{_SCRIPT}")
        ended = _asked(container, [*question.rpm, *held])
        if ended.exit_code != 0 and held:
            ended = _asked(container, question.rpm)
        if ended.exit_code != 0:
            raise _unsolvable(thing, ended)
        container.take(_FOLDER, folder / "answer.tar")
        index, repositories, files = _read(store, folder / "answer.tar")
    roots = {name: without_credentials(url) for name, url in _REPOSITORY.findall(repositories)}
    packages = [_package(line.split(" "), files) for line in sorted(set(index.splitlines())) if line]
    used = {package.archive for package in packages}
    return SystemLock(
        kind="rpm",
        base=question.base,
        suite=" ".join(filter(None, (release.get("ID"), release.get("VERSION_ID")))),
        packages=tuple(sorted(packages, key=lambda package: (package.name, package.architecture))),
        archives=tuple(sorted((name, url) for name, url in roots.items() if name in used)),
    )


def _asked(container: Container, words: Sequence[str]) -> Finished:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ} | {"LC_ALL": "C.UTF-8"}
    command = ("/bin/sh", f"{_FOLDER}/{_SCRIPT}", *words)
    return container.execute(command, seconds=_SECONDS, user="0:0", environment=environment)


def _read(store: Store, archive: Path) -> tuple[str, str, dict[str, Blob]]:
    """What the script has left: its index, its list of repositories, and the packages, which go to the store."""
    texts = {"index": "", "repositories": ""}
    files: dict[str, Blob] = {}
    with tarfile.open(archive) as members:
        for member in members:
            name = member.name.rpartition("/")[2]
            stream = members.extractfile(member) if member.isreg() else None
            if stream is not None and name in texts:
                texts[name] = stream.read().decode("utf-8", "replace")
            elif stream is not None and name.endswith(".rpm"):
                files[name] = store.put_bytes(stream.read())
    return texts["index"], texts["repositories"], files


def _package(words: Sequence[str], files: Mapping[str, Blob]) -> SystemPackage:
    name, version, architecture, repository, path = words
    blob = files[path.rpartition("/")[2]]
    return SystemPackage(
        name=name,
        version=version.removeprefix("0:"),
        architecture=architecture,
        archive=repository,
        path=path,
        sha256=blob.digest.removeprefix("sha256:"),
        size=blob.size,
    )


def _unsolvable(thing: str, ended: Finished) -> UnsolvableError | NetworkError:
    lines = last_lines(ended)
    cause = "dnf finds no solution:\n" + "\n".join(f"  {line}" for line in lines)
    if any("Failed to download metadata" in line or "Curl error" in line for line in lines):
        step = "Check that the engine's containers reach the base's repositories, then run it again."
        return NetworkError(thing, cause, step, output=lines)
    return UnsolvableError(thing, cause, "Correct requires.rpm, or take a base of another release.", output=lines)
