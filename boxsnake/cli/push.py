"""Pushing images, as `publish image`, `build --push` and `rebase` do it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.cli.console import Console
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from boxsnake.boxes import Box, Workspace
    from boxsnake.image.layout import LaidOut
    from boxsnake.reference import Reference
    from boxsnake.registry import Registries
    from boxsnake.registry.course import Course
    from boxsnake.registry.push import Pushed


def usual_registries() -> Registries:
    """How this user reaches registries, where no manifest has a say."""
    from boxsnake import settings
    from boxsnake.credentials import Credentials
    from boxsnake.registry import Registries

    configured = settings.load()
    return Registries.of(configured, Credentials.from_environment(settings=configured.credentials))


class BuildPush:
    """The push of the images that a build makes. The blobs of a single one go while it is still laid out."""

    def __init__(self, workspace: Workspace, images: Sequence[Box], course: Course, until: ExitStack) -> None:
        """What has begun ends with `until`, if nothing else has ended it."""
        self._store = workspace.store
        self._registries = workspace.access.registries
        self._images = images
        self._course = course
        pool = until.enter_context(ThreadPoolExecutor(1, thread_name_prefix="push"))
        until.callback(course.end)
        self._pushed = pool.submit(self._push)

    def _push(self) -> list[Pushed]:
        self._course.await_expectation()
        from boxsnake.registry.push import push_along  # not before anything else that is needed earlier

        return push_along(self._store, self._registries, self._places, self._course)

    def begin(self, image: LaidOut) -> None:
        """Send what is in the store. Of several images, what names them is known when all are there: not before."""
        from boxsnake.image.layout import StoredImages

        if len(self._images) == 1:
            # A blob that the store has lost is missed where it is read.
            name = str(self._images[0].path)
            self._course.give([StoredImages(name=name, images=(image,), store=self._store, bring=lambda _: None)])

    def finish(self, console: Console) -> list[Pushed]:
        """Write the tags, once all is made, and say so."""
        from boxsnake.image.layout import Layout

        if not self._course.has_images:
            self._course.give([Layout(box.path) for box in self._images])
        self._course.allow()
        pushed = self._pushed.result()
        tell_pushed(console, pushed)
        return pushed

    @property
    def _places(self) -> Sequence[Reference]:
        from boxsnake.image.configuration import tags_of
        from boxsnake.registry.destinations import where_to

        return where_to(self._registries, [tag for box in self._images for tag in tags_of(box.plan)])


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
