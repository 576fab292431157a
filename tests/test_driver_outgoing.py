"""The skbs of frames a guest sends: which bytes lie where, what memory they take, and that it all comes back."""

from __future__ import annotations

import ctypes
import struct

import pytest

from netemu.driver.outgoing import SendMemory, build_outgoing, memory_for_sending, skb_linearize
from netemu.jit import allocate
from netemu.pages import page_at, page_pool_at
from netemu.skb import Skb, skb_at
from tests.driver_kit import SMALL, V7_0, Rig, contents, frags, free, linear
from tests.wire import A4, TCP, UDP, ipv4, ipv6, tcp, udp

BLOCK = 32768


class Sender:
    """A driver whose first send queue has memory for frames of the guest's own."""

    def __init__(self, size: int = 64) -> None:
        self.rig = Rig(V7_0, SMALL, size)
        self.memory = SendMemory(self.rig.memory, self.rig.sq, size)
        self._held: list[object] = []

    def build(self, data: bytes, header: bytes = b"") -> Skb | None:
        block = allocate(max(1, len(data)) + 32)
        block.array[: len(data)] = bytearray(data)
        vnet = allocate(32)
        vnet.array[: len(header)] = bytearray(header)
        self._held += [block, vnet]
        address = build_outgoing(self.rig.sq, block.address, len(data), vnet.address if header else 0)
        return skb_at(address) if address else None


def sent(data: bytes, header: bytes = b"") -> Skb:
    skb = Sender.build(SENDERS[-1], data, header)
    assert skb is not None
    assert contents(skb) == data
    return skb


SENDERS: list[Sender] = []


@pytest.fixture(autouse=True)
def sender() -> Sender:
    """The sender of a test, which finds its memory whole at the beginning."""
    SENDERS[:] = [Sender()]
    assert SENDERS[0].memory.idle()
    return SENDERS[0]


