"""The everyday of images: an edit, nothing at all, no layer at hand, sizes and starts, beside a well-made Dockerfile.

`bench_image.py APPLICATION SCRATCH` prints figures as JSON. The Dockerfile has a `.dockerignore`, copies the source
last, resolves nothing, and has its tools in its base. It installs the application ("installed"), as boxsnake does, so
that its metadata are there; "copied" is the least that one could do, a copy of the source on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tarfile
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from boxsnake.layers.plan import group
from boxsnake.lock_file import read
from tests.bench import INSTALL, KNOWN, KNOWN_OF_PACKAGES, ROOT, RUNS, boxsnake, run, seconds, side_by_side

DOCKERFILE = """
FROM boxsnake-bench/tools-and-backend:1 AS build
COPY install.py /
COPY conda /conda
RUN /t/bin/python /install.py
COPY house /house
RUN /t/bin/python -m pip --python /opt/env/bin/python install --quiet --no-index --no-deps /house/wheels/*.whl
FROM {base} AS environment
COPY --from=build /opt/env /opt/env
ENV PYTHONPATH=/opt/app
ENTRYPOINT ["/opt/env/bin/python", "-c", "from report import sample, summary; print(summary(sample(), 'region'))"]
FROM boxsnake-bench/tools-and-backend:1 AS application
COPY pyproject.toml README.md /src/
COPY src /src/src
RUN /t/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation --target /opt/app /src
FROM environment AS copied
COPY src /opt/app
FROM environment AS installed
COPY --from=application /opt/app /opt/app
"""
TOOLS = """
FROM {python}
COPY tools /tools
RUN python3 -m venv /t && /t/bin/python -m pip install --quiet --no-index --find-links /tools py-rattler hatchling
"""
TAG = "boxsnake-bench/report"
BUILDKIT = {"DOCKER_BUILDKIT": "1"}
# Debian's own client has BuildKit built in; a newer one on PATH may lack its plug-in.
DOCKER = shutil.which("docker", path=f"/usr/bin{os.pathsep}{os.environ['PATH']}") or "docker"


def prepare(application: Path, scratch: Path) -> Path:
    """The peer's context, and the image with its tools."""
    facts = json.loads(run(sys.executable, ROOT / "tests" / "bench_context.py", application, scratch, cwd=ROOT))
    tools, context = scratch / "tools", scratch / "context"
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--dest",
        tools / "tools",
        "py-rattler",
        "hatchling>=1.27,<2",
        cwd=scratch,
    )
    (tools / "Dockerfile").write_text(TOOLS.format(**facts))
    run(DOCKER, "build", "--quiet", "--tag", "boxsnake-bench/tools-and-backend:1", ".", cwd=tools, environment=BUILDKIT)
    shutil.copytree(application / "src", context / "src")
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(application / name, context / name)
    (context / "Dockerfile").write_text(DOCKERFILE.format(**facts))
    (context / ".dockerignore").write_text("*\n!install.py\n!conda\n!house\n!src\n!pyproject.toml\n!README.md\n")
    (context / "install.py").write_text(INSTALL)
    # The application comes from its source.
    for wheel in (context / "house").rglob("report-*.whl"):
        wheel.unlink()
    return context


def edit(folder: Path) -> None:
    """One line more, which no earlier run has written: the peer's builder remembers for weeks what it has built."""
    with (folder / "src" / "report" / "__init__.py").open("a") as stream:
        stream.write(f"# {uuid4()}\n")


def build(application: Path, *more: str) -> dict[str, Any]:
    """Our image: what is told of it."""
    (made,) = json.loads(boxsnake("build", "image", "--json", *more, cwd=application))["boxes"]
    return dict(made)


def docker_build(context: Path, *more: str, target: str = "installed") -> None:
    """The peer's."""
    words = ("build", "--quiet", "--target", target, "--tag", f"{TAG}:peer", *more, ".")
    run(DOCKER, *words, cwd=context, environment=BUILDKIT)


def measure(application: Path, context: Path, scratch: Path) -> dict[str, Any]:
    """All figures."""
    store = Path(boxsnake("cache", "dir", cwd=application).strip())
    figures: dict[str, Any] = {}

    ours, theirs = partial(build, application), partial(docker_build, context)
    ours("--load")
    theirs()
    packing = []

    def edited() -> None:
        edit(application)
        packing.append(float(ours()["seconds"]))

    edits = [seconds(edited) for _ in range(RUNS)]
    figures["edit"] = [min(edits), min(packing)]
    figures["nothing"] = min(seconds(ours) for _ in range(RUNS))

    def edited_to_engine() -> None:
        edit(application)
        ours("--load")

    def peer_edited() -> None:
        edit(context)
        theirs()

    figures["engine"] = side_by_side(edited_to_engine, peer_edited)

    def copied() -> None:
        edit(context)
        theirs(target="copied")

    copied()
    figures["copied"] = min(seconds(copied) for _ in range(RUNS))
    theirs()
    figures["loaded again"] = min(seconds(lambda: ours("--load")) for _ in range(RUNS))

    def without(*kinds: str) -> None:
        for kind in kinds:
            shutil.rmtree(store / "v1" / "selectors" / kind, ignore_errors=True)
        ours()

    # The packages were never packed; or they were, and there is no layer of the groups that are wanted.
    figures["first"] = side_by_side(lambda: without(*KNOWN_OF_PACKAGES), lambda: theirs("--no-cache"))
    figures["cold"] = side_by_side(lambda: without(*KNOWN), lambda: theirs("--no-cache"))
    figures["floor"] = floor(application, scratch)
    mine = json.loads(boxsnake("build", "image", "--json", "--load", cwd=application))["loaded"][0]
    figures["size"] = [
        int(run(DOCKER, "inspect", "-f", "{{.Size}}", name, cwd=scratch)) for name in (mine, f"{TAG}:peer")
    ]

    def start(name: str) -> None:
        run(DOCKER, "run", "--rm", "--network", "none", name, cwd=scratch)

    figures["start"] = side_by_side(lambda: start(mine), lambda: start(f"{TAG}:peer"))
    return figures


def add_modules(folder: Path) -> None:
    """Make it an application of many modules, by a copy of the standard library."""
    others = (
        "site-packages",
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "lib-dynload",
        "config-*",
        "__pycache__",
    )
    ignored = shutil.ignore_patterns(*others, "*.so", "*.a")
    shutil.copytree(sysconfig.get_path("stdlib"), folder / "src" / "report" / "library", ignore=ignored)


def many_modules(application: Path, context: Path) -> list[float]:
    """An edit of an application of many modules: our image, and the peer's in its engine."""
    for folder in (application, context):
        add_modules(folder)

    def ours() -> None:
        edit(application)
        build(application)

    def theirs() -> None:
        edit(context)
        docker_build(context)

    ours()
    theirs()
    return list(side_by_side(ours, theirs))


def floor(application: Path, scratch: Path) -> float:
    """`tar | igzip | sha256sum` over the environment's tree: what no tool can do without."""
    tree = scratch / "tree"
    (image,) = (application / "dist").glob("*.image")
    for name in json.loads((image / "manifest.json").read_text())[0]["Layers"][1:]:
        with tarfile.open(image / name) as layer:
            layer.extractall(tree, filter="fully_trusted")  # noqa: S202 - what boxsnake has packed
    pipeline = ("sh", "-c", "tar --create --file - . | igzip -1 --stdout | sha256sum")
    return min(seconds(lambda: run(*pipeline, cwd=tree)) for _ in range(RUNS))


APPLICATIONS = {
    "api": ("fastapi", "uvicorn", "httpx", "sqlalchemy"),
    "charts": ("matplotlib", "pandas", "click"),
    "grpc": ("grpcio", "protobuf", "cryptography", "click"),
    "model": ("scipy", "scikit-learn", "joblib", "fastapi", "uvicorn"),
    "report": ("pandas", "openpyxl", "jinja2"),
    "scraper": ("aiohttp", "lxml", "beautifulsoup4", "requests"),
    "site": ("django", "gunicorn", "psycopg[binary]", "pillow"),
    "uploader": ("boto3", "click", "requests"),
    "web": ("flask", "gunicorn", "sqlalchemy"),
    "worker": ("celery", "redis", "sqlalchemy", "requests"),
}


def sharing(scratch: Path) -> float:
    """Of ten applications: the bytes of their different layers over those of their different packages, as archives."""
    layers: dict[tuple[str, ...], int] = {}
    packages: dict[str, int] = {}
    for name, requirements in APPLICATIONS.items():
        folder = scratch / "ten" / name
        folder.mkdir(parents=True)
        head = f'[app]\nname = "{name}"\nversion = "1.0"\n[targets.default]\nglibc = "2.36"\n'
        requires = f'[requires]\npython = "3.11.*"\npip = {json.dumps(requirements)}\n'
        (folder / "boxsnake.toml").write_text(head + requires)
        boxsnake("lock", cwd=folder)
        (lock,) = read(folder / "boxsnake.lock").targets
        found = {f"conda:{package.name}": (package.sha256, package.size) for package in lock.conda}
        found |= {f"wheel:{wheel.name}": (wheel.sha256, wheel.size or 0) for wheel in lock.wheels_over_conda}
        packages |= dict(found.values())
        for one in group(lock, application=False):
            layers[tuple(found[owner][0] for owner in one.owners)] = sum(found[owner][1] for owner in one.owners)
    return sum(layers.values()) / sum(packages.values())


def main(application: Path, scratch: Path) -> None:
    """Measure on a copy of the larger example, and remove the images again."""
    boxsnake("lock", cwd=application)
    context = prepare(application, scratch)
    figures = measure(application, context, scratch) | {"sharing": sharing(scratch)}
    figures["many modules"] = many_modules(application, context)
    run(DOCKER, "rmi", "--force", f"{TAG}:peer", cwd=scratch)
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
