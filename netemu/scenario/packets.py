"""Packets as scapy writes them, from the text of a scenario: data, not code.

The text has the form of a Python expression, and means what scapy makes of it; but it is not run. Only layers of scapy
can be called, with plain arguments, and joined with ``/``.
"""

from __future__ import annotations

import ast
import logging
from typing import Any

from netemu.aio.scapy_frames import frame_of
from netemu.errors import ConfigError
from netemu.expect.words import did_you_mean

_MOST_BYTES = 1 << 17
_MOST_TEXT = 20_000
_NEVER_FIRST = {"IP", "IPv6", "ARP", "ICMP", "UDP", "TCP"}
"""What nobody means to be the first layer of a frame; anything else odd may be on purpose."""


def parse_packets(text: str) -> list[Any]:
    """The packets of scapy's that a text describes; raises `ConfigError` for what is no packet."""
    if len(text) > _MOST_TEXT:
        raise ConfigError(f"packets are described in at most {_MOST_TEXT} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"not an expression: {getattr(error, 'msg', error)}") from None
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    made = _Maker().made(tree)
    packets = made if isinstance(made, list) else [made]
    if not packets or not all(isinstance(packet, _packet_class()) for packet in packets):
        raise ConfigError("expected a packet of scapy or a list of them, as in Ether()/IP(dst='10.0.0.2')/UDP()")
    for packet in packets:
        if type(packet).__name__ in _NEVER_FIRST:
            raise ConfigError(f"a frame begins with Ether(), as in Ether()/{type(packet).__name__}(...)")
        try:
            frame_of(packet, bytes(6), ())
        except Exception as error:  # noqa: BLE001 - there is no telling what scapy raises on values that do not fit
            raise ConfigError(f"scapy cannot build this packet: {error}") from None
    return packets


def _packet_class() -> Any:
    from scapy.packet import Packet  # noqa: PLC0415 - takes half a second

    return Packet


def _layers() -> dict[str, Any]:
    """The layers that a text may name: those that Wireshark users know, and their options."""
    from scapy.layers import dhcp, dns, inet, inet6, l2  # noqa: PLC0415
    from scapy.packet import Padding, Raw  # noqa: PLC0415

    named = {name: one for module in (l2, inet, inet6, dhcp, dns) for name, one in vars(module).items()}
    layers = {name: one for name, one in named.items() if isinstance(one, type) and issubclass(one, _packet_class())}
    return layers | {"Raw": Raw, "Padding": Padding}


class _Maker:
    """Makes the value of an expression, of the few kinds that are known."""

    def __init__(self) -> None:
        self._layers = _layers()

    def made(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str() | bytes() | int() | float() | bool() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.List(elts=parts):
                return [self.made(part) for part in parts]
            case ast.Tuple(elts=parts):
                return tuple(self.made(part) for part in parts)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._joined(self.made(left), self.made(right))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self._repeated(self.made(left), self.made(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                return self._layer(name, args, keywords)
            case ast.Name(id=name):
                raise ConfigError(f"{name!r} is no value; a layer is written {name}()")
        raise ConfigError(
            f"'{ast.unparse(node)[:40]}' is none of what a packet may be made of: layers, values, / and *"
        )

    def _joined(self, lower: Any, upper: Any) -> Any:
        packet = _packet_class()
        if isinstance(lower, packet) and isinstance(upper, packet | str | bytes):
            return lower / upper
        raise ConfigError("/ joins a layer with what it carries: a layer, or text or bytes")

    def _repeated(self, left: Any, right: Any) -> Any:
        text, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(text, str | bytes) and isinstance(times, int) and len(text) * times <= _MOST_BYTES:
            return text * times
        raise ConfigError(f"* repeats text or bytes, up to {_MOST_BYTES}")

    def _layer(self, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        layer = self._layers.get(name)
        if layer is None:
            raise ConfigError(f"no layer is called {name!r}{did_you_mean(name, self._layers)}")
        if args and not (name in {"Raw", "Padding"} and len(args) == 1):
            raise ConfigError(f"the fields of {name} are named, as in IP(dst='10.0.0.2')")
        fields = [field.name for field in layer.fields_desc]
        values = {}
        for keyword in keywords:
            if keyword.arg is None or keyword.arg not in fields:
                near = did_you_mean(keyword.arg or "**", fields)
                raise ConfigError(f"{name} has no field {keyword.arg or '**'!r}{near}")
            values[keyword.arg] = self.made(keyword.value)
        try:
            return layer(*(self.made(arg) for arg in args), **values)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - there is no telling what scapy raises on values that do not fit
            raise ConfigError(f"scapy does not take these fields of {name}: {error}") from None
