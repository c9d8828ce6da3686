from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from boxsnake.boot_recipe import Check
from boxsnake.cli import boxsnake
from boxsnake.deployment import deployment
from boxsnake.errors import ManifestError, UsageError
from boxsnake.export.compose import compose
from boxsnake.export.facts import Companion, Deployment
from boxsnake.export.kubernetes import kubernetes
from boxsnake.export.yaml_text import yaml_text
from boxsnake.lock import TargetLock
from boxsnake.manifest.decoding import decode
from boxsnake.packagers.image import PACKAGER
from boxsnake.plan import Application, Plan
from boxsnake.system import ConfigFile, Directory, System, Unit
from boxsnake.target import Target

ODD = "a: 'b' \"c\" $HOME $(HOME) ${HOME} $$ # 0o14"

WHOLE = Deployment(
    name="hello.web_1",
    version="1!2.0+local",
    image="registry.example.org:5000/team/hello:1.0",
    user="10001:10002",
    architecture="arm64",
    ports=(8000, 80),
    environment=(("EMPTY", ""), ("NUMBER", "0o14"), ("ODD", ODD), ("YES", "on")),
    secrets=("PASSWORD",),
    directories=(
        (Directory(path="/var/lib/hello", kind="state"), "20G"),
        (Directory(path="/var/lib/more", kind="state"), "1G"),
        (Directory(path="/var/log/hello", kind="log"), "1G"),
        (Directory(path="/run/hello", kind="run", mode=0o750), "1G"),
    ),
    files=(
        ConfigFile(path="/etc/hello/a.conf", source="a.conf", content=b"line\nother $(X)\n", mode=0o640),
        ConfigFile(path="/etc/hello.a.conf", source="b.conf", content=b"\xff\0"),
    ),
    health=Check(name="answers", http="/health?a=1&b=$c", port=8000, timeout=12),
    memory="512M",
    cpu=0.25,
    companions=(
        Companion(name="redis", image="redis:7", check=("redis-cli", "ping", "$x")),
        Companion(name="queue", image="queue:1", environment=(("A", "$b"),)),
    ),
)
BARE = Deployment(name="worker", version="1.0", image="worker:1.0", user="10001:10001")


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def pod_of(wanted: Deployment) -> dict[str, Any]:
    (found,) = of_kind(kubernetes(wanted), "Deployment")
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def changed(**values: Any) -> Deployment:
    return dataclasses.replace(WHOLE, **values)


# YAML


def test_texts_are_texts_to_readers_of_either_yaml() -> None:
    texts = ["on", "No", "y", "~", "null", "1e3", "0o14", "012", "1:30", ".5", "", " a", "a ", "a: b", "#", "- a", "é"]
    texts += ["a\nb", "a\nb\n", " a\n\n", "a\tb", "\x07", "2020-01-01", "=", "<<", "!a", "&a", "*a", "%", "`", ODD]
    text = yaml_text([{"texts": texts}], about="x")
    assert yaml.safe_load(text) == {"texts": texts}
    for word in ("on", "0o14", "1:30", "1e3"):
        assert f'"{word}"' in text


# Kubernetes


@pytest.mark.parametrize("wanted", [WHOLE, BARE], ids=["whole", "bare"])
def test_kubernetes_takes_the_documents(wanted: Deployment) -> None:
    import kubernetes_validate  # which takes seconds; see tests/test_ci.py

    for document in yaml.safe_load_all(yaml_text(kubernetes(wanted), about="x")):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_the_validator_tells_what_is_wrong() -> None:
    import kubernetes_validate  # which takes seconds; see tests/test_ci.py

    (found,) = of_kind(kubernetes(BARE), "Deployment")
    found["spec"]["replicas"] = "two"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, "1.31", strict=True)


