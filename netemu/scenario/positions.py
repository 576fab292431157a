"""Where the keys and values of a TOML text stand: `tomllib` gives values alone.

The scanner goes over a text that `tomllib` has read, so it is valid: what would be an error elsewhere is no case here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

Path = tuple[str | int, ...]
"""The keys, and numbers of elements of arrays, that lead to a value; empty for the whole text."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'',
    re.DOTALL,
)


def positions(text: str) -> dict[Path, int]:
    """The line (from 1) of every key, table and element of an array in a valid TOML text."""
    return _Scanner(text).lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self._arrays: dict[Path, int] = {}
        self.lines: dict[Path, int] = {(): 1}
        table: Path = ()
        while self._skip(_BLANK) < len(text):
            if text.startswith("[[", self._at):
                table = self._header(2)
            elif text.startswith("[", self._at):
                table = self._header(1)
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._at

    def _note(self, path: Path, line: int) -> None:
        """Note a value, and the tables that a dotted key makes on its way."""
        for depth in range(1, len(path) + 1):
            self.lines.setdefault(path[:depth], line)

    def _line(self) -> int:
        return bisect_right(self._starts, self._at)

    def _keys(self) -> list[str]:
        """A dotted key, and the space behind it."""
        keys = []
        while True:
            self._skip(_SPACE)
            start = self._at
            if self._text[start] in "\"'":
                keys.append(_unquoted(self._text[start : self._skip(_STRING)]))
            else:
                keys.append(self._text[start : self._skip(_BARE_KEY)])
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _header(self, brackets: int) -> Path:
        line = self._line()
        self._at += brackets
        path: Path = ()
        keys = self._keys()
        self._at += brackets
        for number, key in enumerate(keys):
            path = (*path, key)
            if brackets == 2 and number == len(keys) - 1:
                self.lines.setdefault(path, line)
                self._arrays[path] = self._arrays.get(path, 0) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        self._note(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = (*table, *self._keys())
        self._note(path, line)
        self._at += 1
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if first in "\"'" else _SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._text[self._skip(_BLANK)] != "]":
            self._note((*path, number), self._line())
            self._value((*path, number))
            number += 1
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            self._pair(path)
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1


def _unquoted(key: str) -> str:
    """A quoted key as tomllib reads it."""
    import tomllib  # noqa: PLC0415 - rare

    (plain,) = tomllib.loads(f"{key} = 0")
    return str(plain)
