"""What a device hands to a guest that negotiated this and not that: section 5.1.6.4.1, on the device's side."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from netemu.errors import ConfigError
from netemu.offload import Why, accepts_from_features
from netemu.replay import HostOffloads, Replay, ReplayOptions
from netemu.virtio import features as f
from netemu.virtio.control import offload_mask
from netemu.virtio.features import REQUIRES, FeatureSet
from tests.offload_kit import (
    ACK,
    CWR,
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
    V6,
    Given,
    Made,
    ether,
    finished,
    finished_by_hand,
    header,
    ip4,
    ip6,
    jumbo6,
    marked,
    read,
    read_ip,
    tcp,
    udp,
    vxlan,
)
from tests.replay_kit import seen_in
from tests.support import PCAPS
from tests.wire import UDP, internet_checksum, pseudo

PAYLOAD = marked(3000)
GUEST_GSO = (f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_UFO, f.GUEST_USO4, f.GUEST_USO6)
GUEST = FeatureSet.of(*(f.GUEST_CSUM, f.GUEST_ECN, f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM), *GUEST_GSO)


def wrapped(inner: int, check: str) -> bytes:
    packet = ip4(tcp(PAYLOAD)) if inner == 4 else ip6(tcp(PAYLOAD, addresses=V6))
    return vxlan(ether(packet), check=check)


LARGE = {
    "tso4": ether(ip4(tcp(PAYLOAD))),
    "tso6": ether(ip6(tcp(PAYLOAD, addresses=V6))),
    "ecn": ether(ip4(tcp(PAYLOAD, flags=ACK | CWR))),
    "ufo": ether(ip4(udp(PAYLOAD), UDP)),
    "uso4": ether(ip4(udp(PAYLOAD), UDP)),
    "uso6": ether(ip6(udp(PAYLOAD, addresses=V6), UDP)),
    "tunnel4": wrapped(4, NONE),
    "tunnel6": wrapped(6, NONE),
    "tunnel checksum": wrapped(4, PSEUDO),
}
NEEDED = {
    "tso4": {f.GUEST_TSO4},
    "tso6": {f.GUEST_TSO6},
    "ecn": {f.GUEST_TSO4, f.GUEST_ECN},
    "ufo": {f.GUEST_UFO},
    "uso4": {f.GUEST_USO4},
    "uso6": {f.GUEST_USO6},
    "tunnel4": {f.GUEST_TSO4, f.GUEST_UDP_TUNNEL_GSO},
    "tunnel6": {f.GUEST_TSO6, f.GUEST_UDP_TUNNEL_GSO},
    "tunnel checksum": {f.GUEST_TSO4, f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM},
}
"""The features beside GUEST_CSUM without which a guest does not get such a frame uncut."""
TYPES = {"tso4": TCPV4, "tso6": TCPV6, "ecn": TCPV4 | ECN, "ufo": UFO, "uso4": USO, "uso6": USO}
TYPES |= {"tunnel4": TCPV4 | IN_IPV4, "tunnel6": TCPV6 | IN_IPV6, "tunnel checksum": TCPV4 | IN_IPV4}


def made_for(features: FeatureSet, kind: str) -> list[Made]:
    size = 1000 if kind.startswith("uso") else 0
    return finished(LARGE[kind], accepts=accepts_from_features(features), udp_size=size)


def fields(made: Made) -> tuple[int, int, int, int, int, int, int, int]:
    """flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, outer_th_offset, inner_nh_offset."""
    words = [int.from_bytes(made.vnet[at : at + 2], "little") for at in (2, 4, 6, 8, 20, 22)]
    return made.vnet[0], made.vnet[1], words[0], words[1], words[2], words[3], words[4], words[5]


@pytest.mark.parametrize("kind", LARGE)
def test_a_guest_that_takes_it_gets_a_large_frame_whole(kind: str) -> None:
    """RX-D-14, RX-D-22, RX-D-23, RX-D-27, RX-D-28, RX-D-33: type and tunnel bit, size, lengths, checksum to finish."""
    (made,) = made_for(GUEST, kind)
    frame = LARGE[kind]
    flags, gso_type, hdr_len, gso_size, start, offset, outer_th, inner_nh = fields(made)
    tunnel = "tunnel" in kind
    assert flags == NEEDS_CSUM | (TUNNEL_CSUM if kind == "tunnel checksum" else 0)
    assert gso_type == TYPES[kind]
    at = 64 if tunnel else 14
    packet = read_ip(frame, at, finished=False)
    l4 = at + len(packet.ip)
    assert start == l4
    assert offset == (16 if packet.protocol == 6 else 6)
    assert hdr_len == l4 + len(packet.l4)
    # the MTU less the headers: for fragments a multiple of eight, for USO the size that was said
    expected = {"ufo": 1480, "uso4": 1000, "uso6": 1000}.get(kind, 1500 - (hdr_len - 14))
    assert gso_size == expected
    assert (outer_th, inner_nh) == ((34, 64) if tunnel else (0, 0))
    assert made.data == frame


@pytest.mark.parametrize(
    ("kind", "without"), [(kind, bit) for kind, bits in NEEDED.items() for bit in (f.GUEST_CSUM, *sorted(bits))]
)
def test_a_guest_without_a_feature_gets_no_frame_that_needs_it(kind: str, without: int) -> None:
    """RX-D-07, RX-D-08, RX-D-09, RX-D-10, RX-D-11, RX-D-12, RX-D-13, RX-D-21, RX-D-25: segments instead, complete."""
    made = made_for(GUEST - FeatureSet.of(without), kind)
    assert len(made) == 3
    assert {it.vnet for it in made} == {b""}
    if kind != "ufo":
        packets = [read_ip(it.data, 64) if "tunnel" in kind else read(it.data) for it in made]
        assert b"".join(packet.payload for packet in packets) == PAYLOAD


@pytest.mark.parametrize("kind", LARGE)
def test_a_guest_without_checksum_offload_gets_no_flags_and_right_checksums(kind: str) -> None:
    """RX-D-05, RX-D-06, RX-D-26."""
    made = made_for(FeatureSet(), kind)
    assert {it.vnet for it in made} == {b""}
    if kind == "ufo":
        datagram = b"".join(it.data[34:] for it in made)
        assert internet_checksum(pseudo(LARGE[kind][26:34], UDP, len(datagram)) + datagram) == 0
    else:
        for it in made:
            read(it.data)


@pytest.mark.parametrize("check", [PSEUDO, FINISHED])
@pytest.mark.parametrize("kind", ["tso4", "tso6"])
def test_the_checksum_field_of_a_large_frame_holds_the_pseudo_header(kind: str, check: str) -> None:
    """RX-D-18, RX-D-19, RX-D-20: also where the sender had finished it, and then it was verified before."""
    packet = ip4(tcp(PAYLOAD, check=check)) if kind == "tso4" else ip6(tcp(PAYLOAD, addresses=V6, check=check))
    (made,) = finished(ether(packet), accepts=accepts_from_features(GUEST))
    _, _, _, _, start, offset, _, _ = fields(made)
    size = len(made.data) - start
    addresses = made.data[26:34] if kind == "tso4" else made.data[22:54]
    assert made.data[start + offset : start + offset + 2] == (
        internet_checksum(pseudo(addresses, 6, size)) ^ 0xFFFF
    ).to_bytes(2, "big")
    whole = made.data[:start] + finish_at(made.data[start:], offset)
    read(whole)


def finish_at(data: bytes, offset: int) -> bytes:
    """What a driver does with NEEDS_CSUM: sum all, the field too, and put the complement there."""
    return data[:offset] + internet_checksum(data).to_bytes(2, "big") + data[offset + 2 :]


@pytest.mark.parametrize("broken", [ether(ip4(tcp(PAYLOAD, check=NONE))), ether(ip4(tcp(b"short", check=NONE)))])
def test_a_wrong_checksum_is_never_vouched_for(broken: bytes) -> None:
    """RX-D-18, RX-D-35: neither NEEDS_CSUM nor DATA_VALID, and not cut, which would make it look right."""
    (made,) = finished(broken, accepts=accepts_from_features(GUEST))
    assert (made.vnet, made.data, made.note) == (b"", broken, Why.WRONG_CHECKSUM)


def test_an_unfinished_checksum_is_left_to_a_guest_that_takes_it() -> None:
    """RX-D-17, RX-D-20, and RX-D-06 for one that does not."""
    frame = ether(ip4(tcp(b"hello")))
    (made,) = finished(frame, accepts=accepts_from_features(FeatureSet.of(f.GUEST_CSUM)))
    assert fields(made) == (NEEDS_CSUM, 0, 54, 0, 34, 16, 0, 0)
    assert made.by_reference
    (made,) = finished(frame)
    assert (made.vnet, made.data) == (b"", finished_by_hand(frame))


def test_a_checksum_that_was_verified_is_called_valid() -> None:
    """RX-D-34, RX-D-35: one that is right, and one that is not there or of another protocol is not."""
    right, none = ether(ip4(tcp(b"hello", check=FINISHED))), ether(ip4(udp(b"hello", check=NONE), UDP))
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    made = finished(right, none, arp, accepts=accepts_from_features(GUEST))
    assert [it.vnet[:1] for it in made] == [bytes([DATA_VALID]), b"", b""]
    assert made[0].vnet == header(DATA_VALID)
    assert [it.vnet for it in finished(right)] == [b""]  # RX-D-05


def test_in_a_tunnel_data_valid_speaks_of_the_outer_checksum() -> None:
    """RX-D-35, RX-D-36: with both right it is set, without tunnel bits; with none outside nothing is said."""
    inside = ether(ip4(tcp(b"hello", check=FINISHED)))
    both, none = finished(
        vxlan(inside, check=FINISHED), vxlan(inside, check=NONE), accepts=accepts_from_features(GUEST)
    )
    assert both.vnet == header(DATA_VALID)
    assert none.vnet == b""


@pytest.mark.parametrize("outer", [4, 6])
def test_the_outer_checksum_of_a_large_frame_in_a_tunnel(outer: int) -> None:
    """RX-D-24, RX-D-37, RX-D-38, RX-D-39: the outer pseudo-header with UDP_TUNNEL_CSUM, zero without."""
    for check, flag in ((PSEUDO, TUNNEL_CSUM), (FINISHED, TUNNEL_CSUM), (NONE, 0)):
        inner = ether(ip4(tcp(PAYLOAD)))
        frame = vxlan(inner, version=outer, check=check)
        (made,) = finished(frame, accepts=accepts_from_features(GUEST))
        at = 34 if outer == 4 else 54
        field = int.from_bytes(made.data[at + 6 : at + 8], "big")
        addresses = frame[26:34] if outer == 4 else frame[22:54]
        expected = internet_checksum(pseudo(addresses, UDP, len(frame) - at)) ^ 0xFFFF
        assert made.vnet[0] & TUNNEL_CSUM == flag
        assert field == (expected if flag else 0)


def test_longer_packets_than_virtio_knows_are_cut_for_everybody() -> None:
    """BIG TCP: a driver's buffers end at 64 kB, and so does what its header can say."""
    made = finished(ether(ip4(tcp(marked(70_000)), total=0)), accepts=accepts_from_features(GUEST), mtu=9000)
    assert len(made) == 8
    assert {it.vnet for it in made} == {b""}


