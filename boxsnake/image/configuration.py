"""What an image says of itself: names, configuration, manifest, annotations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from boxsnake import oci
from boxsnake.errors import PackError
from boxsnake.image.own import LABEL, Own, base_annotations, environment_on, labels_on, own_names
from boxsnake.image.startup import commands_of, healthcheck_of, started
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import Document, History, Runtime
from boxsnake.pattern import pattern
from boxsnake.plain_text import check_plain, escaped
from boxsnake.plan import Plan
from boxsnake.reference import parse

if TYPE_CHECKING:
    from boxsnake.bases import Base
    from boxsnake.packagers.image import ImageOptions

_LABEL = "org.opencontainers.image."
_VARIABLE = pattern(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def platform_of(plan: Plan) -> tuple[str, str]:
    """The (os, architecture) of its image. Errors: PackError where there is none."""
    platform = plan.target.oci_platform
    if platform is None:
        cause = f"there are no container images for {plan.target.platform}"
        step = "Choose a Linux target for it."
        raise PackError(f"image for {plan.target.name}", cause, step, platform=plan.target.platform)
    return platform


def tags_of(plan: Plan) -> tuple[str, ...]:
    """The references. A version's "+local" and "1!" are not in a tag's alphabet."""
    if plan.options.tags:
        return tuple(plan.options.tags)
    return (f"{plan.application.name}:{re.sub('[^A-Za-z0-9_.-]', '-', plan.application.version)}",)


def check_tags(plan: Plan) -> None:
    """Errors: PackError for a tag that no engine takes."""
    for tag in tags_of(plan):
        step = 'Set `tags` in [boxes.image], such as "registry.example/team/name:1.0".'
        try:
            reference = parse(tag)
        except ValueError as error:
            raise PackError(f"tag {tag!r}", f"is no reference with a tag: {error}", step, tag=tag) from None
        if not reference.tag or reference.digest:
            raise PackError(f"tag {tag!r}", "is no reference with a tag that engines take", step, tag=tag)


def check_texts(plan: Plan) -> None:
    """Variables and labels are data, and go where one NUL or line feed could end them.

    Errors: PackError.
    """
    variables = (*plan.application.environment, *plan.options.environment.items())
    for name, _value in variables:
        if not _VARIABLE.fullmatch(name):
            step = "Correct `environment` in [app] or [boxes.image]."
            raise PackError(f"variable {name!r}", "is no name of an environment variable", step, name=name)
    labels = (*plan.options.labels.items(), *plan.labels, *_about(plan))
    if "" in dict(labels):
        raise PackError("label ''", "has no name", "Correct `labels` in [boxes.image].", name="")
    commands = (*started(plan), *commands_of(plan).values())
    texts = [
        *((f"variable {name}", (value,)) for name, value in variables),
        *((f"label {escaped(name)}", (name, value)) for name, value in labels),
        ("workdir", (plan.options.workdir,)),
        *((f"command {escaped(shlex.join(words))}", words) for words in commands),
    ]
    for title, said in texts:
        for text in said:
            try:
                check_plain(text, allowed="\n\t")
            except ValueError as error:
                raise PackError(title, str(error), "Correct it in the manifest.", name=title) from None


def runtime(plan: Plan, base: Base, layers: Sequence[LayerBlob]) -> Runtime:
    """How the image is run, whoever puts it together."""
    options: ImageOptions = plan.options
    entrypoint, command = started(plan)
    labels = labels_on(base, _own_labels(plan))
    environment = environment_on(base, f"{options.prefix}/bin", _own_environment(plan, layers))
    return Runtime(
        entrypoint=entrypoint,
        command=command,
        environment=tuple(environment.items()),
        user=options.user,
        folder=options.workdir,
        ports=plan.application.ports,
        labels=tuple(labels.items()),
        healthcheck=healthcheck_of(plan),
    )


def _own_environment(plan: Plan, layers: Sequence[LayerBlob]) -> dict[str, str]:
    """The variables that it sets whatever the base is."""
    environment: dict[str, str] = {}
    for layer in layers:
        environment |= dict(layer.environment)
    options: ImageOptions = plan.options
    return environment | dict(plan.application.environment) | options.environment


def _own_labels(plan: Plan) -> dict[str, str]:
    options: ImageOptions = plan.options
    return _own_annotations(plan) | dict(plan.labels) | options.labels


def _about(plan: Plan) -> Iterator[tuple[str, str]]:
    """The OCI annotations that the application's own description gives."""
    application = plan.application
    about = {
        "title": application.name,
        "version": application.version,
        "description": application.summary,
        "licenses": application.license,
        "url": application.homepage,
        "source": application.source_page,
        "documentation": application.documentation,
        "revision": plan.revision,
        "authors": application.maintainer,
    }
    yield from ((f"{_LABEL}{key}", value) for key, value in about.items() if value)


def _own_annotations(plan: Plan) -> dict[str, str]:
    return dict(_about(plan)) | {f"{_LABEL}created": oci.created(plan.epoch)}


def _own(plan: Plan, layers: Sequence[LayerBlob]) -> Own:
    """What the image has beyond its base."""
    return Own(
        layers=len(layers),
        environment=tuple(_own_environment(plan, layers)),
        labels=own_names((*_own_labels(plan), LABEL)),
        path=f"{plan.options.prefix}/bin",
        glibc=plan.target.glibc or "",
        bound=tuple(layer.name for layer in layers if layer.bound),
    )


def documents(plan: Plan, base: Base, layers: Sequence[LayerBlob]) -> tuple[Document, Document]:
    """The image's configuration and manifest: `layers` on those of the base."""
    history = [*base.history, *(History(created_by=f"boxsnake: {layer.name}") for layer in layers)]
    every = (*base.layers, *layers)
    run = runtime(plan, base, layers)
    labels = dict(run.labels) | {LABEL: _own(plan, layers).label}
    config = oci.config(
        every,
        replace(run, labels=tuple(labels.items())),
        platform=platform_of(plan),
        epoch=plan.epoch,
        history=history,
        variant=base.variant,
    )
    return config, oci.manifest(config, every, _own_annotations(plan) | base_annotations(base))
