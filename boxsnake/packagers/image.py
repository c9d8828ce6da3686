"""Container image: an OCI image layout and a docker archive in one tar, written without a container engine.

The environment lies in layers by how often they change (`boxsnake.layers`), the application in the last one, all under
one prefix: images of several applications share what they have in common byte for byte.
"""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from boxsnake import oci
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.errors import BootError, PackError
from boxsnake.layers import DEFAULT_BUDGET, LayerBlob, group
from boxsnake.manifest import Section
from boxsnake.oci import Document, History, Runtime
from boxsnake.plain_text import check_plain
from boxsnake.plan import expected
from boxsnake.store import Store
from boxsnake.system import SystemPart
from boxsnake.system_layer import system_layer

if TYPE_CHECKING:
    from boxsnake.bases import Base
    from boxsnake.engine import Engine
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LABEL = "org.opencontainers.image."
# The grammar of references (distribution's "reference" package): [registry[:port]/]path[/path]:tag
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}", re.ASCII
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class ImageOptions(Section):
    """`[boxes.image]`."""

    base: Annotated[str, Field(min_length=1)] | None = None
    """An image's reference, a file or folder that holds one (./base.tar), "host:NAME" or "scratch". Left out: Debian's
    slim image, "debian:12-slim" or for a target with a newer glibc "debian:13-slim"."""
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt/env"
    """Where the environment lies in the image. The same in all images: that is how they share layers."""
    entrypoint: tuple[str, ...] | None = None
    """Left out: the application's program."""
    command: tuple[str, ...] | None = None
    """The entrypoint's arguments, which the user of the image may replace. Left out: the application's own."""
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$")] = "10001:10001"
    """Who runs it, and has what is `system.user`'s. Numbers, so that a cluster can see that it is not root."""
    workdir: Annotated[str, Field(pattern=r"^/")] = "/"
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables beside those of `app.environment`."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels beside the OCI annotations, which are set from `[app]`."""
    tags: tuple[str, ...] = ()
    """The names under which an engine takes it ("registry.example/team/name:1.0"). Left out: name:version."""
    budget: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET
    """How many layers the environment and the application may take."""


class Image:
    """The packager of container images."""

    name = "image"
    summary = "a container image for Docker, Podman and Kubernetes, layered by rate of change"
    options = ImageOptions
    moments: frozenset[str] = frozenset()
    system: frozenset[SystemPart] = frozenset({"user", "directories", "files"})
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        _platform(plan)
        if plan.target.interpreter == "host":
            step = f'Give [targets.{plan.target.name}] `interpreter = "conda"`, or `boxes = ["pex", "wheelhouse"]`.'
            cause = "an image brings its own interpreter, and the target takes that of the host"
            raise PackError(f"image for {plan.target.name}", cause, step, target=plan.target.name)
        for tag in _tags(plan):
            if not _TAG.fullmatch(tag):
                step = 'Set `tags` in [boxes.image], such as "registry.example/team/name:1.0".'
                raise PackError(f"tag {tag!r}", "is no reference with a tag that engines take", step, tag=tag)
        _check_texts(plan)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{plan.application.name}-{plan.application.version}.image.tar"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:
        """See `boxsnake.packagers.Packager`."""
        return {"base": _base(plan, materials).digest}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        options: ImageOptions = plan.options
        groups = group(plan.lock, application=plan.application.wheel is not None, budget=options.budget)
        with ThreadPoolExecutor(1) as beside:
            # Hashing it takes a while, and so does staging, which waits for other processes.
            waited_for = beside.submit(_verified_base, plan, materials)
            layers = materials.layers(options.prefix, groups)
            base = waited_for.result()
        system, notes = _system_layer(plan, materials.store)
        # The application stays on top: of all layers it changes most often.
        own = len(layers) - (plan.application.wheel is not None)
        layers = [*layers[:own], *system, *layers[own:]]
        config, manifest = _documents(plan, base, layers)
        members = _members(plan, materials.store, config, manifest, (*base.layers, *layers))
        with disk_faults(out), out.open("xb", buffering=0) as stream:
            write_tar(members, stream, epoch=plan.epoch)
        return [*sorted({note for layer in layers for note in layer.notes}), *notes]

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        options: ImageOptions = plan.options
        entrypoint, command = _started(plan)
        return BootRecipe(
            host=ARTIFACT_HOST,
            copies=(),
            install=(),
            python=(f"{options.prefix}/bin/python",),
            scripts=f"{options.prefix}/bin",
            command=(*entrypoint, *command) if plan.application.command or options.entrypoint else (),
            remove=(),
            writes=(),
            remains=(),
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
            user=options.user,
        )


