"""Users, folders, configuration and units of RPMs and debs, by the package managers themselves in a clean host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from boxsnake.engine import INSTALLING, Engine, connect, sleeper
from boxsnake.engine.container import Container
from boxsnake.hosts import image_id, load_hosts
from boxsnake.packagers import Materials, Packager, packagers
from boxsnake.store import Store
from boxsnake.system import ConfigFile, Directory, Logrotate, System, Unit
from tests.rpm_trees import FakeMaterials, plan_for

pytestmark = pytest.mark.engine

HOST = "debian-12-rpm"  # it has dpkg too, and a Python that stands for the application's
INSTALL = {
    "rpm": "rpm -U --replacepkgs",
    "deb": "dpkg --force-confold --install",
}
REMOVE = {"rpm": "rpm -e app", "deb": "dpkg --remove app"}
VERIFY = {"rpm": "rpm -V app", "deb": "dpkg --verify app"}
SERVICES = "/usr/lib/systemd/system"


def system_of(version: str) -> System:
    units = [Unit(name="app-serve", command=("app", version), user="app-user")]
    if version == "1.0":
        units.append(Unit(name="app-old", command=("app",)))
    return System(
        user="app-user",
        directories=(
            Directory(path="/var/lib/app", kind="state", owner="app-user", group="app-user", mode=0o750),
            Directory(path="/var/log/app", kind="log", owner="app-user", group="app-user", mode=0o755),
            Directory(path="/run/app", kind="run", owner="app-user", group="root", mode=0o711),
        ),
        files=(
            ConfigFile(
                path="/etc/app/conf.d/app.conf",
                source="app.conf",
                content=f"made for {version}\n".encode(),
                group="app-user",
                mode=0o640,
            ),
        ),
        units=tuple(units),
        logrotate=Logrotate(),
    )


@pytest.fixture(scope="module")
def engine() -> Engine:
    return connect()


@pytest.fixture(scope="module", params=["rpm", "deb"])
def form(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


@pytest.fixture(scope="module")
def packages(form: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, as `<version>.package`."""
    folder = tmp_path_factory.mktemp("packages")
    packager: Packager = packagers()[form]
    for version in ("1.0", "2.0"):
        plan = plan_for(version)
        plan = dataclasses.replace(plan, options=packager.options(), system=system_of(version))
        packager.check(plan)
        materials = cast("Materials", FakeMaterials(folder / f"materials-{version}", version))
        packager.pack(plan, materials, folder / f"{version}.package")
    return folder


@pytest.fixture
def box(engine: Engine, packages: Path) -> Iterator[Container]:
    image = image_id(engine, Store(Store.default_root()), load_hosts()[HOST])
    with engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as container:
        for version in ("1.0", "2.0"):
            container.copy(packages / f"{version}.package", f"/packages/{version}.package")
        yield container


def sh(box: Container, script: str) -> str:
    done = box.execute(("sh", "-c", script), seconds=120)
    assert done.exit_code == 0, (done.output + done.errors).decode()
    return done.output.decode().rstrip("\n")


def owners(box: Container, *paths: str) -> list[str]:
    return sh(box, f"stat -c '%n %a %U:%G' {' '.join(paths)}").splitlines()


def test_all_of_it_is_there_and_what_is_the_users_stays(form: str, box: Container) -> None:
    sh(box, f"{INSTALL[form]} /packages/1.0.package")
    assert owners(box, "/var/lib/app", "/var/log/app", "/run/app", "/etc/app/conf.d/app.conf") == [
        "/var/lib/app 750 app-user:app-user",
        "/var/log/app 755 app-user:app-user",
        "/run/app 711 app-user:root",
        "/etc/app/conf.d/app.conf 640 root:app-user",
    ]
    assert sh(box, "getent passwd app-user").split(":")[5:] == ["/var/lib/app", "/usr/sbin/nologin"]
    assert sh(box, f"{VERIFY[form]}; cd {SERVICES}; ls app-*; grep ExecStart app-serve.service") == (
        "app-old.service\napp-serve.service\nExecStart=/opt/app/current/bin/app 1.0"
    )
    assert (
        sh(box, "ls /etc/logrotate.d/app /usr/lib/tmpfiles.d/app.conf /usr/lib/sysusers.d/app.conf").count("app") == 3
    )
    sh(box, "echo mine >>/etc/app/conf.d/app.conf; su -s /bin/sh app-user -c 'echo kept >/var/lib/app/data'")

    sh(box, f"{INSTALL[form]} /packages/2.0.package")
    assert sh(box, "cat /etc/app/conf.d/app.conf") == "made for 1.0\nmine"
    assert sh(box, "cat /etc/app/conf.d/app.conf.*new /etc/app/conf.d/app.conf.*dist 2>/dev/null || true") == (
        "made for 2.0"
    )
    assert sh(box, f"cd {SERVICES}; ls app-*; grep ExecStart app-serve.service") == (
        "app-serve.service\nExecStart=/opt/app/current/bin/app 2.0"
    )
    sh(box, "/opt/app/bin/app-ctl selfcheck")
    sh(box, f"echo >>{SERVICES}/app-serve.service")
    wrong = box.execute(("/opt/app/bin/app-ctl", "selfcheck"), seconds=60)
    assert f"{SERVICES}/app-serve.service is not that of" in (wrong.output + wrong.errors).decode()

    sh(box, "/opt/app/bin/app-ctl rollback")
    assert sh(box, f"cd {SERVICES}; ls app-*; grep ExecStart app-serve.service") == (
        "app-old.service\napp-serve.service\nExecStart=/opt/app/current/bin/app 1.0"
    )

    sh(box, REMOVE[form])
    assert sh(box, "cat /var/lib/app/data; getent passwd app-user | cut -d: -f1; id -gn app-user") == (
        "kept\napp-user\napp-user"
    )
    assert "mine" in sh(box, "cat /etc/app/conf.d/app.conf*")
    assert sh(box, f"find {SERVICES} /run/app /var/log/app /usr/lib/tmpfiles.d -name 'app*' 2>/dev/null || true") == ""
    sh(box, f"{INSTALL[form]} /packages/2.0.package")
    assert owners(box, "/var/lib/app/data") == ["/var/lib/app/data 644 app-user:app-user"]


def test_systemd_is_told_where_it_runs(form: str, box: Container) -> None:
    # No systemd runs in a container. What stands for it writes down what it is told.
    recorder = "#!/bin/sh\\n[ $1 != --quiet ] || shift\\necho $* >>/tmp/told\\n"
    sh(box, f"mkdir -p /run/systemd/system; printf '{recorder}' >/usr/bin/systemctl; chmod 755 /usr/bin/systemctl")

    def told(command: str) -> list[str]:
        sh(box, command)
        return sh(box, "cat /tmp/told; rm /tmp/told").splitlines()

    assert told(f"{INSTALL[form]} /packages/1.0.package") == [
        "daemon-reload",
        *("preset app-old.service", "try-restart app-old.service"),
        *("preset app-serve.service", "try-restart app-serve.service"),
    ]
    assert told(f"{INSTALL[form]} /packages/2.0.package") == [
        "disable --now app-old.service",
        *("daemon-reload", "try-restart app-serve.service"),
    ]
    assert told("/opt/app/bin/app-ctl rollback") == [
        "daemon-reload",
        *("preset app-old.service", "try-restart app-old.service", "try-restart app-serve.service"),
    ]
    assert told(f"{INSTALL[form]} /packages/2.0.package")[0] == "disable --now app-old.service"
    assert told(REMOVE[form]) == ["disable --now app-serve.service", "daemon-reload"]
