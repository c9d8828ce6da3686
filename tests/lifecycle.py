"""The whole life of an operating system's package on its host, as a table: one row for each kind of package.

An example is built in three versions, which differ in the application's code and in what it requires, and published
with signatures. Then a clean host without network goes through its life with dnf or apt. After each step everything of
the version in use is compared with what a fresh installation of it gave.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.store import Store
from tests.container_shell import Shell
from tests.signing_key import gpg_home, new_key

ROOT = Path(__file__).parent.parent
KEY = "release@example.org"
VERSIONS = ("1.0.0", "2.0.0", "3.0.0")
# What a version requires that the others do not: files that come and go with it.
REQUIRED = {"1.0.0": "", "2.0.0": '"tomli-w ==1.2.0", ', "3.0.0": '"iniconfig ==2.0.0", '}


@dataclass(frozen=True, kw_only=True)
class Manager:
    """A package manager's words for each step of a life; `{0}` is the application, `{1}` a version of its package."""

    host: str
    publish: str
    set_up: str
    install: str
    reinstall: str
    change: str
    """Up, and down again by `downgrade`."""
    downgrade: str
    undo: str
    """Back to where the last step came from; `{1}` is that version."""
    erase: str
    verify: str
    """Says nothing where all is well."""
    owned: str
    """The paths of a package."""


_DNF = "dnf --quiet --assumeyes --releasever=1 --setopt=reposdir=/repo/files"
_APT = "DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --assume-yes"
_PACKAGES = "/repo/packages"

DNF = Manager(
    host="debian-12-rpm",
    publish="rpm-repo",
    set_up=f"""\
mkdir /repo/files
printf '[r]\\nname=r\\nbaseurl=file://{_PACKAGES}\\ngpgcheck=1\\nrepo_gpgcheck=1\\n%s\\n' \
    gpgkey=file://{_PACKAGES}/repository-key.asc >/repo/files/r.repo
rm -f /var/lib/rpm/.rpm.lock
{_DNF} makecache
""",
    install=f"{_DNF} install {{0}}-{{1}}",
    reinstall=f"{_DNF} reinstall {{0}}-{{1}}",
    change=f"{_DNF} upgrade {{0}}-{{1}}",
    downgrade=f"{_DNF} downgrade {{0}}-{{1}}",
    undo=f"{_DNF} history undo last",
    erase=f"{_DNF} remove {{0}}",
    verify="rpm -V {0}",
    owned="rpm -ql {0}",
)
APT = Manager(
    host="debian-12-python",
    publish="deb-repo",
    set_up=f"""\
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick
echo 'deb [signed-by={_PACKAGES}/repository-key.asc] file:{_PACKAGES} stable main' >/etc/apt/sources.list
{_APT} update
""",
    install=f"{_APT} install {{0}}={{1}}",
    reinstall=f"{_APT} install --reinstall {{0}}={{1}}",
    change=f"{_APT} install {{0}}={{1}}",
    downgrade=f"{_APT} install --allow-downgrades {{0}}={{1}}",
    undo=f"{_APT} install --allow-downgrades {{0}}={{1}}",
    erase=f"{_APT} remove --auto-remove {{0}}",
    verify="dpkg --verify {0}; dpkg --audit",
    owned="dpkg --listfiles {0}",
)


@dataclass(frozen=True)
class Row:
    """One kind of package: its format, the options of its box as TOML, and the manager that takes it."""

    name: str
    format: str
    options: str
    manager: Manager


ROWS = (
    Row("rpm of files", "rpm", 'payload = "files"', DNF),
    Row("rpm of archives", "rpm", 'payload = "archives"', DNF),
    Row("deb of files", "deb", "", APT),
)


@dataclass(frozen=True)
class Example:
    """An example's life: its name, what proves on a host that it works, and who uses it."""

    name: str
    proof: str
    """A script for the application's own Python; its last line is "works"."""
    user: str


