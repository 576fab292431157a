"""Which receive queue a frame goes to: one flow on one queue, many flows over all (section 5.1.6.5.6 of VIRTIO 1.4).

Kernels that Python calls check each access, and a frame here has not a byte of memory more than it is long: looking
beyond a frame's end fails these tests.
"""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.rss import Rss
from netemu.device.steering import Steerer, flow_hash, select_queue
from netemu.virtio.net import NetConfig
from tests.hashing import Exact

MACS = bytes.fromhex("02000000000b 02000000000a")
BACK = bytes.fromhex("02000000000a 02000000000b")
TCP, UDP, ICMP = 6, 17, 1


def steerer(queues: int) -> Steerer:
    """A device's steering with so many queue pairs, all enabled."""
    made = Steerer(Rss(NetConfig(max_virtqueue_pairs=queues)), queues)
    made.set_pairs(queues)
    return made


STEERERS = {queues: steerer(queues) for queues in (1, 2, 3, 4, 7, 64)}


def hashed(data: bytes) -> int:
    frame = Exact(data)
    return int(flow_hash(frame.address, frame.size))


def queue_of(data: bytes, queues: int) -> int:
    frame = Exact(data)
    steering = STEERERS[queues].state
    return int(select_queue(steering.address, frame.address, frame.size, 0))


def ports(source: int, target: int) -> bytes:
    return struct.pack(">HH", source, target)


def ipv4(
    source: int, target: int, payload: bytes, *, protocol: int = TCP, fragment: int = 0, options: bytes = b""
) -> bytes:
    ihl = 5 + len(options) // 4
    total = 4 * ihl + len(payload)
    head = struct.pack(">BBHHHBBHII", 0x40 | ihl, 0, total, 7, fragment, 64, protocol, 0, source, target)
    return head + options + payload


def ipv6(source: int, target: int, payload: bytes, *, protocol: int = TCP) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return head + source.to_bytes(16, "big") + target.to_bytes(16, "big") + payload


def ethernet(kind: int, payload: bytes, *tags: int, macs: bytes = MACS) -> bytes:
    inner = b"".join(struct.pack(">HH", tag, 42) for tag in tags)
    return macs + inner + struct.pack(">H", kind) + payload


A4, B4 = 0xC0000201, 0xC0000202
A6, B6 = 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 2
SEGMENT, ANSWER = ports(40000, 80) + bytes(16), ports(80, 40000) + bytes(16)

BOTH_WAYS = {
    "ipv4-tcp": (ethernet(0x800, ipv4(A4, B4, SEGMENT)), ethernet(0x800, ipv4(B4, A4, ANSWER), macs=BACK)),
    "ipv4-udp": (
        ethernet(0x800, ipv4(A4, B4, SEGMENT, protocol=UDP)),
        ethernet(0x800, ipv4(B4, A4, ANSWER, protocol=UDP), macs=BACK),
    ),
    "ipv4-icmp": (
        ethernet(0x800, ipv4(A4, B4, b"\x08\0", protocol=ICMP)),
        ethernet(0x800, ipv4(B4, A4, b"\0\0", protocol=ICMP), macs=BACK),
    ),
    "ipv6-tcp": (ethernet(0x86DD, ipv6(A6, B6, SEGMENT)), ethernet(0x86DD, ipv6(B6, A6, ANSWER), macs=BACK)),
    "vlan": (
        ethernet(0x800, ipv4(A4, B4, SEGMENT), 0x8100),
        ethernet(0x800, ipv4(B4, A4, ANSWER), 0x8100, macs=BACK),
    ),
    "arp": (ethernet(0x806, bytes(28)), ethernet(0x806, bytes(28), macs=BACK)),
}


@pytest.mark.parametrize(("there", "back"), BOTH_WAYS.values(), ids=BOTH_WAYS)
def test_both_directions_of_a_flow_hash_alike(there: bytes, back: bytes) -> None:
    assert hashed(there) == hashed(back) != 0


def test_the_hash_has_32_bits_and_depends_on_nothing_but_the_flow() -> None:
    for payload in (b"", b"\xff" * 1000):
        for macs in (MACS, BACK):
            frame = ethernet(0x800, ipv4(A4, B4, SEGMENT + payload), macs=macs)
            assert hashed(frame) == hashed(BOTH_WAYS["ipv4-tcp"][0])
            assert 0 <= hashed(frame) < 1 << 32


