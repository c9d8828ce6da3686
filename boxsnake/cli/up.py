"""`boxsnake up`: the artifact and its services, left running."""

from __future__ import annotations

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.stack import Asked, Screen, about_stacks, in_engine, prepare, show_urls, terms_of


@click.command(
    epilog="What is up for this manifest is replaced. `boxsnake ps` shows it, `logs` what it says, `down` removes it."
)
@about_stacks
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, asked: Asked, as_json: bool) -> None:
    """Start BOX (the image) and its services as `run` does, wait until they are ready, and leave them running."""
    from boxsnake.engine import connect
    from boxsnake.engine.owner import RUN_LABEL
    from boxsnake.stack.running import image_name, remove, stack_labels, start

    console = console_of(context, as_json=as_json)
    with console.progress():
        prepared = prepare(asked)
        engine = connect()
    screen = Screen(console, tuple(unit.name for unit in prepared.stack.units))
    with in_engine(engine, prepared, asked) as (stack, image):
        remove(engine, stack.id)
        labels = {RUN_LABEL: engine.run, **stack_labels(stack)}
        try:
            running = start(engine, stack, terms_of(prepared, image, labels, screen.note))
            engine.tag(image(), image_name(stack.id))
        except BaseException:
            engine.remove_labelled(RUN_LABEL, engine.run)
            engine.remove_image(image_name(stack.id))
            raise
    show_urls(console, running)
    console.result(lambda: {"urls": [{"unit": unit, "url": url} for unit, url in running.urls()]})
