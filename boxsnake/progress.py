"""Progress that verbs report and the command line draws; nothing is drawn unless somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Advance = Callable[[int], None]
Listener = Callable[[str, int | None], AbstractContextManager[Advance]]


def _silent(_label: str, _total: int | None) -> AbstractContextManager[Advance]:
    return nullcontext(lambda _amount: None)


_listener: Listener = _silent


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` draw all progress of this process until the end of the block.

    One listener for the process and not one for each thread: downloads report from worker threads.
    """
    global _listener  # noqa: PLW0603 - the one place where the process' listener is kept
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def track(label: str, total: int | None = None) -> AbstractContextManager[Advance]:
    """Announce a piece of work of `total` units (None: unknown); the block's value tells how many are done.

    >>> with track("fetch", 3) as advance:
    ...     advance(3)
    """
    return _listener(label, total)
