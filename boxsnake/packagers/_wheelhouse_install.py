"""Installs the wheelhouse that this file lies in. Run by install.sh; needs nothing but a Python of the right version.

    python install.py --check            does the house fit this machine?
    python install.py --verify           is it whole?
    python install.py PREFIX             make PREFIX a virtual environment with everything in it
    python install.py --from OLD …       complete a delta house from the earlier one that it was made against

It reads house.json beside it. Everything is put together in a hidden folder beside PREFIX, which then takes PREFIX's
place in one step. On Windows, and with --pip, the environment's own pip installs, in PREFIX itself: programs there
hold their place. Specifications: the binary distribution format (PEP 427), virtual environments (PEP 405), RECORD
(PEP 376), platform tags (PEP 600).
"""

from __future__ import annotations

import argparse
import base64
import compileall
import configparser
import csv
import ctypes
import hashlib
import importlib.util
import io
import json
import os
import platform
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

House = dict[str, Any]  # what house.json holds
Target = dict[str, Any]  # one of its targets: a Python, and the wheels for it

HERE = Path(__file__).absolute().parent
DELTA = HERE / "DELTA"  # in a house that is not whole: the wheels that an earlier one has, a line for each
RECEIPT = "wheelhouse.json"  # in PREFIX: what was installed, and the sign that PREFIX is ours to replace
LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}  # PEP 600
ENTRY_POINT = re.compile(r"\s*(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+)\s*)?(?:\[.*\]\s*)?")
SCRIPT_NAME = re.compile(r"[\w.][\w.+-]*")
LONGEST_SHEBANG = 127  # bytes that every kernel reads of a script's first line
SCRIPT = """\
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({attribute}())
"""


