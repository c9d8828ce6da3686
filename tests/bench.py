"""Figures, printed as ratios against peers that run side by side on the same machine: `make bench`.

Each figure is the best of a few runs or the median of many, the two sides taking turns: a busy moment hits both.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
RUNS = 3
KNOWN = ("layer", "together", "apart", "artifact")
"""The kinds of selectors that lead to finished layers and images."""
KNOWN_OF_PACKAGES = (*KNOWN, "piece", "brought")
"""These, and those that lead to what single packages have in layers."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of what is timed. With that variable set, each start of a program would compile its modules anew."""


def compile_own() -> None:
    """Compile boxsnake and what it imports to byte-code, as an installation does: no run shall wait for that."""
    packages = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    command = [sys.executable, "-m", "compileall", "-q", str(ROOT / "boxsnake"), *map(str, packages)]
    subprocess.run(command, env=ENVIRONMENT, check=False)  # some packages bring sources that no Python compiles


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """A command's standard output; its failure ends the bench."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ENVIRONMENT | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(map(str, command))} left with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """The best time of each, taken in turns."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(RUNS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def row(name: str, figure: str, wanted: str, *, reached: bool) -> None:
    """One line of the table."""
    sys.stdout.write(f"{name:<44} {figure:<46} wanted {wanted:<12} {'ok' if reached else 'MISSED'}\n")
    sys.stdout.flush()


def boxsnake(*arguments: str, cwd: Path) -> str:
    """Our own command line."""
    return run(BIN / "boxsnake", *arguments, cwd=cwd)


def bench_lock(application: Path) -> None:
    """A lock with warm caches against uv's own compile of the same requirements."""
    lock = json.loads(boxsnake("lock", "--json", cwd=application))
    del lock
    requirements = application / "requirements.in"
    requirements.write_text("flask>=3\ngunicorn\nmarkupsafe\n")
    compile_command = (
        BIN / "uv", "pip", "compile", "requirements.in", "-o", "pylock.toml", "--format", "pylock.toml",
        "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36", "--quiet",
    )  # fmt: skip
    run(*compile_command, cwd=application)
    ours, theirs = side_by_side(
        lambda: boxsnake("lock", cwd=application), lambda: run(*compile_command, cwd=application)
    )
    figure = f"{ours:.2f} s, uv alone {theirs:.2f} s: {ours - theirs:+.2f} s"
    row("warm lock", figure, "<= +1.00 s", reached=ours - theirs <= 1)


def bench_unchanged(application: Path) -> None:
    """A build of all formats with nothing changed."""
    boxsnake("build", cwd=application)
    ours = min(seconds(lambda: boxsnake("build", cwd=application)) for _ in range(RUNS))
    row("build of every format, nothing changed", f"{ours:.2f} s", "<= 0.50 s", reached=ours <= 0.5)


def bench_help(application: Path) -> None:
    """`boxsnake --help`."""
    ours = min(seconds(lambda: boxsnake("--help", cwd=application)) for _ in range(RUNS))
    row("boxsnake --help", f"{ours:.2f} s", "<= 0.25 s", reached=ours <= 0.25)


INSTALL = """
import asyncio, glob, os, rattler
async def main():
    records = [await rattler.RepoDataRecord.from_package_archive(path) for path in sorted(glob.glob("/conda/*.conda"))]
    await rattler.install(records, target_prefix="/opt/env", show_progress=False)
asyncio.run(main())
os._exit(0)  # rattler's threads may crash at the interpreter's exit
"""
TOOLS = """
FROM {python}
COPY tools /tools
RUN python3 -m venv /t && /t/bin/python -m pip install --quiet --no-index --find-links /tools py-rattler
"""
DOCKERFILE = """
FROM boxsnake-bench/tools:1 AS build
COPY install.py /
COPY conda /conda
RUN /t/bin/python /install.py
COPY house /house
RUN /t/bin/python -m pip --python /opt/env/bin/python install --quiet --no-index --no-deps --require-hashes \
    --find-links /house/wheels -r /house/requirements.txt
FROM {base}
COPY --from=build /opt/env /opt/env
ENTRYPOINT ["/opt/env/bin/hello-web"]
"""


