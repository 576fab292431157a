"""GRO in the guest against a second account of its rules, byte for byte; and what happens to the skbs it merges."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.gro import GroState, napi_gro_flush, napi_gro_receive
from netemu.jit import hook
from netemu.nic import Nic, ReceivedSkb
from netemu.offer import Mode
from netemu.replay import ReplayOptions
from netemu.skb import Skb
from netemu.virtio.features import FeatureSet
from tests.driver_kit import ERAS, MERGEABLE, SMALL, V7_0, Rig, frag_list, frags, frame, free, linear, plain
from tests.gro_kit import ACK, CWR, FIN, PSH, Packet, Segment, merged, stream
from tests.replay_kit import PACKET_ID, assert_consistent, played, seen_in, write_pcap
from tests.support import needs

MODES: tuple[Mode, ...] = ("mergeable", "small", "big")
CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL = 0, 1, 3
TCPV4, TCPV6, ECN, ACCECN = 1, 4, 0x80, 0x200
VERSIONS = {"linux-4.19": (4, 19), "linux-6.1": (6, 1), "linux-7.0": (7, 0)}


class GroRig(Rig):
    """A driver alone, with GRO, all of it plain Python: every access is checked, every page counted."""

    def __init__(self, kernel: str = V7_0, features: FeatureSet = MERGEABLE) -> None:
        super().__init__(kernel, features, 64)
        self.gro = GroState()
        self.rq.gro = self.gro.address
        self.rq.gro_receive = hook(plain(napi_gro_receive))
        self.rq.gro_flush = hook(plain(napi_gro_flush))
        self.fill()
        self._up: list[Skb] = []

    def offer(self, segment: Segment, **header: int) -> None:
        """A frame arrives."""
        self.arrive_frame(segment.pack(), **header)

    def up(self) -> list[Skb]:
        """What one poll hands up."""
        self.poll()
        self._up = self.collect()
        return self._up

    def finish(self) -> None:
        """Free it, and see that nothing is lost."""
        free(*self._up)
        self.assert_nothing_lost()


def whole(skb: Skb) -> bytes:
    """All bytes, those of linear parts in the frag list included."""
    own = ctypes.string_at(skb.data, skb.len - skb.data_len) + b"".join(frags(skb))
    return own + b"".join(linear(part) + b"".join(frags(part)) for part in frag_list(skb))


NICS: dict[tuple[Mode, str], Nic] = {}


def received(segments: list[Segment], mode: Mode = "mergeable", driver: str = "linux-7.0") -> list[ReceivedSkb]:
    """What comes up of segments that arrive within one poll."""
    assert len(segments) <= 64
    if (mode, driver) not in NICS:
        NICS[mode, driver] = Nic(mode, driver=driver, gro=True)
    nic = NICS[mode, driver]
    nic.engine.in_burst = 0
    before = nic.guest.merged
    skbs = nic.receive(segment.pack() for segment in segments)
    assert sum(max(1, one.skb.gso_segs) for one in skbs) == len(segments)  # nothing is lost
    assert nic.guest.merged - before == len(segments) - len(skbs)
    assert nic.dropped == {}
    return skbs


def seen(skbs: list[ReceivedSkb]) -> list[Packet]:
    start = min((one.skb.frame_id for one in skbs), default=0)
    return [Packet(one.data, max(1, one.skb.gso_segs), one.skb.frame_id - start, one.skb.gso_size) for one in skbs]


def run_of(count: int, size: int = 1000, **fields: object) -> list[Segment]:
    """Segments in a row."""
    head = Segment(**fields)  # type: ignore[arg-type]
    return [
        replace(head, seq=(head.seq + at * size) & 0xFFFFFFFF, ident=head.ident + at, payload=bytes([at + 1]) * size)
        for at in range(count)
    ]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 64),
    flows=st.integers(1, 12),
    trouble=st.sampled_from([0.0, 0.2, 1.0]),
    mode=st.sampled_from(MODES),
    driver=st.sampled_from(ERAS),
)
def test_any_poll(seed: int, count: int, flows: int, trouble: float, mode: Mode, driver: str) -> None:
    """Order, bytes, segments, gso_size; every mode and kernel lays skbs out differently, which must not show."""
    segments = stream(seed, count, flows=flows, trouble=trouble)
    assert seen(received(segments, mode, driver)) == merged(segments, VERSIONS[driver])


@pytest.mark.parametrize("v6", [False, True])
def test_a_packet_of_several_segments(v6: bool) -> None:
    """What tcp_gro_complete leaves: GSO of the first segment's size, a checksum to be finished."""
    [one] = received(run_of(5, v6=v6))
    assert (one.skb.gso_type, one.skb.gso_size, one.skb.gso_segs) == (TCPV6 if v6 else TCPV4, 1000, 5)
    assert (one.skb.ip_summed, one.skb.csum_start, one.skb.csum_offset) == (CHECKSUM_PARTIAL, 54 if v6 else 34, 16)
    assert one.skb.wire_len == one.skb.len == len(one.data) == (86 if v6 else 66) + 5000
    assert len(one.buffers) == 1  # those of its first frame


