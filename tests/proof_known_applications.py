"""No false alarm: well-known applications of the package index are boxed and booted, and nothing is found.

Takes minutes and the index's newest versions, so it is no part of the tests: `make proof`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxsnake.boot_report.value import CHECK

FORMATS = ("image", "pex", "rpm", "wheelhouse")
SMOKE = {"packages", "requirements", "files", "imports", "entry points"}
"""What every box is asked, whatever its check is."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """What is asked of the index, what starts it, and its check as TOML."""

    pip: tuple[str, ...]
    check: str
    command: tuple[str, ...] = ()


def _says(expect: str, *command: str) -> str:
    return f'name = "says {expect}"\nrun = {json.dumps(command)}\nexpect = {json.dumps(expect)}\n'


def _prints(expect: str, *script: str) -> str:
    return _says(expect, "python", "-c", "\n".join(script))


def _answers(path: str, status: int) -> str:
    return f'name = "answers"\nhttp = "{path}"\nport = 8000\nstatus = {status}\n'


KNOWN = {
    "httpie": Application(pip=("httpie",), check=_says("usage:", "http", "--help")),
    "black": Application(pip=("black",), check=_says("x = 1", "black", "--quiet", "--code", "x=1")),
    "mkdocs": Application(
        pip=("mkdocs",),
        check=_prints(
            "index.html",
            "import os, tempfile",
            "from mkdocs.commands import build, new",
            "from mkdocs.config import load_config",
            "os.chdir(tempfile.mkdtemp())",
            "new.new('site')",
            "build.build(load_config('site/mkdocs.yml'))",
            "print(os.listdir('site/site'))",
        ),
    ),
    "gunicorn-flask": Application(
        pip=("gunicorn", "flask"),
        command=("gunicorn", "--bind", "127.0.0.1:8000", "--worker-tmp-dir", "/tmp", "flask:Flask('none')"),
        check=_answers("/", 404),
    ),
    "celery": Application(pip=("celery[redis]",), check=_says("software", "celery", "report")),
    "sqlalchemy": Application(
        pip=("sqlalchemy",),
        check=_prints(
            "(42,)",
            "import sqlalchemy",
            "with sqlalchemy.create_engine('sqlite://').connect() as connection:",
            "    print(connection.execute(sqlalchemy.text('select 42')).one())",
        ),
    ),
    "pillow": Application(
        pip=("pillow",),
        check=_prints(
            "JPEG",
            "import io",
            "from PIL import Image",
            "file = io.BytesIO()",
            "Image.new('RGB', (9, 9)).save(file, 'JPEG')",
            "print(Image.open(file).format)",
        ),
    ),
    "lxml": Application(
        pip=("lxml",), check=_prints("<b/>", "from lxml import etree", "print(etree.tostring(etree.XML('<b></b>')))")
    ),
    "cryptography": Application(
        pip=("cryptography",),
        check=_prints(
            "secret",
            "from cryptography.fernet import Fernet",
            "box = Fernet(Fernet.generate_key())",
            "print(box.decrypt(box.encrypt(b'secret')))",
        ),
    ),
    "fastapi": Application(
        pip=("fastapi", "uvicorn"),
        command=("uvicorn", "--factory", "fastapi:FastAPI", "--port", "8000"),
        check=_answers("/openapi.json", 200),
    ),
}


def manifest(name: str, application: Application) -> str:
    """The application's manifest: requirements alone, and every format of the proof."""
    command = f"command = {json.dumps(application.command)}\n" if application.command else ""
    # The interpreter of the local channel asks for it, and hosts with a Python have it.
    options = {"pex": 'host-brings = ["libsqlite"]\n', "wheelhouse": 'host-brings = ["libsqlite"]\n'}
    boxes = "".join(f"[boxes.{form}]\n{options.get(form, '')}" for form in FORMATS)
    return (
        f'[app]\nname = "{name}"\nversion = "1.0"\n{command}'
        f'[requires]\npython = "3.11.*"\nconda = ["libsqlite"]\npip = {json.dumps(application.pip)}\n'
        f'[targets.default]\nglibc = "2.36"\n[[checks]]\n{application.check}{boxes}'
    )


def prove(name: str, folder: Path) -> bool:
    """Lock, box and boot one application, and say what was found."""
    folder.mkdir()
    (folder / "boxsnake.toml").write_text(manifest(name, KNOWN[name]), encoding="utf-8")
    started = time.monotonic()
    for verb in ("lock", "build", "boot"):
        command = [sys.executable, "-m", "boxsnake", "--quiet", verb]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            _say(f"{name}: {verb} ended with {done.returncode}\n{done.stdout}{done.stderr}")
            return False
    boots = json.loads((folder / "dist" / "boot.json").read_text(encoding="utf-8"))["boxes"]
    if missing := _untried(boots):
        _say(f"{name}: not tried: {missing}")
        return False
    image = {step["name"]: step["detail"] for step in boots[0]["steps"]}
    formats = ", ".join(boot["format"] for boot in boots)
    told = f"{image['packages']}, {image['imports']}; entry points: {image['entry points']}"
    steps = sum(len(boot["steps"]) for boot in boots)
    _say(f"{name}: no alarm in {formats} ({steps} steps, {time.monotonic() - started:.0f} s): {told}")
    return True


def _untried(boots: list[dict[str, Any]]) -> str:
    """What no success may hide: a format that was not booted, a step that was passed over."""
    absent = set(FORMATS) - {boot["format"] for boot in boots if boot["verdict"] == "passed"}
    tried = {boot["format"]: {step["name"] for step in boot["steps"] if step["outcome"] == "passed"} for boot in boots}
    gaps = [f"{one} of {form}" for form, names in tried.items() for one in sorted(SMOKE - names)]
    checks = [
        f"the check of {form}" for form, names in tried.items() if not any(name.startswith(CHECK) for name in names)
    ]
    return ", ".join([*sorted(absent), *gaps, *checks])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: list[str]) -> int:
    """Prove the applications of these names, or all: how many gave an alarm."""
    with tempfile.TemporaryDirectory(prefix="boxsnake-proof-") as folder:
        proven = [prove(name, Path(folder) / name) for name in names or KNOWN]
    _say(f"{sum(proven)} of {len(proven)} without an alarm")
    return len(proven) - sum(proven)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
