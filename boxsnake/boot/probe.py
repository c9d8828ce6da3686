"""What the boot harness runs inside a box, with the box's own interpreter: it looks, starts things, and tells.

Handed over as text (`python -c <this file> <jobs as JSON>`), so it is self-contained: the standard library alone,
Python 3.9 or later, no import of boxsnake. It judges nothing: the facts of each job go back as one line of JSON behind
a nonce.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import platform
import selectors
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

_KEPT_OUTPUT = 16_384
_KEPT_LOG = 1 << 20
_STOP_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_MORE_SECONDS = 10.0
_SETTLE_SECONDS = 0.2
_IDLE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_TICK = 0.05
_MOST_AT_ONCE = 8
_EXIT_CANNOT_START = 127

Facts = dict[str, Any]


class _Process:
    """A child with its own session, and the last of what it has said."""

    def __init__(self, name: str, pid: int, pipe: int, seconds: float) -> None:
        self.name = name
        self.pid = pid
        self.pipe = pipe
        self.tail = b""
        self.kept = _KEPT_OUTPUT
        self.cut = 0
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.status: int | None = None
        self.late = False
        self._work = -1
        self._worked = self._looked = self.started

    def hear(self) -> bool:
        """Take what the child has said; False when it has closed its end."""
        try:
            data = os.read(self.pipe, 65_536)
        except BlockingIOError:
            return True
        self._worked = time.monotonic()
        self.cut += max(0, len(self.tail) + len(data) - self.kept)
        self.tail = (self.tail + data)[-self.kept :]
        return bool(data)

    def has_ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def is_idle(self) -> bool:
        """Whether it waits for somebody: of late it has said nothing, and used neither processor nor disk."""
        now = time.monotonic()
        if now - max(self._looked, self._worked) > _LOOK_SECONDS:
            work = _work_of(self.pid)
            self._looked = now
            if work is None or work != self._work:
                self._work, self._worked = -1 if work is None else work, now
        return now - self._worked > _IDLE_SECONDS

    def kill(self, number: int) -> None:
        """Signal the child and what it has started in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self) -> None:
        """End it and its offspring, and hear the rest."""
        self.kill(signal.SIGKILL)
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        for _ in range(64):
            if not self.hear():
                break
        os.close(self.pipe)

    def facts(self) -> Facts:
        code = signalled = None
        if self.status is not None and os.WIFEXITED(self.status):
            code = os.WEXITSTATUS(self.status)
        elif self.status is not None:
            signalled = signal.Signals(os.WTERMSIG(self.status)).name
        return {
            "name": self.name,
            "code": None if self.late else code,
            "signal": None if self.late else signalled,
            "late": self.late,
            "output": self.tail[-_KEPT_OUTPUT:].decode("utf-8", "replace"),
            "cut": self.cut,
            "seconds": round(time.monotonic() - self.started, 3),
        }


def _work_of(session: int) -> int | None:
    """The processor time of a session, in ticks (proc(5)); None where one of its processes waits for the disk."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The second field, the program's name in parentheses, may hold anything.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                if fields[0] == "D":
                    return None
                total += int(fields[11]) + int(fields[12])
    return total


def _spawn(name: str, work: Callable[[], None], seconds: float) -> _Process:
    """Fork: a process of its own at the price of none, since the interpreter has started already."""
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (sender, 1), (sender, 2)):
                os.dup2(source, target)
            work()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001 - whatever it is, it goes to the parent as text
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(sender)
    os.set_blocking(receiver, False)
    return _Process(name, pid, receiver, seconds)


def _start(name: str, argv: list[str], job: Facts, seconds: float) -> _Process:
    """Start a program with the job's environment and folder; one that cannot be started ends with 127 and says why."""

    def work() -> None:
        os.chdir(job["folder"])
        # Python ignores these, and what it starts would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvpe(argv[0], argv, job["environment"])  # noqa: S606 - starting programs is what this is for
        except OSError as error:
            # A script whose interpreter is missing is "not found" as well, though it is there.
            sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}{_interpreter(argv[0])}\n")
            sys.stderr.flush()
            os._exit(_EXIT_CANNOT_START)

    return _spawn(name, work, seconds)


def _interpreter(path: str) -> str:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - nothing is gained by a Path here
            line = stream.readline(512)
    except OSError:
        return ""
    return f" (its interpreter: {line[2:].decode('utf-8', 'replace').strip()})" if line[:2] == b"#!" else ""


