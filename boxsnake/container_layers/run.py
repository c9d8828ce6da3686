"""One run in a container without network, and the layer of what it changed: made once, then found in the store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsnake import oci
from boxsnake.archive import GZIP_FORMAT, GzipSink, Member, file_member, write_tar
from boxsnake.container_layers.changed import changed_members
from boxsnake.engine import INSTALLING, Container, Engine, Finished, connect, sleeper
from boxsnake.errors import BootError, EngineError, PackError
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import History, Runtime
from boxsnake.plain_text import escaped
from boxsnake.progress import track
from boxsnake.store import Store
from boxsnake.value import dataclass

_FORMAT = 1
"""To be raised whenever the same run shall give other bytes."""

_SECONDS = 1800.0
_HOSTNAME = "localhost"  # what a run may write down is the same each time
_LAST_LINES = 12
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Below:
    """What the run sees: the layers, lowest first, and for which (os, architecture) they are."""

    layers: tuple[LayerBlob, ...]
    platform: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run, as root, and what it is given.

    `title` says it in messages ("the post-install hook (setup.sh)"), `layer` is the layer's name. `files` brings what
    is put into `folder`, a path below /tmp, by its names there; `content` is the digest of it all. `python` is the path
    of an interpreter where there is one, as there may be no other program that waits.
    """

    title: str
    layer: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    files: Callable[[], Mapping[str, Path | bytes]]
    folder: str
    content: str
    python: str = ""
    step: str = "Mend it, then build again."
    """What its reader can do where it fails."""


def made_layer(store: Store, below: Below, job: Job, *, epoch: int, twice: bool = False) -> LayerBlob | None:
    """The layer of what the job changes; None where it changes nothing.

    A layer is found by all that decides it: the layers below, what is run and what it is given. `twice` runs the job
    in two containers, and compares. Errors: EngineError without an engine for it, PackError where the job fails,
    leaves what no layer can hold, or its two runs differ.
    """
    if (known := known_layer(store, below, job, epoch=epoch, twice=twice)) is not None:
        return known[0] if known else None
    with track(job.title), store.scratch("container") as folder:
        engine = _engine(below, job.title)
        with _in_engine(engine, store, below, epoch, folder) as image:
            runs = [_run(engine, image, job, folder / str(number), epoch) for number in range(2 if twice else 1)]
        _compare(job, runs)
        made: dict[str, Any] = {"digest": None, "size": 0, "diff_id": "", "twice": twice}
        if runs[0]:
            with store.writer(origin=f"layer {job.layer}") as writer, GzipSink(writer) as sink:
                write_tar(runs[0], sink, epoch=epoch)
            made |= {"digest": writer.blob.digest, "size": writer.blob.size, "diff_id": sink.diff_id}
    store.select("container-layer", _key(below, job, epoch), made)
    return _layer(job, made)


def known_layer(
    store: Store, below: Below, job: Job, *, epoch: int, twice: bool = False
) -> tuple[LayerBlob, ...] | None:
    """What the job is known to make: its layer, or nothing; None where it would have to be run."""
    known = store.selected("container-layer", _key(below, job, epoch))
    if known is None or (twice and not known["twice"]) or not _is_whole(store, known["digest"]):
        return None
    layer = _layer(job, known)
    return (layer,) if layer else ()


def _key(below: Below, job: Job, epoch: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "gzip": GZIP_FORMAT,
        "epoch": epoch,
        "platform": list(below.platform),
        "below": [layer.diff_id for layer in below.layers],
        "command": list(job.command),
        "environment": [list(pair) for pair in job.environment],
        "folder": job.folder,
        "content": job.content,
    }


def _is_whole(store: Store, digest: str | None) -> bool:
    return digest is None or store.intact(digest) is not None


def _layer(job: Job, made: Mapping[str, Any]) -> LayerBlob | None:
    if made["digest"] is None:
        return None
    return LayerBlob(
        name=job.layer,
        digest=made["digest"],
        size=made["size"],
        diff_id=made["diff_id"],
        media_type=oci.LAYER_GZIP,
        bound=True,
    )


@contextlib.contextmanager
def container_of(store: Store, below: Below, title: str, *, network: bool = False) -> Iterator[Container]:
    """A started container of the layers, in which root may install; `title` says in messages what it is for.

    Errors: EngineError without an engine for it, PackError where the layers hold nothing that waits.
    """
    engine = _engine(below, title)
    with (
        store.scratch("container") as folder,
        _in_engine(engine, store, below, 0, folder) as image,
        _started(engine, image, sleeper(), title, network=network) as container,
    ):
        yield container


def _engine(below: Below, title: str) -> Engine:
    try:
        engine = connect()
    except EngineError as error:
        cause = f"is run in a container of the image, and there is no engine for it: {error.cause}"
        raise EngineError(title, cause, error.next_step, **error.data) from None
    wanted = below.platform[1]
    if engine.architecture != wanted:
        cause = f"is to be run in an image for {wanted}, and the engine's containers are {engine.architecture}"
        step = f"Build this image on a machine for {wanted}, or name such an engine by DOCKER_HOST."
        raise EngineError(title, cause, step)
    return engine


