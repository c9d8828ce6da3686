"""The base of images in the lock, by the command line and against a registry that runs."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake.cli import boxsnake as command_line
from boxsnake.cli.console import run
from boxsnake.image.layout import Layout
from tests.registry_server import Proxy, docker_registry, faulty_proxy
from tests.small_world import World, small_world
from tests.test_bases import LOWER, UPPER
from tests.test_bases import Layout as LayoutInTheMaking
from tests.test_pull import copied


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as made:
        yield made


def offered(folder: Path, upstream: str, content: bytes) -> None:
    """Have the registry hold this as the base."""
    layout = LayoutInTheMaking(folder)
    copied(layout.index(layout.image((gzip.compress(content, mtime=0), content))), upstream, "base:1")


def named(world: World, base: str) -> None:
    path = world.app / "boxsnake.toml"
    path.write_text(path.read_text().replace('base = "scratch"', f'base = "{base}"'))


def pinned(world: World) -> Any:
    (target,) = tomllib.loads((world.app / "boxsnake.lock").read_text())["targets"]
    return target.get("base")


def boxsnake(world: World, *arguments: str) -> tuple[int, str, str]:
    """The command line in this process, which has imported all that it needs: exit code and both streams."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.environment({}).items():
            patch.setenv(name, value)
        with contextlib.chdir(world.app), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = run(command_line, list(arguments))
    return code, out.getvalue(), errors.getvalue()


def locked(world: World, *arguments: str) -> Any:
    code, out, errors = boxsnake(world, "lock", "--json", *arguments)
    assert code == 0, errors
    return json.loads(out)


def test_a_base_is_locked_kept_upgraded_and_built_upon(world: World, upstream: str, tmp_path: Path) -> None:
    offered(tmp_path / "lower", upstream, LOWER)
    with faulty_proxy(upstream) as proxy:
        base = f"{proxy.address}/base:1"
        named(world, base)
        first = locked(world)
        pin = pinned(world)
        assert (pin["reference"], first["targets"][0]["base"], first["notes"]) == (base, pin, [])
        offered(tmp_path / "upper", upstream, UPPER)
        before = len(proxy.requests)
        assert locked(world)["changes"] == []  # what is held stays, without a question
        assert len(proxy.requests) == before
        (change,) = locked(world, "--diff", "--upgrade", base)["changes"]
        assert (change["half"], change["name"], change["before"]) == ("base", base, pin["digest"])
        assert pinned(world) == pin
        code, _, errors = boxsnake(world, "lock", "--upgrade", "r.example/other:1")
        assert (code, "no such base" in errors) == (2, True)

        assert boxsnake(world, "build", "image")[0] == 0
        (image,) = Layout(world.app / "dist" / "small-1.0.image").images
        assert image.annotations["org.opencontainers.image.base.digest"] == pin["digest"]
        locked(world, "--upgrade")
        assert pinned(world)["digest"] == change["after"] != pin["digest"]
        _held_while_the_registry_is_away(world, proxy, base, tmp_path)


def _held_while_the_registry_is_away(world: World, proxy: Proxy, base: str, folder: Path) -> None:
    pin = pinned(world)
    proxy.fault = lambda _request, _number: (404, {}, b"")
    upgraded = locked(world, "--upgrade")
    assert pinned(world) == pin
    assert upgraded["notes"] == [
        f"the base {base} has no digest here: the registry has no such image in {proxy.address}/base (404)",
        f"the base {base} stays at {pin['digest']}",
    ]
    # Settings that map the name change nothing about the lock, and are what is built on.
    settings = world.settings.read_text()
    (folder / "base.tar").write_bytes(UPPER)
    world.settings.write_text(f'{settings}[bases]\n"{base}" = "{folder}/base.tar"\n')
    (note, _) = locked(world, "--upgrade")["notes"]
    assert f"your settings map it to {folder}/base.tar" in note
    assert pinned(world) == pin
    world.settings.write_text(settings)

    # Another name makes the lock stale, and what nobody has is a note and no failure.
    named_now = base.replace("base:1", "other:1")
    path = world.app / "boxsnake.toml"
    path.write_text(path.read_text().replace(base, named_now))
    code, _, errors = boxsnake(world, "lock", "--check")
    assert (code, f"boxes.image.base: + {named_now}" in errors) == (5, True)
    assert "no such image" in locked(world)["notes"][0]
    assert pinned(world) is None
    code, _, errors = boxsnake(world, "build", "image")
    assert (code, "no such image" in errors) == (6, True)
