"""Where recipes' sources come from: Debian's archive through apt-get, and a Python package index through pip.

Both are the ordinary clients with the machine's own configuration (mirrors, proxies, keys, credentials). apt works on
private state: nothing in /etc or /var is written, and no lock of the machine's own apt is taken. What was fetched is kept
by what was asked for, so that it is asked for once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from boxsnake.channel.recipes import Sources
from boxsnake.disk import publish_tree
from boxsnake.errors import IntegrityError, NetworkError, ResourceError
from boxsnake.urls import redact

ARCHITECTURES = {"linux-64": ("amd64", "x86_64"), "linux-aarch64": ("arm64", "aarch64")}
"""Debian's and Python's name of each platform's processor."""
NEWEST_GLIBC_OF_WHEELS = 28  # minor version: manylinux_2_28, the youngest of the tags that every index has
DEBIAN_SUITES = re.compile(
    r"(buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)"
    r"(-updates|-security|/updates)?"
)
FILES, MANIFEST = "files", "fetched.json"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """One file that was fetched. `name` and `version` are the package's."""

    kind: str
    """`debian`, `debian-source` or `pip`."""
    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SourceSet:
    """What was fetched for one recipe: files below `folder`, in the order in which the recipe names them."""

    folder: Path
    fetched: tuple[Fetched, ...]

    @property
    def digest(self) -> str:
        """The same for the same content."""
        return hashlib.sha256(json.dumps([asdict(f) for f in self.fetched]).encode()).hexdigest()

    def path(self, fetched: Fetched) -> Path:
        """Where a file lies."""
        return self.folder / FILES / fetched.file


def fetch(
    wanted: Mapping[str, Sources], cache: Path, *, platform: str = "linux-64", refresh: bool = False
) -> dict[str, SourceSet]:
    """Fetches the sources of recipes (by name), those that the cache does not hold, or all with `refresh`.

    Errors: ResourceError where there is no apt or it knows no Debian archive, NetworkError for what could not be
    fetched, IntegrityError for a file that is not what its index says.
    """
    places = {name: cache / "sources" / _key(sources, platform) for name, sources in wanted.items()}
    missing = {name: wanted[name] for name, place in places.items() if refresh or _read(place) is None}
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
            found = _fetch_all(missing.values(), cache, Path(scratch), platform)
            for name, sources in missing.items():
                _keep(places[name], [found[want] for want in _wants(sources)], Path(scratch) / f"set-{name}")
    sets = {name: _read(place) for name, place in places.items()}
    return {name: held for name, held in sets.items() if held is not None}


_Want = tuple[str, str, str]  # kind, suite or Python version, name or requirement


def _wants(sources: Sources) -> list[_Want]:
    suite = sources.suite or ""
    wants = [("debian", suite, name) for name in sources.debian]
    if sources.debian_source:
        wants.append(("debian-source", suite, sources.debian_source))
    return wants + [("pip", sources.python, requirement) for requirement in sources.pip]


def _key(sources: Sources, platform: str) -> str:
    return hashlib.sha256(json.dumps([platform, asdict(sources)], sort_keys=True).encode()).hexdigest()[:32]


def _read(place: Path) -> SourceSet | None:
    try:
        rows = json.loads((place / MANIFEST).read_text())
        held = SourceSet(folder=place, fetched=tuple(Fetched(**row) for row in rows))
    except (OSError, ValueError, TypeError):
        return None
    return held if all(_sha256(held.path(f)) == f.sha256 for f in held.fetched) else None


