"""Sources: the places outside of an index that a wheel can be had from, as values. No I/O but a look at a path."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from boxsnake.errors import Fault, ManifestError
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock import Origin

SourceKind = Literal["folder", "wheel", "sdist", "git"]

_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_GIT_SCHEMES = frozenset({"https", "http", "ssh", "file", "git"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place that a wheel can be had from.

    `location` is an absolute path, or a URL without user and password (of "git" always a URL). `shown` is the place
    as a lock and a message may hold it: a path relative to the manifest's folder, a URL without credentials.
    """

    kind: SourceKind
    location: str = field(repr=False)
    shown: str
    ref: str | None = None
    """Of "git": a branch, tag or commit; None is the repository's default branch."""
    subdirectory: str | None = None
    """The project's folder within the repository or archive."""
    sha256: str | None = None
    """The digest that an archive or wheel must have, bare hex; None where nobody has said."""
    credentials: str | None = field(default=None, repr=False)
    """`user:password` of the URL, as it was written."""

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a URL and not on this machine's disk."""
        return "://" in self.location

    @property
    def file_name(self) -> str:
        """The last part of the place's name."""
        return unquote(urlsplit(self.location).path if self.is_remote else self.location).rpartition("/")[2]


def parse_source(text: str, root: Path, *, manifest: str = "boxsnake.toml", key: str = "app.source") -> Source:
    """The source that a text names: a path (relative to `root`), `file:`, `git+…@ref#subdirectory=…` or a URL.

    Raises ManifestError, whose fault names `manifest` and `key`, where the text names none.
    """
    try:
        if text.startswith("git+"):
            return _git_source(text)
        if text.startswith(("http://", "https://")):
            return _remote_source(text)
        return _local_source(text, root)
    except ValueError as error:
        fault = Fault(source=manifest, line=0, key=key, message=f"{without_credentials(text)}: {error}")
        raise ManifestError(manifest, (fault,)) from None


def source_of(origin: Origin, root: Path) -> Source:
    """The source that a lock's origin names; a git source at its locked commit."""
    if origin.kind == "git":
        source = _git_source(f"git+{origin.url}" if "://" in origin.url else f"git+file://{(root / origin.url)}")
        return dataclasses.replace(source, ref=origin.commit, subdirectory=origin.subdirectory)
    is_url = origin.url.startswith(("http://", "https://"))
    source = _remote_source(origin.url) if is_url else _local_source(origin.url, root)
    digest = None if origin.kind == "folder" else origin.sha256
    return dataclasses.replace(source, subdirectory=origin.subdirectory, sha256=digest)


def _git_source(text: str) -> Source:
    parts = urlsplit(text.removeprefix("git+"))
    if parts.scheme not in _GIT_SCHEMES:
        raise ValueError("git is reached by https, ssh or file URLs")
    path, at, ref = parts.path.rpartition("@")
    path, ref = (path, ref) if at else (parts.path, "")
    if ref.startswith("-") or not (ref.isprintable() and path.isprintable()):
        raise ValueError(f"{ref!r} cannot be a git reference")
    user, _, host = parts.netloc.rpartition("@")
    # With ssh the user's name is part of the address and no secret.
    is_secret = parts.scheme != "ssh" or ":" in user
    location = urlunsplit((parts.scheme, host if is_secret else parts.netloc, path, "", ""))
    return Source(
        kind="git",
        location=location,
        shown=location,
        ref=ref or None,
        subdirectory=_fragment(parts.fragment).get("subdirectory"),
        credentials=unquote(user) if user and is_secret else None,
    )


def _remote_source(text: str) -> Source:
    parts = urlsplit(text)
    user, _, host = parts.netloc.rpartition("@")
    fragment = _fragment(parts.fragment)
    location = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    return Source(
        kind=_kind_of(parts.path),
        location=location,
        shown=without_credentials(location),
        subdirectory=fragment.get("subdirectory"),
        sha256=fragment.get("sha256"),
        credentials=unquote(user) or None,
    )


def _local_source(text: str, root: Path) -> Source:
    fragment: dict[str, str] = {}
    if text.startswith("file:"):
        parts = urlsplit(text)
        text, fragment = unquote(parts.path), _fragment(parts.fragment)
    elif "://" in text:
        raise ValueError("there is no way to fetch this; take https, file, git+https or git+ssh")
    path = Path(posixpath.normpath(posixpath.join(root.absolute().as_posix(), text)))
    if not path.exists():
        raise ValueError("there is no such file or folder")
    kind: SourceKind = "folder" if path.is_dir() else _kind_of(path.name)
    shown = path.as_posix() if text.startswith("/") else posixpath.relpath(path, root.absolute())
    below = fragment.get("subdirectory")
    return Source(kind=kind, location=str(path), shown=shown, subdirectory=below, sha256=fragment.get("sha256"))


def _kind_of(name: str) -> Literal["wheel", "sdist"]:
    if name.endswith(".whl"):
        return "wheel"
    if name.endswith(_ARCHIVES):
        return "sdist"
    raise ValueError(f"is neither a folder nor a wheel nor a source archive ({', '.join(_ARCHIVES)})")


def _fragment(text: str) -> dict[str, str]:
    found = {name: values[-1] for name, values in parse_qs(text).items()}
    below = found.get("subdirectory")
    if below is not None and (below.startswith("/") or ".." in below.split("/")):
        raise ValueError(f"the subdirectory {below!r} leads out of it")
    if "sha256" in found and not _SHA256.fullmatch(found["sha256"]):
        raise ValueError("its sha256 is not 64 hexadecimal digits")
    return found
