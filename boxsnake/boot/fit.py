"""Which boxes can be tried on which hosts, and which hosts a box was not made for and has to refuse."""

from __future__ import annotations

import dataclasses
import re

from boxsnake.boot_recipe import Takes
from boxsnake.boot_report.value import REFUSAL, BootReport, Step
from boxsnake.hosts import Host

_MANAGERS: dict[Takes, frozenset[str]] = {"rpm": frozenset({"dnf", "zypper"}), "dpkg": frozenset({"apt"})}
# What a clear refusal speaks of. A dpkg before 1.21.18 cannot read the package before it comes to the C library.
_CLEAR = re.compile(r"glibc|\blibc\b|\blibc6\b|C library|Python|interpreter|unknown compression", re.IGNORECASE)


def lacking(takes: Takes, host: Host) -> str:
    """What the host lacks so that a box cannot even be tried there; "" where it has all."""
    if takes == "python":
        return "" if host.python else "has no Python"
    if takes == "mount":
        return "is a container, which may mount no file system"
    if takes in _MANAGERS and host.package_manager not in _MANAGERS[takes]:
        return f"has no {takes}"
    return ""


def mismatch(takes: Takes, host: Host, glibc: str | None, python: str) -> str:
    """Why a box for that glibc and Python ("3.11") was not made for the host; "" where it was, or nothing is known."""
    kind, _, version = host.libc.partition(" ")
    if glibc is not None and kind != "glibc":
        return f"it has {host.libc} and no glibc"
    if glibc is not None and _numbers(version) < _numbers(glibc):
        return f"it has glibc {version}, and the box is for {glibc} or newer"
    if takes == "python" and python and host.python_version != python:
        return f"it has Python {host.python_version}, and the box is for {python}"
    return ""


def judged(report: BootReport, why: str) -> BootReport:
    """The report of a boot on a host that the box was not made for, `why` telling the reason.

    To work there all the same is fine, and so is a failure that names its cause. What fails in another way leaves
    its user in the dark, and has failed.
    """
    failure = report.failure
    if failure is None:
        return report
    before = report.steps[: report.steps.index(failure)]
    # The first line is the harness's own; what follows is what the box has said.
    clear = next((line.strip() for line in failure.detail.splitlines()[1:] if _CLEAR.search(line)), None)
    if clear is not None:
        refusal = Step(name=REFUSAL, outcome="passed", seconds=failure.seconds, detail=clear)
    else:
        detail = f"does not say why it does not work here: {why}\n{failure.detail}"
        refusal = Step(name=REFUSAL, outcome="failed", seconds=failure.seconds, detail=detail, log=failure.log)
    return dataclasses.replace(report, steps=(*before, refusal))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
