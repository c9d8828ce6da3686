"""Kubernetes manifests (v1 and apps/v1) of an application's image, by the "restricted" Pod Security Standard."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

from boxsnake.export.facts import Deployment, fault, named

_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_CONFIG_BYTES = 1 << 20
_PRIVILEGED_PORTS = 1024
_PERIOD = 5
"""Seconds between two requests while the application starts."""


def kubernetes(deployment: Deployment) -> list[dict[str, Any]]:
    """The documents, in the order in which they are to be created.

    Errors: ManifestError for what Kubernetes cannot take.
    """
    name = _name(deployment)
    made = [_config_map(deployment, name)] if deployment.files else []
    made += _claims(deployment, name)
    if deployment.ports:
        made.append(_service(deployment, name))
    return [*made, _deployment(deployment, name)]


def _name(deployment: Deployment) -> str:
    """The name as a DNS label (RFC 1035), which a Service must have."""
    name = re.sub("[._]+", "-", deployment.name)
    if not _LABEL.fullmatch(name):
        message = (
            f"{name!r} is no DNS label, as Kubernetes' names are: at most 63 letters, digits and '-', a letter first"
        )
        raise fault("app.name", message)
    return name


def _metadata(deployment: Deployment, name: str) -> dict[str, Any]:
    # A label takes a part of a version's alphabet alone.
    version = re.sub("[^A-Za-z0-9._-]", "-", deployment.version)[:63].strip("._-")
    labels = {
        "app.kubernetes.io/name": deployment.name,
        "app.kubernetes.io/version": version,
        "app.kubernetes.io/managed-by": "boxsnake",
    }
    return {"name": name, "labels": labels}


def _selector(deployment: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": deployment.name}


# What it is given


def _keys(deployment: Deployment) -> list[str]:
    """The files' keys in the ConfigMap."""
    keys: list[str] = []
    for file in deployment.files:
        key = re.sub("[^A-Za-z0-9._-]", "_", file.path.removeprefix("/etc/").replace("/", "."))
        keys.append(f"{len(keys)}.{key}" if key in keys else key)
    return keys


def _config_map(deployment: Deployment, name: str) -> dict[str, Any]:
    size = sum(len(file.content) for file in deployment.files)
    if size > _CONFIG_BYTES:
        raise fault("system.files", f"they have {size} bytes together, and a ConfigMap takes {_CONFIG_BYTES}")
    texts, rest = {}, {}
    for key, file in zip(_keys(deployment), deployment.files, strict=True):
        try:
            texts[key] = file.content.decode()
        except UnicodeDecodeError:
            rest[key] = base64.b64encode(file.content).decode("ascii")
    data = {"data": texts, "binaryData": rest}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(deployment, f"{name}-files"),
        **{key: value for key, value in data.items() if value},
    }


def _claims(deployment: Deployment, name: str) -> Iterator[dict[str, Any]]:
    for volume, directory, size in named(deployment.directories):
        if directory.kind == "state":
            yield {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": _metadata(deployment, f"{name}-{volume}"),
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": _quantity(size)}},
                },
            }


def _service(deployment: Deployment, name: str) -> dict[str, Any]:
    ports = [{"name": _port(port), "port": port, "targetPort": _port(port)} for port in deployment.ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(deployment, name),
        "spec": {"selector": _selector(deployment), "ports": ports},
    }


def _port(port: int) -> str:
    return f"port-{port}"


def _quantity(size: str) -> str:
    return f"{size}i"


# What runs


def _deployment(deployment: Deployment, name: str) -> dict[str, Any]:
    has_state = any(directory.kind == "state" for directory, _ in deployment.directories)
    metadata: dict[str, Any] = {"labels": _metadata(deployment, name)["labels"]}
    if deployment.files:
        digest = hashlib.sha256()
        for file in deployment.files:
            digest.update(hashlib.sha256(file.content).digest())
        # So that a change of the files alone starts new pods.
        metadata["annotations"] = {"boxsnake/files": digest.hexdigest()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(deployment, name),
        "spec": {
            "replicas": 1,
            # Two pods at a time would wait for each other's volume.
            **({"strategy": {"type": "Recreate"}} if has_state else {}),
            "selector": {"matchLabels": _selector(deployment)},
            "template": {"metadata": metadata, "spec": _pod(deployment, name)},
        },
    }


