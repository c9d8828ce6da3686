"""`boxsnake shell`: a prompt in the box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from boxsnake.cli.stack import Asked, about_stacks

if TYPE_CHECKING:
    from boxsnake.cli.stack import Prepared
    from boxsnake.engine import Engine

_LOOK_SECONDS = 20.0


@click.command(
    epilog="Where `run` or `up` has started the application, the prompt is in that very container; else in one of the "
    "same image, without services and without a network, which is removed afterwards. Images without a shell have "
    "Python's prompt."
)
@about_stacks
@click.option("--python", "is_python", is_flag=True, help="Python's prompt, with everything that the box has.")
@click.pass_context
def command(context: click.Context, asked: Asked, is_python: bool) -> None:
    """Open a shell, or a Python prompt, in the box."""
    from boxsnake.cli.console import console_of
    from boxsnake.engine import connect
    from boxsnake.stack.running import KIND_LABEL, STACK_LABEL

    console = console_of(context)
    with console.progress():
        prepared = prepare_without_secrets(asked)
        engine = connect()
    up = [one for one in engine.labelled(STACK_LABEL, prepared.stack.id) if one.labels[KIND_LABEL] == "application"]
    if up and up[0].state == "running":
        context.exit(_enter(engine, up[0].id, prepared, is_python=is_python))
    context.exit(_alone(engine, prepared, is_python=is_python, offline=asked.offline))


def prepare_without_secrets(asked: Asked) -> Prepared:
    """A shell in a container that is there needs none, and one by itself has nobody to hand them over."""
    from boxsnake.cli.stack import prepare

    return prepare(asked, secrets=False)


def _alone(engine: Engine, prepared: Prepared, *, is_python: bool, offline: bool) -> int:
    """In a container of its own."""
    from boxsnake.cli.stack import image_of
    from boxsnake.engine import sleeper

    unit = prepared.stack.application
    with (
        image_of(engine, prepared, offline=offline) as identity,
        engine.container(
            identity,
            sleep=sleeper(prepared.python),
            user=unit.user,
            environment=dict(unit.environment),
            read_only=unit.read_only,
            mounts=unit.mounts,
        ) as container,
    ):
        return _enter(engine, container.id, prepared, is_python=is_python)


def _enter(engine: Engine, identity: str, prepared: Prepared, *, is_python: bool) -> int:
    from boxsnake.cli.exec import talk

    has_shell = engine.attached(identity).execute(["sh", "-c", ":"], seconds=_LOOK_SECONDS).exit_code == 0
    words = prepared.python if is_python or not has_shell else ("sh",)
    return talk(engine, identity, words)
