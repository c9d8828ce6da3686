from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from boxsnake import flock
from boxsnake.beside import publish_bytes
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults, publish_file, publish_tree, remove_tree, resource_error
from boxsnake.errors import BoxsnakeError, IntegrityError, ResourceError
from boxsnake.store import Store

DATA = b"some bytes"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def spoil(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


# Blobs


def test_bytes_come_back(store: Store, tmp_path: Path) -> None:
    assert not store.has(DIGEST)
    blob = store.put_bytes(DATA)
    assert (blob.digest, blob.size) == (DIGEST, len(DATA))
    assert store.has(DIGEST)
    assert store.path(DIGEST).read_bytes() == DATA
    (tmp_path / "file").write_bytes(DATA)
    assert store.put_file(tmp_path / "file", expected=DIGEST) == blob
    with store.writer() as writer:
        writer.write(b"other")
        writer.restart()
        for byte in DATA:
            writer.write(bytes([byte]))
    assert writer.blob == blob


def test_a_blob_that_is_absent(store: Store) -> None:
    with pytest.raises(ResourceError, match="is not in the cache"):
        store.path(DIGEST)
    assert store.intact(DIGEST) is None
    with pytest.raises(ValueError, match="not a digest"):
        store.has("sha256:../../x")


def test_other_bytes_than_expected_are_kept_apart(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"wrong")
    with pytest.raises(IntegrityError, match="not those that were locked") as caught:
        store.put_file(tmp_path / "file", expected=DIGEST)
    assert Path(str(caught.value.data["evidence"])).read_bytes() == b"wrong"
    assert not store.has(DIGEST)
    assert store.size().blobs == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "symlink", "folder"])
def test_damage_is_found_at_use_and_healed(store: Store, root: Path, tmp_path: Path, damage: str) -> None:
    path = store.path(store.put_bytes(DATA).digest)
    if damage == "flip":
        spoil(path, b"Some bytes")
    elif damage == "truncate":
        spoil(path, b"")
    else:
        path.unlink()
        (tmp_path / "other").write_bytes(DATA)
        path.mkdir() if damage == "folder" else path.symlink_to(tmp_path / "other")
    for user in (store, Store(root)):
        if user.has(DIGEST):
            with pytest.raises(IntegrityError, match="have changed on this machine"):
                user.path(DIGEST)
        assert user.intact(DIGEST) is None
    store.put_bytes(DATA)
    assert Store(root).path(DIGEST).read_bytes() == DATA
    assert store.verify().bad == ()


@pytest.mark.parametrize("damage", ["bit", "cut", "absent", "folder"])
def test_what_a_disk_has_changed_is_found_without_hashing(root: Path, damage: str) -> None:
    blob = Store(root).put_bytes(b"a layer")
    place = Store(root).sound(blob.digest)
    assert place is not None
    place.chmod(0o600)
    if damage in {"absent", "folder"}:
        place.unlink()
    if damage == "folder":
        place.mkdir()
    if damage in {"bit", "cut"}:
        place.write_bytes(b"a laxer" if damage == "bit" else b"a laye")
    assert Store(root).sound(blob.digest) is None
    assert Store(root).put_bytes(b"a layer") == blob
    assert Store(root).sound(blob.digest) == place


