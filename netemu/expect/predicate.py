r"""Predicates on packets: a small, well-defined part of Wireshark's display filters.

    predicate  = all {("or" | "||") all}
    all        = one {("and" | "&&") one}
    one        = ("not" | "!") one | "(" predicate ")" | LAYER | FIELD comparison
    comparison = ("==" | "!=" | "<" | "<=" | ">" | ">=") VALUE | "in" "{" VALUE {"," VALUE} "}" | "contains" TEXT

A LAYER or FIELD is a name of `netemu.expect.fields`. A VALUE is a number (decimal, or hexadecimal after 0x), an address
(of IP with /LENGTH behind it: a network), or a MAC address; a TEXT is "in quotes", where \xHH is a byte. The signs
may be written ``eq``, ``ne``, ``lt``, ``le``, ``gt`` and ``ge``.

A comparison is false of a frame that has no such field. Of a field with several values (``ip.addr``, ``tcp.port``) one
has to fit; ``!=`` is true if none of them is equal, and the field is there. So ``ip.addr != X`` says: not from or to X.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError

from netemu.errors import ConfigError
from netemu.expect import fields as f
from netemu.expect.headers import Fields, FieldValue, read_fields
from netemu.expect.words import did_you_mean

Value = int | IPv4Network | IPv6Network
"""What a field is compared with; a MAC address is a number of 48 bits, an IP address a network of one."""

_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_IN_LETTERS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>==|!=|<=|>=|<|>|&&|\|\||[!(){},])|(?P<word>[A-Za-z0-9_.:/-]+))'
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_DEEPEST = 50
"""Parentheses and negations within each other."""


@dataclass(frozen=True, slots=True)
class Has:
    """The frame has this header."""

    field: str

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return self.field in fields

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return self.field


@dataclass(frozen=True, slots=True)
class Compare:
    """A field stands in a relation to a value."""

    field: str
    sign: str
    value: Value

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        found = fields.get(self.field)
        if not found:
            return False
        if self.sign == "!=":
            return not any(_equal(one, self.value) for one in found)
        if self.sign == "==":
            return any(_equal(one, self.value) for one in found)
        value, compare = self.value, _OPERATORS[self.sign]
        assert isinstance(value, int)
        return any(compare(one, value) for one in found if isinstance(one, int))

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return f"{self.field} {self.sign} {_written(self.field, self.value)}"


@dataclass(frozen=True, slots=True)
class Among:
    """A field is one of several values."""

    field: str
    values: tuple[Value, ...]

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return any(_equal(one, value) for one in fields.get(self.field, ()) for value in self.values)

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return f"{self.field} in {{{', '.join(_written(self.field, value) for value in self.values)}}}"


@dataclass(frozen=True, slots=True)
class Contains:
    """Bytes occur in a field."""

    field: str
    needle: bytes

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return any(isinstance(one, bytes) and self.needle in one for one in fields.get(self.field, ()))

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        plain = "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\x{c:02x}" for c in self.needle)
        return f'{self.field} contains "{plain}"'


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    of: Predicate

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return not self.of.holds(fields)

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return f"not ({self.of})" if isinstance(self.of, AnyOf | AllOf) else f"not {self.of}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of two or more."""

    parts: tuple[Predicate, ...]

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return all(part.holds(fields) for part in self.parts)

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return " and ".join(f"({part})" if isinstance(part, AnyOf | AllOf) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One at least of two or more."""

    parts: tuple[Predicate, ...]

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a frame."""
        return any(part.holds(fields) for part in self.parts)

    def __str__(self) -> str:
        """As `parse_predicate` reads it."""
        return " or ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


Predicate = Has | Compare | Among | Contains | Not | AllOf | AnyOf
"""What can be true of a frame."""


def true_of(predicate: Predicate, frame: bytes) -> bool:
    """Whether a predicate is true of an Ethernet frame."""
    return predicate.holds(read_fields(frame))


def parse_predicate(text: str) -> Predicate:
    """Read a predicate; raises `ConfigError` for what is none."""
    parser = _Parser(text)
    predicate = parser.any_of()
    if parser.token:
        raise ConfigError(f"expected 'and' or 'or', not {parser.token!r}, in the predicate '{text.strip()}'")
    return predicate


class _Parser:
    """A text while it is read, token by token; ``token`` is the next one, or empty at the end."""

    def __init__(self, text: str) -> None:
        self._whole = text.strip()
        self._rest = text
        self._depth = 0
        self.token = ""
        self._next()

    def _next(self) -> str:
        """The token that was next; read the one behind it."""
        taken = self.token
        found = _TOKEN.match(self._rest)
        if found is None:
            if self._rest.strip():
                raise ConfigError(f"the predicate '{self._whole}' cannot be read from '{self._rest.strip()[:20]}' on")
            self.token = ""
        else:
            self.token = found.group().strip()
            self._rest = self._rest[found.end() :]
        return taken

    def _took(self, *tokens: str) -> bool:
        if self.token in tokens:
            self._next()
            return True
        return False

    def _need(self, token: str) -> None:
        if not self._took(token):
            raise ConfigError(f"expected '{token}', not {self._told()}, in the predicate '{self._whole}'")

    def _told(self) -> str:
        return repr(self.token) if self.token else "its end"

    def any_of(self) -> Predicate:
        parts = [self._all_of()]
        while self._took("or", "||"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all_of(self) -> Predicate:
        parts = [self._one()]
        while self._took("and", "&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ConfigError(f"a predicate has at most {_DEEPEST} parentheses within each other")
        if self._took("not", "!"):
            found: Predicate = Not(self._one())
        elif self._took("("):
            found = self.any_of()
            self._need(")")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Predicate:
        name = self.token
        if not name or not (name[0].isalpha()):
            raise ConfigError(f"expected a field, not {self._told()}, in the predicate '{self._whole}'")
        if name not in f.FIELDS:
            raise ConfigError(f"no field is called {name!r}{did_you_mean(name, f.FIELDS)}")
        self._next()
        kind = f.FIELDS[name]
        sign = _IN_LETTERS.get(self.token, self.token)
        if kind == f.LAYER:
            if sign in _OPERATORS or sign in {"in", "contains"}:
                raise ConfigError(f"{name} is there or not, and has no value to compare: '{name}' alone asks that")
            return Has(name)
        if kind == f.BYTES:
            if not self._took("contains"):
                raise ConfigError(f'{name} is a piece of the frame: {name} contains "TEXT" asks what is in it')
            return Contains(name, self._text())
        if self._took("in"):
            return Among(name, self._values(name))
        if sign not in _OPERATORS:
            raise ConfigError(f"{name} has to be compared, as in {name} {_example(kind)}")
        if kind not in {f.NUMBER, f.FLAG} and sign not in {"==", "!="}:
            raise ConfigError(f"{name} is an address: it is compared with == or !=, not {sign}")
        self._next()
        return Compare(name, sign, _value(name, self._next()))

    def _values(self, name: str) -> tuple[Value, ...]:
        self._need("{")
        values = [_value(name, self._next())]
        while self._took(","):
            values.append(_value(name, self._next()))
        self._need("}")
        return tuple(values)

    def _text(self) -> bytes:
        if not self.token.startswith('"'):
            raise ConfigError(f"expected a text \"in quotes\", not {self._told()}, in the predicate '{self._whole}'")

        def plain(found: re.Match[str]) -> str:
            code = found.group(1)
            return chr(int(code[1:], 16)) if len(code) == 3 else code

        inner = self._next()[1:-1]
        if not inner.isascii():
            raise ConfigError("a text of a predicate is written in ASCII; other bytes as \\xHH")
        return _ESCAPE.sub(plain, inner).encode("latin-1")


def _example(kind: str) -> str:
    return {f.IPV4: "== 10.0.0.1", f.IPV6: "== fe80::1", f.MAC: "== 02:00:00:00:00:01"}.get(kind, "== 1")


def _value(name: str, text: str) -> Value:
    """A value for a field; raises `ConfigError` for one of another kind."""
    kind = f.FIELDS[name]
    try:
        if kind == f.IPV4:
            return IPv4Network(text, strict=False)
        if kind == f.IPV6:
            return IPv6Network(text, strict=False)
        if kind == f.MAC:
            return int(text.replace(":", "") if _MAC.fullmatch(text) else "none", 16)
        number = int(text, 16 if text.lower().startswith("0x") else 10)
    except (ValueError, AddressValueError, NetmaskValueError):
        wanted = {f.IPV4: "an IPv4 address", f.IPV6: "an IPv6 address", f.MAC: "a MAC address"}.get(kind, "a number")
        told = repr(text) if text else "nothing"
        raise ConfigError(f"{name} is compared with {wanted}, not with {told}") from None
    if number < 0 or (kind == f.FLAG and number > 1):
        raise ConfigError(f"{name} is {'0 or 1' if kind == f.FLAG else 'never negative'}, and not {number}")
    return number


def _written(name: str, value: Value) -> str:
    if isinstance(value, int):
        return value.to_bytes(6, "big").hex(":") if f.FIELDS[name] == f.MAC else str(value)
    return str(value.network_address) if value.prefixlen == value.max_prefixlen else str(value)


def _equal(one: FieldValue, value: Value) -> bool:
    if isinstance(value, int):
        return one == value
    return isinstance(one, IPv4Address | IPv6Address) and one in value
