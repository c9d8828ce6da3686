"""Check that an installed version is whole and works, without a network.

    python -I -B check.py present|quick|full SUPPORT PREFIX

Run by the interpreter that is checked. SUPPORT/sums, placed-sums and links say which files and links PREFIX holds,
SUPPORT/check.json what must be found in it: distributions with their versions, programs of one of them that must be
importable, and commands that must succeed. `present` looks for the files and distributions alone, `quick` does
everything but read the files. Exit status 0: all is well, 1: it is not, and standard output says what, each fault on a
line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

# What not every installation needs is imported where it is used: it takes longer than all else.

CHUNK = 1 << 20


def main(arguments: list[str]) -> int:
    """Carry out the command line."""
    if len(arguments) != 3 or arguments[0] not in FINDERS:
        sys.stderr.write("usage: check.py present|quick|full SUPPORT PREFIX\n")
        return 2
    support, prefix = Path(arguments[1]), Path(arguments[2])
    faults = all_faults(arguments[0], support, prefix)
    shown = faults[:20] + ([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])
    sys.stdout.write("".join(f"{fault}\n" for fault in shown))
    return 1 if faults else 0


def all_faults(depth: str, support: Path, prefix: Path) -> list[str]:
    """Everything that is wrong with a version."""
    expected = json.loads((support / "check.json").read_text(encoding="utf-8"))
    os.environ.update(expected["environment"])
    os.environ["PATH"] = f"{prefix}/bin:{os.environ.get('PATH', os.defpath)}"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    faults = list(file_faults(support, prefix, read=depth == "full"))
    # What lacks files fails in ways that say less than which files those are.
    for find in () if faults else FINDERS[depth]:
        faults += find(expected)
    return faults


def file_faults(support: Path, prefix: Path, *, read: bool) -> Iterator[str]:
    """Files and links that are missing or are not what they were."""
    lines = (support / "sums").read_text(encoding="utf-8").splitlines()
    if (support / "place.py").exists():
        lines += (support / "placed-sums").read_text(encoding="utf-8").splitlines()
    for line in lines:
        digest, _, name = line.partition("  ")
        place = prefix / name
        try:
            if not stat.S_ISREG(place.lstat().st_mode):
                yield f"{place} is no file"
            elif read and digest_of(place) != digest:
                yield f"{place} has other content than it had"
        except OSError as error:
            yield f"{place}: {error.strerror}"
    for line in (support / "links").read_text(encoding="utf-8").splitlines():
        name, _, target = line.partition("\t")
        try:
            if os.readlink(prefix / name) != target:  # noqa: PTH115 - Path.readlink would shorten "./a" to "a"
                yield f"{prefix / name} leads elsewhere than it did"
        except OSError as error:
            yield f"{prefix / name}: {error.strerror}"


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def distribution_faults(expected: dict) -> Iterator[str]:
    """Distributions that are missing, or there in another version."""
    if not expected["distributions"]:
        return
    from importlib import metadata

    found = {(normalised(one.metadata["Name"]), one.version) for one in metadata.distributions()}
    for name, version in expected["distributions"]:
        if (name, version) not in found:
            there = ", ".join(sorted(its for other, its in found if other == name))
            yield f"{name} {version} is not there" + (f", but {there} is" if there else "")


def normalised(name: str | None) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name or "").lower()


def use_faults(expected: dict) -> Iterator[str]:
    """Programs that cannot be imported, and checks whose command does not do what it must.

    A program that has done what a check wants was imported for that.
    """
    if not expected["checks"] and not expected["programs"]:
        return
    import tempfile

    # What programs keep for their user is no part of an installation, and must not stay behind it.
    with tempfile.TemporaryDirectory() as home:
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            del os.environ[name]
        os.environ["HOME"] = home
        yield from faults_at_home(expected)


def faults_at_home(expected: dict) -> Iterator[str]:
    """The same, by a user whose home is a new one."""
    found = [(check, command_fault(check)) for check in expected["checks"]]
    started = {check["run"][0] for check, fault in found if fault is None and check["exit_code"] == 0}
    yield from program_faults(expected, [name for name in expected["programs"] if name not in started])
    for check, fault in found:
        if fault is not None:
            yield f"the check {check['name']!r} failed: {fault}"


def program_faults(expected: dict, names: list) -> Iterator[str]:
    """Those of the programs whose module or function cannot be imported."""
    if not names:
        return
    from importlib import metadata

    points = {
        point.name: point
        for point in metadata.distribution(expected["application"]).entry_points
        if point.group == "console_scripts"
    }
    for name in names:
        try:
            points[name].load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an application's import raises
            yield f"the command {name} cannot be imported: {type(error).__name__}: {error}"


def command_fault(check: dict) -> str | None:
    """What is wrong with one check's command; None if nothing is."""
    import shutil
    import subprocess
    import tempfile

    program, *arguments = check["run"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [shutil.which(program) or program, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=check["timeout"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it took more than {check['timeout']:g} s"
        except OSError as error:
            return f"{program}: {error.strerror}"
    said = done.stdout.decode("utf-8", "replace")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")[-200:]
    if done.returncode != check["exit_code"]:
        return f"exit status {done.returncode} instead of {check['exit_code']}; it said last: {last}"
    if check["expect"] is not None and check["expect"] not in said:
        return f"{check['expect']!r} is not in what it said, at last: {last}"
    if check["matches"] is not None and not re.search(check["matches"], said, re.MULTILINE):
        return f"nothing that matches {check['matches']!r} is in what it said, at last: {last}"
    return None


ALL = (distribution_faults, use_faults)
FINDERS = {"present": (distribution_faults,), "quick": ALL, "full": ALL}
"""What each depth of the check looks for, beside the files."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
