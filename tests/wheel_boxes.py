"""A small application of a few wheels, and its plan for the formats that carry wheels alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxsnake.credentials import Credentials
from boxsnake.lock import CondaPackage, Distribution, TargetLock, Wheel
from boxsnake.materials import Access, StoreMaterials
from boxsnake.packagers import packagers
from boxsnake.plan import Application, Plan
from boxsnake.project.wheel_archive import read_metadata
from boxsnake.store import Store
from boxsnake.target import Target
from tests.archives import make_wheel

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
MAIN = """
import sys
import helper

def main():
    print("demo", helper.ANSWER, *sys.argv[1:])
"""


def add_wheel(
    store: Store,
    folder: Path,
    name: str,
    files: Mapping[str, str],
    *,
    tag: str = "py3-none-any",
    version: str = "1.0",
) -> Wheel:
    """Make a wheel with these files (an `entry_points.txt` and METADATA lines among them) and put it in the store."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    contents = {path: text for path, text in files.items() if path not in {"entry_points.txt", "METADATA"}}
    contents[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{files.get('METADATA', '')}"
    )
    pure = str(tag.endswith("any")).lower()
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    if "entry_points.txt" in files:
        contents[f"{info}/entry_points.txt"] = files["entry_points.txt"]
    folder.mkdir(parents=True, exist_ok=True)
    path = make_wheel(folder, contents, name=f"{name.replace('-', '_')}-{version}-{tag}.whl")
    blob = store.put_file(path)
    return Wheel(
        name=read_metadata(path).name,
        version=version,
        file_name=path.name,
        sha256=blob.digest.removeprefix("sha256:"),
        size=blob.size,
        url=f"https://index.example.org/{path.name}",
    )


def demo_plan(store: Store, folder: Path, box: str, *, python: str = MINOR, **options: Any) -> Plan:
    """The plan of a box with the application "demo" and one requirement of it, "helper"."""
    helper = add_wheel(store, folder, "helper", {"helper.py": "ANSWER = 42\n"})
    own = add_wheel(
        store,
        folder,
        "demo",
        {
            "demo.py": MAIN,
            "demo-1.0.data/scripts/demo-sh": "#!/bin/sh\necho shell\n",
            "demo-1.0.data/scripts/demo-py": "#!python\nimport helper\nprint(helper.ANSWER)\n",
            "demo-1.0.data/data/share/demo/words.txt": "words\n",
            "entry_points.txt": "[console_scripts]\ndemo = demo:main\n",
            "METADATA": "Requires-Dist: helper\n",
        },
    )
    application = Application(
        name="demo",
        version="1.0",
        command=("demo",),
        summary="made for tests",
        wheel=own,
        console_scripts=("demo",),
    )
    target = Target(name="default", glibc="2.17")
    lock = TargetLock(target=target, python=f"{python}.4", conda=(), wheels=(helper,))
    chosen = packagers()[box].options(**options)
    return Plan(application=application, lock=lock, options=chosen, root=folder, epoch=1_577_836_800)


def pack(store: Store, plan: Plan, box: str, folder: Path) -> Path:
    """Pack a plan; its wheels are all in the store."""
    folder.mkdir(parents=True, exist_ok=True)
    packager = packagers()[box]
    out = folder / packager.file_name(plan)
    packager.check(plan)
    with StoreMaterials(store, plan, Access(credentials=Credentials(), offline=True)) as materials:
        packager.pack(plan, materials, out)
    return out


def conda_package(name: str, *depends: str, brings: str | None = None) -> CondaPackage:
    """A conda package that depends on these, and brings one distribution or none."""
    return CondaPackage(
        name=name,
        version="1.0",
        build="0",
        build_number=0,
        subdir="linux-64",
        channel="channel",
        url=f"https://channel.example.org/linux-64/{name}-1.0-0.conda",
        sha256="0" * 64,
        size=1,
        depends=depends,
        distributions=(Distribution(name=brings, version="1.0"),) if brings else (),
    )


def with_conda(plan: Plan, *packages: CondaPackage, unavailable: tuple[str, ...] = ()) -> Plan:
    """The plan with another conda half."""
    absent = tuple(Distribution(name=name, version="1.0") for name in unavailable)
    return replace(plan, lock=replace(plan.lock, conda=packages, unavailable=absent))
