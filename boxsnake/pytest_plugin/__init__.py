"""A plugin for pytest: the fixture `boxsnake`, a running box with its services, for an application's own tests.

pytest imports it wherever boxsnake is installed, so it imports nothing else until a test asks for the fixture.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from boxsnake.pytest_plugin.box import RunningBox

_FIXTURE = "boxsnake"
_LINES = 40
"""Of what the application says, shown of a test that fails."""

_running: pytest.StashKey[RunningBox] = pytest.StashKey()
_kept: pytest.StashKey[list[str]] = pytest.StashKey()
_SETTINGS = {
    "box": ("image", "Format of the box that the fixture `boxsnake` starts (default: image)."),
    "manifest": ("", "Its manifest, or the folder of that (default: what is found in the root folder of the tests)."),
    "environment": ("local", "Settings of the manifest's [environments] (default: local)."),
    "without_engine": ("fail", "What tests do without a container engine: fail (default) or skip."),
}
"""Options and ini values of the same names: their defaults, and what they are."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the ini values that stand behind them."""
    group = parser.getgroup("boxsnake", "boxes under test")
    for name, (default, about) in _SETTINGS.items():
        choices: dict[str, Any] = {"choices": ("fail", "skip")} if name == "without_engine" else {}
        group.addoption(f"--boxsnake-{name.replace('_', '-')}", help=about, **choices)
        parser.addini(f"boxsnake_{name}", about, default=default)
    group.addoption("--boxsnake-build", action="store_true", help="Build the box first, though one lies there.")
    group.addoption(
        "--boxsnake-keep", action="store_true", help="Leave all running after the tests; `boxsnake down` removes it."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "boxsnake: uses a running box; tests with the fixture have it by themselves")
    config.stash[_kept] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the fixture, so that `-m "not boxsnake"` leaves them out."""
    for item in items:
        if _uses_it(item):
            item.add_marker(_FIXTURE)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test at once where the application has ended since it was started."""
    running = item.config.stash.get(_running, None)
    if running is not None and _uses_it(item) and (end := running.ended()):
        pytest.fail(f"{end}\n{running.logs(lines=_LINES)}\n`boxsnake.restart()` starts it anew.", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the application has said last with each test that fails."""
    report = yield
    running = item.config.stash.get(_running, None)
    if running is not None and call.when == "call" and report.failed and _uses_it(item):
        from boxsnake.errors import BoxsnakeError

        with contextlib.suppress(BoxsnakeError):
            report.sections.append((f"{running.name} says", running.logs(lines=_LINES)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell where what is kept is reached."""
    for line in config.stash.get(_kept, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def boxsnake(request: pytest.FixtureRequest) -> Iterator[RunningBox]:
    """The box of the manifest and its services, started once for each process that runs tests."""
    from boxsnake.errors import BoxsnakeError, EngineError
    from boxsnake.pytest_plugin.box import running_box

    config = request.config
    keep = bool(config.getoption("boxsnake_keep"))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if keep and worker:
        pytest.fail("--boxsnake-keep does not go together with several processes (-n): leave one out", pytrace=False)
    with contextlib.ExitStack() as until:
        box: RunningBox | BoxsnakeError
        try:
            box = until.enter_context(
                running_box(
                    box=_setting(config, "box"),
                    manifest=_manifest(config),
                    environment=_setting(config, "environment"),
                    build=bool(config.getoption("boxsnake_build")),
                    keep=keep,
                )
            )
        except BoxsnakeError as error:
            box = error
        # Not while it is handled: where it was raised tells users of boxsnake nothing.
        if isinstance(box, EngineError) and _setting(config, "without_engine") == "skip":
            pytest.skip(str(box))
        if isinstance(box, BoxsnakeError):
            pytest.fail(str(box), pytrace=False)
        config.stash[_running] = box
        if keep:
            urls = ", ".join(f"{unit} {url}" for unit, url in box.urls.items())
            config.stash[_kept].append(f"boxsnake: still up: {urls}; `boxsnake down` removes it")
        yield box
        del config.stash[_running]


def _uses_it(item: pytest.Item) -> bool:
    return _FIXTURE in getattr(item, "fixturenames", ())


def _setting(config: pytest.Config, name: str) -> str:
    return str(config.getoption(f"boxsnake_{name}") or config.getini(f"boxsnake_{name}"))


def _manifest(config: pytest.Config) -> Path:
    """An option is relative to where pytest was started, an ini value to its file's folder."""
    given = config.getoption("boxsnake_manifest")
    if given:
        return config.invocation_params.dir / str(given)
    folder = config.inipath.parent if config.inipath else config.rootpath
    return folder / str(config.getini("boxsnake_manifest"))