def bench_image(application: Path, scratch: Path) -> None:
    """An image out of packages that are at hand, against docker build of the same packages on the same base.

    The peer's tools are in its base image already, as micromamba would be, and it need not resolve anything either.
    """
    # Debian's own client has BuildKit built in; a newer one on PATH may lack its plug-in.
    docker = shutil.which("docker", path=f"/usr/bin{os.pathsep}{os.environ['PATH']}") or "docker"
    buildkit = {"DOCKER_BUILDKIT": "1"}
    facts = json.loads(run(sys.executable, ROOT / "tests" / "bench_context.py", application, scratch, cwd=ROOT))
    tools = scratch / "tools"
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--dest", tools / "tools", "py-rattler")
    run(*pip, cwd=scratch)
    (tools / "Dockerfile").write_text(TOOLS.format(**facts))
    run(docker, "build", "--quiet", "--tag", "boxsnake-bench/tools:1", ".", cwd=tools, environment=buildkit)
    context = scratch / "context"
    (context / "Dockerfile").write_text(DOCKERFILE.format(**facts))
    (context / "install.py").write_text(INSTALL)
    store = Path(boxsnake("cache", "dir", cwd=application).strip())

    def forget(*names: str) -> None:
        for name in names:
            shutil.rmtree(store / "v1" / "selectors" / name, ignore_errors=True)

    def ours() -> None:
        forget(*KNOWN_OF_PACKAGES)
        boxsnake("build", "image", cwd=application)

    def theirs() -> None:
        run(docker, "build", "--no-cache", "--quiet", ".", cwd=context, environment=buildkit)

    mine, peers = side_by_side(ours, theirs)
    figure = f"{mine:.2f} s, docker build {peers:.2f} s: {peers / mine:.1f} times faster"
    row("image, no layer at hand", figure, ">= 2 times", reached=peers / mine >= 2)

    def first_of_all() -> None:
        forget(*KNOWN_OF_PACKAGES, "bytecode")
        boxsnake("build", "image", cwd=application)

    first = min(seconds(first_of_all) for _ in range(RUNS))
    figure = f"{first:.2f} s, docker build {peers:.2f} s: {peers / first:.1f} times faster"
    row("the same, nothing compiled before either", figure, ">= 1 time", reached=peers / first >= 1)


def bench_rpm(application: Path, scratch: Path) -> None:
    """Packing an RPM of a staged tree against rpmbuild and against nfpm alone, all with zstd level 3.

    Judged by seconds of CPU: the machine's other work falls upon a clock, and hardly upon these.
    """
    script = ROOT / "tests" / "bench_rpm.py"
    figures = json.loads(run(sys.executable, script, application, scratch, cwd=ROOT).splitlines()[-1])
    (mine, our_cpu), (peers, their_cpu), (_, alone) = (figures[name] for name in ("ours", "rpmbuild", "nfpm"))
    ratio = their_cpu / our_cpu
    figure = f"{our_cpu:.2f} s of CPU, rpmbuild {their_cpu:.2f} s: {ratio:.1f} times faster"
    row(f"RPM (files) of {application.name}", figure, ">= 3 times", reached=ratio >= 3)
    figure = f"{mine:.2f} s, rpmbuild {peers:.2f} s: {peers / mine:.1f} times faster"
    row("the same, by the clock", figure, ">= 3 times", reached=peers / mine >= 3)
    figure = f"{our_cpu:.2f} s of CPU, nfpm alone {alone:.2f} s: {our_cpu / alone:.2f} times"
    row("the same, against nfpm alone", figure, "<= 1.2 times", reached=our_cpu / alone <= 1.2)


