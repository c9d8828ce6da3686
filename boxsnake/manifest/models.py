"""The manifest's tables as values: its whole grammar, from which decoding, schema and reference are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from boxsnake.manifest.section import Section, key_of
from boxsnake.manifest.text import (
    AbsolutePath,
    Capability,
    Channel,
    Checked,
    Command,
    CondaText,
    DistributionName,
    ExtraName,
    GlibcVersion,
    HttpPath,
    ImageName,
    Limits,
    Line,
    ModeText,
    Name,
    OwnerText,
    Paragraphs,
    PipText,
    Port,
    Ports,
    PythonVersions,
    RegularExpression,
    RelativePath,
    ScriptArgument,
    ScriptCommand,
    SizeText,
    Source,
    SystemPath,
    UnitName,
    UserName,
    Variable,
    VersionText,
    Word,
)
from boxsnake.system import DirectoryKind, Frequency, Restart
from boxsnake.target import DEFAULT_GLIBC, Interpreter, Platform, Target
from boxsnake.value import dataclass

_FOLDERS: dict[DirectoryKind, str] = {"state": "/var/lib", "log": "/var/log", "cache": "/var/cache", "run": "/run"}
_SHARED_FOLDERS = frozenset(
    f"/var/{name}" for name in ("backups", "cache", "db", "empty", "lib", "local", "lock", "log", "mail", "opt", "run")
) | {"/var/spool", "/var/tmp", "/run/lock", "/run/user", "/run/log", "/run/systemd", "/var/lib/dpkg", "/var/lib/rpm"}  # noqa: S108 - refused
_FOREIGN_FOLDERS = tuple(
    f"/{name}/" for name in ("usr", "bin", "sbin", "lib", "lib64", "boot", "dev", "proc", "sys", "tmp", "var/tmp")
)


def _variables_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a variable twice")
    return names


def _not_root(user: str) -> str:
    if user == "root":
        raise ValueError("is root, whom every system has")
    return user


def _each_target_once(targets: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(targets)) < len(targets):
        raise ValueError("names a target twice")
    return targets


@dataclass(frozen=True, kw_only=True)
class Resources(Section):
    """`[app.resources]`: the most that the started application may take, where boxes say how they are run."""

    memory: SizeText | None = None
    """Memory ("512M"). Left out: that of the only one of `system.units`."""
    cpu: Annotated[float, Limits(gt=0, le=1024)] | None = None
    """Processors (0.5 is half of one)."""


@dataclass(frozen=True, kw_only=True)
class SharedBox(Section):
    """Options of a format whose box may be for several targets at once."""

    targets: Annotated[tuple[Name, ...], Checked(_each_target_once)] = ()
    """Targets that share one box, which goes where that of the first would go; others get one each."""


@dataclass(frozen=True, kw_only=True)
class App(Section):
    """`[app]`: the application itself."""

    name: Name
    """What the application is called in paths, package and image names: at most 64 lower-case letters, digits, '.', '_'
    and '-'. In pyproject.toml, left out: `project.name`."""
    version: VersionText | None = None
    """PEP 440. Left out: taken from the source's own metadata."""
    source: Source | None = None
    """A project folder, wheel, sdist or `git+https://…@ref#subdirectory=…`; left out: requirements alone (in
    pyproject.toml: that project)."""
    extras: tuple[ExtraName, ...] = ()
    """The source's optional dependencies to take as well."""
    command: Command = ()
    """What starts the application: one of its console scripts (or any program of the box) and its arguments."""
    commands: dict[UnitName, Command] = field(default_factory=dict)
    """Further programs and their arguments by name, such as "migrate": `docker run IMAGE migrate` runs one."""
    ports: Ports = ()
    """TCP ports that the started application listens on."""
    environment: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables that the started application gets."""
    secrets: Annotated[tuple[Variable, ...], Checked(_variables_once)] = ()
    """Names of environment variables that whoever runs it must give; their values are written nowhere."""
    resources: Resources = Resources()
    """The most that it may take."""
    summary: Line | None = None
    """One line about the application. Left out: the source's own."""
    description: Paragraphs | None = None
    """Some more lines about it."""
    license: Line | None = None
    """An SPDX licence expression, such as "Apache-2.0"."""
    homepage: Line | None = None
    """The URL of a page about the application."""
    maintainer: Line | None = None
    """Who makes the boxes, as "Name <address>"."""


