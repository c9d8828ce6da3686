"""Container image: an OCI image layout and a docker archive, a folder or a tar, written without a container engine.

The environment lies in layers by how often they change (`boxsnake.layers.plan`), the application in the last one, all
under one prefix: images of several applications share what they have in common byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe
from boxsnake.container_layers.hooks import MOMENTS
from boxsnake.errors import PackError
from boxsnake.hook_script import interpreter_of_hook
from boxsnake.image.configuration import check_tags, check_texts, documents, platform_of, tags_of
from boxsnake.image.contents import base_of, contents
from boxsnake.image.layout import LaidOut
from boxsnake.image.startup import check_startup, commands_of, program_of, started
from boxsnake.image.write import ARCHIVE, write_layout
from boxsnake.layers.plan import DEFAULT_BUDGET, TrimRule
from boxsnake.manifest import Section
from boxsnake.manifest.text import Limits
from boxsnake.needs import Step
from boxsnake.plan import expected
from boxsnake.system import SystemPart
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Section):
    """`[boxes.image]`."""

    base: Annotated[str, Limits(min_length=1)] | None = None
    """An image's reference, a file or folder that holds one (./base.tar), "host:NAME", "scratch", or "minimal", which
    boxsnake makes of Debian's packages. Left out: Debian's slim image, "debian:12-slim" or for a target with a newer
    glibc "debian:13-slim"."""
    prefix: Annotated[str, Limits(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt/env"
    """Where the environment lies in the image. The same in all images: that is how they share layers."""
    entrypoint: tuple[str, ...] | None = None
    """Left out: the application's program."""
    command: tuple[str, ...] | None = None
    """The entrypoint's arguments, which the user of the image may replace. Left out: the application's own."""
    user: Annotated[str, Limits(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$")] = (
        "10001:10001"
    )
    """Who runs it, and has what is `system.user`'s. Numbers, so that a cluster can see that it is not root."""
    init: bool = False
    """Whether a small init (the conda package tini, which must be required) is the first process: it passes signals on,
    and buries what the application's children leave."""
    healthcheck: bool = True
    """Whether engines are told to ask what the manifest's first check with `http` asks."""
    workdir: Annotated[str, Limits(pattern=r"^/")] = "/"
    environment: dict[str, str] = field(default_factory=dict)
    """Variables beside those of `app.environment`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels beside the OCI annotations, which are set from `[app]`."""
    tags: tuple[str, ...] = ()
    """The names under which an engine takes it ("registry.example/team/name:1.0"). Left out: name:version."""
    form: Literal["folder", "archive"] = "folder"
    """An OCI image layout as a folder, or as one file ("archive"), which `docker load` takes as well."""
    verify_hooks: bool = False
    """Whether each hook is run twice, and refused where its two runs give different files."""
    budget: Annotated[int, Limits(ge=1, le=100)] = DEFAULT_BUDGET
    """How many layers the environment and the application may take."""
    own: tuple[Annotated[str, Limits(pattern=r"^[A-Za-z0-9._*?-]+$")], ...] = ()
    """Names of distributions and conda packages that the team releases itself ("acme-*"): they get a layer of their
    own, after all that changes less often. Wheels from paths, repositories and URLs are in it anyhow."""
    trim: tuple[TrimRule, ...] = ()
    """Files that are left out of all packages but the application: "tests" (folders with tests that nothing else
    imports), "headers", "static-libraries", "docs" (but for licences), "build-files" (pkg-config's, CMake's)."""
    trim_keep: tuple[Annotated[str, Limits(pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$")], ...] = ()
    """Paths of files and folders that stay all the same ("astropy/tests", "include/openssl")."""
    activate: tuple[Annotated[str, Limits(pattern=r"^[A-Za-z0-9._-]+$")], ...] = ()
    """Conda packages whose activation scripts are run, when their layer is made, for the variables that they set."""


class Image:
    """The packager of container images."""

    name = "image"
    summary = "a container image for Docker, Podman and Kubernetes, layered by rate of change"
    options = ImageOptions
    step: Step = "container"
    moments = MOMENTS
    system: frozenset[SystemPart] = frozenset({"user", "directories", "files"})
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        platform_of(plan)
        if plan.target.interpreter == "host":
            step = f'Give [targets.{plan.target.name}] `interpreter = "conda"`, or `boxes = ["pex", "wheelhouse"]`.'
            cause = "an image brings its own interpreter, and the target takes that of the host"
            raise PackError(f"image for {plan.target.name}", cause, step, target=plan.target.name)
        check_startup(plan)
        _check_activate(plan)
        check_tags(plan)
        check_texts(plan)
        for hook in plan.hooks:
            if hook.moment in MOMENTS:
                interpreter_of_hook(hook)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        suffix = ARCHIVE if plan.options.form == "archive" else ""
        return f"{plan.application.name}-{plan.application.version}.image{suffix}"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:
        """See `boxsnake.packagers.Packager`."""
        checks = [dataclasses.asdict(check) for check in plan.checks] if plan.options.healthcheck else []
        return {"base": base_of(plan, materials).digest, "revision": plan.revision, "checks": checks}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        made = contents(plan, materials)
        config, manifest = documents(plan, made.base, made.layers)
        laid = LaidOut(manifest=manifest, config=config, platform=platform_of(plan), variant=made.base.variant)
        materials.announce(laid)
        write_layout(materials.store, laid, tags_of(plan), out, epoch=plan.epoch)
        return made.notes

    def needs(self, plan: Plan) -> Sequence[str]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return ()

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        from boxsnake.image.forecast import forecast_of

        return forecast_of(plan, materials)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        options: ImageOptions = plan.options
        entrypoint, command = started(plan)
        return BootRecipe(
            host=ARTIFACT_HOST,
            takes="engine",
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
            program=program_of(plan),
            commands=tuple(commands_of(plan)),
        )


PACKAGER = Image()


def _check_activate(plan: Plan) -> None:
    """Errors: PackError where scripts are trusted of a package that is not there."""
    known = {package.name for package in plan.lock.conda}
    for name in plan.options.activate:
        if name.lower() not in known:
            step = "Correct `activate` in [boxes.image]: it takes names of conda packages."
            raise PackError(f"package {name}", "is to be activated, and is not in the lock", step, package=name)
