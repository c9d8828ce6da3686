"""Plans for debs of the small trees of `tests/rpm_trees.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boxsnake.packagers.deb import PACKAGER, DebOptions
from boxsnake.plan import Hook, Plan
from tests import rpm_trees


def plan_for(
    version: str = "1.0.0",
    *,
    hooks: tuple[Hook, ...] = (),
    requires: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
    **application: Any,
) -> Plan:
    plan = rpm_trees.plan_for(version, hooks=hooks, **application)
    return dataclasses.replace(plan, options=DebOptions.decoded(options or {}), requires_deb=requires)


def build(plan: Plan, folder: Path) -> Path:
    """The plan's deb, in `folder`."""
    return rpm_trees.build(plan, folder, PACKAGER)