_SERVES = """\
import subprocess, time, urllib.request
def ask(path):
    with urllib.request.urlopen("http://127.0.0.1:8000" + path, timeout=5) as answer:
        return answer.read().decode()
server = subprocess.Popen(["hello-web", "@/etc/hello-web/hello-web.args"], stderr=subprocess.DEVNULL)
try:
    deadline = time.monotonic() + 30
    while True:
        try:
            health = ask("/health")
            break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.05)
    assert '"status":"ok"' in health and "Hello!" in ask("/")
finally:
    server.terminate()
    server.wait()
print("works")
"""
_REPORTS = """\
import subprocess
said = [subprocess.check_output(["report", *more], text=True) for more in ((), ("--by", "product"))]
assert "north" in said[0] and "plums" in said[1]
print("works")
"""
HELLO_WEB = Example("hello-web", _SERVES, "hello-web")
REPORT = Example("report", _REPORTS, "daemon")


@contextmanager
def signing_home() -> Iterator[Path]:
    """gpg's folder with the key that all repositories are signed with."""
    with gpg_home() as home:
        new_key(home, KEY.partition("@")[0], "--passphrase", "")
        yield home


def sources(example: Example, folder: Path, versions: Sequence[str] = VERSIONS) -> dict[str, Path]:
    """The example's folder in each version, locked, by version."""
    found = {}
    for version in versions:
        source = found[version] = folder / f"{example.name}-{version}"
        ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
        shutil.copytree(ROOT / "examples" / example.name, source, ignore=ignored)
        for path in (source / "boxsnake.toml", source / "pyproject.toml"):
            path.write_text(path.read_text().replace("1.0.0", version))
        manifest = source / "boxsnake.toml"
        text, _, _ = manifest.read_text().partition("[boxes.")
        manifest.write_text(text.replace("pip = [", f"pip = [{REQUIRED[version]}", 1))
        module = next((source / "src").rglob("__init__.py"))
        module.write_text(f"{module.read_text()}\nMADE_FOR = '{version}'\n")
        _boxsnake(source, "lock")
    return found


def build(source: Path, form: str, options: str) -> list[Path]:
    """Make the source's box of one format, with options as TOML; its packages."""
    manifest = source / "boxsnake.toml"
    text, _, _ = manifest.read_text().partition("[boxes.")
    manifest.write_text(f"{text}[boxes.{form}]\n{options}\n")
    return [Path(box["path"]) for box in json.loads(_boxsnake(source, "build", form, "--json"))["boxes"]]


def publish(row: Row, found: Mapping[str, Path], folder: Path, home: Path) -> Path:
    """A signed repository with these sources as packages of the row's kind, beside those that are in it already."""
    repository = folder / "packages"
    for source in found.values():
        built = build(source, row.format, f'compression = "zstd:1"\n{row.options}')
        command = ["publish", row.manager.publish, str(repository), *map(str, built)]
        _boxsnake(source, *command, "--sign", KEY, "--gpg-home", str(home))
        for path in built:
            path.unlink()
    return repository


def _boxsnake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "boxsnake", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# All that a version has on the host: paths, modes, owners, digests. What an installation writes about itself is not
# the version's own. What the package does not name is somebody else's, and nobody else has written there. The digests
# of the environment's files are in install/<version>/sums; the self-check compares each with its file.
_LISTING = """\
set -e
[ "$(readlink /opt/{name}/current)" = {version}-1 ]
listing() {{
    cd /opt/{name}
    find {version}-1 install/{version}-1 ! -name kept-copy -printf '%p %M %u %g %l\\n'
    find install/{version}-1 -type f ! -name kept-copy ! -path '*/archives/*' -exec sha256sum {{}} +
    {owned} | grep -v '^/opt' | while read -r path; do
        if [ -d "$path" ]; then continue; fi
        stat -c '%n %A %U %G' "$path"
        if [ -L "$path" ]; then readlink "$path"; else sha256sum "$path"; fi
    done
}}
listing | LC_ALL=C sort >/tmp/now
if [ ! -e /tmp/{name}-{version} ]; then cp /tmp/now /tmp/{name}-{version}; fi
diff /tmp/{name}-{version} /tmp/now
{owned} | grep '^/opt/{name}/{version}-1/' | LC_ALL=C sort >/tmp/owned
find /opt/{name}/{version}-1 -mindepth 1 | LC_ALL=C sort | diff /tmp/owned -
[ "$(wc -l </tmp/owned)" -gt 1000 ]
{verify}
/opt/{name}/bin/{name}-ctl selfcheck
"""
_PROOF = """\
cd /tmp
PATH=/opt/{name}/current/bin:$PATH
export PATH
setpriv --reuid {user} --regid {user} --clear-groups python /repo/{name}.py
"""

