"""A learning switch: frames go where their receiver was last heard, or everywhere (IEEE 802.1D, clause 7).

Theory of operation
-------------------
A switch learns from each frame at which port its sender is, and forgets that after the ageing time, 300 s, without one
(7.9). A frame for somebody it knows goes to that port alone, and nowhere if it came from there; one for a group, or
for somebody unknown, goes to all other ports (7.7). A group address is no sender. Frames for 01:80:c2:00:00:00 to :0f
are between neighbours, and not forwarded (7.12.6). Tags are not looked at, and no spanning tree is built: a loop of
switches carries a broadcast for ever, as it does in life.

What was learnt lies in a table of buckets of eight: a bucket that is full of stations heard of late learns no other,
whose frames are then flooded, and counts it.
"""

from __future__ import annotations

from typing import NamedTuple

from netemu.errors import ConfigError
from netemu.frame import frame_at
from netemu.jit import (
    Struct,
    StructArray,
    array_of,
    entry,
    hook,
    i64,
    kernel,
    load16be,
    load32be,
    pointer,
    struct,
)
from netemu.net.port import Port, port_at, port_send
from netemu.net.wire_frame import get_wire_frame, put_wire_frame, wire_frame_at
from netemu.timers import TimerQueue, timers_at

AGEING_NS = 300 * 1_000_000_000
"""Recommended value of table 7-5."""
FDB_SIZE = 4096
FDB_MAX = 1 << 20
_WAYS = 8
_HEADER = 14
_RESERVED = 0x0180C2000000
_GROUP = 0x010000000000
_NOBODY = -1


@struct
class Station(Struct):
    """An entry of the filtering database."""

    mac: i64
    """48 bits; 0: free."""
    port: i64
    seen: i64
    """ns."""


@struct
class SwitchPort(Struct):
    """A port, and what became of the frames that came in there."""

    port: i64
    """Address of the `Port`."""
    forwarded: i64
    """Went to one other port."""
    flooded: i64
    """Went to all other ports."""
    filtered: i64
    """Their receiver is where they came from."""
    reserved: i64
    """Are for the switch's neighbourhood alone, or too short for a header."""
    learned: i64
    """Stations that were new here, those that moved here included."""
    unlearned: i64
    """Frames of stations for which the table had no place."""


@struct
class SwitchState(Struct):
    """What kernels see of a switch."""

    timers: i64
    ports: i64
    """Address of ``count`` `SwitchPort` structs."""
    count: i64
    stations: i64
    """Address of ``size`` `Station` structs, a power of two."""
    size: i64
    ageing: i64


switch_at = pointer(SwitchState)
switch_port_at = pointer(SwitchPort)
station_at = pointer(Station)
SWITCH_PORT_SIZE = SwitchPort.dtype.itemsize
STATION_SIZE = Station.dtype.itemsize


