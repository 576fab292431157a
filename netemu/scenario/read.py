"""A scenario file: read, checked as a whole, and every mistake told with its line.

What the file says table by table is checked by the models (`netemu.scenario.topology`,
`netemu.scenario.traffic_kinds`); here is how their errors become words. What holds between tables is checked by
`netemu.scenario.check`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from netemu.errors import ConfigError
from netemu.expect import parse_expectation
from netemu.expect.words import did_you_mean, listed, nearest
from netemu.scenario.check import check
from netemu.scenario.expect_section import ExpectSection
from netemu.scenario.mistakes import Mistake, Mistakes, ScenarioError
from netemu.scenario.positions import Path, positions
from netemu.scenario.topology import (
    CaptureSection,
    ChangeSection,
    CpuSection,
    GuestSection,
    LabSection,
    LinkSection,
    RouterSection,
    Section,
    SwitchSection,
    keys_of,
)
from netemu.scenario.traffic_kinds import KINDS
from netemu.scenario.values import shown
from netemu.scenario.whole import Expected, Scenario

_S = TypeVar("_S", bound=Section)
_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)")
_TOML_TWICE = re.compile(r"cannot declare \((.*?),?\) twice", re.IGNORECASE)
_NAMED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WITHIN: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (LinkSection, "at"): ChangeSection,
    (GuestSection, "cpu"): CpuSection,
}
"""The tables within tables."""
_BLANKS = {"ip": [], "between": [], "from": "", "to": "", "at": "", "file": "", "packets": [], "query": "", "that": []}
"""What stands for keys that a table needs and has not, or has wrong, in the checks that follow."""
_UNKNOWN = "extra_forbidden"
"""Pydantic's word for a key that a table does not have."""
_MOST_BYTES = 4 << 20


def read_scenario(path: str, changes: dict[str, Any] | None = None) -> Scenario:
    """Read a file; raises `ScenarioError` with all its mistakes.

    ``changes`` take the place of what the file says, by dotted key ("guest.a.queue_size").
    """
    text = _text_of(path)
    data = _parsed(path, text)
    lines = positions(text)
    mistakes = Mistakes(path, lines)
    for key, value in (changes or {}).items():
        where = _change(data, key, value)
        for inside in [place for place in lines if place[: len(where)] == where]:
            del lines[inside]
        lines[where] = 0  # it stands in no line
    scenario = _Reader(path, data, mistakes, lines).scenario
    if not data.get("guest"):
        mistakes.add((), "there is no guest: a scenario has a table [guest.NAME] for each, and [[link]]s between them")
    check(scenario, mistakes)
    mistakes.raise_any()
    return scenario


def _text_of(path: str) -> str:
    try:
        with FilePath(path).open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(raw) > _MOST_BYTES:
        raise ConfigError(f"{path}: a scenario has at most {_MOST_BYTES >> 20} MiB")
    try:
        return raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ScenarioError(path, [Mistake(line, "this is no text in UTF-8, as TOML has to be")]) from None


