"""Which runtime boots are carried out in: the one that is named, or the first that this machine has."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxsnake import engine, settings
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot.in_sandbox import InSandbox
from boxsnake.boot.runtime import Runtime
from boxsnake.errors import EngineError
from boxsnake.store import Store


def runtime_of(name: str | None, store: Store, environment: Mapping[str, str] | None = None) -> Runtime:
    """The runtime of this name, one of `settings.RUNTIMES`; None is what BOXSNAKE_RUNTIME or the settings name.

    "auto" is an engine, and the sandbox where there is none: not where one is named by DOCKER_HOST, or is there and
    does not answer. Errors: EngineError where it is not to be had; UsageError, ManifestError.
    """
    variables = os.environ if environment is None else environment
    name = name or settings.runtime(variables)
    if name == "sandbox":
        return _sandbox(store)
    try:
        return InEngine(engine.connect(variables, kind=name if name in engine.KINDS else ""))
    except EngineError as error:
        if name != "auto" or not _is_absent(error, variables):
            raise
        try:
            return _sandbox(store)
        except EngineError as further:
            cause = f"{error.cause}; and no sandbox: {further.cause}"
            raise EngineError(error.thing, cause, f"{error.next_step} {further.next_step}", **error.data) from further


def _is_absent(error: EngineError, environment: Mapping[str, str]) -> bool:
    """Whether there is no engine for us, rather than one that is ill."""
    tried = error.data.get("tried")
    if environment.get("DOCKER_HOST") or not isinstance(tried, list):
        return False
    return all(place["state"] in {"absent", "refused"} for place in tried)


def _sandbox(store: Store) -> InSandbox:
    found = InSandbox(store)
    found.check()
    return found