@kernel
def _bucket(s: SwitchState, mac: i64) -> i64:
    """Address of the first of the places where a station can be."""
    mixed = ((mac ^ (mac >> 20)) & 0x3FFFFFFF) * 0x9E3779B1
    return s.stations + ((mixed >> 24) & (s.size // _WAYS - 1)) * _WAYS * STATION_SIZE


@kernel
def _learn(s: SwitchState, sp: SwitchPort, mac: i64, number: i64) -> None:
    """A station was heard at a port."""
    now = timers_at(s.timers).now
    first = _bucket(s, mac)
    place = 0
    for at in range(first, first + _WAYS * STATION_SIZE, STATION_SIZE):
        station = station_at(at)
        if station.mac == mac:
            if station.port != number or now - station.seen > s.ageing:
                sp.learned += 1
            station.port = number
            station.seen = now
            return
        if place == 0 and (station.mac == 0 or now - station.seen > s.ageing):
            place = at
    if place == 0:
        sp.unlearned += 1
        return
    station = station_at(place)
    station.mac = mac
    station.port = number
    station.seen = now
    sp.learned += 1


@kernel
def _find(s: SwitchState, mac: i64) -> i64:
    """The port where a station is, or _NOBODY."""
    now = timers_at(s.timers).now
    first = _bucket(s, mac)
    for at in range(first, first + _WAYS * STATION_SIZE, STATION_SIZE):
        station = station_at(at)
        if station.mac == mac:
            return station.port if now - station.seen <= s.ageing else _NOBODY
    return _NOBODY


@kernel
def _flood(s: SwitchState, number: i64, wire_frame: i64) -> None:
    """Send a frame out of all ports but one, as long as something is plugged in."""
    for other in range(s.count):
        port = switch_port_at(s.ports + other * SWITCH_PORT_SIZE).port
        if other != number and port_at(port).link != 0:
            get_wire_frame(wire_frame)
            port_send(port, wire_frame)
    put_wire_frame(wire_frame)


@entry
def switch_receive(switch: i64, number: i64, wire_frame: i64) -> i64:
    """`Port.receive` of a switch's ports."""
    s = switch_at(switch)
    sp = switch_port_at(s.ports + number * SWITCH_PORT_SIZE)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    if frame.len < _HEADER:
        sp.reserved += 1
        put_wire_frame(wire_frame)
        return 0
    target = load16be(frame.address) << 32 | load32be(frame.address + 2)
    source = load16be(frame.address + 6) << 32 | load32be(frame.address + 8)
    if source & _GROUP == 0 and source != 0:
        _learn(s, sp, source, number)
    if target & ~0xF == _RESERVED:
        sp.reserved += 1
        put_wire_frame(wire_frame)
        return 0
    to = _NOBODY if target & _GROUP else _find(s, target)
    if to == _NOBODY:
        sp.flooded += 1
        _flood(s, number, wire_frame)
    elif to == number:
        sp.filtered += 1
        put_wire_frame(wire_frame)
    else:
        sp.forwarded += 1
        port_send(switch_port_at(s.ports + to * SWITCH_PORT_SIZE).port, wire_frame)
    return 0


class FdbEntry(NamedTuple):
    """A station that a switch knows."""

    mac: str
    port: int
    age: int
    """ns since it was heard last."""


class Switch:
    """A learning switch; it has as many ports as are added.

    Example::

        switch = Switch(timers)
        Link(timers, frames, host_port, switch.add_port())
    """

    def __init__(self, timers: TimerQueue, *, ageing: int = AGEING_NS, fdb_size: int = FDB_SIZE) -> None:
        """``ageing`` in ns; ``fdb_size`` is how many stations it can know, a power of two. Raises `ConfigError`."""
        if ageing < 0 or not _WAYS <= fdb_size <= FDB_MAX or fdb_size & (fdb_size - 1):
            raise ConfigError(f"a switch knows {_WAYS} to {FDB_MAX} stations, a power of two, for a time not negative")
        self.ports: list[Port] = []
        self._timers = timers
        self._stations: StructArray[Station] = array_of(Station, fdb_size)
        self._slots: StructArray[SwitchPort] = array_of(SwitchPort, _WAYS)
        self.struct = SwitchState(
            timers=timers.struct.address,
            ports=self._slots.address,
            stations=self._stations.address,
            size=fdb_size,
            ageing=ageing,
        )

    def add_port(self) -> Port:
        """One more port, for a link."""
        number = len(self.ports)
        if number == len(self._slots):
            wider: StructArray[SwitchPort] = array_of(SwitchPort, 2 * number)
            wider.view[:number] = self._slots.view
            self._slots = wider
            self.struct.ports = wider.address
        port = Port(node=self.struct.address, number=number, receive=hook(switch_receive))
        self._slots[number].port = port.address
        self.ports.append(port)
        self.struct.count = number + 1
        return port

    def counters(self, number: int) -> dict[str, int]:
        """What became of the frames that came in at a port, and what the port itself has counted."""
        port = self.ports[number]
        mine = {name: count for name, count in self._slots[number].to_dict().items() if name != "port"}
        names = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_dropped")
        return mine | {name: getattr(port, name) for name in names}

    def fdb(self) -> list[FdbEntry]:
        """The stations it knows, by address."""
        now, view = self._timers.struct.now, self._stations.view
        known = view[(view["mac"] != 0) & (now - view["seen"] <= self.struct.ageing)]
        return sorted(
            FdbEntry(int(mac).to_bytes(6, "big").hex(":"), int(port), now - int(seen)) for mac, port, seen in known
        )

    def flush(self, number: int | None = None) -> None:
        """Forget all stations, or those of one port."""
        view = self._stations.view
        gone = view["mac"] != 0 if number is None else view["port"] == number
        view["mac"][gone] = 0
