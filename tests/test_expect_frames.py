"""Packet predicates on frames: tshark, whose words they are, is the judge."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.capture import read_capture
from netemu.errors import NetemuError
from netemu.expect.fields import BYTES, FIELDS, IPV4, IPV6, LAYER, MAC
from netemu.expect.headers import read_fields
from netemu.expect.predicate import parse_predicate, true_of
from tests.support import PCAPS, needs, needs_shared_pcaps, own_captures, shared_captures

ETHERNET = bytes.fromhex("020000000001 020000000002")
IP_HEADER = bytes.fromhex("4500 0030 1234 4000 4006 0000 0a000001 0a000002")
SYN = bytes.fromhex("8000 0050 00000064 00000000 7002 faf0 0000 0000 020405b4 01030307")
"""From port 32768 to 80: MSS 1460, a no-operation, window scale 7."""


def test_the_fields_of_a_syn_worked_out_by_hand() -> None:
    frame = ETHERNET + b"\x08\x00" + IP_HEADER + SYN
    for text in (
        "frame.len == 62 and eth.src == 02:00:00:00:00:02 and eth.type == 0x800",
        "ip.len == 48 and ip.id == 0x1234 and ip.flags.df == 1 and ip.flags.mf == 0 and ip.ttl == 64 and ip.proto == 6",
        "ip.src == 10.0.0.1 and ip.dst == 10.0.0.0/30 and not ip.addr == 10.0.0.3 and ip.addr != 10.0.0.3",
        "tcp.srcport == 32768 and tcp.dstport == 80 and tcp.port == 80 and tcp.port in {1, 32768}",
        "tcp.seq_raw == 100 and tcp.hdr_len == 28 and tcp.len == 0 and tcp.window_size_value == 64240",
        "tcp.flags.syn == 1 and tcp.flags.ack == 0 and tcp.flags.reset == 0",
        "tcp.options.mss_val == 1460 and tcp.options.wscale.shift == 7 and not tcp.options.sack_perm",
        'frame contains "\\x02\\x04\\x05\\xb4" and not tcp.payload contains ""',
    ):
        for part in text.split(" and "):
            assert true_of(parse_predicate(part), frame), part
        assert true_of(parse_predicate(text), frame)


def test_no_comparison_is_true_of_a_field_that_is_not_there() -> None:
    frame = ETHERNET + b"\x08\x00" + IP_HEADER + SYN
    for sign in ("==", "!=", "<", ">="):
        assert not true_of(parse_predicate(f"udp.port {sign} 53"), frame)
    assert true_of(parse_predicate("not udp.port == 53"), frame)


def test_of_several_values_one_has_to_fit_and_none_to_be_unequal() -> None:
    frame = ETHERNET + b"\x08\x00" + IP_HEADER + SYN
    assert not true_of(parse_predicate("ip.addr != 10.0.0.1"), frame)
    assert true_of(parse_predicate("ip.addr == 10.0.0.1 and ip.addr == 10.0.0.2"), frame)


PREFERENCES = (
    *("ip.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE", "ipv6.defragment:FALSE"),
    *("ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"),
)
AS_THEY_ARE = [part for preference in PREFERENCES for part in ("-o", preference)]
"""Each frame by itself, and its checksums looked at."""
PLAIN = ["basics.pcap", "flows.pcapng", "web.pcapng", "sizes.pcap", "ping6.pcap", "web6.pcap", "vlan.pcap", "dns.pcap"]
"""Captures in which no ICMP error quotes another packet."""


def tshark(path: Path, *arguments: str) -> list[str]:
    run = subprocess.run(
        ["tshark", "-n", "-r", path, *AS_THEY_ARE, "-T", "fields", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


def as_read(name: str, text: str) -> object:
    """One value that tshark prints, as `read_fields` has it."""
    kind = FIELDS[name]
    if kind == LAYER:
        return text
    if kind == BYTES:
        return bytes.fromhex(text)
    if kind in {IPV4, IPV6}:
        return ip_address(text)
    if kind == MAC:
        return int(text.replace(":", ""), 16)
    return {"True": 1, "False": 0}[text] if text in {"True", "False"} else int(text, 0)


@needs("tshark")
@pytest.mark.parametrize("name", PLAIN)
def test_tshark_reads_the_same_fields(name: str) -> None:
    asked = [field for field in FIELDS if field != "frame"]
    wanted = [part for field in asked for part in ("-e", field)]
    rows = tshark(PCAPS / name, *wanted, "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|")
    frames = [frame.data for frame in read_capture(PCAPS / name)]
    assert len(rows) == len(frames) > 0
    for number, (row, data) in enumerate(zip(rows, frames, strict=True), 1):
        own = read_fields(data)
        for field, cell in zip(asked, row.split("\t"), strict=True):
            theirs = [as_read(field, text) for text in cell.split("|") if text] if cell else []
            ours = own.get(field, [])
            same = bool(ours) == bool(theirs) if FIELDS[field] == LAYER else ours == theirs
            assert same, (number, field, ours, theirs)


JUDGED = [
    "tcp.flags.syn == 1 and not tcp.flags.ack == 1",
    "tcp.flags.fin == 1 || !(tcp.len < 1000) && ip",
    "tcp.port in {80, 443, 8080} or arp",
    'tcp.payload contains "HTTP"',
    'frame contains "\\x00\\x01\\x02"',
    "ip.addr == 192.0.2.0/24 and ip.ttl ge 64",
    "ip.addr != 192.0.2.0/31",
    "ipv6.addr == fe80::/10 or eth.dst == ff:ff:ff:ff:ff:ff",
]


@needs("tshark")
@pytest.mark.parametrize("text", JUDGED)
def test_tshark_s_display_filter_leaves_the_same_frames(text: str) -> None:
    found = 0
    for name in ("flows.pcapng", "web.pcapng"):
        frames = enumerate(read_capture(PCAPS / name), 1)
        own = [number for number, frame in frames if true_of(parse_predicate(text), frame.data)]
        assert own == [int(line) for line in tshark(PCAPS / name, "-Y", text, "-e", "frame.number")]
        found += len(own)
    assert found > 0


def test_every_field_can_be_asked_for() -> None:
    """Each is read from some frame, or stands in the test above."""
    read: set[str] = set()
    for path in own_captures():
        for frame in read_capture(path):
            read |= read_fields(frame.data).keys()
    assert read <= FIELDS.keys()
    rare = {"tcp.options.sack", "tcp.options.sack.count", "icmp.mtu", "ipv6.fraghdr"}
    assert FIELDS.keys() - read <= rare


@given(st.binary(max_size=120))
def test_any_bytes_have_fields_and_none_is_unknown(data: bytes) -> None:
    for frame in (data, ETHERNET + b"\x08\x00" + IP_HEADER[:-8] + data, ETHERNET + b"\x86\xdd\x60" + data):
        assert read_fields(frame).keys() <= FIELDS.keys()


@needs_shared_pcaps
def test_no_frame_of_any_capture_is_too_odd() -> None:
    for path in shared_captures()[:200]:
        with suppress(NetemuError):  # those that are not Ethernet, or damaged
            for frame in read_capture(path):
                assert read_fields(frame.data).keys() <= FIELDS.keys()
