"""What happens to frames on the wire: lost, duplicated, corrupted, reordered, delayed, marked, kept for slots."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.net.netem_words import parse_words
from tests.net_kit import MS, Rig, S, balance
from tests.offload_kit import (
    NEEDS_CSUM,
    TCPV4,
    V6,
    Given,
    ether,
    finished,
    finished_by_hand,
    header,
    ip4,
    ip6,
    marked,
    tcp,
)

SMALL = ether(ip4(tcp(b"hello")))
UNFINISHED = header(NEEDS_CSUM, start=34, offset=16)
LARGE = ether(ip4(tcp(marked(3000))))
TSO = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)
ECT0, ECT1, CE = 2, 1, 3


def numbered(rig: Rig, count: int, gap: int = MS) -> None:
    """Send frames that say which they are, one each ``gap`` ns."""
    for n in range(count):
        rig.send(n.to_bytes(4, "big"), at=n * gap)


def numbers(rig: Rig) -> list[int]:
    """Which frames arrived, in order."""
    return [int.from_bytes(arrival.data, "big") for arrival in rig.run()]


# Loss and duplication.


def test_frames_that_are_lost_are_counted_and_gone() -> None:
    rig = Rig("loss 100%")
    numbered(rig, 3)
    assert numbers(rig) == []
    assert rig.forward.dropped_loss == 3
    assert rig.buffers() == rig.free


def test_a_frame_that_is_lost_has_used_its_time_of_the_rate() -> None:
    rig = Rig("loss gemodel 100% 100% rate 1mbit")  # every second one is lost
    for _ in range(4):
        rig.send(125)
    rig.run()
    assert rig.times == [1 * MS, 3 * MS]
    assert rig.forward.sent == 4


def test_a_duplicate_is_the_same_frame_once_more() -> None:
    rig = Rig("delay 5ms duplicate 100%")
    rig.send(SMALL, vnet=UNFINISHED)
    assert [(arrival.when, arrival.data, arrival.vnet) for arrival in rig.run()] == [(5 * MS, SMALL, UNFINISHED)] * 2
    assert rig.forward.duplicated == 1
    assert balance(rig.forward) == 0


def test_a_frame_that_is_lost_and_duplicated_comes_once() -> None:
    """netem counts: one, one more, one less."""
    rig = Rig("duplicate 100% loss 100%")
    numbered(rig, 5)
    assert numbers(rig) == [0, 1, 2, 3, 4]
    assert (rig.forward.duplicated, rig.forward.dropped_loss) == (0, 0)


def test_a_duplicate_is_lost_on_its_own() -> None:
    """Lost are the second, fourth ... that are asked: here, each duplicate."""
    rig = Rig("duplicate 100% loss gemodel 100% 100%")
    numbered(rig, 4)
    assert numbers(rig) == [0, 1, 2, 3]
    assert (rig.forward.duplicated, rig.forward.dropped_loss) == (4, 4)


def test_a_duplicate_is_not_duplicated() -> None:
    rig = Rig("duplicate 100%")
    numbered(rig, 1)
    assert numbers(rig) == [0, 0]


# Corruption.


def differing_bits(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def test_corruption_changes_one_bit_anywhere() -> None:
    rig = Rig("corrupt 100%")
    for _ in range(400):
        rig.send(bytes(16))
    arrived = [arrival.data for arrival in rig.run()]
    assert all(differing_bits(data, bytes(16)) == 1 for data in arrived)
    assert rig.forward.corrupted == 400
    places = {int.from_bytes(data, "big").bit_length() for data in arrived}
    assert len(places) > 110  # of 128; 400 throws leave out 128 * (127/128)^400 = 5.6 on average


def test_a_checksum_is_finished_before_a_bit_is_changed() -> None:
    """As netem does (skb_checksum_help): else the receiver's device would make the frame right again."""
    rig = Rig("corrupt 100%")
    rig.send(SMALL, vnet=UNFINISHED)
    (arrival,) = rig.run()
    assert arrival.vnet == b""
    assert differing_bits(arrival.data, finished_by_hand(SMALL)) == 1
    assert balance(rig.forward) == 0


