"""Sources of Debian packages as this machine has them: which mirror and which key a Debian is put together from.

Read from /etc/apt as sources.list(5) describes it, in both of its formats. Other people's sources, which a machine
may well have besides, are left out: a host has what Debian has.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from boxsnake.value import dataclass

_APT = Path("/etc/apt")
_OS_RELEASE = Path("/etc/os-release")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Debian's own keys, where the machine has them."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One line's worth of a source: where, which suite, which components, signed by which key file (or "")."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def sources(suite: str, *, apt: Path = _APT, os_release: Path = _OS_RELEASE) -> list[str]:
    """The one-line sources for a suite: its archive, updates and security updates, from this machine's mirrors.

    Empty where this machine is no Debian or names no mirror of it: mmdebstrap then takes Debian's usual one. The
    machine's own suite may be another one than `suite`; a mirror has them all.
    """
    return [_line(source) for source in family(suite, apt=apt, os_release=os_release)]


def family(suite: str, *, apt: Path = _APT, os_release: Path = _OS_RELEASE) -> list[Source]:
    """The same as values, with the key by which each is signed; of components, `main` alone."""
    own = _codename(os_release)
    if not own:
        return []
    parsed = [source for path in _files(apt) for source in _read(path)]
    suites = (own, f"{own}-updates", f"{own}-security")
    debians = [source for source in parsed if source.suite in suites and "main" in source.components]
    return [_of_suite(source, suite + source.suite.removeprefix(own)) for source in _of_debian(debians, own)]


def parse(name: str, content: bytes) -> list[Source]:
    """The sources in a file of apt's; its name tells which of the two formats it has."""
    text = content.decode("utf-8", "replace")
    return [*(_parse_stanzas(text) if name.endswith(".sources") else _parse_lines(text))]


def apt_proxies() -> dict[str, str]:
    """The proxies that apt is configured with on this machine, as the environment variables that mean the same."""
    program = shutil.which("apt-config")
    if program is None:
        return {}
    found = {}
    for scheme in ("http", "https"):
        command = [program, "dump", "--format", "%v%n", f"Acquire::{scheme}::Proxy"]
        # Not by boxsnake.child, which hides the password that a proxy's URL may hold.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
        if answer and answer != "DIRECT":
            found[f"{scheme}_proxy"] = answer.splitlines()[0]
    return found


def _codename(os_release: Path) -> str:
    """The code name of the machine's own Debian; "" where it runs something else."""
    try:
        lines = os_release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    facts = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return facts.get("VERSION_CODENAME", "") if facts.get("ID") == "debian" else ""


def _files(apt: Path) -> Iterator[Path]:
    yield from (path for path in (apt / "sources.list",) if path.is_file())
    yield from sorted([*apt.glob("sources.list.d/*.list"), *apt.glob("sources.list.d/*.sources")])


def _read(path: Path) -> list[Source]:
    try:
        return parse(path.name, path.read_bytes())
    except OSError:
        return []


def _parse_lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match:
            options, uri, suite, components = match.groups(default="")
            signed = re.search(r"signed-by=(\S+)", options)
            yield Source(
                uri=uri, suite=suite, components=tuple(components.split()), signed_by=signed.group(1) if signed else ""
            )


def _parse_stanzas(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        # A line that begins with a space continues the field above it.
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza))
        folded = {key.lower(): value.split() for key, value in fields.items()}
        if "deb" not in folded.get("types", ()) or folded.get("enabled") == ["no"]:
            continue
        keys = folded.get("signed-by", [])
        yield from _product(folded, keys[0] if len(keys) == 1 else "")


def _product(fields: dict[str, list[str]], signed_by: str) -> Iterator[Source]:
    for uri in fields.get("uris", ()):
        for suite in fields.get("suites", ()):
            components = tuple(fields.get("components", ()))
            yield Source(uri=uri, suite=suite, components=components, signed_by=signed_by)


def _of_debian(candidates: Sequence[Source], own: str) -> Iterable[Source]:
    """Of sources with the names of Debian's suites, those that are Debian's: other archives name theirs alike.

    Debian's are signed by its keyring, or else lie at a mirror that has the suite of updates too, which others lack.
    """
    signed = [source for source in candidates if "debian-archive" in source.signed_by]
    mirrors = {source.uri for source in candidates if source.suite == f"{own}-updates"}
    chosen = signed or [s for s in candidates if s.uri in mirrors or s.suite == f"{own}-security"]
    has_archive = any(source.suite == own for source in chosen)
    return dict.fromkeys(chosen) if has_archive else ()


def _of_suite(source: Source, suite: str) -> Source:
    key = source.signed_by or (str(KEYRING) if KEYRING.is_file() else "")
    return Source(uri=source.uri, suite=suite, components=("main",), signed_by=key)


def _line(source: Source) -> str:
    options = f"[signed-by={source.signed_by}] " if source.signed_by else ""
    return f"deb {options}{source.uri} {source.suite} main"