def test_a_jumbogram_is_cut_however_short_it_is() -> None:
    made = finished(ether(jumbo6(tcp(PAYLOAD, addresses=V6))), accepts=accepts_from_features(GUEST))
    assert [it.vnet for it in made] == [b""] * 3
    assert b"".join(read(it.data).payload for it in made) == PAYLOAD


def test_what_a_sender_says_beyond_its_offloads_is_not_handed_on() -> None:
    """RX-D-32: no RSC_INFO, and no flag that is not known, whatever the header had on its way in."""
    frame = LARGE["tso4"]
    vnet = header(0xF5, TCPV4, size=1000, start=34, offset=16, hdr_len=3)
    (made,) = finished(Given(frame, vnet), accepts=accepts_from_features(GUEST))
    assert made.vnet == header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16, hdr_len=54)
    small = ether(ip4(tcp(b"hello")))
    (made,) = finished(Given(small, header(0xF5, start=34, offset=16)), accepts=accepts_from_features(GUEST))
    assert made.vnet == header(NEEDS_CSUM, start=34, offset=16)


@pytest.mark.parametrize("kind", LARGE)
def test_the_outer_network_offset_is_not_used(kind: str) -> None:
    """RX-D-16: nobody negotiates OUT_NET_HEADER; the field stays zero, also where a sender's header had something."""
    assert {it.vnet[24:] for it in made_for(GUEST, kind)} == {bytes(8)}
    vnet = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)
    (made,) = finished(Given(LARGE["tso4"], vnet[:24] + b"\x0e" + bytes(7)), accepts=accepts_from_features(GUEST))
    assert made.vnet[24:] == bytes(8)


