"""Write the tables of README.md that are made from the code, between their markers."""

from __future__ import annotations

import re
from pathlib import Path

from boxsnake import errors
from boxsnake.packagers import packagers

README = Path(__file__).parent.parent / "README.md"


def formats() -> str:
    """The table of formats."""
    rows = [f"| `{packager.name}` | {packager.summary} |" for packager in packagers().values()]
    return "\n".join(["| format | what it is |", "|---|---|", *rows])


def exit_codes() -> str:
    """The table of exit codes."""
    classes = sorted(errors.BoxsnakeError.__subclasses__(), key=lambda kind: kind.exit_code)
    rows = [(0, "fine")]
    rows += [(kind.exit_code, (kind.__doc__ or "").splitlines()[0].rstrip(".")) for kind in classes]
    rows += [(70, "A fault of boxsnake's own, with a traceback"), (130, "Interrupted"), (143, "Terminated")]
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in rows)])


def written(text: str) -> str:
    """The README with its tables as the code has them."""
    for name, table in (("formats", formats()), ("exit-codes", exit_codes())):
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marked.sub(lambda found, table=table: f"{found.group(1)}{table}\n{found.group(2)}", text)
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
