"""The text of a Dockerfile, for what is laid out already: it unpacks archives and says how the image is run.

Nothing in it runs a program, so a build needs no network, emulates no processor and leaves no secret in a layer. It is
written in the grammar that every builder knows: a `# syntax=` line would have to be fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from boxsnake.errors import PackError
from boxsnake.oci import Healthcheck, Runtime

# What keeps its meaning between double quotes.
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$"})


def dockerfile(
    *, base: str, inherited: Runtime, archives: Sequence[str], runtime: Runtime, about: Sequence[str]
) -> str:
    """The whole text.

    `base` is the default of the build argument BASE, or "scratch", which takes none; `inherited` is what the base says
    of itself. `archives` are paths in the context, unpacked in their order. `about` are lines of comment. Errors:
    PackError for a text that cannot be written in a Dockerfile.
    """
    lines = [*(f"# {line}".rstrip() for line in about)]
    lines += ["FROM scratch"] if base == "scratch" else [f"ARG BASE={base}", "FROM ${BASE}"]
    lines += [f"ADD {path} /" for path in archives]
    # All of this stands behind the archives: builders that take the lines above into account keep their layers.
    lines += _assignments("ENV", dict(inherited.environment), dict(runtime.environment))
    lines += _assignments("LABEL", dict(inherited.labels), dict(runtime.labels))
    lines += [f"EXPOSE {port}" for port in runtime.ports]
    if runtime.folder:
        lines.append(f"WORKDIR {_quoted(runtime.folder)}")
    if runtime.user:
        lines.append(f"USER {runtime.user}")
    lines += _healthcheck(runtime.healthcheck)
    lines += _started(inherited, runtime)
    return "".join(f"{line}\n" for line in lines)


def _assignments(word: str, inherited: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    for name, value in wanted.items():
        if inherited.get(name) == value:
            continue
        if word == "ENV":
            yield f"{word} {name}={_quoted(value)}"
            continue
        if "=" in name:
            raise PackError(f"label {name!r}", "has a '=' in its name", "Give it another name.", name=name)
        yield f"{word} {_quoted(name)}={_quoted(value)}"


def _started(inherited: Runtime, runtime: Runtime) -> Iterator[str]:
    if runtime.entrypoint or inherited.entrypoint:
        yield f"ENTRYPOINT {_listed(runtime.entrypoint)}"
    # A line even where it is empty: the base's own arguments are for the base's own program.
    if runtime.command or inherited.command:
        yield f"CMD {_listed(runtime.command)}"


def _healthcheck(check: Healthcheck | None) -> Iterator[str]:
    if check is not None:
        times = f"--interval={check.interval:g}s --timeout={check.timeout:g}s --start-period={check.start_period:g}s"
        yield f"HEALTHCHECK {times} --retries={check.retries} {check.test[0]} {_listed(check.test[1:])}"


def _quoted(text: str) -> str:
    if "\n" in text:
        cause = "has a line break, which a Dockerfile cannot say in a variable, a label or a path"
        raise PackError(f"text {text[:60]!r}", cause, "Write it on one line, or take the format `image`.", text=text)
    return f'"{text.translate(_ESCAPED)}"'


def _listed(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)