class Problem(Exception):  # noqa: N818 - it is shown as a sentence, not as an error of this program
    """Why it cannot be done, for a person, and the exit status that says which kind of problem it is."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


UNFIT, DAMAGED, FAILED = 3, 4, 5


def main() -> int:
    """Parse the command line and do what it says. Exit status: 0, 2 usage, 3 unfit, 4 damaged house, 5 failed."""
    parser = argparse.ArgumentParser(prog="install.py", description="Install this wheelhouse.")
    parser.add_argument("prefix", nargs="?", help="the folder to install into")
    parser.add_argument("--from", dest="old", metavar="OLD", help="the earlier house, to complete a delta from")
    parser.add_argument("--verify", action="store_true", help="only tell whether the house is whole")
    parser.add_argument("--check", action="store_true", help="only tell whether it is whole and fits this machine")
    parser.add_argument("--fits", action="store_true", help="only tell whether it fits this machine")
    parser.add_argument("--pip", action="store_true", help="install with pip (always so on Windows)")
    arguments = parser.parse_args()
    asks = arguments.check or arguments.verify or arguments.fits
    if not asks and not arguments.prefix and not arguments.old:
        parser.error("name the folder to install into")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run(arguments, None if asks else arguments.prefix)
    except Problem as problem:
        sys.stderr.write(f"install: {problem}\n")
        return problem.status
    except OSError as error:
        sys.stderr.write(f"install: {error.filename or 'the disk'}: {error.strerror}\n")
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def run(arguments: argparse.Namespace, folder: str | None) -> None:
    """Check house and machine, then install into the folder, if there is one."""
    house = json.loads((HERE / "house.json").read_text("utf-8"))
    name = f"{house['name']} {house['version']}"
    if arguments.old:
        complete(Path(arguments.old))
    if not arguments.fits:
        verify()
    if arguments.verify or (arguments.old and not arguments.check and folder is None):
        say(f"{name} is whole")
        return
    target = fitting(house)
    if folder is None:
        say(f"{name} fits this machine")
        return
    prefix = Path(os.path.abspath(folder))  # noqa: PTH100 - links in it are the user's wish
    check_place(prefix)
    if arguments.pip or os.name != "posix":
        install_with_pip(house, target, prefix)
    else:
        install(house, target, prefix)
    say(f"installed {name} in {prefix}")


def say(text: str) -> None:
    """Tell the user."""
    sys.stdout.write(f"{text}\n")


def verify() -> None:
    """Compare every file with SHA256SUMS."""
    if DELTA.is_file():
        raise Problem("this is a delta: complete it from the earlier wheelhouse, with --from OLD", DAMAGED)
    listed = sums()
    bad = []
    for name, digest in listed.items():
        path = HERE / name
        if not path.is_file():
            bad.append(f"  {name} is missing")
        elif sha256_of(path) != digest:
            bad.append(f"  {name} has changed")
    strangers = {f"wheels/{path.name}" for path in HERE.glob("wheels/*.whl")} - listed.keys()
    bad += [f"  {name} is not of this house" for name in sorted(strangers)]
    if bad:
        raise Problem("\n".join(["this wheelhouse is damaged, copy it again:", *bad]), DAMAGED)


def sums() -> dict[str, str]:
    """The digests that files of the house must have, by their paths in it."""
    lines = (HERE / "SHA256SUMS").read_text("utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def complete(old: Path) -> None:
    """Take the wheels that a delta leaves out from the earlier house; a delta that is complete is a house."""
    if not DELTA.is_file():
        return
    digests = sums()
    for file in DELTA.read_text("utf-8").splitlines():
        name = f"wheels/{file}"
        source, place = old / "wheels" / file, HERE / "wheels" / file
        if name not in digests or Path(file).name != file:
            raise Problem(f"DELTA names {file!r}, which is no wheel of this house", DAMAGED)
        if place.is_file() and sha256_of(place) == digests[name]:
            continue
        if not source.is_file():
            raise Problem(f"{old} has no {name}: it is not the house that this delta was made against", DAMAGED)
        if sha256_of(source) != digests[name]:
            raise Problem(f"{source} is not the wheel that this house needs, or is damaged", DAMAGED)
        place.parent.mkdir(exist_ok=True)
        part = place.with_name(f".{file}.part")
        shutil.copyfile(source, part)
        part.replace(place)
    (HERE / "README-DELTA.md").unlink(missing_ok=True)
    DELTA.unlink()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


# Does it fit?


def fitting(house: House) -> Target:
    """The first of the house's targets that this machine is one of."""
    lines = []
    for target in house["targets"]:
        misfits = check(target)
        if not misfits:
            chosen: Target = target
            return chosen
        if len(house["targets"]) > 1:
            lines.append(f"  {target['name']}:")
        lines += misfits
    raise Problem("\n".join(["this machine does not fit:", *lines]), UNFIT)


def check(target: Target) -> list[str]:
    """What of this machine does not fit a target, one line for each."""
    mine = "{}.{}".format(*sys.version_info[:2])
    if sys.implementation.name != "cpython":
        return [f"  CPython is needed, {sys.executable} is {platform.python_implementation()}"]
    if mine != target["python"]:
        return [f"  Python {target['python']} is needed, {sys.executable} is {mine}"]
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return [f"  {sys.executable} is a free-threaded Python: the wheels are for the usual one"]
    misfits = []
    for wheel in target["wheels"]:
        tags = wheel["file"][: -len(".whl")].rpartition("-")[2].split(".")
        reasons = [misfit(tag) for tag in tags]
        if all(reasons):
            misfits.append(f"  {wheel['file']} needs {reasons[0]}")
    return misfits


def misfit(tag: str) -> str | None:
    """What a platform tag needs that this machine has not got; None where it fits."""
    if tag == "any":
        return None
    match = re.fullmatch(r"(?:manylinux_(\d+)_(\d+)|(manylinux1|manylinux20\d\d)|linux)_(\w+)", tag)
    if match:
        floor = (int(match[1]), int(match[2])) if match[1] else LEGACY.get(match[3] or "", (0, 0))
        return misfit_linux(floor, match[4])
    match = re.fullmatch(r"macosx_(\d+)_(\d+)_(\w+)", tag)
    if match and sys.platform == "darwin":
        system = tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2])
        fits = match[3] in ("universal2", platform.machine()) and system >= (int(match[1]), int(match[2]))
        return None if fits else f"macOS {match[1]}.{match[2]} on {match[3]}, this is {platform.mac_ver()[0]}"
    mine = sysconfig.get_platform()
    if tag.startswith("win") and sys.platform == "win32" and tag == mine.replace("-", "_"):
        return None
    return f"a platform {tag}, this is {mine}"


