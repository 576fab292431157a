"""Where keys stand in a TOML file: every value has its line, however it is written."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from netemu.scenario.positions import Path, positions

ODD = '''# a comment = "with [brackets]"
[lab]
title = "a # no comment, \\" no end" # a comment
story = """
[not.a.table]
key = 1
"""
"quoted.key" = \'single # too\'
'literal key'.inner = """one ""quoted"" line"""
seed=3

[guest.a]   # behind a table
ip = [
    "10.0.0.1/24", # a comment, with ] and ,

    "10.0.0.2/24",
]
cpu = { poll = "1us", "x y" = [1, { z = 2 }] }
[guest]
b.mode = "small"
[[link]]
between = ["a", "b"]
at = [
  { time = "5s" },
  { time = "6s", set = "loss 10%" }
]
  [link.more]
  deep.er = 1979-05-27 07:32:00
[[link]]
between = ['a', """b"""]
[[link.sub]]
x = 1
[[link.sub]]
x = -1.5e3
'''


def test_an_odd_file_worked_out_by_hand() -> None:
    tomllib.loads(ODD)
    lines = positions(ODD)
    wanted: dict[Path, int] = {
        ("lab",): 2,
        ("lab", "title"): 3,
        ("lab", "story"): 4,
        ("lab", "quoted.key"): 8,
        ("lab", "literal key"): 9,
        ("lab", "literal key", "inner"): 9,
        ("lab", "seed"): 10,
        ("guest", "a"): 12,
        ("guest", "a", "ip"): 13,
        ("guest", "a", "ip", 0): 14,
        ("guest", "a", "ip", 1): 16,
        ("guest", "a", "cpu"): 18,
        ("guest", "a", "cpu", "x y", 1, "z"): 18,
        ("guest", "b"): 20,
        ("guest", "b", "mode"): 20,
        ("link",): 21,
        ("link", 0): 21,
        ("link", 0, "at"): 23,
        ("link", 0, "at", 0, "time"): 24,
        ("link", 0, "at", 1): 25,
        ("link", 0, "at", 1, "set"): 25,
        ("link", 0, "more"): 27,
        ("link", 0, "more", "deep", "er"): 28,
        ("link", 1): 29,
        ("link", 1, "between", 1): 30,
        ("link", 1, "sub", 1, "x"): 34,
    }
    assert {path: lines.get(path) for path in wanted} == wanted
    assert lines.keys() == {(), *(path for path, _ in leaves(tomllib.loads(ODD), inner=True))}


def leaves(value: Any, path: Path = (), *, inner: bool = False) -> Iterator[tuple[Path, Any]]:
    """Everything in a parsed file with its path: values alone, or (``inner``) tables and arrays, too."""
    if path and (inner or not isinstance(value, dict | list)):
        yield path, value
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key), inner=inner)


class Writer:
    """Writes random TOML in which each value is a number that comes once."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw
        self._numbers = itertools.count(100_000)
        self._keys = itertools.count()
        self.text = "\n".join(self._table("", 0))

    def _choose(self, *choices: str) -> str:
        return str(self._draw(st.sampled_from(choices)))

    def _key(self) -> str:
        name = f"k{next(self._keys)}"
        return self._choose(name, f'"{name}"', f"'{name}'", f"{name}.inner", f'{name} . "x # y"')

    def _value(self, depth: int) -> str:
        number = str(next(self._numbers))
        kind = self._choose("number", "number", "string", "literal", "long", "array", "lines", "table")
        if depth > 2 or kind == "number":
            return number
        if kind == "string":
            return f'"{number} \\" # ] }}"'
        if kind == "literal":
            return f"'{number} \\'"
        if kind == "long":
            return f'"""{number}\n[x]\n y = 1 \\""" """'
        inner = [self._value(depth + 1) for _ in range(self._draw(st.integers(0, 3)))]
        if kind == "table":
            return "{ " + ", ".join(f"{self._key()}= {one}" for one in inner) + " }"
        return f"[{', '.join(inner)}]" if kind == "array" else "[ # [\n" + ",\n\n".join(inner) + "\n]"

    def _table(self, prefix: str, depth: int) -> Iterator[str]:
        for _ in range(self._draw(st.integers(0, 3))):
            yield f"{self._key()} = {self._value(0)}{self._choose('', ' # a = 1')}"
            yield from self._choose("", "# [comment]", " ").splitlines()
        if depth > 2:
            return
        for _ in range(self._draw(st.integers(0, 2))):
            name = f"{prefix}t{next(self._keys)}"
            if self._choose("table", "array") == "table":
                yield f"[{name}]"
                yield from self._table(name + ".", depth + 1)
                continue
            for _ in range(self._draw(st.integers(1, 3))):
                yield f"  [[ {name} ]] # ]"
                yield from self._table(name + ".", depth + 1)


@given(st.data())
def test_every_value_of_any_file_has_its_line(data: st.DataObject) -> None:
    text = Writer(data.draw).text
    parsed = tomllib.loads(text)
    lines = positions(text)
    assert lines.keys() == {(), *(path for path, _ in leaves(parsed, inner=True))}
    for path, value in leaves(parsed):
        number = re.findall(r"\d{6}", str(value))[0]
        assert lines[path] == 1 + text[: text.index(number)].count("\n"), path
