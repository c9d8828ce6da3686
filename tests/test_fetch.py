from __future__ import annotations

import hashlib
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from boxsnake.credentials import Credentials
from boxsnake.errors import BoxsnakeError, IntegrityError, NetworkError, PolicyError, ResourceError
from boxsnake.fetch import Wanted, fetch, fetch_bytes
from boxsnake.fetch.client import http_client
from boxsnake.fetch.download import Download, Request
from boxsnake.fetch.exchange import Patience
from boxsnake.store import Store
from tests.archives import make_conda, make_wheel, wheel_files
from tests.faulty_server import FaultyServer, faulty_server

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()
NOBODY = Credentials()
CANARY = "c4n4ry-s3cret"
HASTY = Patience(connect=2.0, stall=0.2, window=0.1, total=20.0, attempts=5, pause=0.001)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.files.clear()
    server.hits.clear()
    server.requests.clear()


def wanted(url: str, data: bytes = DATA, name: str = "file.bin") -> Wanted:
    return Wanted(name=name, url=url, sha256=hashlib.sha256(data).hexdigest(), size=len(data), kind="file")


def get(store: Store, *items: Wanted, credentials: Credentials = NOBODY) -> dict[str, Path]:
    return fetch(store, items, credentials=credentials, patience=HASTY)


def test_a_file_is_fetched_once_and_found_afterwards(store: Store, server: FaultyServer) -> None:
    item = wanted(server.serve("file", DATA))
    assert get(store, item, item)[SHA256].read_bytes() == DATA
    assert get(store, item) == {SHA256: store.path(f"sha256:{SHA256}")}
    assert server.hits["/file"] == 1


@pytest.mark.parametrize(
    "mode",
    [
        "ok",
        "flaky 4",
        "trunc_once",
        "no_range",
        "wrong_range",
        "refused_range",
        "changing",
        "reset_once",
        "stall_once",
        "old",
        "junk",
    ],
)
def test_a_fault_that_passes_is_lived_through(store: Store, server: FaultyServer, mode: str) -> None:
    item = wanted(server.serve("file", DATA, mode))
    assert get(store, item)[SHA256].read_bytes() == DATA


def test_a_broken_answer_is_gone_on_with_where_it_broke_off(store: Store, server: FaultyServer) -> None:
    get(store, wanted(server.serve("file", DATA, "trunc_once")))
    first, second = server.headers_of("file")
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == (f"bytes={len(DATA) // 2}-", '"one"')


@pytest.mark.parametrize(
    ("mode", "kind", "text"),
    [
        ("status 500", NetworkError, "answered 500"),
        ("status 401", NetworkError, "asks for a login"),
        ("status 403", NetworkError, "may have the file"),
        ("status 404", NetworkError, "the index names the file, but the server has not got it"),
        ("status 407", NetworkError, "proxy asks for a login"),
        ("status 410", NetworkError, "removed for good"),
        ("status 451", NetworkError, "withholds the file"),
        ("status 418", NetworkError, "answered 418"),
        ("busy_long", NetworkError, "come back in 86400 s"),
        ("trunc", NetworkError, "broke off"),
        ("stall", NetworkError, "no bytes for"),
        ("slow", NetworkError, "bytes a second"),
        ("hops", NetworkError, "more than 10 redirects"),
        ("nowhere", NetworkError, "without a place to go to"),
        ("html", NetworkError, "HTML"),
        ("disguised_html", NetworkError, "HTML"),
        ("bad_chunk", NetworkError, "no HTTP"),
        ("rubbish", NetworkError, "no HTTP"),
        ("short", IntegrityError, "are not those that were locked"),
        ("long", IntegrityError, "sends more than"),
        ("other", IntegrityError, "are not those that were locked"),
    ],
)
def test_a_fault_that_stays_is_named(
    store: Store, server: FaultyServer, mode: str, kind: type[BoxsnakeError], text: str
) -> None:
    item = wanted(server.serve("file", DATA, mode))
    hasty = replace(HASTY, attempts=2, stall=0.05 if mode == "stall" else 1.0)
    with pytest.raises(kind, match=text) as caught:
        fetch(store, [item], credentials=NOBODY, patience=hasty)
    assert "file" in caught.value.thing
    assert caught.value.next_step
    assert not store.has(item.digest)
    # The same command succeeds once the fault has gone.
    server.serve("file", DATA)
    assert get(store, item)[SHA256].read_bytes() == DATA


def test_wrong_bytes_are_kept_as_evidence(store: Store, server: FaultyServer) -> None:
    with pytest.raises(IntegrityError) as caught:
        get(store, wanted(server.serve("file", DATA, "other")))
    assert Path(str(caught.value.data["evidence"])).read_bytes() == DATA[::-1]
    assert server.hits["/file"] == 1


