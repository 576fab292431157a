"""The receive filter: modes, MAC table, VLAN table, set through the control queue and asked with frames.

What a frame's fate has to be is worked out here from sections 5.1.6.5.1 to 5.1.6.5.3 alone (`lets_in`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device.filter import TABLE_MAX, filter_accepts
from tests import control_kit as k
from tests.control_kit import ControlHand
from tests.device_kit import CTRL_VQ, VERSION_1, HostFrame, negotiate

STATION = k.STATION
OTHER = bytes.fromhex("0200000000bb")
THIRD = bytes.fromhex("0200000000cc")
GROUP = bytes.fromhex("01005e000001")
GROUP6 = bytes.fromhex("333300000001")
BROADCAST = b"\xff" * 6
EVERYBODY = (STATION, OTHER, THIRD, GROUP, GROUP6, BROADCAST)
UNICASTS, GROUPS = (STATION, OTHER, THIRD), (GROUP, GROUP6)

ON, OFF = b"\1", b"\0"


def frame(destination: bytes, vid: int | None = None, kind: int = 0x8100) -> bytes:
    tag = b"" if vid is None else struct.pack(">HH", kind, 0xE000 | vid)  # priority 7: it does not matter
    return (destination + bytes.fromhex("0200000000fe") + tag + b"\x08\0").ljust(60, b"\0")


def passes(net: ControlHand, data: bytes) -> bool:
    host = HostFrame(data)
    return bool(filter_accepts(net.device.filter.struct, host.address, host.size))


def heard(net: ControlHand) -> set[bytes]:
    """The destinations that get through."""
    return {mac for mac in EVERYBODY if passes(net, frame(mac))}


def table(unicast: list[bytes], multicast: list[bytes]) -> bytes:
    """MAC_TABLE_SET's data: two counted lists (trap T18)."""
    return b"".join(struct.pack("<I", len(macs)) + b"".join(macs) for macs in (unicast, multicast))


# Modes.


def test_mac_d_04_at_first_only_frames_for_the_station_and_broadcasts_are_let_in() -> None:
    """MAC-D-04, MAC-D-01: the table is empty; all modes are off."""
    assert heard(ControlHand(k.CTRL_RX, k.MAC)) == {STATION, BROADCAST}


def test_without_features_that_filter_everything_is_let_in() -> None:
    """VLAN-D-01: all tagged frames too."""
    net = ControlHand(k.MAC)
    assert heard(net) == set(EVERYBODY)
    assert all(passes(net, frame(OTHER, vid)) for vid in (0, 1, 4095))


def test_rxf_d_01_promiscuous_lets_everything_in() -> None:
    """RXF-D-01, RXF-D-02; and off again."""
    net = ControlHand(k.CTRL_RX, k.CTRL_VLAN)
    assert net.accepts(k.RX, k.PROMISC, ON)
    assert heard(net) == set(EVERYBODY)
    assert passes(net, frame(OTHER, 77))
    assert net.accepts(k.RX, k.PROMISC, OFF)
    assert heard(net) == {STATION, BROADCAST}


def test_rxf_d_03_promiscuous_overrides_every_other_mode() -> None:
    """RXF-D-03."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA)
    for mode in (k.NOMULTI, k.NOUNI, k.NOBCAST, k.PROMISC):
        assert net.accepts(k.RX, mode, ON)
    assert heard(net) == set(EVERYBODY)


def test_rxf_d_04_all_multicast_lets_every_group_in() -> None:
    """RXF-D-04, RXF-D-05."""
    net = ControlHand(k.CTRL_RX)
    assert net.accepts(k.RX, k.ALLMULTI, ON)
    assert heard(net) == {STATION, BROADCAST, *GROUPS}
    assert net.accepts(k.RX, k.ALLMULTI, OFF)
    assert heard(net) == {STATION, BROADCAST}


def test_rxf_d_06_all_unicast_lets_every_station_in() -> None:
    """RXF-D-06, RXF-D-07."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA)
    assert net.accepts(k.RX, k.ALLUNI, ON)
    assert heard(net) == {*UNICASTS, BROADCAST}


def test_rxf_d_08_no_multicast_suppresses_groups_even_those_of_the_table() -> None:
    """RXF-D-08, RXF-D-09, RXF-D-10: it wins over all-multicast. RXF-D-11: broadcasts are not meant."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA)
    assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table([], [GROUP]))
    assert net.accepts(k.RX, k.ALLMULTI, ON)
    assert net.accepts(k.RX, k.NOMULTI, ON)
    assert heard(net) == {STATION, BROADCAST}
    assert net.accepts(k.RX, k.NOMULTI, OFF)
    assert heard(net) == {STATION, BROADCAST, *GROUPS}


def test_rxf_d_12_no_unicast_suppresses_stations_even_this_one() -> None:
    """RXF-D-12, RXF-D-13, RXF-D-14: it wins over all-unicast."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA)
    assert net.accepts(k.RX, k.ALLUNI, ON)
    assert net.accepts(k.RX, k.NOUNI, ON)
    assert heard(net) == {BROADCAST}