def test_every_guest_offload_is_on_after_negotiation() -> None:
    """OFFL-D-01: and a later mask replaces it as a whole. OFFL-V-01: a bit that was not negotiated changes nothing."""
    assert accepts_from_features(GUEST) == accepts_from_features(GUEST, offload_mask(GUEST))
    assert accepts_from_features(GUEST, 0) == 0
    some = FeatureSet.of(f.GUEST_CSUM, f.GUEST_TSO6)
    assert accepts_from_features(GUEST, offload_mask(some)) == accepts_from_features(some)
    assert accepts_from_features(some, offload_mask(GUEST)) == accepts_from_features(some)
    # Features 65 and 66 have the bits 46 and 47 in the mask (erratum E9).
    tunnels = FeatureSet.of(f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM)
    assert accepts_from_features(tunnels, 1 << 46 | 1 << 47) == accepts_from_features(tunnels)


def test_every_valid_set_of_guest_features_gets_what_it_takes() -> None:
    """RX-D-05 to RX-D-13, RX-D-26, RX-D-27 over all sets that keep the dependency rules."""
    bits = [f.GUEST_CSUM, f.GUEST_ECN, f.GUEST_UDP_TUNNEL_GSO, *GUEST_GSO]
    seen = 0
    for chosen in itertools.chain.from_iterable(itertools.combinations(bits, n) for n in range(len(bits) + 1)):
        features = FeatureSet.of(*chosen)
        if any(not features.has_any(*group) for bit in features for group in REQUIRES.get(bit, ())):
            continue
        seen += 1
        for kind, needed in NEEDED.items():
            whole = all(bit in features for bit in (f.GUEST_CSUM, *needed))
            made = made_for(features, kind)
            assert [it.vnet[1] for it in made if it.vnet] == ([TYPES[kind]] if whole else [])
    # Without GUEST_CSUM none. With it: the five of GUEST_GSO freely (32), GUEST_ECN where there is TSO (24), and the
    # tunnel where all four of TSO and USO are, with and without UFO and ECN (4).
    assert seen == 1 + 32 + 24 + 4


