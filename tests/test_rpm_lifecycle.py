"""RPMs over their whole life, by rpm and dnf themselves, in a clean host."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.boot_recipe import Check
from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.os_packages import versioned_payload
from boxsnake.plan import Hook
from boxsnake.store import Store
from tests.package_host import RpmHost
from tests.rpm_trees import build, plan_for
from tests.thorough import thorough

pytestmark = [pytest.mark.engine, pytest.mark.long]

PAYLOADS = ("files", "archives")
# For what hardly depends on how the files come.
FILES_FIRST = pytest.mark.parametrize("payload", [PAYLOADS[0], *thorough(*PAYLOADS[1:])])
MOMENTS = ("pre-install", "post-install", "pre-remove", "post-remove")

# Each hook writes down what it is told, and fails or kills rpm where the test has asked for it.
HOOK = """\
echo "{moment} $BOXSNAKE_ACTION $BOXSNAKE_PREFIX $BOXSNAKE_VERSION over ${{BOXSNAKE_OLD_VERSION:-none}}" >>/tmp/hooks
[ ! -e /tmp/fill-{moment} ] || head -c "$(cat /tmp/fill-{moment})" /dev/zero >/opt/filler
[ ! -e /tmp/fail-{moment} ] || {{ echo "the reason"; exit 9; }}
[ ! -e /tmp/kill-{moment} ] || kill -9 "$(cut -d' ' -f4 /proc/$PPID/stat)" $PPID
"""

# Everything of the application, with its modes, owners, times and digests; but a folder's size and time mean nothing,
# nor does the time of what an installation itself writes. Versions that are kept are listed by themselves.
LIST = """\
kept=none
for mark in /opt/app/install/*/kept-copy; do
    if [ -f "$mark" ]; then mark=${mark%/kept-copy}; kept="$kept|${mark##*/}"; fi
done
{
    find /opt/app /usr/bin -path '*app*' ! -type d ! -path '/opt/app/current' ! -path '/opt/app/install/ctl' \
        ! -path /opt/app/install/state ! -path /opt/app/install/kept \
        -printf '%p %M %u %g %s %l %Ts \\n' -type f -exec sha256sum {} + | sed 's/^\\([0-9a-f]*\\)  \\(.*\\)/\\2 \\1/'
    find /opt/app -type d -printf '%p %M %u %g\\n'
} | sort | grep -Ev "^/opt/app/(install/)?($kept)[/ ]"
readlink /opt/app/current /opt/app/install/ctl
cat /opt/app/install/state
"""

# A version's own tree, however it came to be.
TREE = "cd /opt/app/{} && find . -type f -printf '%p %m %Ts\\n' -exec sha256sum {{}} + -o -printf '%p %m %l\\n' | sort"


class HostBox(RpmHost):
    """A clean host with the packages in /repo."""

    def install(self, payload: str, version: str) -> None:
        self.rpm("-U", "--oldpackage", "--replacepkgs", package(payload, version))

    def installed(self) -> list[str]:
        return sorted(self.sh("rpm -qa app").splitlines())

    def works(self, version: str) -> None:
        """The version is the one in use, and rpm finds nothing wrong."""
        assert self.sh("app; app-admin") == f"app {version}\napp {version}"
        verified = self.run("rpm", "-V", "app")
        assert (verified.exit_code, verified.said) == (0, "")

    def reset(self) -> None:
        self.run("mv", "/usr/bin/sh-away", "/usr/bin/sh")
        self.run("rpm", "-e", "--noscripts", "--nodeps", "--allmatches", "app")
        self.run("rpm", "-e", "--noscripts", "--nodeps", "--allmatches", "other")
        self.empty_opt()
        self.sh("rm -rf /tmp/* /usr/bin/app* /repos")

    def hooks(self) -> list[str]:
        return [line.replace("/opt/app/", "") for line in super().hooks()]


def package(payload: str, version: str) -> str:
    return f"/repo/{payload}/app-{version}.0-1.x86_64.rpm"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions in each payload, as repositories that dnf takes."""
    folder, made_in = tmp_path_factory.mktemp("repositories"), tmp_path_factory.mktemp("made")
    hooks = tuple(
        Hook(moment=moment, file_name=f"{moment}.sh", content=HOOK.format(moment=moment).encode()) for moment in MOMENTS
    )
    for payload in PAYLOADS:
        (folder / payload).mkdir()
        for version in ("1.0", "2.0", "3.0"):
            made = build(plan_for(version, hooks=hooks, options={"payload": payload}), made_in / payload)
            made.rename(folder / payload / made.name)
        subprocess.run(["createrepo_c", "--quiet", str(folder / payload)], check=True)
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
        yield box