def test_rxf_d_15_no_broadcast_suppresses_broadcasts() -> None:
    """RXF-D-15, RXF-D-16, RXF-D-17: it wins over all-multicast."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA)
    assert net.accepts(k.RX, k.ALLMULTI, ON)
    assert net.accepts(k.RX, k.NOBCAST, ON)
    assert heard(net) == {STATION, *GROUPS}


def test_ctrl_rx_extra_alone_suppresses_and_refuses_nothing_else() -> None:
    """A driver that cannot fill the table cannot be refused what is not in it."""
    net = ControlHand(k.CTRL_RX_EXTRA)
    assert heard(net) == set(EVERYBODY)
    assert net.accepts(k.RX, k.NOMULTI, ON)
    assert heard(net) == {*UNICASTS, BROADCAST}


@pytest.mark.parametrize("data", [b"\2", b"\xff"])
def test_a_mode_is_0_or_1(data: bytes) -> None:
    net = ControlHand(k.CTRL_RX)
    assert not net.accepts(k.RX, k.PROMISC, data)
    assert heard(net) == {STATION, BROADCAST}


# Addresses.


def test_mac_d_02_the_table_holds_when_the_command_is_used() -> None:
    """MAC-D-02: Each command replaces it; both lists may be empty."""
    net = ControlHand(k.CTRL_RX)
    assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table([OTHER], [GROUP]))
    assert heard(net) == {STATION, OTHER, GROUP, BROADCAST}
    assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table([THIRD], []))
    assert heard(net) == {STATION, THIRD, BROADCAST}
    assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table([], []))
    assert heard(net) == {STATION, BROADCAST}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        struct.pack("<I", 1) + OTHER,
        struct.pack("<I", 2) + OTHER + struct.pack("<I", 0),
        struct.pack("<I6sI", 1, OTHER, 0) + b"\0",
        struct.pack("<I", 0xFFFFFFFF) + bytes(60),
        struct.pack("<II", 0, 0x2AAAAAAB),
    ],
)
def test_lists_that_are_cut_short_or_too_long_leave_the_table_alone(data: bytes) -> None:
    """0x2AAAAAAB addresses of 6 bytes wrap round 32 bits to 2."""
    net = ControlHand(k.CTRL_RX)
    net.accepts(k.MAC_CLASS, k.TABLE_SET, table([THIRD], [GROUP6]))
    assert not net.accepts(k.MAC_CLASS, k.TABLE_SET, data)
    assert heard(net) == {STATION, THIRD, GROUP6, BROADCAST}


@pytest.mark.parametrize(("extra", "everybody"), [(0, False), (1, True)])
def test_rxf_d_18_more_addresses_than_have_room_let_all_of_their_kind_in(extra: int, *, everybody: bool) -> None:
    """RXF-D-18: Best effort: what the driver wants has to come, and more may."""
    net = ControlHand(k.CTRL_RX)
    many = [bytes([2, 0, 0, 1, n >> 8, n & 255]) for n in range(TABLE_MAX + extra)]
    assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table(many, []))
    assert all(passes(net, frame(mac)) for mac in many)
    assert heard(net) == ({*UNICASTS, BROADCAST} if everybody else {STATION, BROADCAST})


def test_mac_d_03_the_configuration_has_the_new_address_when_the_command_is_used() -> None:
    """MAC-D-03: And a reset brings the first one back, with an empty table (MAC-D-01)."""
    net = ControlHand(k.CTRL_RX, k.CTRL_MAC_ADDR, k.MAC)
    assert net.accepts(k.MAC_CLASS, k.ADDR_SET, THIRD)
    assert net.device.read_config(0, 6) == THIRD
    assert heard(net) == {THIRD, BROADCAST}
    net.accepts(k.MAC_CLASS, k.TABLE_SET, table([OTHER], [GROUP]))
    net.accepts(k.RX, k.ALLMULTI, ON)
    features = net.device.features
    net.device.set_status(0)
    negotiate(net.device, features)
    net.device.set_status(15)
    assert net.device.read_config(0, 6) == STATION
    assert heard(net) == {STATION, BROADCAST}


# VLANs.


def test_vlan_d_02_frames_of_vlans_in_the_table_are_let_in_and_others_not() -> None:
    """VLAN-D-02, VLAN-D-03; VLAN-D-04: the table starts empty (trap T17) and has no say about frames without a tag."""
    net = ControlHand(k.CTRL_VLAN)
    assert passes(net, frame(STATION))
    assert not any(passes(net, frame(STATION, vid)) for vid in range(0, 4096, 5))
    for vid in (1, 100, 4095):
        assert net.accepts(k.VLAN, k.ADD, struct.pack("<H", vid))
    assert [vid for vid in range(4096) if passes(net, frame(STATION, vid))] == [1, 100, 4095]
    assert net.accepts(k.VLAN, k.DEL, struct.pack("<H", 100))
    assert [vid for vid in range(4096) if passes(net, frame(STATION, vid))] == [1, 4095]
    assert passes(net, frame(STATION))


def test_a_vlan_id_has_12_bits() -> None:
    net = ControlHand(k.CTRL_VLAN)
    assert not net.accepts(k.VLAN, k.ADD, struct.pack("<H", 4096))
    assert not net.accepts(k.VLAN, k.ADD, struct.pack("<H", 0xFFFF))
    assert not any(passes(net, frame(STATION, vid)) for vid in range(4096))


def test_address_and_vlan_have_to_be_right_both() -> None:
    net = ControlHand(k.CTRL_VLAN, k.CTRL_RX)
    net.accepts(k.VLAN, k.ADD, struct.pack("<H", 5))
    assert passes(net, frame(STATION, 5))
    assert not passes(net, frame(OTHER, 5))
    assert not passes(net, frame(STATION, 6))


@pytest.mark.parametrize("size", range(18))
def test_a_frame_too_short_to_judge_reads_nothing_outside_of_it(size: int) -> None:
    """Kernels that run as Python check every access; a runt is the driver's to count."""
    net = ControlHand(k.CTRL_VLAN, k.CTRL_RX)
    data = frame(OTHER, 5)[:size]
    assert passes(net, data) == (size < 14)


