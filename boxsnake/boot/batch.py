"""Several jobs for one start of a box's own interpreter: a start takes longer than most jobs do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from boxsnake.boot.box import Box, NotPassedError, probe_in_turn

Job = Mapping[str, Any]


class Batch:
    """Jobs that are done in turn when the facts of the first of them are asked for.

    `move` takes the seconds that the step which is being taken shall be told to have lasted longer (or shorter): what
    a job took counts for the step that asks for its facts, whichever had it done.
    """

    def __init__(self, box: Box, move: Callable[[float], None]) -> None:
        self._box = box
        self._move = move
        self._asked: list[tuple[Callable[[], Job | None], float]] = []
        self._told: dict[int, dict[str, Any] | NotPassedError] | None = None
        self._uncounted: dict[int, float] = {}

    def add(self, make: Callable[[], Job | None], seconds: float) -> Callable[[], dict[str, Any]]:
        """Add a job that takes at most so long; it is made when the first is wanted. What gives its facts.

        Where there is nothing to do (None), there are no facts either. What `make` raises as NotPassedError, and why
        there are no facts, is raised for whoever asks for them.
        """
        index = len(self._asked)
        self._asked.append((make, seconds))
        return lambda: self._facts(index)

    def _facts(self, index: int) -> dict[str, Any]:
        if self._told is None:
            self._told = self._done()
            self._move(-sum(self._uncounted.values()))
        self._move(self._uncounted.pop(index, 0.0))
        found = self._told[index]
        if isinstance(found, NotPassedError):
            raise found
        return found

    def _done(self) -> dict[int, dict[str, Any] | NotPassedError]:
        found: dict[int, dict[str, Any] | NotPassedError] = {}
        jobs: dict[int, Job] = {}
        for index, (make, _) in enumerate(self._asked):
            try:
                job = make()
            except NotPassedError as reason:
                found[index] = reason
                continue
            if job is None:
                found[index] = {}
            else:
                jobs[index] = job
        limit = sum(seconds for _, seconds in self._asked)
        if jobs:
            told, why = probe_in_turn(self._box, [*jobs.values()], limit)
            found |= {index: told.get(number, why) for number, index in enumerate(jobs)}
            took = {index: told[number]["took"] for number, index in enumerate(jobs) if number in told}
            self._uncounted = took
        return found
