"""What a stack is made of, out of the manifest and how its image is deployed. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from boxsnake.errors import Fault, ManifestError, UsageError
from boxsnake.export.facts import Deployment
from boxsnake.manifest import EnvironmentTable, Manifest
from boxsnake.stack.value import Stack, Unit

DEFAULT_ENVIRONMENT = "local"

_SCRATCH = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}  # noqa: S108 - in the container


def stack_of(manifest: Manifest, deployment: Deployment, *, environment: str, identity: str) -> Stack:
    """The application and its services in one of the manifest's environments.

    Errors: UsageError for an environment that there is not, ManifestError for one that does not fit its services.
    """
    chosen = environment_of(manifest, environment)
    services = tuple(
        Unit(
            name=name,
            image=chosen.services.get(name, service.image),
            command=service.command or None,
            environment=tuple(sorted(service.environment.items())),
            secrets=service.secrets,
            ports=service.ports,
            check=service.check,
        )
        for name, service in sorted(manifest.services.items())
        if name not in chosen.without
    )
    return Stack(
        name=deployment.name,
        id=identity,
        environment=environment,
        application=_application(deployment, chosen),
        services=services,
    )


def environment_of(manifest: Manifest, name: str) -> EnvironmentTable:
    """The table of that name; that of "local" may be left out."""
    if name not in manifest.environments and name != DEFAULT_ENVIRONMENT:
        there = ", ".join(sorted({DEFAULT_ENVIRONMENT, *manifest.environments}))
        step = f"Add [environments.{name}], or take one of {there}."
        raise UsageError(f"environment {name}", "the manifest has no such environment", step)
    found = manifest.environments.get(name, EnvironmentTable())
    faults = tuple(
        Fault(source="manifest", line=0, key=f"environments.{name}.{key}", message=f"there is no service {service!r}")
        for key, services in (("services", found.services), ("without", found.without))
        for service in services
        if service not in manifest.services
    )
    if faults:
        raise ManifestError("manifest", faults)
    if clash := sorted(found.environment.keys() & set(manifest.app.secrets)):
        fault = Fault(
            source="manifest",
            line=0,
            key=f"environments.{name}.environment",
            message=f"has the value of {clash[0]}, which is one of app.secrets",
        )
        raise ManifestError("manifest", (fault,))
    return found


def _application(deployment: Deployment, chosen: EnvironmentTable) -> Unit:
    scratch, volumes = dict(_SCRATCH), []
    uid, gid = deployment.user_ids or (0, 0)
    for directory, _ in deployment.directories:
        if directory.kind == "run":
            scratch[directory.path] = f"uid={uid},gid={gid},mode={directory.mode:04o}"
        else:
            volumes.append(directory.path)
    return Unit(
        name=deployment.name,
        image=deployment.image,
        user=deployment.user,
        environment=tuple(sorted((dict(deployment.environment) | chosen.environment).items())),
        secrets=deployment.secrets,
        ports=deployment.ports,
        request=deployment.health,
        read_only=True,
        memory=deployment.memory or "",
        cpu=deployment.cpu,
        scratch=tuple(sorted(scratch.items())),
        volumes=tuple(volumes),
    )


def changed(stack: Stack, *, environment: Mapping[str, str], command: tuple[str, ...] | None = None) -> Stack:
    """The same with other variables of the application, and another command handed to its entry point."""
    application = stack.application
    variables = dict(application.environment) | dict(environment)
    return replace(
        stack,
        application=replace(
            application,
            environment=tuple(sorted(variables.items())),
            command=command if command is not None else application.command,
        ),
    )
