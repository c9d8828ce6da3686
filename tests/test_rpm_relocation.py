"""RPMs that are put elsewhere than where they were built for, by rpm itself, in a clean host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.engine import INSTALLING, Engine, connect, sleeper
from boxsnake.errors import PackError
from boxsnake.hosts import image_id, load_hosts
from boxsnake.plan import Hook
from boxsnake.store import Store
from tests.package_host import RpmHost
from tests.rpm_trees import PLACEHOLDER, build, plan_for

pytestmark = pytest.mark.engine

ROOT = "/srv/apps/app"
HOOK = b'echo "$BOXSNAKE_ACTION $BOXSNAKE_PREFIX" >>/tmp/hooks\n'


class Host(RpmHost):
    """A clean host with the packages in /repo."""

    def works(self, version: str, root: str = ROOT) -> None:
        """The version is the one in use, every file knows where it lies, and rpm finds nothing wrong."""
        assert self.sh("app; app-admin") == f"app {version}\napp {version}"
        prefix = f"{root}/{version}.0-1"
        assert self.sh(f"cat '{prefix}/etc/where.conf'; tr -d '\\0' <'{prefix}/lib/libz.so.2'") == (
            f"{prefix}/share\n\x7fELF{prefix}/lib"
        )
        verified = self.run("rpm", "-V", "app")
        assert (verified.exit_code, verified.said) == (0, "")
        assert self.sh(f"'{root}/bin/app-ctl' selfcheck") == f"app {version}.0-1 is whole and works"

    def files(self) -> str:
        return self.sh("find /srv /opt /usr/bin -path '*app*' ! -path /srv/apps -printf '%p %s %l\\n' | sort")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return connect()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions in each payload."""
    folder = tmp_path_factory.mktemp("packages")
    hooks = (Hook(moment="post-install", file_name="post-install.sh", content=HOOK),)
    for payload in ("files", "archives"):
        for version in ("1.0", "2.0"):
            plan = plan_for(version, hooks=hooks, options={"payload": payload, "relocatable": True})
            made = build(plan, folder / "made" / payload)
            made.rename(folder / f"{payload}-{version}.rpm")
    return folder


@pytest.fixture
def host(engine: Engine, packages: Path) -> Iterator[Host]:
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12-rpm"])
    with (
        engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as container,
        Host.within(container) as host,
    ):
        container.copy(packages, "/repo")
        yield host


@pytest.mark.parametrize("payload", ["files", "archives"])
def test_a_relocated_application_lives_as_one_in_its_usual_place(host: Host, payload: str) -> None:
    first, second = (f"/repo/{payload}-{version}.rpm" for version in ("1.0", "2.0"))
    host.rpm("-i", "--prefix", "/srv/apps", first)
    host.works("1.0")
    assert host.sh("ls /opt") == ""
    host.rpm("-U", "--prefix", "/srv/apps", second)
    host.works("2.0")
    assert host.hooks() == [f"install {ROOT}/1.0.0-1", f"upgrade {ROOT}/2.0.0-1"]
    assert "1.0.0-1 is in use" in host.sh(f"{ROOT}/bin/app-ctl rollback")
    assert host.sh("app") == "app 1.0"
    assert host.run("rpm", "-V", "app").exit_code != 0
    host.sh(f"{ROOT}/bin/app-ctl rollback 2.0.0-1")
    host.works("2.0")
    host.rpm("-e", "app")
    assert host.files() == ""


def test_damage_is_told_from_placing_and_repaired(host: Host) -> None:
    host.rpm("-i", "--prefix", "/srv/apps", "/repo/files-1.0.rpm")
    host.sh(f"echo other >{ROOT}/1.0.0-1/etc/where.conf; rm /usr/bin/app")
    verified = host.run("rpm", "-Vv", "app")
    assert verified.exit_code != 0
    assert f"other content  {ROOT}/1.0.0-1/etc/where.conf" in verified.said
    assert "/usr/bin/app does not lead to" in verified.said
    assert host.run(f"{ROOT}/bin/app-ctl", "selfcheck").exit_code == 1
    host.rpm("-U", "--replacepkgs", "--prefix", "/srv/apps", "/repo/files-1.0.rpm")
    host.works("1.0")


def test_an_upgrade_elsewhere_is_refused_before_anything_is_changed(host: Host) -> None:
    host.rpm("-i", "--prefix", "/srv/apps", "/repo/files-1.0.rpm")
    before = host.files()
    refused = host.run("rpm", "-U", "/repo/files-2.0.rpm")
    assert refused.exit_code != 0
    assert f"is installed in {ROOT} already: name that place, or remove it there first" in refused.said
    assert host.files() == before
    host.works("1.0")


def test_without_a_prefix_it_lies_in_the_usual_place(host: Host) -> None:
    host.rpm("-i", "/repo/archives-1.0.rpm")
    host.works("1.0", "/opt/app")
    host.rpm("-e", "app")
    host.is_clean()


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("/srv/" + "x" * len(PLACEHOLDER), f"the packages have room for {len(PLACEHOLDER)}"),
        ("/srv/a$b", "holds a character that programs would not read as a part of a path"),
    ],
)
def test_places_that_cannot_be_are_refused(host: Host, prefix: str, said: str) -> None:
    refused = host.run("rpm", "-i", "--prefix", prefix, "/repo/files-1.0.rpm")
    assert refused.exit_code != 0
    assert said in refused.said
    assert host.sh("find /srv -mindepth 1; rpm -qa app") == ""


def test_a_place_may_have_spaces(host: Host) -> None:
    host.rpm("-i", "--prefix", "/srv/two words", "/repo/files-1.0.rpm")
    host.works("1.0", "/srv/two words/app")
    host.rpm("-e", "app")
    assert host.files() == ""


def test_a_split_application_has_one_place(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="Take one of the two out"):
        build(plan_for(options={"split": True, "relocatable": True}), tmp_path)
