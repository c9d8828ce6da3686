"""Applications split into packages that all of a host share, over their whole life, by apt and dpkg in a clean host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.packagers.deb import PACKAGER
from boxsnake.plan import Hook
from boxsnake.store import Store
from tests.deb_trees import build, plan_for
from tests.package_host import DebHost
from tests.thorough import thorough

pytestmark = pytest.mark.engine

CONTROL = "/opt/app/bin/app-ctl"
VERSIONS = ("1.0", "2.0", "3.0")
MOMENTS = ("pre-install", "post-install", "pre-remove", "post-remove")
# Kills dpkg and all that it runs, as a power cut would.
KILL = """\
pid=$$
all=
while [ "$pid" -gt 1 ]; do all="$pid $all"; set -- $(cat /proc/$pid/stat); pid=$4; done
kill -9 $all
"""
HOOK = """\
echo "{moment} $BOXSNAKE_ACTION $BOXSNAKE_VERSION ${{BOXSNAKE_OLD_VERSION:-none}}" >>/tmp/hooks
[ ! -e /tmp/fail-{moment} ] || exit 9
[ ! -e /tmp/kill-{moment} ] || . /repo/kill.sh
"""
HOOKS = tuple(Hook(moment=one, file_name=f"{one}.sh", content=HOOK.format(moment=one).encode()) for one in MOMENTS)
VERIFY = "dpkg --verify $(dpkg-query -W -f '${Package} ' | tr ' ' '\\n' | grep -E '^(app|other|boxsnake-)')"
TREE = "cd /opt/app/{} && find . -type f -printf '%p %m %Ts\\n' -exec sha256sum {{}} + -o -printf '%p %m %l\\n' | sort"


class HostBox(DebHost):
    """A clean host with a repository in /repo."""

    def installed(self, pattern: str = "app*") -> list[str]:
        form = "${db:Status-Status} ${Package}\\n"
        lines = self.sh(f"dpkg-query -W -f '{form}' '{pattern}' 2>/dev/null || true").splitlines()
        return sorted(line.removeprefix("installed ") for line in lines if not line.startswith("not-installed"))

    def does(self, *arguments: str) -> None:
        done = self.apt(*arguments)
        assert done.exit_code == 0, done.said

    def works(self, version: str) -> None:
        """The version is the one in use, and nobody finds anything wrong."""
        said = self.sh(f"app; app-admin; {VERIFY}; dpkg --audit; {CONTROL} selfcheck")
        assert said == f"app {version}\napp {version}\napp {version}.0-1 is whole and works"

    def reset(self) -> None:
        self.run("sh", "-c", "dpkg --purge --force-all $(dpkg-query -W -f '${Package} ' 'app*' 'other*' 'boxsnake-*')")
        self.empty_opt()
        self.sh("rm -rf /tmp/*")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of one application, and another, each laid out as its folder."""
    folder = tmp_path_factory.mktemp("boxes")
    plans = [plan_for(version, hooks=HOOKS, options={"split": True}) for version in VERSIONS]
    plans.append(plan_for("1.0", name="other", options={"split": True, "commands": ()}))
    for plan in plans:
        subprocess.run(["tar", "-xf", str(build(plan, folder)), "-C", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def host(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostBox]:
    """One host for all scenarios: each leaves it as it was, which is part of what is tested."""
    folder = tmp_path_factory.mktemp("repository")
    for path in boxes.glob("*.debs/*.deb"):
        there = folder / path.name
        assert not there.exists() or there.read_bytes() == path.read_bytes()
        there.unlink(missing_ok=True)
        there.hardlink_to(path)
    (folder / "kill.sh").write_text(KILL)
    with (folder / "Packages").open("wb") as index:
        subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, stdout=index, check=True)
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12-python"])
    with (
        engine.container(image, sleep=sleeper(), capabilities=(*INSTALLING, "SYS_ADMIN")) as container,
        HostBox.within(container) as box,
    ):
        container.copy(folder, "/repo")
        box.hold_in_memory("/var/lib/dpkg")
        box.sh("echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick")
        box.sh("echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list; apt-get --quiet=2 update")
        yield box


@pytest.fixture
def box(host: HostBox) -> HostBox:
    host.reset()
    return host


def test_an_application_comes_changes_and_goes(box: HostBox) -> None:
    box.does("install", "app=1.0.0-1")
    box.works("1.0")
    first = box.sh(TREE.format("1.0.0-1"))
    assert box.hooks() == ["pre-install install 1.0 none", "post-install install 1.0 none"]
    assert box.sh("stat -c %h /opt/app/current/lib/libx.so.1") == "2"
    for arguments, version, old in (
        (("install", "app=3.0.0-1"), "3.0", "1.0"),
        (("install", "--allow-downgrades", "app=2.0.0-1"), "2.0", "3.0"),
        (("install", "--reinstall", "app=2.0.0-1"), "2.0", "2.0"),
        (("upgrade",), "3.0", "2.0"),
    ):
        box.does(*arguments)
        box.works(version)
        assert box.hooks()[-1].endswith(f"{version} {old}")
    assert box.installed() == ["app", "app-env-1.0.0-1", "app-env-2.0.0-1", "app-env-3.0.0-1"]
    assert box.sh(TREE.format("1.0.0-1")) == first
    box.does("autoremove", "--purge")
    assert box.installed() == ["app", "app-env-3.0.0-1"]
    assert box.sh(f"{CONTROL} versions") == "2.0.0-1 (2.0): kept\n3.0.0-1 (3.0): installed, in use"
    box.works("3.0")
    box.does("purge", "--autoremove", "app")
    assert (box.installed(), box.installed("boxsnake-*")) == ([], [])
    box.is_clean()


def test_going_back_needs_no_package(box: HostBox) -> None:
    box.does("install", "app=1.0.0-1")
    before = box.sh(TREE.format("1.0.0-1"))
    box.does("install", "app=2.0.0-1")
    assert box.sh(f"{CONTROL} rollback") == "app: 1.0.0-1 is in use, instead of 2.0.0-1. Restart what is running."
    assert box.sh(f"{CONTROL} versions") == "1.0.0-1 (1.0): kept, in use, rolled-back\n2.0.0-1 (2.0): installed"
    # What is in use stays, whoever wants it away.
    done = box.apt("autoremove")
    assert done.exit_code != 0
    assert "app 1.0.0-1: is in use and stays" in done.said
    box.sh(f"{CONTROL} rollback 2.0.0-1")
    # apt takes what it failed to remove for something that was asked for.
    box.does("purge", "--autoremove", "app-env-1.0.0-1")
    box.works("2.0")
    assert box.installed() == ["app", "app-env-2.0.0-1"]
    assert box.sh(TREE.format("1.0.0-1")) == before
    box.sh(f"{CONTROL} rollback")
    assert box.sh(f"app; {CONTROL} selfcheck") == "app 1.0\napp 1.0.0-1 is whole and works"
    box.does("install", "--allow-downgrades", "app=1.0.0-1")
    box.works("1.0")
    assert box.sh(TREE.format("1.0.0-1")) == before
    box.does("purge", "--autoremove", "app", "boxsnake-*")
    box.is_clean()


def test_two_applications_share_and_do_not_miss_each_other(box: HostBox) -> None:
    box.does("install", "app=1.0.0-1", "other")
    assert len(box.installed("boxsnake-*")) == 3
    assert box.sh("stat -c %h /opt/app/current/lib/libx.so.1") == "3"
    box.does("purge", "--autoremove", "other")
    box.works("1.0")
    assert box.sh("ls /opt") == "app\nboxsnake-store"
    box.does("install", "other")
    box.does("purge", "--autoremove", "app")
    assert box.sh(f"/opt/other/bin/other-ctl selfcheck; {VERIFY}") == "other 1.0.0-1 is whole and works"
    box.does("purge", "--autoremove", "other")
    assert box.installed("boxsnake-*") == []
    box.is_clean()


def test_a_folder_of_packages_installs_without_a_repository(box: HostBox, boxes: Path) -> None:
    for version in ("1.0", "2.0"):
        box.copy(boxes / f"app_{version}.0-1_amd64.debs", f"/box/{version}")
        box.sh(f"apt-get --quiet=2 --assume-yes install /box/{version}/*.deb")
        box.works(version)
    box.sh("dpkg --purge $(dpkg-query -W -f '${Package} ' 'app*' 'boxsnake-*')")
    box.is_clean()


@pytest.mark.parametrize("cause", ["link", *thorough("pre-install", "post-install")])
def test_a_failed_upgrade_leaves_the_old_version_in_use(box: HostBox, cause: str) -> None:
    box.does("install", "app=1.0.0-1")
    in_the_way = "/opt/app/2.0.0-1/lib/libx.so.1"
    box.sh(f"mkdir -p {in_the_way}/mine" if cause == "link" else f"touch /tmp/fail-{cause}")
    done = box.apt("install", "app=2.0.0-1")
    assert done.exit_code == 100
    assert ("IsADirectoryError" if cause == "link" else "failed with exit status 9") in done.said
    assert box.sh("app") == "app 1.0"
    box.sh(f"rm -r {in_the_way}" if cause == "link" else f"rm /tmp/fail-{cause}")
    box.does("--fix-broken", "install")
    box.does("install", "app=2.0.0-1")
    box.works("2.0")
    assert box.sh(f"{CONTROL} rollback; app").endswith("app 1.0")
    box.does("purge", "--autoremove", "app")
    box.is_clean()


@pytest.mark.parametrize("moment", ["post-install", *thorough("pre-install")])
def test_a_killed_upgrade_leaves_one_whole_version_in_use(box: HostBox, moment: str) -> None:
    box.does("install", "app=1.0.0-1")
    box.sh(f"touch /tmp/kill-{moment}")
    assert box.apt("install", "app=2.0.0-1").exit_code == 137
    assert box.sh("app") == f"app {'2.0' if moment == 'post-install' else '1.0'}"
    box.sh(f"rm /tmp/kill-{moment}")
    box.run("dpkg", "--configure", "--pending")
    box.does("install", "app=2.0.0-1")
    box.works("2.0")
    box.does("purge", "--autoremove", "app")
    box.is_clean()


# While the store is unpacked, the environment, and the label.
@pytest.mark.parametrize("count", [36, *thorough(16, 90, 130)])
def test_what_a_boot_does_after_a_kill_makes_it_whole(box: HostBox, boxes: Path, strace: Path, count: int) -> None:
    recipe = PACKAGER.boot(plan_for("1.0", options={"split": True}), boxes / "app_1.0.0-1_amd64.debs")
    ((source, place),) = recipe.copies
    box.copy(strace, "/strace")
    box.copy(Path(source), place)
    first = recipe.install[0][-1]
    assert box.kill_at(count, "sh", "-c", f"exec {first}", follow=True).exit_code in {100, 137}
    for command in recipe.again:
        box.succeeds(*command)
    box.works("1.0")
    box.does("purge", "app", "app-env-1.0.0-1", "boxsnake-*")
    box.is_clean()
