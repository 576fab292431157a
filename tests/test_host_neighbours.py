"""The neighbour cache: states and times of RFC 4861 section 7.3.2 as Linux keeps them, bounds, and who is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.jit import hook
from netemu.stack.held import CHUNK_COUNT
from netemu.stack.neighbours import NEIGHBOUR_COUNT
from tests.host_kit import MAC, PEER_MAC, SECOND, HostBench
from tests.test_host_arp import OTHER_MAC, OWN, PEER, arp

ANSWER = arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC)
QUESTION = arp(1, MAC, OWN, bytes(6), PEER)
PROBE = arp(1, MAC, OWN, PEER_MAC, PEER, dst=PEER_MAC)


def state(bench: HostBench) -> str:
    (neighbour,) = bench.stack.ip.neighbour_list()
    return neighbour.state


def reachable(seed: int = 1) -> HostBench:
    bench = HostBench(seed=seed)
    bench.send("10.9.0.2")
    bench.receive(ANSWER)
    bench.taken()
    return bench


def pool(bench: HostBench) -> int:
    return bench.stack.ip.held.free_count


def test_a_neighbour_is_asked_for_three_times_a_second_apart_then_it_failed() -> None:
    bench = HostBench()
    bench.send("10.9.0.2")
    asked = []
    for tenth in range(40):
        asked += [tenth / 10] * bench.frames().count(QUESTION)
        bench.run(0.1)
    assert asked == [0, 1.0, 2.0]
    assert state(bench) == "failed"
    assert bench.stack.ip.neighbours.res_failed == 1
    assert pool(bench) == CHUNK_COUNT


def test_when_nobody_answers_the_own_sender_is_told_as_by_icmp() -> None:
    """Linux sends "host unreachable" to itself by lo, and its counters show it."""
    told: list[tuple[int, ...]] = []

    def note(*what: int) -> int:
        told.append(what)
        return 1

    bench = HostBench()
    bench.host.udp_error = hook(note)
    bench.send("10.9.0.2", b"abc", header=b"\x01\x02\x03\x04\x00\x0b\x00\x00")
    bench.run(4)
    # Ethernet 14, IP 20, ICMP 8, the quoted IP header 20.
    assert told == [(bench.host.address, 62, 2, 0)]
    assert (bench.host.error_source_lo, bench.host.error_target_lo) == (0xFFFF0A090001, 0xFFFF0A090002)
    moved = bench.moved()
    assert moved["IcmpOutDestUnreachs"] == moved["IcmpInDestUnreachs"] == 1


def test_a_failed_neighbour_is_asked_for_anew() -> None:
    bench = HostBench()
    bench.send("10.9.0.2")
    bench.run(4)
    bench.taken()
    bench.send("10.9.0.2")
    assert bench.frames() == [QUESTION]
    bench.receive(ANSWER)
    assert len(bench.frames()) == 1
    assert state(bench) == "reachable"


@pytest.mark.parametrize("seed", range(1, 6))
def test_reachable_lasts_between_half_and_one_and_a_half_times_thirty_seconds(seed: int) -> None:
    """RFC 4861 section 6.3.2: uniform between MIN_RANDOM_FACTOR and MAX_RANDOM_FACTOR times the base."""
    bench = reachable(seed)
    bench.run(14.9)
    assert state(bench) == "reachable"
    bench.run(30.2)
    assert state(bench) == "stale"
    assert bench.frames() == []


def test_hosts_with_different_seeds_differ_and_with_the_same_do_not() -> None:
    drawn = [reachable(seed).stack.ip.neighbours.reachable_time for seed in (1, 2, 3, 1)]
    assert len(set(drawn[:3])) == 3
    assert drawn[0] == drawn[3]


def stale() -> HostBench:
    bench = reachable()
    bench.run(50)
    assert state(bench) == "stale"
    return bench


def test_a_stale_neighbour_is_sent_to_at_once_and_asked_itself_five_seconds_later() -> None:
    bench = stale()
    bench.send("10.9.0.2")
    (frame,) = bench.frames()
    assert frame[:6] == PEER_MAC
    assert state(bench) == "delay"
    bench.run(4.9)
    assert bench.frames() == []
    bench.run(0.2)
    assert bench.frames() == [PROBE]
    assert state(bench) == "probe"
    bench.run(2)
    assert bench.frames() == [PROBE, PROBE]
    bench.run(0.8)
    assert state(bench) == "probe"
    bench.run(0.2)
    assert state(bench) == "failed"


def test_an_answer_to_a_probe_makes_it_reachable() -> None:
    bench = stale()
    bench.send("10.9.0.2")
    bench.run(5.5)
    bench.receive(ANSWER)
    assert state(bench) == "reachable"
    bench.taken()
    bench.run(10)
    assert bench.frames() == []


def test_a_peer_that_was_heard_of_is_not_asked() -> None:
    """RFC 4861 section 7.3.1: progress of a connection is a confirmation."""
    bench = stale()
    bench.send("10.9.0.2")
    bench.run(4)
    bench.send("10.9.0.2", confirm=1)
    bench.taken()
    bench.run(2)
    assert bench.frames() == []
    assert state(bench) == "reachable"


def test_a_neighbour_in_use_goes_to_delay_and_not_to_stale() -> None:
    bench = reachable()
    for _ in range(60):
        bench.send("10.9.0.2")
        bench.run(1)
        if state(bench) != "reachable":
            break
    assert state(bench) == "delay"


def test_of_what_waits_the_oldest_goes_when_there_is_no_room() -> None:
    """Linux's unres_qlen_bytes: 212,992 bytes, here in chunks of 2 KiB."""
    bench = HostBench()
    for number in range(110):
        assert bench.send("10.9.0.2", number.to_bytes(2, "big")) == 0
    bench.taken()
    bench.receive(ANSWER)
    waited = [int.from_bytes(frame[34:], "big") for frame in bench.frames()]
    assert waited == list(range(6, 110))
    assert bench.stack.ip.neighbours.unresolved_discards == 6
    assert pool(bench) == CHUNK_COUNT


