"""Paths of a conda package's scripts: those that an installer runs, and those that activating an environment does."""

from __future__ import annotations

from boxsnake.pattern import pattern

LINK_SCRIPT = pattern(r"(?:bin/\.|Scripts/\.)[^/]+-(?:pre-link|post-link|pre-unlink)\.(?:sh|bat)")
ACTIVATION_SCRIPT = pattern(r"etc/conda/(?:de)?activate\.d/[^/]+")
