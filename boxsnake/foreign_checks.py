"""Checks that teams have already: container-structure-test's and goss's files, as boxsnake's own checks.

Both are YAML. What has a counterpart here is taken over; anything else is a fault, with its key: a check that is left
out in silence would prove what nobody has looked at. Text in, values out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import yaml

from boxsnake.boot_recipe import Check
from boxsnake.errors import Fault, ManifestError

_LOCAL = ("localhost", "127.0.0.1", "::1")
_SAYS_NOTHING = frozenset({"title", "meta"})
_NO_COUNTERPART = "has no counterpart among boxsnake's checks"


def foreign_checks(text: str, source: str) -> tuple[Check, ...]:
    """The checks of a file of either kind, each under a name of its own. `source` is the file's name for messages.

    Errors: ManifestError with everything that cannot be taken over.
    """
    reader = _Reader(source)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reader.fault("", f"is no YAML: {' '.join(str(error).split())}")
        document = {}
    if not isinstance(document, dict):
        reader.fault("", "is no file of container-structure-test's or goss's: its top is no mapping")
        document = {}
    found = list(reader.structure(document) if "schemaVersion" in document else reader.goss(document))
    if reader.faults:
        step = "Correct the file, or name another."
        if all(fault.key for fault in reader.faults):
            step = "Take these out of the file, or write them as checks with `run` in the manifest."
        raise ManifestError(source, tuple(reader.faults), step)
    return tuple(_each_named_once(found))


def _each_named_once(checks: list[Check]) -> Iterator[Check]:
    counts: dict[str, int] = {}
    for check in checks:
        counts[check.name] = count = counts.get(check.name, 0) + 1
        yield dataclasses.replace(check, name=f"{check.name} ({count})") if count > 1 else check


class _Reader:
    """Reads one file, and gathers its faults."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.faults: list[Fault] = []

    def fault(self, key: str, message: str) -> None:
        """Something is wrong with a key."""
        self.faults.append(Fault(source=self._source, line=0, key=key, message=message))

    # container-structure-test, schema 2.0.0

    def structure(self, document: dict[str, Any]) -> Iterator[Check]:
        """The checks of container-structure-test's file."""
        kinds = {
            "commandTests": self._command_test,
            "fileExistenceTests": self._existence_test,
            "fileContentTests": self._content_test,
        }
        for kind, tests in document.items():
            if kind in kinds and isinstance(tests, list):
                for number, test in enumerate(tests):
                    place = f"{kind}[{number}]"
                    if isinstance(test, dict) and test.get("name"):
                        yield from self._read(place, kinds[kind](place, test))
                    else:
                        self.fault(place, "has no name")
            elif kind != "schemaVersion":
                self.fault(str(kind), _NO_COUNTERPART)

    def _command_test(self, place: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "name", "command", "args", "exitCode", "expectedOutput", "expectedError")
        run = tuple(map(str, (test.get("command", ""), *(test.get("args") or ()))))
        patterns = [*(test.get("expectedOutput") or ()), *(test.get("expectedError") or ())]
        check = Check(name=str(test["name"]), run=run, exit_code=int(test.get("exitCode", 0)))
        yield from self._with_patterns(place, check, patterns)

    def _existence_test(self, place: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "name", "path", "shouldExist")
        if test.get("shouldExist", True) is not True:
            self.fault(f"{place}.shouldExist", _NO_COUNTERPART)
        yield Check(name=str(test["name"]), file=str(test.get("path", "")))

    def _content_test(self, place: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "name", "path", "expectedContents")
        check = Check(name=str(test["name"]), file=str(test.get("path", "")))
        yield from self._with_patterns(place, check, test.get("expectedContents") or ())

    # goss

    def goss(self, document: dict[str, Any]) -> Iterator[Check]:
        """The checks of a goss file."""
        kinds = {"command": self._command, "file": self._file, "port": self._port, "http": self._http}
        for kind, tests in document.items():
            if kind not in kinds or not isinstance(tests, dict):
                self.fault(str(kind), _NO_COUNTERPART)
                continue
            for name, test in tests.items():
                if not isinstance(test, dict):
                    self.fault(f"{kind}.{name}", "is no mapping")
                elif not test.get("skip", False):
                    place = f"{kind}.{name}"
                    yield from self._read(place, kinds[kind](place, str(name), test))

    def _command(self, place: str, name: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "exec", "exit-status", "stdout", "stderr", "timeout", "skip")
        check = Check(
            name=name,
            run=("sh", "-c", str(test.get("exec", name))),
            exit_code=int(test.get("exit-status", 0)),
            timeout=_seconds(test),
        )
        yield from self._with_words(place, check, [*(test.get("stdout") or ()), *(test.get("stderr") or ())])

    def _file(self, place: str, name: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "exists", "contents", "contains", "skip")
        if test.get("exists", True) is not True:
            self.fault(f"{place}.exists", _NO_COUNTERPART)
        words = [*(test.get("contents") or ()), *(test.get("contains") or ())]
        yield from self._with_words(place, Check(name=name, file=name), words)

    def _port(self, place: str, name: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "listening", "skip")
        kind, _, number = name.rpartition(":")
        if kind not in {"", "tcp", "tcp6"} or not number.isdigit() or test.get("listening", True) is not True:
            self.fault(place, _NO_COUNTERPART)
            return
        yield Check(name=name, tcp=int(number))

    def _http(self, place: str, name: str, test: dict[str, Any]) -> Iterator[Check]:
        self._takes(place, test, "status", "body", "timeout", "skip")
        url = urlsplit(name)
        if url.scheme != "http" or url.hostname not in _LOCAL:
            self.fault(place, "asks another host, or by TLS; a booted box has no network, and is asked by http://")
            return
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        check = Check(
            name=name, http=path, port=url.port or 80, status=int(test.get("status", 200)), timeout=_seconds(test)
        )
        yield from self._with_words(place, check, test.get("body") or ())

    # Both

    def _read(self, place: str, checks: Iterator[Check]) -> Iterator[Check]:
        """The checks of one entry; a value of another type than its tool reads is a fault."""
        try:
            yield from checks
        except (TypeError, ValueError) as error:
            self.fault(place, f"cannot be read: {error}")

    def _takes(self, place: str, test: dict[str, Any], *keys: str) -> None:
        for key in test.keys() - set(keys) - _SAYS_NOTHING:
            self.fault(f"{place}.{key}", _NO_COUNTERPART)

    def _with_words(self, place: str, check: Check, words: Any) -> Iterator[Check]:
        """Goss's patterns: a text, or "/an expression/"; with "!" before it, what must not be there."""
        patterns = []
        for word in words if isinstance(words, list | tuple) else [words]:
            text = str(word)
            if text.startswith("!"):
                self.fault(place, f"what must not be there ({text!r}) {_NO_COUNTERPART}")
            is_expression = len(text) > 1 and text.startswith("/") and text.endswith("/")
            patterns.append(text[1:-1] if is_expression else re.escape(text.removeprefix("\\")))
        yield from self._with_patterns(place, check, patterns)

    def _with_patterns(self, place: str, check: Check, patterns: Any) -> Iterator[Check]:
        """One check for each pattern; the check itself where there is none."""
        for pattern in patterns:
            try:
                re.compile(str(pattern))
            except re.error as error:
                self.fault(place, f"{str(pattern)!r} is no regular expression of Python's: {error}")
            yield dataclasses.replace(check, matches=str(pattern))
        if not patterns:
            yield check


def _seconds(test: dict[str, Any]) -> float:
    return float(test.get("timeout", 30_000)) / 1000
