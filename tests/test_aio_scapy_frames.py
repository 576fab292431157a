"""What a packet of scapy's leaves open is said by who sends it in the lab, never by this machine."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from netemu import ConfigError
from netemu.aio.scapy_frames import frame_of

MAC = bytes.fromhex("020000000001")
OWN = ["10.0.0.1", "10.0.0.9", "2001:db8::1"]


def test_sources_are_the_first_addresses_of_the_sender() -> None:
    frame = frame_of(Ether() / IP(dst="10.0.0.2") / UDP(sport=1, dport=2), MAC, OWN)
    assert frame[:14].hex() == "ffffffffffff" + "020000000001" + "0800"
    assert frame[26:34] == bytes([10, 0, 0, 1, 10, 0, 0, 2])
    frame = frame_of(Ether() / Dot1Q(vlan=5) / IPv6(dst="2001:db8::2") / ICMPv6EchoRequest(), MAC, OWN)
    assert frame[6:18].hex() == "020000000001" + "8100" + "0005" + "86dd"
    assert frame[26:42].hex() == "20010db8000000000000000000000001"
    frame = frame_of(Ether() / ARP(pdst="10.0.0.2"), MAC, OWN)
    assert frame[22:32].hex() == "020000000001" + "0a000001"


def test_what_is_said_stays_and_the_packet_is_not_changed() -> None:
    packet = Ether(src="02:00:00:00:00:77", dst="02:00:00:00:00:02") / IP(src="192.0.2.1", dst="10.0.0.2") / ICMP()
    assert frame_of(packet, MAC, OWN)[:12].hex() == "020000000002" + "020000000077"
    assert frame_of(packet, MAC, OWN)[26:30] == bytes([192, 0, 2, 1])
    bare = Ether() / IP(dst="10.0.0.2")
    frame_of(bare, MAC, OWN)
    assert "src" not in bare.fields


def test_without_an_address_the_source_says_so() -> None:
    assert frame_of(Ether() / IP(dst="10.0.0.2"), MAC, [])[26:30] == bytes(4)


def test_bytes_are_sent_as_they_are_and_text_is_no_frame() -> None:
    assert frame_of(bytearray(b"abc"), MAC, OWN) == b"abc"
    with pytest.raises(ConfigError, match="a frame is bytes or a packet of scapy's, and no str"):
        frame_of("abc", MAC, OWN)