def test_a_pod_keeps_to_the_restricted_standard() -> None:
    pod = pod_of(WHOLE)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["fsGroup"] == 10002
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"] == {"limits": {"cpu": "250m", "memory": "512Mi"}}
    assert pod["nodeSelector"]["kubernetes.io/arch"] == "arm64"
    # Port 80 is no privilege.
    assert pod["securityContext"]["sysctls"][0]["value"] == "0"


def test_every_mount_has_its_volume_and_state_is_kept() -> None:
    pod = pod_of(WHOLE)
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"]: claim for claim in of_kind(kubernetes(WHOLE), "PersistentVolumeClaim")}
    for path, size in (("/var/lib/hello", "20Gi"), ("/var/lib/more", "1Gi")):
        claim = claims.pop(volumes[mounted[path]]["persistentVolumeClaim"]["claimName"])
        assert claim["spec"]["resources"]["requests"]["storage"] == size
    assert not claims
    for path in ("/tmp", "/var/log/hello", "/run/hello"):
        assert "emptyDir" in volumes[mounted[path]]


def test_files_are_mounted_out_of_the_config_map() -> None:
    (found,) = of_kind(kubernetes(WHOLE), "ConfigMap")
    (container,) = pod_of(WHOLE)["containers"]
    keys = {mount["mountPath"]: mount["subPath"] for mount in container["volumeMounts"] if "subPath" in mount}
    assert found["data"] == {keys["/etc/hello/a.conf"]: "line\nother $(X)\n"}
    assert found["binaryData"] == {keys["/etc/hello.a.conf"]: "/wA="}
    other = changed(files=(dataclasses.replace(WHOLE.files[0], content=b"changed"),))
    notes = [
        of_kind(kubernetes(wanted), "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]
        for wanted in (WHOLE, other)
    ]
    assert notes[0] != notes[1]


def test_values_are_literal_and_secrets_are_references() -> None:
    variables = {variable["name"]: variable for variable in pod_of(WHOLE)["containers"][0]["env"]}
    assert variables["ODD"]["value"].replace("$$", "$") == ODD
    assert "$(" not in variables["ODD"]["value"].replace("$$", "")
    assert variables["PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": "hello-web-1", "key": "PASSWORD"}}


def test_probes_ask_what_the_check_asks_or_whether_the_port_is_open() -> None:
    (container,) = pod_of(WHOLE)["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/health?a=1&b=$c", "port": 8000}
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 12
    assert WHOLE.health is not None
    for health in (None, dataclasses.replace(WHOLE.health, status=401)):
        (container,) = pod_of(changed(health=health))["containers"]
        assert container["readinessProbe"]["tcpSocket"] == {"port": 8000}


def test_without_ports_there_is_neither_service_nor_probe() -> None:
    assert [document["kind"] for document in kubernetes(BARE)] == ["Deployment"]
    assert "livenessProbe" not in pod_of(BARE)["containers"][0]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"name": "a" * 64}, "app.name"),
        ({"name": "1st"}, "app.name"),
        ({"user": "app"}, "boxes.image.user"),
        ({"files": (ConfigFile(path="/etc/a/b", source="b", content=bytes(1 << 20) + b"x"),)}, "system.files"),
    ],
)
def test_what_kubernetes_cannot_take_is_refused_by_its_key(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ManifestError) as caught:
        kubernetes(changed(**values))
    assert [fault.key for fault in caught.value.faults] == [key]


# Compose