@pytest.fixture
def box(host: HostBox) -> HostBox:
    host.reset()
    return host


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_way_to_a_version_ends_in_the_same_state(box: HostBox, payload: str) -> None:
    fresh: dict[str, str] = {}
    for version in ("1.0", "2.0", "3.0"):
        box.install(payload, version)
        fresh[version] = box.sh(LIST)
        box.works(version)
        box.reset()
    # Up, up again, the same once more, down, and up over one.
    for version in ("1.0", "2.0", "3.0", "3.0", "1.0", "3.0"):
        box.install(payload, version)
        box.works(version)
        assert box.sh(LIST) == fresh[version], version
        assert box.installed() == [f"app-{version}.0-1.x86_64"]
    box.rpm("-e", "app")
    box.is_clean()


def test_both_payloads_give_the_same_tree(box: HostBox) -> None:
    listings = []
    for payload in PAYLOADS:
        box.reset()
        box.install(payload, "1.0")
        listings.append([line for line in box.sh(LIST).splitlines() if "/install" not in line])
    assert listings[0] == listings[1]
    assert len(listings[0]) > 30


@FILES_FIRST
def test_hooks_run_at_their_moments(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    assert box.hooks() == ["pre-install install 1.0.0-1 1.0 over none", "post-install install 1.0.0-1 1.0 over none"]
    box.install(payload, "2.0")
    assert box.hooks() == ["pre-install upgrade 2.0.0-1 2.0 over 1.0", "post-install upgrade 2.0.0-1 2.0 over 1.0"]
    box.install(payload, "2.0")
    assert box.hooks() == ["pre-install install 2.0.0-1 2.0 over 2.0", "post-install install 2.0.0-1 2.0 over 2.0"]
    box.install(payload, "1.0")
    assert box.hooks() == ["pre-install downgrade 1.0.0-1 1.0 over 2.0", "post-install downgrade 1.0.0-1 1.0 over 2.0"]
    box.rpm("-e", "app")
    assert box.hooks() == ["pre-remove remove 1.0.0-1 1.0 over 1.0", "post-remove remove 1.0.0-1 1.0 over 1.0"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_failed_upgrade_leaves_the_old_version_in_use(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    box.sh("touch /tmp/fail-post-install")
    done = box.run("rpm", "-U", package(payload, "2.0"))
    assert done.exit_code == 1
    assert "the post-install hook (post-install.sh) failed with exit status 9" in done.said
    assert "app 1.0.0-1: stays in use, because app 2.0.0-1 did not finish its installation" in done.said
    assert box.sh("app") == "app 1.0"
    assert box.run("rpm", "-V", "app").exit_code != 0
    assert box.installed() == ["app-1.0.0-1.x86_64", "app-2.0.0-1.x86_64"]
    # Either way out: the failed version is taken away, or one that works comes.
    box.rpm("-e", "app-2.0.0-1")
    box.works("1.0")
    assert box.run("rpm", "-U", package(payload, "2.0")).exit_code == 1
    box.sh("rm /tmp/fail-post-install")
    box.install(payload, "3.0")
    box.works("3.0")
    assert box.installed() == ["app-3.0.0-1.x86_64"]
    assert box.sh("ls /opt/app") == "1.0.0-1\n3.0.0-1\nbin\ncurrent\ninstall"


@FILES_FIRST
def test_a_failed_first_installation_is_told_by_the_command(box: HostBox, payload: str) -> None:
    box.sh("touch /tmp/fail-post-install")
    box.run("rpm", "-i", package(payload, "1.0"))
    done = box.run("app", "--help")
    assert done.exit_code == 1
    assert done.said.startswith("app: not installed completely\nthe post-install hook (post-install.sh) failed with")
    assert "it said last:\nthe reason\n" in done.said
    assert box.run("/opt/app/bin/app-ctl", "selfcheck").exit_code == 1
    assert box.run("rpm", "-V", "app").exit_code != 0
    box.sh("rm /tmp/fail-post-install")
    box.install(payload, "1.0")
    box.works("1.0")
    assert box.hooks()[-1] == "post-install install 1.0.0-1 1.0 over none"


@FILES_FIRST
def test_versions_can_lie_side_by_side(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    box.rpm("-i", package(payload, "2.0"))
    box.works("2.0")
    assert box.installed() == ["app-1.0.0-1.x86_64", "app-2.0.0-1.x86_64"]
    box.rpm("-e", "app-2.0.0-1")
    box.works("1.0")
    box.rpm("-i", package(payload, "2.0"))
    box.rpm("-e", "app-1.0.0-1")
    box.works("2.0")
    box.rpm("-e", "app")
    box.is_clean()


def test_archives_that_cannot_be_linked_leave_the_old_version_in_use(box: HostBox) -> None:
    box.install("archives", "1.0")
    # Where a file must go, a folder that somebody made is in the way.
    box.sh("mkdir -p /opt/app/2.0.0-1/lib/libx.so.1/mine")
    done = box.run("rpm", "-U", package("archives", "2.0"))
    assert done.exit_code == 1
    assert "app 2.0.0-1: NOT INSTALLED: IsADirectoryError" in done.said
    assert box.sh("app") == "app 1.0"
    box.sh("rm -r /opt/app/2.0.0-1/lib/libx.so.1")
    assert box.dnf("--repofrompath=r,/repo/archives", "--nogpgcheck", "remove", "--duplicates").exit_code == 0
    box.works("2.0")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_damage_is_found_and_repaired_by_installing_again(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    before = box.sh(LIST)
    box.sh("rm /opt/app/current/bin/app; echo >>/opt/app/current/lib/python3.11/site-packages/dep.py")
    done = box.run("rpm", "-Vv", "app")
    assert done.exit_code != 0
    assert "/opt/app/1.0.0-1/bin/app" in done.said
    assert "/opt/app/1.0.0-1/lib/python3.11/site-packages/dep.py" in done.said
    box.install(payload, "1.0")
    box.works("1.0")
    assert box.sh(LIST) == before


@FILES_FIRST
def test_what_users_made_stays_and_bytecode_goes(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    site = "/opt/app/1.0.0-1/lib/python3.11/site-packages"
    box.sh(f"mkdir -p {site}/dep/__pycache__; touch {site}/dep/__pycache__/a.cpython-311.pyc")
    box.sh(f"touch {site}/app/__pycache__/__init__.cpython-311.opt-1.pyc {site}/app/__pycache__/b.pyc.1234")
    box.sh("mkdir /opt/app/1.0.0-1/mine; echo kept >/opt/app/1.0.0-1/mine/.file; ln -s / /opt/app/1.0.0-1/mine/root")
    box.install(payload, "2.0")
    assert box.sh("cat /opt/app/1.0.0-1/mine/.file") == "kept"
    box.install(payload, "3.0")
    kept = "/opt/app/1.0.0-1\n/opt/app/1.0.0-1/mine\n/opt/app/1.0.0-1/mine/.file\n/opt/app/1.0.0-1/mine/root"
    assert box.sh("find /opt/app/1.0.0-1 | sort") == kept
    box.rpm("-e", "app")
    assert box.sh("find /opt/app | sort") == f"/opt/app\n{kept}"


@FILES_FIRST
@pytest.mark.parametrize("moment", ["pre-install", "pre-remove"])
def test_a_hook_that_fails_before_stops_everything(box: HostBox, payload: str, moment: str) -> None:
    box.install(payload, "1.0")
    before = box.sh(LIST)
    box.sh(f"touch /tmp/fail-{moment}")
    command = ("-U", package(payload, "2.0")) if moment == "pre-install" else ("-e", "app")
    done = box.run("rpm", *command)
    assert done.exit_code == 1
    assert f"the {moment} hook ({moment}.sh) failed with exit status 9" in done.said
    box.works("1.0")
    assert box.sh(LIST) == before


@pytest.mark.parametrize(
    ("payload", "moment"),
    [
        ("files", "pre-install"),
        ("archives", "post-install"),
        pytest.param("files", "post-install", marks=pytest.mark.thorough),
        pytest.param("archives", "pre-install", marks=pytest.mark.thorough),
    ],
)
def test_a_killed_upgrade_leaves_one_whole_version_in_use(box: HostBox, payload: str, moment: str) -> None:
    box.install(payload, "3.0")
    fresh = box.sh(LIST)
    box.reset()
    box.install(payload, "1.0")
    box.sh(f"touch /tmp/kill-{moment}")
    assert box.run("rpm", "-U", package(payload, "2.0")).exit_code == 137
    assert box.sh("app") in {"app 1.0", "app 2.0"}
    box.sh(f"rm /tmp/kill-{moment}")
    box.install(payload, "3.0")
    box.works("3.0")
    assert box.sh(LIST) == fresh


@FILES_FIRST
def test_scriptlets_that_did_not_run_are_noticed(box: HostBox, payload: str) -> None:
    box.rpm("-i", "--noscripts", package(payload, "1.0"))
    assert "scriptlets of the installation did not run" in box.run("rpm", "-Vv", "app").said
    box.install(payload, "1.0")
    box.works("1.0")
    # Without its %post a new version does not come into use, and the old one does not go.
    assert box.run("rpm", "-U", "--nopost", package(payload, "2.0")).exit_code == 1
    assert box.sh("app") == "app 1.0"


@FILES_FIRST
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("noexec", "nothing can be run from the file system of /opt; is it mounted noexec?"),
        # rpm itself is the first to notice these.
        ("ro", "more space on the /opt filesystem"),
        ("size=64k", "more space on the /opt filesystem"),
    ],
)
def test_a_file_system_that_does_not_fit_is_refused(box: HostBox, payload: str, options: str, told: str) -> None:
    box.sh(f"mount -t tmpfs -o {options} tmpfs /opt")
    done = box.run("rpm", "-i", package(payload, "1.0"))
    assert done.exit_code == 1
    assert told in done.said
    assert box.installed() == []
    box.is_clean()


def test_a_disk_too_small_for_what_is_unpacked_later_is_refused(
    box: HostBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versioned_payload, "_BLOCK", 1 << 44)
    made = build(plan_for(options={"payload": "archives"}), tmp_path)
    box.copy(made, "/repo/large.rpm")
    done = box.run("rpm", "-i", "/repo/large.rpm")
    assert done.exit_code == 1
    assert "KiB on the file system of /opt, which has" in done.said
    assert box.installed() == []
    box.is_clean()


@pytest.mark.parametrize(
    ("payload", "left", "told"),
    [
        # rpm's own words: it has lost the reason by then.
        ("files", 40, "unpacking of archive failed"),
        # Enough for what rpm unpacks, and too little for what is linked then.
        ("archives", 200, "NOT INSTALLED: OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_disk_that_fills_up_meanwhile_leaves_the_old_version_in_use(
    box: HostBox, payload: str, left: int, told: str
) -> None:
    box.sh("mount -t tmpfs -o size=2m tmpfs /opt")
    box.install(payload, "1.0")
    box.sh(f"echo $((($(df -k --output=avail /opt | tail -n 1) - {left}) * 1024)) >/tmp/fill-pre-install")
    done = box.run("rpm", "-U", package(payload, "2.0"))
    assert done.exit_code == 1
    assert told in done.said
    assert box.sh("app; app-admin") == "app 1.0\napp 1.0"
    assert box.run("rpm", "-V", "app").exit_code != 0
    box.sh("rm /opt/filler /tmp/fill-pre-install")
    box.install(payload, "2.0")
    box.works("2.0")
    assert box.installed() == ["app-2.0.0-1.x86_64"]


def test_without_a_shell_nothing_changes(box: HostBox) -> None:
    box.install("files", "1.0")
    before = box.sh(LIST)
    box.succeeds("mv", "/usr/bin/sh", "/usr/bin/sh-away")
    for command in (("-U", package("files", "2.0")), ("-e", "app")):
        done = box.run("rpm", *command)
        assert done.exit_code == 1
        assert "failed to exec scriptlet interpreter /bin/sh: No such file or directory" in done.said
    box.succeeds("mv", "/usr/bin/sh-away", "/usr/bin/sh")
    box.works("1.0")
    assert box.sh(LIST) == before


@FILES_FIRST
def test_scriptlets_may_run_twice(box: HostBox, payload: str) -> None:
    def save(version: str) -> None:
        for moment in ("prein", "postin", "preun", "postun"):
            box.sh(f"rpm -q --queryformat '%{{{moment}}}' app-{version}.0 >/tmp/{moment}-{version}")

    box.install(payload, "1.0")
    save("1.0")
    box.install(payload, "2.0")
    save("2.0")
    whole = box.sh(LIST)
    box.hooks()
    for _ in range(2):
        box.sh("sh /tmp/prein-2.0 2; sh /tmp/postin-2.0 2; sh /tmp/preun-1.0 1; sh /tmp/postun-1.0 1")
        assert box.sh(LIST) == whole
        box.works("2.0")
    moments = ["pre-install install 2.0.0-1 2.0 over 2.0", "post-install install 2.0.0-1 2.0 over 2.0"]
    assert box.hooks() == moments * 2
    box.sh("sh /tmp/preun-2.0 0; sh /tmp/preun-2.0 0")
    box.works("2.0")
    box.rpm("-e", "app")
    box.sh("sh /tmp/postun-2.0 0; sh /tmp/postun-2.0 0")
    box.is_clean()
    removed = [f"{moment} remove 2.0.0-1 2.0 over 2.0" for moment in ("pre-remove", "post-remove")]
    assert box.hooks() == [removed[0]] * 3 + [removed[1]] * 3


@FILES_FIRST
def test_dnf_takes_it_from_a_repository(box: HostBox, payload: str) -> None:
    box.sh(f"mkdir /repos; printf '[r]\\nname=r\\nbaseurl=file:///repo/{payload}\\ngpgcheck=0\\n' >/repos/r.repo")
    for version, arguments in (
        ("1.0", ("install", "app-1.0.0")),
        ("3.0", ("upgrade", "app")),
        ("2.0", ("downgrade", "app")),
        ("3.0", ("history", "undo", "last")),
        ("3.0", ("reinstall", "app")),
    ):
        done = box.dnf(*arguments)
        assert done.exit_code == 0, done.said
        box.works(version)
    box.sh("touch /tmp/fail-post-install")
    done = box.dnf("downgrade", "app")
    assert done.exit_code == 1
    assert "Transaction failed" in done.said
    assert box.sh("app") == "app 3.0"
    box.sh("rm /tmp/fail-post-install")
    assert box.dnf("remove", "--duplicates").exit_code == 0
    box.works("3.0")
    assert box.dnf("remove", "app").exit_code == 0
    box.is_clean()


CONTROL = "/opt/app/bin/app-ctl"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_version_before_stays_and_can_be_gone_back_to(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    before = box.sh(TREE.format("1.0.0-1"))
    box.install(payload, "2.0")
    assert box.sh(TREE.format("1.0.0-1")) == before
    assert box.sh(f"{CONTROL} versions") == "1.0.0-1 (1.0): kept\n2.0.0-1 (2.0): installed, in use"
    assert box.installed() == ["app-2.0.0-1.x86_64"]
    # Back, without rpm; rpm tells it all the same.
    assert box.sh(f"{CONTROL} rollback") == "app: 1.0.0-1 is in use, instead of 2.0.0-1. Restart what is running."
    assert box.sh("app; app-admin") == "app 1.0\napp 1.0"
    assert "1.0.0-1 is in use, after a rollback" in box.run("rpm", "-Vv", "app").said
    assert box.run("rpm", "-V", "app").exit_code != 0
    assert box.sh(f"{CONTROL} selfcheck") == "app 1.0.0-1 is whole and works"
    assert "no earlier version is kept; name one of: 1.0.0-1 2.0.0-1" in box.run(CONTROL, "rollback").said
    # And forth.
    box.sh(f"{CONTROL} rollback 2.0.0-1")
    box.works("2.0")
    # The version that was used last is kept, and not the one that was left for it.
    box.sh(f"{CONTROL} rollback")
    box.install(payload, "3.0")
    box.works("3.0")
    assert box.sh(f"{CONTROL} versions") == "1.0.0-1 (1.0): kept\n3.0.0-1 (3.0): installed, in use"
    assert box.hooks()[-1] == "post-install upgrade 3.0.0-1 3.0 over 1.0"
    # What was kept becomes a package's own again.
    box.install(payload, "1.0")
    box.works("1.0")
    assert box.sh(f"{CONTROL} versions") == "1.0.0-1 (1.0): installed, in use\n3.0.0-1 (3.0): kept"
    box.rpm("-e", "app")
    box.is_clean()


@pytest.mark.parametrize("keep", [0, 2])
def test_as_many_versions_stay_as_the_box_says(box: HostBox, tmp_path: Path, keep: int) -> None:
    for version in ("1.0", "2.0", "3.0", "4.0"):
        made = build(plan_for(version, options={"keep": keep}), tmp_path)
        box.copy(made, f"/repo/{made.name}")
        box.rpm("-U", f"/repo/{made.name}")
    found = [line.partition(" ")[0] for line in box.sh(f"{CONTROL} versions").splitlines()]
    assert found == ["1.0.0-1", "2.0.0-1", "3.0.0-1", "4.0.0-1"][3 - keep :]
    box.works("4.0")
    box.rpm("-e", "app")
    box.is_clean()


@FILES_FIRST
def test_damage_is_told_by_the_applications_own_check(box: HostBox, payload: str) -> None:
    box.install(payload, "1.0")
    assert box.sh(f"{CONTROL} selfcheck") == "app 1.0.0-1 is whole and works"
    box.sh("echo >>/opt/app/current/lib/python3.11/site-packages/dep.py; rm /opt/app/current/lib/libx.so /usr/bin/app")
    done = box.run(CONTROL, "selfcheck")
    assert done.exit_code == 1
    assert "/opt/app/1.0.0-1/lib/python3.11/site-packages/dep.py has other content than it had" in done.said
    assert "/opt/app/1.0.0-1/lib/libx.so: No such file or directory" in done.said
    assert "/usr/bin/app does not lead to /opt/app/current/bin/app" in done.said
    box.sh("printf 'broken' >/opt/app/current/bin/python3")
    done = box.run(CONTROL, "selfcheck")
    assert done.exit_code == 1
    assert "its interpreter /opt/app/1.0.0-1/bin/python does not start\nbin/python3: FAILED" in done.said
    box.install(payload, "1.0")
    assert box.sh(f"{CONTROL} selfcheck") == "app 1.0.0-1 is whole and works"


def test_a_version_that_fails_its_checks_does_not_come_into_use(box: HostBox, tmp_path: Path) -> None:
    box.install("files", "1.0")
    check = Check(name="greets", run=("app",), expect="app 1.0")
    made = build(dataclasses.replace(plan_for("2.0"), checks=(check,)), tmp_path)
    box.copy(made, "/repo/new.rpm")
    done = box.run("rpm", "-U", "/repo/new.rpm")
    assert done.exit_code == 1
    assert "NOT INSTALLED: it is not whole, or does not work: the check 'greets' failed" in done.said
    assert "'app 1.0' is not in what it said, at last: app 2.0" in done.said
    assert box.sh("app") == "app 1.0"
    assert "the check 'greets' failed" in box.run(CONTROL, "selfcheck").said


def test_files_that_rpm_was_told_to_leave_out_are_missed(box: HostBox) -> None:
    box.install("files", "1.0")
    path = "/opt/app/2.0.0-1/share/libx"
    done = box.run("rpm", "-U", "--excludepath", path, package("files", "2.0"))
    assert done.exit_code == 1
    assert f"{path}/up: No such file or directory" in done.said
    assert box.sh("app") == "app 1.0"


def test_two_applications_lie_side_by_side(box: HostBox, tmp_path: Path) -> None:
    made = build(plan_for(name="other", options={"commands": ()}), tmp_path)
    box.copy(made, "/repo/other.rpm")
    box.install("files", "1.0")
    before = box.sh(LIST)
    box.rpm("-i", "/repo/other.rpm")
    box.works("1.0")
    assert box.run("rpm", "-V", "other").exit_code == 0
    assert box.sh("/opt/other/bin/other-ctl selfcheck") == "other 1.0.0-1 is whole and works"
    box.rpm("-e", "other")
    assert box.sh("ls /opt") == "app"
    assert box.sh(LIST) == before


def test_what_runs_goes_on_while_it_is_removed(box: HostBox) -> None:
    box.install("files", "1.0")
    box.sh(
        "cd /; /opt/app/current/bin/python -c 'import time; time.sleep(3); print(1)' </dev/null >/tmp/said 2>&1 &\n"
        "echo $! >/tmp/running"
    )
    box.rpm("-e", "app")
    box.is_clean()
    box.sh('while kill -0 "$(cat /tmp/running)" 2>/dev/null; do sleep 0.1; done')
    assert box.sh("cat /tmp/said") == "1"


@FILES_FIRST
@pytest.mark.parametrize("count", [20, *thorough(3, 32)])
def test_rpm_killed_at_any_call_leaves_one_whole_version_in_use(
    box: HostBox, strace: Path, payload: str, count: int
) -> None:
    box.copy(strace, "/strace")
    box.install(payload, "1.0")
    assert box.kill_at(count, "rpm", "-U", package(payload, "2.0")).exit_code == 137
    assert box.sh("app") in {"app 1.0", "app 2.0"}
    box.install(payload, "2.0")
    box.works("2.0")
    assert box.installed() == ["app-2.0.0-1.x86_64"]
    assert box.sh(f"{CONTROL} rollback; app").endswith("app 1.0")
    box.rpm("-e", "app")
    box.is_clean()
