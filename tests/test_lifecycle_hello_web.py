"""The life of examples/hello-web as each kind of package, from signed repositories.

A short one as an RPM of files is for every run; that whole, archives and debs are for thorough runs: the same steps by
dnf, dpkg and apt are gone with small trees (tests/test_rpm_lifecycle.py, tests/test_deb_lifecycle.py), with a user, a
service and configuration (tests/test_system_lifecycle.py), and the example's RPM and deb are installed and removed in
the boot matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle import HELLO_WEB, ROWS, VERSIONS, Host, Row, host, publish, signing_home, sources

pytestmark = [pytest.mark.channel, pytest.mark.engine, pytest.mark.index, pytest.mark.long]

APP = HELLO_WEB
FILES, ARCHIVES, DEB = ROWS
AS_USER = "setpriv --reuid hello-web --regid hello-web --clear-groups"
STATE = "/var/lib/hello-web"
CONFIG = ["/etc/hello-web", "/etc/hello-web/hello-web.args"]
OWN = "/opt/hello-web/3.0.0-1/lib/python3.11/site-packages/hello_web/mine"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with signing_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sources(APP, tmp_path_factory.mktemp("hello-web"))


def follow_the_docs(box: Host) -> None:
    box.follow(APP, "Going back")
    module = "/opt/hello-web/current/lib/python3.11/site-packages/flask/__init__.py"
    box.sh(f"rm /opt/hello-web/current/bin/hello-web; echo >>{module}")
    box.follow(APP, "Checking")


def erase_while_it_serves(box: Host, config: list[str]) -> None:
    """What others have made there stays."""
    box.sh(f"mkdir {OWN}; echo kept >{OWN}/notes")
    box.sh(f"setsid {AS_USER} hello-web --port 8001 >/dev/null 2>&1 </dev/null & echo $! >/tmp/server; sleep 1")
    box.erase(APP)
    box.sh("kill $(cat /tmp/server)")
    assert box.sh(f"cat {STATE}/data {OWN}/notes") == "kept\nkept"
    parents = [path.as_posix() for path in Path(OWN).parents if path.is_relative_to("/opt/hello-web")]
    assert box.left() == sorted([*config, STATE, f"{STATE}/data", OWN, f"{OWN}/notes", *parents])


def keep_data(box: Host) -> None:
    box.sh(f"{AS_USER} sh -c 'echo kept >{STATE}/data'")


def test_it_is_upgraded_gone_back_from_checked_and_erased(
    tmp_path_factory: pytest.TempPathFactory, home: Path, tmp_path: Path
) -> None:
    two, three = VERSIONS[1:]
    published = publish(FILES, sources(APP, tmp_path_factory.mktemp("hello-web"), (two, three)), tmp_path, home)
    with host(FILES, published, APP) as box:
        box.install(APP, two)
        box.is_whole(APP, two)
        keep_data(box)
        box.upgrade(APP, three)
        box.is_whole(APP, three)
        follow_the_docs(box)
        box.is_whole(APP, three)
        box.works(APP)
        erase_while_it_serves(box, [])


@pytest.mark.thorough
@pytest.mark.parametrize("row", [FILES, ARCHIVES, DEB], ids=lambda row: row.name)
def test_a_whole_life(row: Row, versions: dict[str, Path], home: Path, tmp_path: Path) -> None:
    one, two, three = VERSIONS
    config = CONFIG if row.format == "deb" else []  # dpkg leaves it to `purge`; to rpm, what nobody edited is its own
    with host(row, publish(row, versions, tmp_path, home), APP) as box:
        box.install(APP, one)
        box.is_whole(APP, one)
        keep_data(box)
        box.reinstall(APP, one)
        box.is_whole(APP, one)
        box.upgrade(APP, two)
        box.is_whole(APP, two)
        box.upgrade(APP, three)
        box.is_whole(APP, three)
        box.undo(APP, two)
        box.is_whole(APP, two)
        box.downgrade(APP, one)
        box.is_whole(APP, one)
        box.upgrade(APP, three)
        box.is_whole(APP, three)
        box.works(APP)
        erase_while_it_serves(box, config)
