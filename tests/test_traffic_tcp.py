"""Bulk transfers and pings from kernels, between whole hosts on an Ethernet whose frames take 10 ms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.aio import DeadlockError
from netemu.errors import ConfigError
from netemu.jit import allocate
from netemu.traffic.tcp import BulkStats, bulk_pattern, tcp_bulk
from netemu.traffic.tcp_bulk_apps import CHUNK, PERIOD, unlike
from netemu.traffic.udp import ping_flow
from tests.aio_kit import run
from tests.ether_kit import DELAY, Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")


def net() -> Net:
    return Net("10.0.0.1/24", "10.0.0.2/24")


def bulk(lab: Net, *size: Any, **how: Any) -> BulkStats:
    return run(lab.world, tcp_bulk(lab.hosts[0], lab.hosts[1], *size, **how))


@pytest.mark.parametrize("streams", [1, 3])
def test_a_transfer_arrives_whole(streams: int) -> None:
    stats = bulk(net(), 200_000, streams=streams)
    assert (stats.sent, stats.received, stats.bad) == (200_000 * streams, 200_000 * streams, 0)
    assert (stats.streams, stats.ended, stats.failed, stats.complete) == (streams, streams, 0, True)
    assert stats.goodput == pytest.approx(8e9 * stats.received / stats.duration)
    assert "complete" in str(stats)
    assert stats.to_dict()["complete"] is True


def test_a_transfer_with_losses_is_whole_and_says_what_was_sent_again() -> None:
    lab = net()
    lab.spoil = lambda number, frame: [] if number % 25 == 0 and len(frame) > 200 else [frame]
    stats = bulk(lab, "100kb")
    assert (stats.received, stats.complete) == (102_400, True)
    assert stats.retransmitted > 0


def test_a_transfer_may_be_as_long_as_a_time() -> None:
    lab = net()
    stats = bulk(lab, time="300ms")
    assert stats.complete
    assert 300_000_000 <= lab.world.now < 2_000_000_000


def test_nothing_is_a_transfer_too() -> None:
    assert bulk(net(), 0).complete


def test_a_wrong_byte_is_counted() -> None:
    """The wire changes a byte and makes the checksum right again, as nothing but the pattern can tell."""
    lab = net()
    done: list[int] = []

    def change(number: int, frame: bytes) -> list[bytes]:
        if len(frame) < 1000 or done:
            return [frame]
        done.append(number)
        # Two words of the payload change places: their sum stays.
        return [frame[:500] + frame[502:504] + frame[500:502] + frame[504:]]

    lab.spoil = change
    stats = bulk(lab, 20_000)
    assert stats.received == 20_000
    assert 0 < stats.bad <= 4
    assert not stats.complete
    assert "not complete" in str(stats)


def test_a_peer_that_goes_silent_ends_the_transfer() -> None:
    lab = net()
    lab.spoil = lambda number, frame: [frame] if number < 30 else []
    try:
        stats = bulk(lab, 10_000_000)
    except DeadlockError:
        pytest.fail("the sender gives up in the end")
    assert (stats.failed, stats.complete) == (1, False)


def test_a_transfer_has_a_size_or_a_time() -> None:
    with pytest.raises(ConfigError, match="a size or a time"):
        bulk(net())
    with pytest.raises(ConfigError, match="one connection at least"):
        bulk(net(), 1, streams=0)


def test_the_pattern_repeats_after_a_prime() -> None:
    table = bulk_pattern().array
    assert len(table) == PERIOD + CHUNK
    assert bytes(table[PERIOD:]) == bytes(table[:CHUNK])
    assert len(set(table[:PERIOD].tolist())) == 256


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_unlike_bytes_are_counted(one: bytes, other: bytes) -> None:
    size = min(len(one), len(other))
    first, second = allocate(64), allocate(64)
    first.array[: len(one)], second.array[: len(other)] = bytearray(one), bytearray(other)
    wanted = sum(a != b for a, b in zip(one, other, strict=False))
    assert unlike(first.address, second.address, size) == wanted


def test_pings_from_a_kernel_measure_round_trips() -> None:
    lab = net()
    a, b = lab.hosts
    stats = run(lab.world, ping_flow(a, b, interval="100ms", count=5))
    assert (stats.sent, stats.received, stats.lost) == (5, 5, 0)
    assert list(stats.delay) == [4 * DELAY, *[2 * DELAY] * 4]  # the first behind ARP
