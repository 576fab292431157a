"""IP addresses for Python: the standard library's objects, and the two numbers that kernels have for each."""

from __future__ import annotations

import ipaddress

from netemu.errors import ConfigError
from netemu.stack.host import MAPPED_IPV4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
InterfaceAddress = ipaddress.IPv4Interface | ipaddress.IPv6Interface

Halves = tuple[int, int]
"""``hi`` and ``lo``."""
ANY: Halves = (0, 0)
"""No address: that of a socket which is bound to none."""

_HALF = (1 << 64) - 1
_MAPPED_BITS = 96


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _split(number: int) -> tuple[int, int]:
    return _signed(number >> 64), _signed(number & _HALF)


def halves(address: Address) -> tuple[int, int]:
    """``hi`` and ``lo`` of an address, an IPv4 one mapped (`netemu.stack.host`)."""
    if address.version == 4:
        return 0, MAPPED_IPV4 | int(address)
    return _split(int(address))


def from_halves(hi: int, lo: int) -> Address:
    """The address of two halves."""
    if hi == 0 and lo >> 32 == 0xFFFF:
        return ipaddress.IPv4Address(lo & 0xFFFFFFFF)
    return ipaddress.IPv6Address((hi & _HALF) << 64 | (lo & _HALF))


def halves_of(text: str) -> Halves:
    """The halves of an address as it is written; ``0.0.0.0`` and ``::`` are ANY. Raises `ConfigError`."""
    address = parse_address(text)
    return ANY if address.is_unspecified else halves(address)


def halves_text(hi: int, lo: int) -> str:
    """The address of two halves as it is written; ANY is ``::``."""
    return str(from_halves(hi, lo))


def halves_are_ipv4(address: Halves) -> bool:
    """Whether they are those of an IPv4 address; ANY is of both versions."""
    return address[0] == 0 and address[1] >> 32 == 0xFFFF


def mask_halves(network: Network) -> tuple[int, int]:
    """The netmask of a network over the 128 bits that kernels compare."""
    length = network.prefixlen + (_MAPPED_BITS if network.version == 4 else 0)
    return _split(((1 << length) - 1) << (128 - length))


def parse_address(text: str | Address) -> Address:
    """An address as a person writes it; raises `ConfigError`."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{text} is no IP address") from None


def parse_network(text: str | Network) -> Network:
    """A prefix such as 10.0.0.0/24, or ``default`` for 0.0.0.0/0; raises `ConfigError`."""
    if text == "default":
        return ipaddress.IPv4Network("0.0.0.0/0")
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"{text} is no prefix: {error}") from None


def parse_interface(text: str | InterfaceAddress) -> InterfaceAddress:
    """An address with the length of its prefix, such as 10.0.0.1/24; raises `ConfigError`."""
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise ConfigError(f"{text} is no address with a prefix: {error}") from None


def check_port(port: int, protocol: str) -> None:
    """Raises `ConfigError` for what is no port of TCP or UDP (``protocol``, in words)."""
    if not isinstance(port, int) or not 0 <= port <= 0xFFFF:
        raise ConfigError(f"a {protocol} port is a number from 0 to 65535, not {port!r}")


def mac_text(mac: int) -> str:
    """A station address with colons."""
    return mac.to_bytes(6, "big").hex(":")