@dataclass(frozen=True, kw_only=True)
class Requires(Section):
    """`[requires]`: everything that the application needs."""

    python: PythonVersions | None = None
    """A version specifier ("3.11.*", ">=3.11,<3.14"); left out: the source's own `requires-python`."""
    channels: tuple[Channel, ...] = ()
    """Conda channels, highest priority first: names, URLs or folders. Left out: the user's configuration's."""
    conda: tuple[CondaText, ...] = ()
    """Conda requirements, as MatchSpecs ("openssl >=3")."""
    pip: tuple[PipText, ...] = ()
    """Python requirements as PEP 508 writes them ("flask >=3"), or URLs or relative paths of projects and archives."""
    files: tuple[RelativePath, ...] = ()
    """requirements.txt and environment.yml files, relative to the manifest; read as well, not instead."""
    sdists: tuple[DistributionName, ...] = ()
    """Distributions of an index that may be built from their sdist where no wheel fits."""
    rpm: tuple[Word, ...] = ()
    """What RPM systems must bring ("libglvnd-glx >= 1.3"): an RPM requires it, and an image whose base has rpm and dnf
    gets it installed."""
    deb: tuple[Word, ...] = ()
    """What Debian systems must bring ("libgl1 (>= 1.2)"): a deb depends on it, and an image whose base is of Debian's
    family gets it installed."""
    missing_libraries: Literal["tell", "refuse"] = "tell"
    """What is done about shared libraries that neither the box nor what is required of the system brings."""


@dataclass(frozen=True, kw_only=True)
class TargetTable(Section):
    """`[targets.<name>]`: one kind of machine that boxes are made for."""

    platform: Platform = "linux-64"
    """The operating system and CPU, as conda names them."""
    python: PythonVersions | None = None
    """A version specifier for Python on this target. Left out: `requires.python`."""
    glibc: GlibcVersion | None = None
    """The lowest glibc that the boxes will meet, on Linux. Left out: 2.28."""
    interpreter: Interpreter = "conda"
    """Where Python comes from: "conda" locks it along, "host" takes the machine's own and has no conda half."""
    boxes: Annotated[tuple[Word, ...], Limits(min_length=1)] | None = None
    """The formats that are made for it, such as "pex". Left out: all of `[boxes]`."""

    @property
    def glibc_or_default(self) -> str | None:
        """The floor that holds: the one given, else the default of a Linux platform."""
        return self.glibc or (DEFAULT_GLIBC if self.platform.startswith("linux-") else None)

    def check_keys(self, given: frozenset[str]) -> None:  # noqa: ARG002 - part of the contract
        """See `Section`."""
        if self.glibc and not self.platform.startswith("linux-"):
            raise ValueError(f"`glibc` is for Linux; {self.platform} has none")


@dataclass(frozen=True, kw_only=True)
class Hooks(Section):
    """`[hooks]`: the user's scripts, as paths relative to the manifest."""

    pre_install: RelativePath | None = None
    """Run before the box's files are there."""
    post_install: RelativePath | None = None
    """Run when the box is installed."""
    pre_remove: RelativePath | None = None
    """Run while the box is still whole, before it is removed."""
    post_remove: RelativePath | None = None
    """Run when the box is gone."""


