"""A target: the platform, Python and glibc floor that a box is made for, in the words of each tool that must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from boxsnake.value import dataclass

Platform = Literal["linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)

Interpreter = Literal["conda", "host"]
"""Where the interpreter comes from: the lock's conda half, or the machine that the box is put on."""

DEFAULT_TARGET = "default"
"""The target of a manifest that names none."""

DEFAULT_GLIBC = "2.28"
"""The floor of enterprise Linux 8, the oldest family that still gets updates."""

_UV_ARCHITECTURE = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
_UV_OTHERS = {"osx-64": "x86_64-apple-darwin", "osx-arm64": "aarch64-apple-darwin", "win-64": "x86_64-pc-windows-msvc"}
OCI_PLATFORMS: Mapping[str, tuple[str, str]] = {"linux-64": ("linux", "amd64"), "linux-aarch64": ("linux", "arm64")}
"""Platforms as (os, architecture) of the OCI image specification, by conda's names for them."""
_ARCHSPEC = {
    "linux-64": "x86_64",
    "linux-aarch64": "aarch64",
    "osx-64": "x86_64",
    "osx-arm64": "arm64",
    "win-64": "x86_64",
}
OCI_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Processors as the OCI image specification names them, by what uname(1) calls them."""

_DEBIAN = {"12": (2, 36), "13": (2, 41)}
"""The glibc of Debian's releases, oldest first."""
_DEBIAN_SUITES = {"12": "bookworm", "13": "trixie"}
_DEFAULT_OSX = {"osx-64": "10.15", "osx-arm64": "11.0"}

_LOADERS = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
    "ppc64le": "/lib64/ld64.so.2",
    "s390x": "/lib/ld64.so.1",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """One line of the manifest's `[targets]`: where boxes of this kind will run."""

    name: str
    platform: Platform = "linux-64"
    python: str | None = None
    """A version specifier for Python of this target alone ("3.13.*"); None: the manifest's `requires.python`."""
    glibc: str | None = DEFAULT_GLIBC
    """The lowest glibc that the box will meet; None on platforms without one."""
    interpreter: Interpreter = "conda"

    @property
    def is_linux(self) -> bool:
        """Whether the platform is a Linux with glibc."""
        return self.platform.startswith("linux-")

    @property
    def machine(self) -> str:
        """The CPU as Python's `platform.machine()` and RPM name it ("x86_64", "aarch64")."""
        return _ARCHSPEC[self.platform]

    @property
    def loader(self) -> str:
        """Where glibc's dynamic loader lies on such a Linux, as every program of its ABI names it."""
        return _LOADERS.get(self.machine, "/lib")

    @property
    def oci_platform(self) -> tuple[str, str] | None:
        """(os, architecture) as the OCI image specification names them; None where there are no such images."""
        return OCI_PLATFORMS.get(self.platform)

    @property
    def debian(self) -> str:
        """The oldest Debian release from 12 on that has the glibc floor; the newest known one where none has."""
        floor = tuple(map(int, (self.glibc or DEFAULT_GLIBC).split(".")))
        return next((release for release, glibc in _DEBIAN.items() if glibc >= floor), [*_DEBIAN][-1])

    @property
    def debian_suite(self) -> str:
        """The code name of that release."""
        return _DEBIAN_SUITES[self.debian]

    @property
    def deb_architecture(self) -> str:
        """The CPU as Debian names it."""
        return OCI_ARCHITECTURES[self.machine]

    @property
    def uv_platform(self) -> str:
        """The platform as `uv --python-platform` names it; carries the glibc floor on Linux."""
        if self.is_linux:
            glibc = self.glibc or DEFAULT_GLIBC
            return f"{_UV_ARCHITECTURE[self.platform]}-manylinux_{glibc.replace('.', '_')}"
        return _UV_OTHERS[self.platform]

    @property
    def virtual_packages(self) -> tuple[tuple[str, str, str], ...]:
        """The target's conda virtual packages as (name, version, build string): what its machine brings.

        Never the building machine's. CEP 30 lists them; `__linux` carries a kernel version that no package of
        interest asks for, so the oldest kernel that the glibc floor's systems run stands in.
        """
        archspec = ("__archspec", "1", _ARCHSPEC[self.platform])
        if self.is_linux:
            glibc = self.glibc or DEFAULT_GLIBC
            return (("__unix", "0", "0"), ("__linux", "4.18", "0"), ("__glibc", glibc, "0"), archspec)
        if self.platform in _DEFAULT_OSX:
            return (("__unix", "0", "0"), ("__osx", _DEFAULT_OSX[self.platform], "0"), archspec)
        return (("__win", "0", "0"), archspec)

    def marker_environment(self, python_version: str) -> dict[str, str]:
        """The environment that PEP 508 markers see on this target, for a full Python version such as "3.11.7"."""
        system, os_name, sys_platform = {
            "linux": ("Linux", "posix", "linux"),
            "osx": ("Darwin", "posix", "darwin"),
            "win": ("Windows", "nt", "win32"),
        }[self.platform.partition("-")[0]]
        return {
            "implementation_name": "cpython",
            "implementation_version": python_version,
            "os_name": os_name,
            "platform_machine": {"win-64": "AMD64"}.get(self.platform, self.machine),
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": system,
            "platform_version": "",
            "python_full_version": python_version,
            "python_version": ".".join(python_version.split(".")[:2]),
            "sys_platform": sys_platform,
        }