def test_of_a_large_frame_that_is_corrupted_one_segment_is() -> None:
    """It is cut, and each of the others has its own chance."""
    rig = Rig("delay 1ms corrupt 50%", seed=3)
    for _ in range(20):
        rig.send(LARGE, vnet=TSO)
    arrivals = rig.run()
    whole = [arrival for arrival in arrivals if arrival.vnet]
    pieces = [arrival.data for arrival in arrivals if not arrival.vnet]
    assert 3 * rig.forward.cut == rig.forward.pieces == len(pieces)
    assert len(whole) + rig.forward.cut == 20
    assert 0 < rig.forward.cut < 20
    sound = [made.data for made in finished(Given(LARGE, TSO))]  # held against Linux elsewhere
    bits = [differing_bits(piece, sound[n % 3]) for n, piece in enumerate(pieces)]
    assert set(bits) == {0, 1}
    assert set(bits[::3]) == {1}
    assert sum(bits) == rig.forward.corrupted
    assert balance(rig.forward) == 0
    assert rig.buffers() == rig.free


def test_a_frame_with_a_header_that_is_not_true_cannot_be_corrupted() -> None:
    rig = Rig("corrupt 100%")
    rig.send(SMALL, vnet=header(NEEDS_CSUM, start=len(SMALL), offset=16))
    assert rig.run() == []
    assert rig.forward.dropped_header == 1
    assert balance(rig.forward) == 0


# Delay and order.


def test_without_jitter_order_is_kept() -> None:
    rig = Rig("delay 10ms loss 20% duplicate 20%")
    numbered(rig, 300, gap=1000)
    arrived = numbers(rig)
    assert arrived == sorted(arrived)


def test_jitter_reorders_frames_that_follow_closely() -> None:
    rig = Rig("delay 10ms 5ms")
    numbered(rig, 200, gap=100_000)
    arrived = numbers(rig)
    assert sorted(arrived) == list(range(200))
    assert arrived != sorted(arrived)
    assert all(5 * MS <= when - 100_000 * n <= 15 * MS for when, n in zip(rig.times, arrived, strict=True))


def test_with_a_rate_jitter_keeps_the_order() -> None:
    """As netem with a rate: a frame leaves its queue no earlier than the one before."""
    rig = Rig("delay 10ms 5ms rate 1gbit")
    numbered(rig, 200, gap=100_000)
    assert numbers(rig) == list(range(200))
    assert all(5 * MS <= when - 100_000 * n <= 16 * MS for n, when in enumerate(rig.times))
    assert rig.times == sorted(rig.times)


def test_correlated_jitter_reorders_less() -> None:
    def inversions(words: str) -> int:
        rig = Rig(words)
        numbered(rig, 400, gap=100_000)
        arrived = numbers(rig)
        return sum(one > other for one, other in pairwise(arrived))

    assert inversions("delay 10ms 1ms 95%") < inversions("delay 10ms 1ms") / 2


def test_every_fifth_frame_overtakes() -> None:
    """tc-netem(8): with gap 5 and 100%, "every 5th packet is reordered reliably"."""
    rig = Rig("delay 10ms reorder 100% gap 5")
    numbered(rig, 10)
    assert numbers(rig) == [4, 9, 0, 1, 2, 3, 5, 6, 7, 8]
    assert rig.times[:3] == [4 * MS, 9 * MS, 10 * MS]
    assert rig.forward.reordered == 2


# Marks.