def test_a_checksum_that_was_looked_at_need_not_be_again() -> None:
    """A frame alone stays what it was, but the stack is told that its sum is right."""
    [one] = received(run_of(1))
    assert (one.skb.ip_summed, one.skb.gso_size, one.skb.gso_segs) == (CHECKSUM_UNNECESSARY, 0, 0)
    [one] = received(run_of(1, bad_tcp=True))
    assert one.skb.ip_summed == CHECKSUM_NONE


@pytest.mark.parametrize(("last", "packets"), [(275, [45]), (276, [44, 1])])
def test_64_kib_is_the_end(last: int, packets: list[int]) -> None:
    """20 of IPv4, 32 of TCP, 44 segments of 1482 bytes make 65,260; 275 more make 65,535, the most IPv4 can say."""
    segments = run_of(44, 1482)
    tail = replace(segments[-1], seq=segments[-1].seq + 1482, ident=44, payload=bytes(last))
    assert [packet.segments for packet in seen(received([*segments, tail]))] == packets


@pytest.mark.parametrize(
    ("driver", "flags", "gso_types"),
    [
        ("linux-6.1", (CWR, 0, 0), [TCPV4 | ECN]),
        ("linux-6.1", (0, CWR, 0), [0, TCPV4 | ECN]),
        ("linux-6.1", (CWR, CWR, CWR), [0, 0, 0]),
        ("linux-7.0", (CWR, 0, 0), [0, TCPV4]),
        ("linux-7.0", (0, CWR, CWR), [0, TCPV4 | ACCECN]),
        ("linux-7.0", (CWR, CWR, CWR), [TCPV4 | ACCECN]),
    ],
)
def test_cwr(driver: str, flags: tuple[int, ...], gso_types: list[int]) -> None:
    """It starts a packet, of ECN's GSO; since v6.15 it has to be the same in all segments."""
    segments = [replace(one, flags=ACK | more) for one, more in zip(run_of(3), flags, strict=True)]
    assert [one.skb.gso_type for one in received(segments, driver=driver)] == gso_types


def test_fin_and_psh_of_the_last_are_kept() -> None:
    segments = run_of(4)
    segments[-1] = replace(segments[-1], flags=ACK | PSH | FIN)
    [one] = received(segments)
    assert one.data[47] == ACK | PSH | FIN


def test_frames_the_device_sent_as_gso_pass() -> None:
    """SKB_GSO_DODGY: a header with GSO makes a frame that ends what is held of its flow, and is not merged."""
    rig = GroRig()
    first, second, third = run_of(3)
    rig.offer(first)
    rig.offer(second, flags=1, gso_type=TCPV4, gso_size=400, csum_start=34, csum_offset=16)
    rig.offer(third)
    assert [skb.gso_size for skb in rig.up()] == [0, 400, 0]
    rig.finish()


@pytest.mark.parametrize(("flags", "merges"), [(0, False), (1, True), (2, True)])
def test_a_wrong_sum_is_merged_where_the_device_vouches_for_it(flags: int, merges: bool) -> None:
    """NEEDS_CSUM and DATA_VALID spare the summing; with neither it is summed and found wrong."""
    rig = GroRig()
    for segment in run_of(2, bad_tcp=True):
        rig.offer(segment, flags=flags, csum_start=34, csum_offset=16)
    assert [skb.gso_segs for skb in rig.up()] == ([2] if merges else [0, 0])
    rig.finish()