def _run_all(starters: list[Callable[[], _Process]], *, until_idle: bool = False) -> list[Facts]:
    """Run every process to its end or deadline, some at once; the facts in the order of the starters.

    With `until_idle`, a process that only waits is not waited for.
    """
    jobs = min(os.cpu_count() or 1, _MOST_AT_ONCE)
    results: list[Facts | None] = [None] * len(starters)
    running: dict[int, tuple[int, _Process]] = {}
    selector = selectors.DefaultSelector()
    waiting = list(enumerate(starters))
    while waiting or running:
        while waiting and len(running) < jobs:
            index, starter = waiting.pop(0)
            process = starter()
            running[process.pipe] = (index, process)
            selector.register(process.pipe, selectors.EVENT_READ)
        for key, _ in selector.select(_TICK):
            if not running[key.fd][1].hear():
                selector.unregister(key.fd)
        for pipe, (index, process) in list(running.items()):
            is_over = time.monotonic() > process.deadline or (until_idle and process.is_idle())
            process.late = is_over and not process.has_ended()
            if process.late or process.has_ended():
                with contextlib.suppress(KeyError):
                    selector.unregister(pipe)
                process.end()
                results[index] = process.facts()
                del running[pipe]
        _rest(selector)
    return [result for result in results if result is not None]


def _rest(selector: selectors.BaseSelector) -> None:
    """A selector without anything to wait for does not wait: children that closed their output still run."""
    if not selector.get_map():
        time.sleep(0.005)


# What is installed


def _inspect(job: Facts) -> Facts:
    distributions = [found for found in importlib.metadata.distributions() if _is_brought(found, job.get("brought"))]
    exempt = set(job["exempt"])
    owners: dict[str, list[str]] = {}
    for found in distributions:
        for module in _top_modules(found):
            owners.setdefault(module, []).append(_name(found))
    chosen = [module for module in sorted(owners) if module.partition(".")[0] not in exempt and module not in exempt]
    seconds = float(job["seconds"])
    # The files are read meanwhile: it is the longest of these jobs, and comes first.
    sites = {str(found.locate_file("")) for found in distributions} if job.get("sites") else set()
    # Programs among modules, as `pip install --target` leaves them, name the build's Python, and are in no PATH.
    stock = [os.path.join(site, "bin") for site in sites]  # noqa: PTH118 - one text of many
    job = {**job, "roots": [*job["roots"], *sorted(sites)], "stock": [*job["stock"], *stock]}
    looked, *imported = _run_all([_looker(job), *(_importer(module, seconds) for module in chosen)])
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "distributions": sorted([_name(found), _version(found), str(found.locate_file(""))] for found in distributions),
        "conda": _conda_records(),
        "programs": sorted({program for found in distributions for program in _programs(found)}),
        "requires": {_name(found): found.requires or [] for found in distributions},
        "markers": _markers(),
        "imports": [{**facts, "owners": owners[facts["name"]]} for facts in imported],
        "files": _told(looked, job["nonce"]),
        "look": looked,
    }


def _is_brought(found: importlib.metadata.Distribution, paths: list[str] | None) -> bool:
    """Whether a distribution lies below one of these paths, or none are given."""
    if paths is None:
        return True
    # Where its metadata lie, no public attribute tells; what has no such place is a host's own.
    place = os.path.realpath(str(getattr(found, "_path", "/")))
    return any(f"{place}/".startswith(f"{path}/") for path in paths)


def _looker(job: Facts) -> Callable[[], _Process]:
    """Look at the box's files, by modules that the job brings as text: the last of them does it."""

    def work() -> None:
        facts = _loaded(job["modules"]).look(job)
        sys.stdout.write(f"\n{job['nonce']} {json.dumps(facts)}\n")

    return lambda: _spawn("files", work, float(job["seconds_to_look"]))


def _loaded(sources: dict[str, str]) -> Any:
    """Make modules of their text, in the order in which they need each other: the last."""
    module = None
    for name, source in sources.items():
        module = types.ModuleType(name)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
        exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - it is the harness's own
    return module


def _told(process: Facts, nonce: str) -> Facts | None:
    """The facts that a process has told; None where it did not come to that."""
    for line in reversed(process["output"].splitlines()):
        if line.startswith(f"{nonce} "):
            facts: Facts = json.loads(line[len(nonce) :])
            return facts
    return None