def test_what_was_hashed_once_is_compared_by_its_checksum(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Store(root).put_bytes(b"a layer")
    place = Store(root).sound(blob.digest)
    monkeypatch.setattr("boxsnake.store.hash_file", lambda path: pytest.fail(f"hashed {path}"))
    again = Store(root)
    assert again.sound(blob.digest) == place
    assert again.path(blob.digest) == place


def test_what_nobody_has_written_to_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Store(root).put_bytes(b"a layer")
    place = Store(root).sound(blob.digest)
    assert place is not None
    then = time.time() - 100  # since when it has lain there
    os.utime(place, (then, then))
    assert Store(root).untouched(blob.digest)
    place.with_name("more").hardlink_to(place)
    with monkeypatch.context() as patch:
        patch.setattr("boxsnake.store.checksum", lambda path: pytest.fail(f"read {path}"))
        assert Store(root).untouched(blob.digest)
    place.chmod(0o600)
    place.write_bytes(b"a laxer")
    assert not Store(root).untouched(blob.digest)
    assert not Store(root).untouched(blob.digest)


def test_the_digest_of_many_files_is_of_their_names_and_contents(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.py").write_text("1")
    (folder / "b.txt").write_text("of no interest")
    store = Store(root)
    first = store.digest_of_files(folder, (".py", ".sh"))
    (folder / "b.txt").write_text("still")
    assert store.digest_of_files(folder, (".py", ".sh")) == first
    (folder / "in" / "a.py").write_text("2")
    second = store.digest_of_files(folder, (".py", ".sh"))
    (folder / "in" / "a.py").rename(folder / "a.py")
    assert len({first, second, store.digest_of_files(folder, (".py", ".sh"))}) == 3


def test_blobs_cannot_be_written_by_accident(store: Store) -> None:
    assert store.path(store.put_bytes(DATA).digest).stat().st_mode & 0o222 == 0


def test_an_exception_publishes_nothing(store: Store, root: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), store.writer() as writer:
        writer.write(DATA)
        raise KeyboardInterrupt
    assert not store.has(DIGEST)
    assert not names_below(root / "v1" / "blobs")


# Results


def test_results_are_found_by_their_inputs(store: Store) -> None:
    key = {"b": [1, 2], "a": {"y": None, "x": "é\n"}}
    assert store.selected("kind", key) is None
    store.select("kind", key, {"digest": DIGEST})
    assert store.selected("kind", dict(reversed(key.items()))) == {"digest": DIGEST}
    assert store.selected("kind", {**key, "c": 1}) is None
    assert store.selected("other", key) is None
    with pytest.raises(ValueError, match="not a kind"):
        store.select("../kind", key, {})


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"result": {"digest": "x"}, "sha256": ""}', b"\xff" * 30, b"[" * 9999]
)
def test_a_result_that_cannot_be_trusted_is_none(store: Store, root: Path, text: bytes) -> None:
    store.select("kind", {}, {"digest": DIGEST})
    (path,) = (root / "v1" / "selectors").rglob("*.json")
    spoil(path, text)
    assert store.selected("kind", {}) is None
    store.select("kind", {}, {"digest": DIGEST})
    assert store.selected("kind", {}) == {"digest": DIGEST}


