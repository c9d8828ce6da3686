"""Bundles and bills of materials: what is in them, that they are always the same, and that harm is seen."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion

from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.bundle import Artifact, Bundle, extras, verify_bundle, write_bundle
from boxsnake.errors import IntegrityError, UsageError
from boxsnake.lock.system import SystemLock, SystemPackage
from boxsnake.packagers import packagers
from boxsnake.plan import Plan, expected
from boxsnake.publish.signing import Signer, public_key, signer
from boxsnake.sbom import sbom
from boxsnake.store import Store
from tests.signing_key import gpg_home, new_key
from tests.wheel_boxes import conda_package, demo_plan, with_conda

EPOCH = 1_577_836_800


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return demo_plan(Store(tmp_path / "store"), tmp_path / "wheels", "wheelhouse")


# Bills of materials


def bill(plan: Plan, *, conda: bool, host: str = "debian-12") -> dict[str, Any]:
    recipe = packagers()["wheelhouse"].boot(replace(plan, lock=replace(plan.lock)), Path("/dist/demo.tar"))
    recipe = replace(recipe, host=host, expects=expected(plan, conda=conda))
    text = sbom(plan, recipe, format="some")
    assert text == sbom(plan, recipe, format="some")
    from cyclonedx.validation.json import JsonStrictValidator  # which takes seconds; see tests/test_ci.py

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None
    found: dict[str, Any] = json.loads(text)
    return found


def urls_of(bill: dict[str, Any]) -> list[str]:
    return sorted(component["purl"] for component in bill["components"])


def test_a_box_of_wheels_names_its_wheels(plan: Plan) -> None:
    found = bill(plan, conda=False)
    assert urls_of(found) == ["pkg:pypi/helper@1.0?file_name=helper-1.0-py3-none-any.whl"]
    (component,) = found["components"]
    (helper,) = plan.lock.wheels
    assert component["hashes"] == [{"alg": "SHA-256", "content": helper.sha256}]
    assert component["externalReferences"][0]["url"] == helper.url
    assert (found["metadata"]["component"]["name"], found["metadata"]["timestamp"]) == (
        "demo",
        "2020-01-01T00:00:00+00:00",
    )


def test_a_box_with_conda_names_each_package_once_and_what_needs_what(plan: Plan) -> None:
    plan = with_conda(plan, conda_package("python", "openssl >=3"), conda_package("openssl"))
    plan = with_conda(plan, *plan.lock.conda, conda_package("helper", "python", brings="helper"))
    found = bill(plan, conda=True)
    names = {component["bom-ref"]: component["name"] for component in found["components"]}
    assert sorted(names.values()) == ["helper", "openssl", "python"]
    assert all(url.startswith("pkg:conda/") and "subdir=linux-64&type=conda" in url for url in urls_of(found))
    needs = {names.get(one["ref"]): [names[ref] for ref in one.get("dependsOn", ())] for one in found["dependencies"]}
    assert needs == {None: ["helper", "openssl", "python"], "helper": ["python"], "python": ["openssl"], "openssl": []}


def test_no_path_of_the_building_machine_is_told(plan: Plan) -> None:
    local = replace(conda_package("openssl"), channel="file:///home/me/channel", url="file:///home/me/channel/a.conda")
    text = json.dumps(bill(with_conda(plan, local), conda=True))
    assert "openssl" in text
    assert "/home/me" not in text


def test_an_image_names_what_its_distribution_adds(plan: Plan) -> None:
    package = SystemPackage(
        name="libpq5",
        version="15.1-1",
        architecture="amd64",
        archive="debian",
        path="pool/a.deb",
        sha256="0" * 64,
        size=1,
    )
    system = SystemLock(kind="deb", base="debian:12", suite="bookworm", packages=(package,))
    plan = replace(plan, lock=replace(plan.lock, system=system))
    assert "pkg:deb/debian/libpq5@15.1-1?arch=amd64&distro=bookworm" in urls_of(
        bill(plan, conda=False, host=ARTIFACT_HOST)
    )
    assert not [url for url in urls_of(bill(plan, conda=False)) if url.startswith("pkg:deb")]


# Bundles


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    house = tmp_path / "demo-1.0.wheelhouse.tar"
    house.write_bytes(b"house" * 1000)
    pex = tmp_path / "demo-1.0.pex"
    pex.write_bytes(b"pex")
    (tmp_path / "boxsnake.lock").write_text("lock\n")
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "start.md").write_text("start\n")
    boxes = {"wheelhouse": house, "pex": pex}
    artifacts = tuple(
        Artifact(name=path.name, path=path, format=name, summary=f"a {name}", sbom=b"{}")
        for name, path in boxes.items()
    )
    added = extras([tmp_path / "manual"], [])
    lock = tmp_path / "boxsnake.lock"
    return Bundle(name="demo", version="1.0", summary="made for tests", artifacts=artifacts, lock=lock, extras=added)


def written(bundle: Bundle, folder: Path, key: Signer | None = None) -> Path:
    folder.mkdir()
    out = folder / "demo-1.0.bundle.tar"
    (folder / "scratch").mkdir()
    write_bundle(bundle, out, folder / "scratch", epoch=EPOCH, signer=key)
    return out


def test_it_holds_everything_and_is_always_the_same(bundle: Bundle, tmp_path: Path) -> None:
    first = written(bundle, tmp_path / "one")
    before = os.umask(0o077)
    try:
        assert written(bundle, tmp_path / "two").read_bytes() == first.read_bytes()
    finally:
        os.umask(before)
    with tarfile.open(first) as archive:
        names = [member.name.partition("/")[2] for member in archive if member.isfile()]
        readme = archive.extractfile("demo-1.0.bundle/README.md")
        assert readme is not None
        text = readme.read().decode()
    assert names == [
        "README.md",
        "SHA256SUMS",
        "boxes/demo-1.0.pex",
        "boxes/demo-1.0.wheelhouse.tar",
        "boxsnake.lock",
        "docs/start.md",
        "sbom/demo-1.0.pex.cdx.json",
        "sbom/demo-1.0.wheelhouse.tar.cdx.json",
        "verify.sh",
    ]
    assert "tar -xf boxes/demo-1.0.wheelhouse.tar && sh demo-1.0.wheelhouse/install.sh /opt/demo" in text
    assert "- `docs/start.md`" in text
    verified = verify_bundle(first)
    assert (verified.files, verified.signed, verified.signed_by) == (9, False, None)


def changed(path: Path, name: str, content: bytes | None) -> None:
    """Write the bundle again with another content of one file, or without it, or with it."""
    with tarfile.open(path) as archive:
        files = {
            member.name: stream.read()
            for member in archive
            if member.isfile() and (stream := archive.extractfile(member))
        }
    full = f"demo-1.0.bundle/{name}"
    files = {**files, full: content} if content is not None else {k: v for k, v in files.items() if k != full}
    with tarfile.open(path, "w") as archive:
        for one, data in files.items():
            member = tarfile.TarInfo(one)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("boxes/demo-1.0.pex", b"other", "boxes/demo-1.0.pex has changed"),
        ("boxes/demo-1.0.pex", None, "boxes/demo-1.0.pex is missing"),
        ("boxes/stranger", b"x", "boxes/stranger is not of it"),
        ("../up", b"x", "leads out of it"),
    ],
)
def test_harm_is_seen(bundle: Bundle, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = written(bundle, tmp_path / "out")
    changed(path, name, content)
    with pytest.raises(IntegrityError, match=said):
        verify_bundle(path)


def test_a_bundle_that_was_cut_off_and_what_is_none(bundle: Bundle, tmp_path: Path) -> None:
    path = written(bundle, tmp_path / "out")
    for size in (path.stat().st_size - 3000, 5000, 700):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises((IntegrityError, UsageError)):
            verify_bundle(path)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "manual", "a/manual")
    with pytest.raises(UsageError, match="is no bundle"):
        verify_bundle(tmp_path / "a.tar")
    with pytest.raises(UsageError, match="there is no such file"):
        verify_bundle(tmp_path / "absent.tar")


@pytest.fixture(scope="module")
def signers() -> Iterator[dict[str, Signer]]:
    """Two keys, by name, in one home."""
    with gpg_home() as home:
        for name in ("ours", "other"):
            new_key(home, name, "--passphrase", "")
        yield {name: signer(f"{name}@example.org", home=home) for name in ("ours", "other")}


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_signature_is_of_the_key_that_is_trusted(bundle: Bundle, signers: dict[str, Signer], tmp_path: Path) -> None:
    ours = signers["ours"]
    for name, key in signers.items():
        (tmp_path / f"{name}.asc").write_bytes(public_key(key))
    path = written(bundle, tmp_path / "one", ours)
    assert path.read_bytes() == written(bundle, tmp_path / "two", ours).read_bytes()
    assert verify_bundle(path, key=tmp_path / "ours.asc").signed_by == ours.fingerprint
    with pytest.raises(IntegrityError, match="is not of the key"):
        verify_bundle(path, key=tmp_path / "other.asc")
    with pytest.raises(IntegrityError, match="is not signed"):
        verify_bundle(written(bundle, tmp_path / "plain"), key=tmp_path / "ours.asc")
    (tmp_path / "no.asc").write_text("no key")
    with pytest.raises(UsageError, match="holds no public key"):
        verify_bundle(path, key=tmp_path / "no.asc")
    folder = unpacked(path, tmp_path / "site")
    assert by_shell(folder, tmp_path / "ours.asc").returncode == 0
    assert by_shell(folder, tmp_path / "other.asc").returncode == 6


def unpacked(path: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(path), "-C", str(folder)], check=True)
    return folder / "demo-1.0.bundle"


def by_shell(folder: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(folder / "verify.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_needs_no_boxsnake_to_verify(bundle: Bundle, tmp_path: Path) -> None:
    folder = unpacked(written(bundle, tmp_path / "out"), tmp_path / "site")
    done = by_shell(folder)
    assert (done.returncode, done.stdout) == (0, "every file is as it was sent\n"), done.stderr
    (folder / "boxes" / "demo-1.0.pex").write_text("other")
    (folder / "boxes" / "stranger").write_text("")
    done = by_shell(folder)
    assert done.returncode == 4
    assert "boxes/demo-1.0.pex: FAILED" in done.stderr
    assert "boxes/stranger is not of this bundle" in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(bundle: Bundle, tmp_path: Path) -> None:
    folder = unpacked(written(bundle, tmp_path / "out"), tmp_path / "site")
    done = subprocess.run(["shellcheck", str(folder / "verify.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_documents_must_be_there_and_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        extras([tmp_path / "absent"], [])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").touch()
    with pytest.raises(UsageError, match=r"is docs/a\.md already"):
        extras([tmp_path / "one" / "a.md", tmp_path / "two"], [])