class Recorder(threading.Event):
    """A stop signal that notes for how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return False


class Memory:
    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def restart(self) -> None:
        self.data.clear()


@pytest.mark.parametrize(
    ("mode", "least", "most"),
    [("busy_once 429", 7.0, 7.0), ("busy_once 503", 7.0, 7.0), ("busy_at_date", 29.0, 31.0), ("flaky 2", 0.3, 0.7)],
)
def test_a_server_is_given_the_time_it_asks_for(server: FaultyServer, mode: str, least: float, most: float) -> None:
    recorder, memory, done = Recorder(), Memory(), [0]
    request = Request(name="file", url=server.serve("file", DATA, mode), size=len(DATA), limit=0)
    with http_client(1, Patience()) as client:
        Download(
            client,
            request,
            memory,
            credentials=NOBODY,
            patience=Patience(),
            stop=recorder,
            advance=done.append,
        ).run()
    assert memory.data == DATA
    assert sum(done) == len(DATA)
    assert len(recorder.waits) == 1
    assert least <= recorder.waits[0] <= most


def test_a_size_that_is_wrong_is_refused_although_the_sum_is_right(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    item = replace(wanted((tmp_path / "file").as_uri()), size=len(DATA) + 1)
    with pytest.raises(IntegrityError, match="are locked for the same SHA-256"):
        get(store, item)


# Local files


def test_local_files_are_taken_by_url_and_by_path(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "with space+%.bin"
    path.write_bytes(DATA)
    assert get(store, wanted(path.as_uri()))[SHA256].read_bytes() == DATA
    other = Store(tmp_path / "other")
    assert get(other, wanted(str(path)))[SHA256].read_bytes() == DATA


def test_local_files_are_held_to_their_digest(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[::-1])
    with pytest.raises(IntegrityError, match="not those that were locked"):
        get(store, wanted((tmp_path / "file").as_uri()))
    assert not store.has(f"sha256:{SHA256}")
    with pytest.raises(ResourceError, match="it is not there"):
        get(store, wanted(str(tmp_path / "absent")))


def test_offline_names_everything_that_is_missing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"here")
    items = [wanted(f"https://example.test/{name}?sig={CANARY}", name.encode(), name) for name in ("a", "b")]
    items.append(wanted(str(tmp_path / "here"), b"here", "here"))
    with pytest.raises(NetworkError, match="2 files are not in the cache") as caught:
        fetch(store, items, offline=True)
    assert [item["name"] for item in caught.value.data["missing"]] == ["a", "b"]  # type: ignore[attr-defined]
    assert CANARY not in f"{caught.value} {caught.value.data}"
    assert fetch(store, items[2:], offline=True)


def test_a_file_without_a_digest_is_refused(store: Store) -> None:
    with pytest.raises(PolicyError, match="no SHA-256"):
        fetch(store, [replace(wanted("http://example.test/x"), sha256="")])


# Healing and checks


def test_a_bit_that_flipped_in_the_store_is_healed_and_reported(
    store: Store, server: FaultyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    item = wanted(server.serve("file", DATA))
    path = get(store, item)[SHA256]
    path.chmod(0o644)
    path.write_bytes(b"\xff" + DATA[1:])
    with caplog.at_level(logging.WARNING):
        assert get(Store(tmp_path / "cache"), item)[SHA256].read_bytes() == DATA
    assert "its bytes have changed on this machine" in caplog.text
    assert server.hits["/file"] == 2


def test_archives_are_checked_before_they_count_as_present(store: Store, server: FaultyServer, tmp_path: Path) -> None:
    bad = make_wheel(tmp_path, {**wheel_files(), "demo/../../x": b""}).read_bytes()
    item = replace(wanted(server.serve("demo", bad), bad, "demo-1.0-py3-none-any.whl"), kind="wheel")
    with pytest.raises(IntegrityError, match=r"demo/\.\./\.\./x") as caught:
        get(store, item)
    assert not store.has(item.digest)
    assert Path(str(caught.value.data["evidence"])).read_bytes() == bad


def test_good_archives_of_both_kinds_come_through(store: Store, tmp_path: Path) -> None:
    paths = [make_wheel(tmp_path), make_conda(tmp_path)]
    kinds = dict(zip(paths, ("wheel", "conda"), strict=True))
    items = [replace(wanted(str(path), path.read_bytes(), path.name), kind=kind) for path, kind in kinds.items()]  # type: ignore[arg-type]
    assert sorted(found.read_bytes() for found in get(store, *items).values()) == sorted(p.read_bytes() for p in paths)


def test_a_name_that_does_not_fit_is_no_fault_of_the_bytes(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    item = replace(wanted(str(path), path.read_bytes(), "other-1.0-py3-none-any.whl"), kind="wheel")
    with pytest.raises(IntegrityError, match=r"holds demo 1\.0"):
        get(store, item)
    assert store.has(item.digest)


# Redirects and credentials


def test_redirects_are_followed(store: Store, server: FaultyServer) -> None:
    server.serve("file", DATA)
    item = wanted(server.serve("moved", b"", "redirect 301", to="file"))
    assert get(store, item)[SHA256].read_bytes() == DATA


@pytest.mark.parametrize(
    ("to", "kind", "text"),
    [
        ("/moved", NetworkError, "a loop of redirects"),
        ("file:///etc/passwd", PolicyError, "only http"),
        ("ftp://example.test/x", PolicyError, "only http"),
        ("http://example.test:port/", NetworkError, "no URL"),
    ],
)
def test_redirects_that_lead_astray_are_not_followed(
    store: Store, server: FaultyServer, to: str, kind: type[BoxsnakeError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        get(store, wanted(server.serve("moved", b"", "redirect", to=to)))


def test_a_redirect_from_outside_to_this_machine_is_refused(
    store: Store, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: look_up("127.0.0.1" if "." in host else host, *rest, **more)
    )
    server.serve("moved", b"", "redirect", to=server.url("file"))
    with pytest.raises(PolicyError, match="this machine or its own network"):
        get(store, wanted(server.url("moved", host="index.example.test")))


def test_a_login_goes_to_its_own_server_alone(store: Store, server: FaultyServer, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {CANARY}\ndefault login x password {CANARY}\n")
    netrc.chmod(0o600)
    credentials = Credentials.from_environment(netrc_file=netrc, env={})
    assert get(store, wanted(server.serve("file", DATA, "login")), credentials=credentials)
    assert server.headers_of("file")[0]["Authorization"].startswith("Basic ")
    more = DATA + b"more"
    server.serve("file", more)
    item = wanted(server.serve("moved", b"", "redirect", to=server.url("file", host="localhost")), more)
    assert get(store, item, credentials=credentials)
    assert "Authorization" in server.headers_of("moved")[0]
    assert "Authorization" not in server.headers_of("file")[1]


def test_a_channel_token_is_put_back_and_never_told(store: Store, server: FaultyServer) -> None:
    credentials = Credentials.from_environment(
        urls=[f"{server.url('')}t/{CANARY}/channel", f"http://me:{CANARY}@127.0.0.1:{server.port}/x"], env={}
    )
    server.serve(f"t/{CANARY}/channel/file", DATA, "status 404")
    with pytest.raises(NetworkError) as caught:
        get(store, wanted(server.url("channel/file?signature=" + CANARY)), credentials=credentials)
    assert server.hits[f"/t/{CANARY}/channel/file?signature={CANARY}"] == 1
    assert CANARY not in f"{caught.value} {caught.value.data} {credentials!r} {credentials.login(server.url('x'))!r}"


def test_a_wrong_login_is_told_from_none(store: Store, server: FaultyServer) -> None:
    credentials = Credentials.from_environment({server.url(""): f"me:{CANARY}"}, env={})
    with pytest.raises(NetworkError, match="does not accept the login") as caught:
        get(store, wanted(server.serve("file", DATA, "status 401")), credentials=credentials)
    assert CANARY not in f"{caught.value} {caught.value.data}"


# Networks


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


def test_a_server_that_is_not_there(store: Store) -> None:
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)") as caught:
        get(store, wanted(f"http://127.0.0.1:{closed_port()}/file"))
    assert "--offline" in caught.value.next_step


def test_a_name_that_does_not_resolve(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NetworkError, match=r"nowhere\.example\.test cannot be resolved"):
        get(store, wanted("http://nowhere.example.test/file"))


def test_a_proxy_that_is_not_there_is_named_by_its_variable(
    store: Store, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{CANARY}@127.0.0.1:{closed_port()}")
    item = wanted(server.serve("file", DATA))
    with pytest.raises(NetworkError, match="HTTP_PROXY names the proxy") as caught:
        get(store, item)
    assert CANARY not in f"{caught.value} {caught.value.data}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert get(store, item)


def test_a_proxy_that_cannot_be_used(store: Store, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(ResourceError, match="proxy settings"):
        get(store, wanted(server.serve("file", DATA)))


def test_certificates(store: Store, server: FaultyServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_server(certificate) as safe:
        item = wanted(safe.serve("file", DATA).replace("127.0.0.1", "localhost"))
        with pytest.raises(NetworkError, match="certificate is not valid") as caught:
            get(store, item)
        assert "clock" in caught.value.next_step
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get(store, item)[SHA256].read_bytes() == DATA
        more = DATA + b"more"
        with pytest.raises(NetworkError, match="certificate is not valid"):
            get(store, wanted(safe.serve("file", more), more))  # made out to another name
        unsafe = safe.serve("moved", b"", "redirect", to=server.serve("file", more))
        with pytest.raises(IntegrityError, match="which is not encrypted"):
            get(store, wanted(unsafe.replace("127.0.0.1", "localhost"), more))
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with pytest.raises(ResourceError, match="certificates"):
        get(store, wanted("https://localhost:1/x", more + more))


# Many at once

FETCH_ALL = """
import hashlib, sys
from pathlib import Path
from boxsnake.credentials import Credentials
from boxsnake.fetch import Wanted, fetch
from boxsnake.store import Store
base, cache = sys.argv[1:]
items = []
for number in range(6):
    data = bytes([number]) * 50_000
    sha256 = hashlib.sha256(data).hexdigest()
    items.append(Wanted(name=str(number), url=f"{base}{number}", sha256=sha256, size=len(data), kind="file"))