def misfit_linux(floor: tuple[int, int], machine: str) -> str | None:
    """As `misfit`, for a Linux with glibc."""
    # The interpreter's platform and not the kernel's: a 32-bit Python runs under a 64-bit kernel too.
    mine = sysconfig.get_platform().replace("-", "_").partition("_")
    if mine[0] != "linux":
        return f"Linux, this is {sysconfig.get_platform()}"
    if mine[2] != machine:
        return f"a {machine} machine, this Python is for {mine[2]}"
    glibc = glibc_version()
    if glibc is None:
        return f"glibc {floor[0]}.{floor[1]}, this system has another C library (musl?)"
    if glibc < floor:
        return f"glibc {floor[0]}.{floor[1]} or newer, this system has {glibc[0]}.{glibc[1]}"
    return None


def glibc_version() -> tuple[int, int] | None:
    """The running glibc; None where there is another C library."""
    try:
        match = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, OSError, ValueError):
        return None
    return (int(match[1]), int(match[2])) if match else None


# Installing


def install(house: House, target: Target, prefix: Path) -> None:
    """Put everything together beside PREFIX, then let it take PREFIX's place."""
    # The installed files are for everybody who may look into PREFIX, whoever installs them.
    os.umask(0o022)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(prefix)
    new = prefix.parent / f".{prefix.name}.installing-{os.getpid()}"
    try:
        make_environment(new, prefix)
        site = new / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
        for wheel in target["wheels"]:
            Wheel(HERE / "wheels" / wheel["file"], new, site, prefix).install()
        compile_modules(site, site.relative_to(new), prefix)
        write_receipt(house, target, new)
        put_in_place(house, new, prefix)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def install_with_pip(house: House, target: Target, prefix: Path) -> None:
    """Make PREFIX an environment whose own pip installs; what was there before comes back if that fails."""
    if importlib.util.find_spec("ensurepip") is None:
        raise Problem(f"{sys.executable} has no ensurepip module: install it (python3-venv on Debian)", UNFIT)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    old = prefix.parent / f".{prefix.name}.replaced-{os.getpid()}"
    if prefix.is_dir():
        prefix.rename(old)
    try:
        venv_module().EnvBuilder(with_pip=True).create(prefix)
        run_pip(prefix)
        write_receipt(house, target, prefix)
        run_hook(house, prefix)
    except BaseException:
        shutil.rmtree(prefix, ignore_errors=True)
        if old.is_dir():
            old.rename(prefix)
        raise
    shutil.rmtree(old, ignore_errors=True)


def run_pip(prefix: Path) -> None:
    """Have the environment's pip install the house; neither the user's settings nor an index have a part in it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    python = prefix / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir", "--require-hashes"]
    done = subprocess.run([*pip, "-r", "requirements.txt"], cwd=HERE, env=env, check=False)
    if done.returncode:
        raise Problem(f"pip ended with status {done.returncode}: nothing was installed", FAILED)


def write_receipt(house: House, target: Target, prefix: Path) -> None:
    """Say in the environment what it was made from."""
    receipt = {**house, "targets": [target], "interpreter": os.path.realpath(sys.executable)}
    (prefix / RECEIPT).write_text(json.dumps(receipt, indent=2, sort_keys=True) + "\n", "utf-8")


def check_place(prefix: Path) -> None:
    """PREFIX may be absent, empty, or an earlier installation of a wheelhouse."""
    if "\n" in str(prefix) or not prefix.name:
        raise Problem(f"{str(prefix)!r} cannot be the folder to install into", 2)
    if prefix.is_symlink() or (prefix.exists() and not prefix.is_dir()):
        raise Problem(f"{prefix} is not a folder", FAILED)
    if prefix.is_dir() and any(prefix.iterdir()) and not (prefix / RECEIPT).is_file():
        raise Problem(f"{prefix} is not empty, and no wheelhouse was installed there: name another folder", FAILED)


def remove_leftovers(prefix: Path) -> None:
    """Remove what killed installations left beside PREFIX."""
    mark = f".{prefix.name}.installing-"
    for path in prefix.parent.iterdir():
        if path.name.startswith(mark) and not is_running(path.name[len(mark) :]):
            shutil.rmtree(path, ignore_errors=True)


def is_running(pid: str) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def venv_module() -> Any:
    """The standard library's venv, which Debian packs separately."""
    try:
        import venv
    except ImportError:
        raise Problem(f"{sys.executable} has no venv module: install it (python3-venv on Debian)", UNFIT) from None
    return venv