def _parsed(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = _TOML_PLACE.fullmatch(str(error))
        last = text.count("\n") + (not text.endswith("\n"))
        line, words = (int(found[2]), f"{found[1]} (column {found[3]})") if found else (max(last, 1), str(error))
        twice = _TOML_TWICE.match(words)
        if twice is not None:
            keys = re.findall(r"'([^']*)'", twice[1])
            words = f"[{'.'.join(keys)}] is there already"
        raise ScenarioError(path, [Mistake(line, f"not TOML: {words[:1].lower()}{words[1:]}")]) from None


def _change(data: dict[str, Any], dotted: str, value: Any) -> Path:
    """Set one value by its dotted key, and say where that is; raises `ConfigError` for a key that leads nowhere."""
    *way, last = dotted.split(".")
    at: Any = data
    where: Path = ()
    for number, key in enumerate(way):
        so_far = ".".join(way[: number + 1])
        if where in {(), ("guest",), ("switch",), ("router",)}:
            _must_exist(at, key, where, so_far)
        step = _number(at, key, so_far, str(where[0])) if isinstance(at, list) else key
        if isinstance(at, dict):
            at.setdefault(key, {})
        elif not isinstance(at, list):
            raise ConfigError(f"--set {so_far}: that is no table")
        at, where = at[step], (*where, step)
    if not isinstance(at, dict):
        raise ConfigError(f"--set {dotted}: {'.'.join(way)} is no table")
    at[last] = value
    return (*where, last)


def _must_exist(at: Any, key: str, where: Path, so_far: str) -> None:
    """A list of tables is there, if empty, and a guest, a switch or a router that is changed has a table."""
    if not isinstance(at, dict) or key in at:
        return
    if not where and key in {"link", "traffic", "capture", "expect"}:
        at[key] = []
    elif where:
        raise ConfigError(f"--set {so_far}: no {where[0]} is called {key!r}{did_you_mean(key, at)}")


def _number(at: list[Any], key: str, so_far: str, kind: str) -> int:
    """The number of an entry, given by the name that it goes by, or counted from 1."""
    names = _names(at, kind)
    if key in names:
        return names.index(key)
    if key.isdecimal() and 1 <= int(key) <= len(at):
        return int(key) - 1
    near = did_you_mean(key, filter(None, names))
    raise ConfigError(f"--set {so_far}: no entry has the name or number {key!r}{near}")


def _names(at: list[Any], kind: str) -> list[str]:
    """What each of a list of tables is called; nothing for what is called nothing."""
    count: dict[str, int] = {}
    names = []
    for one in at:
        table = one if isinstance(one, dict) else {}
        name = str(table.get("name", ""))
        if not name and kind == "link" and isinstance(table.get("between"), list):
            name = "-".join(map(str, table["between"]))
        if not name and kind == "traffic":
            of = str(table.get("kind"))
            count[of] = count.get(of, 0) + 1
            name = of if count[of] == 1 else f"{of}-{count[of]}"
        names.append(name)
    return names


class _Reader:
    """One file while its tables are read."""

    def __init__(self, path: str, data: dict[str, Any], mistakes: Mistakes, lines: dict[Path, int]) -> None:
        self._data, self._mistakes = data, mistakes
        self.scenario = scenario = Scenario(path, lines)
        sections = ("lab", "guest", "switch", "router", "link", "traffic", "capture", "expect")
        for key in data:
            if key not in sections:
                near = did_you_mean(key, sections)
                mistakes.add((key,), f"no part of a scenario is called {key!r}{near}")
        lab = self._table("lab")
        scenario.lab = (self._read(LabSection, lab, ("lab",)) if lab else None) or LabSection()
        scenario.guests = self._named("guest", GuestSection)
        scenario.switches = self._named("switch", SwitchSection)
        scenario.routers = self._named("router", RouterSection)
        scenario.links = self._list("link", LinkSection)
        scenario.captures = self._list("capture", CaptureSection)
        self._traffic()
        self._expected()

    def _table(self, key: str) -> dict[str, Any]:
        value = self._data.get(key, {})
        if isinstance(value, dict):
            return value
        told = f"[[{key}]] is written [{key}]" if isinstance(value, list) else f"expected a table: [{key}]"
        self._mistakes.add((key,), told)
        return {}

    def _named(self, key: str, section: type[_S]) -> dict[str, _S]:
        """The tables [key.NAME]."""
        found = {}
        for name, value in self._table(key).items():
            if not isinstance(value, dict):
                self._mistakes.add((key, name), f"a {key} needs a name: [{key}.NAME]")
            elif not _NAMED.fullmatch(name):
                self._mistakes.add((key, name), f"a name has letters, digits, _ and -, unlike {name!r}")
            else:
                one = self._read(section, value, (key, name))
                if one is not None:
                    found[name] = one
        return found

    def _elements(self, key: str) -> list[tuple[Path, Any]]:
        value = self._data.get(key, [])
        if not isinstance(value, list):
            self._mistakes.add((key,), f"expected an array of tables: [[{key}]]")
            return []
        return [((key, number), one) for number, one in enumerate(value)]

    def _list(self, key: str, section: type[_S]) -> list[tuple[Path, _S]]:
        """The tables [[key]]."""
        found = []
        for where, value in self._elements(key):
            one = self._read(section, value, where)
            if one is not None:
                found.append((where, one))
        return found

    def _traffic(self) -> None:
        count: dict[str, int] = {}
        for where, value in self._elements("traffic"):
            kind = value.get("kind") if isinstance(value, dict) else None
            if not isinstance(kind, str):
                self._mistakes.add(where, f"traffic needs a kind: {listed(KINDS, 'or')}")
                continue
            if kind not in KINDS:
                near = did_you_mean(kind, KINDS)
                self._mistakes.add((*where, "kind"), f"no kind of traffic is called {kind!r}{near}")
                continue
            one = self._read(KINDS[kind], value, where)
            if one is not None:
                count[kind] = count.get(kind, 0) + (not one.name)
                name = one.name or (kind if count[kind] == 1 else f"{kind}-{count[kind]}")
                self.scenario.traffic.append((where, name, one))

    def _expected(self) -> None:
        for where, value in self._elements("expect"):
            one = ExpectSection(that=[value]) if isinstance(value, str) else self._read(ExpectSection, value, where)
            for number, text in enumerate(one.that if one else ()):
                place = (*where, "that", number)
                try:
                    expectation = parse_expectation(_about(text, one.of if one else ""))
                except ConfigError as error:
                    self._mistakes.add(place, str(error))
                else:
                    self.scenario.expected.append(Expected(expectation, one.why if one else "", place))

    def _read(self, section: type[_S], value: Any, where: Path) -> _S | None:
        if not isinstance(value, dict):
            self._mistakes.add(where, f"{_dotted(where)}: expected a table, not {shown(value)}")
            return None
        try:
            return section.model_validate(value)
        except ValidationError as errors:
            found = errors.errors()
        self.scenario.faulty.add(where)
        misspelt = {nearest(str(error["loc"][-1]), keys_of(section)) for error in found if error["type"] == _UNKNOWN}
        for error in found:
            if error["type"] != "missing" or error["loc"][-1] not in misspelt:
                self._told(section, error, where)
        return self._rest(section, value, {str(error["loc"][0]) for error in found})

    @staticmethod
    def _rest(section: type[_S], value: dict[str, Any], wrong: set[str]) -> _S | None:
        """What a table is without the keys that are wrong: so that names it gives are known to other tables."""
        right = {key: one for key, one in value.items() if key not in wrong}
        needed = {one.alias or name for name, one in section.model_fields.items() if one.is_required()}
        blanks = {key: blank for key, blank in _BLANKS.items() if key in wrong & needed}
        try:
            return section.model_validate(blanks | right)
        except ValidationError:
            return None

    def _told(self, section: type[BaseModel], error: ErrorDetails, where: Path) -> None:
        """Add pydantic's error about a table at ``where`` as a mistake, in words."""
        inner = tuple(error["loc"])
        model = section
        for key in inner[:-1]:
            model = _WITHIN.get((model, str(key)), model)
        place = where + inner
        if error["type"] == _UNKNOWN:
            near = did_you_mean(str(inner[-1]), keys_of(model))
            key = f"{_dotted(place[:-1])} has no key {inner[-1]!r}"
            self._mistakes.add(place, key + near)
        elif error["type"] == "missing":
            self._mistakes.add(place, f"{_dotted(place[:-1])} needs a key {inner[-1]!r}")
        else:
            self._mistakes.add(place, f"{_dotted(place)}: {_in_words(error)}")


def _about(text: str, scope: str) -> str:
    """An expectation with the scope that its table names, unless it has its own."""
    names_its_own = re.match(r"\s*(?:never\s+)?seen\b|[^\s:<>=!]+\s*:", text)
    return f"{scope}: {text}" if scope and not names_its_own else text


def _dotted(where: Path) -> str:
    """A path as people write it: numbers of elements are left out, as the line says which one it is."""
    return ".".join(str(key) for key in where if isinstance(key, str))


def _in_words(error: ErrorDetails) -> str:
    """What pydantic found wrong with a value."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "told":
        return str(error["msg"])
    expected = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "string_type": 'a text in "quotes"',
        "list_type": "an array",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "dict_type": "a table",
    }.get(kind)
    if expected is not None:
        return f"expected {expected}, not {shown(value)}"
    limits = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
    limits |= {"greater_than": ("more than", "gt"), "less_than": ("less than", "lt")}
    if kind in limits:
        words, key = limits[kind]
        return f"expected {words} {context[key]}, not {shown(value)}"
    return str(error["msg"])