PACKAGER = Image()


def load(engine: Engine, artifact: Path, plan: Plan) -> list[str]:
    """Put the artifact into a container engine: the names under which it is there now.

    The engine is sent only the layers that it lacks: those that it has, in the same order from the lowest on, are
    empty files in the stream. Where an engine does not take that, it gets the whole. Errors: EngineError, BootError.
    """
    with disk_faults(artifact), tarfile.open(artifact, mode="r:") as archive:
        document = _document(archive, artifact)
        config = _read(archive, document["Config"])
    identity = f"sha256:{_digest(config)}"
    diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"])
    there = engine.leading_layers(diff_ids)
    if there and not _loaded_thin(engine, artifact, document["Layers"][:there], document["Layers"][there:], identity):
        there = 0
    if not there:
        engine.load(artifact)
    return list(_tags(plan))


def _loaded_thin(engine: Engine, artifact: Path, known: Sequence[str], lacking: Sequence[str], identity: str) -> bool:
    empty = set(known) - set(lacking)
    with contextlib.suppress(BootError):
        engine.load(_thinned(artifact, empty))
        image = engine.image(identity)
        return image is not None and len(image.layers) == len(known) + len(lacking)
    return False


def _thinned(artifact: Path, empty: set[str]) -> Iterator[bytes]:
    """The archive as a stream, with nothing in the members of these names."""
    with artifact.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            size = 0 if member.name in empty else member.size
            head = tarfile.TarInfo(member.name)
            head.type, head.mode, head.size = member.type, member.mode, size
            yield head.tobuf()
            stream.seek(member.offset_data)
            left = size
            while left and (chunk := stream.read(min(left, 1 << 20))):
                left -= len(chunk)
                yield chunk
            yield bytes(-size % tarfile.BLOCKSIZE)
            stream.seek(member.offset_data)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _document(archive: tarfile.TarFile, artifact: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(_read(archive, "manifest.json"))[0]
    except (KeyError, ValueError, IndexError, tarfile.TarError) as error:
        raise BootError(str(artifact), f"is no docker archive: {error!r}", "Build the artifact again.") from None
    return document


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


# What the image is


def _system_layer(plan: Plan, store: Store) -> tuple[Sequence[LayerBlob], Sequence[str]]:
    """The layer of `[system]`, where it wants one; a note where its owner cannot be known."""
    uid, _, gid = plan.options.user.partition(":")
    if not plan.system.directories and not plan.system.files:
        return (), ()
    if not f"{uid}{gid or 0}".isdecimal():
        return (), [f"no folders and files of [system] are made for a user by name ({uid}): give `user` numbers"]
    layer = system_layer(store, plan.system, (int(uid), int(gid or 0)), epoch=plan.epoch)
    return ([layer] if layer else []), ()


def _platform(plan: Plan) -> tuple[str, str]:
    platform = plan.target.oci_platform
    if platform is None:
        cause = f"there are no container images for {plan.target.platform}"
        step = "Choose a Linux target for it."
        raise PackError(f"image for {plan.target.name}", cause, step, platform=plan.target.platform)
    return platform


def _tags(plan: Plan) -> tuple[str, ...]:
    """The references. A version's "+local" and "1!" are not in a tag's alphabet."""
    if plan.options.tags:
        return tuple(plan.options.tags)
    return (f"{plan.application.name}:{re.sub('[^A-Za-z0-9_.-]', '-', plan.application.version)}",)


def _check_texts(plan: Plan) -> None:
    """Variables and labels are data, and go where one NUL or line feed could end them."""
    variables = (*plan.application.environment, *plan.options.environment.items())
    for name, _value in variables:
        if not _VARIABLE.fullmatch(name):
            step = "Correct `environment` in [app] or [boxes.image]."
            raise PackError(f"variable {name!r}", "is no name of an environment variable", step, name=name)
    texts = [*variables, *plan.options.labels.items(), *plan.labels, ("", plan.options.workdir), *_about(plan)]
    texts += [("", word) for words in _started(plan) for word in words]
    for name, value in texts:
        for text in (name, value):
            try:
                check_plain(text, allowed="\n\t")
            except ValueError as error:
                step = "Correct it in the manifest."
                raise PackError(f"text {text[:60]!r}", str(error), step, name=name) from None


def _started(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and command: the program by its absolute path, and arguments that `docker run` may replace.

    An application without a command is an environment: what is run by default is its interpreter.
    """
    options: ImageOptions = plan.options
    words = plan.application.command
    entrypoint = words[:1] if options.entrypoint is None else options.entrypoint
    arguments = words[1:] if options.entrypoint is None else ()
    command = arguments if options.command is None else options.command
    if entrypoint:
        return _absolute(entrypoint, options.prefix), command
    return (), _absolute(command or ("python",), options.prefix)


def _absolute(words: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    if not words or words[0].startswith("/"):
        return words
    return (f"{prefix}/bin/{words[0]}", *words[1:])


def _base(plan: Plan, materials: Materials) -> Base:
    return materials.base(plan.options.base or f"debian:{plan.target.debian}-slim", _platform(plan))


def _verified_base(plan: Plan, materials: Materials) -> Base:
    base = _base(plan, materials)
    if all(materials.store.intact(layer.digest) for layer in base.layers):
        return base
    # What is damaged has been put aside now, and is read again from where it came.
    return _base(plan, materials)


def _runtime(plan: Plan, base: Base, layers: Sequence[LayerBlob]) -> Runtime:
    options: ImageOptions = plan.options
    entrypoint, command = _started(plan)
    environment = dict(base.runtime.environment)
    environment["PATH"] = f"{options.prefix}/bin:{environment.get('PATH') or _PATH}"
    for layer in layers:
        environment |= dict(layer.environment)
    environment |= dict(plan.application.environment) | options.environment
    labels = dict(base.runtime.labels) | dict(_annotations(plan, base)) | dict(plan.labels) | options.labels
    return Runtime(
        entrypoint=entrypoint,
        command=command,
        environment=tuple(environment.items()),
        user=options.user,
        folder=options.workdir,
        ports=plan.application.ports,
        labels=tuple(labels.items()),
    )


def _about(plan: Plan) -> Iterator[tuple[str, str]]:
    """The OCI annotations that the application's own description gives."""
    application = plan.application
    about = {
        "title": application.name,
        "version": application.version,
        "description": application.summary,
        "licenses": application.license,
        "url": application.homepage,
        "authors": application.maintainer,
    }
    yield from ((f"{_LABEL}{key}", value) for key, value in about.items() if value)


def _annotations(plan: Plan, base: Base) -> Mapping[str, str]:
    annotations = dict(_about(plan)) | {f"{_LABEL}created": oci.created(plan.epoch)}
    if base.is_reference:
        annotations[f"{_LABEL}base.name"] = base.name
    return annotations


def _documents(plan: Plan, base: Base, layers: Sequence[LayerBlob]) -> tuple[Document, Document]:
    history = [*base.history, *(History(created_by=f"boxsnake: {layer.name}") for layer in layers)]
    every = (*base.layers, *layers)
    config = oci.config(
        every,
        _runtime(plan, base, layers),
        platform=_platform(plan),
        epoch=plan.epoch,
        history=history,
        variant=base.variant,
    )
    return config, oci.manifest(config, every, _annotations(plan, base))


def _members(
    plan: Plan, store: Store, config: Document, manifest: Document, layers: Sequence[LayerBlob]
) -> list[Member]:
    tags, platform = _tags(plan), _platform(plan)
    blobs: dict[str, Path | bytes] = {document.digest: document.content for document in (config, manifest)}
    blobs |= {layer.digest: store.path(layer.digest) for layer in layers}
    return [
        file_member("oci-layout", oci.LAYOUT_FILE),
        file_member("index.json", oci.index(manifest, platform=platform, tags=tags)),
        file_member("manifest.json", oci.docker_manifest(config, layers, tags)),
        *(file_member(oci.blob_path(digest), source) for digest, source in blobs.items()),
    ]
