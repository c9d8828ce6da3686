"""Compare the distributions that the image's interpreter finds with those that it was made of.

Lies in images, at `.boxsnake/selfcheck.py`, beside the list.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import distributions
from pathlib import Path


def main() -> int:
    """Say what differs; 1 if anything does, else 0."""
    meant = json.loads((Path(__file__).parent / "box.json").read_text(encoding="utf-8"))["distributions"]
    wanted = {(name, version) for name, version in meant}
    found = {(re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), one.version) for one in distributions()}
    for name, version in sorted(wanted - found):
        sys.stdout.write(f"{name} {version} is missing\n")
    for name, version in sorted(found - wanted):
        sys.stdout.write(f"{name} {version} should not be there\n")
    if wanted == found:
        sys.stdout.write(f"{len(found)} distributions, as they should be\n")
    return int(wanted != found)


if __name__ == "__main__":
    sys.exit(main())