# Everything together.


@dataclass
class Model:
    """The filter as the text has it."""

    modes: dict[int, bool] = field(default_factory=lambda: dict.fromkeys(range(6), False))
    unicast: list[bytes] = field(default_factory=list)
    multicast: list[bytes] = field(default_factory=list)
    vlans: set[int] = field(default_factory=set)
    mac: bytes = STATION

    def lets_in(self, mac: bytes, vid: int | None) -> bool:
        if self.modes[k.PROMISC]:
            return True
        if vid is not None and vid not in self.vlans:
            return False
        if mac == BROADCAST:
            return not self.modes[k.NOBCAST]
        if mac[0] & 1:
            return not self.modes[k.NOMULTI] and (self.modes[k.ALLMULTI] or mac in self.multicast)
        return not self.modes[k.NOUNI] and (self.modes[k.ALLUNI] or mac in (self.mac, *self.unicast))


COMMANDS = st.one_of(
    st.tuples(st.just("mode"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("table"), st.lists(st.sampled_from(UNICASTS), max_size=3), st.lists(st.sampled_from(GROUPS))),
    st.tuples(st.just("vlan"), st.sampled_from([1, 2, 4095]), st.booleans()),
    st.tuples(st.just("mac"), st.sampled_from(UNICASTS), st.none()),
)


@given(st.lists(COMMANDS, max_size=12))
def test_any_series_of_commands_leaves_the_filter_that_the_specification_describes(
    commands: list[tuple[object, ...]],
) -> None:
    """RXF-D-01 to RXF-D-17, MAC-D-02 to MAC-D-04, VLAN-D-02, VLAN-D-03."""
    net = ControlHand(k.CTRL_RX, k.CTRL_RX_EXTRA, k.CTRL_VLAN, k.CTRL_MAC_ADDR, num=16)
    model = Model()
    for command in commands:
        match command:
            case ("mode", int(mode), bool(on)):
                assert net.accepts(k.RX, mode, ON if on else OFF)
                model.modes[mode] = on
            case ("table", list(unicast), list(multicast)):
                assert net.accepts(k.MAC_CLASS, k.TABLE_SET, table(unicast, multicast))
                model.unicast, model.multicast = unicast, multicast
            case ("vlan", int(number), bool(member)):
                assert net.accepts(k.VLAN, k.ADD if member else k.DEL, struct.pack("<H", number))
                (model.vlans.add if member else model.vlans.discard)(number)
            case ("mac", bytes(mac), _):
                assert net.accepts(k.MAC_CLASS, k.ADDR_SET, mac)
                model.mac = mac
    for mac in EVERYBODY:
        for vid in (None, 0, 1, 2, 4095):
            assert passes(net, frame(mac, vid)) == model.lets_in(mac, vid), (mac.hex(), vid)


def test_the_kit_is_what_it_says() -> None:
    net = ControlHand(k.CTRL_RX)
    assert {VERSION_1, CTRL_VQ, k.CTRL_RX} == set(net.device.features)
