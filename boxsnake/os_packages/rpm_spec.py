"""An RPM as a spec and its sources, for those who must build with rpmbuild: the same tree, the same scriptlets.

It is the RPM of `[boxes.rpm]`, only written otherwise, so it is no format of its own with options of its own: it takes
the place of the packager `rpm` (`boxsnake build rpm --spec`).

rpmbuild expands macros in a spec, in lists of files and in scriptlets. Every text reaches it with each `%` doubled.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from boxsnake.archive import Member, write_tar
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError
from boxsnake.os_packages import nfpm, scriptlets
from boxsnake.packagers.rpm import Rpm
from boxsnake.plan import Plan

_TEMPLATE = "template.spec"
_SECTIONS = {
    "before_install": "%pre",
    "after_install": "%post",
    "before_remove": "%preun",
    "after_remove": "%postun",
    "verify": "%verifyscript",
}
_KINDS = {"zstd": "zstdio", "gzip": "gzdio", "xz": "xzdio"}
_XZ_LEVEL = "6"
# Characters that mean nothing to rpmbuild in a list of files. Each other is left to a `*`.
_ODD = re.compile(r"[^A-Za-z0-9_./+@,:=~-]+")
_NO_BREAK_SPACE = "\u00a0"
_DIRECTIVES = {"folder": "%dir ", "ghost": "%ghost ", "config": "%config(noreplace) ", "file": "", "link": ""}


class RpmSpec(Rpm):
    """Writes what the packager `rpm` would, as a tar of a spec and its sources."""

    summary = "the RPM as a spec and its sources, for rpmbuild"
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        if plan.options.split:
            cause = "gives several packages, and `--spec` writes one spec"
            raise PackError("split in [boxes.rpm]", cause, "Take `split` out, or build without --spec.")
        super().check(plan)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{super().file_name(plan).removesuffix('.rpm')}.spec.tar"

    def write(self, package: nfpm.Package, contents: Sequence[nfpm.Content], out: Path, scratch: Path) -> None:
        """See `Rpm.write`."""
        tree = scratch / "tree.tar"
        with disk_faults(tree), tree.open("xb") as stream:
            write_tar((_member(content) for content in contents), stream, epoch=package.time)
        texts = _texts(package, contents)
        folder = out.name.removesuffix(".tar")
        members = [Member(name=f"{folder}/{name}", mode=0o644, source=text.encode()) for name, text in texts.items()]
        members.append(Member(name=f"{folder}/tree.tar", mode=0o644, source=tree))
        with disk_faults(out), out.open("xb") as stream:
            write_tar(members, stream, epoch=package.time)


PACKAGER_OF_SPECS = RpmSpec()


def _texts(package: nfpm.Package, contents: Sequence[nfpm.Content]) -> dict[str, str]:
    """Everything but the tree, by file name."""
    scripts = {field.name: getattr(package.scripts, field.name) for field in fields(package.scripts)}
    files = {f"{name}.scriptlet": _escaped(text) for name, text in scripts.items() if text}
    spec = string.Template(scriptlets.text(_TEMPLATE)).substitute(
        name=package.name,
        time=str(package.time),
        payload=_payload(package.compression),
        tags="\n".join(f"{tag}: {_escaped(value)}" for tag, value in _tags(package) if value),
        sources="\n".join(f"Source{number}: {name}" for number, name in enumerate(files, 2)),
        description="\n".join(_description(package.description)),
        copies=" ".join(f"%{{SOURCE{number}}}" for number in range(1, len(files) + 2)),
        scriptlets="\n".join(f"{_SECTIONS[name]} -f {name}.scriptlet" for name, text in scripts.items() if text),
    )
    return {f"{package.name}.spec": spec, "files.list": "".join(_listed(contents)), **files}


def _tags(package: nfpm.Package) -> Iterator[tuple[str, str]]:
    yield "Name", package.name
    yield "Epoch", str(package.epoch) if package.epoch else ""
    yield "Version", package.version
    yield "Release", package.release
    yield "Summary", package.summary
    yield "License", package.license
    yield "URL", package.homepage
    yield "Vendor", package.vendor
    yield "Packager", package.maintainer
    yield "Group", package.group
    yield "ExclusiveArch", package.architecture
    for prefix in package.prefixes:
        yield "Prefix", prefix
    for requirement in package.requires:
        yield "Requires", requirement


def _description(text: str) -> Iterator[str]:
    """The text's lines.

    One that begins with `%` or `#` gets a no-break space before it: rpmbuild looks for sections, conditions and
    comments in what macros have been expanded in, so that escaping alone does not help.
    """
    for line in text.split("\n"):
        is_special = line.lstrip().startswith(("%", "#"))
        yield f"{_NO_BREAK_SPACE}{_escaped(line)}" if is_special else _escaped(line)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _payload(compression: str) -> str:
    kind, _, level = compression.partition(":")
    return f"w{level or _XZ_LEVEL}.{_KINDS[kind]}"


def _member(content: nfpm.Content) -> Member:
    """What rpmbuild finds at the path. A ghost must be there too, for its mode; it has no content."""
    name = content.path.lstrip("/")
    if content.kind == "folder":
        return Member(name=name, mode=content.mode)
    if _is_link(content):
        return Member(name=name, mode=0o777, link=content.target or ".")
    if content.kind == "ghost":
        return Member(name=name, mode=content.mode, source=b"")
    return Member(name=name, mode=content.mode, source=content.source)


def _is_link(content: nfpm.Content) -> bool:
    """Of ghosts, links alone have all permissions. As a file, one would be in the way of what leads through it."""
    return content.kind == "link" or (content.kind == "ghost" and content.mode == 0o777)


def _listed(contents: Sequence[nfpm.Content]) -> Iterator[str]:
    """The lines of a list of files. A link has no permissions."""
    paths = [content.path for content in contents]
    for content in contents:
        pattern = _ODD.sub("*", content.path)
        if content.kind in {"ghost", "config"} and pattern != content.path:
            _check_alone(pattern, paths)
        mode = "-" if _is_link(content) else f"{content.mode:04o}"
        attributes = f"%attr({mode},{content.owner},{content.group}) "
        yield f"{attributes}{_DIRECTIVES[content.kind]}{pattern}\n"


def _check_alone(pattern: str, paths: Sequence[str]) -> None:
    """Files that a pattern fits are listed in any case; they must only not be taken for something that they are not."""
    fits = re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))
    if sum(1 for path in paths if fits.fullmatch(path)) > 1:
        cause = "its name cannot be told from another's in a spec's list of files"
        raise PackError(pattern, cause, 'Use `payload = "files"`, or build the RPM without --spec.')
