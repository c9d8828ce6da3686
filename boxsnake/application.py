"""The application as plans have it: what the manifest says and what its wheel does, its checks among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.boot_recipe import BootRules, Check
from boxsnake.errors import Fault, ManifestError, PackError
from boxsnake.lock import TargetLock
from boxsnake.manifest import BootTable, CheckTable
from boxsnake.manifest.text import byte_count
from boxsnake.materials import Access
from boxsnake.plain_text import escaped
from boxsnake.plan import Application
from boxsnake.project import BuiltWheel, build_wheel, parse_source
from boxsnake.project.wheel_archive import is_portable
from boxsnake.store import Store

if TYPE_CHECKING:
    from boxsnake.asked import Asked


def describe(
    asked: Asked,
    store: Store,
    access: Access,
    target_lock: TargetLock,
    *,
    without: Path,
    meanwhile: Callable[[], None] | None = None,
) -> Application:
    """The application as formats describe it; its wheel is built here, unless the store has it.

    What the manifest leaves out is taken from the wheel's metadata. `without` is a folder that is no part of the
    source: the one for artifacts. Errors: ManifestError, and those of `boxsnake.project.build_wheel`.
    """
    app = asked.manifest.app
    built: BuiltWheel | None = None
    if app.source is not None:
        built = build_wheel(
            store,
            parse_source(app.source, asked.root),
            python=target_lock.python_minor,
            environment=access.index,
            credentials=access.credentials,
            without=[without],
            offline=access.offline,
            meanwhile=meanwhile,
        )
        _check_fit(built, target_lock)
    version = app.version or (built.version if built else None)
    if version is None:
        fault = Fault(source="manifest", line=0, key="app.version", message="is needed where app.source is left out")
        raise ManifestError("manifest", (fault,))
    scripts = built.console_scripts if built else ()
    return Application(
        name=app.name,
        version=version,
        command=app.command or scripts[:1],
        commands=tuple(sorted(app.commands.items())),
        ports=app.ports,
        environment=tuple(sorted((dict(asked.requirements.environment) | app.environment).items())),
        summary=app.summary or (built and _line(built.summary)) or f"{app.name} {version}",
        description=app.description or "",
        license=app.license or (built and _line(built.license)) or "",
        homepage=app.homepage or (built and _line(built.homepage)) or "",
        source_page=(built and _line(built.source_page)) or "",
        documentation=(built and _line(built.documentation)) or "",
        maintainer=app.maintainer or (built and _line(built.maintainer)) or "",
        wheel=built.wheel() if built else None,
        console_scripts=scripts,
    )


def revision_of(asked: Asked, application: Application, store: Store, *, without: Path) -> str:
    """The commit of a repository, or of a project's folder that has been checked out and not been changed."""
    from boxsnake.project.git_source import clean_commit

    origin = application.wheel.origin if application.wheel else None
    if asked.manifest.app.source is None or origin is None:
        return ""
    if origin.kind != "folder":
        return origin.commit or ""
    with store.scratch("git") as scratch:
        return clean_commit(
            Path(parse_source(asked.manifest.app.source, asked.root).location), scratch, without=without
        )


def _line(text: str) -> str:
    """A text of the wheel's metadata on one line, without anything that a terminal or a page would obey."""
    return escaped(" ".join(text.split()))


def _check_fit(built: BuiltWheel, target_lock: TargetLock) -> None:
    """The application's own wheel may be compiled: for the machine that built it, which need not be the target."""
    if is_portable(built.file_name):
        return
    from boxsnake.wheel_tags import best_fit, supported_tags

    target = target_lock.target
    if best_fit([built.file_name], supported_tags(target, target_lock.python)) is None:
        raise PackError(
            built.file_name,
            f"the application's wheel does not fit {target.platform}, Python {target_lock.python_minor}"
            + (f" and glibc {target.glibc}" if target.glibc else ""),
            "Build the wheel on such a system, name it as app.source, or leave this target out with --target.",
            target=target.name,
        )


def check_of(table: CheckTable, ports: Sequence[int]) -> Check:
    """A check of the manifest as the harness takes it; `ports` are the application's."""
    port = table.port or (ports[0] if ports else None)
    return Check(
        name=table.name,
        run=table.run,
        expect=table.expect,
        exit_code=table.exit_code,
        http=table.http,
        port=port if table.http else None,
        status=table.status,
        matches=table.matches,
        values=tuple(sorted(table.values.items())),
        requests=table.requests,
        tcp=table.tcp,
        log=table.log,
        file=table.file,
        timeout=table.timeout,
    )


def rules_of(table: BootTable) -> BootRules:
    """What the manifest says of boots, as the harness takes it."""
    return BootRules(
        exempt=table.skip,
        optional_libraries=table.optional_libraries,
        start_seconds=table.start_seconds,
        memory=byte_count(table.memory) if table.memory else None,
    )