def test_vlan_tags_do_not_change_a_flow_s_queue() -> None:
    """One tag, two, or more, of either kind."""
    plain = hashed(ethernet(0x800, ipv4(A4, B4, SEGMENT)))
    for tags in ((0x8100,), (0x88A8, 0x8100), (0x8100,) * 5):
        assert hashed(ethernet(0x800, ipv4(A4, B4, SEGMENT), *tags)) == plain


def test_ip_options_move_the_ports() -> None:
    plain = hashed(ethernet(0x800, ipv4(A4, B4, SEGMENT)))
    assert hashed(ethernet(0x800, ipv4(A4, B4, SEGMENT, options=bytes(8)))) == plain


def test_all_fragments_of_a_datagram_take_the_same_queue() -> None:
    """Only the first has ports; so none is looked at for them."""
    first = ethernet(0x800, ipv4(A4, B4, SEGMENT, protocol=UDP, fragment=0x2000))
    middle = ethernet(0x800, ipv4(A4, B4, b"\x11" * 32, protocol=UDP, fragment=0x2000 | 4))
    last = ethernet(0x800, ipv4(A4, B4, b"\x22" * 8, protocol=UDP, fragment=8))
    assert hashed(first) == hashed(middle) == hashed(last)


def test_do_not_fragment_is_no_fragment() -> None:
    assert hashed(ethernet(0x800, ipv4(A4, B4, SEGMENT, fragment=0x4000))) == hashed(BOTH_WAYS["ipv4-tcp"][0])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("vary", ["source port", "target port", "source address", "target address"])
def test_each_part_of_a_flow_counts(version: int, vary: str) -> None:
    def frame(step: int) -> bytes:
        port = ports(40000 + step * (vary == "source port"), 80 + step * (vary == "target port"))
        source, target = step * (vary == "source address"), step * (vary == "target address")
        if version == 4:
            return ethernet(0x800, ipv4(A4 + source, B4 + target, port))
        return ethernet(0x86DD, ipv6(A6 + source, B6 + target, port))

    assert len({hashed(frame(step)) for step in range(100)}) == 100


@pytest.mark.parametrize("byte", range(6))
def test_frames_that_are_not_ip_go_by_all_bytes_of_their_mac_addresses(byte: int) -> None:
    """Stations on one link often differ in the last byte alone."""
    sources = []
    for n in range(16):
        source = bytearray(6)
        source[byte] = 16 * n
        sources.append(ethernet(0x806, bytes(28), macs=MACS[:6] + bytes(source)))
    assert len({hashed(frame) for frame in sources}) == 16


@pytest.mark.parametrize("queues", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("version", [4, 6])
def test_a_thousand_flows_spread_over_all_queues(queues: int, version: int) -> None:
    """Evenly within a factor of two where chance would give each at least 100 of them."""
    draw = random.Random(version)  # fixed, so that the test says the same every time
    counts: Counter[int] = Counter()
    for _ in range(1000):
        port = ports(draw.randrange(1024, 65536), 443)
        if version == 4:
            frame = ethernet(0x800, ipv4(draw.randrange(1 << 32), B4, port))
        else:
            frame = ethernet(0x86DD, ipv6(A6 + draw.randrange(1 << 64), B6, port))
        counts[queue_of(frame, queues)] += 1
    assert set(counts) <= set(range(queues))
    if queues <= 10:
        assert all(500 / queues < counts[queue] < 2000 / queues for queue in range(queues))
    else:
        assert len(counts) > queues * 0.9


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_a_frame_cut_short_anywhere_is_never_read_beyond_its_end(name: str) -> None:
    whole = BOTH_WAYS[name][0]
    for size in range(len(whole) + 1):
        assert 0 <= hashed(whole[:size]) < 1 << 32
        assert 0 <= queue_of(whole[:size], 3) < 3


KINDS = st.sampled_from([b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\x08\x06"])


@given(st.binary(max_size=80) | st.builds(lambda kind, data: MACS + kind + data, KINDS, st.binary(max_size=80)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_of_any_length_have_a_queue(data: bytes) -> None:
    assert 0 <= queue_of(data, 4) < 4
    assert queue_of(data, 4) == queue_of(data, 4)