def _markers() -> dict[str, str]:
    """What requirements may depend on (PEP 508)."""
    version = sys.implementation.version
    kind = "" if version.releaselevel == "final" else f"{version.releaselevel[0]}{version.serial}"
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": ".".join(map(str, version[:3])) + kind,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def _importer(module: str, seconds: float) -> Callable[[], _Process]:
    def work() -> None:
        importlib.import_module(module)

    return lambda: _spawn(module, work, seconds)


def _name(found: importlib.metadata.Distribution) -> str:
    return str(found.metadata["Name"] or "")


def _version(found: importlib.metadata.Distribution) -> str:
    return str(found.metadata["Version"] or "")


def _programs(found: importlib.metadata.Distribution) -> list[tuple[str, str]]:
    """The (name, module) of each console script, those for an extra left out: nobody has asked for it."""
    points = [point for point in found.entry_points if point.group == "console_scripts"]
    return [(point.name, point.value.partition(":")[0].strip()) for point in points if "[" not in point.value]


def _conda_records() -> list[list[str]]:
    """The (name, version, build) of each record of this prefix: the parts of its file's name, as conda has it."""
    folder = Path(sys.prefix, "conda-meta")
    return sorted(path.name[: -len(".json")].rsplit("-", 2) for path in folder.glob("*-*-*.json"))


def _top_modules(found: importlib.metadata.Distribution) -> list[str]:
    """The modules that a distribution puts at the top: packages, single modules, and the packages of namespaces."""
    files = [file.parts for file in found.files or ()]
    if not files:
        return (found.read_text("top_level.txt") or "").split()
    code = [parts for parts in files if all(map(str.isidentifier, (*parts[:-1], _module_of(parts[-1]))))]
    packages = {parts[:-1] for parts in code if _module_of(parts[-1]) == "__init__"}
    names = {parts[:-1] or (_module_of(parts[0]),) for parts in code}
    return sorted({".".join(_outermost_package(folders, packages)) for folders in names})


