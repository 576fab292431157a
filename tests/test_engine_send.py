"""A guest that sends: what leaves its device is what was sent, segmented where it has to be; nothing hangs.

Frames are made, and what comes out is judged, with the standard library alone (tests/wire.py).
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.transmit import EGRESS_FRAMES
from netemu.driver.eras import ERAS
from netemu.errors import ConfigError
from netemu.nic import Nic, Outgoing
from netemu.nic.sending import SentFrame
from netemu.offer import MODES, Mode
from tests.test_engine import Wire, udp
from tests.wire import A4, A6, TCP, UDP, internet_checksum, ipv4, ipv6, pseudo, put
from tests.wire import udp as datagram

TSO = "+CSUM,+HOST_TSO4,+HOST_TSO6,+HOST_ECN,+HOST_USO"
NEEDS_CSUM = 1
SIZES = (14, 60, 128, 129, 1513, 1514)


def segment(payload: bytes, *, addresses: bytes = A4, sequence: int = 1000, flags: int = 0x18) -> bytes:
    """A TCP segment with 12 bytes of options and the pseudo-header's sum for a checksum, as a stack leaves it."""
    head = struct.pack(">HHIIBBHHH", 4000, 9, sequence, 0, 8 << 4, flags, 1000, 0, 0) + bytes([1, 1, 8, 10]) + bytes(8)
    left = internet_checksum(pseudo(addresses, TCP, len(head) + len(payload))) ^ 0xFFFF
    return put(head, 16, struct.pack(">H", left)) + payload


def plain(size: int, number: int) -> bytes:
    """A frame of no protocol that anybody knows, with its number inside; of 14 bytes, without."""
    return (udp(46)[:12] + struct.pack(">HI", 0x88B5, number)).ljust(size, b"\xa5")[:size]


