"""RPMs and Debian packages looked into, without rpm and dpkg."""

from __future__ import annotations

import io
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import BinaryIO

from boxsnake.errors import IntegrityError
from boxsnake.inspection.ledger import Ledger
from boxsnake.inspection.members import of_cpio, of_tar, uncompressed
from boxsnake.inspection.packages import rpm_package
from boxsnake.inspection.value import Inspection
from boxsnake.os_packages import rpm_header

_AR_HEAD = 60
_COMPARED = {rpm_header.LESS: "<", rpm_header.GREATER: ">", rpm_header.EQUAL: "="}


def enter_rpm(path: Path, ledger: Ledger) -> Inspection:
    """Enter an RPM's files. Errors: IntegrityError, and those of its compression."""
    tags = rpm_header.read(path)
    package = rpm_package(tags)
    with path.open("rb") as stream:
        stream.seek(rpm_header.payload_start(path))
        ledger.add(of_cpio(uncompressed(stream)))
    names, flags, versions = (
        _row(tags.get(tag)) for tag in (rpm_header.REQUIRE_NAMES, rpm_header.REQUIRE_FLAGS, rpm_header.REQUIRE_VERSIONS)
    )
    needs = {
        _required(str(name), flag, str(version))
        for name, flag, version in zip(names, flags, versions, strict=True)
        if not str(name).startswith(("rpmlib(", "config("))
    }
    return Inspection(
        artifact=str(path),
        format="rpm",
        name=package.name,
        version=package.version,
        platform=str(tags.get(rpm_header.ARCHITECTURE, "")),
        requires=tuple(sorted(needs)),
    )


def _row(value: rpm_header.Value | None) -> tuple[object, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _required(name: str, flag: object, version: str) -> str:
    bits = flag if isinstance(flag, int) else 0
    sign = "".join(text for bit, text in _COMPARED.items() if bits & bit)
    return f"{name} {sign} {version}" if sign and version else name


def enter_deb(path: Path, ledger: Ledger) -> Inspection:
    """Enter a Debian package's files. Errors: IntegrityError, and those of its compression."""
    control = ""
    with path.open("rb") as stream:
        for name, member in _ar(stream, path):
            if name.startswith("control.tar"):
                texts = {one.path: one.read() for one in of_tar(member) if one.path == "control"}
                control = texts.get("control", b"").decode("utf-8", "replace")
            elif name.startswith("data.tar"):
                ledger.add(of_tar(member))
    facts = HeaderParser().parsestr(control)
    if not facts["Package"] or not facts["Version"]:
        raise IntegrityError(str(path), "has no control file that says what it is", "Build or fetch it again.")
    needs = [facts.get(field, "") for field in ("Pre-Depends", "Depends")]
    return Inspection(
        artifact=str(path),
        format="deb",
        name=facts["Package"],
        version=facts["Version"],
        platform=facts.get("Architecture", ""),
        requires=tuple(sorted({one.strip() for line in needs for one in line.split(",") if one.strip()})),
    )


def _ar(stream: BinaryIO, path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """The members of an ar archive (deb(5)), each a stream that is to be read before the next one."""
    stream.seek(8)
    while head := stream.read(_AR_HEAD):
        try:
            name, size = head[:16].decode("ascii").strip().rstrip("/"), int(head[48:58])
        except ValueError:
            raise IntegrityError(str(path), "is no whole Debian package", "Build or fetch it again.") from None
        end = stream.tell() + size + size % 2
        data = stream.read(size)
        if len(data) < size:
            raise IntegrityError(str(path), "is cut off", "Build or fetch it again.")
        yield name, io.BytesIO(data)
        stream.seek(end)
