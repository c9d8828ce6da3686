"""What a source's content is: the digest or commit that names it, and its files laid out for a build."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from boxsnake.errors import NetworkError
from boxsnake.lock import Origin, OriginKind
from boxsnake.names import normal
from boxsnake.pattern import pattern
from boxsnake.project import git_source, source_tree
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.credentials import Credentials
    from boxsnake.project.source import Source
    from boxsnake.store import Store

SOURCE_EPOCH = 1577836800
"""2020-01-01T00:00:00Z: the time of all files that a wheel is built of, in seconds since 1970."""

# What a requirement begins with (PEP 508).
_NAME = pattern(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
# Backends that take the version from the repository's history, which is no part of the folder's files.
_READERS_OF_HISTORY = frozenset(
    {"dunamai", "flit-scm", "hatch-vcs", "pbr", "poetry-dynamic-versioning", "setuptools-git-versioning"}
    | {"setuptools-scm", "uv-dynamic-versioning", "vcs-versioning", "versioneer", "versioningit"}
)


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A source whose content is known: what names it, what it is recorded as, and how its files are laid out.

    `lay_out` takes an empty folder for its work and returns the project's folder in it.
    """

    key: Mapping[str, object]
    origin: Origin
    lay_out: Callable[[Path], Path]
    tree: source_tree.SourceTree | None = None
    """The files of a folder."""


def pin(
    store: Store, source: Source, *, without: Sequence[Path], credentials: Credentials | None, offline: bool
) -> Pinned:
    """Find out what a source's content is now; `without` are paths in a folder that are no part of it.

    Raises PackError (a folder that cannot be copied), UnsolvableError (a git reference that does not exist),
    NetworkError, IntegrityError, ResourceError.
    """
    if source.kind == "folder":
        return _pin_folder(store, source, without)
    if source.kind == "git":
        return _pin_git(store, source, offline=offline and not source.location.startswith("file:"))
    return _pin_archive(store, source, credentials, offline=offline)


def _pin_folder(store: Store, source: Source, without: Sequence[Path]) -> Pinned:
    folder = Path(source.location)
    tree = source_tree.tree_of(store, folder, without=without)
    digest = tree.digest
    history: str | None = None
    if _reads_history(folder / (source.subdirectory or "")):
        with store.scratch("git") as scratch:
            history = git_source.history(folder, scratch)

    def lay_out(work: Path) -> Path:
        copy = work / "source"
        copy.mkdir()
        source_tree.copy(folder, tree.files, copy, SOURCE_EPOCH)
        if history is not None:
            git_source.add_history(folder, copy, work)
        return copy

    origin = Origin(kind="folder", url=source.shown, sha256=digest, subdirectory=source.subdirectory)
    key = {"folder": digest, "history": history, "below": source.subdirectory}
    return Pinned(key=key, origin=origin, lay_out=lay_out, tree=tree)


def _pin_git(store: Store, source: Source, *, offline: bool) -> Pinned:
    if offline and not git_source.is_commit(source.ref or ""):
        raise _needs_network(source.shown, f"which commit {source.ref or 'its default branch'} is, only it can tell")
    with store.scratch("git") as scratch:
        commit = git_source.commit_of(
            source.location, source.ref, scratch=scratch, shown=source.shown, credentials=source.credentials
        )

    def lay_out(work: Path) -> Path:
        if offline:
            raise _needs_network(source.shown, f"its commit {commit} is not in the cache")
        out = work / "source"
        git_source.check_out(
            source.location, commit, out, scratch=work, shown=source.shown, credentials=source.credentials
        )
        return out

    origin = Origin(kind="git", url=source.shown, commit=commit, subdirectory=source.subdirectory)
    key = {"git": source.shown, "commit": commit, "below": source.subdirectory}
    return Pinned(key=key, origin=origin, lay_out=lay_out)


def _pin_archive(store: Store, source: Source, credentials: Credentials | None, *, offline: bool) -> Pinned:
    digest, size = bring(store, source, "sdist", credentials=credentials, offline=offline)

    def lay_out(work: Path) -> Path:
        from boxsnake.project.source_archive import unpack

        return unpack(store.path(digest), work / "source", shown=source.shown, epoch=SOURCE_EPOCH)

    bare = digest.removeprefix("sha256:")
    # A sdist is laid out as its specification says; of other archives nothing is known but that they are some.
    kind: OriginKind = "archive" if source.is_remote or source.subdirectory else "sdist"
    origin = Origin(kind=kind, url=source.shown, sha256=bare, size=size, subdirectory=source.subdirectory)
    return Pinned(key={"archive": bare, "below": source.subdirectory}, origin=origin, lay_out=lay_out)


def _reads_history(folder: Path) -> bool:
    """Whether the project's version depends on the repository that it lies in."""
    try:
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        lines = document.get("build-system", {}).get("requires", ())
        found = [_NAME.match(line) for line in lines]
        names = {normal(match[1]) for match in found if match}
        scm = document.get("tool", {}).get("pdm", {}).get("version", {}).get("source") == "scm"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError, TypeError):
        return False
    return bool(names & _READERS_OF_HISTORY) or scm


def bring(
    store: Store,
    source: Source,
    kind: Literal["wheel", "sdist"],
    *,
    credentials: Credentials | None,
    offline: bool,
) -> tuple[str, int]:
    """The digest and size of a wheel or archive, with its bytes in the store: a file of this machine, or fetched.

    Raises NetworkError, IntegrityError, ResourceError.
    """
    if not source.is_remote:
        path = Path(source.location)
        digest = f"sha256:{source.sha256}" if source.sha256 else store.digest_of_file(path)
        if store.intact(digest) is None:
            store.put_file(path, expected=digest)
        return digest, store.path(digest).stat().st_size
    from boxsnake.fetch import Wanted, fetch

    credentials = _credentials(source, credentials)
    if source.sha256 is None:
        if offline:
            raise _needs_network(source.shown, "which bytes it has now, only its server can tell")
        return _fetched_unseen(store, source, credentials)
    wanted = Wanted(name=source.file_name, url=source.location, sha256=source.sha256, size=None, kind=kind)
    path = fetch(store, [wanted], offline=offline, credentials=credentials)[source.sha256]
    return wanted.digest, path.stat().st_size


def _credentials(source: Source, given: Credentials | None) -> Credentials:
    from boxsnake.credentials import Credentials

    if source.credentials is not None:
        parts = urlsplit(source.location)
        own = urlunsplit((parts.scheme, f"{source.credentials}@{parts.netloc}", parts.path, "", ""))
        return Credentials.from_environment(urls=[own])
    return given or Credentials.from_environment()


def _needs_network(shown: str, cause: str) -> NetworkError:
    return NetworkError("offline", f"{shown} cannot be asked, and {cause}", "Run the command once without --offline.")


def _fetched_unseen(store: Store, source: Source, credentials: Credentials) -> tuple[str, int]:
    """Fetch what nobody has said the digest of: it is asked for again each time, until the lock says it."""
    import threading

    from boxsnake.fetch.client import http_client
    from boxsnake.fetch.download import Download, Request
    from boxsnake.fetch.exchange import Patience

    patience = Patience()
    request = Request(name=source.file_name, url=source.location, size=None, limit=4 << 30)
    with http_client(1, patience) as client, store.writer(origin=source.shown) as writer:
        Download(
            client,
            request,
            writer,
            credentials=credentials,
            patience=patience,
            stop=threading.Event(),
            advance=lambda _: None,
        ).run()
    return writer.blob.digest, writer.blob.size