def bench_install(scratch: Path) -> None:
    """Installing and upgrading both payloads in a container, beside `rpm -i` of the same tree made by rpmbuild."""
    script = ROOT / "tests" / "bench_install.py"
    said = run(sys.executable, script, scratch, cwd=ROOT, environment={"PYTHONPATH": str(ROOT)})
    figures = json.loads(said.splitlines()[-1])
    peer = figures["rpmbuild"]["install"][1]
    for payload in ("files", "archives"):
        steps = figures[payload]
        for step in ("install", "upgrade", "verify", "selfcheck", "erase"):
            elapsed, cpu = steps[step]
            beside = f"; rpm -i of rpmbuild's {peer:.2f} s: {cpu / peer:.1f} times" if step == "install" else ""
            row(f"report, {payload}: {step}", f"{elapsed:.2f} s, {cpu:.2f} s of CPU{beside}", "(no goal)", reached=True)
        for step in ("rollback", "switch"):
            elapsed = steps[step][0]
            row(f"report, {payload}: {step}", f"{elapsed:.2f} s", "<= 1.00 s", reached=elapsed <= 1)


def bench_pex(application: Path, scratch: Path) -> None:
    """Packing a PEX of wheels that are at hand against pex's own fastest way, both with an empty cache of pex's."""
    figures = json.loads(
        run(sys.executable, "-m", "tests.bench_boxes", application, scratch, cwd=ROOT).splitlines()[-1]
    )
    for name, index, unit in (("PEX of the same wheels", 1, "s of CPU"), ("the same, by the clock", 0, "s")):
        mine, cold, warm = (figures[kind][index] for kind in ("ours", "cold", "warm"))
        figure = f"{mine:.2f} {unit}, pex {cold:.2f} (cache warm {warm:.2f}): {mine / cold:.2f} times"
        row(name, figure, "<= 1.1 times", reached=mine / cold <= 1.1)


def bench_installer(application: Path, scratch: Path) -> None:
    """Installers against makeself's and a tar, of one staged tree: by seconds of CPU, as with RPMs."""
    folder = scratch / f"installer-{application.name}"
    folder.mkdir()
    said = run(sys.executable, "-m", "tests.bench_installer", application, folder, cwd=ROOT)
    figures = json.loads(said.splitlines()[-1])
    for what, step in (("built", "build"), ("extracted", "install"), ("extracted, by the clock", "install")):
        index = 0 if "clock" in what else 1
        mine = figures["ours"]["extract" if step == "install" else step][index]
        peers = [figures[name][step][index] for name in ("makeself", "tar")]
        figure = f"{mine:.2f} s, makeself {peers[0]:.2f} s, tar {peers[1]:.2f} s"
        row(f"installer of {application.name}: {what}", figure, "<= makeself's", reached=mine <= peers[0])
    elapsed, cpu = figures["ours"]["install"]
    row("the same, installed and checked", f"{elapsed:.2f} s, {cpu:.2f} s of CPU", "(no goal)", reached=True)
    sizes = [figures["bytes"][name] / 1e6 for name in ("ours", "makeself", "tar")]
    figure = f"{sizes[0]:.1f} MB, makeself {sizes[1]:.1f} MB, tar {sizes[2]:.1f} MB"
    row("the same, size", figure, "(no goal)", reached=True)


def bench_start(application: Path, scratch: Path) -> None:
    """Starting the PEX, shiv's zipapp of the same wheels, and the userspace image: the first time, cold and warm."""
    folder = scratch / "start"
    folder.mkdir()
    figures = json.loads(run(sys.executable, "-m", "tests.bench_start", application, folder, cwd=ROOT).splitlines()[-1])
    for name, times in figures.items():
        figure = ", ".join(
            f"{which} {times[which]:.2f} s" for which in ("first", "cold", "warm", "cpu") if which in times
        )
        row(f"start: {name}", figure, "(no goal)", reached=True)