@dataclass(frozen=True, kw_only=True)
class DirectoryTable(Section):
    """`[[system.directories]]`: a folder outside the box, for what the application makes."""

    kind: DirectoryKind = "state"
    """What is kept there. A "run" folder lies below /run, and is made anew at each start of the machine."""
    path: SystemPath | None = None
    """Left out: the application's own below /var/lib, /var/log, /var/cache or /run, by the kind."""
    owner: OwnerText | None = None
    """"user" or "user:group": root, or the one of `system.user`, which it is where left out."""
    mode: ModeText = "0750"
    """Who may do what, in octal."""
    size: SizeText = "1G"
    """How much room a "state" folder needs, where room must be asked for."""

    def path_of(self, application: str) -> str:
        """Where it lies for the application of this name."""
        return self.path or f"{_FOLDERS[self.kind]}/{application}"

    def check_keys(self, given: frozenset[str]) -> None:  # noqa: ARG002 - part of the contract
        """See `Section`."""
        if self.path is None:
            return
        if self.path in _SHARED_FOLDERS or self.path.startswith(_FOREIGN_FOLDERS):
            raise ValueError("`path` is a folder of the system's own")
        if (self.kind == "run") != self.path.startswith("/run/"):
            raise ValueError('`path` lies below /run for a folder of the kind "run", and for no other')


@dataclass(frozen=True, kw_only=True)
class FileTable(Section):
    """`[[system.files]]`: a configuration file, which is kept on upgrades where it was edited."""

    source: RelativePath
    """The file in the project, relative to the manifest."""
    path: SystemPath
    """Where it goes: below /etc."""
    owner: OwnerText = "root"
    """"user" or "user:group": root, or the one of `system.user`."""
    mode: ModeText = "0644"
    """Who may do what, in octal."""

    def check_keys(self, given: frozenset[str]) -> None:  # noqa: ARG002 - part of the contract
        """See `Section`."""
        if not self.path.startswith("/etc/"):
            raise ValueError("`path` must lie below /etc")


@dataclass(frozen=True, kw_only=True)
class Hardening(Section):
    """`[system.units.<name>.hardening]`: what systemd keeps a service from; all of it, unless switched off."""

    no_new_privileges: bool = True
    """Neither it nor what it starts can gain privileges, by setuid programs for one."""
    protect_system: bool = True
    """It can write nowhere but in `system.directories`, /tmp and /dev."""
    protect_home: bool = True
    """It does not see home directories."""
    private_tmp: bool = True
    """It has a /tmp of its own."""
    private_devices: bool = True
    """It sees no devices but the harmless ones."""
    protect_kernel: bool = True
    """It cannot change the kernel's settings, modules and control groups."""
    restrict_namespaces: bool = True
    """It can make no namespaces, as containers and sandboxes of browsers do."""
    restrict_realtime: bool = True
    """It cannot take realtime priority."""
    restrict_setuid: bool = True
    """It can make no setuid and setgid files."""
    restrict_addresses: bool = True
    """It has sockets of IPv4, IPv6 and Unix alone."""
    lock_personality: bool = True
    """It cannot change the kernel's execution domain."""
    native_calls: bool = True
    """It can make system calls of the machine's own architecture alone."""


@dataclass(frozen=True, kw_only=True)
class UnitTable(Section):
    """`[system.units.<name>]`: a process that systemd starts and watches, as `<app>-<name>.service`."""

    command: Command = ()
    """Its program and arguments. Left out: `app.command`."""
    user: UserName | None = None
    """Who runs it: `system.user`, which it is where left out, or root."""
    environment: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables beside those of `app.environment`."""
    restart: Restart = "on-failure"
    """When systemd starts it again."""
    restart_seconds: Annotated[int, Limits(ge=0, le=86400)] = 5
    """How long it waits before that."""
    stop_seconds: Annotated[int, Limits(ge=1, le=86400)] = 30
    """How long it may take to end, before it is killed."""
    memory: SizeText | None = None
    """The most memory that it may take ("512M")."""
    tasks: Annotated[int, Limits(ge=1, le=4194304)] | None = None
    """The most processes and threads."""
    open_files: Annotated[int, Limits(ge=16, le=1073741816)] | None = None
    """The most open files and connections."""
    network: bool = True
    """Whether it is started after the network is there."""
    capabilities: tuple[Capability, ...] = ()
    """What it may do of root's without being root ("CAP_NET_BIND_SERVICE": ports below 1024)."""
    hardening: Hardening = Hardening()
    """What it is kept from."""


