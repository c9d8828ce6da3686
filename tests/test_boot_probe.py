"""The script that runs inside boxes, tried with this machine's own interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from boxsnake.boot import probe as boot_probe
from boxsnake.boot.box import modules_of

SOURCE = Path(boot_probe.__file__).read_text(encoding="utf-8")
LOOK = {"modules": modules_of("elf", "boot.files"), "roots": [], "stock": [], "traces": [], "seconds_to_look": 60}
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def probe(job: dict[str, Any], python: str = sys.executable, folder: Path | None = None) -> dict[str, Any]:
    (facts,) = probe_in_turn([job], python, folder)
    return facts


def probe_in_turn(
    jobs: list[dict[str, Any]], python: str = sys.executable, folder: Path | None = None
) -> list[dict[str, Any]]:
    around = {"nonce": "NONCE", "environment": ENVIRONMENT, "folder": "/", "seconds": 20, **LOOK}
    text = json.dumps({**around, "jobs": jobs})
    done = subprocess.run([python, "-c", SOURCE, text], capture_output=True, text=True, cwd=folder, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("NONCE ")]
    assert lines, done.stderr
    told = [json.loads(line.removeprefix("NONCE ")) for line in lines]
    assert [number for number, _ in told] == [*range(len(jobs))]
    return [facts for _, facts in told]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("env")
    venv.create(prefix, symlinks=True, with_pip=False)
    return prefix / "bin" / "python"


def install(python: Path, name: str, files: dict[str, str]) -> None:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    info = f"{name}-1.0.dist-info"
    files = {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", **files}
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    (site / info / "RECORD").write_text("".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


def imports(facts: dict[str, Any]) -> dict[str, int | None]:
    return {found["name"]: found["code"] for found in facts["imports"]}


def test_packages_modules_and_namespaces_are_found_and_imported(python: Path) -> None:
    install(
        python,
        "many",
        {
            "package/__init__.py": "",
            "package/inner.py": "raise RuntimeError('only the top is imported')",
            "single.py": "import package",
            "space/one/__init__.py": "",
            "space/one/deep/__init__.py": "raise RuntimeError('only the top is imported')",
            "data/picture.txt": "",
            "package.libs/libfoo-1.so": "",
            "namespace/only.py": "",
            "no-module/x.py": "",
            "many-1.0.dist-info/entry_points.txt": "[console_scripts]\none = single:main\nmore = single:main [extra]\n",
            "leaves.py": "import sys; sys.exit(0)",
            "crashes.py": "import os; os.kill(os.getpid(), 11)",
            "wrong.py": "import not_there",
        },
    )
    facts = probe({"do": "inspect", "exempt": ["leaves"]}, str(python))
    assert imports(facts) == {"package": 0, "single": 0, "space.one": 0, "namespace": 0, "wrong": 1, "crashes": None}
    by_name = {found["name"]: found for found in facts["imports"]}
    assert "No module named 'not_there'" in by_name["wrong"]["output"]
    assert by_name["crashes"]["signal"] == "SIGSEGV"
    assert facts["programs"] == [["one", "single"]]
    assert [found[:2] for found in facts["distributions"]] == [["many", "1.0"]]


def test_the_current_folder_is_no_part_of_the_box(python: Path, tmp_path: Path) -> None:
    (tmp_path / "stray-2.0.dist-info").mkdir()
    (tmp_path / "stray-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 2.0\n")
    facts = probe({"do": "inspect", "exempt": []}, str(python), tmp_path)
    assert "stray" not in {name for name, _, _ in facts["distributions"]}


def test_conda_records_are_told_by_their_names(python: Path) -> None:
    folder = python.parent.parent / "conda-meta"
    folder.mkdir(exist_ok=True)
    for name in ("history", "ca-certificates-2024.7.4-h0_1.json", "zlib-1.3-0.json"):
        (folder / name).write_text("{}")
    facts = probe({"do": "inspect", "exempt": []}, str(python))
    assert facts["conda"] == [["ca-certificates", "2024.7.4", "h0_1"], ["zlib", "1.3", "0"]]


def script(tmp_path: Path, name: str, text: str) -> tuple[str, bool]:
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o755)
    return name, True


def test_programs_are_started_with_the_jobs_environment_alone(tmp_path: Path) -> None:
    scripts = [
        script(tmp_path, "env", "#!/bin/sh\nenv; pwd; exit 4"),
        script(tmp_path, "waits", "#!/bin/sh\nsleep 30"),
        script(tmp_path, "lost", "#!/no/such/python\n"),
        ("absent", True),
        ("called", False),
        script(tmp_path, "loud", "#!/bin/sh\nyes | head -c 3000000; echo the end; exit 1"),
        script(tmp_path, "well", "#!/bin/sh\necho a long help"),
    ]
    environment = {"PATH": "/usr/bin:/bin", "ONLY": "this"}
    launcher = ["/bin/sh", "-c", "echo called as $0 $1; exit 3"]
    job = {"do": "scripts", "programs": str(tmp_path), "launcher": launcher, "scripts": scripts}
    facts = probe({**job, "environment": environment, "folder": "/usr"})
    env, waits, lost, absent, called, loud, well = facts["scripts"]
    assert env["code"] == 4
    assert {"ONLY=this", "/usr"} <= set(env["output"].split())
    assert "HOME" not in env["output"]
    assert (waits["late"], waits["code"]) == (True, None)
    assert waits["seconds"] < 20
    assert (lost["code"], "/no/such/python" in lost["output"]) == (127, True)
    assert (absent["code"], f"cannot start {tmp_path}/absent" in absent["output"]) == (127, True)
    assert called["output"] == "called as called --help\n"
    assert (loud["output"].endswith("y\nthe end\n"), loud["cut"] > 2_900_000) == (True, True)
    assert (well["code"], well["output"]) == (0, "")


def test_jobs_are_done_in_turn_and_each_tells_its_time(tmp_path: Path) -> None:
    path = tmp_path / "written"
    writes = {"do": "run", "argv": ["/bin/sh", "-c", f"sleep 0.2; echo something >{path}"]}
    wrote, read = probe_in_turn([writes, {"do": "read", "path": str(path)}])
    assert (wrote["ran"]["code"], read["text"]) == (0, "something\n")
    assert wrote["took"] >= 0.2


def test_nothing_that_a_program_started_survives_it(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    stays = script(tmp_path, "s", f"#!/bin/sh\nsleep 300 & echo $! >{pids}; wait")
    facts = probe({"do": "scripts", "programs": str(tmp_path), "launcher": [], "scripts": [stays]})
    assert facts["scripts"][0]["late"]
    state = Path(f"/proc/{pids.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