def _keep(place: Path, found: Sequence[tuple[Fetched, Path]], scratch: Path) -> None:
    (scratch / FILES).mkdir(parents=True)
    for fetched, path in found:
        target = scratch / FILES / fetched.file
        if not target.exists():
            os.link(path, target)
    (scratch / MANIFEST).write_text(json.dumps([asdict(fetched) for fetched, _ in found], indent=1))
    place.parent.mkdir(parents=True, exist_ok=True)
    publish_tree(scratch, place)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _fetch_all(
    wanted: Iterable[Sources], cache: Path, scratch: Path, platform: str
) -> dict[_Want, tuple[Fetched, Path]]:
    """One call of each client for all that is wanted of it."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sources in wanted:
        for kind, where, name in _wants(sources):
            if name not in groups[kind, where]:
                groups[kind, where].append(name)
    found: dict[_Want, tuple[Fetched, Path]] = {}
    apts: dict[str, _Apt] = {}
    for number, ((kind, where), names) in enumerate(groups.items()):
        folder = scratch / str(number)
        folder.mkdir()
        if kind == "pip":
            results: Iterator[tuple[str, Fetched, Path]] = _pip_download(names, where, platform, folder)
        else:
            if where not in apts:
                with_sources = ("debian-source", where) in groups
                apts[where] = _Apt.opened(where or None, cache, platform, with_sources=with_sources)
            apt = apts[where]
            results = apt.binaries(names, folder) if kind == "debian" else apt.pristine_archives(names, folder)
        found |= {(kind, where, name): (fetched, path) for name, fetched, path in results}
    return found


# Debian


@dataclass(frozen=True, kw_only=True)
class AptSource:
    """One entry of the machine's own list of archives, in apt's terms."""

    uris: str
    suites: tuple[str, ...]
    components: str
    options: tuple[tuple[str, str], ...] = ()

    def stanza(self, kind: str) -> str:
        """The entry in deb822 form (sources.list(5)), for binary (`deb`) or source packages (`deb-src`)."""
        lines = [f"Types: {kind}", f"URIs: {self.uris}", f"Suites: {' '.join(self.suites)}"]
        lines += [f"Components: {self.components}", f"Targets: {'Packages' if kind == 'deb' else 'Sources'}"]
        return "\n".join([*lines, *(f"{key}: {value}" for key, value in self.options)]) + "\n"


def machine_sources(folder: Path = Path("/etc/apt")) -> tuple[AptSource, ...]:
    """The machine's entries for Debian's own archive, from files of both forms; other vendors' are left out."""
    lists = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    found: list[AptSource] = []
    for path in lists:
        if path.suffix == ".sources":
            found += _deb822_entries(_text(path))
        elif path.suffix == ".list":
            found += _one_line_entries(_text(path))
    kept = []
    for entry in found:
        suites = tuple(suite for suite in entry.suites if DEBIAN_SUITES.fullmatch(suite))
        if suites and "main" in entry.components.split():
            kept.append(replace(entry, suites=suites, components="main"))
    return tuple(dict.fromkeys(kept))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _deb822_entries(text: str) -> Iterator[AptSource]:
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            match[1].lower(): re.sub(r"\n[ \t]\.?", "\n ", match[2]).strip()
            for match in re.finditer(r"^([\w-]+):((?:.*(?:\n[ \t].*)*))", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            yield AptSource(
                uris=fields.get("uris", ""),
                suites=tuple(fields.get("suites", "").split()),
                components=fields.get("components", ""),
                options=tuple((key.title(), _folded(fields[key])) for key in ("signed-by", "trusted") if key in fields),
            )


def _folded(value: str) -> str:
    """A field of several lines (a key inside the file) as deb822 wants it: no line may be empty."""
    return "\n".join(line if number == 0 or line.strip() else " ." for number, line in enumerate(value.split("\n")))


def _one_line_entries(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match:
            options = dict(option.split("=", 1) for option in (match[1] or "").split() if "=" in option)
            yield AptSource(
                uris=match[2],
                suites=(match[3],),
                components=match[4].strip(),
                options=tuple((key.title(), options[key]) for key in ("signed-by", "trusted") if key in options),
            )


def for_suite(entries: Sequence[AptSource], suite: str | None) -> tuple[AptSource, ...]:
    """The same archives, for another suite of Debian's; None: as they are."""
    if suite is None:
        return tuple(entries)
    moved = (replace(e, suites=tuple(DEBIAN_SUITES.sub(rf"{suite}\2", s) for s in e.suites)) for e in entries)
    return tuple(dict.fromkeys(moved))


CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{folder}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{folder}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
"""


@dataclass(frozen=True, kw_only=True)
class _Apt:
    """apt-get and apt-cache on private state for one suite, with fresh lists."""

    configuration: Path

    @classmethod
    def opened(cls, suite: str | None, cache: Path, platform: str, *, with_sources: bool) -> _Apt:
        if shutil.which("apt-get") is None:
            raise _no_apt("apt-get is not installed")
        entries = for_suite(machine_sources(), suite)
        if not entries:
            raise _no_apt("apt is not configured for an archive of Debian's")
        architecture = ARCHITECTURES[platform][0]
        folder = (cache / "apt" / f"{suite or 'own'}-{architecture}").absolute()
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        kinds = ("deb", "deb-src") if with_sources else ("deb",)
        (folder / "debian.sources").write_text("\n".join(e.stanza(kind) for e in entries for kind in kinds))
        configuration = folder / "apt.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, architecture=architecture))
        apt = cls(configuration=configuration)
        apt.run("apt-get", "update", "--error-on=any", thing=f"Debian's package lists ({suite or 'own suite'})")
        return apt

    def run(self, program: str, *arguments: str, thing: str, folder: Path | None = None, tolerant: bool = False) -> str:
        """Runs one of apt's programs; its output. Errors: NetworkError, unless `tolerant`."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        command = [program, "-c", str(self.configuration), "-q", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode and not tolerant:
            raise NetworkError(
                thing,
                _last_lines(done.stderr or done.stdout),
                "Look at the machine's apt sources and network, then run it again.",
                command=program,
                status=done.returncode,
            )
        return done.stdout

    def binaries(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Fetched, Path]]:
        """The newest of each package that the archive has: a package that its index names may be gone already."""
        stanzas = [*_stanzas(self.run("apt-cache", "show", *names, thing=" ".join(names), tolerant=True))]
        versions: dict[str, list[dict[str, str]]] = defaultdict(list)
        for stanza in stanzas:
            versions[stanza["Package"]].append(stanza)
        absent = [name for name in names if name not in versions]
        if absent:
            raise NetworkError(
                ", ".join(absent), "Debian's archive has no such package in this suite", "Look at the recipe's suite."
            )
        waiting = {name: 0 for name in names}
        while waiting:
            asked = {name: versions[name][at] for name, at in waiting.items()}
            specs = [f"{name}={stanza['Version']}" for name, stanza in asked.items()]
            newest_only = any(at + 1 >= len(versions[name]) for name, at in waiting.items())
            self.run("apt-get", "download", *specs, thing=" ".join(specs), folder=folder, tolerant=not newest_only)
            for name, stanza in asked.items():
                pattern = f"{name}_{stanza['Version'].replace(':', '%3a')}_{stanza['Architecture']}.deb"
                path = folder / pattern
                if path.exists():
                    del waiting[name]
                    yield name, _checked("debian", name, stanza["Version"], path, stanza["SHA256"]), path
                else:
                    waiting[name] += 1

    def pristine_archives(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Fetched, Path]]:
        """The .orig archive of each source package. Its .dsc is not needed: the index has the archive's digest."""
        for name in names:
            records = [*_stanzas(self.run("apt-cache", "showsrc", "--only-source", name, thing=name, tolerant=True))]
            self.run(
                "apt-get", "source", "--download-only", "--only-source", name, thing=name, folder=folder, tolerant=True
            )
            for record in reversed(records):
                match = re.search(
                    r"^ ([0-9a-f]{64}) \d+ (\S+\.orig\.tar\.\w+)$", record["Checksums-Sha256"], re.MULTILINE
                )
                if match and (folder / match[2]).exists():
                    path = folder / match[2]
                    yield name, _checked("debian-source", name, record["Version"], path, match[1]), path
                    break
            else:
                raise NetworkError(
                    f"source package {name}", "its pristine archive could not be fetched", "Run it again later."
                )


