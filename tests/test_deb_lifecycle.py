"""Debian packages over their whole life, by dpkg and apt themselves, in a clean host."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.boot_recipe import Check
from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.plan import Hook
from boxsnake.store import Store
from tests.deb_trees import build, plan_for
from tests.package_host import DebHost
from tests.thorough import thorough

pytestmark = [pytest.mark.engine, pytest.mark.long]

MOMENTS = ("pre-install", "post-install", "pre-remove", "post-remove")
VERSIONS = ("1.0", "2.0", "3.0")
KILLS = ("pre-install", "check", "post-install")

# Kills dpkg and all that it runs, as a power cut would.
KILL = """\
pid=$$
all=
while [ "$pid" -gt 1 ]; do all="$pid $all"; set -- $(cat /proc/$pid/stat); pid=$4; done
kill -9 $all
"""
# Each hook writes down what it is told, and fails or kills dpkg where the test has asked for it.
HOOK = """\
echo "{moment} $BOXSNAKE_ACTION ${{BOXSNAKE_PREFIX##*/}} $BOXSNAKE_VERSION ${{BOXSNAKE_OLD_VERSION:-none}}" >>/tmp/hooks
[ ! -e /tmp/fail-{moment} ] || exit 9
[ ! -e /tmp/kill-{moment} ] || . /repo/kill.sh
"""
# While dpkg has both versions unpacked: notes what the command says then.
CHECK = """\
/usr/bin/app >>/tmp/seen
[ ! -e /tmp/fail-check ] || exit 8
[ ! -e /tmp/kill-check ] || . /repo/kill.sh
"""

# Everything of the application, with its modes, owners, times and digests; but a folder's size and time mean nothing,
# nor does the time of what an installation itself writes.
LIST = """\
{
    find /opt/app /usr/bin -path '*app*' ! -type d ! -path /opt/app/current ! -path '/opt/app/install/[a-z]*' \
        -printf '%p %M %u %g %s %l %Ts \\n' -type f -exec sha256sum {} + | sed 's/^\\([0-9a-f]*\\)  \\(.*\\)/\\2 \\1/'
    find /opt/app -type d -printf '%p %M %u %g\\n'
} | grep -v -e 'app-ctl ' | sort
readlink /opt/app/current
cat /opt/app/install/state
ls -A /opt/app /opt/app/install
"""

STATUS = "dpkg-query --show --showformat '${db:Status-Status} ${Version}' app"


class HostBox(DebHost):
    """A clean host with the packages in /repo."""

    def install(self, version: str, name: str = "app") -> None:
        self.dpkg("--install", package(version, name))

    def status(self) -> str:
        return self.sh(f"{STATUS} 2>/dev/null || true")

    def works(self, version: str) -> None:
        """The version is the one in use, and neither dpkg nor the application finds anything wrong."""
        said = self.sh(
            f"app; app-admin; {STATUS}; echo; dpkg --verify app; dpkg --audit; /opt/app/bin/app-ctl selfcheck"
        )
        used = f"app {version}\napp {version}"
        assert said == f"{used}\ninstalled {version}.0-1\napp {version}.0-1 is whole and works"

    def reset(self) -> None:
        self.run("dpkg", "--purge", "--force-all", "app", "other")
        self.empty_opt()
        self.sh("rm -rf /tmp/*")


def usual(listing: str) -> str:
    """The list without the times of links in /usr/bin: those that dpkg puts back are made anew."""
    return re.sub(r"(?m)^(/usr/bin/.*) \d+ $", r"\1", listing)


def package(version: str, name: str = "app") -> str:
    return f"/repo/{name}_{version}.0-1_amd64.deb"


# For what hardly depends on how the files come.
FILES_FIRST = pytest.mark.parametrize("payload", ["files", *thorough("archives")], indirect=True)


@pytest.fixture(scope="module", params=["files", "archives"])
def payload(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def repository(payload: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions and another application, as a repository that apt takes."""
    folder, made_in = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("made")
    hooks = tuple(
        Hook(moment=moment, file_name=f"{moment}.sh", content=HOOK.format(moment=moment).encode()) for moment in MOMENTS
    )
    check = Check(name="switch", run=("sh", "-c", CHECK))
    for version in VERSIONS:
        plan = dataclasses.replace(plan_for(version, hooks=hooks, options={"payload": payload}), checks=(check,))
        made = build(plan, made_in)
        made.rename(folder / made.name)
    other = build(plan_for("1.0", name="other", options={"commands": ()}), made_in)
    other.rename(folder / other.name)
    (folder / "kill.sh").write_text(KILL)
    with (folder / "Packages").open("wb") as index:
        subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, stdout=index, check=True)
    return folder