def pattern(size: int) -> bytes:
    return bytes((7 * n + n // 256) & 0xFF for n in range(size))


@pytest.mark.parametrize("size", [14, 60, 128])
def test_short_frames_lie_in_the_skbs_own_head(size: int) -> None:
    skb = sent(pattern(size))
    assert (skb.head_page, skb.nr_frags, len(linear(skb))) == (0, 0, size)
    assert skb.data - skb.head == 64


@pytest.mark.parametrize("size", [129, 1514, 9014, BLOCK - 64])
def test_longer_ones_lie_in_one_piece_of_a_block_with_room_for_the_header(size: int) -> None:
    """As a packet socket's frames: one descriptor each (sheet 6.2), at an even address."""
    first, second = sent(pattern(size)), sent(pattern(size))
    for skb in (first, second):
        assert (skb.nr_frags, len(linear(skb))) == (0, size)
        page = page_at(skb.head_page)
        assert skb.data - page.address >= 64
        assert skb.data % 64 == 0
        assert skb.data + size <= page.address + BLOCK
    assert abs(second.data - first.data) >= size + 64 or first.head_page != second.head_page


def test_what_no_block_holds_goes_on_in_frags() -> None:
    skb = sent(pattern(65535))
    assert [len(linear(skb)), *map(len, frags(skb))] == [BLOCK - 64, BLOCK, 65535 - 2 * BLOCK + 64]


GSO = [
    # frame, header (flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers), headers
    pytest.param(ipv4(tcp(bytes(60000)), TCP), (1, 1, 0, 1448, 34, 16, 0), 54, id="TCPv4"),
    pytest.param(ipv4(tcp(bytes(9000), data_offset=15), TCP), (1, 0x81, 0, 1448, 34, 16, 0), 94, id="60 bytes of TCP"),
    pytest.param(ipv6(tcp(bytes(9000)), TCP), (1, 4, 0, 1428, 54, 16, 0), 74, id="TCPv6"),
    pytest.param(ipv4(udp(bytes(9000)), UDP), (1, 5, 0, 1400, 34, 6, 0), 42, id="USO"),
]


@pytest.mark.parametrize(("data", "fields", "headers"), GSO)
def test_frames_to_be_segmented_have_their_headers_in_the_head_and_the_rest_in_frags(
    data: bytes, fields: tuple[int, ...], headers: int
) -> None:
    """As TCP builds them; the fields come of the virtio header."""
    skb = sent(data, struct.pack("<BBHHHHH", *fields))
    assert len(linear(skb)) == headers
    assert all(len(part) <= BLOCK for part in frags(skb))
    assert skb.head_page == 0
    assert (skb.ip_summed, skb.csum_start, skb.csum_offset) == (3, *fields[4:6])
    assert (skb.gso_type, skb.gso_size) == (fields[1], fields[3])


def test_frags_fill_a_block_to_its_end_before_the_next() -> None:
    parts = []
    for _ in range(3):
        skb = sent(ipv4(tcp(bytes(20000)), TCP), struct.pack("<BBHHHHH", 1, 1, 0, 1448, 34, 16, 0))
        parts.append([len(part) for part in frags(skb)])
    assert parts == [[20000], [BLOCK - 20000, 40000 - BLOCK], [20000]]


def test_a_tunnel_has_its_offsets_and_the_inner_protocol() -> None:
    inner = ipv6(tcp(bytes(3000)), TCP)
    data = ipv4(udp(struct.pack(">II", 0x08000000, 5 << 8) + inner, port=4789), UDP)
    header = struct.pack("<BBHHHHH", 9, 0x44, 0, 1300, 104, 16, 0) + bytes(8) + struct.pack("<HH", 34, 64)
    skb = sent(data, header)
    assert (skb.encapsulation, skb.inner_protocol) == (1, 0x86DD)
    assert (skb.transport_header, skb.inner_network_header, skb.inner_transport_header) == (34, 64, 104)
    assert skb.gso_type == 0x44 | 0x100
    assert len(linear(skb)) == 124


def test_a_header_that_asks_for_nothing_leaves_nothing_to_do() -> None:
    """DATA_VALID is what a judge says of a right checksum; it is not for sending (TX-V-39)."""
    skb = sent(ipv4(tcp(), TCP), bytes([2]) + bytes(11))
    assert (skb.ip_summed, skb.gso_size) == (0, 0)


def test_without_memory_there_is_no_skb_and_nothing_is_lost(sender: Sender) -> None:
    pool = page_pool_at(sender.rig.sq.frag_pool)
    held = [sent(pattern(BLOCK - 64)) for _ in range(pool.total)]
    assert sender.build(pattern(200)) is None
    assert sender.build(pattern(70000)) is None
    skb = sent(pattern(128))
    free(skb, *held)
    assert sender.memory.idle()
    small = [sent(pattern(14)) for _ in range(64 + 64)]
    assert sender.build(pattern(14)) is None
    free(*small)
    assert sender.memory.idle()


def test_a_frag_list_becomes_one_skb_without(sender: Sender) -> None:
    """skb_linearize: bytes, checksum, GSO and tags are as before, and the old skbs are free."""
    first = sent(ipv4(tcp(bytes(2000), addresses=A4), TCP), struct.pack("<BBHHHHH", 1, 1, 0, 500, 34, 16, 0))
    second = sent(pattern(1000))
    whole = contents(first) + contents(second)
    first.frag_list = ctypes.addressof(second)
    first.len += second.len
    first.data_len += second.len
    first.frame_id, first.tstamp, first.wire_len = 7, 8, 9
    copy = skb_at(skb_linearize(sender.rig.sq, ctypes.addressof(first)))
    assert (copy.frag_list, contents(copy)) == (0, whole)
    assert (copy.ip_summed, copy.csum_start, copy.gso_type, copy.gso_size) == (3, 34, 1, 500)
    assert (copy.frame_id, copy.tstamp, copy.wire_len) == (7, 8, 9)
    free(copy)
    assert sender.memory.idle()


@pytest.mark.parametrize("num", [1, 64, 1024, 32768])
def test_memory_is_enough_for_what_is_taken(num: int) -> None:
    rig = Rig(V7_0, SMALL, 64)
    before = rig.memory.reserve(1)
    SendMemory(rig.memory, rig.sq, num)
    assert rig.memory.reserve(1) - before <= memory_for_sending(num)
