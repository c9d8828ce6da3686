"""How an application is to be run, out of its manifest and the plan of its image."""

from __future__ import annotations

from collections.abc import Iterator

from boxsnake.export.facts import Companion, Deployment, fault
from boxsnake.image.configuration import platform_of, tags_of
from boxsnake.manifest import Manifest
from boxsnake.plan import Plan
from boxsnake.system import Directory


def deployment(manifest: Manifest, plan: Plan, *, image: str | None = None, only: bool = True) -> Deployment:
    """The facts. `image` is a reference, by default that of the plan's image; `only` where it is for one target alone.

    Errors: ManifestError for an application that has nothing to start, and for a secret whose value is given.
    """
    app, options = plan.application, plan.options
    if not (app.command or options.entrypoint or options.command):
        raise fault("app.command", "is needed: without it there is nothing to run")
    variables = dict(app.environment) | options.environment
    if written := sorted(variables.keys() & set(manifest.app.secrets)):
        raise fault("boxes.image.environment", f"has the value of {written[0]}, which is one of app.secrets")
    resources = manifest.app.resources
    return Deployment(
        name=app.name,
        version=app.version,
        image=image or tags_of(plan)[0],
        user=options.user,
        architecture=platform_of(plan)[1] if only else "",
        ports=app.ports,
        environment=tuple(sorted((name, value) for name, value in variables.items())),
        secrets=tuple(sorted(manifest.app.secrets)),
        directories=tuple(_directories(manifest, plan)),
        files=plan.system.files,
        health=next((check for check in plan.checks if check.http), None),
        memory=resources.memory or _memory_of_units(plan),
        cpu=resources.cpu,
        companions=tuple(
            Companion(
                name=name,
                image=service.image,
                check=service.check,
                environment=tuple(sorted(service.environment.items())),
                command=service.command,
                secrets=service.secrets,
            )
            for name, service in sorted(manifest.services.items())
        ),
    )


def _directories(manifest: Manifest, plan: Plan) -> Iterator[tuple[Directory, str]]:
    sizes = {table.path_of(plan.application.name): table.size for table in manifest.system.directories}
    return ((directory, sizes[directory.path]) for directory in plan.system.directories)


def _memory_of_units(plan: Plan) -> str | None:
    """What systemd would allow it, where it is one service."""
    units = plan.system.units
    return units[0].memory if len(units) == 1 else None
