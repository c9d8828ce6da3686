"""`boxsnake channel`: conda channels of one's own, from recipes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size

DEFAULT_RECIPES, DEFAULT_CHANNEL = Path("recipes"), Path("build/channel")


@click.group()
def command() -> None:
    """Build a conda channel from recipes."""


@command.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[RECIPE-FOLDER]...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=DEFAULT_CHANNEL,
    show_default=True,
    help="The channel's folder.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Build this recipe and what its build needs. Repeatable.")
@click.option("--with", "optional", multiple=True, metavar="NAME", help="Build this optional recipe too. Repeatable.")
@click.option("--platform", type=click.Choice(["linux-64", "linux-aarch64"]), help="Build for this one, not your own.")
@click.option("--refresh", is_flag=True, help="Ask apt and pip for newer sources.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def build(
    context: click.Context,
    folders: tuple[Path, ...],
    output: Path,
    only: tuple[str, ...],
    optional: tuple[str, ...],
    platform: str | None,
    refresh: bool,
    as_json: bool,
) -> None:
    """Build recipes into a channel: those below RECIPE-FOLDER (recipes), as far as they changed.

    A folder with recipe.yaml (the v1 format) is built by py-rattler-build, one with meta.yaml by conda-build where that
    is installed.
    """
    from boxsnake.channel.build import Built
    from boxsnake.channel.build import build as build_channel
    from boxsnake.channel.platforms import own_platform
    from boxsnake.store import Store

    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())

    def say(result: Built) -> None:
        for package in result.packages:
            what = f"{package.name} {package.version}-{package.build}"
            verb = "unchanged" if result.seconds is None else "built"
            time = "" if result.seconds is None else f"  {result.seconds:.1f} s"
            console.say(f"{verb:<9}  {what:<44}  {package.subdir:<9} {human_size(package.size):>9}{time}")

    with console.progress():
        results = build_channel(
            folders or (DEFAULT_RECIPES,),
            output,
            cache=store.cache_folder("recipes"),
            only=only,
            optional=optional,
            platform=platform or own_platform(),
            refresh=refresh,
            report=say,
        )
    console.say(f"channel    {output.absolute()}")
    console.result(lambda: {"channel": str(output.absolute()), "recipes": [asdict(result) for result in results]})


@command.command("list")
@click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_CHANNEL)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def list_packages(context: click.Context, folder: Path, as_json: bool) -> None:
    """List the packages of a channel's FOLDER (build/channel)."""
    from boxsnake.channel.folder import packages_of

    console = console_of(context, as_json=as_json)
    packages = packages_of(folder)
    for package in packages:
        what = f"{package.name} {package.version}-{package.build}"
        console.say(f"{what:<50}  {package.subdir:<9} {human_size(package.size):>9}")
    console.result(lambda: {"channel": str(folder.absolute()), "packages": [vars(package) for package in packages]})
