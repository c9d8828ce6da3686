"""Where locked files are, as a lock writes it: URLs, and paths relative to the lock for what lies beside it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock.values import Inputs

_FOLDERS_IN = ("requires.channels", "requires.pip", "index")


def file_url(path: str) -> str:
    """The URL of an absolute path, in the one form that is used here."""
    return f"file://{quote(path)}"


def path_of_url(url: str) -> str:
    """The path of a file: URL."""
    return unquote(urlsplit(url).path)


@dataclass(frozen=True, kw_only=True)
class Locations:
    """How a lock in the folder `root` writes file: URLs.

    What lies in the lock's folder, or in a folder that the manifest names by a relative path, is written as a path
    relative to the lock, so that a checkout can be moved; what was named by an absolute path stays where it is.
    """

    root: str | None
    """Absolute; None for a lock that stands by itself, which writes all URLs as they are."""
    folders: tuple[str, ...] = ()
    """Absolute."""

    @classmethod
    def of(cls, root: str | None, inputs: Inputs) -> Locations:
        """The locations of a lock in the folder `root`; the folders are told by the inputs."""
        if root is None:
            return cls(root=None)
        words = {word for what, lines in inputs if what in _FOLDERS_IN for line in lines for word in line.split()}
        relative = sorted(word for word in words if "/" in word and "://" not in word and not word.startswith("/"))
        return cls(root=root, folders=(root, *(posixpath.normpath(posixpath.join(root, name)) for name in relative)))

    def written(self, url: str) -> str:
        """A URL as the lock writes it."""
        if self.root is None or not url.startswith("file://"):
            return url
        path = path_of_url(url)
        if not any(path == folder or path.startswith(f"{folder}/") for folder in self.folders):
            return url
        relative = posixpath.relpath(path, self.root)
        return relative if relative.startswith(".") else f"./{relative}"

    def read(self, text: str) -> str:
        """The URL that the lock's text means."""
        if "://" in text or self.root is None:
            return text
        return file_url(posixpath.normpath(posixpath.join(self.root, text)))
