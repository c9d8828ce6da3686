"""Hosts: clean systems that boxes are booted on, and the base that images are laid on.

What a host is, boxsnake/hosts/files.py tells. Here it is made: either an image of a registry is pulled, or mmdebstrap
puts a Debian together on this machine and the store keeps it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake import child, debian_sources
from boxsnake.disk import disk_faults
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.hosts.files import Bootstrap, Host, load_host, load_hosts
from boxsnake.plain_text import shortened
from boxsnake.progress import track
from boxsnake.store import Blob, Store

if TYPE_CHECKING:
    from boxsnake.engine import Engine

__all__ = ["Host", "image_id", "known_digest", "load_host", "load_hosts", "rootfs"]

# Raised when a root file system of the same definition would come out otherwise.
_FORMAT = 1
_EPOCH = "1577836800"
_BUILD_SECONDS = 1200.0
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


def rootfs(store: Store, host: Host, *, refresh: bool = False) -> Blob:
    """The tar of the host's root file system, built once and kept in the store, or again on `refresh`.

    Built from the distribution's own package sources of this machine. Errors: ResourceError without mmdebstrap,
    EngineError where an ordinary user has not what it takes, NetworkError where the packages cannot be had, ValueError
    for a host that is an image.
    """
    bootstrap = _bootstrap_of(host)
    key = _key(host)
    blob = None if refresh else _known(store, key)
    if blob is not None:
        return blob
    base = rootfs(store, bootstrap.base, refresh=refresh) if bootstrap.base else None
    with store.lock(f"host-{host.name}", wait=_BUILD_SECONDS):
        # Another process may have built it while this one waited.
        blob = None if refresh else _known(store, key)
        if blob is None:
            with track(f"building host {host.name}"), store.scratch("host") as folder:
                archive = folder / "rootfs.tar"
                _build(bootstrap, host.name, archive, store.path(base.digest) if base else None)
                blob = store.put_file(archive)
            store.select("host", key, {"digest": blob.digest, "size": blob.size})
    return blob


def known_digest(store: Store, host: Host) -> str | None:
    """The digest of the root file system as it was built last; None where it never was.

    The store may have dropped the bytes since, which others then have: an engine, a base image's layer.
    """
    result = store.selected("host", _key(host))
    return str(result["digest"]) if result else None


def image_id(engine: Engine, store: Store, host: Host, *, offline: bool = False) -> str:
    """The id of the host's image in the engine, which is given it first where it has not got it.

    Errors: those of `rootfs` and of `boxsnake.engine.Engine.pulled`.
    """
    if host.image is not None:
        return engine.pulled(host.image, offline=offline).id
    blob = known_digest(store, host)
    tag = f"boxsnake-host/{host.name}:{blob.removeprefix('sha256:')[:12]}" if blob else ""
    found = engine.image(tag) if tag else None
    # The engine's layer of an imported tar bears the tar's own digest.
    if found is None or found.layers != (blob,):
        built = rootfs(store, host)
        tag = f"boxsnake-host/{host.name}:{built.digest.removeprefix('sha256:')[:12]}"
        with track(f"importing host {host.name}"):
            return engine.import_rootfs(store.path(built.digest), tag)
    return found.id


def _known(store: Store, key: Mapping[str, object]) -> Blob | None:
    result = store.selected("host", key)
    if result is None or store.intact(str(result["digest"])) is None:
        return None
    return Blob(digest=str(result["digest"]), size=int(result["size"]))


def _bootstrap_of(host: Host) -> Bootstrap:
    if host.bootstrap is None:
        raise ValueError(f"host {host.name} is the image {host.image}: it has no root file system of its own")
    return host.bootstrap


def _key(host: Host) -> dict[str, object]:
    """Everything of a definition that decides the tree. What the mirror holds today is not in it: see `refresh`."""
    bootstrap = _bootstrap_of(host)
    return {
        "format": _FORMAT,
        "machine": os.uname().machine,
        "suite": bootstrap.suite,
        "variant": bootstrap.variant,
        "include": sorted(bootstrap.include),
        "setup": [list(script) for script in bootstrap.setup],
        "base": _key(bootstrap.base) if bootstrap.base else None,
    }


# Building


def _build(bootstrap: Bootstrap, name: str, archive: Path, base: Path | None) -> None:
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
    done = child.run(command, cwd=archive.parent, env=environment, deadline=_BUILD_SECONDS, grace=_STOP_SECONDS)
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
    cause = "; ".join(dict.fromkeys(shown)) or f"it {done.why(_BUILD_SECONDS)}"
    if done.code is None:
        cause = f"mmdebstrap {done.why(_BUILD_SECONDS)}"
    thing = f"host {name}"
    if re.search(r"Failed to fetch|Could not (resolve|connect)|Temporary failure|Unable to fetch|Connection", log):
        step = "Check that apt works on this machine (`apt-get update`), then run the command again."
        raise NetworkError(thing, cause, step, log=lines[-20:])
    step = "See what mmdebstrap says above; the definition is in docker/hosts, or in your settings' hosts folder."
    raise ResourceError(thing, f"mmdebstrap failed: {cause}", step, log=lines[-20:])
