"""The root file system of a host that mmdebstrap puts together, from the package sources of this machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from boxsnake import child, debian_sources
from boxsnake.disk import disk_faults
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.hosts.files import Bootstrap
from boxsnake.plain_text import shortened

_EPOCH = "1577836800"
LONGEST_BUILD = 1200.0
"""Seconds."""

_STOP_SECONDS = 20.0
_CAUSE_WIDTH = 240
# Debian's own licence texts stay; manuals and translations are of no use in a box.
_LEFT_OUT = ("--path-exclude=/usr/share/doc/*", "--path-exclude=/usr/share/man/*", "--path-exclude=/usr/share/locale/*")
_KEPT = ("--path-include=/usr/share/doc/*/copyright",)
# With the package usr-is-merged, it spares Debian 12 the whole of Perl, which comes only to merge folders.
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
# What a build leaves in the tree that says where, when or by which mirror it was built, or that nobody needs.
_SCRUBBED = (
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/.pwd.lock",
    "etc/*-",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "var/lib/dnf",
    "var/cache/dnf",
    "var/lib/systemd/random-seed",
)


def build(bootstrap: Bootstrap, name: str, archive: Path, base: Path | None) -> None:
    """Write the tar of it, on top of the `base`'s where it has one. Errors: NetworkError, ResourceError."""
    program = shutil.which("mmdebstrap")
    if program is None:
        step = "Install it (`apt-get install mmdebstrap`), or name another host that is an image."
        raise ResourceError(f"host {name}", "mmdebstrap, which builds it, is not installed", step, tool="mmdebstrap")
    scripts = []
    for number, (script, text) in enumerate(bootstrap.setup):
        path = archive.parent / f"{number}-{Path(script).name}"
        with disk_faults(path):
            path.write_text(text, encoding="utf-8")
        scripts.append(path)
    temporary = archive.parent / "tmp"
    temporary.mkdir(mode=0o755)
    command = _command(program, bootstrap, archive, base, scripts)
    environment = _environment(temporary)
    if os.geteuid() != 0:
        from boxsnake.sandbox import as_root

        command, variables = as_root.command(command)
        environment |= variables
    done = child.run(command, cwd=archive.parent, env=environment, deadline=LONGEST_BUILD, grace=_STOP_SECONDS)
    _judge(name, done)


def _command(
    program: str, bootstrap: Bootstrap, archive: Path, base: Path | None, scripts: Sequence[Path]
) -> list[str]:
    sources = debian_sources.sources(bootstrap.suite)
    command = [
        program,
        "--mode=root",
        "--format=tar",
        "--skip=output/dev",
        "--aptopt=APT::Install-Recommends false",
        # The unprivileged user of apt's downloads may not look into the store's folders.
        "--aptopt=APT::Sandbox::User root",
    ]
    if base is None:
        command += [f"--variant={bootstrap.variant}", *(f"--dpkgopt={option[2:]}" for option in (*_LEFT_OUT, *_KEPT))]
        if _MERGED_USR.is_dir():
            command.append(f"--hook-dir={_MERGED_USR}")
    else:
        # A base has no /dev, and who may make no devices has this machine's mounted there, for which it must be there.
        unpack = f'tar --extract --file {shlex.quote(str(base))} --directory "$1" && mkdir -p "$1/dev"'
        command += ["--variant=custom", f"--setup-hook={unpack}"]
    command += [f"--include={package}" for package in bootstrap.include]
    # Packages that are only unpacked have no later stage, and have linked no `sh` to anything yet.
    extracted = bootstrap.variant == "extract"
    hook, shell = ("extract", "/bin/busybox sh") if extracted else ("customize", "sh")
    command += [f'--{hook}-hook=chroot "$1" {shell} -eu -s <{shlex.quote(str(script))}' for script in scripts]
    command += [f'--{hook}-hook=cd "$1" && rm -rf {" ".join(_SCRUBBED)}']
    command += [f'--{hook}-hook=find "$1/var/log" -type f -exec truncate --size=0 {{}} +']
    return [*command, bootstrap.suite, str(archive), *sources]


def _environment(temporary: Path) -> dict[str, str]:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(temporary),
        "SOURCE_DATE_EPOCH": _EPOCH,
        "DEBIAN_FRONTEND": "noninteractive",
    }
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    environment.update({name: os.environ[name] for name in proxies if name in os.environ})
    return debian_sources.apt_proxies() | environment


def _judge(name: str, done: child.Finished) -> None:
    if done.code == 0:
        return
    log = done.output
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"E:|Err:|error|rpm|dpkg: error|.*No space left", line)] or lines
    # The whole command of a step that failed is in some of them.
    shown = (shortened(line, _CAUSE_WIDTH) for line in told[-4:])
    cause = "; ".join(dict.fromkeys(shown)) or f"it {done.why(LONGEST_BUILD)}"
    if done.code is None:
        cause = f"mmdebstrap {done.why(LONGEST_BUILD)}"
    thing = f"host {name}"
    if re.search(r"Failed to fetch|Could not (resolve|connect)|Temporary failure|Unable to fetch|Connection", log):
        step = "Check that apt works on this machine (`apt-get update`), then run the command again."
        raise NetworkError(thing, cause, step, log=lines[-20:])
    step = "See what mmdebstrap says above; the definition is in docker/hosts, or in your settings' hosts folder."
    raise ResourceError(thing, f"mmdebstrap failed: {cause}", step, log=lines[-20:])