@pytest.fixture(scope="module")
def host(repository: Path) -> Iterator[HostBox]:
    """One host for all scenarios: each leaves it as it was, which is part of what is tested."""
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12-python"])
    with (
        engine.container(image, sleep=sleeper(), capabilities=(*INSTALLING, "SYS_ADMIN")) as container,
        HostBox.within(container) as box,
    ):
        container.copy(repository, "/repo")
        box.hold_in_memory("/var/lib/dpkg")
        box.sh("echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick")
        box.sh("echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list")
        yield box


@pytest.fixture
def box(host: HostBox) -> HostBox:
    host.reset()
    return host


def test_every_way_to_a_version_ends_in_the_same_state(box: HostBox) -> None:
    fresh: dict[str, str] = {}
    for version in VERSIONS:
        box.install(version)
        fresh[version] = box.sh(LIST)
        box.works(version)
        box.dpkg("--purge", "app")
        box.is_clean()
    # Up, up again, the same once more, down, and up over one; without what is kept, each is as if it were the first.
    for version in ("1.0", "2.0", "3.0", "3.0", "1.0", "3.0"):
        box.install(version)
        box.works(version)
        box.sh("/opt/app/bin/app-ctl versions")
        own = [line for line in box.sh(LIST).splitlines() if f"{version}.0-1" in line and "/opt/app/" in line]
        assert own == [line for line in fresh[version].splitlines() if f"{version}.0-1" in line and "/opt/app/" in line]
    box.dpkg("--remove", "app")
    box.is_clean()
    box.dpkg("--purge", "app")
    assert box.status() == ""


@FILES_FIRST
def test_one_whole_version_is_in_use_all_the_time(box: HostBox) -> None:
    box.install("1.0")
    loop = "while :; do app >>/tmp/loop 2>&1 || echo failed >>/tmp/loop; sleep 0.01; done"
    box.sh(f"{{ {loop}; }} >/dev/null 2>&1 & echo $! >/tmp/loop.pid")
    for version in ("2.0", "3.0", "1.0"):
        box.install(version)
    box.sh("kill $(cat /tmp/loop.pid); sleep 0.1")
    assert set(box.sh("sort -u /tmp/loop").splitlines()) <= {"app 1.0", "app 2.0", "app 3.0"}
    assert int(box.sh("wc -l </tmp/loop")) > 10


@FILES_FIRST
def test_earlier_versions_are_kept_and_put_into_use_again(box: HostBox) -> None:
    for version in VERSIONS:
        box.install(version)
    assert box.sh("ls -d /opt/app/[0-9]*") == "/opt/app/2.0.0-1\n/opt/app/3.0.0-1"
    box.sh("/opt/app/bin/app-ctl rollback")
    assert box.sh("app") == "app 2.0"
    assert box.sh("dpkg --verify app") == ""
    # From there to the same version once more, now dpkg's, and up again.
    box.install("2.0")
    box.works("2.0")
    box.install("3.0")
    box.works("3.0")
    box.dpkg("--purge", "app")
    box.is_clean()