def _pod(deployment: Deployment, name: str) -> dict[str, Any]:
    ids = deployment.user_ids
    if ids is None:
        message = f"is {deployment.user!r}, and Kubernetes sees only by numbers that a user is not root"
        raise fault("boxes.image.user", message)
    uid, gid = ids
    security: dict[str, Any] = {
        "runAsNonRoot": uid != 0,
        "runAsUser": uid,
        "runAsGroup": gid,
        "fsGroup": gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if any(port < _PRIVILEGED_PORTS for port in deployment.ports):
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": [_container(deployment, name)],
        "volumes": _volumes(deployment, name),
    }
    if deployment.architecture:
        pod["nodeSelector"] = {"kubernetes.io/os": "linux", "kubernetes.io/arch": deployment.architecture}
    return pod


def _container(deployment: Deployment, name: str) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if deployment.cpu is not None:
        limits["cpu"] = f"{math.ceil(deployment.cpu * 1000)}m"
    if deployment.memory is not None:
        limits["memory"] = _quantity(deployment.memory)
    ports = [{"name": _port(port), "containerPort": port} for port in deployment.ports]
    parts: dict[str, Any] = {
        "ports": ports,
        "env": _variables(deployment, name),
        "resources": {"limits": limits} if limits else {},
        **_probes(deployment),
    }
    return {
        "name": name,
        "image": deployment.image,
        **{key: value for key, value in parts.items() if value},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(deployment),
    }


def _variables(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    # "$(OTHER)" would be replaced, and "$$" is one "$".
    given = [{"name": key, "value": value.replace("$", "$$")} for key, value in deployment.environment]
    return [
        *given,
        *({"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}} for key in deployment.secrets),
    ]


def _probes(deployment: Deployment) -> dict[str, Any]:
    """The check of the manifest where a probe can be that; else whether the first port is open."""
    health = deployment.health
    # A probe takes any status from 200 to 399 for well.
    if health and health.http and 200 <= health.status < 400:
        asked: dict[str, Any] = {"httpGet": {"path": health.http, "port": health.port}}
    elif deployment.ports:
        asked = {"tcpSocket": {"port": deployment.ports[0]}}
    else:
        return {}
    attempts = math.ceil((health.timeout if health else 60) / _PERIOD)
    return {
        "startupProbe": {**asked, "periodSeconds": _PERIOD, "timeoutSeconds": 5, "failureThreshold": max(attempts, 1)},
        "readinessProbe": {**asked, "periodSeconds": 10, "timeoutSeconds": 5},
        "livenessProbe": {**asked, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3},
    }


# What it writes and reads


def _volumes(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    for volume, directory, _ in named(deployment.directories):
        kept = {"persistentVolumeClaim": {"claimName": f"{name}-{volume}"}}
        volumes.append({"name": volume, **(kept if directory.kind == "state" else {"emptyDir": {}})})
    if deployment.files:
        pairs = zip(_keys(deployment), deployment.files, strict=True)
        # Root's, and the pod's group's: who is to read it does so as one of the group.
        items = [{"key": key, "path": key, "mode": 0o444 if file.mode & 0o004 else 0o440} for key, file in pairs]
        volumes.append({"name": "files", "configMap": {"name": f"{name}-files", "items": items}})
    return volumes


def _mounts(deployment: Deployment) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    mounts += [{"name": volume, "mountPath": directory.path} for volume, directory, _ in named(deployment.directories)]
    mounts += [
        {"name": "files", "mountPath": file.path, "subPath": key, "readOnly": True}
        for key, file in zip(_keys(deployment), deployment.files, strict=True)
    ]
    return mounts
