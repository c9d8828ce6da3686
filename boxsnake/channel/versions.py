"""Debian's package versions (deb-version(7)) as conda wants them."""

from __future__ import annotations

import re


def upstream_version(version: str) -> str:
    """Upstream's part: `1:1.2.13.dfsg-1` is `1.2.13`, `20250419~deb12u2` is `20250419`.

    What Debian repacked (`+dfsg`, `+ds`, `~rc1+git…`) is not part of it; `1.3.dfsg+really1.3.1-1` is `1.3.1`.
    """
    text = version.partition(":")[2] or version
    text = text.rpartition("-")[0] or text
    text = text.partition("+really")[2] or text
    return re.split(r"[+~]|\.dfsg|\.ds", text)[0]


def build_number(version: str) -> int:
    """How often Debian updated a released version: `3.0.17-1~deb12u2` is 2, so that updates win over what they mend."""
    update = re.search(r"[+~]deb\d+u(\d+)$", version)
    return int(update[1]) if update else 0