def stream(size: int) -> bytes:
    return bytes((n * 7 + n // 251) & 0xFF for n in range(size))


def whole_segments(sent: list[SentFrame], *, ip: int) -> bytes:
    """The payload of TCP segments in order, each of which is right: lengths, sequence numbers, checksums, MTU."""
    payload = b""
    for frame in sent:
        assert frame.header is None
        data = frame.data
        assert len(data) <= 1514
        start = 34 if ip == 4 else 54
        if ip == 4:
            assert internet_checksum(data[14:34]) == 0
            assert int.from_bytes(data[16:18], "big") == len(data) - 14
        else:
            assert int.from_bytes(data[18:20], "big") == len(data) - 54
        addresses = A4 if ip == 4 else A6
        assert internet_checksum(pseudo(addresses, TCP, len(data) - start) + data[start:]) == 0
        assert int.from_bytes(data[start + 4 : start + 8], "big") == 1000 + len(payload)
        payload += data[start + 32 :]
    return payload


# What is sent comes out.


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("kernel", ERAS)
def test_frames_leave_whole_and_in_order(kernel: str, ring: str) -> None:
    frames = [plain(size, n) for n, size in enumerate(SIZES * 60)]
    nic = Nic(queue_size=64, driver=kernel, features="+RING_PACKED" if ring == "packed" else "")
    sent = nic.send(frames, tstamp=5_000)
    assert [frame.data for frame in sent] == frames
    assert [frame.id for frame in sent] == list(range(1, len(frames) + 1))
    assert {(frame.tstamp, frame.queue, frame.header) for frame in sent} == {(5_000, 0, None)}
    assert nic.dropped == {}


@pytest.mark.parametrize("kernel", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_a_reflecting_guest_swaps_addresses_and_changes_nothing_else(mode: Mode, kernel: str) -> None:
    frames = [plain(size, n) for n, size in enumerate(SIZES * 40)]
    nic = Nic(mode, 64, driver=kernel, guest="reflect")
    received, sent = nic.exchange(frames)
    assert [skb.data[14:] for skb in received] == [frame[14:] for frame in frames]
    assert [frame.data for frame in sent] == [frame[6:12] + frame[:6] + frame[12:] for frame in frames]
    assert [frame.id for frame in sent] == [skb.skb.frame_id for skb in received]
    assert nic.netdev["tx_packets"] >= len(frames) - 64
    assert nic.dropped == {}


def test_a_sink_sends_nothing() -> None:
    received, sent = Nic().exchange([udp(60)])
    assert (len(received), sent) == (1, [])


def test_bytes_and_packets_are_counted_at_completion() -> None:
    """Sheet 6.3; 7.2: ethtool's names, of the era."""
    nic = Nic(driver="linux-6.1")
    nic.send([udp(60), udp(1514)])
    assert (nic.netdev["tx_packets"], nic.netdev["tx_bytes"]) == (2, 1574)
    assert (nic.ethtool["tx_queue_0_packets"], nic.ethtool["tx_queue_0_bytes"]) == (2, 1574)


# Segmentation.


@pytest.mark.parametrize("ip", [4, 6])
def test_with_tso_a_frame_over_the_mtu_is_one_buffer_and_the_device_cuts_it(ip: int) -> None:
    """TX-V-06, TX-V-08, TX-V-31, TX-V-32, TX-V-34: the header the driver writes, and what the wire gets of it."""
    payload = stream(40000)
    made = segment(payload, addresses=A4 if ip == 4 else A6)
    frame = ipv4(made, TCP) if ip == 4 else ipv6(made, TCP)
    [raw] = Nic(features=TSO).send([frame], finished=False)
    assert raw.data == frame
    start = 34 if ip == 4 else 54
    assert raw.header is not None
    size = 1500 - (start - 14) - 32
    assert struct.unpack_from("<BB2xHHHH", raw.header) == (NEEDS_CSUM, 1 if ip == 4 else 4, size, start, 16, 0)
    nic = Nic(features=TSO)
    sent = nic.send([frame])
    assert len(sent) == -(-40000 // size)
    assert whole_segments(sent, ip=ip) == payload
    assert nic.send_counters()[0]["packets"] == 1


@pytest.mark.parametrize("features", ["", "+CSUM"])
def test_without_tso_the_guests_stack_cuts_it(features: str) -> None:
    """TX-V-07, TX-V-30: none over the MTU is on the ring, and none says that it is to be cut."""
    payload = stream(20000)
    frame = ipv4(segment(payload), TCP)
    raw = Nic(features=features).send([frame], finished=False)
    assert {one.header[1] if one.header else 0 for one in raw} == {0}
    assert max(len(one.data) for one in raw) == 1514
    nic = Nic(features=features)
    assert whole_segments(nic.send([frame]), ip=4) == payload
    assert nic.send_counters()[0]["packets"] == len(raw) == 14


@pytest.mark.parametrize("features", ["", "+CSUM"])
def test_an_unfinished_checksum_is_left_to_the_device_where_it_finishes_them(features: str) -> None:
    """TX-V-03, TX-V-04, TX-V-26, TX-V-28: on the ring with the pseudo-header's sum or whole, on the wire whole."""
    frame = ipv4(segment(stream(500)), TCP)
    [raw] = Nic(features=features).send([frame], finished=False)
    if features:
        assert raw.header == struct.pack("<BBHHHHH", NEEDS_CSUM, 0, 0, 0, 34, 16, 0).ljust(32, b"\0")
        assert raw.data == frame
    else:
        assert raw.header is None
    assert whole_segments(Nic(features=features).send([frame]), ip=4) == stream(500)


def test_a_reflecting_guest_cuts_what_it_got_as_one_and_may_not_send_so() -> None:
    """GUEST_TSO4 without HOST_TSO4: skb_gso_segment between the two."""
    payload = stream(30000)
    nic = Nic(guest="reflect", features="+CSUM")
    wire = Wire([ipv4(segment(payload), TCP)])
    header = struct.pack("<BBHHHHH", NEEDS_CSUM, 1, 66, 1448, 34, 16, 0).ljust(32, b"\0")
    vnet = Wire([header])
    wire.frame(0).vnet = vnet.frame(0).address
    sent: list[SentFrame] = []
    nic.arrive(wire.address, 1)
    while not nic.run():
        nic.take_sent(sent)
    while not nic.let_guest_run():
        nic.take_sent(sent)
    nic.take_sent(sent)
    assert whole_segments(sent, ip=4) == payload
    assert nic.dropped == {}


def test_a_reflecting_guest_sends_one_back_whole_where_it_may() -> None:
    """As received in mergeable buffers, with a frag list: linearised, and one buffer on the ring again."""
    payload = stream(60000)
    nic = Nic(guest="reflect", features=TSO)
    wire = Wire([ipv4(segment(payload), TCP)])
    vnet = Wire([struct.pack("<BBHHHHH", NEEDS_CSUM, 1, 66, 1448, 34, 16, 0).ljust(32, b"\0")])
    wire.frame(0).vnet = vnet.frame(0).address
    nic.arrive(wire.address, 1)
    assert nic.run()
    assert nic.let_guest_run()
    sent: list[SentFrame] = []
    nic.take_sent(sent)
    assert whole_segments(sent, ip=4) == payload
    assert nic.send_counters()[0]["packets"] == 1


def test_a_header_given_with_a_frame_counts_and_not_what_the_frame_looks_like() -> None:
    """USO of 400 bytes, which no frame shows by itself (TX-V-12)."""
    data = stream(1200)
    left = internet_checksum(pseudo(A4, UDP, 1208)) ^ 0xFFFF
    frame = ipv4(datagram(data, checksum=left), UDP)
    header = struct.pack("<BBHHHHH", NEEDS_CSUM, 5, 42, 400, 34, 6, 0)
    sent = Nic(features=TSO).send([Outgoing(frame, header)])
    assert [one.data[42:] for one in sent] == [data[:400], data[400:800], data[800:]]
    assert all(internet_checksum(pseudo(A4, UDP, 408) + one.data[34:]) == 0 for one in sent)


def test_tx_v_36_the_outer_checksum_of_a_tunnel_is_left_to_the_device() -> None:
    """TX-V-36, TX-V-21: on the ring it is the outer pseudo-header's sum, on the wire each datagram's own."""
    inner = ipv4(segment(stream(4000)), TCP)
    size = 8 + 8 + len(inner)
    left = internet_checksum(pseudo(A4, UDP, size)) ^ 0xFFFF
    frame = ipv4(datagram(struct.pack(">II", 0x08000000, 5 << 8) + inner, port=4789, checksum=left), UDP)
    header = struct.pack("<BBHHHHH", NEEDS_CSUM | 8, 0x21, 0, 1300, 84, 16, 0) + bytes(8) + struct.pack("<HH", 34, 64)
    features = TSO + ",+HOST_UDP_TUNNEL_GSO_CSUM"
    [raw] = Nic(features=features).send([Outgoing(frame, header)], finished=False)
    assert (raw.data, raw.header) == (frame, header.ljust(32, b"\0"))
    sent = Nic(features=features).send([Outgoing(frame, header)])
    assert [len(one.data) for one in sent] == [
        14 + 20 + 8 + 8 + 14 + 20 + 32 + size for size in (1300, 1300, 1300, 100)
    ]
    for one in sent:
        assert internet_checksum(pseudo(A4, UDP, len(one.data) - 34) + one.data[34:]) == 0
        assert internet_checksum(pseudo(A4, TCP, len(one.data) - 84) + one.data[84:]) == 0


# What cannot be sent.


def test_netc_v_09_a_frame_over_the_mtu_that_nobody_can_cut_is_dropped() -> None:
    """NETC-V-09."""
    nic = Nic(mtu=1400)
    long = udp(60)[:12] + b"\x88\xb5" + bytes(1401)
    assert [len(frame.data) for frame in nic.send([long, long[:-1]])] == [1414]
    assert nic.dropped == {"tx_too_long": 1}


@pytest.mark.parametrize("data", [b"", bytes(13)])
def test_what_is_no_frame_is_not_sent(data: bytes) -> None:
    nic = Nic()
    assert nic.send([data]) == []
    assert nic.dropped == {"tx_invalid": 1}


@pytest.mark.parametrize(("kernel", "sent"), [("linux-4.19", 5), ("linux-6.1", 1), ("linux-7.0", 1)])
def test_a_ring_of_16_stops_for_good_where_tx_napi_wants_19_free(kernel: str, sent: int) -> None:
    """Sheet 6.1 step 5, 6.3: 19 of 16 are never free; without TX NAPI the interrupt wakes the queue regardless.

    The watchdog sees it (v5.17), five seconds later.
    """
    nic = Nic(queue_size=16, driver=kernel)
    assert len(nic.send([udp(60)] * 5, tstamp=1_000_000_000)) == sent
    assert nic.dropped == ({} if sent == 5 else {"tx_stopped": 4})
    nic.send([udp(60)], tstamp=9_000_000_000)
    assert nic.send_counters()[0]["timeouts"] == (0 if sent == 5 else 1)
    assert nic.netdev["tx_errors"] == (0 if sent == 5 else 1)


def test_a_broken_ring_drops_what_is_sent() -> None:
    """tx_fifo_errors, tx_dropped."""
    nic = Nic()
    nic.send([udp(60)])
    nic.driver.rings[1].broken = 1
    assert nic.send([udp(60)] * 3) == []
    assert nic.dropped == {"tx_refused": 3}
    assert (nic.netdev["tx_fifo_errors"], nic.netdev["tx_dropped"]) == (3, 3)


def test_a_device_that_is_broken_takes_nothing_and_the_sender_gives_up() -> None:
    """46 of 64 slots stop the queue; those that come then are dropped, and nobody waits for ever."""
    nic = Nic(queue_size=64)
    nic.send([udp(60)])
    nic.device.queues[1].broken = 1
    assert nic.send([udp(60)] * 100) == []
    assert nic.dropped == {"tx_stopped": 54}
    assert nic.send_counters()[0]["stop"] == 1


@pytest.mark.parametrize(("wait", "dropped"), [(True, {}), (False, {"tx_stopped": 154})])
def test_a_sender_waits_for_room_or_does_not(wait: bool, dropped: dict[str, int]) -> None:
    """A burst of 200 in which nobody else has a turn: 46 fill the ring of 64."""
    nic = Nic(queue_size=64, burst=200, wait=wait, guest="send")
    wire = Wire([udp(60, number=n) for n in range(200)])
    nic.arrive(wire.address, 200)
    assert nic.run()
    sent: list[SentFrame] = []
    nic.take_sent(sent)
    assert len(sent) == 200 - sum(dropped.values())
    assert nic.dropped == dropped


def test_a_sender_has_an_account() -> None:
    """net.core.wmem_default: 212,992 bytes of truesize are three frames of 64 kB and one more; the fifth waits."""
    nic = Nic(features=TSO, burst=100, wait=False, guest="send")
    header = Wire([struct.pack("<BBHHHHH", NEEDS_CSUM, 1, 66, 1448, 34, 16, 0).ljust(32, b"\0")])
    wire = Wire([ipv4(segment(bytes(65000)), TCP)] * 8)
    for n in range(8):
        wire.frame(n).vnet = header.frame(0).address
    nic.arrive(wire.address, 8)
    assert nic.run()
    assert nic.dropped == {"tx_no_memory": 4}


@pytest.mark.parametrize("kernel", ERAS)
def test_a_sender_that_waits_for_memory_has_its_promised_frames_sent(kernel: str) -> None:
    """Kicked by the fourth of them only if a fifth does not come: the batch is ended."""
    nic = Nic(features="" if kernel == "linux-4.19" else TSO, burst=100, xmit_more=100, guest="send", driver=kernel)
    frames = [ipv4(segment(bytes(60000)), TCP) if kernel != "linux-4.19" else plain(1514, n) for n in range(30)]
    wire = Wire(frames)
    sent: list[SentFrame] = []

    def arrive(address: int, count: int, _notes: int) -> None:
        nic.arrive(address, count)
        while not nic.run():
            nic.take_sent(sent, finished=False)

    nic.sending.pass_down(wire.address, wire.count, arrive)
    nic.take_sent(sent, finished=False)
    assert nic.dropped == {}
    assert len(sent) == 30


# Queues, kicks, batches.


def test_mq_v_04_mq_v_05_flows_keep_to_the_queues_in_use() -> None:
    """MQ-V-04, MQ-V-05: of four pairs, those that are in use, and each flow on one of them."""
    frames = [udp(60, port=5000 + n % 16, number=n) for n in range(160)]
    nic = Nic(queues=4)
    sent = nic.send(frames)
    where: dict[bytes, set[int]] = {}
    for frame in sent:
        where.setdefault(frame.data[34:36], set()).add(frame.queue)
    assert {len(queues) for queues in where.values()} == {1}
    assert set.union(*where.values()) == {0, 1, 2, 3}
    one = Nic(queues=4)
    one.driver.vi.curr_queue_pairs = 1
    assert {frame.queue for frame in one.send(frames)} == {0}
    assert one.device.queues[3].chains_used == 0


def test_mq_d_05_a_flow_comes_back_on_the_queue_it_was_sent_on() -> None:
    """MQ-D-05: whichever queue its hash would have chosen."""
    nic = Nic(queues=4)
    out = udp(60, port=5000)
    [sent] = nic.send([out])
    back = out[6:12] + out[:6] + out[12:26] + out[30:34] + out[26:30] + out[36:38] + out[34:36] + out[38:]
    [received] = nic.receive([back])
    assert received.skb.queue == sent.queue


@pytest.mark.parametrize(("xmit_more", "kicks"), [(1, 64), (8, 8), (64, 1), (1000, 1)])
def test_one_kick_for_frames_that_are_promised_together(xmit_more: int, kicks: int) -> None:
    """Sheet 6.1 step 6; without EVENT_IDX every kick is heard. A burst ends a promise."""
    nic = Nic(features="-EVENT_IDX", xmit_more=xmit_more, guest="send")
    wire = Wire([udp(60, number=n) for n in range(64)])
    nic.arrive(wire.address, 64)
    assert nic.run()
    assert nic.send_counters()[0]["kicks"] == kicks
    assert nic.driver.doorbells[1].kick_count == kicks


def test_with_event_idx_a_device_that_knows_of_frames_is_not_kicked_again() -> None:
    """SPLIT-D-20: it asked to hear of the first; the rest of the burst it finds by itself."""
    nic = Nic(guest="send")
    wire = Wire([udp(60, number=n) for n in range(640)])
    nic.arrive(wire.address, 640)
    assert nic.run()
    assert nic.send_counters()[0]["kicks"] == 10


def test_a_promise_that_was_not_kept_does_not_leave_frames_behind() -> None:
    """The last of a batch is dropped by the stack: those before it leave all the same."""
    nic = Nic(features="-EVENT_IDX", xmit_more=3)
    wire = Wire([udp(60), udp(60), bytes(5)])
    nic.sending.send(on=True)
    nic.arrive(wire.address, 3)
    assert nic.run()
    sent: list[SentFrame] = []
    nic.take_sent(sent)
    assert len(sent) == 2
    assert nic.dropped == {"tx_invalid": 1}


def test_a_full_egress_stops_the_loop_and_not_a_frame_is_lost() -> None:
    count = 2 * EGRESS_FRAMES + 77
    frames = [udp(60, number=n) for n in range(count)]
    wire = Wire(frames)
    nic = Nic(queue_size=1024, burst=700, guest="send")
    nic.arrive(wire.address, count)
    sent: list[SentFrame] = []
    stops = 0
    while not nic.run():
        stops += 1
        assert nic.sending.egress.struct.count >= 1
        nic.take_sent(sent)
    while not nic.let_guest_run():
        nic.take_sent(sent)
    nic.take_sent(sent)
    assert stops == 2
    assert [frame.data for frame in sent] == frames


def test_nothing_is_left_in_use_after_much_was_sent() -> None:
    """Skbs, blocks and the sender's account are as at the beginning."""
    nic = Nic(features=TSO, queue_size=64)
    for turn in range(30):
        nic.send([udp(46 + 53 * (turn % 27)), ipv4(segment(stream(1000 * turn)), TCP)])
    sq = nic.driver.send_queues[0]
    assert nic.driver.rings[1].num_free == 64
    assert nic.sending.idle()
    assert sq.sent == sq.packets


@pytest.mark.parametrize("options", [{"guest": "router"}, {"xmit_more": 0}])
def test_a_guest_there_is_not(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Nic(**options)  # type: ignore[arg-type]


@given(
    sizes=st.lists(st.sampled_from([0, 13, 14, 60, 128, 129, 1514, 1515, 9000, 65535]), max_size=60),
    kernel=st.sampled_from(list(ERAS)),
    mode=st.sampled_from(MODES),
    features=st.sampled_from(["", TSO, "-EVENT_IDX", "+RING_PACKED", "+RING_PACKED,+IN_ORDER", "-INDIRECT_DESC"]),
    queue_size=st.sampled_from([16, 32, 128]),
    burst=st.integers(1, 40),
    xmit_more=st.integers(1, 40),
    wait=st.booleans(),
    reflects=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_frame_leaves_or_is_counted_under_one_reason(
    sizes: list[int],
    kernel: str,
    mode: Mode,
    features: str,
    queue_size: int,
    burst: int,
    xmit_more: int,
    *,
    wait: bool,
    reflects: bool,
) -> None:
    """Once, in order, unchanged; descriptors and skbs are conserved, and nothing hangs."""
    nic = Nic(
        mode,
        queue_size,
        driver=kernel,
        features=features,
        burst=burst,
        xmit_more=xmit_more,
        wait=wait,
        guest="reflect" if reflects else "send",
    )
    frames = [plain(size, n) for n, size in enumerate(sizes)]
    if reflects:
        _, sent = nic.exchange(frames)
        left = [one.data[6:12] + one.data[:6] + one.data[12:] for one in sent]
    else:
        left = [one.data for one in nic.send(frames)]
    rest = iter(frames)
    assert all(any(one == frame for frame in rest) for one in left)
    ring, sq = nic.driver.rings[1], nic.driver.send_queues[0]
    # A queue that nothing wakes, as one of 16 entries, keeps frames in its queueing discipline.
    assert len(left) + sum(nic.dropped.values()) + sq.qlen == len(frames)
    outstanding = sq.sent - sq.packets
    assert 0 <= outstanding <= queue_size
    assert ring.num_free <= queue_size - outstanding
    if outstanding == 0:
        assert ring.num_free == queue_size
        assert sq.qlen or nic.sending.idle()
