"""The conda half: MatchSpecs, channels and a target in, packages by digest out. The one module that knows the solver.

The solver (py-rattler) runs in a child process with a deadline, as it can take its process down with it. Request and
answer are files, and the answer's file alone means success.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from boxsnake import child
from boxsnake.disk import disk_faults
from boxsnake.errors import (
    Fault,
    ManifestError,
    NetworkError,
    PolicyError,
    ResourceError,
    UnsolvableError,
    network_step,
)
from boxsnake.lock import CondaPackage
from boxsnake.lock.locations import file_url, path_of_url
from boxsnake.urls import redact, without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boxsnake.credentials import Credentials
    from boxsnake.requirements import CondaRequirement
    from boxsnake.target import Target

DEADLINE = 900.0
"""Seconds for all targets of a lock, their channels' indexes included."""

_REQUEST_TIMEOUT = 300  # seconds for one index from its first byte to its last
_RETRIES = 2

_SECRETS = "BOXSNAKE_SOLVER_SECRETS"
_NO_CHANNELS = {"defaults": "means different servers in different installations", "nodefaults": "is no channel"}


@dataclass(frozen=True, kw_only=True)
class CondaQuestion:
    """What one target asks of conda."""

    target: Target
    channels: tuple[str, ...]
    """Highest priority first: names and URLs, which may hold credentials. Folders are file: URLs already."""
    requirements: tuple[CondaRequirement, ...]
    preferred: tuple[CondaPackage, ...] = ()
    """Packages to keep where the requirements still allow them."""


def channel_location(channel: str, root: Path) -> str:
    """A channel as `CondaQuestion` takes it: folders, relative to `root`, become file: URLs."""
    if "://" in channel:
        if channel.startswith("file://"):
            return file_url(os.path.normpath(path_of_url(channel)))
        return channel.rstrip("/")
    looks_like_path = channel.startswith((".", "/", "~")) or ("/" in channel and (root / channel / "noarch").is_dir())
    if looks_like_path:
        return file_url(os.path.abspath(root / Path(channel).expanduser()))  # noqa: PTH100 - links stay as they are
    if channel in _NO_CHANNELS:
        fault = Fault(source="requires", line=0, key=channel, message=f"it {_NO_CHANNELS[channel]}")
        raise ManifestError("channels", (fault,), "Name the channels themselves, by name or URL.")
    return channel


def resolve_conda(
    questions: Sequence[CondaQuestion],
    *,
    cache: Path,
    scratch: Path,
    credentials: Mapping[str, str] | None = None,
    offline: bool = False,
    deadline: float = DEADLINE,
) -> list[tuple[CondaPackage, ...]]:
    """The packages of each question, sorted by name, with the target's virtual packages and strict channel priority.

    `cache` keeps channels' indexes between runs; `scratch` is an empty folder. `credentials` are the settings'. The
    packages' distributions are left out, as only the packages themselves tell them. Errors: UnsolvableError,
    NetworkError, PolicyError for a package without SHA-256, ManifestError for what is no MatchSpec, ResourceError where
    the solver cannot run.
    """
    if not questions:
        return []
    request = {
        "cache": str(cache),
        "offline": offline,
        "questions": [_question_values(question) for question in questions],
    }
    urls = sorted({channel for question in questions for channel in question.channels if "://" in channel})
    answers = _ask_child(request, {"settings": dict(credentials or {}), "urls": urls}, scratch, deadline)
    return [_packages(question, answer) for question, answer in zip(questions, answers, strict=True)]


# In this process


def _question_values(question: CondaQuestion) -> dict[str, Any]:
    return {
        "platform": question.target.platform,
        "virtual": [list(package) for package in question.target.virtual_packages],
        "channels": [shown_channel(channel) for channel in question.channels],
        "specs": [requirement.spec for requirement in question.requirements],
        "preferred": [
            [package.name, package.version, package.build, package.channel] for package in question.preferred
        ],
    }


