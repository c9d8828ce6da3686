"""What `inspect` and `diff` are given: a path, or a format of the manifest, whose artifact is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxsnake.inspection import Inspection


def artifact_of(word: str, manifest: Path | None, target: str) -> Path:
    """The path. Errors: UsageError, ResourceError where there is no such file."""
    from boxsnake.packagers import packagers

    path = path_of(word)
    if path.exists() or word not in packagers():
        return path
    from boxsnake.cli.workspace import open_workspace

    boxes = open_workspace(manifest, offline=True).boxes([word], [target] if target else [])
    return _made(boxes[0].path, word)


def path_of(word: str) -> Path:
    """A word as a path. Errors: UsageError for an empty one: a shell gives that for a variable that is not set."""
    from boxsnake.errors import UsageError

    if not word:
        raise UsageError("an artifact's name", "is empty", "Name a file or a format; see what variable gave it.")
    return Path(word)


def _made(path: Path, word: str) -> Path:
    from boxsnake.errors import ResourceError

    if not path.exists():
        raise ResourceError(str(path), "there is no such box yet", f"Run `boxsnake build {word}` first.", format=word)
    return path


def facts_of(box: Inspection) -> dict[str, Any]:
    """What is told of a box in JSON, but for its packages and files."""
    return {
        "artifact": box.artifact,
        "format": box.format,
        "name": box.name or None,
        "version": box.version or None,
        "size": box.size,
        "digest": box.digest or None,
        "platform": box.platform or None,
        "python": box.python or None,
        "base": box.base or None,
        "starts": list(box.starts),
        "prefix": f"/{box.prefix}" if box.prefix else None,
        "requires": list(box.requires),
        "notes": list(box.notes),
        "files": {"count": len(box.files), "size": box.installed_size},
    }