found = fetch(Store(Path(cache)), items, credentials=Credentials())
assert {path.stat().st_size for path in found.values()} == {50_000}
"""


def test_eight_processes_fetch_each_file_once(server: FaultyServer, tmp_path: Path) -> None:
    for number in range(6):
        server.serve(str(number), bytes([number]) * 50_000)
    command = [sys.executable, "-c", FETCH_ALL, server.url(""), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, errors
    assert sorted(server.hits.values()) == [1] * 6


def test_after_one_error_the_others_are_stopped(store: Store, server: FaultyServer) -> None:
    items = [wanted(server.serve("stall", DATA + b"1", "stall"), DATA + b"1"), wanted(server.url("absent"))]
    with pytest.raises(NetworkError, match="404"):
        fetch(store, items, credentials=NOBODY, patience=replace(HASTY, stall=0.5, attempts=1_000, pause=0.05))


# Documents


def test_small_documents(server: FaultyServer) -> None:
    url = server.serve("index.json", b"{}")
    assert fetch_bytes(url, limit=10, credentials=NOBODY) == b"{}"
    server.serve("index.json", bytes(11))
    with pytest.raises(IntegrityError, match="more than the 10 bytes"):
        fetch_bytes(url, limit=10, credentials=NOBODY)
    server.serve("index.json", b"", "html")
    with pytest.raises(NetworkError, match="HTML"):
        fetch_bytes(url, limit=1_000, credentials=NOBODY)
    assert b"log in" in fetch_bytes(url, limit=1_000, credentials=NOBODY, html=True)


def test_credentials_of_every_origin() -> None:
    credentials = Credentials.from_environment(
        {"https://a.test/private/": "me:one", "https://a.test": "you:two", "https://c.test": "tok"},
        urls=["https://u:p%40ss@b.test:8443/simple/", "https://d.test/conda/t/tok2/team"],
        env={
            "BOXSNAKE_INDEX_E_URL": "https://e.test/simple",
            "BOXSNAKE_INDEX_E_USERNAME": "ed",
            "BOXSNAKE_INDEX_E_PASSWORD": "three",
        },
    )

    def login(url: str) -> str | None:
        found = credentials.login(url)
        return f"{found.user}:{found.password}" if found else None

    assert login("https://a.test/private/x") == "me:one"
    assert login("https://a.test/privateer") == "you:two"
    assert login("http://a.test/private/x") is None
    assert login("https://b.test:8443/files/x") == "u:p@ss"
    assert login("https://b.test/files/x") is None
    assert login("https://e.test/simple/x") == "ed:three"
    assert credentials.with_token("https://c.test/main/noarch/x") == "https://c.test/t/tok/main/noarch/x"
    assert credentials.with_token("https://d.test/conda/team/x") == "https://d.test/conda/t/tok2/team/x"
    assert credentials.with_token("https://d.test/conda/other/x") == "https://d.test/conda/other/x"


def test_a_broken_netrc_is_left_out_without_its_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "netrc"
    path.write_text(f"machine a.test login me passwort {CANARY}\n")
    with caplog.at_level(logging.WARNING):
        assert Credentials.from_environment(env={"NETRC": str(path)}).login("https://a.test/") is None
    assert str(path) in caplog.text
    assert CANARY not in caplog.text
