"""A whole world that is small: a channel, an index that wants a login, an application in four formats, a store.

Everything is served on 127.0.0.1, so that a lock and a build take seconds and reach nobody else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.archives import make_wheel, wheel_files
from tests.sources import Channel, write_project
from tests.trees import MINOR, Workshop

CANARY = "c4n4ry-7f3a9d"
"""What must not be seen anywhere: the password, and the channel's token."""

FORMATS = ("image", "pex", "rpm", "wheelhouse")

MANIFEST = """\
[app]
name = "small"
source = "."
command = ["python", "-m", "small"]
{app}
[requires]
python = "{minor}.*"
channels = {channels}
conda = ["gem"]
pip = ["demo"]
files = ["requirements.txt"]

[boxes.image]
base = "scratch"
{image}
[boxes.rpm]

[boxes.pex]
host-brings = ["gem"]

[boxes.wheelhouse]
host-brings = ["gem"]
"""


_NOTHING = '"x = 1\\n"'
_PROGRAM = """\
import json, os, sys
if __name__ == "__main__":
    print(json.dumps([sys.argv[1:], os.environ.get("WORDS")]))
"""
"""The application tells what it was given."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Below /t/<token> and /closed the channel, below /simple and /files the index; the last three want a login."""

    broken: set[str]

    def do_GET(self) -> None:
        login = "Basic " + base64.b64encode(f"user:{CANARY}".encode()).decode()
        if any(part in self.path for part in self.broken):
            self.send_error(403)
        elif not self.path.startswith("/t/") and self.headers.get("Authorization") != login:
            self.send_error(401)
        else:
            self.path = self.path.removeprefix(f"/t/{CANARY}").removeprefix("/closed")
            super().do_GET()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class World:
    """The folder of everything, the application's, the store's, and the server's address."""

    folder: Path
    app: Path
    store: Path
    address: str
    broken: set[str] = field(default_factory=set)
    """The server refuses every path that holds one of these."""

    def write(self, *, login: str = f"user:{CANARY}@", channel: str = "", app: str = "", image: str = "") -> None:
        """Write the application and the settings; `app` and `image` are more lines for those tables."""
        project = write_project(self.app, "small", "1.0")
        backend = (project / "backend.py").read_text()
        assert _NOTHING in backend
        (project / "backend.py").write_text(backend.replace(_NOTHING, repr(_PROGRAM)))
        channels = [channel or f"http://{self.address}/t/{CANARY}/channel"]
        text = MANIFEST.format(app=app, image=image, channels=channels, minor=MINOR)
        (self.app / "boxsnake.toml").write_text(text, encoding="utf-8")
        extra = f"http://{login}{self.address}/closed/simple"
        (self.app / "requirements.txt").write_text(f"--extra-index-url {extra}\ntool >=1\n")
        self.settings.write_text(f'index-url = "http://{login}{self.address}/simple"\n')

    @property
    def settings(self) -> Path:
        return self.folder / "config.toml"

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        ours = {"BOXSNAKE_CONFIG": str(self.settings), "BOXSNAKE_CACHE_DIR": str(self.store), "NO_PROXY": "*"}
        return {**os.environ, **ours, **more}

    def command(self, *arguments: str, before: Sequence[str] = ()) -> list[str]:
        return [*before, sys.executable, "-m", "boxsnake", *arguments]

    def run(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the application's folder; `before` is what starts it."""
        command = self.command(*arguments, before=before)
        return subprocess.run(
            command, cwd=self.app, env=self.environment(environment), capture_output=True, text=True, check=False
        )

    def done(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> str:
        """Run it, successfully: what it printed."""
        done = self.run(*arguments, before=before, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the command line in a session of its own, and say nothing."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.app,
            env=self.environment(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def digests(self, output: str = "dist") -> dict[str, str]:
        """The artifacts in a folder, by name; an image is a folder, and all that is in it counts."""
        found = {}
        for path in sorted((self.app / output).iterdir()):
            if path.is_file() or path.suffix == ".image":
                digest = hashlib.sha256()
                for name, data in contents(path):
                    digest.update(name.encode() + b"\0" + data)
                found[path.name] = digest.hexdigest()
        return found


def contents(artifact: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an artifact, by their names: one, or those of the folder that it is."""
    files = sorted(path for path in artifact.rglob("*") if path.is_file()) if artifact.is_dir() else [artifact]
    for path in files:
        yield path.relative_to(artifact.parent).as_posix(), path.read_bytes()


def _distribution(name: str, version: str, folder: Path) -> None:
    files = wheel_files(METADATA=f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    renamed = {path.replace("demo", name).replace("1.0", version): data for path, data in files.items()}
    make_wheel(folder, renamed, name=f"{name}-{version}-py3-none-any.whl")


def _index(folder: Path) -> None:
    """The simple repository API (PEP 503), as files."""
    (folder / "files").mkdir()
    for name in ("demo", "tool"):
        _distribution(name, "1.0", folder / "files")
        wheel = folder / "files" / f"{name}-1.0-py3-none-any.whl"
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        page = folder / "simple" / name
        page.mkdir(parents=True)
        (page / "index.html").write_text(f'<a href="/files/{wheel.name}#sha256={digest}">{wheel.name}</a>')


@contextmanager
def small_world(folder: Path) -> Iterator[World]:
    """Make it, and serve it until the end of the block."""
    channel = Channel(folder=folder / "served" / "channel")
    channel.add("gem", "1.0", depends=["python"])
    Workshop(channel.folder / "linux-64").python()
    channel.index()
    _index(folder / "served")
    broken: set[str] = set()
    handler = functools.partial(type("Handler", (_Handler,), {"broken": broken}), directory=str(folder / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        world = World(
            folder=folder,
            app=folder / "app",
            store=folder / "store",
            address=f"127.0.0.1:{server.server_address[1]}",
            broken=broken,
        )
        world.write()
        yield world
        server.shutdown()
