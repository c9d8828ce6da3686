from __future__ import annotations

import base64
import functools
import http.server
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from boxsnake.errors import BoxsnakeError, ManifestError, NetworkError, PolicyError, ResourceError, UnsolvableError
from boxsnake.lock import CondaPackage
from boxsnake.requirements import CondaRequirement
from boxsnake.resolve_conda import CondaQuestion, channel_location, name_of_spec, resolve_conda
from boxsnake.target import Target
from tests.sources import Channel, python_channel

CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    channel = python_channel(tmp_path_factory.mktemp("stock") / "channel")
    channel.add("zlib", "1.2")
    channel.add("zlib", "1.3")
    channel.add("new", "1.0", depends=["__glibc >=2.39"])
    channel.add("numpy", "2.0", depends=["python >=3.11,<3.12.0a0", "libblas >=3"])
    channel.add("libblas", "3.9", depends=["zlib >=2"])
    channel.add("flask", "3.0", subdir="noarch", depends=["python >=3.9"], distribution="flask")
    return channel.index()


def question(
    channel: Channel | str, *specs: str, target: Target | None = None, keep: tuple[CondaPackage, ...] = ()
) -> CondaQuestion:
    location = channel if isinstance(channel, str) else channel.url
    requirements = tuple(CondaRequirement(spec=spec, source=f"requires.conda[{n}]") for n, spec in enumerate(specs))
    return CondaQuestion(
        target=target or Target(name="default"), channels=(location,), requirements=requirements, preferred=keep
    )


def solve(tmp_path: Path, *questions: CondaQuestion, **options: object) -> list[tuple[CondaPackage, ...]]:
    with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
        return resolve_conda(questions, cache=tmp_path / "repodata", scratch=Path(scratch), **options)  # type: ignore[arg-type]


def versions(half: tuple[CondaPackage, ...]) -> dict[str, str]:
    return {package.name: package.version for package in half}


def failure(tmp_path: Path, asked: CondaQuestion, **options: object) -> BoxsnakeError:
    with pytest.raises(BoxsnakeError) as caught:
        solve(tmp_path, asked, **options)
    return caught.value


def test_packages_come_with_all_that_a_lock_needs(stock: Channel, tmp_path: Path) -> None:
    (half,) = solve(tmp_path, question(stock, "python 3.11.*", "flask"))
    flask = half[0]
    archive = stock.folder / "noarch" / "flask-3.0-h0_0.conda"
    assert flask.url == archive.as_uri()
    assert flask.channel == stock.url
    assert (flask.noarch, flask.subdir, flask.size) == ("python", "noarch", archive.stat().st_size)
    assert len(flask.sha256) == 64
    assert flask.depends == ("python >=3.9",)
    assert versions(half) == {"flask": "3.0", "python": "3.11.9"}


def test_targets_are_solved_for_their_own_platform_and_python(stock: Channel, tmp_path: Path) -> None:
    arm = Target(name="arm", platform="linux-aarch64")
    first, second = solve(tmp_path, question(stock, "python 3.11.*"), question(stock, "python", "flask", target=arm))
    assert versions(first) == {"python": "3.11.9"}
    assert versions(second) == {"flask": "3.0", "python": "3.13.1"}
    assert {package.subdir for package in second} == {"linux-aarch64", "noarch"}


