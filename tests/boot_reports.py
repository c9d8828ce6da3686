"""Reports of boots that never were: as large and as nasty as is asked for."""

from __future__ import annotations

from boxsnake.boot_report.value import (
    CHECK,
    MEMORY,
    START,
    Artifact,
    BootReport,
    Content,
    Layer,
    Outcome,
    Report,
    Step,
)

FORMATS = ("image", "rpm", "deb", "installer", "appimage", "pex", "wheelhouse", "conda-pack", "dockerfile", "tarball")
HOSTS = ("debian-11", "debian-12", "debian-12-python", "debian-13", "el9")
SCENARIOS = ("", "second-start", "killed-install", "read-only-root")
STEPS = (
    "start", "copy", "install", "packages", "requirements", "files", "imports", "entry points",
    f"{CHECK}answers", f"{CHECK}finds its data", "budgets", "writes", "remove", "leftovers",
)  # fmt: skip
CAUSE = "import app.db exited with 1: ModuleNotFoundError: No module named 'psycopg'"


def trial(
    format: str = "rpm",  # noqa: A002 - the report's own word
    host: str = "debian-12",
    scenario: str = "",
    *,
    fails_at: str = "",
    cause: str = CAUSE,
    log: str = "",
    start: float = 0.5,
) -> BootReport:
    """One boot of all steps, which may fail at one of them."""
    steps: list[Step] = []
    outcome: Outcome = "passed"
    for number, name in enumerate(STEPS):
        if name == fails_at:
            detail = f'{cause}\n  Traceback (most recent call last):\n  File "/opt/app/db.py", line 3'
            steps.append(Step(name=name, outcome="failed", seconds=1.5, detail=detail, log=log))
            outcome = "skipped"
            continue
        figures = {START: start, MEMORY: 31e6} if name == "budgets" and outcome == "passed" else {}
        seconds = 0.0 if outcome == "skipped" else 0.1 + number % 4 / 3
        detail = "" if outcome == "skipped" else f"{number} of what it has looked at"
        steps.append(Step(name=name, outcome=outcome, seconds=seconds, detail=detail, figures=figures))
    return BootReport(
        artifact=f"/srv/dist/hello-1.0.{format}", format=format, host=host, scenario=scenario, steps=tuple(steps)
    )


def artifact(format: str = "rpm", *, version: str = "3.11.2", packages: int = 40) -> Artifact:  # noqa: A002 - as above
    """What is in it: an image has layers."""
    layers = (
        (Layer(name="base", size=32_000_000), Layer(name="interpreter", size=20_000_000)) if format == "image" else ()
    )
    names = [layer.name for layer in layers] or [""]
    kinds = ("conda", "python", "deb")
    contents = [
        Content(
            kind=kinds[number % 3],
            name="python" if number == 0 else f"package-{number}",
            version=version if number == 0 else f"{number}.0",
            size=36_000_000 // (number + 1),
            layer=names[number % len(names)],
        )
        for number in range(packages)
    ]
    contents.append(Content(kind="", name="", version="", size=700_000, layer=names[0]))
    return Artifact(
        path=f"/srv/dist/hello-1.0.{format}",
        size=20_000_000 + len(version),
        digest=f"sha256:{'ab' * 32}",
        unpacked=sum(content.size for content in contents),
        layers=layers,
        contents=tuple(contents),
    )


def large(*, failing: int = 20, log: str = "") -> Report:
    """200 boots of ten boxes, some of which fail."""
    keys = [(one, host, scenario) for one in FORMATS for scenario in SCENARIOS for host in HOSTS]
    every = len(keys) // failing if failing else len(keys) + 1
    boxes = [
        trial(*key, fails_at="imports" if number % every == every - 1 else "", log=log, start=0.3 + number % 7 / 5)
        for number, key in enumerate(keys)
    ]
    return report(*boxes, artifacts=tuple(artifact(one) for one in FORMATS))


def report(*boxes: BootReport, artifacts: tuple[Artifact, ...] = ()) -> Report:
    """A report of these."""
    return Report(
        boxes=boxes,
        artifacts=artifacts,
        application="hello-web 1.0.0",
        started="2026-11-21T18:00:00Z",
        boxsnake="1.0.0",
        engine="Docker 26.1, amd64",
    )
