"""Frames that bring a virtio-net header: what a device does for a driver, and what it must not believe.

Section 5.1.6.2.2 (packet transmission, the device's side).
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.offload import Finisher, Why
from tests.offload_kit import (
    DATA_VALID,
    ECN,
    FINISHED,
    IN_IPV4,
    IN_IPV6,
    NEEDS_CSUM,
    NONE,
    PSEUDO,
    TCPV4,
    TCPV6,
    TUNNEL_CSUM,
    UFO,
    USO,
    V4,
    V6,
    Given,
    PlainFinisher,
    ether,
    finished,
    finished_by_hand,
    header,
    ip4,
    ip6,
    marked,
    read,
    tcp,
    through,
    udp,
    vxlan,
)
from tests.wire import UDP, internet_checksum

SMALL = ether(ip4(tcp(b"hello")))
LARGE = ether(ip4(tcp(marked(3000))))
TUNNEL = vxlan(ether(ip4(tcp(marked(3000)))), check=PSEUDO)
TSO = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)
IN_TUNNEL = {"size": 1000, "start": 84, "offset": 16, "outer_th": 34, "inner_nh": 64}


def refused(frame: bytes, vnet: bytes) -> Why:
    """Why a device does not accept a frame with this header."""
    stage = PlainFinisher()
    assert finished(Given(frame, vnet), stage=stage) == []
    (why,) = stage.reasons
    assert why.refused
    return why


def test_a_checksum_is_finished_from_its_start_to_the_end() -> None:
    """NEEDS_CSUM, worked out by hand: words 0001 f203 f4f5 f6f7 with the field in their midst (RFC 1071, section 3)."""
    frame = bytes(20) + bytes.fromhex("0001f203 ddf2 f4f5f6f7")  # the field already holds the sum of ddf2
    (made,) = finished(Given(frame, header(NEEDS_CSUM, start=20, offset=4)))
    # 0001 + f203 + ddf2 + f4f5 + f6f7 = 3bbe2, folded bbe5, complement 441a
    assert made.data == bytes(20) + bytes.fromhex("0001f203 441a f4f5f6f7")
    assert made.vnet == b""


def test_an_odd_last_byte_is_the_upper_half_of_a_word() -> None:
    frame = bytes(14) + bytes.fromhex("0000 01")
    (made,) = finished(Given(frame, header(NEEDS_CSUM, start=14, offset=0)))
    assert made.data[14:16].hex() == "feff"


def test_a_result_of_zero_goes_out_as_all_ones() -> None:
    """Trap T10: zero would say that UDP has no checksum."""
    payload = b""
    for word in range(0x10000):
        payload = word.to_bytes(2, "big")
        if internet_checksum(V4 + bytes.fromhex("0011000a") + udp(payload, check=NONE)) == 0:
            break
    frame = ether(ip4(udp(payload, check=PSEUDO), UDP))
    (made,) = finished(Given(frame, header(NEEDS_CSUM, start=34, offset=6)))
    assert made.data[40:42] == b"\xff\xff"
    (same,) = finished(frame)
    assert same.data == made.data
    frame = ether(ip4(udp(payload + payload, check=PSEUDO), UDP))
    for it in finished(Given(frame, header(NEEDS_CSUM, USO, size=2, start=34, offset=6))):
        assert it.data[40:42] == b"\xff\xff"


def test_unknown_flags_change_nothing() -> None:
    """TX-D-01."""
    (plain,) = finished(Given(SMALL, header(NEEDS_CSUM, start=34, offset=16)))
    (odd,) = finished(Given(SMALL, header(NEEDS_CSUM | 0xF4, start=34, offset=16)))
    assert odd == plain
    assert [it.data for it in finished(Given(LARGE, b"\xf5" + TSO[1:]))] == [
        it.data for it in finished(Given(LARGE, TSO))
    ]


def test_without_needs_csum_start_and_offset_are_not_looked_at() -> None:
    """TX-D-02, TX-D-14: the frame goes on as it is, right or wrong."""
    for vnet in (header(0, start=34, offset=16), header(0, start=0xFFFF, offset=0xFFFF)):
        (made,) = finished(Given(SMALL, vnet))
        assert (made.data, made.note, made.vnet) == (SMALL, Why.NO_NEED, b"")


@pytest.mark.parametrize("hdr_len", [0, 1, 53, 54, 66, 1000, 0xFFFF])
def test_hdr_len_is_not_believed(hdr_len: int) -> None:
    """TX-D-05, TX-D-06, TX-D-07: whatever it says, the headers are where they are."""
    vnet = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16, hdr_len=hdr_len)
    assert [it.data for it in finished(Given(LARGE, vnet))] == [it.data for it in finished(Given(LARGE, TSO))]


def test_a_tunnel_has_one_kind_of_packet_inside() -> None:
    """TX-D-08."""
    assert refused(TUNNEL, header(NEEDS_CSUM, TCPV4 | IN_IPV4 | IN_IPV6, **IN_TUNNEL)) == Why.BAD_TUNNEL


def test_without_a_tunnel_bit_its_fields_are_not_looked_at() -> None:
    """TX-D-09."""
    vnet = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16, outer_th=0xFFFF, inner_nh=3)
    assert [it.data for it in finished(Given(LARGE, vnet))] == [it.data for it in finished(Given(LARGE, TSO))]


def test_a_tunnel_bit_asks_for_needs_csum() -> None:
    """TX-D-10."""
    assert refused(TUNNEL, header(0, TCPV4 | IN_IPV4, **IN_TUNNEL)) == Why.BAD_TUNNEL


def test_a_tunnel_bit_and_data_valid_exclude_each_other() -> None:
    """TX-D-11."""
    assert refused(TUNNEL, header(NEEDS_CSUM | DATA_VALID, TCPV4 | IN_IPV4, **IN_TUNNEL)) == Why.BAD_TUNNEL


def test_a_tunnel_bit_needs_a_type_of_segmentation() -> None:
    """TX-D-12; and fragments inside of a tunnel (TX-V-23) are none."""
    assert refused(TUNNEL, header(NEEDS_CSUM, IN_IPV4, **IN_TUNNEL)) == Why.BAD_TUNNEL
    assert refused(TUNNEL, header(NEEDS_CSUM, UFO | IN_IPV4, **IN_TUNNEL)) == Why.BAD_TUNNEL


def test_an_outer_checksum_needs_a_tunnel_bit() -> None:
    """TX-D-13."""
    assert refused(LARGE, header(NEEDS_CSUM | TUNNEL_CSUM, TCPV4, size=1000, start=34, offset=16)) == Why.BAD_TUNNEL
    assert refused(SMALL, header(TUNNEL_CSUM)) == Why.BAD_TUNNEL


@pytest.mark.parametrize("change", [{"outer_th": 14}, {"inner_nh": 50}, {"inner_nh": 42}, {"inner_nh": 0xFFFF}])
def test_the_offsets_of_a_tunnel_are_those_of_the_frame(change: dict[str, int]) -> None:
    assert refused(TUNNEL, header(NEEDS_CSUM, TCPV4 | IN_IPV4, **(IN_TUNNEL | change))) == Why.BAD_TUNNEL


def test_the_inner_packet_lies_behind_the_outer_headers() -> None:
    """Else the outer packet could be its own inner one."""
    frame = ether(ip4(udp(marked(3000)), UDP))
    vnet = header(NEEDS_CSUM, USO | IN_IPV4, size=1000, start=34, offset=6, outer_th=34, inner_nh=14)
    assert refused(frame, vnet) == Why.BAD_TUNNEL


def test_a_tunnel_is_found_by_its_header_whatever_its_port() -> None:
    frame = bytearray(vxlan(ether(ip4(tcp(marked(3000)))), check=NONE))
    frame[36:38] = (12345).to_bytes(2, "big")
    made = finished(Given(bytes(frame), header(NEEDS_CSUM, TCPV4 | IN_IPV4, **IN_TUNNEL)))
    assert len(made) == 3
    for it in made:
        read(it.data)


@pytest.mark.parametrize(
    ("frame", "vnet", "why"),
    [
        (SMALL, header(NEEDS_CSUM, start=len(SMALL), offset=0), Why.BAD_CSUM_START),
        (SMALL, header(NEEDS_CSUM, start=len(SMALL) - 1, offset=0), Why.BAD_CSUM_START),
        (SMALL, header(NEEDS_CSUM, start=34, offset=0xFFFF), Why.BAD_CSUM_START),
        (b"", header(NEEDS_CSUM), Why.BAD_CSUM_START),
        (LARGE, header(0, TCPV4, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, TCPV4, size=0, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, TCPV6, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, UFO, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, USO, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, 2, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, 0x1F, size=1000, start=34, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, TCPV4, size=1000, start=35, offset=16), Why.BAD_GSO),
        (LARGE, header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=6), Why.BAD_GSO),
        (LARGE[:40], header(NEEDS_CSUM, TCPV4, size=1000, start=20, offset=16), Why.BAD_GSO),
        (ether(ip4(udp(marked(3000)), UDP)), header(NEEDS_CSUM, USO | ECN, size=9, start=34, offset=6), Why.BAD_GSO),
        (ether(ip4(udp(marked(3000)), UDP)), header(NEEDS_CSUM, UFO, size=7, start=34, offset=6), Why.BAD_GSO),
    ],
)
def test_a_header_that_does_not_fit_its_frame_is_refused(frame: bytes, vnet: bytes, why: Why) -> None:
    assert refused(frame, vnet) == why


def test_a_packet_no_larger_than_a_segment_is_one() -> None:
    """As Linux has it, such a header asks for no more than a checksum."""
    for frame, vnet in (
        (SMALL, header(NEEDS_CSUM, TCPV4, size=5, start=34, offset=16)),
        (ether(ip6(tcp(b"hello", addresses=V6))), header(NEEDS_CSUM, TCPV6, size=9, start=54, offset=16)),
    ):
        (made,) = finished(Given(frame, vnet))
        assert made.data == finished_by_hand(frame)


def test_segments_of_a_single_byte() -> None:
    made = finished(Given(ether(ip4(tcp(b"abc"))), header(NEEDS_CSUM, TCPV4, size=1, start=34, offset=16)))
    assert [read(it.data).payload for it in made] == [b"a", b"b", b"c"]


def test_when_there_is_no_room_the_stage_goes_on_where_it_was() -> None:
    """A result of four frames at a time, from packets that become eleven each."""
    frames = [Given(ether(ip4(tcp(marked(1100), seq=n))), header(NEEDS_CSUM, TCPV4, size=100, start=34, offset=16))
              for n in range(3)]  # fmt: skip
    small = PlainFinisher(frames=4)
    whole = PlainFinisher()
    assert [it.data for it in through(small, frames)] == [it.data for it in through(whole, frames)]
    assert (small.job.segmented, small.job.segments) == (3, 33)


@settings(max_examples=300, deadline=None)
@given(
    frame=st.one_of(
        st.sampled_from([SMALL, LARGE, TUNNEL, ether(ip6(udp(marked(200), addresses=V6), UDP))]),
        st.binary(max_size=120),
    ),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4),
    vnet=st.one_of(
        st.binary(min_size=32, max_size=32),
        st.builds(
            header,
            st.integers(0, 15),
            st.sampled_from([0, 1, 3, 4, 5, 0x21, 0x24, 0x25, 0x41, 0x45, 0x81]),
            size=st.integers(0, 2000),
            start=st.sampled_from([0, 14, 34, 54, 84, 0xFFFF]),
            offset=st.sampled_from([0, 6, 16]),
            outer_th=st.sampled_from([0, 34, 54]),
            inner_nh=st.sampled_from([0, 50, 64]),
        ),
    ),
    accepts=st.integers(0, 511),
    mtu=st.integers(68, 1500),
)
def test_whatever_comes_no_memory_is_touched_that_is_not_the_frames(
    frame: bytes, changes: list[tuple[int, int]], vnet: bytes, accepts: int, mtu: int
) -> None:
    """Kernels run as plain Python here, which checks every access. Each frame goes on or is counted as refused."""
    data = bytearray(frame)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    stage = PlainFinisher(accepts=accepts, mtu=mtu)
    made = through(stage, [Given(bytes(data), vnet), Given(bytes(data))])
    refused_ones = sum(count for why, count in stage.reasons.items() if why.refused)
    assert len({it.id for it in made}) + refused_ones == 2
    assert stage.batch.frames_out == len(made)


def test_the_stage_compiles_to_the_same() -> None:
    """The same frames through machine code."""
    frames = [Given(LARGE, TSO), Given(SMALL), Given(ether(ip4(tcp(b"x", check=FINISHED)))), Given(TUNNEL)]
    assert [it.data for it in through(Finisher(), frames)] == [it.data for it in through(PlainFinisher(), frames)]
