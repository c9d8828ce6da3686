"""The line of every key and array item of a TOML document, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""Keys from the top of the document down; an array's items are told apart by their index."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
# A string's closing quotes may be preceded by one or two quotes of its own, hence the {0,2}.
_BASIC_LINES = r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
_LITERAL_LINES = r"'''.*?'''(?:'{0,2})"
_BASIC = r'"(?:[^"\\\n]|\\.)*"'
_LITERAL = r"'[^'\n]*'"
_STRING = re.compile(f"{_BASIC_LINES}|{_LITERAL_LINES}|{_BASIC}|{_LITERAL}", re.DOTALL)
_KEY = re.compile(rf"[A-Za-z0-9_-]+|{_BASIC}|{_LITERAL}")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_REST_OF_LINE = re.compile(r"[^\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line at which each table, key and array item of a valid document first stands.

    Obeys TOML 1.0: dotted and quoted keys, arrays of tables, inline tables, multi-line strings and arrays. Of a
    document that `tomllib` refuses, the lines up to some point are found. Errors: RecursionError, as of `tomllib`,
    where arrays are nested thousands deep.
    """
    return _Scanner(text).document()


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, else that of its nearest parent which has one, else 0."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


class _Scanner:
    """One pass over a document; `position` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.last_index: dict[KeyPath, int] = {}  # of each array of tables met so far

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._take(_BLANK)
            before = self.position
            if self._next("[["):
                table = self._header(2)
            elif self._next("["):
                table = self._header(1)
            else:
                self._assignment(table)
            if self.position == before:
                return self.lines
            self._take(_REST_OF_LINE)

    def _header(self, brackets: int) -> KeyPath:
        line = self._line()
        self.position += brackets
        keys = self._keys()
        path: KeyPath = ()
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            self.lines.setdefault(path, line)
            if brackets == 2 and depth == len(keys):
                self.last_index[path] = self.last_index.get(path, -1) + 1
            if path in self.last_index:
                path = (*path, self.last_index[path])
        self.lines[path] = line
        return path

    def _assignment(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._take(_SPACE)
        if self._next("="):
            self.position += 1
            self._take(_SPACE)
            self._value(path)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._take(_SPACE)
            token = self._take(_KEY)
            if not token:
                return keys
            keys.append(_unquoted(token))
            self._take(_SPACE)
            if not self._next("."):
                return keys
            self.position += 1

    def _value(self, path: KeyPath) -> None:
        if self._next("["):
            self._array(path)
        elif self._next("{"):
            self._inline_table(path)
        elif not self._take(_STRING):
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while self._at_item("]"):
            item = (*path, index)
            self.lines[item] = self._line()
            before = self.position
            self._value(item)
            if self.position == before:
                return
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while self._at_item("}"):
            before = self.position
            self._assignment(path)
            if self.position == before:
                return

    def _at_item(self, closing: str) -> bool:
        """Go past blanks and commas to the next item; False, and past `closing`, where there is none."""
        self._take(_BLANK)
        while self._next(","):
            self.position += 1
            self._take(_BLANK)
        if self._next(closing):
            self.position += 1
            return False
        return self.position < len(self.text)

    def _next(self, token: str) -> bool:
        return self.text.startswith(token, self.position)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_left(self.newlines, self.position) + 1


def _unquoted(token: str) -> str:
    if token[0] == "'":
        return token[1:-1]
    if token[0] != '"':
        return token
    try:
        return str(tomllib.loads(f"key = {token}")["key"])
    except tomllib.TOMLDecodeError:
        return token
