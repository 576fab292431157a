"""The header in front of a frame that a driver sent: whether the device may accept it, and what of it counts.

`accept_header` checks a header and writes a *template*: 32 bytes with only the fields that mean something, so that
nobody behind it can use one that does not (TX-D-02, TX-D-04, TX-D-06, TX-D-09, TX-D-15). Bits of flags that are not
known, and those that only a device sets, are ignored (TX-D-01). Whether the offsets name the headers that the frame
really has is for whoever makes use of them (`netemu.offload.template`): neither header nor frame is relied upon
(TX-D-07, TX-D-14).
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16, memset, pointer, store8, store16, struct
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    GSO_UDP_TUNNEL,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HDR_LEN,
    HDR_INNER_NH_OFFSET,
    HDR_LEN_MAX,
    HDR_LEN_TUNNEL,
    HDR_OUTER_TH_OFFSET,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

# What becomes of a frame.
ACCEPTED = 0
TOO_SHORT = 1
TOO_LONG = 2
NOT_NEGOTIATED = 3
BAD_CSUM = 4
BAD_GSO = 5
BAD_TUNNEL = 6
OUTCOMES = 7

ETHERNET_HEADER = 14
UDP_HEADER = 8
IPV4_HEADER = 20


@struct
class TransmitFeatures(Struct):
    """What the driver may ask for, as it was negotiated; 0 is no."""

    hdr_len: i64
    csum: i64
    gso: i64
    """Bit n: gso_type n is allowed."""
    ecn: i64
    tunnel: i64
    tunnel_csum: i64
    exact_hdr_len: i64
    """GUEST_HDRLEN: hdr_len is exact, and worth passing on (TX-D-05)."""


transmit_features_at = pointer(TransmitFeatures)


def negotiated(features: FeatureSet, hdr_len: int, into: TransmitFeatures) -> None:
    """Fill in what follows from a feature set."""
    into.hdr_len = hdr_len
    into.csum = int(f.CSUM in features)
    into.gso = 0
    for bit, kind in (
        (f.HOST_TSO4, GSO_TCPV4),
        (f.HOST_TSO6, GSO_TCPV6),
        (f.HOST_UFO, GSO_UDP),
        (f.HOST_USO, GSO_UDP_L4),
    ):
        into.gso |= int(bit in features) << kind
    into.ecn = int(f.HOST_ECN in features)
    if f.GSO in features:  # legacy: segmentation of every kind there was
        into.gso |= 1 << GSO_TCPV4 | 1 << GSO_TCPV6
        into.ecn = 1
    into.tunnel = int(f.HOST_UDP_TUNNEL_GSO in features)
    into.tunnel_csum = int(f.HOST_UDP_TUNNEL_GSO_CSUM in features)
    into.exact_hdr_len = int(f.GUEST_HDRLEN in features)


@kernel
def _tunnel_outcome(t: TransmitFeatures, header: i64, size: i64) -> i64:
    """Judge a header with a tunnel bit or UDP_TUNNEL_CSUM."""
    flags = load8(header + HDR_FLAGS)
    gso_type = load8(header + HDR_GSO_TYPE)
    tunnel = gso_type & GSO_UDP_TUNNEL
    if tunnel == 0:
        return BAD_TUNNEL  # TX-D-13
    if t.tunnel == 0 or (flags & UDP_TUNNEL_CSUM and t.tunnel_csum == 0):
        return NOT_NEGOTIATED
    if tunnel == GSO_UDP_TUNNEL:  # TX-D-08
        return BAD_TUNNEL
    if flags & NEEDS_CSUM == 0 or flags & DATA_VALID:  # TX-D-10, TX-D-11
        return BAD_TUNNEL
    if gso_type & ~(GSO_UDP_TUNNEL | GSO_ECN) in (GSO_NONE, GSO_UDP):  # TX-D-12, and what TX-V-23 forbids
        return BAD_TUNNEL
    outer_th = load16(header + HDR_OUTER_TH_OFFSET)
    inner_nh = load16(header + HDR_INNER_NH_OFFSET)
    inner_th = load16(header + HDR_CSUM_START)
    if outer_th < ETHERNET_HEADER + IPV4_HEADER or inner_nh < outer_th + UDP_HEADER:
        return BAD_TUNNEL
    return ACCEPTED if inner_nh + IPV4_HEADER <= inner_th < size else BAD_TUNNEL


@kernel
def _outcome(t: TransmitFeatures, header: i64, size: i64) -> i64:
    """Whether a frame of ``size`` bytes may come with this header, of which 32 bytes can be read."""
    flags = load8(header + HDR_FLAGS)
    gso_type = load8(header + HDR_GSO_TYPE)
    base = gso_type & ~(GSO_UDP_TUNNEL | GSO_ECN)
    if flags & NEEDS_CSUM:
        if t.csum == 0:
            return NOT_NEGOTIATED
        if load16(header + HDR_CSUM_START) + load16(header + HDR_CSUM_OFFSET) + 2 > size:
            return BAD_CSUM
    if gso_type & GSO_UDP_TUNNEL or flags & UDP_TUNNEL_CSUM:
        outcome = _tunnel_outcome(t, header, size)
        if outcome != ACCEPTED:
            return outcome
    if base == GSO_NONE:
        return ACCEPTED if gso_type == GSO_NONE else BAD_GSO
    if base not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4):
        return BAD_GSO
    if (t.gso >> base) & 1 == 0:
        return NOT_NEGOTIATED
    if gso_type & GSO_ECN:
        if base in (GSO_UDP, GSO_UDP_L4):
            return BAD_GSO
        if t.ecn == 0:
            return NOT_NEGOTIATED
    if flags & NEEDS_CSUM == 0 or load16(header + HDR_GSO_SIZE) == 0:  # TX-V-31, TX-V-32
        return BAD_GSO
    return ACCEPTED


@kernel
def accept_header(t: TransmitFeatures, header: i64, size: i64, template: i64) -> i64:
    """Judge the header, ``hdr_len`` bytes at host ``header``, of a frame of ``size`` bytes; an outcome.

    With ACCEPTED the HDR_LEN_MAX bytes at ``template`` hold what of it counts; all zeros: nothing is left to do.
    """
    # The tunnel's fields are only read where the header has them, which a tunnel bit that was negotiated sees to.
    outcome = _outcome(t, header, size)
    if outcome != ACCEPTED:
        return outcome
    memset(template, 0, HDR_LEN_MAX)
    flags = load8(header + HDR_FLAGS)
    if flags & NEEDS_CSUM == 0:
        return ACCEPTED
    store8(template + HDR_FLAGS, flags & (NEEDS_CSUM | UDP_TUNNEL_CSUM))
    store16(template + HDR_CSUM_START, load16(header + HDR_CSUM_START))
    store16(template + HDR_CSUM_OFFSET, load16(header + HDR_CSUM_OFFSET))
    gso_type = load8(header + HDR_GSO_TYPE)
    if gso_type == GSO_NONE:
        return ACCEPTED
    store8(template + HDR_GSO_TYPE, gso_type)
    store16(template + HDR_GSO_SIZE, load16(header + HDR_GSO_SIZE))
    if t.exact_hdr_len != 0:
        store16(template + HDR_HDR_LEN, min(load16(header + HDR_HDR_LEN), size))
    if gso_type & GSO_UDP_TUNNEL and t.hdr_len >= HDR_LEN_TUNNEL:
        store16(template + HDR_OUTER_TH_OFFSET, load16(header + HDR_OUTER_TH_OFFSET))
        store16(template + HDR_INNER_NH_OFFSET, load16(header + HDR_INNER_NH_OFFSET))
    return ACCEPTED
