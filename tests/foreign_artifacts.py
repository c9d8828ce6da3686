"""One small application in the boxes of other people's tools: rpmbuild's, dpkg-deb's, pex's, shiv's, docker's."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import zipapp
import zipfile
from dataclasses import dataclass
from pathlib import Path

from boxsnake.engine import connect
from boxsnake.hosts import image_id, load_hosts
from boxsnake.store import Store

BIN = Path(sys.executable).parent
PROGRAM = """\
import http.server, sys

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

def main():
    if "--help" in sys.argv:
        print("usage: tool")
    elif "--version" in sys.argv:
        print("tool VERSION")
    else:
        print("serving", flush=True)
        http.server.HTTPServer(("0.0.0.0", 8000), Page).serve_forever()

if __name__ == "__main__":
    main()
"""
SPEC = """\
Name: tool
Version: {version}
Release: 1
Summary: A tool
License: MIT
AutoReqProv: no
Requires: /bin/sh{requires}
%description
A tool.
%install
mkdir -p %{{buildroot}}/opt %{{buildroot}}/usr/bin %{{buildroot}}/etc/tool
tar -xf {tree} -C %{{buildroot}}/opt
ln -s /opt/tool/bin/tool %{{buildroot}}/usr/bin/tool
echo a=1 >%{{buildroot}}/etc/tool/tool.conf
%post
mkdir -p /var/lib/tool
%postun
{postun}
%files
/opt/tool
/usr/bin/tool
%dir /etc/tool
%config(noreplace) /etc/tool/tool.conf
"""
CLEARS = 'if [ "$1" = 0 ]; then rm -rf /var/lib/tool; fi'
CONTROL = "Package: tool\nVersion: {}\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: a tool\n"
CHECKS = """\
[app]
ports = [8000]

