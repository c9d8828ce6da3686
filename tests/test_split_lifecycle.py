"""Applications split into packages that all of a host share, over their whole life, by dnf and rpm in a clean host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.plan import Hook
from boxsnake.store import Store
from tests.package_host import RpmHost
from tests.rpm_trees import build, plan_for
from tests.thorough import thorough

pytestmark = [pytest.mark.engine, pytest.mark.long]

CONTROL = "/opt/app/bin/app-ctl"
VERSIONS = ("1.0", "2.0", "3.0")
MOMENTS = ("pre-install", "post-install", "pre-remove", "post-remove")
HOOK = """\
echo "{moment} $BOXSNAKE_ACTION $BOXSNAKE_VERSION ${{BOXSNAKE_OLD_VERSION:-none}}" >>/tmp/hooks
[ ! -e /tmp/fail-{moment} ] || exit 9
[ ! -e /tmp/kill-{moment} ] || kill -9 "$(cut -d' ' -f4 /proc/$PPID/stat)" $PPID
"""
HOOKS = tuple(Hook(moment=one, file_name=f"{one}.sh", content=HOOK.format(moment=one).encode()) for one in MOMENTS)

# A version's tree: all that it holds, and how many names each file has.
TREE = "cd /opt/app/{} && find . -type f -printf '%p %m %Ts\\n' -exec sha256sum {{}} + -o -printf '%p %m %l\\n' | sort"


class HostBox(RpmHost):
    """A clean host with a repository in /repo."""

    def ready(self) -> None:
        self.sh("mkdir /repos; printf '[r]\\nname=r\\nbaseurl=file:///repo\\ngpgcheck=0\\n' >/repos/r.repo")

    def reset(self) -> None:
        ours = "$(rpm -qa 'app*' 'other*' 'boxsnake-*')"
        self.run("sh", "-c", f"rpm -e --noscripts --nodeps --allmatches {ours}")
        # What dnf has done and said before is of no account either.
        self.empty_opt()
        self.sh("rm -rf /tmp/* /box /usr/bin/app* /var/lib/dnf/history* /var/log/dnf*")

    def said(self) -> str:
        """What scriptlets have said under dnf."""
        return self.sh("cat /var/log/dnf.rpm.log")

    def installed(self) -> list[str]:
        """The packages but for those of the store."""
        return sorted(self.sh("rpm -qa 'app*' 'other*' --queryformat '%{name}-%{version}\\n'").splitlines())

    def store(self) -> list[str]:
        return sorted(self.sh("rpm -qa 'boxsnake-*' --queryformat '%{name}\\n'").splitlines())

    def does(self, *arguments: str) -> None:
        done = self.dnf(*arguments)
        assert done.exit_code == 0, done.said

    def works(self, version: str) -> None:
        """The version is the one in use, and nobody finds anything wrong."""
        assert self.sh("app; app-admin") == f"app {version}\napp {version}"
        verified = self.run("sh", "-c", "rpm -V $(rpm -qa 'app*' 'boxsnake-*')")
        assert (verified.exit_code, verified.said) == (0, "")
        assert self.sh(f"{CONTROL} selfcheck") == f"app {version}.0-1 is whole and works"


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
def repository(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for path in boxes.glob("*.rpms/*.rpm"):
        there = folder / path.name
        assert not there.exists() or there.read_bytes() == path.read_bytes()
        there.unlink(missing_ok=True)
        there.hardlink_to(path)
    subprocess.run(["createrepo_c", "--quiet", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def host(repository: Path) -> Iterator[HostBox]:
    """One host for all scenarios: each leaves it as it was, which is part of what is tested."""
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12-rpm"])
    with (
        engine.container(image, sleep=sleeper(), capabilities=(*INSTALLING, "SYS_ADMIN")) as container,
        HostBox.within(container) as box,
    ):
        container.copy(repository, "/repo")
        box.hold_in_memory("/var/lib/rpm")
        box.ready()
        yield box


@pytest.fixture
def box(host: HostBox) -> HostBox:
    host.reset()
    return host


def test_an_application_comes_changes_and_goes(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    box.works("1.0")
    first = box.sh(TREE.format("1.0.0-1"))
    assert box.hooks() == ["pre-install install 1.0 none", "post-install install 1.0 none"]
    # One file has two names: it is in the store and in the environment.
    assert box.sh("stat -c %h /opt/app/current/lib/libx.so.1") == "2"
    for arguments, version, old in (
        (("upgrade", "app"), "3.0", "1.0"),
        (("downgrade", "app"), "2.0", "3.0"),
        (("history", "undo", "last"), "3.0", "2.0"),
        (("reinstall", "app"), "3.0", "3.0"),
    ):
        box.does(*arguments)
        box.works(version)
        assert box.hooks()[-1].endswith(f"{version} {old}")
    # Environments lie side by side until they are cleared away; what `keep` says stays all the same.
    # The undone transaction took its own away again.
    assert box.installed() == ["app-3.0.0", "app-env-1.0.0-1-1.0.0", "app-env-3.0.0-1-3.0.0"]
    assert box.sh(TREE.format("1.0.0-1")) == first
    box.does("autoremove")
    assert box.installed() == ["app-3.0.0", "app-env-3.0.0-1-3.0.0"]
    assert box.sh(f"{CONTROL} versions") == "2.0.0-1 (2.0): kept\n3.0.0-1 (3.0): installed, in use"
    box.works("3.0")
    box.does("remove", "app")
    assert (box.installed(), box.store()) == ([], [])
    box.is_clean()


def test_going_back_needs_no_package(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    before = box.sh(TREE.format("1.0.0-1"))
    box.does("upgrade", "app-2.0.0")
    assert box.sh(f"{CONTROL} rollback") == "app: 1.0.0-1 is in use, instead of 2.0.0-1. Restart what is running."
    assert box.sh("app") == "app 1.0"
    assert "1.0.0-1 is in use, after a rollback" in box.run("rpm", "-Vv", "app").said
    assert box.run("rpm", "-V", "app").exit_code != 0
    # What is in use stays, whoever wants it away.
    done = box.dnf("remove", "app-env-1.0.0-1")
    assert done.exit_code != 0
    assert "app 1.0.0-1: is in use and stays" in box.said()
    assert box.sh(f"app; {CONTROL} selfcheck") == "app 1.0\napp 1.0.0-1 is whole and works"
    box.sh(f"{CONTROL} rollback 2.0.0-1")
    # Without its package, and without those of the store, an earlier version is still what it was.
    box.does("autoremove")
    box.works("2.0")
    assert box.installed() == ["app-2.0.0", "app-env-2.0.0-1-2.0.0"]
    assert box.sh(TREE.format("1.0.0-1")) == before
    box.sh(f"{CONTROL} rollback")
    assert box.sh(f"app; {CONTROL} selfcheck") == "app 1.0\napp 1.0.0-1 is whole and works"
    # The package comes again and takes its place.
    box.does("downgrade", "app")
    box.works("1.0")
    assert box.sh(TREE.format("1.0.0-1")) == before
    box.does("remove", "app")
    assert box.installed() == ["app-env-2.0.0-1-2.0.0"]
    box.does("autoremove")
    box.is_clean()


def test_two_applications_share_and_do_not_miss_each_other(box: HostBox) -> None:
    box.does("install", "app-1.0.0", "other")
    assert [name.rpartition("-")[0] for name in box.store()] == [
        "boxsnake-conda-libx-1.0",
        "boxsnake-conda-python-1.0",
        "boxsnake-conda-zlib-1.0",
    ]
    assert box.sh("stat -c %h /opt/app/current/lib/libx.so.1") == "3"
    box.works("1.0")
    assert box.sh("/opt/other/bin/other-ctl selfcheck") == "other 1.0.0-1 is whole and works"
    before = box.store()
    box.does("remove", "other")
    assert box.store() == before
    box.works("1.0")
    assert box.sh("ls /opt") == "app\nboxsnake-store"
    box.does("install", "other")
    box.does("remove", "app")
    assert box.sh("/opt/other/bin/other-ctl selfcheck") == "other 1.0.0-1 is whole and works"
    assert box.run("sh", "-c", "rpm -V $(rpm -qa 'other*' 'boxsnake-*')").exit_code == 0
    box.does("remove", "other")
    assert box.store() == []
    box.is_clean()


def test_a_failed_upgrade_leaves_the_old_version_in_use(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    box.sh("touch /tmp/fail-post-install")
    done = box.dnf("upgrade", "app-2.0.0")
    assert done.exit_code == 1
    assert "app 1.0.0-1: stays in use, because app 2.0.0-1 did not finish its installation" in box.said()
    assert box.sh("app") == "app 1.0"
    assert box.run("rpm", "-V", "app").exit_code != 0
    assert box.run(CONTROL, "selfcheck").exit_code == 1
    box.sh("rm /tmp/fail-post-install")
    box.rpm("-e", "app-2.0.0-1")
    box.works("1.0")
    # dnf does not know any longer that what came with a transaction that failed came as a requirement.
    box.does("remove", "app", "app-env-2*", "boxsnake-*")
    assert box.store() == []
    box.is_clean()


def test_an_environment_that_cannot_be_linked_does_not_come_into_use(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    box.sh("mkdir -p /opt/app/2.0.0-1/lib/libx.so.1/mine")
    done = box.dnf("upgrade", "app-2.0.0")
    assert done.exit_code == 1
    assert "app 2.0.0-1: NOT INSTALLED: IsADirectoryError" in box.said()
    assert box.sh("app") == "app 1.0"
    box.sh("rm -r /opt/app/2.0.0-1/lib/libx.so.1")
    box.does("remove", "--duplicates")
    box.works("2.0")


def test_damage_is_told_and_repaired(box: HostBox) -> None:
    box.does("install", "app-1.0.0", "other")
    # Through one application, in place: it is the other's file as well.
    box.sh("echo >>/opt/app/current/lib/libx.so.1; rm /opt/app/current/share/libx/up /opt/app/current/bin/app")
    for package in ("app-env-1.0.0-1", "other", "other-env-1.0.0-1", "boxsnake-conda-libx-*"):
        assert box.run("sh", "-c", f"rpm -V $(rpm -qa '{package}')").exit_code != 0, package
    done = box.run(CONTROL, "selfcheck")
    assert "/opt/app/1.0.0-1/lib/libx.so.1 has other content than it had" in done.said
    assert "/opt/app/1.0.0-1/share/libx/up: No such file or directory" in done.said
    box.dnf("reinstall", "app")
    assert "libx.so.1: other size. Install the package again that it belongs to." in box.said()
    box.does("reinstall", "boxsnake-conda-libx-*")
    box.does("reinstall", "app", "app-env-1.0.0-1", "other")
    box.works("1.0")
    assert box.sh("/opt/other/bin/other-ctl selfcheck") == "other 1.0.0-1 is whole and works"
    assert box.sh("stat -c %h /opt/app/current/lib/libx.so.1") == "3"


def test_a_failing_pre_remove_hook_keeps_the_application(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    box.sh("touch /tmp/fail-pre-remove")
    assert box.dnf("remove", "app").exit_code == 1
    assert box.sh(f"app; {CONTROL} selfcheck") == "app 1.0\napp 1.0.0-1 is whole and works"
    assert box.installed() == ["app-1.0.0", "app-env-1.0.0-1-1.0.0"]
    box.sh("rm /tmp/fail-pre-remove")
    box.does("remove", "app")
    box.is_clean()


@pytest.mark.parametrize("moment", ["pre-install", "post-install"])
def test_a_killed_upgrade_leaves_one_whole_version_in_use(box: HostBox, moment: str) -> None:
    box.does("install", "app-1.0.0")
    box.sh(f"touch /tmp/kill-{moment}")
    assert box.dnf("upgrade", "app-2.0.0").exit_code == 137
    assert box.sh("app") in {"app 1.0", "app 2.0"}
    box.sh(f"rm /tmp/kill-{moment}")
    box.does("upgrade", "app")
    box.works("3.0")
    box.does("autoremove")
    box.does("remove", "app")
    box.sh("rpm -e $(rpm -qa 'app*' 'boxsnake-*') 2>/dev/null || true")
    box.is_clean()


# While the store is unpacked, the environment, and the label.
@pytest.mark.parametrize("count", [24, *thorough(7, 31)])
def test_rpm_killed_at_any_call_leaves_one_whole_version_in_use(
    box: HostBox, boxes: Path, strace: Path, count: int
) -> None:
    box.copy(strace, "/strace")
    for version in ("1.0", "2.0"):
        box.copy(boxes / f"app-{version}.0-1.x86_64.rpms", f"/box/{version}")
    box.sh("rpm -U /box/1.0/*.rpm")
    assert box.kill_at(count, "sh", "-c", "exec rpm -U --replacepkgs /box/2.0/*.rpm").exit_code == 137
    assert box.sh("app") in {"app 1.0", "app 2.0"}
    box.sh("rpm -U --replacepkgs /box/2.0/*.rpm")
    box.works("2.0")
    assert box.installed() == ["app-2.0.0", "app-env-1.0.0-1-1.0.0", "app-env-2.0.0-1-2.0.0"]
    assert box.sh(f"{CONTROL} rollback; app").endswith("app 1.0")
    box.rpm("-e", "app")
    box.sh("rpm -e $(rpm -qa 'app*' 'boxsnake-*')")
    box.is_clean()


def test_what_users_made_stays(box: HostBox) -> None:
    box.does("install", "app-1.0.0")
    site = "/opt/app/1.0.0-1/lib/python3.11/site-packages"
    box.sh(f"mkdir -p {site}/dep/__pycache__; touch {site}/dep/__pycache__/a.cpython-311.pyc")
    box.sh("mkdir /opt/app/1.0.0-1/mine; echo kept >/opt/app/1.0.0-1/mine/.file")
    box.does("upgrade", "app-2.0.0")
    box.does("upgrade", "app")
    box.does("autoremove")
    kept = "/opt/app/1.0.0-1\n/opt/app/1.0.0-1/mine\n/opt/app/1.0.0-1/mine/.file"
    assert box.sh("find /opt/app/1.0.0-1 | sort") == kept
    box.does("remove", "app")
    assert box.sh("find /opt/app | sort") == f"/opt/app\n{kept}"
