"""What is at a site already: the wheels of an earlier wheelhouse, or of the lock that it was made from."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from boxsnake.disk import resource_error
from boxsnake.errors import UsageError
from boxsnake.lock_file import read
from boxsnake.value import dataclass

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  wheels/([^/]+\.whl)")
_LONGEST = 16_000_000  # bytes of sums: those of a hundred thousand files


@dataclass(frozen=True, kw_only=True)
class Since:
    """Wheels that need not be carried again, as pairs of file name and SHA-256 (bare hex)."""

    wheels: frozenset[tuple[str, str]]


def read_since(path: Path) -> Since:
    """Read a lock, or a wheelhouse as a folder or a tar.

    Errors: UsageError where it is neither, LockError for a lock that is wrong, ResourceError.
    """
    if path.suffix == ".lock":
        wheels = (wheel for target_lock in read(path).targets for wheel in target_lock.wheels)
        return Since(wheels=frozenset((wheel.file_name, wheel.sha256) for wheel in wheels))
    found = frozenset((match[2], match[1]) for match in map(_LINE.fullmatch, _sums(path).splitlines()) if match)
    if not found:
        raise _no_house(path)
    return Since(wheels=found)


def _sums(path: Path) -> str:
    try:
        if path.is_dir():
            return (path / SUMS).read_text("utf-8")
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.split("/")
                if len(name) == 2 and name[1] == SUMS and member.size <= _LONGEST:
                    stream = archive.extractfile(member)
                    return stream.read().decode("utf-8") if stream else ""
    except FileNotFoundError:
        raise _no_house(path) from None
    except (tarfile.TarError, UnicodeDecodeError):
        raise _no_house(path) from None
    except OSError as error:
        raise resource_error(error, path) from error
    return ""


def _no_house(path: Path) -> UsageError:
    step = "Name a boxsnake.lock, or a wheelhouse: its folder or its tar."
    return UsageError(str(path), "is neither a lock nor a wheelhouse", step, path=str(path))
