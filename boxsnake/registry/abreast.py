"""Several requests to one registry at once, up to the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from boxsnake.registry.conversation import Registry

_AT_ONCE = 5

_Result = TypeVar("_Result")


def abreast(registry: Registry, work: Iterable[Callable[[], _Result]]) -> list[_Result]:
    """The results, in order. After the first error the rest is stopped and that error raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        started = [pool.submit(one) for one in work]
        try:
            return [one.result() for one in started]
        except BaseException:
            registry.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