def _ask_child(
    request: dict[str, Any], secrets: dict[str, Any], scratch: Path, deadline: float
) -> list[dict[str, Any]]:
    """Have the child answer. What is secret goes by its environment, so that no file holds it."""
    question, result = scratch / "request.json", scratch / "answers.json"
    with disk_faults(scratch):
        question.write_text(json.dumps(request), encoding="utf-8")
    environment = child.environment(
        scratch,
        PYTHONPATH=os.pathsep.join(path for path in sys.path if path),
        RATTLER_CACHE_DIR=request["cache"],
        **{_SECRETS: json.dumps(secrets)},
        **{name: value for name, value in os.environ.items() if name.startswith("BOXSNAKE_INDEX_")},
        NETRC=os.environ.get("NETRC") or os.path.expanduser("~/.netrc"),  # noqa: PTH111 - no home is no error
    )
    argv = [sys.executable, "-P", "-m", "boxsnake.resolve_conda", str(question), str(result)]
    finished = child.run(argv, cwd=scratch, env=environment, deadline=deadline)
    # Success is the file and not the exit status: the solver's library can fall over on its way out.
    try:
        answers: list[dict[str, Any]] = json.loads(result.read_bytes())["answers"]
    except (FileNotFoundError, ValueError, KeyError):
        raise _no_answer(request, finished, deadline) from None
    return answers


def _no_answer(request: dict[str, Any], finished: child.Finished, deadline: float) -> Exception:
    if finished.code is None:
        asked = sorted({channel for question in request["questions"] for channel in question["channels"]})
        cause = f"no answer within {deadline:.0f} s"
        return NetworkError(", ".join(asked), cause, "Look whether the channels answer, then try again.")
    cause = f"it {finished.why(deadline)} without an answer\n{finished.last_lines}"
    return ResourceError("the conda solver", cause, "Free some memory and try again; if it returns, report it.")


def _packages(question: CondaQuestion, answer: dict[str, Any]) -> tuple[CondaPackage, ...]:
    if "error" in answer:
        raise _error(question, answer)
    return tuple(sorted((_package(question, record) for record in answer["records"]), key=lambda package: package.name))


def _package(question: CondaQuestion, record: dict[str, Any]) -> CondaPackage:
    url, channel = without_credentials(record["url"]), without_credentials(record["channel"]).rstrip("/")
    if url.startswith("file://"):
        url, channel = file_url(path_of_url(url)), file_url(path_of_url(channel))
    if not record["sha256"] or record["size"] is None:
        lacking = "SHA-256" if not record["sha256"] else "size"
        raise PolicyError(
            url,
            f"the channel's index gives no {lacking} for it, and nothing weaker is taken",
            "Ask the channel's owner to index it again (`boxsnake channel build` does), or take another channel.",
            target=question.target.name,
        )
    return CondaPackage(
        name=record["name"],
        version=record["version"],
        build=record["build"],
        build_number=record["build_number"],
        subdir=record["subdir"],
        channel=channel,
        url=url,
        sha256=record["sha256"],
        size=record["size"],
        depends=tuple(record["depends"]),
        noarch=record["noarch"],
    )


def _error(question: CondaQuestion, answer: dict[str, Any]) -> Exception:
    target, text = question.target, redact(answer["text"])
    channels = [shown_channel(channel) for channel in question.channels]
    if answer["error"] == "spec":
        asked = [requirement for requirement in question.requirements if requirement.spec == answer["spec"]]
        faults = (Fault(source=one.source, line=0, key=one.shown, message=text) for one in asked)
        return ManifestError("conda requirements", tuple(faults))
    if answer["error"] == "network":
        return NetworkError(
            *_network_words(text, redact(answer["at"]), channels), target=target.name, channels=channels, log=text
        )
    explained = tidy(text)
    mentioned = [
        f"{requirement.shown} ({requirement.source})"
        for requirement in question.requirements
        if re.search(rf"(?<![\w.-]){re.escape(name_of_spec(requirement.spec))}(?![\w.-])", explained)
    ]
    asked_lines = "".join(f"\n  asked: {line}" for line in mentioned)
    return UnsolvableError(
        f"conda requirements of target {target.name} ({target.platform})",
        f"there is no solution in {', '.join(channels)}\n{_indented(explained)}{asked_lines}",
        _ways_out(explained, question),
        target=target.name,
        platform=target.platform,
        channels=channels,
        explanation=explained,
        asked=[f"{requirement.shown} ({requirement.source})" for requirement in question.requirements],
    )