def _outermost_package(folders: tuple[str, ...], packages: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The first of these folders that is a package; a namespace without one is imported by itself."""
    for depth in range(1, len(folders) + 1):
        if folders[:depth] in packages:
            return folders[:depth]
    return folders[:1]


def _module_of(file_name: str) -> str:
    """The module's name of a file with Python code; "" for any other."""
    for suffix in (*importlib.machinery.EXTENSION_SUFFIXES, ".py"):
        if file_name.endswith(suffix):
            return file_name[: -len(suffix)]
    return ""


# What starts


def _scripts(job: Facts) -> Facts:
    """Start console scripts: by their files, or by calling their entry points where there need be no file."""
    starters = []
    for name, must_be_a_file in job["scripts"]:
        path = os.path.join(job["programs"], name) if job["programs"] else ""  # noqa: PTH118 - one text of many
        by_file = path and (must_be_a_file or os.path.exists(path))  # noqa: PTH110
        argv = [path] if by_file else [*job["launcher"], name]
        starters.append(_starter(name, [*argv, "--help"], job))
    shown = _run_all(starters, until_idle=True)
    # Nobody reads what a program says that ended as it should, and many programs say much.
    return {"scripts": [facts if facts["code"] != 0 else {**facts, "output": ""} for facts in shown]}


def _starter(name: str, argv: list[str], job: Facts) -> Callable[[], _Process]:
    return lambda: _start(name, argv, job, float(job["seconds"]))


def _run(job: Facts) -> Facts:
    return {"ran": _run_all([_starter("check", job["argv"], job)])[0]}


def _read(job: Facts) -> Facts:
    """What is in a file; why it cannot be read."""
    try:
        with open(job["path"], "rb") as stream:  # noqa: PTH123 - nothing is gained by a Path here
            return {"text": stream.read(_KEPT_LOG).decode("utf-8", "replace"), "problem": ""}
    except OSError as error:
        return {"text": "", "problem": error.strerror or type(error).__name__}


def _serve(job: Facts) -> Facts:
    """Start the application, ask it what is to be asked, stop it."""
    process = _start("application", job["argv"], job, 0.0)
    process.kept = _KEPT_LOG
    listener = threading.Thread(target=_listen, args=[process], daemon=True)
    listener.start()
    asking = _loaded(job["modules"])
    answers = []
    for request in job["requests"]:
        answers.append(_ask(process, request, asking))
        if answers[-1]["problem"]:
            break
    memory = _memory_of(process.pid)
    died = _dies_soon(process)
    stopped = "" if died else _stop(process)
    process.kill(signal.SIGKILL)
    listener.join(_REQUEST_SECONDS)
    return {"answers": answers, "died": died, "stopped": stopped, "memory": memory, "application": process.facts()}


def _dies_soon(process: _Process) -> bool:
    """Whether the application has ended, or does so at once after its answers."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not process.has_ended() and time.monotonic() < deadline:
        time.sleep(_TICK)
    return process.status is not None


def _listen(process: _Process) -> None:
    os.set_blocking(process.pipe, True)
    with contextlib.suppress(OSError):
        while process.hear():
            pass


def _stop(process: _Process) -> str:
    """Ask it to end, then make it: "TERM" or "KILL"."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if process.has_ended():
            return "TERM"
        time.sleep(0.01)
    process.kill(signal.SIGKILL)
    process.status = os.waitpid(process.pid, 0)[1]
    return "KILL"


def _ask(process: _Process, request: Facts, asking: Any) -> Facts:
    """Ask until there is an answer, the application ends, or the time is over; then as often as is wanted."""
    started = time.monotonic()
    deadline = started + float(request["timeout"])
    tries = 0
    while True:
        tries += 1
        patience = max(0.1, min(_REQUEST_SECONDS, deadline - time.monotonic()))
        status, body, problem = asking.attempt(request, process.tail, patience)
        if asking.is_final(request, status):
            break
        if process.has_ended():
            problem = "it ended"
            break
        if time.monotonic() > deadline:
            break
        time.sleep(_TICK)
    seconds = round(time.monotonic() - started, 3)
    late = ""
    if status is None:
        late = _late_answer(process, request, started, asking)
        # While it was given more time; no time would have been enough.
        problem = "it ended" if process.has_ended() and not late else problem
    else:
        problem = asking.fault(request, status, body) or _repeated(process, request, deadline, asking)
    return {
        "status": status,
        "body": body[:2000],
        "problem": problem,
        "late": late,
        "seconds": seconds,
        "tries": tries,
        "whole": round(time.monotonic() - started, 3),
    }


def _repeated(process: _Process, request: Facts, deadline: float, asking: Any) -> str:
    """Ask as often as the load wants: what is wrong with the first answer that is not right; "" if none is."""
    for number in range(2, request["requests"] + 1):
        status, body, problem = asking.attempt(request, process.tail, _REQUEST_SECONDS)
        problem = problem if status is None else asking.fault(request, status, body)
        if not problem and time.monotonic() > deadline:
            problem = "the time for the check is over"
        if problem:
            return f"{problem}, at request {number} of {request['requests']}"
    return ""


def _late_answer(process: _Process, request: Facts, started: float, asking: Any) -> str:
    """Whether an application that has not answered in time does so when given some more; "" where it does not."""
    deadline = time.monotonic() + min(_MORE_SECONDS, 3 * float(request["timeout"]))
    while time.monotonic() < deadline and not process.has_ended():
        status, _, _ = asking.attempt(request, process.tail, _REQUEST_SECONDS)
        if status is not None:
            answered = f"it answered {status}" if status else "it came"
            return f"{answered} after {time.monotonic() - started:.1f} s"
        time.sleep(_TICK)
    return ""


def _memory_of(session: int) -> int:
    """The memory of a session in bytes, what several of its processes share counted once (proc(5): Pss)."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                words = path.with_name("smaps_rollup").read_text(encoding="ascii").split()
                total += int(words[words.index("Pss:") + 1]) * 1024
    return total


def _killed_for_memory() -> bool:
    """Whether the kernel has killed a process of this container for want of memory (cgroup v2, then v1)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError, ValueError):
            words = Path(path).read_text(encoding="ascii").split()
            return int(words[words.index("oom_kill") + 1]) > 0
    return False


def main() -> None:
    """Do the jobs that the last argument names, one after the other, and tell the facts of each."""
    told = json.loads(sys.argv[-1])
    # `-c` puts the current folder first; what lies there is no part of the box.
    sys.path[:] = [entry for entry in sys.path if entry]
    verbs = {"inspect": _inspect, "scripts": _scripts, "run": _run, "serve": _serve, "read": _read}
    for number, job in enumerate(told["jobs"]):
        started = time.monotonic()
        facts = verbs[job["do"]]({**told, **job})
        facts["starved"] = _killed_for_memory()
        facts["took"] = time.monotonic() - started
        sys.stdout.write(f"\n{told['nonce']} {json.dumps([number, facts])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