def make_environment(new: Path, prefix: Path) -> None:
    """A virtual environment in `new` whose files say that it is in `prefix`."""
    venv_module().EnvBuilder(symlinks=True).create(new)
    for path in [new / "pyvenv.cfg", *(new / "bin").iterdir()]:
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes()
            # The prompt of `activate` shows the folder's own name.
            text = text.replace(os.fsencode(new), os.fsencode(prefix)).replace(
                os.fsencode(new.name), os.fsencode(prefix.name)
            )
            path.write_bytes(text)


class Wheel:
    """One wheel on its way into `root`, which will be `prefix`; `site` is the site-packages folder in `root`."""

    def __init__(self, path: Path, root: Path, site: Path, prefix: Path) -> None:
        self.path = path
        self.root = root
        self.site = site
        self.prefix = prefix
        self.rows: list[tuple[str, str, str]] = []

    def install(self) -> None:
        """Unpack it, make its scripts, write its RECORD."""
        with zipfile.ZipFile(self.path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            info = next(name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info"))
            for member in archive.infolist():
                if not member.is_dir() and not member.filename.startswith(f"{info}/RECORD"):
                    executable = bool(member.external_attr >> 16 & 0o111)
                    self.unpack(member.filename, archive.read(member), info, executable)
            if f"{info}/entry_points.txt" in names:
                self.make_scripts(archive.read(f"{info}/entry_points.txt").decode("utf-8"))
        self.write(self.site / info / "INSTALLER", b"wheelhouse\n")
        table = io.StringIO()
        record = self.site / info / "RECORD"
        csv.writer(table, lineterminator="\n").writerows([*sorted(self.rows), (f"{info}/RECORD", "", "")])
        record.write_text(table.getvalue(), "utf-8")

    def unpack(self, name: str, content: bytes, info: str, executable: bool) -> None:
        """Put one file of the wheel where its name says."""
        data = f"{info[: -len('.dist-info')]}.data/"
        if not name.startswith(data):
            self.write(self.site / name, content, executable)
            return
        key, _, rest = name[len(data) :].partition("/")
        distribution = info.partition("-")[0]
        places = {
            "purelib": self.site,
            "platlib": self.site,
            "scripts": self.root / "bin",
            "data": self.root,
            "headers": self.root / "include" / "site" / self.site.parent.name / distribution,
        }
        if key not in places:
            raise Problem(f"{self.path.name}: {name} goes to a place that is not known", DAMAGED)
        if key == "scripts":
            executable = True
            first, line_feed, rest_of_script = content.partition(b"\n")
            if first.startswith(b"#!python"):
                content = self.shebang() + rest_of_script if line_feed else self.shebang()
        self.write(places[key] / rest, content, executable)

    def make_scripts(self, text: str) -> None:
        """Make a program of each entry point that is one."""
        entry_points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        entry_points.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        entry_points.read_string(text)
        for group in ("console_scripts", "gui_scripts"):
            for name, value in entry_points[group].items() if entry_points.has_section(group) else ():
                match = ENTRY_POINT.fullmatch(value)
                if not match or not match["attribute"] or not SCRIPT_NAME.fullmatch(name):
                    raise Problem(f"{self.path.name}: the entry point {name!r} = {value!r} is not valid", DAMAGED)
                first = match["attribute"].partition(".")[0]
                body = SCRIPT.format(module=match["module"], first=first, attribute=match["attribute"])
                self.write(self.root / "bin" / name, self.shebang() + body.encode(), executable=True)

    def shebang(self) -> bytes:
        """The first line of a program of this environment."""
        python = os.fsencode(self.prefix / "bin" / "python")
        if b" " in python or len(python) + 2 > LONGEST_SHEBANG:
            # A text for the shell and for Python at once: the shell hands over, to Python it is a string.
            quoted = python.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"$", b"\\$").replace(b"`", b"\\`")
            return b"#!/bin/sh\n'''exec' \"" + quoted + b'" "$0" "$@"\n\' \'\'\'\n'
        return b"#!" + python + b"\n"

    def write(self, path: Path, content: bytes, executable: bool = False) -> None:
        """Write a file and note it for the RECORD; two wheels may share a file only if it is the same in both."""
        if ".." in path.parts or not path.is_relative_to(self.root):
            raise Problem(f"{self.path.name}: {path} leads out of the environment", DAMAGED)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and path.read_bytes() != content):
            raise Problem(
                f"{self.path.name}: another wheel has put other content at {path.relative_to(self.root)}", FAILED
            )
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        self.rows.append((Path(os.path.relpath(path, self.site)).as_posix(), f"sha256={digest}", str(len(content))))