def _network_words(text: str, place: str, channels: list[str]) -> tuple[str, str, str]:
    """The channel's index that failed, why, and what to do."""
    found = re.search(r"[a-z]+://[^\s'\")`]+|(?<=`)/[^`]+", place)
    thing = re.sub(r"(/(current_)?repodata[^/]*)?/?$", "", found.group() if found else ", ".join(channels))
    folder, _, subdir = thing.rpartition("/")
    if re.fullmatch(r"noarch|[a-z]+-[a-z0-9]+", subdir):
        thing = f"channel {folder}, {subdir}"
    causes = re.findall(r"(?:^|Caused by: )([^\n]+)", text)
    if re.search(r"could not find subdir|No such file", text):
        return thing, f"there is no index: {causes[-1]}", "Look at the channel's name; a folder must be indexed first."
    if "no usable repodata cache" in text:
        return thing, "its index is not in the cache", "Run once without --offline."
    if re.search(r"\b(401|403)\b", text):
        return thing, "the server wants credentials, or others", "Name them in the configuration's [credentials]."
    if "404" in text:
        return thing, "there is no such channel (404)", "Look at the channel's name."
    if "parse" in text:
        step = "Try again later: a mirror may be half-way, or a proxy wants a login."
        return thing, f"what it gives is no index: {causes[-1]}", step
    return thing, f"{causes[0]}: {causes[-1]}" if len(causes) > 1 else text, network_step(text)


def _ways_out(explained: str, question: CondaQuestion) -> str:
    target = question.target
    ways = []
    glibc = [int(minor) for minor in re.findall(r"__glibc >=2\.(\d+)", explained)]
    if glibc:
        newer = f" (or 2.{max(glibc)}, for newer versions)" if max(glibc) > min(glibc) else ""
        ways.append(f"raise targets.{target.name}.glibc from {target.glibc} to 2.{min(glibc)}{newer}")
    elif re.search(r"\b__(osx|win|linux|cuda|archspec)\b", explained):
        ways.append("take older versions, which run on older systems")
    else:
        ways.append(f"add a channel that has it for {target.platform}")
    ways += ["loosen one of the requirements", "ask for it by requires.pip instead, where an index has a wheel"]
    return f"Ways out: {'; '.join(ways)}."


def tidy(text: str) -> str:
    """The solver's explanation without its preamble and its notation for "any version"."""
    text = re.sub(r"^Cannot solve the request because of:\s*", "", text.strip())
    text = re.sub(r"(?<=[\w.-]) \*(?= cannot|,|\.|$)", "", text, flags=re.MULTILINE)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    limit = 40
    return "\n".join(lines[:limit] + ([f"… and {len(lines) - limit} lines more"] if len(lines) > limit else []))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def name_of_spec(spec: str) -> str:
    """The package name of a MatchSpec: "conda-forge::numpy >=2" -> "numpy"."""
    bare = spec.rpartition("::")[2].strip()
    found = re.match(r"[A-Za-z0-9_.-]+", bare)
    return found.group().lower() if found else bare


def shown_channel(channel: str) -> str:
    """A channel as messages name it."""
    return without_credentials(channel)


# In the child


def _answer_all(question: str, result: str) -> None:
    """The child's whole work: read the request, write the answers, leave without the library's own farewell."""
    import asyncio

    request = json.loads(Path(question).read_bytes())
    answers = asyncio.run(_answers(request, json.loads(os.environ.pop(_SECRETS))))
    temporary = Path(f"{result}.part")
    temporary.write_text(json.dumps({"answers": answers}), encoding="utf-8")
    temporary.rename(result)
    os._exit(0)


async def _answers(request: dict[str, Any], secrets: dict[str, Any]) -> list[dict[str, Any]]:
    from rattler import Channel

    asked = {channel for question in request["questions"] for channel in question["channels"]}
    locations = {channel: Channel(channel).base_url.rstrip("/") for channel in asked}
    gateway = _gateway(request, [url for url in locations.values() if not url.startswith("file://")], secrets)
    return [await _answer(question, gateway, locations) for question in request["questions"]]