def _no_apt(cause: str) -> ResourceError:
    return ResourceError(
        "apt",
        f"{cause}, and recipes take their sources from Debian",
        "Build the channel on a Debian machine, or in a Debian container; or leave out recipes with Debian sources.",
    )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    for stanza in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+):[ ]?((?:.*(?:\n .*)*))", stanza, re.MULTILINE))
        if "Package" in fields:
            yield fields


def _checked(kind: str, name: str, version: str, path: Path, sha256: str) -> Fetched:
    if _sha256(path) != sha256:
        raise IntegrityError(
            path.name, "is not the file that its index names", "Run it again with --refresh.", sha256=sha256
        )
    return Fetched(kind=kind, name=name, version=version, file=path.name, sha256=sha256)


def _last_lines(text: str, count: int = 6) -> str:
    return redact("\n".join(text.strip().splitlines()[-count:])) or "it failed without a word"


# The Python package index


def _pip_download(
    requirements: Sequence[str], python: str, platform: str, folder: Path
) -> Iterator[tuple[str, Fetched, Path]]:
    """Wheels for a Python version and platform, without their dependencies."""
    from packaging.utils import canonicalize_name, parse_wheel_filename

    processor = ARCHITECTURES[platform][1]
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(NEWEST_GLIBC_OF_WHEELS, 4, -1)]
    tags += [f"manylinux2014_{processor}", f"manylinux2010_{processor}", f"manylinux1_{processor}"]
    # pip demands a hash of all or of none of a file's requirements
    for number, group in enumerate((
        [r for r in requirements if "--hash" in r],
        [r for r in requirements if "--hash" not in r],
    )):  # fmt: skip
        if not group:
            continue
        file = folder / f"requirements-{number}.txt"
        file.write_text("\n".join(group) + "\n")
        command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
        command += ["--implementation=cp", f"--python-version={python}", f"--dest={folder}", f"--requirement={file}"]
        command += [f"--platform={tag}" for tag in tags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NetworkError(
                ", ".join(requirement.split()[0] for requirement in group),
                _last_lines(done.stderr),
                "Look at pip's configuration and the network, then run it again.",
                status=done.returncode,
            )
    wheels = {parse_wheel_filename(path.name)[0]: path for path in sorted(folder.glob("*.whl"))}
    for requirement in requirements:
        name = canonicalize_name(re.split(r"[^\w.-]", requirement)[0])
        path = wheels[name]
        version = str(parse_wheel_filename(path.name)[1])
        digest = _sha256(path)
        assert digest is not None  # noqa: S101 - it was listed just now
        yield requirement, Fetched(kind="pip", name=name, version=version, file=path.name, sha256=digest), path


def _pip() -> list[str]:
    """This Python's pip; where it has none (an environment made by uv), the one that uv fetches and runs."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    import uv

    return [uv.find_uv_bin(), "tool", "run", "--quiet", "pip"]
