"""A learning switch: IEEE 802.1D, clause 7."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.frame import frame_at
from netemu.jit import hook
from netemu.net.link import Link
from netemu.net.port import Port, port_send
from netemu.net.switch import AGEING_NS, FdbEntry, Switch
from netemu.net.wire_frame import WireFrames, alloc_wire_frame, put_wire_frame, wire_frame_at
from netemu.timers import TimerQueue

BROADCAST = "ff:ff:ff:ff:ff:ff"
A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


class Network:
    """A switch with a station at each of its ports; links without delay, so that frames arrive at once."""

    def __init__(self, ports: int = 3, **options: int) -> None:
        self.timers, self.frames = TimerQueue(1 << 12), WireFrames()
        self.switch = Switch(self.timers, **options)
        self.got: list[tuple[int, bytes]] = []
        receive = hook(self._receive)
        self.stations = [Port(number=n, receive=receive) for n in range(ports)]
        self.links = [Link(self.timers, self.frames, station, self.switch.add_port()) for station in self.stations]
        self.free = self.frames.pool.small_count

    def _receive(self, _node: int, number: int, wire_frame: int) -> int:
        self.got.append((number, self.frames.bytes_of(wire_frame)))
        put_wire_frame(wire_frame)
        return 0

    def send(self, port: int, to: str, source: str, data: bytes = b"") -> list[int]:
        """Send a frame; the stations that got it."""
        self.got.clear()
        frame = (mac(to) + mac(source) + b"\x08\x00" + data) if to else data
        wire_frame = alloc_wire_frame(self.frames.pool, len(frame))
        ctypes.memmove(frame_at(wire_frame_at(wire_frame).frame).address, frame, len(frame))
        port_send(self.stations[port].address, wire_frame)
        self.timers.run_until(self.timers.struct.now)
        assert self.frames.pool.small_count == self.free
        assert {data for _, data in self.got} <= {frame}
        return sorted(number for number, _ in self.got)


def test_a_frame_for_somebody_unknown_goes_to_all_others() -> None:
    """7.7.1: each other port is a potential transmission port."""
    net = Network()
    assert net.send(0, B, A) == [1, 2]
    assert net.switch.counters(0)["flooded"] == 1


def test_a_frame_for_somebody_heard_goes_there_alone() -> None:
    """7.8: the source address is learnt with its port."""
    net = Network()
    net.send(1, A, B)
    assert net.send(0, B, A) == [1]
    assert net.send(1, A, B) == [0]
    assert net.switch.fdb() == [FdbEntry(A, 0, 0), FdbEntry(B, 1, 0)]
    assert net.switch.counters(0)["forwarded"] == 1


def test_a_frame_for_somebody_at_the_same_port_goes_nowhere() -> None:
    net = Network()
    net.send(0, BROADCAST, A)
    assert net.send(0, A, B) == []
    assert net.switch.counters(0)["filtered"] == 1


def test_a_broadcast_and_a_group_go_to_all_others() -> None:
    net = Network()
    assert net.send(2, BROADCAST, C) == [0, 1]
    assert net.send(2, "01:00:5e:00:00:01", C) == [0, 1]


@pytest.mark.parametrize("last", [0x00, 0x01, 0x0E, 0x0F])
def test_a_reserved_address_is_not_forwarded(last: int) -> None:
    """7.12.6 and table 7-9; its sender is learnt all the same."""
    net = Network()
    assert net.send(0, f"01:80:c2:00:00:{last:02x}", A) == []
    assert net.switch.counters(0)["reserved"] == 1
    assert net.send(1, A, B) == [0]


def test_the_address_behind_the_reserved_ones_is_an_ordinary_group() -> None:
    assert Network().send(0, "01:80:c2:00:00:10", A) == [1, 2]


def test_a_station_that_moves_is_found_where_it_was_heard_last() -> None:
    net = Network()
    net.send(0, BROADCAST, A)
    net.send(1, BROADCAST, A)
    assert net.send(2, A, C) == [1]


def test_a_group_address_is_no_sender() -> None:
    """7.8 b): only individual addresses are learnt."""
    net = Network()
    net.send(0, BROADCAST, "03:00:00:00:00:01")
    net.send(0, BROADCAST, "00:00:00:00:00:00")
    assert net.switch.fdb() == []


def test_a_station_is_forgotten_after_the_ageing_time() -> None:
    """7.9.2: 300 s, table 7-5."""
    net = Network()
    net.send(0, BROADCAST, A)
    net.timers.run_until(AGEING_NS)
    assert net.send(1, A, B) == [0]
    net.timers.run_until(AGEING_NS + 1)
    assert net.send(1, A, B) == [0, 2]
    assert net.switch.fdb() == [FdbEntry(B, 1, 0)]


def test_a_station_that_is_heard_is_not_forgotten() -> None:
    net = Network()
    net.send(0, BROADCAST, A)
    net.timers.run_until(AGEING_NS)
    net.send(0, BROADCAST, A)
    net.timers.run_until(2 * AGEING_NS)
    assert net.send(1, A, B) == [0]


def test_a_full_table_learns_nobody_else_until_somebody_is_forgotten() -> None:
    net = Network(2, fdb_size=8)
    for n in range(10):
        net.send(0, BROADCAST, f"02:00:00:00:01:{n:02x}")
    assert len(net.switch.fdb()) == 8
    assert net.switch.counters(0)["unlearned"] == 2
    net.timers.run_until(AGEING_NS + 1)
    net.send(0, BROADCAST, A)
    assert net.switch.fdb() == [FdbEntry(A, 0, 0)]


def test_ports_that_nothing_is_plugged_into_get_no_copies() -> None:
    net = Network()
    net.links[2].unplug()
    assert net.send(0, BROADCAST, A) == [1]
    assert net.switch.ports[2].tx_dropped == 0


def test_a_frame_too_short_for_addresses_is_dropped() -> None:
    net = Network()
    assert net.send(0, "", "", b"thirteen byte") == []
    assert net.switch.counters(0)["reserved"] == 1


def test_ports_may_be_many_and_count_what_passes_them() -> None:
    net = Network(20)
    assert net.send(19, BROADCAST, A, bytes(46)) == list(range(19))
    assert net.switch.counters(19)["rx_bytes"] == 60
    assert net.switch.counters(3)["tx_packets"] == 1


def test_a_switch_forgets_when_it_is_told() -> None:
    net = Network()
    net.send(0, BROADCAST, A)
    net.send(1, BROADCAST, B)
    net.switch.flush(0)
    assert net.switch.fdb() == [FdbEntry(B, 1, 0)]
    net.switch.flush()
    assert net.switch.fdb() == []


@pytest.mark.parametrize("options", [{"fdb_size": 100}, {"fdb_size": 4}, {"ageing": -1}])
def test_a_switch_that_cannot_be_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        Switch(TimerQueue(16), **options)


STATIONS = [f"02:00:00:00:00:{n:02x}" for n in range(6)]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([*STATIONS, BROADCAST]), st.sampled_from(STATIONS)), max_size=40
    )
)
@settings(max_examples=40, deadline=None)
def test_frames_go_where_a_dictionary_says(sent: list[tuple[int, str, str]]) -> None:
    """The model: a dictionary from station to port."""
    net = Network(4)
    where: dict[str, int] = {}
    for port, to, source in sent:
        where[source] = port
        target = where.get(to)
        if target is None:
            expected = [other for other in range(4) if other != port]
        else:
            expected = [] if target == port else [target]
        assert net.send(port, to, source) == expected