def test_the_table_is_bounded_and_forgets_who_was_not_used_for_a_minute() -> None:
    bench = HostBench("10.9.0.1/16")
    for number in range(NEIGHBOUR_COUNT):
        bench.receive(arp(1, PEER_MAC, bytes([10, 9, 1 + number // 200, number % 200]), bytes(6), OWN))
    table = bench.stack.ip.neighbours
    assert table.count == NEIGHBOUR_COUNT
    bench.receive(arp(1, PEER_MAC, bytes([10, 9, 99, 1]), bytes(6), OWN))
    assert table.count == NEIGHBOUR_COUNT
    bench.run(61)
    bench.receive(arp(1, PEER_MAC, bytes([10, 9, 99, 2]), bytes(6), OWN))
    assert table.count == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(2, 5), st.integers(0, 4000)),
            st.tuples(st.just("hear"), st.integers(2, 5), st.integers(1, 2)),
            st.tuples(st.just("wait"), st.sampled_from([0, 1, 3, 6, 20, 70]), st.just(0)),
            st.tuples(st.just("flush"), st.just(0), st.just(0)),
        ),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_nothing_held_is_lost_and_every_packet_goes_or_is_dropped_once(
    steps: list[tuple[str, int, int]],
) -> None:
    bench = HostBench(mtu=9000)
    sent: list[int] = []
    for what, a, b in steps:
        if what == "send":
            number = len(sent)
            sent.append(a)
            bench.send(f"10.9.0.{a}", number.to_bytes(2, "big") + bytes(b), protocol=99)
        elif what == "hear":
            bench.receive(arp(b, OTHER_MAC if a == 5 else PEER_MAC, bytes([10, 9, 0, a]), MAC, OWN, dst=MAC))
        elif what == "wait":
            bench.run(a)
        else:
            bench.stack.ip.flush_neighbours()
    bench.run(200)
    assert pool(bench) == CHUNK_COUNT
    out = [int.from_bytes(frame[34:36], "big") for frame in bench.frames() if frame[12:14] == b"\x08\x00"]
    assert len(out) == len(set(out))
    assert bench.now >= 200 * SECOND
