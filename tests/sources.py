"""Channels, indexes and projects of a few small packages, made on the spot: what resolving needs, without a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def write_wheel(
    folder: Path, name: str, version: str, *, tag: str = "py3-none-any", requires: Iterable[str] = (), extra: str = ""
) -> Path:
    """A wheel that holds its metadata alone."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/METADATA"), "\n".join(lines) + f"\n{extra}")
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/WHEEL"), f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/RECORD"), "")
    return path


# A backend within the project: it builds without anything from an index.
_BACKEND = '''
import pathlib, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "{stem}.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, "{stem}-{tag}.whl"), "w") as archive:
        archive.writestr("{module}.py", "x = 1\\n")
        archive.writestr(info + "/METADATA", """{metadata}""")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: {tag}\\n")
        archive.writestr(info + "/RECORD", "{module}.py,,\\n" + info + "/METADATA,,\\n" + info + "/WHEEL,,\\n"
                         + info + "/RECORD,,\\n")
    return "{stem}-{tag}.whl"
'''


def write_project(
    folder: Path, name: str, version: str, *, requires: Iterable[str] = (), tag: str = "py3-none-any"
) -> Path:
    """A project with a build backend of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    text = _BACKEND.format(stem=stem, tag=tag, module=name.replace("-", "_"), metadata="\\n".join(lines) + "\\n")
    (folder / "backend.py").write_text(text)
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f"[project]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\n"
        f"dependencies = {json.dumps(list(requires))}\n"
    )
    return folder


def write_sdist(folder: Path, name: str, version: str, *, requires: Iterable[str] = ()) -> Path:
    """A sdist of such a project."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    project = write_project(folder.parent / "unpacked" / stem, name, version, requires=requires)
    (project / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(project.iterdir()):
            archive.add(file, f"{stem}/{file.name}")
    return path


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A conda channel in a folder."""

    folder: Path

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(
        self,
        name: str,
        version: str,
        *,
        subdir: str = "linux-64",
        build: str = "h0_0",
        depends: Iterable[str] = (),
        distribution: str | None = None,
    ) -> Path:
        """Write a package; with `distribution` it is one for any Python that brings that distribution."""
        import rattler_build

        content = self.folder.parent / "content" / f"{subdir}-{name}-{version}-{build}"
        files = {f"share/{name}.txt": f"{name} {version}\n"}
        if distribution is not None:
            info = f"site-packages/{distribution.replace('-', '_')}-{version}.dist-info"
            files = {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"}
        for path, text in files.items():
            (content / path).parent.mkdir(parents=True, exist_ok=True)
            (content / path).write_text(text)
        (self.folder / subdir).mkdir(parents=True, exist_ok=True)
        rattler_build.assemble_package(
            name,
            version,
            subdir,
            build,
            self.folder / subdir,
            files_dir=content,
            depends=list(depends),
            timestamp=WHEN,
            compression_level=1,
            detect_prefix=False,
            noarch="python" if distribution is not None else None,
        )
        return self.folder / subdir / f"{name}-{version}-{build}.conda"

    def index(self) -> Channel:
        """Write the index, anew."""
        from rattler.index import index_fs

        (self.folder / "noarch").mkdir(parents=True, exist_ok=True)
        asyncio.run(index_fs(self.folder, write_zst=False, write_shards=False, force=True))
        return self

    def edit(self, subdir: str, **changes: object) -> None:
        """Change every record of an index; None removes a key."""
        path = self.folder / subdir / "repodata.json"
        repodata = json.loads(path.read_text())
        for record in (*repodata["packages"].values(), *repodata["packages.conda"].values()):
            _edit(record, changes)
        path.write_text(json.dumps(repodata))


def _edit(record: dict[str, object], changes: Mapping[str, object]) -> None:
    for key, value in changes.items():
        if value is None:
            record.pop(key, None)
        else:
            record[key] = value


class _IndexHandler(BaseHTTPRequestHandler):
    """The simple repository API (PEP 503) over a folder of wheels, for those who log in."""

    folder: Path
    login: str

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(self.login.encode()).decode()}":
            self.send_error(401)
            return
        place, name = self.path.strip("/").split("/")
        files = sorted(self.folder.glob(f"{name.replace('-', '_')}-*" if place == "simple" else name))
        if not files:
            self.send_error(404)
            return
        body = files[0].read_bytes()
        if place == "simple":
            digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
            body = "".join(f'<a href="/files/{n}#sha256={d}">{n}</a>' for n, d in digests.items()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if place == "simple" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def index_server(folder: Path, login: str) -> Iterator[str]:
    """Serve a folder of wheels as an index; the value is its host and port."""
    handler = type("Handler", (_IndexHandler,), {"folder": folder, "login": login})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def python_channel(folder: Path) -> Channel:
    """A channel with two Pythons for two platforms, and nothing else."""
    channel = Channel(folder=folder)
    for subdir in ("linux-64", "linux-aarch64"):
        for version in ("3.11.9", "3.13.1"):
            channel.add("python", version, subdir=subdir, depends=["__glibc >=2.17"])
    return channel