@dataclass(frozen=True, kw_only=True)
class LogrotateTable(Section):
    """`[system.logrotate]`: the `*.log` files of the folders of the kind "log" are rotated."""

    every: Frequency = "weekly"
    """How often."""
    keep: Annotated[int, Limits(ge=0, le=1000)] = 8
    """How many old ones stay."""
    max_size: SizeText | None = None
    """Sooner, where a file has become larger than this ("100M")."""
    compress: bool = True
    """Whether old ones are compressed, but for the last."""


@dataclass(frozen=True, kw_only=True)
class SystemTable(Section):
    """`[system]`: what the application wants of the system that a package installs it on."""

    user: Annotated[UserName, Checked(_not_root)] | None = None
    """A system user, and a group of the same name: made when the package is installed, kept when it is removed."""
    directories: tuple[DirectoryTable, ...] = ()
    """Folders for what the application makes; what is in them is kept when the package is removed."""
    files: tuple[FileTable, ...] = ()
    """Configuration files."""
    units: dict[UnitName, UnitTable] = field(default_factory=dict)
    """Services of systemd."""
    logrotate: LogrotateTable | None = None
    """How log files are rotated. Left out: they are not."""


@dataclass(frozen=True, kw_only=True)
class Service(Section):
    """`[services.<name>]`: what the application talks to while it is developed, under that name as host."""

    image: ImageName
    """The container image that it is started from, or "service:redis" and the like, made of Debian packages here."""
    command: Command = ()
    """What is started instead of the image's own command."""
    environment: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables that it gets."""
    secrets: Annotated[tuple[Variable, ...], Checked(_variables_once)] = ()
    """Names of environment variables that whoever runs it must give; their values are written nowhere."""
    ports: Ports = ()
    """TCP ports that `boxsnake run` publishes on this machine as well; the application reaches all of them anyway."""
    check: Command = ()
    """What exits with 0 in it when it is ready (["redis-cli", "ping"]). Left out: it is after running for a second."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentTable(Section):
    """`[environments.<name>]`: what `boxsnake run --environment` selects ("local" where it is not told)."""

    environment: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables of the application beside, or instead of, those of `app.environment`."""
    services: dict[Name, ImageName] = field(default_factory=dict)
    """Images of services instead of those that `[services]` names."""
    without: tuple[Name, ...] = ()
    """Services that are not started, since they run elsewhere."""
    secrets_file: Line | None = None
    """A file with lines NAME=value for secrets, relative to the manifest, which is in no version control."""


_KINDS = {
    "run": {"expect", "matches", "exit_code"},
    "http": {"port", "status", "expect", "matches", "values", "requests"},
    "tcp": set[str](),
    "log": set[str](),
    "file": {"expect", "matches"},
}
"""The kinds of checks, and the further keys that each takes."""


@dataclass(frozen=True, kw_only=True)
class CheckTable(Section):
    """`[[checks]]`: something that a booted box must do: run a command, answer, write, hold a file."""

    more_schema: ClassVar[Mapping[str, Any]] = {"oneOf": [{"required": [kind]} for kind in _KINDS]}

    name: Word
    """What the report calls it; no two checks share one."""
    run: ScriptCommand | None = None
    """A command and its arguments, found in the box."""
    expect: ScriptArgument | None = None
    """Text that the command's output, the page's body, or the file must contain."""
    matches: RegularExpression | None = None
    """A regular expression (Python's, `^` and `$` being those of lines) that must be found in it."""
    exit_code: Annotated[int, Limits(ge=0, le=255)] = 0
    """What the command must exit with."""
    http: HttpPath | None = None
    """A path that the started application must answer ("/health")."""
    port: Port | None = None
    """The port that is asked. Left out: the first of `app.ports`."""
    status: Annotated[int, Limits(ge=100, le=599)] = 200
    """The HTTP status of the answer."""
    values: dict[Word, str | int | float | bool] = field(default_factory=dict)
    """Values that the answer's JSON must have, by paths with dots ({ "services.0.state" = "up" })."""
    requests: Annotated[int, Limits(ge=1, le=100_000)] = 1
    """How many times it is asked, one after another: each answer must be right."""
    tcp: Port | None = None
    """A port that the started application must listen on."""
    log: RegularExpression | None = None
    """A regular expression that must be found in what the started application writes."""
    file: AbsolutePath | None = None
    """The absolute path of a file that must be there, and be readable by the application's user."""
    timeout: Annotated[float, Limits(gt=0, le=86400)] = 30.0
    """Seconds for the check as a whole."""

    @property
    def is_asked(self) -> bool:
        """Whether it is something that the started application is asked."""
        return self.run is None and self.file is None

    def check_keys(self, given: frozenset[str]) -> None:
        """See `Section`."""
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("a check has one of `run`, `http`, `tcp`, `log` and `file`")
        foreign = set().union(*_KINDS.values()) - _KINDS[kinds[0]]
        for name in sorted(foreign & given):
            takers = " or ".join(f"`{kind}`" for kind, keys in _KINDS.items() if name in keys)
            raise ValueError(f"`{key_of(name)}` is for checks with {takers}")


@dataclass(frozen=True, kw_only=True)
class BootTable(Section):
    """`[boot]`: what `boxsnake boot` passes over, as it is known and does no harm, and budgets of the application."""

    skip: tuple[Word, ...] = ()
    """Modules of the top level that are not imported, such as those for other systems, and programs that are not
    started."""
    optional_libraries: tuple[Word, ...] = ()
    """Shared libraries that some file of the box is linked against and that may be missing ("libtbb.so.*")."""
    start_seconds: Annotated[float, Limits(gt=0, le=86400)] | None = None
    """The most that the application may take from its start until it passes the first check that asks it something."""
    memory: SizeText | None = None
    """The most memory that it may take with all of its processes after the last such check ("200M")."""


@dataclass(frozen=True, kw_only=True)
class Manifest(Section):
    """A whole manifest."""

    app: App
    """The application itself."""
    requires: Requires = Requires()
    """Everything that the application needs."""
    targets: dict[Name, TargetTable] = field(default_factory=dict)
    """The kinds of machines that boxes are made for, by any names. Left out: "default", which is linux-64."""
    hooks: Hooks = Hooks()
    """The user's scripts for the moments of a box's life."""
    system: SystemTable = SystemTable()
    """What the application wants of the system that a package installs it on."""
    services: dict[Name, Service] = field(default_factory=dict)
    """What the application talks to while it is developed, by names of your choice."""
    environments: dict[Name, EnvironmentTable] = field(default_factory=dict)
    """Settings that `boxsnake run --environment` chooses among, such as "local", "stage" and "prod"."""
    checks: tuple[CheckTable, ...] = ()
    """What every booted box must do, besides starting."""
    boot: BootTable = BootTable()
    """What is passed over when boxes are booted, and budgets."""
    boxes: Mapping[str, Any] = field(default_factory=dict)
    """The formats to make, each with its own options. Left out: every format, by its defaults."""

    def target(self, name: str) -> Target:
        """The target of that name as a value. Errors: KeyError."""
        table = self.targets[name]
        return Target(
            name=name,
            platform=table.platform,
            python=table.python,
            glibc=table.glibc_or_default,
            interpreter=table.interpreter,
        )
