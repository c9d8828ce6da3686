"""Paths of a conda package's scripts: those that an installer runs, and those that activating an environment does."""

from __future__ import annotations

import re

LINK_SCRIPT = re.compile(r"(?:bin/\.|Scripts/\.)[^/]+-(?:pre-link|post-link|pre-unlink)\.(?:sh|bat)")
ACTIVATION_SCRIPT = re.compile(r"etc/conda/(?:de)?activate\.d/[^/]+")