# Every path of the host; but what package managers and tests themselves write.
_HOST = """\
find / /opt -xdev '(' -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /repo -o -path /var/lib/rpm \
    -o -path /var/lib/dnf -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
    -o -path /root/.gnupg -o -path '/etc/*-' -o -path /etc/.pwd.lock ')' -prune -o -printf '%p %M %u %g %l\\n' | sort
"""


class Host:
    """A clean host without network that knows the signed repository."""

    def __init__(self, shell: Shell, row: Row) -> None:
        self._shell = shell
        self._manager = row.manager
        # In memory, where making it durable takes no time.
        self.sh("mount -t tmpfs -o mode=755 tmpfs /opt")
        self.sh(row.manager.set_up)
        self._clean = self.sh(_HOST)

    def sh(self, script: str) -> str:
        """What a script says, which must succeed."""
        done = self._shell.run(("sh", "-c", script), {})
        assert done.exit_code == 0, f"{script}\n{done.said[-4000:]}"
        return done.said.strip()

    def install(self, example: Example, version: str) -> None:
        """By name and version, from the repository."""
        self.sh(self._manager.install.format(example.name, f"{version}-1"))

    def reinstall(self, example: Example, version: str) -> None:
        """The version that is installed, once more."""
        self.sh(self._manager.reinstall.format(example.name, f"{version}-1"))

    def upgrade(self, example: Example, version: str) -> None:
        """To a later version."""
        self.sh(self._manager.change.format(example.name, f"{version}-1"))

    def downgrade(self, example: Example, version: str) -> None:
        """To an earlier version."""
        self.sh(self._manager.downgrade.format(example.name, f"{version}-1"))

    def undo(self, example: Example, version: str) -> None:
        """What was done last; `version` is what that leads to."""
        self.sh(self._manager.undo.format(example.name, f"{version}-1"))

    def erase(self, example: Example) -> None:
        """The package, and what came for its sake."""
        self.sh(self._manager.erase.format(example.name))

    def is_whole(self, example: Example, version: str) -> None:
        """This version is in use, passes its checks, and is what its first installation on this host gave."""
        commands = {name: getattr(self._manager, name).format(example.name) for name in ("verify", "owned")}
        said = self.sh(_LISTING.format(name=example.name, version=version, **commands))
        assert said == f"{example.name} {version}-1 is whole and works"

    def works(self, example: Example) -> None:
        """Its user gets from it what they want."""
        assert self.sh(_PROOF.format(name=example.name, user=example.user)) == "works"

    def follow(self, example: Example, heading: str) -> None:
        """Run the commands of a section of docs/packages.md on this example; each says what is printed there."""
        text = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")
        _, found, rest = text.partition(f"\n### {heading}\n")
        assert found, heading
        shown = [line[4:] for line in rest.partition("\n##")[0].splitlines() if line.startswith("    ")]
        asked, expected = [], list[str]()
        for line in (line.replace("report", example.name).replace("pandas", "flask") for line in shown):
            if line.startswith("$ "):
                asked.append(line[2:])
            else:
                expected.append(line)
        assert len(asked) > 2
        dnf = f'dnf() {{ {_DNF.replace("dnf", "command dnf", 1)} "$@" >/dev/null; }}\n'
        said = self.sh(dnf + "exec 2>&1\n" + "".join(f"{command} || true\n" for command in asked)).splitlines()
        # Debian's rpm says so each time.
        assert [line for line in said if "use Alien" not in line and "However assuming" not in line] == expected

    def left(self) -> list[str]:
        """The paths that are on this host now and were not before anything was installed, and the other way round."""
        before, now = set(self._clean.splitlines()), set(self.sh(_HOST).splitlines())
        return sorted(line.partition(" ")[0] for line in before ^ now)


@contextmanager
def host(row: Row, repository: Path, *examples: Example) -> Iterator[Host]:
    """Start a clean host with the repository and the examples' proofs in it."""
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()[row.manager.host])
    with engine.container(image, sleep=sleeper(), capabilities=(*INSTALLING, "SYS_ADMIN")) as container:
        container.copy(repository, _PACKAGES)
        for example in examples:
            proof = repository.with_name(f"{example.name}.py")
            proof.write_text(example.proof)
            container.copy(proof, f"/repo/{proof.name}")
        with Shell.within(container) as shell:
            yield Host(shell, row)
