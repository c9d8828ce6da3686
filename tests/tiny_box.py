"""A tiny box that is installed by a script, to be broken in every way that the boot harness has to find."""

from __future__ import annotations

from pathlib import Path

from boxsnake.boot_recipe import BootRecipe, Check, Expected
from boxsnake.boot_report.value import BootReport

PREFIX = "/opt/tiny"
SITE = f"{PREFIX}/lib/python3.11/site-packages"

PROGRAM = '''
"""A program that can misbehave in each way that the harness has to tell apart."""
import http.server, os, signal, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b'{"state": "up", "disks": [{"full": false}]}' if self.path == "/json" else b"well and alive")

    def log_message(self, *rest):
        pass

def serve(status=200):
    Handler.status = status
    print("listening on port 8000", flush=True)
    http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()

def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == "--help":
        print("usage: tiny")
    elif word == "--version":
        print("tiny 1.0")
    elif word == "serve":
        serve()
    elif word == "broken":
        serve(500)
    elif word == "dies":
        print("cannot open the database", file=sys.stderr)
        sys.exit(3)
    elif word == "silent":
        time.sleep(600)
    elif word == "late":
        time.sleep(1.5)
        serve()
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve()
    elif word == "shouts":
        for _ in range(200_000):
            sys.stdout.write("\\x1b[2J shouting \\x00\\n")
        sys.exit(1)
    elif word == "whoami":
        print(os.getuid(), os.environ["HOME"], os.access("/opt/tiny", os.W_OK))
    elif word == "greedy":
        hoard = [b"x" * (1 << 20) for _ in range(8192)]
        print(len(hoard))
    else:
        print("what?", file=sys.stderr)
        sys.exit(2)
'''

INSTALL = """
set -eu
# As `python3 -m venv` makes it, in a tenth of the time.
mkdir -p /opt/tiny/bin {site}
ln -s /usr/bin/python3 /opt/tiny/bin/python
printf 'home = /usr/bin\\ninclude-system-site-packages = false\\nversion = 3.11.2\\n' >/opt/tiny/pyvenv.cfg
cp -r /box/site/. {site}/
for name in tiny tiny-server; do
    printf '#!/opt/tiny/bin/python\\nfrom tiny import %s\\nraise SystemExit(%s())\\n' "$1" "$1" >/opt/tiny/bin/$name
    chmod 755 /opt/tiny/bin/$name
    shift
done
{more}
"""

ALIVE = Check(name="alive", http="/", port=8000, expect="alive", timeout=10)


def write_box(folder: Path, *, module: str = PROGRAM, install: str = "") -> Path:
    """A box that is installed by a script: a package, its metadata and two programs."""
    site = folder / "box" / "site"
    info = site / "tiny-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "tiny").mkdir()
    (site / "tiny" / "__init__.py").write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\ntiny = tiny:main\n")
    (info / "RECORD").write_text("tiny/__init__.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/RECORD,,\n")
    (folder / "box" / "install.sh").write_text(INSTALL.format(site=SITE, more=install))
    return folder / "box"


def recipe_for(box: Path, *command: str) -> BootRecipe:
    return BootRecipe(
        host="debian-12-python",
        copies=((str(box), "/box"),),
        install=(("sh", "/box/install.sh", "main", "serve"),),
        python=(f"{PREFIX}/bin/python",),
        scripts=f"{PREFIX}/bin",
        command=(f"{PREFIX}/bin/tiny", *command),
        remove=(("rm", "-rf", PREFIX),),
        writes=(PREFIX,),
        remains=(),
        expects=Expected(distributions=(("tiny", "1.0"),), conda=(), console_scripts=("tiny",)),
    )


def outcomes(report: BootReport) -> dict[str, str]:
    return {step.name: step.outcome for step in report.steps}


def failure(report: BootReport) -> tuple[str, str]:
    assert report.failure is not None, report.steps
    return report.failure.name, report.failure.detail