def bench_report(scratch: Path) -> None:
    """The page of two hundred boots: its size, and how long it takes to be written and drawn."""
    figures = json.loads(run(sys.executable, "-m", "tests.bench_report", scratch, cwd=ROOT).splitlines()[-1])
    row("page of 200 boots", f"{figures['bytes'] / 1e6:.2f} MB", "<= 1 MB", reached=figures["bytes"] <= 1e6)
    row("the same, written", f"{figures['written']:.2f} s", "(no goal)", reached=True)
    row("the same, drawn by a browser", f"{figures['drawn']:.2f} s", "<= 1.00 s", reached=figures["drawn"] <= 1)


def bench_stack(application: Path, scratch: Path) -> None:
    """From nothing running to the first answer, with Redis and PostgreSQL."""
    figures = json.loads(
        run(sys.executable, "-m", "tests.bench_stack", application, scratch, cwd=ROOT).splitlines()[-1]
    )
    figure = f"{figures['up']:.1f} s, and down again {figures['down']:.1f} s"
    row("up, with Redis and PostgreSQL", figure, "<= 10 s", reached=figures["up"] <= 10)


def bench_boot(application: Path, larger: Path, scratch: Path) -> None:
    """What the boot harness takes beyond a bare start of the same image, and for all boxes on all hosts.

    The goal is for what both do: from nothing to the first answer. The looks at files, the imports and the starts of
    every program that make a whole boot are told beside it.
    """
    scratch.mkdir()
    command = (sys.executable, "-m", "tests.bench_boot", application, larger, scratch)
    figures = json.loads(run(*command, cwd=ROOT).splitlines()[-1])
    bare, course = figures["bare"], figures["course"]
    figure = f"{course:.2f} s, docker run {bare:.2f} s: {course / bare:.1f} times"
    row("boot of an image: to its first answer", figure, "<= 1.5 times", reached=course / bare <= 1.5)
    figure = f"{figures['whole']:.2f} s, as a command {figures['command']:.2f} s"
    row("the same, with all that it has to prove", figure, "(no goal)", reached=True)
    failed = f", failed: {', '.join(figures['failed'])}" if figures["failed"] else ""
    figure = f"{figures['matrix']:.0f} s for {figures['boots']} boots{failed}"
    row(
        "both examples, every format on every host", figure, "<= 360 s", reached=figures["matrix"] <= 360 and not failed
    )


def bench_appimage(application: Path, scratch: Path) -> None:
    """Making userspace images of a staged tree against mksquashfs alone, and starting from a mount against the disk."""
    folder = scratch / "appimage"
    folder.mkdir()
    figures = json.loads(
        run(sys.executable, "-m", "tests.bench_appimage", application, folder, cwd=ROOT).splitlines()[-1]
    )
    made = figures["made"]
    for kind in ("run", "squashfs"):
        for name, index, unit in ((f"userspace image, {kind}", 1, "s of CPU"), ("the same, by the clock", 0, "s")):
            mine, bare = made[kind][index], made[f"mksquashfs {kind}"][index]
            figure = f"{mine:.2f} {unit}, mksquashfs {bare:.2f}: {mine / bare:.2f} times"
            row(name, figure, "<= 1.2 times", reached=mine / bare <= 1.2)
    disk, mounted = figures["disk"], figures["mounted"]
    whole = ", ".join(f"{mode} {figures[f'file, {mode}']:.2f} s" for mode in ("extract", "loop", "fuse"))
    figure = f"{mounted:.2f} s, disk {disk:.2f} s: {mounted / disk:.2f} times (the whole file: {whole})"
    row("mounted image, warm start", figure, "<= 1.3 times", reached=mounted / disk <= 1.3)


