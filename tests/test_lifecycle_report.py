"""The life of examples/report as each kind of package, beside another application, from signed repositories.

It has 218 MB, so its way is shorter than that of examples/hello-web (tests/test_lifecycle_hello_web.py): two versions,
and only the first is installed freshly. That nothing but what the package names lies in a version's folder, all of it
with the digests that were packed, is checked of both. The other application is there in the first row alone.

For thorough runs: the same steps are those of examples/hello-web, and that applications do not disturb each other, and
that what runs outlives its files, is shown with small trees (tests/test_rpm_lifecycle.py, tests/test_deb_lifecycle.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle import HELLO_WEB, REPORT, ROWS, VERSIONS, Row, host, publish, signing_home, sources

pytestmark = [pytest.mark.channel, pytest.mark.engine, pytest.mark.index, pytest.mark.long, pytest.mark.thorough]

APP = REPORT
OTHER = HELLO_WEB
# Goes on after its files were removed.
RUNS = "import numpy, time; print(numpy.arange(3).sum()); time.sleep(2); print(numpy.arange(4).sum())"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with signing_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sources(APP, tmp_path_factory.mktemp("report"), VERSIONS[:2])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sources(OTHER, tmp_path_factory.mktemp("hello-web"), VERSIONS[:1])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_life_beside_another_application(
    row: Row, versions: dict[str, Path], other: dict[str, Path], home: Path, tmp_path: Path
) -> None:
    one, two, _ = VERSIONS
    beside = row == ROWS[0]
    if beside:
        publish(row, other, tmp_path, home)
    with host(row, publish(row, versions, tmp_path, home), APP, OTHER) as box:
        if beside:
            box.install(OTHER, one)
        box.install(APP, one)
        box.is_whole(APP, one)
        box.upgrade(APP, two)
        box.is_whole(APP, two)
        if beside:
            box.is_whole(OTHER, one)
            box.erase(OTHER)
        box.downgrade(APP, one)
        box.is_whole(APP, one)
        box.works(APP)
        box.sh(
            f"/opt/report/current/bin/python -c '{RUNS}' </dev/null >/tmp/said 2>&1 & echo $! >/tmp/running; sleep 1"
        )
        box.erase(APP)
        box.sh("while kill -0 $(cat /tmp/running) 2>/dev/null; do sleep 0.1; done")
        assert box.sh("cat /tmp/said") == "3\n6"
        assert [path for path in box.left() if "/hello-web" not in path] == []
