"""The kinds of values in a scenario: read from their texts, with messages that say what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from netemu.errors import ConfigError
from netemu.expect.words import did_you_mean
from netemu.net.units import parse_rate, parse_size, parse_time

_T = TypeVar("_T")
_BARE = re.compile(r"[-+]?[0-9.]+\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def fault(message: str) -> PydanticCustomError:
    """An error with a message that is complete as it is."""
    return PydanticCustomError("told", "{message}", {"message": message})


def _read(function: Callable[[str], _T]) -> Callable[[Any], _T]:
    """What reads a text, as a validator: errors of configuration are told as they are."""

    def read(value: Any) -> _T:
        try:
            return function(value)
        except (ConfigError, ValueError) as error:
            raise fault(str(error)) from None

    return read


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ConfigError(f'expected a time with its unit, as in "{_number(value) or 10}ms", not {shown(value)}')
    if _BARE.fullmatch(value):
        raise ConfigError(f'{value.strip()!r} needs a unit of time, as in "{value.strip()}ms"')
    return parse_time(value)


def _rate(value: Any) -> int:
    if not isinstance(value, str):
        raise ConfigError(f'expected a rate with its unit, as in "{_number(value) or 10}mbit", not {shown(value)}')
    if _BARE.fullmatch(value):
        raise ConfigError(f'{value.strip()!r} needs a unit of rate, as in "{value.strip()}mbit"')
    rate = parse_rate(value)
    if rate == 0:
        raise ConfigError("a rate is more than 0")
    return rate


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f'expected a size in bytes, as in 1000 or "64kb", not {shown(value)}')
    return parse_size(value)


def _network_address(value: Any) -> IPv4Interface | IPv6Interface:
    """An address with the length of its network."""
    if not isinstance(value, str):
        raise ConfigError(f'expected an address, as in "10.0.0.1/24", not {shown(value)}')
    kind: Any = IPv6Interface if ":" in value else IPv4Interface
    try:
        address: IPv4Interface | IPv6Interface = kind(value)
    except ValueError:
        raise ConfigError(f"{value!r} is no address with the length of its network, as in 10.0.0.1/24") from None
    if "/" not in value:
        raise ConfigError(f"{value!r} needs the length of its network, as in {value}/{64 if ':' in value else 24}")
    return address


def _interface4(value: Any) -> IPv4Interface:
    address = _network_address(value)
    if not isinstance(address, IPv4Interface):
        raise ConfigError(f"expected an IPv4 address, as in 10.0.0.1/24, not {value!r}")
    return address


def _interface6(value: Any) -> IPv6Interface:
    address = _network_address(value)
    if not isinstance(address, IPv6Interface):
        raise ConfigError(f"expected an IPv6 address, as in fd00::1/64, not {value!r}")
    return address


def _address(value: Any, kind: type[IPv4Address | IPv6Address], example: str) -> IPv4Address | IPv6Address:
    try:
        return kind(value if isinstance(value, str) else "")
    except ValueError:
        raise ConfigError(f"expected an address without a length, as in {example}, not {shown(value)}") from None


def _route(value: Any) -> tuple[str, str]:
    words = value.split() if isinstance(value, str) else []
    try:
        network, via, gateway = words
        if via == "via" and ip_network(network).version == ip_address(gateway).version:
            return network, gateway
    except ValueError:
        pass
    raise ConfigError(f'expected a route, as in "10.0.2.0/24 via 10.0.1.253", not {shown(value)}')


def _mac(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        raise ConfigError(f"expected a MAC address, as in 02:00:00:00:00:01, not {shown(value)}")
    if int(value[:2], 16) & 1:
        raise ConfigError(f"{value} is an address of a group: the first byte of a station's is even")
    return value.lower()


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(f"expected a name of letters, digits, _ and -, not {shown(value)}")
    return value


def listed_or_one(value: Any) -> Any:
    """A single value as a list of one."""
    return value if isinstance(value, list) else [value]


def one_of(*words: str) -> Callable[[Any], str]:
    """A validator for a word of several."""

    def read(value: Any) -> str:
        if value in words:
            return str(value)
        choice = ", ".join(words[:-1]) + " or " + words[-1]
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        raise fault(f"expected {choice}, not {shown(value)}{near if 'did' in near else ''}")

    return read


def shown(value: Any) -> str:
    """A value of a TOML file as it may be written there, cut to what a message has room for."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + '..."'


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


Duration = Annotated[int, BeforeValidator(_read(_duration))]
"""ns."""
Rate = Annotated[int, BeforeValidator(_read(_rate))]
"""bit/s."""
Size = Annotated[int, BeforeValidator(_read(_size))]
"""Bytes."""
Interface4 = Annotated[IPv4Interface, BeforeValidator(_read(_interface4))]
Interface6 = Annotated[IPv6Interface, BeforeValidator(_read(_interface6))]
AnyInterface = Annotated[IPv4Interface | IPv6Interface, BeforeValidator(_read(_network_address))]
Address4 = Annotated[IPv4Address, BeforeValidator(_read(lambda value: _address(value, IPv4Address, "10.0.0.254")))]
Address6 = Annotated[IPv6Address, BeforeValidator(_read(lambda value: _address(value, IPv6Address, "fd00::1")))]
AnyAddress = Annotated[
    IPv4Address | IPv6Address,
    BeforeValidator(
        _read(lambda value: _address(value, IPv6Address if ":" in str(value) else IPv4Address, "10.0.0.53"))
    ),
]
Route = Annotated[tuple[str, str], BeforeValidator(_read(_route))]
"""A network, and the address of the router to it."""
Mac = Annotated[str, BeforeValidator(_read(_mac))]
Name = Annotated[str, BeforeValidator(_read(_name))]
