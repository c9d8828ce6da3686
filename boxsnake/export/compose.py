"""A compose file (the Compose Specification) of an application's image and of what it talks to."""

from __future__ import annotations

from typing import Any

from boxsnake.export.facts import Companion, Deployment, fault, named


def compose(deployment: Deployment) -> dict[str, Any]:
    """The document. The image itself knows how to ask whether the application is well.

    Errors: ManifestError where it could not be told from what it talks to.
    """
    services: dict[str, Any] = {deployment.name: _application(deployment)}
    for companion in deployment.companions:
        if companion.name == deployment.name:
            raise fault(f"services.{companion.name}", "has the application's own name: give it another one")
        services[companion.name] = _companion(companion)
    volumes: dict[str, Any] = {
        name: {} for name, directory, _ in named(deployment.directories) if _on_disk(directory.kind)
    }
    return {"services": services, **({"volumes": volumes} if volumes else {})}


def _on_disk(kind: str) -> bool:
    return kind != "run"


def _literal(text: str) -> str:
    """Text that compose takes as it is: it replaces variables everywhere."""
    return text.replace("$", "$$")


def _variables(of: Deployment | Companion) -> dict[str, str]:
    found = {name: _literal(value) for name, value in of.environment}
    return found | {name: f"${{{name}:?is a secret, to be given in the environment}}" for name in of.secrets}


def _application(deployment: Deployment) -> dict[str, Any]:
    environment = _variables(deployment)
    needed = {
        companion.name: {"condition": "service_healthy" if companion.check else "service_started"}
        for companion in deployment.companions
    }
    parts: dict[str, Any] = {
        "environment": environment,
        "ports": [f"{port}:{port}" for port in deployment.ports],
        "depends_on": needed,
        "tmpfs": _in_memory(deployment),
        "volumes": [
            f"{name}:{directory.path}"
            for name, directory, _ in named(deployment.directories)
            if _on_disk(directory.kind)
        ],
        "mem_limit": deployment.memory.lower() if deployment.memory else None,
        "cpus": deployment.cpu,
    }
    return {
        "image": deployment.image,
        "user": deployment.user,
        "read_only": True,
        "init": True,
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        **{key: value for key, value in parts.items() if value},
    }


def _in_memory(deployment: Deployment) -> list[str]:
    found = ["/tmp"]  # noqa: S108 - in the container
    uid, gid = deployment.user_ids or (0, 0)
    for directory, _ in deployment.directories:
        if not _on_disk(directory.kind):
            found.append(f"{directory.path}:uid={uid},gid={gid},mode={directory.mode:04o}")
    return found


def _companion(companion: Companion) -> dict[str, Any]:
    if companion.image.startswith("service:"):
        message = f"is {companion.image}, which boxsnake makes here and compose cannot have: name an image"
        raise fault(f"services.{companion.name}.image", message)
    test = ["CMD", *map(_literal, companion.check)]
    parts: dict[str, Any] = {
        "environment": _variables(companion),
        "command": [_literal(word) for word in companion.command],
        "healthcheck": {"test": test, "interval": "5s", "timeout": "5s", "retries": 12} if companion.check else {},
    }
    return {
        "image": companion.image,
        "restart": "unless-stopped",
        **{key: value for key, value in parts.items() if value},
    }