def bench_conda_pack(application: Path, scratch: Path) -> None:
    """An archive of a staged tree against conda-pack's default of an environment with the same packages."""
    folder = scratch / f"conda-pack-{application.name}"
    folder.mkdir()
    said = run(sys.executable, "-m", "tests.bench_conda_pack", application, folder, cwd=ROOT)
    figures = json.loads(said.splitlines()[-1])
    (mine, our_cpu), (whole, _), (peer, their_cpu) = (figures[name] for name in ("ours", "whole", "conda-pack"))
    figure = f"{mine:.2f} s, conda-pack {peer:.2f} s: {peer / mine:.1f} times faster"
    row(f"conda-pack archive of {application.name}", figure, ">= 2 times", reached=peer / mine >= 2)
    figure = f"{our_cpu:.2f} s, conda-pack {their_cpu:.2f} s: {their_cpu / our_cpu:.1f} times less"
    row("the same, seconds of CPU", figure, "(no goal)", reached=True)
    row("the same, with staging", f"{whole:.2f} s, conda-pack {peer:.2f} s", "(no goal)", reached=True)
    ours, theirs = figures["size"], figures["conda-pack's size"]
    figure = f"{ours / 1e6:.1f} MB, conda-pack {theirs / 1e6:.1f} MB: {ours / theirs:.2f} times"
    row("the same, size", figure, "<= 1 time", reached=ours <= theirs)
    (mended, _), (peer, _) = figures["unpack"], figures["conda-pack's unpack"]
    figure = f"{mended:.2f} s, conda-pack's {peer:.2f} s"
    row("the same, conda-unpack", figure, "(no goal)", reached=True)


def bench_delta(application: Path, scratch: Path) -> None:
    """What makes a box out of the one before it, where one package is another version."""
    folder = scratch / "delta"
    folder.mkdir()
    script = ROOT / "tests" / "bench_delta.py"
    figures = json.loads(run(sys.executable, script, application, folder, cwd=ROOT).splitlines()[-1])
    for name, found in figures.items():
        share, plain = (found[key] / found["size"] for key in ("delta", "zstd"))
        figure = f"{found['delta'] / 1e3:.0f} kB: {share:.1%} (zstd --patch-from of the files: {plain:.0%})"
        row(f"delta of an {name}, one package changed", figure, "<= 5 %", reached=share <= 0.05)
        row(
            "the same, made and applied in",
            f"{found['making']:.2f} s, {found['applying']:.2f} s",
            "(no goal)",
            reached=True,
        )


def bench_registry(scratch: Path) -> None:
    """One line edited, and the image pushed to a registry of this machine, against docker build and docker push."""
    folder = scratch / "registry"
    folder.mkdir()
    figures = json.loads(run(sys.executable, "-m", "tests.bench_registry", folder, cwd=ROOT).splitlines()[-1])
    mine, peers, copied = (median(figures[name]) for name in ("ours", "installed", "copied"))
    ratio = median(theirs / ours for ours, theirs in zip(figures["ours"], figures["installed"], strict=True))
    figure = f"{mine:.2f} s, docker build and push {peers:.2f} s: {ratio:.1f} times faster"
    row("one line edited, image in a registry", figure, ">= 4 times", reached=ratio >= 4)
    sys.stdout.write(f"  (docker build of a bare copy of the source, and push: {copied:.2f} s)\n")


def bench_split(application: Path, scratch: Path) -> None:
    """Ten applications that share numpy and Python: split into packages, and as RPMs of files."""
    (scratch / "split").mkdir()
    script = ROOT / "tests" / "bench_split.py"
    said = run(sys.executable, script, application, scratch / "split", cwd=ROOT)
    figures = json.loads(said.splitlines()[-1])
    for what, name in (("wire", "on the wire"), ("disk", "on the disk")):
        ours, theirs = (figures[kind][what] / 1e6 for kind in ("split", "files"))
        figure = f"{ours:.0f} MB, as files {theirs:.0f} MB: {theirs / ours:.1f} times less"
        row(f"ten applications split, {name}", figure, ">= 4 times", reached=theirs / ours >= 4)


