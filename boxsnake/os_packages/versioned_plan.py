"""What the packages of operating systems take from a plan alike: programs and texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boxsnake.errors import PackError
from boxsnake.plain_text import check_plain

if TYPE_CHECKING:
    from boxsnake.os_packages.versioned_layout import Layout
    from boxsnake.plan import Plan

_COMMAND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


def check_target(plan: Plan, form: str) -> None:
    """Such a package brings its own interpreter, for a Linux. Errors: PackError where the target is another."""
    target = plan.target
    if not target.is_linux:
        cause = f"is made for Linux, not for {target.platform}"
        raise PackError(f"{form} for {target.name}", cause, "Choose a Linux target for it.", platform=target.platform)
    if not any(package.name == "python" for package in plan.lock.conda):
        cause = "brings its own interpreter, and the target has none from conda"
        next_step = f'Give [targets.{target.name}] `interpreter = "conda"`, or `boxes = ["pex", "wheelhouse"]`.'
        raise PackError(f"{form} for {target.name}", cause, next_step, target=target.name)


def commands_of(plan: Plan) -> tuple[str, ...]:
    """The programs that become commands: those of the options, else the application's own console scripts."""
    chosen: tuple[str, ...] | None = plan.options.commands
    return tuple(sorted(set(plan.application.console_scripts if chosen is None else chosen)))


def started(plan: Plan, layout: Layout) -> tuple[str, ...]:
    """What starts the installed application: what the one unit that serves it runs, else its command."""
    units = [unit for unit in plan.system.units if unit.name == plan.application.name] or plan.system.units
    program, *arguments = (units[0].command if len(units) == 1 else plan.application.command) or ("",)
    if not program:
        return ()
    return (program if program.startswith("/") else f"{layout.current}/bin/{program}", *arguments)


def check_commands(plan: Plan, form: str) -> None:
    """Errors: PackError for a command that can be none."""
    for command in commands_of(plan):
        if not _COMMAND_NAME.fullmatch(command):
            cause = "is no name that can be linked into /usr/bin"
            raise PackError(f"command {command!r}", cause, f"Correct `commands` in [boxes.{form}].", command=command)


def described_text(what: str, value: str) -> str:
    """The text as it is. Errors: PackError where it holds a character that no list of packages should be given."""
    try:
        return check_plain(value.replace("\r\n", "\n"), allowed="\n\t")
    except ValueError as error:
        raise PackError(what, str(error), "Take it out.") from None


def described_line(what: str, value: str) -> str:
    """The text, without blanks around it. Errors: PackError where it has more than one line, or as above."""
    text = described_text(what, value).strip()
    if "\n" in text:
        raise PackError(what, "has more than one line", "Write it in one.")
    return text


def environment_notes(plan: Plan, form: str) -> list[str]:
    """That the package ("an RPM") sets no environment, where the application wants one."""
    if not plan.application.environment:
        return []
    names = ", ".join(name for name, _ in plan.application.environment)
    return [f"{form} sets no environment: {names} must be set by whoever starts the application"]