def _gateway(request: dict[str, Any], remote: list[str], secrets: dict[str, Any]) -> Any:
    """The reader of channels' indexes.

    Credentials are put in on the way to the server: the indexes in the cache and the records know nothing of them.
    """
    from rattler import Gateway, SourceConfig
    from rattler.networking import AddHeadersMiddleware, Client, MirrorMiddleware, RetryMiddleware

    from boxsnake.credentials import Credentials

    known = Credentials.from_environment(settings=secrets["settings"], urls=secrets["urls"])
    mirrors = {location: [known.with_token(location)] for location in remote if known.with_token(location) != location}
    headers = _headers(known, remote)
    middlewares: list[Any] = [MirrorMiddleware(mirrors)] if mirrors else []
    middlewares.append(RetryMiddleware(_RETRIES))
    if headers:
        middlewares.append(AddHeadersMiddleware(lambda host, _path: headers.get(host.lower())))
    # Sharded indexes are left alone: a channel that stopped writing them keeps the stale ones, with other digests.
    action: Literal["force-cache-only", "cache-or-fetch"]
    action = "force-cache-only" if request["offline"] else "cache-or-fetch"
    return Gateway(
        cache_dir=request["cache"],
        default_config=SourceConfig(sharded_enabled=False, cache_action=action),
        client=Client(middlewares, timeout=_REQUEST_TIMEOUT),
    )


def _headers(known: Credentials, remote: Iterable[str]) -> dict[str, dict[str, str]]:
    """The header with the login of each server that has one, by the server's name."""
    import base64

    found: dict[str, dict[str, str]] = {}
    for location in remote:
        login = known.login(location)
        if login is not None:
            secret = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
            found[(urlsplit(location).hostname or "").lower()] = {"Authorization": f"Basic {secret}"}
    return found


async def _answer(question: dict[str, Any], gateway: Any, locations: dict[str, str]) -> dict[str, Any]:
    from datetime import timedelta

    import rattler
    from rattler import Channel, GenericVirtualPackage, MatchSpec, PackageName, Version, exceptions

    specs = []
    for text in question["specs"]:
        try:
            specs.append(MatchSpec(text))
        except Exception as error:  # noqa: BLE001 - what it raises has no common root
            return {"error": "spec", "spec": text, "text": str(error)}
    channels = [Channel(locations[channel]) for channel in question["channels"]]
    platforms = [question["platform"], "noarch"]
    virtual = [
        GenericVirtualPackage(PackageName(name), Version(version), rattler.BuildString(build))
        for name, version, build in question["virtual"]
    ]
    try:
        preferred = await _preferred(question["preferred"], gateway, channels, platforms)
        records = await rattler.solve(
            channels,
            specs,
            gateway=gateway,
            platforms=platforms,
            virtual_packages=virtual,
            locked_packages=preferred,
            channel_priority=rattler.ChannelPriority.Strict,
            channel_relations="disabled",
            timeout=timedelta(seconds=_REQUEST_TIMEOUT),
        )
    except exceptions.SolverError as error:
        return {"error": "unsolvable", "text": str(error)}
    except (exceptions.GatewayError, exceptions.FetchRepoDataError, exceptions.IoError) as error:
        return {"error": "network", "text": str(error), "at": await _culprit(gateway, channels, platforms, str(error))}
    return {"records": [_record_values(record) for record in records]}


async def _culprit(gateway: Any, channels: list[Any], platforms: list[str], text: str) -> str:
    """The index that an error is about, where the error does not say it itself."""
    from rattler import exceptions

    if "://" in text or "`/" in text:
        return text
    for channel in channels:
        for platform in platforms:
            try:
                await gateway.names([channel], [platform])
            except exceptions.GatewayError:
                return f"{channel.base_url.rstrip('/')}/{platform}/"
    return text


async def _preferred(wanted: list[list[str]], gateway: Any, channels: list[Any], platforms: list[str]) -> list[Any]:
    """The channels' own records of what is to be kept: a package that they dropped or rebuilt is not preferred."""
    if not wanted:
        return []
    from rattler import MatchSpec

    exact = {(name, version, build, channel) for name, version, build, channel in wanted}
    specs = [MatchSpec(f"{name} =={version} {build}") for name, version, build, _ in sorted(exact)]
    answers = await gateway.query(channels, platforms, specs, recursive=False)
    found: dict[str, Any] = {}
    for record in (record for records in answers for record in records):
        name = record.name.normalized
        if (name, str(record.version), str(record.build), (record.channel or "").rstrip("/")) in exact:
            found.setdefault(name, record)
    return list(found.values())


def _record_values(record: Any) -> dict[str, Any]:
    noarch = record.noarch
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "build_number": record.build_number,
        "subdir": record.subdir,
        "channel": record.channel or "",
        "url": record.url,
        "sha256": record.sha256.hex() if record.sha256 else None,
        "size": record.size,
        "depends": list(record.depends),
        "noarch": "python" if noarch.python else "generic" if noarch.generic else None,
    }


if __name__ == "__main__":
    _answer_all(*sys.argv[1:])