@pytest.mark.parametrize(
    ("kernel", "features", "size", "nr_frags", "followers"),
    [
        # small buffers and build_skb: the payload is a frag in the buffer's own page; the first stays linear
        ("linux-7.0", SMALL, 1000, 3, 0),
        ("linux-4.19", SMALL, 1000, 3, 0),
        ("linux-7.0", MERGEABLE, 1000, 3, 0),
        # 14 bytes linear and a frag: headers are pulled, payloads move as frags
        ("linux-7.0", MERGEABLE, 1428, 4, 0),
        # 128 bytes in a head of its own: through the frag list
        ("linux-4.19", MERGEABLE, 1428, 1, 3),
        # short frames are copied whole
        ("linux-7.0", MERGEABLE, 30, 0, 3),
    ],
)
def test_where_payloads_lie(kernel: str, features: FeatureSet, size: int, nr_frags: int, followers: int) -> None:
    """skb_gro_receive: frags where they can be, the frag list where not; nothing is copied, nothing lost."""
    rig = GroRig(kernel, features)
    segments = run_of(4, size)
    for segment in segments:
        rig.offer(segment)
    [skb] = rig.up()
    assert (skb.nr_frags, len(frag_list(skb))) == (nr_frags, followers)
    assert whole(skb) == merged(segments)[0].data
    rig.finish()


def test_more_frags_than_an_skb_has_go_on_in_the_frag_list() -> None:
    """17 frags: the 18th frame becomes a member of the frag list, whose frags the next ones are added to."""
    rig = GroRig()
    segments = run_of(40, 1428)
    for segment in segments:
        rig.offer(segment)
    [skb] = rig.up()
    assert skb.nr_frags == 17
    assert [member.nr_frags for member in frag_list(skb)] == [17, 6]
    assert skb.truesize > skb.len
    assert whole(skb) == merged(segments)[0].data
    rig.finish()


def test_nothing_is_held_beyond_a_poll() -> None:
    rig = GroRig()
    rig.offer(run_of(1)[0])
    assert rig.rq.rx_count == 0
    assert len(rig.up()) == 1
    rig.finish()


# Whole replays


def test_a_replay_merges_counts_and_tells(tmp_path: Path) -> None:
    """Frames of two flows and one that is no TCP: numbers and times are those of the first frames, nothing is lost."""
    one, other = run_of(3), run_of(3, ports=(7, 7))
    frames = [one[0].pack(), other[0].pack(), one[1].pack(), frame(60), other[1].pack(), one[2].pack(), other[2].pack()]
    source = write_pcap(tmp_path / "in.pcap", [*frames, frame(10)])
    output = tmp_path / "out.pcapng"
    figures = played(source, ReplayOptions(gro=True, journey=True), output)
    assert_consistent(figures)
    assert (figures["frames_in"], figures["frames_out"], figures["merged"]) == (8, 3, 4)
    assert figures["dropped"] == {"short_frame": 1}
    came = seen_in(output)
    assert [packet.number(PACKET_ID) for packet in came] == [4, 1, 2]
    assert [packet.data for packet in came] == [frame(60), merged(one)[0].data, merged(other)[0].data]
    sent = seen_in(source)
    assert [packet.tstamp for packet in came] == [sent[3].tstamp, sent[0].tstamp, sent[1].tstamp]
    assert "GRO merged 3 frames; GSO, segments of 1000 B" in came[1].comment
    assert not any("was dropped" in packet.comment for packet in came)


@needs("tshark")
def test_what_goes_up_is_the_same_stream(tmp_path: Path) -> None:
    """tshark reassembles the same bytes from both sides; and without GRO nothing is merged."""
    segments = stream(1, 300, flows=1, trouble=0.0, tagged=False)
    source = write_pcap(tmp_path / "in.pcap", [segment.pack() for segment in segments])
    figures = played(source, ReplayOptions(gro=True), tmp_path / "out.pcapng")
    assert figures["merged"] > 200
    streams = [followed(path) for path in (source, tmp_path / "out.pcapng")]
    assert streams[0] == streams[1] == b"".join(segment.payload for segment in segments)
    assert played(source)["merged"] == 0


def followed(path: Path) -> bytes:
    """The bytes of the file's first TCP stream, as tshark puts them together."""
    run = subprocess.run(
        ["tshark", "-r", str(path), "-q", "-z", "follow,tcp,raw,0"], capture_output=True, text=True, check=True
    )
    return bytes.fromhex("".join(line for line in run.stdout.splitlines() if re.fullmatch("[0-9a-f]+", line)))