@FILES_FIRST
def test_hooks_run_at_their_moments(box: HostBox) -> None:
    box.install("1.0")
    assert box.hooks() == ["pre-install install 1.0.0-1 1.0 none", "post-install install 1.0.0-1 1.0 none"]
    box.install("2.0")
    assert box.hooks() == ["pre-install upgrade 2.0.0-1 2.0 1.0", "post-install upgrade 2.0.0-1 2.0 1.0"]
    box.install("2.0")
    assert box.hooks() == ["pre-install install 2.0.0-1 2.0 2.0", "post-install install 2.0.0-1 2.0 2.0"]
    box.install("1.0")
    assert box.hooks() == ["pre-install downgrade 1.0.0-1 1.0 2.0", "post-install downgrade 1.0.0-1 1.0 2.0"]
    box.dpkg("--remove", "app")
    assert box.hooks() == ["pre-remove remove 1.0.0-1 1.0 1.0", "post-remove remove 1.0.0-1 1.0 1.0"]
    box.dpkg("--purge", "app")
    assert box.sh("ls /tmp") == "seen"


@FILES_FIRST
@pytest.mark.parametrize("cause", ["pre-install", "check"])
def test_what_fails_before_the_switch_leaves_everything_as_it_was(box: HostBox, cause: str) -> None:
    box.install("1.0")
    before = usual(box.sh(LIST))
    box.sh(f"touch /tmp/fail-{cause}")
    done = box.run("dpkg", "--install", package("2.0"))
    assert done.exit_code == 1
    assert ("failed with exit status 9" if cause == "pre-install" else "exit status 8 instead of 0") in done.said
    box.sh(f"rm /tmp/fail-{cause}")
    box.works("1.0")
    assert usual(box.sh(LIST)) == before
    box.install("2.0")
    box.works("2.0")


@FILES_FIRST
@pytest.mark.parametrize("way_out", ["configure", "new", "old", "remove"])
def test_a_failing_post_install_puts_the_old_version_into_use_again(box: HostBox, way_out: str) -> None:
    box.install("1.0")
    box.sh("touch /tmp/fail-post-install")
    done = box.run("dpkg", "--install", package("2.0"))
    assert done.exit_code == 1
    assert "the post-install hook (post-install.sh) failed with exit status 9" in done.said
    assert box.sh("app") == "app 1.0"
    assert box.status() == "half-configured 2.0.0-1"
    assert box.run("/opt/app/bin/app-ctl", "selfcheck").exit_code == 1
    assert box.run("dpkg", "--configure", "app").exit_code == 1
    assert box.sh("app") == "app 1.0"
    box.sh("rm /tmp/fail-post-install /tmp/hooks")
    if way_out == "configure":
        box.dpkg("--configure", "--pending")
        assert box.hooks() == ["post-install upgrade 2.0.0-1 2.0 1.0"]
        box.works("2.0")
        box.sh("/opt/app/bin/app-ctl rollback")
        assert box.sh("app") == "app 1.0"
    elif way_out != "remove":
        version = {"new": "3.0", "old": "1.0"}[way_out]
        box.install(version)
        box.works(version)
        assert "2.0.0-1" not in box.sh("ls /opt/app /opt/app/install")
    box.dpkg("--purge", "app")
    box.is_clean()


@FILES_FIRST
def test_a_failed_first_installation_is_told_by_the_command(box: HostBox) -> None:
    box.sh("touch /tmp/fail-post-install")
    assert box.run("dpkg", "--install", package("1.0")).exit_code == 1
    done = box.run("app", "--help")
    assert done.exit_code == 1
    assert done.said.startswith("app: not installed completely\nthe post-install hook (post-install.sh) failed")
    box.sh("rm /tmp/fail-post-install")
    box.dpkg("--configure", "--pending")
    box.works("1.0")
    assert box.hooks()[-1] == "post-install install 1.0.0-1 1.0 none"


@FILES_FIRST
def test_a_hook_that_fails_before_a_first_installation_leaves_nothing(box: HostBox) -> None:
    box.sh("touch /tmp/fail-pre-install")
    assert box.run("dpkg", "--install", package("1.0")).exit_code == 1
    box.is_clean()
    assert box.hooks() == ["pre-install install 1.0.0-1 1.0 none"]


@FILES_FIRST
def test_a_failing_pre_remove_hook_stops_the_removal(box: HostBox) -> None:
    box.install("1.0")
    box.sh("touch /tmp/fail-pre-remove")
    assert box.run("dpkg", "--remove", "app").exit_code == 1
    box.works("1.0")


