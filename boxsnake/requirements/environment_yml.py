"""environment.yml: conda's format of channels, conda requirements, a pip section and environment variables."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from boxsnake.errors import Fault, ManifestError
from boxsnake.plain_text import check_plain, escaped, shortened
from boxsnake.requirements.conda_requirement import check_match_spec, python_of
from boxsnake.requirements.environment import EnvironmentFile
from boxsnake.requirements.requirements_txt import PipFile, Read, parse_requirement_lines
from boxsnake.requirements.values import CondaRequirement
from boxsnake.urls import redact

_STRING = "tag:yaml.org,2002:str"
_KEYS = ("name", "channels", "dependencies", "variables", "prefix")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_environment_yml(
    text: str, source: str, read: Read, *, environ: Mapping[str, str] | None = None
) -> EnvironmentFile:
    """Decode the file `source`, a path relative to the manifest's folder.

    `prefix` is ignored: a box has its own. "nodefaults" among the channels is dropped: no channel is ever added to
    those that are given. The pip section is read as conda has pip read it, a requirements.txt in the file's own
    folder. Errors: ManifestError with all faults.
    """
    reading = _Reading(source=source, read=read, environ=environ or {})
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise _broken(source, mark.line + 1 if mark else 0, problem) from None
    except yaml.YAMLError as error:
        raise _broken(source, 0, str(error).partition("\n")[0]) from None
    except RecursionError:
        raise _broken(source, 0, "nested too deeply") from None
    reading.document(root)
    if reading.faults:
        raise ManifestError(source, tuple(reading.faults))
    python = ",".join(dict.fromkeys(reading.python)) or None
    return EnvironmentFile(
        name=reading.name,
        python=python,
        channels=tuple(dict.fromkeys(reading.channels)),
        conda=tuple(reading.conda),
        pip=reading.pip,
        environment=tuple(sorted(reading.variables.items())),
    )


def _broken(source: str, line: int, problem: str) -> ManifestError:
    fault = Fault(source=source, line=line, key="", message=f"not valid YAML: {escaped(redact(problem))}")
    return ManifestError(source, (fault,))


@dataclass(kw_only=True)
class _Reading:
    """What has been read so far. Only the few levels that the format has are looked at, so aliases cannot explode."""

    source: str
    read: Read
    environ: Mapping[str, str]
    name: str | None = None
    python: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    conda: list[CondaRequirement] = field(default_factory=list)
    pip: PipFile = field(default_factory=PipFile)
    has_pip_section: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def document(self, root: yaml.Node | None) -> None:
        if not isinstance(root, yaml.MappingNode):
            self._fault(root, "", "must hold channels and dependencies")
            return
        sections: dict[str, Callable[[yaml.Node], None]] = {
            "name": self._name,
            "channels": self._channels,
            "dependencies": self._dependencies,
            "variables": self._variables,
            "prefix": lambda _: None,
        }
        for key, node, value in self._items(root, ""):
            if key in sections:
                sections[key](value)
            elif key == "platforms":
                self._fault(node, key, "platforms are the manifest's [targets]")
            else:
                near = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"is {near[0]!r} meant?" if near else f"known are {', '.join(_KEYS)}"
                self._fault(node, key, f"unknown key; {hint}")

    def _name(self, node: yaml.Node) -> None:
        self.name = self._text(node, "name")

    def _channels(self, node: yaml.Node) -> None:
        for number, item in enumerate(self._sequence(node, "channels")):
            channel = self._text(item, f"channels[{number}]")
            if channel is not None and (not channel or " " in channel):
                self._fault(item, f"channels[{number}]", "must be a channel's name, URL or folder")
            elif channel not in {None, "nodefaults"}:
                self.channels.append(str(channel))

    def _dependencies(self, node: yaml.Node) -> None:
        for number, item in enumerate(self._sequence(node, "dependencies")):
            key = f"dependencies[{number}]"
            if not isinstance(item, yaml.MappingNode):
                self._conda(item, key)
                continue
            for name, name_node, value in self._items(item, key):
                if name != "pip":
                    self._fault(name_node, f"{key}.{name}", "only a pip section may stand among the conda requirements")
                elif self.has_pip_section:
                    self._fault(name_node, f"{key}.pip", "there is one pip section")
                else:
                    self.has_pip_section = True
                    self._pip(value, f"{key}.pip")

    def _conda(self, node: yaml.Node, key: str) -> None:
        spec = self._text(node, key)
        if spec is None:
            return
        try:
            check_match_spec(spec)
        except ValueError as error:
            self._fault(node, key, f"{shortened(escaped(redact(spec)))}: {error}")
            return
        python = python_of(spec)
        if python and python[0]:
            self.python.append(python[0])
        if not python or not python[1]:
            self.conda.append(CondaRequirement(spec=spec.strip(), source=f"{self.source}:{_line(node)}"))

    def _pip(self, node: yaml.Node, key: str) -> None:
        items = [(item, self._text(item, f"{key}[{index}]")) for index, item in enumerate(self._sequence(node, key))]
        lines = [(_line(item), text) for item, text in items if text is not None]
        folder = posixpath.dirname(self.source)
        try:
            self.pip = parse_requirement_lines(lines, self.source, self.read, folder=folder, environ=self.environ)
        except ManifestError as error:
            self.faults.extend(error.faults)

    def _variables(self, node: yaml.Node) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, "variables", "must be a mapping of names to values")
            return
        for name, name_node, value in self._items(node, "variables"):
            if not _VARIABLE.fullmatch(name):
                self._fault(name_node, f"variables.{name}", "is no name of an environment variable")
            # conda takes numbers and truth values as they are written, too.
            elif (text := self._text(value, f"variables.{name}", any_scalar=True)) is not None:
                self.variables[name] = text

    def _items(self, node: yaml.MappingNode, parent: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """(key, its node, value's node) of a mapping; keys that are no text or come twice are faults."""
        seen: set[str] = set()
        for key_node, value in node.value:
            key = self._text(key_node, parent)
            if key is None:
                continue
            if key in seen:
                self._fault(key_node, f"{parent}.{key}" if parent else key, "this key was given before")
                continue
            seen.add(key)
            yield key, key_node, value

    def _sequence(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if node.tag != "tag:yaml.org,2002:null":
            self._fault(node, key, "must be a list")
        return []

    def _text(self, node: yaml.Node, key: str, *, any_scalar: bool = False) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or (node.tag != _STRING and not any_scalar):
            self._fault(node, key, "must be text" + (" in quotes" if isinstance(node, yaml.ScalarNode) else ""))
            return None
        try:
            return check_plain(str(node.value))
        except ValueError as error:
            self._fault(node, key, str(error))
            return None

    def _fault(self, node: yaml.Node | None, key: str, message: str) -> None:
        line = _line(node) if node is not None else 0
        self.faults.append(Fault(source=self.source, line=line, key=shortened(escaped(redact(key))), message=message))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