[[checks]]
name = "answers"
http = "/"
values = {status = "ok"}
"""
STARTED = 'command = ["tool"]\n'
# As constructor's installers begin.
INSTALLER = """\
#!/bin/sh
# NAME:  Tool
# VER:   1.0
# PLAT:  linux-64
exit 1
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def wheel(folder: Path, version: str = "1.0", *, requires: str = "") -> Path:
    path = folder / f"tool-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    info = f"tool-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: tool\nVersion: {version}\n" + (
        f"Requires-Dist: {requires}\n" * bool(requires)
    )
    texts = {
        "tool.py": PROGRAM.replace("VERSION", version),
        f"{info}/METADATA": about,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntool = tool:main\n",
    }
    record = "".join(f"{name},,\n" for name in (*texts, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**texts, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@dataclass(frozen=True)
class Workshop:
    """A folder in which artifacts are made, and a name of its own for images."""

    folder: Path
    image: str

    @functools.cached_property
    def _base(self) -> str:
        return image_id(connect(), Store(Store.default_root()), load_hosts()["debian-12-python"])

    def build(self, name: str, text: str) -> str:
        """An image of a Dockerfile: its name."""
        tag = f"{self.image}:{name}"
        path = self.folder / f"Dockerfile.{name}"
        path.write_text(text.replace("BASE", self._base))
        run("docker", "build", "--quiet", "--file", path, "--tag", tag, self.folder)
        return tag

    def tree(self, version: str = "1.0") -> Path:
        """A tar of /opt/tool, an environment that `venv` and pip made there."""
        archive = self.folder / f"tree-{version}.tar"
        if not archive.exists():
            wheel(self.folder / "wheels", version)
            run("docker", "rmi", "--force", f"{self.image}:{version}")
            tag = self.build(
                version,
                "FROM BASE\nCOPY wheels /wheels\n"
                "RUN python3 -m venv --without-pip /opt/tool && PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) "
                "/opt/tool/bin/python -m pip install --quiet --no-index "
                f"/wheels/tool-{version}-py3-none-any.whl\n"
                'ENTRYPOINT ["/opt/tool/bin/tool"]\n',
            )
            container = run("docker", "create", tag)
            with archive.open("wb") as out:
                subprocess.run(["docker", "cp", f"{container}:/opt/tool", "-"], stdout=out, check=True)
            run("docker", "rm", container)
        return archive

    def rpm(
        self, version: str = "1.0", *, of: str = "", requires: str = "", postun: str = CLEARS, name: str = "good"
    ) -> Path:
        """A package of this version, which holds the program of another one where `of` names that."""
        top = self.folder / f"rpm-{name}-{version}"
        top.mkdir()
        spec = top / "tool.spec"
        spec.write_text(
            SPEC.format(
                version=version, tree=self.tree(of or version), postun=postun, requires=requires and f", {requires}"
            )
        )
        options = (f"_topdir {top}", "_build_id_links none", "__os_install_post true", "_binary_payload w1.gzdio")
        run("rpmbuild", "-bb", "--quiet", *(word for one in options for word in ("--define", one)), spec)
        (made,) = top.glob("RPMS/*/*.rpm")
        return made

    def deb(self) -> Path:
        root = self.folder / "deb"
        for path in ("DEBIAN", "opt", "usr/bin", "usr/share/doc/tool"):
            (root / path).mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(CONTROL.format("1.0"))
        (root / "usr/share/doc/tool/README").write_text("a tool\n")
        run("tar", "-xf", self.tree(), "-C", root / "opt")
        (root / "usr/bin/tool").symlink_to("/opt/tool/bin/tool")
        made = self.folder / "tool_1.0_amd64.deb"
        run("dpkg-deb", "-Zgzip", "--root-owner-group", "--build", root, made)
        return made

    def pex(self, *options: str, name: str = "tool.pex") -> Path:
        made = self.folder / name
        run(BIN / "pex", "--no-index", wheel(self.folder / "wheels"), "-c", "tool", "-o", made, *options)
        return made

    def shiv(self) -> Path:
        made = self.folder / "tool.pyz"
        run(
            BIN / "shiv",
            "--quiet",
            "-c",
            "tool",
            "-o",
            made,
            "-p",
            "/usr/bin/env python3",
            wheel(self.folder / "wheels"),
        )
        return made

    def zipapp(self) -> Path:
        source = self.folder / "zipapp"
        source.mkdir()
        (source / "__main__.py").write_text(PROGRAM)
        made = self.folder / "plain.pyz"
        zipapp.create_archive(source, made, interpreter="/usr/bin/env python3")
        return made

    def house(self) -> Path:
        folder = self.folder / "house"
        wheel(folder)
        return folder

    def archive(self) -> Path:
        """A compressed tar with paths from the root on."""
        root = self.folder / "root"
        (root / "opt").mkdir(parents=True)
        run("tar", "-xf", self.tree(), "-C", root / "opt")
        made = self.folder / "tool.tar.xz"
        run("tar", "-C", root, "-cJf", made, "opt")
        return made

    def installer(self) -> Path:
        made = self.folder / "Tool-1.0-Linux-x86_64.sh"
        made.write_text(INSTALLER)
        return made

    def program(self) -> str:
        """An image of one program, without a shell, a C library or a Python: its name."""
        source = self.folder / "hello.c"
        source.write_text(
            "#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) "
            '{ puts("hello"); fflush(stdout); if (c < 2) pause(); return 0; }\n'
        )
        run("gcc", "-static", "-o", self.folder / "hello", source)
        return self.build("hello", 'FROM scratch\nCOPY hello /hello\nENTRYPOINT ["/hello"]\n')

    def layout(self) -> Path:
        """The application's image as an OCI layout, which skopeo makes of what docker saves."""
        self.tree()
        archive, layout = self.folder / "image.tar", self.folder / "layout"
        run("docker", "save", "--output", archive, f"{self.image}:1.0")
        run("skopeo", "copy", "--quiet", f"docker-archive:{archive}", f"oci:{layout}:1.0")
        return layout

    def remove(self) -> None:
        for tag in run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", self.image).split():
            run("docker", "rmi", "--force", tag)
        shutil.rmtree(self.folder)