@pytest.mark.parametrize(
    ("payload", "moment"),
    [
        *(("files", moment) for moment in KILLS),
        ("archives", "check"),
        *(pytest.param("archives", moment, marks=pytest.mark.thorough) for moment in KILLS if moment != "check"),
    ],
    indirect=["payload"],
)
def test_a_killed_upgrade_leaves_one_whole_version_in_use(box: HostBox, moment: str) -> None:
    box.install("3.0")
    fresh = box.sh(LIST)
    box.dpkg("--purge", "app")
    box.install("1.0")
    box.sh(f"touch /tmp/kill-{moment}")
    assert box.run("dpkg", "--install", package("2.0")).exit_code == 137
    assert box.sh("app") == f"app {'2.0' if moment == 'post-install' else '1.0'}"
    box.sh(f"rm /tmp/kill-{moment}")
    if moment == "post-install":
        box.dpkg("--configure", "--pending")
    else:
        # What was being unpacked must be unpacked again: dpkg configures nothing half of which is there.
        box.run("dpkg", "--configure", "--pending")
        assert box.status().startswith("half-installed")
        box.install("2.0")
    box.works("2.0")
    assert box.hooks()[-1] == "post-install upgrade 2.0.0-1 2.0 1.0"
    box.dpkg("--purge", "app")
    box.install("3.0")
    assert box.sh(LIST) == fresh


@FILES_FIRST
def test_a_process_goes_on_while_its_version_is_replaced_or_removed(box: HostBox) -> None:
    box.install("1.0")
    box.sh("(cd /opt/app/1.0.0-1 && exec sleep 60 >/dev/null 2>&1) & echo $! >/tmp/sleeper")
    box.install("2.0")
    box.dpkg("--purge", "app")
    box.sh("kill $(cat /tmp/sleeper)")
    box.is_clean()


@FILES_FIRST
def test_what_users_made_stays(box: HostBox) -> None:
    box.install("1.0")
    site = "/opt/app/1.0.0-1/lib/python3.11/site-packages"
    box.sh(f"mkdir -p {site}/dep/__pycache__; touch {site}/dep/__pycache__/a.cpython-311.pyc")
    box.sh("mkdir /opt/app/1.0.0-1/mine; echo kept >/opt/app/1.0.0-1/mine/.file; ln -s / /opt/app/1.0.0-1/mine/root")
    kept = "/opt/app/1.0.0-1\n/opt/app/1.0.0-1/mine\n/opt/app/1.0.0-1/mine/.file\n/opt/app/1.0.0-1/mine/root"
    for version in ("2.0", "3.0"):
        box.install(version)
    assert box.sh("find /opt/app/1.0.0-1 | sort") == kept
    box.dpkg("--purge", "app")
    assert box.sh("find /opt/app | sort") == f"/opt/app\n{kept}"


@FILES_FIRST
def test_two_applications_lie_side_by_side(box: HostBox) -> None:
    box.install("1.0")
    box.install("1.0", "other")
    box.install("2.0")
    box.works("2.0")
    box.dpkg("--purge", "other")
    box.works("2.0")
    assert box.sh("ls /opt") == "app"


def test_a_damaged_file_is_found_and_repaired(box: HostBox, payload: str) -> None:
    box.install("1.0")
    box.sh("echo damaged >>/opt/app/1.0.0-1/lib/libx.so.1")
    damaged = "/opt/app/1.0.0-1/lib/libx.so.1"
    # dpkg knows of what it has unpacked itself alone.
    assert (damaged in box.sh("dpkg --verify app")) == (payload == "files")
    assert f"{damaged} has other content than it had" in box.run("/opt/app/bin/app-ctl", "selfcheck").said
    box.install("1.0")
    box.works("1.0")


