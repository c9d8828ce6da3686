"""Pushing images, as `publish image`, `build --push` and `rebase` do it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.cli.console import Console
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from boxsnake.registry import Registries
    from boxsnake.registry.push import Pushed


def usual_registries() -> Registries:
    """How this user reaches registries, where no manifest has a say."""
    from boxsnake import settings
    from boxsnake.credentials import Credentials
    from boxsnake.registry import Registries

    configured = settings.load()
    return Registries.of(configured, Credentials.from_environment(settings=configured.credentials))


def push_images(console: Console, files: Sequence[Path], tags: Sequence[str]) -> list[Pushed]:
    """Push image layouts under the tags, or under those that they were made for, and say so."""
    from boxsnake.errors import UsageError
    from boxsnake.image.layout import Layout
    from boxsnake.registry.destinations import where_to
    from boxsnake.registry.push import push
    from boxsnake.store import Store

    registries = usual_registries()
    layouts = [Layout(path) for path in files]
    places = where_to(registries, tags or [tag for layout in layouts for tag in layout.tags])
    if not places:
        step = "Name one, such as registry.example.org/team/name:1.0."
        raise UsageError(str(files[0]), "it was made for no tag, and none is given", step)
    pushed = push(Store(Store.default_root()), registries, layouts, places)
    tell_pushed(console, pushed)
    return pushed


def tell_pushed(console: Console, pushed: Sequence[Pushed]) -> None:
    """Say what was pushed, and what it took."""
    from boxsnake.plain_text import counted

    for one in pushed:
        console.say(f"pushed {one.reference}@{one.digest}")
        sent = f"{counted(one.uploaded, 'blob')} sent ({human_size(one.sent)})"
        console.say(f"       {sent}, {one.mounted} mounted, {one.there} there already · {', '.join(one.platforms)}")
