"""Against Linux's own GSO and GRO, recorded in front of them and behind (pcaps/record_pairs.py)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from netemu.offload import Coalescer, Finisher
from tests.offload_kit import ACK, PSH, TCP, Given, Read, merged, read, through
from tests.replay_kit import Seen, seen_in
from tests.support import PCAPS
from tests.wire import UDP

GSO_BEFORE, GSO_AFTER = PCAPS / "gso-before.pcap", PCAPS / "gso-after.pcap"
GRO_BEFORE, GRO_AFTER = PCAPS / "gro-before.pcap", PCAPS / "gro-after.pcap"


def given(path: Path) -> list[Given]:
    return [Given(frame.data, tstamp=frame.tstamp, wire_len=frame.wire_len) for frame in seen_in(path)]


def test_what_goes_on_the_wire_is_what_linux_sends() -> None:
    """Byte for byte, and in the same order: TCP, UDP_SEGMENT, fragments, VXLAN with and without a checksum outside."""
    made = through(Finisher(mtu=1500, udp_size=1200), given(GSO_BEFORE))
    sent = [frame.data for frame in seen_in(GSO_AFTER)]
    assert len(sent) == 140
    assert [it.data for it in made] == sent


def test_the_recording_has_what_it_is_for() -> None:
    """Large packets of every kind in front, none behind."""
    kinds = set()
    for frame in seen_in(GSO_BEFORE):
        data = frame.data
        if len(data) <= 1514:
            continue
        if data[12:14] == b"\x08\x00" and data[36:38] == (4789).to_bytes(2, "big"):
            kinds.add("VXLAN, no checksum" if data[40:42] == b"\0\0" else "VXLAN, checksum")
        else:
            kinds.add(f"{data[14] >> 4} {read(data, finished=False).protocol}")
    assert kinds == {"4 6", "6 6", "4 17", "6 17", "VXLAN, no checksum", "VXLAN, checksum"}
    assert max(len(frame.data) for frame in seen_in(GSO_AFTER)) == 1514


def _flow(packet: Read) -> tuple[bytes, bytes]:
    addresses = packet.ip[12:20] if packet.version == 4 else packet.ip[8:40]
    return addresses, packet.l4[:4]


def _segments(frames: list[Seen]) -> dict[tuple[bytes, bytes], list[Seen]]:
    flows = defaultdict(list)
    for frame in frames:
        flows[_flow(read(frame.data))].append(frame)
    return flows


def test_linux_and_we_merge_the_same_segments_into_the_same_frame() -> None:
    """What Linux merged in one poll, merged here in one cycle: the same bytes, headers, flags and unfinished checksums.

    Where a poll ended was a matter of timing; so each frame of the receiver is compared with its own segments.
    """
    flows = _segments(seen_in(GRO_BEFORE))
    large = 0
    for frame in seen_in(GRO_AFTER):
        packet = read(frame.data, finished=False)
        waiting = flows[_flow(packet)]
        taken: list[Seen] = []
        size = 0
        while not taken or size < len(packet.payload):
            taken.append(waiting.pop(0))
            size += len(read(taken[-1].data).payload)
        assert size == len(packet.payload)
        made = merged(*(it.data for it in taken), stage=Coalescer(udp=True, budget=1000))
        assert [it.data for it in made] == [frame.data]
        if len(taken) > 1:
            large += 1
            assert int.from_bytes(made[0].vnet[4:6], "little") == len(read(taken[0].data).payload)
    assert large >= 6
    assert not any(flows.values())


def test_trains_that_linux_merged_whole_come_out_whole() -> None:
    """Left to our own cycles, the large frames are no smaller than Linux's, and the bytes of a flow are the same."""
    made = merged(*given(GRO_BEFORE), stage=Coalescer(udp=True, flush_ns=10_000_000, budget=1000))
    ours: dict[tuple[bytes, bytes], bytes] = defaultdict(bytes)
    theirs: dict[tuple[bytes, bytes], bytes] = defaultdict(bytes)
    for it in made:
        packet = read(it.data, finished=False)
        ours[_flow(packet)] += packet.payload
    for frame in seen_in(GRO_AFTER):
        packet = read(frame.data, finished=False)
        theirs[_flow(packet)] += packet.payload
    assert ours == theirs
    assert {read(it.data, finished=False).protocol for it in made} >= {TCP, UDP}
    assert len(made) <= len(seen_in(GRO_AFTER))
    assert any(read(it.data, finished=False).flags == ACK | PSH for it in made if len(it.data) > 1514)