def bench_everyday(scratch: Path) -> None:
    """What happens to an image day by day, of the larger example, beside a well-made Dockerfile."""
    application, folder = scratch / "everyday" / "report", scratch / "everyday" / "work"
    ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
    shutil.copytree(ROOT / "examples" / "report", application, ignore=ignored)
    folder.mkdir()
    script = ROOT / "tests" / "bench_image.py"
    said = run(sys.executable, script, application, folder, cwd=ROOT, environment={"PYTHONPATH": str(ROOT)})
    figures = json.loads(said.splitlines()[-1])
    whole, packing = figures["edit"]
    figure = f"{whole:.2f} s, {packing:.2f} s of it without the wheel's build"
    row("report: one line edited -> image", figure, "<= 0.30 s", reached=packing <= 0.3)
    row("report: nothing changed", f"{figures['nothing']:.2f} s", "<= 0.30 s", reached=figures["nothing"] <= 0.3)
    mine, peer = figures["engine"]
    figure = f"{mine:.2f} s, docker build {peer:.2f} s: {mine / peer:.2f} of it"
    row("report: one line edited -> engine", figure, "<= 0.50", reached=mine / peer <= 0.5)
    sys.stdout.write(f"  (docker build of a bare copy of the source: {figures['copied']:.2f} s)\n")
    row("report: loaded a second time", f"{figures['loaded again']:.2f} s", "(no goal)", reached=True)
    first, peer = figures["first"]
    row("report: first build", f"{first:.2f} s, docker build {peer:.2f} s", ">= 4 times", reached=peer / first >= 4)
    least = figures["floor"]
    figure = f"{first / least:.1f} times tar | igzip | sha256sum ({least:.2f} s)"
    row("the same, against the floor", figure, "(no goal)", reached=True)
    mine, peer = figures["cold"]
    figure = f"{mine:.2f} s, docker build {peer:.2f} s"
    row("report: no layer, but packages packed before", figure, ">= 4 times", reached=peer / mine >= 4)
    figure = f"{mine / least:.1f} times tar | igzip | sha256sum ({least:.2f} s)"
    row("the same, against the floor", figure, "<= 1.5 times", reached=mine / least <= 1.5)
    mine, peer = figures["size"]
    row("report: size", f"{mine / 1e6:.0f} MB, docker build {peer / 1e6:.0f} MB", "<= peer's", reached=mine <= peer)
    mine, peer = figures["start"]
    row("report: run", f"{mine:.2f} s, docker build's {peer:.2f} s", "<= peer's", reached=mine <= peer)
    mine, peer = figures["many modules"]
    figure = f"{mine:.2f} s, docker build {peer:.2f} s: {mine / peer:.2f} of it"
    row("report and 600 modules: one line edited", figure, "<= 0.50", reached=mine / peer <= 0.5)
    share = figures["sharing"]
    row("ten applications: layers over packages", f"{share:.2f} (of archives)", "<= 1.10", reached=share <= 1.1)


def bench_memory() -> None:
    """The largest process of everything that ran above."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    row("largest process of all the above", f"{peak:.0f} MB", "<= 500 MB", reached=peak <= 500)


def main() -> None:
    """Measure everything on a copy of the web example."""
    compile_own()
    with tempfile.TemporaryDirectory(prefix="boxsnake-bench-") as folder:
        scratch = Path(folder)
        application = scratch / "hello-web"
        ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
        shutil.copytree(ROOT / "examples" / "hello-web", application, ignore=ignored)
        larger = scratch / "report"
        shutil.copytree(ROOT / "examples" / "report", larger, ignore=ignored)
        bench_help(application)
        bench_lock(application)
        bench_image(application, scratch)
        bench_rpm(application, scratch / "rpm")
        boxsnake("lock", cwd=larger)
        bench_rpm(larger, scratch / "larger")
        bench_install(scratch / "larger")
        bench_registry(scratch)
        bench_pex(application, scratch)
        bench_appimage(application, scratch)
        bench_conda_pack(application, scratch)
        bench_conda_pack(larger, scratch)
        bench_start(application, scratch)
        bench_installer(application, scratch)
        bench_installer(larger, scratch)
        bench_delta(application, scratch)
        bench_unchanged(application)
        bench_stack(application, scratch)
        bench_report(scratch)
        bench_boot(application, larger, scratch / "boot")
        bench_split(larger, scratch)
        bench_everyday(scratch)
        bench_memory()


if __name__ == "__main__":
    main()