# The layers in the engine


@contextlib.contextmanager
def _in_engine(engine: Engine, store: Store, below: Below, epoch: int, folder: Path) -> Iterator[str]:
    """Have an image of the layers in the engine for the block: its id. It is sent only those that it lacks."""
    history = [History(created_by=f"boxsnake: {layer.name}") for layer in below.layers]
    config = oci.config(below.layers, Runtime(), platform=below.platform, epoch=epoch, history=history)
    there = engine.image(config.digest)
    identity = there.id if there else _sent(engine, store, below, config, folder)
    try:
        yield identity
    finally:
        if there is None:
            engine.remove_image(identity)


def _sent(engine: Engine, store: Store, below: Below, config: oci.Document, folder: Path) -> str:
    diff_ids = tuple(layer.diff_id for layer in below.layers)
    for known in dict.fromkeys((engine.leading_layers(diff_ids), 0)):
        with contextlib.suppress(BootError) if known else contextlib.nullcontext():
            names = engine.load(_archive(store, below, config, known, folder / f"image-{known}.tar"))
            found = next(filter(None, map(engine.image, (config.digest, *names))), None)
            if found is not None and found.layers == diff_ids:
                return found.id
    raise EngineError("the image's layers", "the engine took them, but has no image of them", "See the engine's log.")


def _archive(store: Store, below: Below, config: oci.Document, known: int, path: Path) -> Path:
    empty = {layer.digest for layer in below.layers[:known]} - {layer.digest for layer in below.layers[known:]}
    blobs = {layer.digest: b"" if layer.digest in empty else store.path(layer.digest) for layer in below.layers}
    members = [
        file_member("manifest.json", oci.docker_manifest(config, below.layers, ())),
        file_member(oci.blob_path(config.digest), config.content),
        *(file_member(oci.blob_path(digest), source) for digest, source in blobs.items()),
    ]
    with path.open("xb", buffering=0) as stream:
        write_tar(members, stream, epoch=0)
    return path


# The run


def _run(engine: Engine, image: str, job: Job, folder: Path, epoch: int) -> list[Member]:
    folder.mkdir()
    given = folder / "given"
    given.mkdir()
    for name, content in job.files().items():
        if isinstance(content, bytes):
            (given / name).write_bytes(content)
        else:
            (given / name).hardlink_to(content)
    environment = dict(job.environment) | {"SOURCE_DATE_EPOCH": str(epoch)}
    sleep = sleeper((job.python,) if job.python else ())
    with _started(engine, image, sleep, job.title) as container:
        # Mount points and the like, which the container's own start has made.
        before = frozenset(container.changes())
        container.copy(given, job.folder)
        ended = container.execute(job.command, seconds=_SECONDS, user="0:0", environment=environment)
        if ended.exit_code != 0 or ended.ended_by:
            raise _failed(job, ended)
        changes = [change for change in container.changes() if change not in before]
        export = folder / "export.tar"
        container.export(export)
    contents = folder / "contents"
    contents.mkdir()
    members = changed_members(export, changes, contents)
    export.unlink()
    return members


@contextlib.contextmanager
def _started(
    engine: Engine, image: str, sleep: Sequence[str], title: str, *, network: bool = False
) -> Iterator[Container]:
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(
                engine.container(
                    image, sleep=sleep, user="0:0", capabilities=INSTALLING, hostname=_HOSTNAME, network=network
                )
            )
        except BootError as error:
            cause = f"cannot be run in the image: {error.cause}"
            raise PackError(title, cause, "Take a base with a shell and its usual programs for it.") from None
        yield container


def last_lines(ended: Finished) -> list[str]:
    """What a command said last, as it may be shown."""
    text = (ended.output + ended.errors).decode("utf-8", "replace")
    return [escaped(line) for line in text.splitlines() if line.strip()][-_LAST_LINES:]


def _failed(job: Job, ended: Finished) -> PackError:
    how = f"failed with exit status {ended.exit_code}"
    if ended.ended_by:
        how = "took too long" if ended.ended_by == "timeout" else "took more memory than it may have"
    lines = last_lines(ended)
    said = "; it said nothing" if not lines else "; it said last:\n" + "\n".join(f"  {line}" for line in lines)
    return PackError(job.title, f"{how}{said}", job.step, status=ended.exit_code, output=lines)


def _compare(job: Job, runs: Sequence[Sequence[Member]]) -> None:
    first, second = ({member.name: _facts(member) for member in run} for run in (runs[0], runs[-1]))
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        cause = f"gives other files each time that it is run: {', '.join(differing[:_SHOWN])}{more}"
        step = "Keep times, random numbers and the like out of them (SOURCE_DATE_EPOCH is set), or do not write them."
        raise PackError(job.title, cause, step, paths=differing)


def _facts(member: Member) -> tuple[Any, ...]:
    content: str | None = None
    if member.source is not None:
        data = member.source if isinstance(member.source, bytes) else member.source.read_bytes()
        content = hashlib.sha256(data).hexdigest()
    return (member.mode, member.uid, member.gid, member.link, member.attributes, content)
