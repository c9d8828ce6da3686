"""What can go wrong, as one class for each exit code that a caller can tell apart.

Every error names the thing, the cause and the next step, and carries its data. Only the command line prints it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from boxsnake.value import dataclass


class BoxsnakeError(Exception):
    """The root of all errors that are somebody else's fault than ours.

    `thing` is what failed (a file, package, URL without credentials, format), `cause` why, `next_step` what its
    reader can do now. `data` holds the same facts for machines (`--json`): plain JSON values, no secret.
    """

    exit_code: ClassVar[int]
    kind: ClassVar[str]

    def __init__(self, thing: str, cause: str, next_step: str, **data: object) -> None:
        super().__init__(thing, cause, next_step)
        self.thing = thing
        self.cause = cause
        self.next_step = next_step
        self.data = data

    def __str__(self) -> str:
        return f"{self.thing}: {self.cause}\n{self.next_step}"


class UsageError(BoxsnakeError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2
    kind = "usage"


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """One fault of a file: its line (1-based, 0 where it has none), the key or text at fault, and what is wrong."""

    source: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ManifestError(BoxsnakeError):
    """A manifest, requirements file or environment file is wrong. Carries all of its faults, not only the first."""

    exit_code = 3
    kind = "manifest"

    def __init__(
        self, source: str, faults: tuple[Fault, ...], next_step: str = "Correct the lines named above."
    ) -> None:
        self.faults = tuple(sorted(faults))
        listing = "\n".join(f"  {fault}" for fault in self.faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__(source, f"{count}\n{listing}", next_step, faults=[asdict(fault) for fault in self.faults])


class UnsolvableError(BoxsnakeError):
    """The requirements have no solution for the target."""

    exit_code = 4
    kind = "no-solution"


class LockError(BoxsnakeError):
    """The lock is missing, stale or contradicts itself."""

    exit_code = 5
    kind = "lock"


class NetworkError(BoxsnakeError):
    """A server or an index did not give what it should have; trying again may help."""

    exit_code = 6
    kind = "network"


def network_step(text: str) -> str:
    """What can be done about a failure that another tool tells of in these words."""
    if "certificate" in text.lower():
        return "Name your own certificate authority in SSL_CERT_FILE, and check the clock of this machine."
    return "Try again, or look at proxy and network."


class IntegrityError(BoxsnakeError):
    """Bytes are not those that were promised, or an archive is not safe to unpack."""

    exit_code = 7
    kind = "integrity"


class ResourceError(BoxsnakeError):
    """The machine at hand lacks something: disk, permission, a tool, a lock that another process holds."""

    exit_code = 8
    kind = "resource"


class PackError(BoxsnakeError):
    """The box cannot be packed: two owners of one path, a tool that failed, a package that does not fit the format."""

    exit_code = 9
    kind = "pack"


class BootError(BoxsnakeError):
    """The box was packed, but it does not boot."""

    exit_code = 10
    kind = "boot"


class EngineError(BoxsnakeError):
    """No container engine answers and no sandbox can be had, or it went away: nothing was learnt about the box."""

    exit_code = 11
    kind = "engine"


class PolicyError(BoxsnakeError):
    """A rule that the user or boxsnake set refuses this: an untrusted script, a weak hash, a size budget."""

    exit_code = 12
    kind = "policy"