def test_every_bit_of_a_result_counts(store: Store, root: Path) -> None:
    store.select("kind", {"a": 1}, {"n": 1})
    (path,) = (root / "v1" / "selectors").rglob("*.json")
    good = path.read_bytes()
    for place in range(len(good)):
        spoil(path, good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert store.selected("kind", {"a": 1}) in (None, {"n": 1})


def test_canonical_json_is_one_text() -> None:
    assert canonical_json({"b": [1, True, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,true,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_the_digest_of_a_file_outside_is_remembered(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    before = time.time() - 100
    os.utime(path, (before, before))
    assert store.digest_of_file(path) == DIGEST
    path.write_bytes(b"some other bytes")
    assert store.digest_of_file(path) == f"sha256:{hashlib.sha256(b'some other bytes').hexdigest()}"
    with pytest.raises(ResourceError, match="absent"):
        store.digest_of_file(tmp_path / "absent")


def test_a_remembered_digest_is_not_computed_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**10)  # the file has been left alone for ten seconds
    assert store.digest_of_file(path) == DIGEST
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert store.digest_of_file(path) == DIGEST


# Work, locks, leases


def test_scratch_folders_go_with_their_block(root: Path) -> None:
    store = Store(root)
    with store.scratch("stage") as folder:
        assert folder.stat().st_dev == root.stat().st_dev
        (folder / "locked").mkdir()
        (folder / "locked" / "file").write_bytes(DATA)
        (folder / "locked").chmod(0o500)
    assert not folder.exists()
    lease = folder.parent
    assert lease.exists()
    del store
    assert not lease.exists()


def run(code: str, *arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


KILLED = """
import os, signal, sys
from pathlib import Path
from boxsnake.store import Store
store = Store(Path(sys.argv[1]))
with store.scratch("stage") as folder, store.lock("name"), store.writer() as writer:
    (folder / "file").write_bytes(b"x")
    writer.write(b"some bytes")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next(root: Path) -> None:
    assert run(KILLED, root).returncode == -signal.SIGKILL
    assert any(name.endswith("/file") for name in names_below(root / "v1" / "tmp"))
    store = Store(root)
    assert not store.has(DIGEST)
    with store.lock("name", wait=0.0):
        store.put_bytes(DATA)
    assert run(KILLED, root).returncode == -signal.SIGKILL
    Store(root).clean()
    assert names_below(root / "v1" / "locks") <= {"clean.lock"}
    assert len([path for path in (root / "v1" / "tmp").iterdir() if path.is_dir()]) == 1
    assert store.verify().bad == ()


KILLED_AT = """
import os, sys
from pathlib import Path
from boxsnake.store import Store
calls = 0
def audit(event, arguments):
    global calls
    if event in ("open", "os.rename", "os.mkdir", "os.chmod", "os.remove", "shutil.rmtree", "os.rmdir"):
        calls += 1
        if calls == limit:
            os.kill(os.getpid(), 9)
limit = 0
store = Store(Path(sys.argv[1]))
limit = int(sys.argv[2])
sys.addaudithook(audit)
store.put_bytes(b"some bytes")
store.select("kind", {}, {"digest": "x"})
store = None
print(calls)
"""


def test_a_kill_at_any_step_leaves_a_good_store(root: Path) -> None:
    steps = int(run(KILLED_AT, root, 0).stdout)
    assert steps > 15
    for step in range(1, steps, 2):
        shutil.rmtree(root)
        assert run(KILLED_AT, root, step).returncode == -signal.SIGKILL
        store = Store(root)
        assert store.verify().bad == ()
        assert store.intact(store.put_bytes(DATA).digest)
        assert store.selected("kind", {}) in (None, {"digest": "x"})
        assert sum(path.is_dir() for path in (root / "v1" / "tmp").iterdir()) == 1


def test_a_lock_held_elsewhere_names_its_holder(store: Store, root: Path) -> None:
    code = "import sys; from pathlib import Path; from boxsnake.store import Store\n"
    code += "with Store(Path(sys.argv[1])).lock('a name/with anything'): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ResourceError, match=f"process {holder.pid} holds"),
            store.lock("a name/with anything", 0.05),
        ):
            pass
        holder.communicate("")
    with store.lock("a name/with anything", 0.0):
        pass
    assert not list((root / "v1" / "locks").iterdir())


def test_a_lock_excludes_threads_too(store: Store) -> None:
    inside, most, total = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, total
        for _ in range(20):
            with store.lock("shared", wait=60.0):
                inside += 1
                most = max(most, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == (1, 80)


def test_a_lock_is_not_taken_on_a_file_that_has_no_name_any_more(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with flock.held(path, wait=0.0):
        assert flock.try_acquire(path) is None
    assert not path.exists()


PUT_MANY = """
import sys
from pathlib import Path
from boxsnake.store import Store
store = Store(Path(sys.argv[1]))
for number in range(40):
    data = b"%d" % number * 1000
    blob = store.put_bytes(data)
    assert store.path(blob.digest).read_bytes() == data
    store.select("kind", {"n": number}, {"digest": blob.digest})
    assert store.selected("kind", {"n": number}) == {"digest": blob.digest}
"""


def test_many_processes_use_one_store(root: Path) -> None:
    command = [sys.executable, "-c", PUT_MANY, str(root)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    errors = [process.communicate()[1] for process in processes]
    assert errors == [""] * 6
    store = Store(root)
    assert (store.verify().checked, store.verify().bad) == (40, ())
    assert not names_below(root / "v1" / "tmp") - {path.name for path in (root / "v1" / "tmp").glob("*.lock")}


FORKED = """
import os, sys
from pathlib import Path
from boxsnake.store import Store
store = Store(Path(sys.argv[1]))
with store.scratch("parent") as folder:
    child = os.fork()
    if not child:
        with store.scratch("child") as own:
            assert own.parent != folder.parent
        sys.exit(0)  # what runs at the end of a process runs in the child too
    assert os.waitpid(child, 0)[1] == 0
    assert folder.is_dir()
store.put_bytes(b"some bytes")
"""


def test_a_forked_child_leaves_its_parents_work_alone(root: Path) -> None:
    assert run(FORKED, root).stderr == ""
    assert Store(root).intact(DIGEST)
    assert not names_below(root / "v1" / "tmp")


# Housekeeping


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_clean_removes_what_is_old(root: Path) -> None:
    store = Store(root)
    old, new = store.put_bytes(b"old"), store.put_bytes(b"new")
    store.select("kind", {}, {"digest": old.digest})
    (selector,) = (root / "v1" / "selectors").rglob("*.json")
    for path in (store.path(old.digest), selector):
        age(path, 40)
    del store
    cleaned = Store(root).clean(timedelta(days=30))
    assert (cleaned.blobs, cleaned.selectors, cleaned.kept) == (1, 1, 1)
    assert Store(root).has(new.digest)
    cleaned = Store(root).clean()
    assert (cleaned.blobs, cleaned.kept) == (1, 0)
    assert Store(root).size().total_bytes == 0


def test_clean_leaves_what_running_processes_have_asked_for(root: Path) -> None:
    first = Store(root)
    digest = first.put_bytes(DATA).digest
    age(first.path(digest), 400)
    unused = first.put_bytes(b"unused")
    age(first.path(unused.digest), 400)
    del first
    user = Store(root)
    assert user.has(digest)
    cleaned = Store(root).clean()
    assert (cleaned.blobs, cleaned.kept) == (1, 1)
    assert user.path(digest).read_bytes() == DATA


def test_verify_puts_bad_blobs_and_strays_aside(store: Store, root: Path) -> None:
    store.put_bytes(b"good")
    spoil(store.path(store.put_bytes(DATA).digest), b"bad")
    stray = root / "v1" / "blobs" / "sha256" / "xx"
    stray.write_bytes(b"stray")
    verified = store.verify()
    assert verified.checked == 3
    assert verified.bad == ("blobs/sha256/xx", DIGEST)
    assert store.size().quarantine_bytes == len(b"bad") + len(b"stray")
    assert (store.verify().checked, store.verify().bad) == (1, ())


# Other programs' caches


def fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_bytes(DATA)
    (folder / "deep").chmod(0o500)


def test_other_programs_caches_are_counted_and_cleaned(root: Path) -> None:
    store = Store(root)
    folder = store.cache_folder("uv")
    assert folder == store.cache_folder("uv")
    fill(folder)
    size = store.size()
    assert (size.caches, size.cache_bytes) == (1, len(DATA))
    assert size.total_bytes == size.cache_bytes + size.temporary_bytes
    assert store.verify().checked == 0
    assert store.clean(timedelta(days=1)).caches == 0
    cleaned = store.clean()
    assert (cleaned.caches, cleaned.freed_bytes) == (1, len(DATA))
    assert not folder.exists()
    assert store.cache_folder("uv").is_dir()
    with pytest.raises(ValueError, match="not a name"):
        store.cache_folder("../uv")


def test_a_cache_that_a_running_process_uses_stays(root: Path) -> None:
    user, cleaner = Store(root), Store(root)
    fill(user.cache_folder("uv"))
    assert cleaner.clean().caches == 0
    del user
    assert cleaner.clean().caches == 1


def test_work_without_a_lease_is_removed(root: Path) -> None:
    # A program that outlives the process that started it makes its folder again after that was removed.
    Store(root)
    orphan = root / "v1" / "tmp" / "123-abc"
    orphan.mkdir()
    fill(orphan)
    with Store(root).scratch("x") as folder:
        assert folder.is_dir()
        assert not orphan.exists()


# Folders that are odd


def test_a_newer_layout_is_refused(root: Path) -> None:
    (root / "v2").mkdir(parents=True)
    with pytest.raises(ResourceError, match="newer boxsnake"):
        Store(root)


@pytest.mark.parametrize("home", [None, "/nonexistent", ""])
def test_without_a_home_a_private_temporary_folder_is_taken(
    home: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.path.expanduser", lambda path: path if home is None else path.replace("~", home or "~"))
    for name in ("BOXSNAKE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    root = Store.default_root()
    assert root.parent == tmp_path
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o777)
    with pytest.raises(ResourceError, match="not this user's alone"):
        Store.default_root()


def test_the_environment_names_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BOXSNAKE_CACHE_DIR", raising=False)
    assert Store.default_root() == tmp_path / "boxsnake"
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(tmp_path / "mine"))
    assert Store.default_root() == tmp_path / "mine"


def test_a_shared_folder_hands_on_its_mode(tmp_path: Path) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared"
    before = os.umask(0o077)
    try:
        shared.mkdir()
        shared.chmod(0o2775)
        for root in (private, shared):
            Store(root).put_bytes(DATA)
    finally:
        os.umask(before)
    assert private.stat().st_mode & 0o777 == 0o700
    folders = [path for path in (shared / "v1" / "blobs").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o7777 for path in folders} == {0o2775}
    assert Store(shared).path(DIGEST).stat().st_mode & 0o777 == 0o444


@needs_root
def test_root_leaves_no_trap_in_another_users_store(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    os.chown(root, 12345, 12345)
    Store(root).put_bytes(DATA)
    owners = {path.stat().st_uid for path in (root / "v1").rglob("*") if path.is_dir() and path.parent.name != "tmp"}
    assert owners == {12345}


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, with the options that the test gives."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@needs_root
@pytest.mark.parametrize("small_disk", ["size=256k"], indirect=True)
def test_a_full_disk_is_named_and_leaves_nothing(small_disk: Path) -> None:
    store = Store(small_disk / "cache")
    with pytest.raises(ResourceError, match="no space left"):
        store.put_bytes(bytes(400_000))
    (small_disk.parent / "large").write_bytes(bytes(3 << 20))
    with pytest.raises(ResourceError, match="no space left"):
        store.put_file(small_disk.parent / "large")
    assert store.size().blobs == 0
    assert store.intact(store.put_bytes(bytes(100_000)).digest)
    with pytest.raises(ResourceError, match="no space left"):
        publish_bytes(bytes(400_000), small_disk / "out")
    assert sorted(path.name for path in small_disk.iterdir()) == ["cache"]


@needs_root
@pytest.mark.parametrize("small_disk", ["size=4m,nr_inodes=24"], indirect=True)
def test_a_disk_without_inodes_is_told_from_a_full_one(small_disk: Path) -> None:
    store = Store(small_disk / "cache")
    with contextlib.suppress(OSError):
        for number in range(30):
            (small_disk / str(number)).touch()
    with pytest.raises(ResourceError, match="no free inodes"):
        store.put_bytes(DATA)


@needs_root
@pytest.mark.parametrize("small_disk", ["size=1m"], indirect=True)
def test_a_store_that_is_read_only_can_still_be_read(small_disk: Path) -> None:
    root = small_disk / "cache"
    first = Store(root)
    first.put_bytes(DATA)
    first.select("kind", {}, {"n": 1})
    del first
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = Store(root)
    assert store.has(DIGEST)
    assert store.path(DIGEST).read_bytes() == DATA
    assert store.selected("kind", {}) == {"n": 1}
    assert store.digest_of_file(Path(__file__)).startswith("sha256:")
    assert store.verify().bad == ()
    for change in (lambda: store.put_bytes(b"new"), lambda: store.select("kind", {}, {}), store.clean):
        with pytest.raises(ResourceError, match="read-only"):
            change()


# Publishing


def test_a_file_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    publish_bytes(b"old", tmp_path / "final")
    publish_file(tmp_path / "new", tmp_path / "final")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"final": b"new"}
    with pytest.raises(ResourceError, match="No such file"):
        publish_file(tmp_path / "absent", tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"new"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_replaces_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr("boxsnake.disk._RENAME_EXCHANGE", 1 << 30)
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / name).write_text(name)
    publish_tree(tmp_path / "one", tmp_path / "final")
    assert names_below(tmp_path / "final") == {"inner/one"}
    publish_tree(tmp_path / "two", tmp_path / "final")
    assert names_below(tmp_path / "final") == {"inner/two"}
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_folders_that_are_published_at_once_are_all_well(tmp_path: Path) -> None:
    final, start = tmp_path / "final", threading.Barrier(8)

    def publish(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in "ab":
            (folder / name).write_text(str(number))
        start.wait()
        publish_tree(folder, final, is_durable=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    assert (final / "a").read_text() == (final / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_failed_fsync_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "final").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    calls = 0

    def fail(_: int) -> None:
        nonlocal calls
        calls += 1
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceError, match="the disk reports an error"):
        publish_file(tmp_path / "new", tmp_path / "final")
    assert calls == 1
    assert (tmp_path / "final").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EDQUOT, "quota"),
        (errno.EMFILE, "files at once"),
        (errno.EFBIG, "larger than this process may write"),
        (errno.EACCES, "permission denied"),
        (errno.EXDEV, "another file system"),
        (errno.ENOTDIR, "Not a directory"),
    ],
)
def test_what_the_system_refuses_is_put_in_words(tmp_path: Path, code: int, text: str) -> None:
    with pytest.raises(ResourceError, match=text) as caught, disk_faults(tmp_path):
        raise OSError(code, os.strerror(code))
    assert caught.value.thing == str(tmp_path)
    assert caught.value.next_step
    assert isinstance(resource_error(OSError("?"), tmp_path), BoxsnakeError)


def test_remove_tree_takes_everything_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "gone")
    remove_tree(tmp_path / "gone")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "link")
    assert names_below(tmp_path) == {"kept/file"}