def compile_modules(site: Path, inside: Path, prefix: Path) -> None:
    """Byte-compile all modules, as if they were in PREFIX already. What does not compile is no program's module."""

    def compile_with(workers: int) -> None:
        compileall.compile_dir(
            site,
            quiet=2,
            workers=workers,
            stripdir=str(site),
            prependdir=str(prefix / inside),
            invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
        )

    try:
        compile_with(0)
    except (OSError, ImportError):
        # No shared memory, no processes: one after the other then.
        compile_with(1)


def put_in_place(house: House, new: Path, prefix: Path) -> None:
    """Let `new` take PREFIX's place, and take it back if the post-install script fails."""
    # The bytes first: a name must not survive a power cut that its files do not.
    os.sync()
    replaced = swap(new, prefix)
    try:
        run_hook(house, prefix)
    except BaseException:
        if replaced:
            swap(new, prefix)
        else:
            prefix.rename(new)
        raise


def swap(new: Path, prefix: Path) -> bool:
    """Rename `new` to PREFIX, in one step; whether something was in PREFIX, and is now where `new` was."""
    if not prefix.exists() or not any(prefix.iterdir()):
        new.rename(prefix)
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(-100, os.fsencode(new), -100, os.fsencode(prefix), 2) == 0:  # AT_FDCWD, RENAME_EXCHANGE
            return True
    except (AttributeError, OSError):
        pass
    old = new.with_name(f"{new.name}-old")
    prefix.rename(old)
    try:
        new.rename(prefix)
    except OSError:
        old.rename(prefix)
        raise
    old.rename(new)
    return True


def run_hook(house: House, prefix: Path) -> None:
    """Run the application's own post-install script, if there is one."""
    script = HERE / "hooks" / "post-install"
    if not script.is_file():
        return
    if os.name != "posix":
        say("the post-install script is one for a Unix shell: it was not run")
        return
    told = {"NAME": house["name"], "VERSION": house["version"], "PREFIX": str(prefix)}
    env = {**os.environ, **{f"BOXSNAKE_{name}": value for name, value in told.items()}}
    interpreter = [] if script.read_bytes().startswith(b"#!") and os.access(script, os.X_OK) else ["/bin/sh"]
    done = subprocess.run([*interpreter, str(script)], cwd=prefix, env=env, check=False)
    if done.returncode:
        raise Problem(f"the post-install script ended with status {done.returncode}: nothing was installed", FAILED)


if __name__ == "__main__":
    sys.exit(main())
