"""Software bills of materials: what is in a box, as CycloneDX 1.6 JSON. The only module that knows its libraries.

Everything is said by the lock: names, versions, digests, where it was fetched from, what needs what. Times and
identifiers follow from that too, so the same box has the same bill. Specifications: CycloneDX 1.6 (ECMA-424), package
URLs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from boxsnake import __version__
from boxsnake.boot_recipe import ARTIFACT_HOST

if TYPE_CHECKING:
    from cyclonedx.model import HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

    from boxsnake.boot_recipe import BootRecipe
    from boxsnake.lock import CondaPackage, SystemLock, Wheel
    from boxsnake.plan import Plan

SUFFIX = ".cdx.json"

_NAMESPACE = UUID("4d0c8a53-0a70-5c0f-9bd0-6c8f5f0a3c11")
"""Of the serial numbers: an arbitrary constant."""


def sbom(plan: Plan, recipe: BootRecipe, *, format: str) -> bytes:  # noqa: A002 - the project's own word for it
    """The bill of one box. `recipe` is how it is booted, which says what is in it."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    application = plan.application
    root = Component(
        name=application.name,
        version=application.version,
        type=ComponentType.APPLICATION,
        bom_ref="application",
        description=application.summary or None,
        hashes=_hashes(application.wheel.sha256) if application.wheel else None,
    )
    bom = Bom()
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromtimestamp(plan.epoch, UTC)
    tool = Component(name="boxsnake", version=__version__, type=ComponentType.APPLICATION)
    bom.metadata.tools = ToolRepository(components=[tool])
    bom.metadata.properties.add(Property(name="boxsnake:format", value=format))
    for part in plan.parts:
        bom.metadata.properties.add(Property(name="boxsnake:target", value=part.target.name))
    _add_contents(bom, root, plan, recipe)
    bom.serial_number = UUID(int=0)
    # The bill's own content names it.
    bom.serial_number = uuid5(_NAMESPACE, JsonV1Dot6(bom).output_as_string())
    return JsonV1Dot6(bom).output_as_string(indent=2).encode() + b"\n"


def _add_contents(bom: Bom, root: Component, plan: Plan, recipe: BootRecipe) -> None:
    """Every package of the box, and what needs what as far as the lock says."""
    conda = [package for package in plan.lock.conda if recipe.expects.conda]
    wheels = _wheels(plan, with_conda=bool(conda))
    refs = {package.name: _of_conda(package) for package in conda}
    found = {wheel.file_name: _of_wheel(wheel) for wheel in wheels}
    for component in (*refs.values(), *found.values()):
        bom.components.add(component)
    brought = {distribution.name: refs[package.name] for package in conda for distribution in package.distributions}
    by_name = {**brought, **{wheel.name: found[wheel.file_name] for wheel in wheels}}
    for package in conda:
        needed = [refs[name] for spec in package.depends if (name := spec.split()[0]) in refs]
        bom.register_dependency(refs[package.name], needed)
    for wheel in wheels:
        needed = [by_name[name] for name in wheel.requires if name in by_name]
        bom.register_dependency(found[wheel.file_name], needed)
    system = plan.lock.system if recipe.host == ARTIFACT_HOST else None
    for component in _of_system(system) if system else ():
        bom.components.add(component)
    bom.register_dependency(root, sorted(bom.components, key=lambda component: str(component.bom_ref)))


def _wheels(plan: Plan, *, with_conda: bool) -> Sequence[Wheel]:
    """The wheels in the box but for the application's own, which the bill is about."""
    if with_conda:
        return plan.wheels_over_conda
    return sorted({wheel for part in plan.parts for wheel in part.lock.wheels}, key=lambda wheel: wheel.file_name)


def _of_conda(package: CondaPackage) -> Component:
    qualifiers = {"build": package.build, "subdir": package.subdir, "type": package.file_name.partition(".")[2]}
    qualifiers["type"] = "conda" if package.file_name.endswith(".conda") else "tar.bz2"
    if _is_public(package.channel):
        qualifiers["channel"] = package.channel
    return _component("conda", package.name, package.version, qualifiers, package.sha256, package.url)


def _of_wheel(wheel: Wheel) -> Component:
    qualifiers = {"file_name": wheel.file_name}
    if wheel.origin is not None and wheel.origin.kind == "git" and _is_public(wheel.origin.url):
        qualifiers["vcs_url"] = f"git+{wheel.origin.url}@{wheel.origin.commit}"
    return _component("pypi", wheel.name, wheel.version, qualifiers, wheel.sha256, wheel.url)


def _of_system(system: SystemLock) -> Iterator[Component]:
    for package in system.packages:
        qualifiers = {"arch": package.architecture, "distro": system.suite}
        yield _component("deb", package.name, package.version, qualifiers, package.sha256, None, namespace="debian")


def _component(
    kind: str,
    name: str,
    version: str,
    qualifiers: dict[str, str],
    sha256: str,
    url: str | None,
    *,
    namespace: str | None = None,
) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL(kind, namespace, name, version, qualifiers)
    references = []
    if url and _is_public(url):
        place = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url), hashes=_hashes(sha256))
        references.append(place)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        hashes=_hashes(sha256),
        external_references=references,
    )


def _hashes(sha256: str) -> list[HashType]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _is_public(location: str) -> bool:
    """Whether a location means anything elsewhere: a path of the building machine does not."""
    return urlsplit(location).scheme in {"http", "https", "ssh"}