@pytest.mark.parametrize(
    ("packet", "marked_as"),
    [
        pytest.param(ip4(tcp(b"x"), tos=ECT0), ip4(tcp(b"x"), tos=CE), id="ect0"),
        pytest.param(ip4(tcp(b"x"), tos=0xB8 | ECT1), ip4(tcp(b"x"), tos=0xB8 | CE), id="ect1-and-dscp"),
        pytest.param(ip4(tcp(b"x"), tos=CE), ip4(tcp(b"x"), tos=CE), id="ce-already"),
        pytest.param(
            ip6(tcp(b"x", addresses=V6), traffic_class=0xB8 | ECT0),
            ip6(tcp(b"x", addresses=V6), traffic_class=0xB8 | CE),
            id="ipv6",
        ),
    ],
)
@pytest.mark.parametrize("tags", [(), (5,)])
def test_with_ecn_a_packet_is_marked_in_place_of_being_lost(
    packet: bytes, marked_as: bytes, tags: tuple[int, ...]
) -> None:
    """RFC 3168, section 5; the expected packet, header checksum and all, is built anew."""
    rig = Rig("loss 100% ecn")
    rig.send(ether(packet, tags=tags))
    assert [arrival.data for arrival in rig.run()] == [ether(marked_as, tags=tags)]
    assert (rig.forward.marked, rig.forward.dropped_loss) == (1, 0)


def test_the_header_checksum_follows_the_mark_whatever_it_was() -> None:
    """A checksum of 0, where the sum carries twice, and others from all over the range (RFC 1624)."""
    rig = Rig("loss 100% ecn")
    zero = next(n for n in range(65536) if ip4(b"", tos=ECT0, ident=n)[10:12] == b"\0\0")
    for ident in (zero, *range(0, 65536, 97)):
        rig.send(ether(ip4(b"", tos=ECT0, ident=ident)))
        assert rig.run()[-1].data == ether(ip4(b"", tos=CE, ident=ident))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ether(ip4(tcp(b"x"))), id="not-ect"),
        pytest.param(ether(ip6(tcp(b"x", addresses=V6))), id="not-ect-6"),
        pytest.param(bytes(60), id="no-ip"),
        pytest.param(b"\x08\x00", id="runt"),
        pytest.param(bytes(12) + b"\x08\x00" + b"\x63" * 40, id="no-version"),
    ],
)
def test_what_cannot_be_marked_is_lost(frame: bytes) -> None:
    rig = Rig("loss 100% ecn")
    rig.send(frame)
    assert rig.run() == []
    assert rig.forward.dropped_loss == 1


# Slots.


def test_slots_bunch_frames_together() -> None:
    """The first frame finds the slot of moment 0 gone by 1 ms and takes one 10 ms later, which carries three."""
    rig = Rig("slot 10ms packets 3")
    numbered(rig, 7)
    assert numbers(rig) == [0, 1, 2, 3, 4, 5, 6]
    # Frame 0 comes at moment 0, when the slot is open; those that follow wait for slots of three.
    assert rig.times == [0, 11 * MS, 11 * MS, 11 * MS, 21 * MS, 21 * MS, 21 * MS]


def test_a_slot_carries_so_many_bytes() -> None:
    """It is used up with the frame that takes the last of them."""
    rig = Rig("slot 10ms bytes 250")
    for _ in range(5):
        rig.send(100, at=1)
    rig.run()
    assert rig.times == [10 * MS + 1] * 3 + [20 * MS + 1] * 2


def test_slots_come_between_their_bounds() -> None:
    rig = Rig("slot 1ms 3ms packets 1")
    for _ in range(400):
        rig.send(60, at=1)
    rig.run()
    gaps = [after - before for before, after in pairwise(rig.times)]
    assert 1 * MS <= min(gaps) < 1.1 * MS
    assert 2.9 * MS < max(gaps) <= 3 * MS
    assert statistics.fmean(gaps) == pytest.approx(2 * MS, rel=0.05)