@FILES_FIRST
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("noexec", "nothing can be run from the file system of /opt; is it mounted noexec?"),
        ("ro", "/opt cannot be written"),
        ("size=64k", "KiB on the file system of /opt, which has 64 KiB free"),
    ],
)
def test_a_file_system_that_does_not_fit_is_refused(box: HostBox, options: str, told: str) -> None:
    box.sh(f"mount -t tmpfs -o {options} tmpfs /opt")
    done = box.run("dpkg", "--install", package("1.0"))
    assert done.exit_code == 1
    assert told in done.said
    assert box.status() == "not-installed"
    box.is_clean()


@pytest.mark.parametrize("halves", [3, 5])
def test_a_disk_that_fills_up_meanwhile_harms_nothing(box: HostBox, halves: int) -> None:
    box.sh("mount -t tmpfs tmpfs /opt")
    box.install("1.0")
    before = usual(box.sh(LIST))
    # Room for half a copy of what is in use; then for the copy, and half of the new version.
    box.sh(f"mount -o remount,nr_inodes=$(($(find /opt | wc -l) * {halves} / 2)) /opt")
    done = box.run("dpkg", "--install", package("2.0"))
    assert done.exit_code == 1
    assert ("no copy of 1.0.0-1 could be made" if halves == 3 else "No space left on device") in done.said
    box.works("1.0")
    assert usual(box.sh(LIST)) == before
    box.sh("mount -o remount,nr_inodes=0 /opt")
    box.install("2.0")
    box.works("2.0")


@FILES_FIRST
def test_without_a_shell_nothing_changes(box: HostBox) -> None:
    box.install("1.0")
    before = usual(box.sh(LIST))
    box.succeeds("mv", "/usr/bin/sh", "/usr/bin/sh-away")
    try:
        for command in (("--install", package("2.0")), ("--remove", "app")):
            done = box.run("dpkg", *command)
            assert done.exit_code != 0
            assert "'sh' not found in PATH" in done.said
    finally:
        box.succeeds("mv", "/usr/bin/sh-away", "/usr/bin/sh")
    assert box.sh("app; app-admin") == "app 1.0\napp 1.0"
    box.run("dpkg", "--configure", "--pending")
    box.works("1.0")
    assert usual(box.sh(LIST)) == before


@FILES_FIRST
def test_scripts_may_run_twice(box: HostBox) -> None:
    box.install("1.0")
    box.install("2.0")
    whole = usual(box.sh(LIST))
    box.hooks()
    box.sh("cp /var/lib/dpkg/info/app.prerm /var/lib/dpkg/info/app.postrm /tmp")
    for _ in range(2):
        box.sh("/var/lib/dpkg/info/app.postinst configure 1.0.0-1")
        assert usual(box.sh(LIST)) == whole
        box.works("2.0")
    assert box.hooks() == ["post-install install 2.0.0-1 2.0 2.0"] * 2
    box.sh("/tmp/app.prerm remove; /tmp/app.prerm remove")
    box.dpkg("--remove", "app")
    box.sh("/tmp/app.postrm remove; /tmp/app.postrm remove")
    box.is_clean()
    removed = [f"{moment} remove 2.0.0-1 2.0 2.0" for moment in ("pre-remove", "post-remove")]
    assert box.hooks() == [removed[0]] * 3 + [removed[1]] * 3


@FILES_FIRST
def test_apt_takes_it_from_a_repository(box: HostBox) -> None:
    assert box.apt("update").exit_code == 0
    for version, arguments in (
        ("1.0", ("install", package("1.0"))),
        ("3.0", ("install", "app")),
        ("2.0", ("install", "--allow-downgrades", "app=2.0.0-1")),
        ("3.0", ("upgrade",)),
        ("3.0", ("install", "--reinstall", "app")),
    ):
        done = box.apt(*arguments)
        assert done.exit_code == 0, done.said
        box.works(version)
    box.sh("touch /tmp/fail-check")
    done = box.apt("install", "--allow-downgrades", "app=2.0.0-1")
    assert done.exit_code == 100
    assert "app 2.0.0-1: NOT INSTALLED" in done.said
    box.sh("rm /tmp/fail-check")
    box.works("3.0")
    assert box.apt("purge", "app").exit_code == 0
    box.is_clean()