# In front of a real device --------------------------------------------------------------------------------------------


def in_the_ring(tmp_path: Path, features: str, capture: str) -> list[tuple[bytes, bytes]]:
    """Header and frame of each record in the ring (docs/ring-capture-format.md)."""
    path = tmp_path / "ring.pcapng"
    job = Replay(ReplayOptions(offloads="host", encap="virtio", features=features), str(path))
    job.play([str(PCAPS / capture)])
    assert job.summary()["dropped"] == {}
    records = []
    for it in seen_in(path):
        at = it.data[1]
        records.append((it.data[at : at + it.data[3]], it.data[at + it.data[3] :]))
    return records


@pytest.mark.parametrize(
    ("features", "types", "flags"),
    [
        ("", {0, TCPV4}, {0, NEEDS_CSUM}),
        ("-GUEST_TSO4", {0}, {0, NEEDS_CSUM}),
        ("-GUEST_CSUM", {0}, {0}),
    ],
)
def test_headers_in_a_ring_claim_only_what_was_negotiated(
    features: str, types: set[int], flags: set[int], tmp_path: Path
) -> None:
    """RX-D-05, RX-D-06, RX-D-07, RX-D-26 in the guest's memory: a download with frames to 64 kB."""
    records = in_the_ring(tmp_path, features, "web.pcapng")
    assert {vnet[1] for vnet, _ in records} == types
    assert {vnet[0] for vnet, _ in records} == flags
    for vnet, frame in records:
        assert len(frame) <= 1514 or vnet[1] == TCPV4
        if frame[12:14] == b"\x08\x00":
            read(frame, finished=not vnet[0] & NEEDS_CSUM)


def test_a_guest_verifies_less_when_the_host_says_what_it_left() -> None:
    """RX-D-17: with the header nothing is dropped for its checksum; without it (as-is) the stack counts errors."""
    bad = {}
    kinds: tuple[HostOffloads, ...] = ("as-is", "host")
    for offloads in kinds:
        job = Replay(ReplayOptions(offloads=offloads))
        job.play([str(PCAPS / "web.pcapng")])
        bad[offloads] = job.summary()["snmp"]["TcpInCsumErrors"]
    assert bad == {"as-is": 36, "host": 0}


def test_a_host_that_merges_gives_the_guest_fewer_frames(tmp_path: Path) -> None:
    job = Replay(ReplayOptions(offloads="host", host_gro=True), str(tmp_path / "out.pcap"))
    job.play([str(PCAPS / "gro-before.pcap")])
    figures = job.summary()
    merging = figures["offloads"]["merging"]
    assert merging["large"] > 0
    assert figures["frames_out"] == 90 - merging["merged"] + merging["large"]
    assert figures["offloads"]["finishing"]["handed_on"] == merging["large"]
    assert figures["snmp"]["TcpInCsumErrors"] == 0
    small = Replay(ReplayOptions(mode="small", offloads="host", host_gro=True), str(tmp_path / "out.pcap"))
    small.play([str(PCAPS / "gro-before.pcap")])
    assert small.summary()["frames_out"] == 90  # merged by the host, cut again by the device
    assert {it.data for it in seen_in(tmp_path / "out.pcap")} == {it.data for it in seen_in(PCAPS / "gro-before.pcap")}


def test_options_of_replay_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="need offloads of a host"):
        Replay(ReplayOptions(host_gro=True))
    with pytest.raises(ConfigError, match="offloads are as-is or host"):
        Replay(ReplayOptions(offloads="some"))  # type: ignore[arg-type]