def test_slots_come_as_their_distribution_says() -> None:
    rig = Rig("slot distribution normal 5ms 1ms packets 1")
    for _ in range(400):
        rig.send(60, at=1)
    rig.run()
    gaps = [after - before for before, after in pairwise(rig.times)]
    assert statistics.fmean(gaps) == pytest.approx(5 * MS, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(1 * MS, rel=0.12)


def test_frames_are_delayed_before_they_wait_for_a_slot() -> None:
    rig = Rig("delay 4ms slot 10ms")
    numbered(rig, 2, gap=2 * MS)
    numbers(rig)
    assert rig.times == [14 * MS, 14 * MS]


def test_what_waits_for_a_slot_is_lost_when_the_link_goes_down() -> None:
    rig = Rig("slot 10ms")
    for _ in range(3):
        rig.send(60, at=1)
    rig.link.down()
    assert rig.forward.dropped_down == 3
    assert rig.buffers() == rig.free
    rig.link.up()
    rig.send(60, at=12 * MS)
    rig.run()
    assert rig.times == [22 * MS]


def test_slots_hold_no_more_than_netem_would() -> None:
    rig = Rig("slot 10s packets 1")
    for _ in range(1200):
        rig.send(60, at=1)
    assert rig.forward.held == 1000
    assert rig.forward.dropped_limit == 200


# All together.


def fates(words: str, **options: int) -> list[tuple[int, bytes]]:
    rig = Rig(words, **options)
    numbered(rig, 300, gap=10_000)
    return [(arrival.when, arrival.data) for arrival in rig.run()]


ALL = "delay 1ms 200us loss 5% duplicate 5% corrupt 5% reorder 10% rate 10mbit"


def test_the_same_seed_does_the_same() -> None:
    assert fates(ALL, seed=5) == fates(ALL, seed=5)
    assert fates(ALL, seed=5) != fates(ALL, seed=6)
    assert fates(ALL, link_seed=2) == fates(ALL, link_seed=2)
    assert fates(ALL, link_seed=2) != fates(ALL, link_seed=3)


def test_one_impairment_does_not_change_what_another_draws() -> None:
    def lost(words: str) -> set[bytes]:
        return {n.to_bytes(4, "big") for n in range(300)} - {data for _, data in fates(words)}

    assert lost("loss 5% delay 1ms") == lost("loss 5% delay 1ms 100us 20% reorder 5%")


def test_changes_do_not_begin_chances_anew() -> None:
    """A loss that stays as it was goes on where it was when the delay changes."""
    steady, changed = Rig("loss 20%"), Rig("loss 20%")
    for n in range(100):
        for rig in (steady, changed):
            rig.send(n.to_bytes(4, "big"), at=n * MS)
        changed.link.set(delay=n)
    assert numbers(changed) == numbers(steady)


WORDS = st.lists(
    st.sampled_from(
        [
            "delay 5ms",
            "delay 5ms 2ms 10% distribution normal",
            "loss 20%",
            "loss state 10% 30%",
            "loss gemodel 10% 30% ecn",
            "duplicate 30%",
            "corrupt 30%",
            "reorder 20% gap 2 delay 1ms",
            "rate 2mbit",
            "rate 1mbit 0 48 5",
            "slot 1ms 2ms packets 3",
            "limit 20",
            "queue 5p",
            "queue 3kb",
            "queue 50p codel target 1ms interval 10ms",
            "queue 20kb red ecn",
            "mtu 800",
            "gso segments",
        ]
    ),
    max_size=5,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 1500)),
        st.tuples(st.just("wait"), st.integers(0, 3_000_000), st.just(0)),
        st.tuples(st.sampled_from(["down", "up"]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(WORDS, WORDS, STEPS, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_every_frame_is_accounted_for_whatever_happens(
    first: list[str], second: list[str], steps: list[tuple[str, int, int]], seed: int
) -> None:
    rig = Rig(" ".join(first), link_seed=seed)
    for n, (what, kind, size) in enumerate(steps):
        if n == len(steps) // 2:
            rig.link.set(**parse_words(" ".join(second)))
        if what == "send":
            data = (LARGE, SMALL, ether(ip4(tcp(bytes(size)), tos=ECT0)), bytes(size))[kind]
            rig.send(data, vnet=(TSO, UNFINISHED, b"", b"")[kind])
        elif what == "wait":
            rig.timers.run_until(rig.timers.struct.now + kind)
        else:
            (rig.link.down if what == "down" else rig.link.up)()
        assert balance(rig.forward) == 0
    rig.link.up()
    rig.run(1000 * S)
    assert rig.forward.held == 0
    assert (rig.forward.backlog, rig.forward.backlog_bytes) == (0, 0)
    assert balance(rig.forward) == 0
    assert len(rig.arrivals) == rig.forward.delivered
    assert rig.buffers() == rig.free
