"""What the device accepts of a driver's header, and what it passes on: each clause with a header made by hand."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.transmit_header import (
    ACCEPTED,
    BAD_CSUM,
    BAD_GSO,
    BAD_TUNNEL,
    NOT_NEGOTIATED,
    OUTCOMES,
    TransmitFeatures,
    accept_header,
    negotiated,
)
from netemu.jit import allocate
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import header_length

CSUM = FeatureSet.of(f.VERSION_1, f.CSUM)
TSO = CSUM | FeatureSet.of(f.HOST_TSO4, f.HOST_TSO6, f.HOST_ECN, f.HOST_UFO, f.HOST_USO)
TUNNEL = TSO | FeatureSet.of(f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM)
ALL = TUNNEL | FeatureSet.of(f.OUT_NET_HEADER)
NEEDS_CSUM, DATA_VALID, RSC_INFO, TUNNEL_CSUM = 1, 2, 4, 8
SIZE = 3000


def vnet(
    flags: int = 0,
    gso_type: int = 0,
    hdr_len: int = 0,
    gso_size: int = 0,
    csum: tuple[int, int] = (0, 0),
    tunnel: tuple[int, int] = (0, 0),
    rest: bytes = bytes(8),
) -> bytes:
    """struct virtio_net_hdr with num_buffers 0 and no hash: 32 bytes (section 5.1.6)."""
    head = struct.pack("<BBHHHHH", flags, gso_type, hdr_len, gso_size, *csum, 0)
    return head + bytes(8) + struct.pack("<HH", *tunnel) + rest


def judge(features: FeatureSet, header: bytes, size: int = SIZE) -> tuple[int, bytes]:
    """The outcome, and the template with ACCEPTED."""
    numbers = TransmitFeatures()
    negotiated(features, header_length(features), numbers)
    memory = allocate(64)
    memory.array[:32] = bytearray(header)
    memory.array[32:] = 0xEE
    outcome = int(accept_header(numbers, memory.address, size, memory.address + 32))
    return outcome, memory.array[32:].tobytes() if outcome == ACCEPTED else b""


TCP4 = vnet(NEEDS_CSUM, 1, 54, 1448, (34, 16))
TCP6 = vnet(NEEDS_CSUM, 4, 74, 1428, (54, 16))
UFO = vnet(NEEDS_CSUM, 3, 42, 1480, (34, 6))
USO = vnet(NEEDS_CSUM, 5, 42, 1400, (34, 6))
ECN = vnet(NEEDS_CSUM, 0x81, 54, 1448, (34, 16))
# Geneve over IPv4, inner IPv4 and TCP, without outer and with outer checksum.
GENEVE = vnet(NEEDS_CSUM, 0x21, 104, 1398, (84, 16), (34, 64))
GENEVE_CSUM = vnet(NEEDS_CSUM | TUNNEL_CSUM, 0x21, 104, 1398, (84, 16), (34, 64))


def without_hdr_len(header: bytes) -> bytes:
    return header[:2] + bytes(2) + header[4:]


@pytest.mark.parametrize(
    ("header", "bits"),
    [
        (TCP4, (f.HOST_TSO4,)),
        (TCP6, (f.HOST_TSO6,)),
        (UFO, (f.HOST_UFO,)),
        (USO, (f.HOST_USO,)),
        (ECN, (f.HOST_TSO4, f.HOST_ECN)),
        (GENEVE, (f.HOST_UDP_TUNNEL_GSO,)),
        (GENEVE_CSUM, (f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM)),
        (vnet(NEEDS_CSUM, csum=(34, 6)), (f.CSUM,)),
    ],
    ids=["TSO4", "TSO6", "UFO", "USO", "ECN", "tunnel", "tunnel-csum", "CSUM"],
)
def test_what_was_negotiated_is_accepted_and_the_same_without_it_is_not(header: bytes, bits: tuple[int, ...]) -> None:
    """TX-V-07, -09, -11, -13, -17, -22 and -03 from the device's side: a frame nobody may send does not leave.

    hdr_len is a hint that the template does not pass on (TX-D-06, TX-D-07).
    """
    assert judge(TUNNEL, header) == (ACCEPTED, without_hdr_len(header))
    for bit in bits:
        assert judge(TUNNEL - FeatureSet.of(bit), header)[0] == NOT_NEGOTIATED, bit


def test_tx_d_01_unknown_flag_bits_are_ignored() -> None:
    """TX-D-01: 16 to 128 mean nothing without IPsec, and RSC_INFO and DATA_VALID nothing from a driver."""
    for bit in (DATA_VALID, RSC_INFO, 0x10, 0x20, 0x40, 0x80):
        assert judge(TUNNEL, vnet(bit)) == (ACCEPTED, bytes(32))
        assert judge(TUNNEL, vnet(NEEDS_CSUM | bit, csum=(34, 6))) == (ACCEPTED, vnet(NEEDS_CSUM, csum=(34, 6)))


def test_tx_d_02_without_needs_csum_its_fields_are_nothing() -> None:
    """TX-D-02: also where they would be wrong."""
    assert judge(TUNNEL, vnet(0, csum=(0xFFFF, 0xFFFF), gso_size=77)) == (ACCEPTED, bytes(32))


@pytest.mark.parametrize("features", [ALL, TUNNEL, CSUM])
def test_tx_d_04_tx_d_15_outer_header_and_resource_are_nothing(features: FeatureSet) -> None:
    """TX-D-03 (a MAY that this device does not use), TX-D-04, TX-D-15: neither is passed on."""
    rest = struct.pack("<HHHH", 14, 0, 0xABCD, 5)
    assert judge(features, vnet(NEEDS_CSUM, csum=(34, 6), rest=rest)) == (ACCEPTED, vnet(NEEDS_CSUM, csum=(34, 6)))
    assert judge(features, vnet(rest=rest)) == (ACCEPTED, bytes(32))


@pytest.mark.parametrize(("said", "passed"), [(54, 54), (0, 0), (SIZE, SIZE), (SIZE + 1, SIZE), (65535, SIZE)])
def test_tx_d_05_an_exact_hdr_len_is_passed_on_and_bounded(said: int, passed: int) -> None:
    """TX-D-05: only with GUEST_HDRLEN, and a malicious one never points behind the frame."""
    header = vnet(NEEDS_CSUM, 1, said, 1448, (34, 16))
    exact = TSO | FeatureSet.of(f.GUEST_HDRLEN)
    assert judge(exact, header) == (ACCEPTED, vnet(NEEDS_CSUM, 1, passed, 1448, (34, 16)))
    assert judge(TSO, header) == (ACCEPTED, vnet(NEEDS_CSUM, 1, 0, 1448, (34, 16)))


def test_tx_d_07_without_gso_hdr_len_is_nothing() -> None:
    """TX-D-06, TX-D-07: even with GUEST_HDRLEN."""
    exact = TSO | FeatureSet.of(f.GUEST_HDRLEN)
    assert judge(exact, vnet(0, 0, 54)) == (ACCEPTED, bytes(32))
    assert judge(exact, vnet(NEEDS_CSUM, 0, 54, csum=(34, 16))) == (ACCEPTED, vnet(NEEDS_CSUM, csum=(34, 16)))


def test_tx_d_09_without_a_tunnel_bit_its_offsets_are_nothing() -> None:
    """TX-D-09."""
    header = vnet(NEEDS_CSUM, 1, 54, 1448, (34, 16), (34, 64))
    assert judge(TUNNEL, header) == (ACCEPTED, vnet(NEEDS_CSUM, 1, 0, 1448, (34, 16)))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(vnet(NEEDS_CSUM, 0x61, 104, 1398, (84, 16), (34, 64)), id="TX-D-08-both-bits"),
        pytest.param(vnet(0, 0x21, 104, 1398, (84, 16), (34, 64)), id="TX-D-10-no-NEEDS_CSUM"),
        pytest.param(vnet(NEEDS_CSUM | DATA_VALID, 0x21, 104, 1398, (84, 16), (34, 64)), id="TX-D-11-DATA_VALID"),
        pytest.param(vnet(NEEDS_CSUM, 0x20, 104, 1398, (84, 16), (34, 64)), id="TX-D-12-base-NONE"),
        pytest.param(vnet(NEEDS_CSUM | TUNNEL_CSUM, 1, 54, 1448, (34, 16), (34, 64)), id="TX-D-13-no-tunnel-bit"),
        pytest.param(vnet(TUNNEL_CSUM), id="TX-D-13-nothing-else"),
        pytest.param(vnet(NEEDS_CSUM, 0x23, 104, 1398, (84, 6), (34, 64)), id="TX-V-23-UFO-in-a-tunnel"),
        pytest.param(vnet(NEEDS_CSUM, 0x21, 104, 1398, (84, 16), (33, 64)), id="TX-V-35-outer-too-near"),
        pytest.param(vnet(NEEDS_CSUM, 0x21, 104, 1398, (84, 16), (34, 41)), id="TX-V-35-inner-in-outer"),
        pytest.param(vnet(NEEDS_CSUM, 0x21, 104, 1398, (83, 16), (34, 64)), id="TX-V-35-no-room-for-inner"),
        pytest.param(vnet(NEEDS_CSUM, 0x21, 104, 1398, (2981, 16), (34, 2981)), id="TX-V-35-behind-the-frame"),
    ],
)
def test_tunnels_that_are_none_are_not_accepted(header: bytes) -> None:
    """TX-D-08, TX-D-10 to TX-D-13."""
    assert judge(TUNNEL, header) == (BAD_TUNNEL, b"")


@pytest.mark.parametrize(
    ("start", "offset", "outcome"),
    [(34, 16, ACCEPTED), (SIZE - 8, 6, ACCEPTED), (SIZE - 7, 6, BAD_CSUM), (65535, 65535, BAD_CSUM), (0, 0, ACCEPTED)],
)
def test_a_checksum_has_its_place_inside_the_frame(start: int, offset: int, outcome: int) -> None:
    """TX-V-29: two bytes at csum_start + csum_offset."""
    assert judge(CSUM, vnet(NEEDS_CSUM, csum=(start, offset)))[0] == outcome


@pytest.mark.parametrize(
    ("gso_type", "outcome"),
    [
        pytest.param(2, BAD_GSO, id="there-is-no-2"),
        pytest.param(6, BAD_GSO, id="nor-6"),
        pytest.param(0x1F, BAD_GSO, id="nor-31"),
        pytest.param(0x80, BAD_GSO, id="ECN-alone"),
        pytest.param(0x83, BAD_GSO, id="ECN-with-UFO"),
        pytest.param(0x85, BAD_GSO, id="ECN-with-USO"),
    ],
)
def test_gso_types_that_are_none(gso_type: int, outcome: int) -> None:
    assert judge(TUNNEL, vnet(NEEDS_CSUM, gso_type, 54, 1448, (34, 16)))[0] == outcome


@pytest.mark.parametrize("gso_type", [1, 3, 4, 5])
def test_tx_v_31_tx_v_32_segments_need_a_checksum_and_a_size(gso_type: int) -> None:
    """TX-V-31, TX-V-32."""
    assert judge(TUNNEL, vnet(0, gso_type, 54, 1448, (34, 16)))[0] == BAD_GSO
    assert judge(TUNNEL, vnet(NEEDS_CSUM, gso_type, 54, 0, (34, 16)))[0] == BAD_GSO


def test_the_legacy_gso_bit_stands_for_tcp_with_ecn() -> None:
    """Section 5.1.3.2: GSO is TSO of both kinds, with ECN."""
    legacy = FeatureSet.of(f.CSUM, f.GSO)
    for header in (TCP4, TCP6, ECN):
        assert judge(legacy, header)[0] == ACCEPTED
    for header in (UFO, USO):
        assert judge(legacy, header)[0] == NOT_NEGOTIATED


FEATURE_SETS = st.sampled_from(
    [FeatureSet.of(f.VERSION_1), CSUM, TSO, TUNNEL, ALL, TSO | FeatureSet.of(f.GUEST_HDRLEN)]
)


@given(features=FEATURE_SETS, header=st.binary(min_size=32, max_size=32), size=st.integers(14, 65557))
@settings(max_examples=400, deadline=None)
def test_any_header_has_an_outcome_and_a_template_is_always_sound(
    features: FeatureSet, header: bytes, size: int
) -> None:
    """Whatever comes in, what goes on has no bit that was not negotiated and no offset behind the frame."""
    outcome, template = judge(features, header, size)
    assert 0 <= outcome < OUTCOMES
    if outcome != ACCEPTED:
        return
    flags, gso_type, hdr_len, gso_size, start, offset, buffers = struct.unpack_from("<BBHHHHH", template)
    assert flags & ~(NEEDS_CSUM | TUNNEL_CSUM) == 0
    assert buffers == 0
    assert template[12:20] == bytes(8)
    assert template[24:] == bytes(8)
    assert hdr_len <= size
    if flags & NEEDS_CSUM:
        assert f.CSUM in features
        assert start + offset + 2 <= size
    else:
        assert template == bytes(32)
    if gso_type:
        assert flags & NEEDS_CSUM
        assert gso_size
        needed = {1: f.HOST_TSO4, 3: f.HOST_UFO, 4: f.HOST_TSO6, 5: f.HOST_USO}[gso_type & ~0xE0]
        assert needed in features
    assert (gso_type & 0x60 in (0x20, 0x40)) == (struct.unpack_from("<HH", template, 20) != (0, 0))
