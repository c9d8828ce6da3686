"""The course of a push whose images are still made: who makes them tells who pushes them how far it is."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boxsnake.image.layout import Images


class Course:
    """Three moments, in this order: new images will come; they are there; they shall be named. Or it ends before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_ended = False
        self._at_end: list[Callable[[], None]] = []
        self._is_expecting = threading.Event()
        self._images: Future[Sequence[Images]] = Future()
        self._word: Future[None] = Future()

    # Of who makes images

    def expect(self) -> None:
        """Say that new images will come: what is asked whatever they are can be asked now."""
        self._is_expecting.set()

    def give(self, layouts: Sequence[Images]) -> None:
        """Say which they are: their blobs can go. To be said once."""
        self._images.set_result(layouts)
        self.expect()

    def allow(self) -> None:
        """Have them named. To be said once."""
        self._word.set_result(None)

    def end(self) -> None:
        """Whatever has not been said is not to come any more."""
        with self._lock:
            self._has_ended = True
        self._images.cancel()
        self._word.cancel()
        self.expect()
        for act in self._at_end:
            act()

    # Of who pushes them; after the end, to wait raises concurrent.futures.CancelledError

    def at_end(self, act: Callable[[], None]) -> None:
        """Have this done at the end, or at once if that is over."""
        with self._lock:
            if not self._has_ended:
                self._at_end.append(act)
                return
        act()

    def await_expectation(self) -> None:
        """Wait until there is anything to be done."""
        self._is_expecting.wait()

    @property
    def has_images(self) -> bool:
        """Whether they are known."""
        return self._images.done()

    def images(self) -> Sequence[Images]:
        """Wait for them."""
        return self._images.result()

    def await_word(self) -> None:
        """Wait until they shall be named."""
        self._word.result()