def test_glibc_is_the_targets_and_not_this_machines(
    stock: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.99")
    error = failure(tmp_path, question(stock, "new", target=Target(name="old", glibc="2.28")))
    assert isinstance(error, UnsolvableError)
    assert "targets.old.glibc" in error.next_step
    assert "2.39" in error.next_step
    (half,) = solve(tmp_path, question(stock, "new", target=Target(name="new", glibc="2.39")))
    assert versions(half) == {"new": "1.0"}


def test_the_lowest_glibc_that_helps_is_told_first(tmp_path: Path) -> None:
    channel = python_channel(tmp_path / "channel")
    channel.add("tool", "1.0", depends=["__glibc >=2.35"])
    channel.add("tool", "2.0", depends=["__glibc >=2.38"])
    error = failure(tmp_path, question(channel.index(), "tool"))
    assert isinstance(error, UnsolvableError)
    assert "glibc from 2.28 to 2.35 (or 2.38, for newer versions)" in error.next_step


def test_what_the_last_lock_had_is_kept_where_it_fits(stock: Channel, tmp_path: Path) -> None:
    (old,) = solve(tmp_path, question(stock, "zlib 1.2"))
    (kept,) = solve(tmp_path, question(stock, "zlib", keep=old))
    assert versions(kept) == {"zlib": "1.2"}
    (moved,) = solve(tmp_path, question(stock, "zlib >=1.3", keep=old))
    assert versions(moved) == {"zlib": "1.3"}


def test_a_package_that_was_built_again_is_taken_as_it_is_now(stock: Channel, tmp_path: Path) -> None:
    (old,) = solve(tmp_path, question(stock, "zlib 1.2"))
    (now,) = solve(tmp_path, question(stock, "zlib", keep=(replace(old[0], sha256="0" * 64),)))
    assert now == old


def test_the_first_channel_that_has_a_name_serves_it(stock: Channel, tmp_path: Path) -> None:
    other = Channel(folder=tmp_path / "other")
    other.add("zlib", "0.9")
    other.index()
    asked = replace(question(stock, "zlib"), channels=(other.url, stock.url))
    assert versions(solve(tmp_path, asked)[0]) == {"zlib": "0.9"}


def test_a_failed_solution_names_the_requirers_and_ways_out(stock: Channel, tmp_path: Path) -> None:
    error = failure(tmp_path, question(stock, "python 3.11.*", "numpy >=2"))
    assert isinstance(error, UnsolvableError)
    assert "zlib >=2, for which no candidates were found" in error.cause
    assert "asked: numpy >=2 (requires.conda[1])" in error.cause
    assert stock.url in error.cause
    assert "loosen" in error.next_step


def test_a_name_that_no_channel_has(stock: Channel, tmp_path: Path) -> None:
    error = failure(tmp_path, question(stock, "nosuch >=1"))
    assert isinstance(error, UnsolvableError)
    assert "No candidates were found for nosuch >=1" in error.cause
    assert "asked: nosuch >=1 (requires.conda[0])" in error.cause


def test_what_is_no_match_spec_is_a_fault_of_its_line(stock: Channel, tmp_path: Path) -> None:
    error = failure(tmp_path, question(stock, "flask", "numpy <<3"))
    assert isinstance(error, ManifestError)
    assert [(fault.source, fault.key) for fault in error.faults] == [("requires.conda[1]", "numpy <<3")]


def test_a_package_without_sha256_is_refused(tmp_path: Path) -> None:
    channel = Channel(folder=tmp_path / "channel")
    channel.add("zlib", "1.3")
    channel.index().edit("linux-64", sha256=None)
    error = failure(tmp_path, question(channel, "zlib"))
    assert isinstance(error, PolicyError)
    assert "zlib-1.3" in error.thing
    assert "SHA-256" in error.cause


@pytest.mark.parametrize(("text", "cause"), [("", "EOF"), ("<html>", "expected"), ('{"packages": {', "EOF")])
def test_an_index_that_is_none_is_an_error_of_the_channel(tmp_path: Path, text: str, cause: str) -> None:
    channel = Channel(folder=tmp_path / "channel")
    channel.add("zlib", "1.3")
    channel.index()
    (channel.folder / "linux-64" / "repodata.json").write_text(text)
    error = failure(tmp_path, question(channel, "zlib"))
    assert isinstance(error, NetworkError)
    assert "linux-64" in error.thing
    assert cause in error.cause


def test_a_folder_that_is_no_channel(tmp_path: Path) -> None:
    error = failure(tmp_path, question((tmp_path / "nothing").as_uri(), "zlib"))
    assert isinstance(error, NetworkError)
    assert str(tmp_path / "nothing") in error.thing
    assert "there is no index" in error.cause


def test_a_solver_that_dies_is_not_our_end(tmp_path: Path, stock: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rattler.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = failure(tmp_path, question(stock, "zlib"))
    assert isinstance(error, ResourceError)
    assert "SIGABRT" in error.cause


def test_a_server_that_says_nothing_meets_the_deadline(tmp_path: Path, stock: Channel) -> None:
    error = failure(tmp_path, question(stock, "zlib"), deadline=0.01)
    assert isinstance(error, NetworkError)
    assert stock.url in error.thing


# Channels behind a server


class _Server(http.server.ThreadingHTTPServer):
    seen: list[str]


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a channel below /open, /t/<token> and, to those who log in, below /closed."""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.seen.append(self.path)
        login = "Basic " + base64.b64encode(f"user:{CANARY}".encode()).decode()
        if self.path.startswith("/closed") and self.headers.get("Authorization") != login:
            self.send_error(401)
            return
        self.path = self.path.removeprefix("/open").removeprefix("/closed").removeprefix(f"/t/{CANARY}")
        super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(stock: Channel) -> Iterator[str]:
    handler = functools.partial(_Handler, directory=str(stock.folder))
    with _Server(("127.0.0.1", 0), handler) as running:
        running.seen = []
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize(
    ("channel", "settings"),
    [
        (f"http://user:{CANARY}@HOST/closed", {}),
        ("http://HOST/closed", {"http://HOST/closed": f"user:{CANARY}"}),
        (f"http://HOST/t/{CANARY}/channel", {}),
    ],
    ids=["in the URL", "in the settings", "token"],
)
def test_credentials_open_a_channel_and_stay_out_of_everything(
    server: str, tmp_path: Path, channel: str, settings: dict[str, str], stock: Channel
) -> None:
    (stock.folder / "channel").mkdir(exist_ok=True)
    for subdir in ("linux-64", "noarch"):
        link = stock.folder / "channel" / subdir
        if not link.is_symlink():
            link.symlink_to(stock.folder / subdir)
    channel = channel.replace("HOST", server)
    credentials = {prefix.replace("HOST", server): secret for prefix, secret in settings.items()}
    (half,) = solve(tmp_path, question(channel, "zlib"), credentials=credentials)
    assert versions(half) == {"zlib": "1.3"}
    assert half[0].url.startswith(f"http://{server}/c")
    assert CANARY not in repr(half)
    leaks = [
        path for path in (tmp_path / "repodata").rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert leaks == []


def test_a_channel_that_wants_credentials_says_so_without_showing_wrong_ones(server: str, tmp_path: Path) -> None:
    error = failure(tmp_path, question(f"http://user:{CANARY}x@{server}/closed", "zlib"))
    assert isinstance(error, NetworkError)
    assert "credentials" in error.cause
    assert CANARY not in f"{error} {error.data}"


def test_offline_takes_what_was_looked_up_before(server: str, tmp_path: Path) -> None:
    asked = question(f"http://{server}/open", "zlib")
    error = failure(tmp_path, asked, offline=True)
    assert isinstance(error, NetworkError)
    assert "--offline" in error.next_step
    online = solve(tmp_path, asked)
    assert solve(tmp_path, asked, offline=True) == online


def test_a_channel_that_is_not_there_names_it(server: str, tmp_path: Path) -> None:
    error = failure(tmp_path, question(f"http://{server}/open/none", "zlib"))
    assert isinstance(error, NetworkError)
    assert f"http://{server}/open/none" in error.thing


# Words


@pytest.mark.parametrize(
    ("channel", "location"),
    [
        ("conda-forge", "conda-forge"),
        ("conda-forge/label/dev", "conda-forge/label/dev"),
        ("https://host.example/channel/", "https://host.example/channel"),
        ("./channel", "file:///srv/app/channel"),
        ("../my channel", "file:///srv/my%20channel"),
        ("/opt/channel", "file:///opt/channel"),
        ("file:///opt/./channel/", "file:///opt/channel"),
    ],
)
def test_a_channel_is_a_name_an_url_or_a_folder(channel: str, location: str) -> None:
    assert channel_location(channel, Path("/srv/app")) == location


def test_a_folder_without_a_dot_is_one_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "build" / "channel" / "noarch").mkdir(parents=True)
    assert channel_location("build/channel", tmp_path) == (tmp_path / "build/channel").as_uri()


def test_defaults_is_refused() -> None:
    with pytest.raises(ManifestError, match="defaults"):
        channel_location("defaults", Path("/"))


@pytest.mark.parametrize("spec", ["numpy", "numpy >=2", "conda-forge::numpy", "numpy=2.0=py311*", "NumPy[version='2']"])
def test_the_name_of_a_spec(spec: str) -> None:
    assert name_of_spec(spec) == "numpy"
