"""The base of images in the lock, by the command line and against a registry that runs."""

from __future__ import annotations

import gzip
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry_server import Proxy, docker_registry, faulty_proxy
from tests.small_world import World, small_world
from tests.test_bases import LOWER, UPPER, Layout
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
    layout = Layout(folder)
    copied(layout.index(layout.image((gzip.compress(content, mtime=0), content))), upstream, "base:1")


def named(world: World, base: str) -> None:
    path = world.app / "boxsnake.toml"
    path.write_text(path.read_text().replace('base = "scratch"', f'base = "{base}"'))


def pinned(world: World) -> Any:
    (target,) = tomllib.loads((world.app / "boxsnake.lock").read_text())["targets"]
    return target.get("base")


def locked(world: World, *arguments: str) -> Any:
    return json.loads(world.done("lock", "--json", *arguments))


def test_a_base_is_locked_kept_upgraded_and_built_upon(world: World, upstream: str, tmp_path: Path) -> None:
    offered(tmp_path / "lower", upstream, LOWER)
    with faulty_proxy(upstream) as proxy:
        base = f"{proxy.address}/base:1"
        named(world, base)
        first = locked(world)
        pin = pinned(world)
        assert (pin["reference"], first["targets"][0]["base"], first["notes"]) == (base, pin, [])
        world.done("lock", "--check")

        offered(tmp_path / "upper", upstream, UPPER)
        assert locked(world)["changes"] == []  # what is held stays, without a question
        before = len(proxy.requests)
        locked(world)
        assert len(proxy.requests) == before
        (change,) = locked(world, "--diff", "--upgrade", base)["changes"]
        assert (change["half"], change["name"], change["before"]) == ("base", base, pin["digest"])
        assert pinned(world) == pin
        no_such = world.run("lock", "--upgrade", "r.example/other:1")
        assert (no_such.returncode, "no such base" in no_such.stderr) == (2, True)

        world.done("build", "image")
        held = world.digests()
        locked(world, "--upgrade")
        assert pinned(world)["digest"] == change["after"] != pin["digest"]
        world.done("build", "image")
        assert world.digests() != held
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
    world.done("build", "image")
    world.settings.write_text(settings)

    # Another name makes the lock stale, and what nobody has is a note and no failure.
    named_now = base.replace("base:1", "other:1")
    path = world.app / "boxsnake.toml"
    path.write_text(path.read_text().replace(base, named_now))
    stale = world.run("lock", "--check")
    assert (stale.returncode, f"boxes.image.base: + {named_now}" in stale.stderr) == (5, True)
    assert "no such image" in locked(world)["notes"][0]
    assert pinned(world) is None
    missing = world.run("build", "image")
    assert (missing.returncode, "no such image" in missing.stderr) == (6, True)