@pytest.mark.parametrize("wanted", [WHOLE, BARE], ids=["whole", "bare"])
def test_compose_takes_the_file_and_means_the_same(wanted: Deployment, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(yaml_text([compose(wanted)], about="x"))
    command = ["docker-compose", "--file", str(tmp_path / "compose.yaml"), "config"]
    environment = {"PATH": "/usr/bin:/bin", "PASSWORD": "given", "HOME": "/nowhere"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    ours = services[wanted.name]
    assert (ours["read_only"], ours["cap_drop"], ours["user"]) == (True, ["ALL"], wanted.user)
    if wanted is WHOLE:
        # What is printed is escaped once more.
        assert ours["environment"]["ODD"].replace("$$", "$") == ODD
        assert ours["environment"]["PASSWORD"] == environment["PASSWORD"]
        assert ours["depends_on"]["redis"] == {"condition": "service_healthy"}
        assert ours["depends_on"]["queue"] == {"condition": "service_started"}
        assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping", "$$x"]
        assert "/run/hello:uid=10001,gid=10002,mode=0750" in ours["tmpfs"]
        assert [volume.partition(":")[0] for volume in ours["volumes"]] == ["state", "state-2", "log"]
        del environment["PASSWORD"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode != 0
        assert "PASSWORD" in done.stderr


def test_a_service_cannot_have_the_name_of_the_application() -> None:
    with pytest.raises(ManifestError, match="own name"):
        compose(changed(companions=(Companion(name=WHOLE.name, image="a:1"),)))


# From the manifest


MANIFEST = """
[app]
name = "hello"
version = "1.0"
command = ["hello"]
secrets = ["PASSWORD"]
{app}
[[system.directories]]
size = "3G"
[services.redis]
image = "redis:7"
check = ["redis-cli", "ping"]
{more}
"""


def facts(app: str = "", more: str = "", image: dict[str, Any] | None = None, **values: Any) -> Deployment:
    options = {"image": PACKAGER.options}
    manifest = decode(MANIFEST.format(app=app, more=more), "boxsnake.toml", box_options=options)
    application = Application(name="hello", version="1.0+x", command=values.pop("command", ("hello",)))
    plan = Plan(
        application=application,
        lock=TargetLock(target=Target(name="default"), python="3.11.9", conda=(), wheels=()),
        options=PACKAGER.options.decoded(image or {}),
        root=Path("/nowhere"),
        epoch=0,
        system=System(directories=(Directory(path="/var/lib/hello", kind="state"),), **values),
    )
    return deployment(manifest, plan)


def test_the_facts_are_those_of_the_manifest() -> None:
    found = facts(image={"environment": {"B": "2"}, "user": "7"})
    assert found.image == "hello:1.0-x"
    assert found.architecture == "amd64"
    assert found.secrets == ("PASSWORD",)
    assert found.environment == (("B", "2"),)
    assert found.user_ids == (7, 0)
    assert [size for _, size in found.directories] == ["3G"]
    assert found.companions == (Companion(name="redis", image="redis:7", check=("redis-cli", "ping")),)


def test_limits_are_the_manifests_or_those_of_the_only_service() -> None:
    unit = Unit(name="hello", command=("hello",), memory="64M")
    assert facts(units=(unit,)).memory == "64M"
    assert facts(units=(unit, unit)).memory is None
    given = facts("resources = { memory = '128M', cpu = 2 }", units=(unit,))
    assert (given.memory, given.cpu) == ("128M", 2)


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(ManifestError, match="needed: without it"):
        facts(command=())
    with pytest.raises(ManifestError, match="PASSWORD"):
        facts(image={"environment": {"PASSWORD": "x"}})
    with pytest.raises(ManifestError, match="secrets"):
        facts('environment = { PASSWORD = "x" }')
    with pytest.raises(ManifestError, match="twice"):
        decode(MANIFEST.replace('["PASSWORD"]', '["A", "A"]').format(app="", more=""), "boxsnake.toml", box_options={})


@pytest.mark.parametrize("image", ["Hello:1", "a b", "hello@sha256:1", ""])
def test_an_image_that_is_no_reference_is_refused(image: str) -> None:
    done = CliRunner().invoke(boxsnake, ["export", "k8s", "--image", image])
    assert isinstance(done.exception, UsageError)


def test_kinds_are_those_that_there_are() -> None:
    assert CliRunner().invoke(boxsnake, ["export", "helm"]).exit_code == 2
