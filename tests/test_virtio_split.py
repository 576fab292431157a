"""Sizes of a split ring's parts and the arithmetic of its events (section 2.7 of VIRTIO 1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.virtio import split
from netemu.virtio.notify import Doorbell, notification_data, ring_call, ring_kick
from netemu.virtio.split import vring_need_event


@pytest.mark.parametrize(
    ("num", "desc", "avail", "used"),
    [
        (1, 16, 8, 14),
        (8, 128, 22, 70),
        (256, 4096, 518, 2054),
        (1024, 16384, 2054, 8198),
        (32768, 524288, 65542, 262150),
    ],
)
def test_split_b_01_sizes_of_the_three_parts(num: int, desc: int, avail: int, used: int) -> None:
    """SPLIT-B-01."""
    assert (split.desc_bytes(num), split.avail_bytes(num), split.used_bytes(num)) == (desc, avail, used)


def test_split_v_01_alignments() -> None:
    """SPLIT-V-01."""
    assert (split.DESC_ALIGN, split.AVAIL_ALIGN, split.USED_ALIGN) == (16, 2, 4)


def test_split_b_03_05_06_offsets_and_flags() -> None:
    """SPLIT-B-03."""
    assert (split.DESC_LEN, split.DESC_FLAGS, split.DESC_NEXT, split.DESC_SIZE) == (8, 12, 14, 16)
    assert (split.NEXT, split.WRITE, split.INDIRECT) == (1, 2, 4)
    assert (split.AVAIL_FLAGS, split.AVAIL_IDX, split.AVAIL_RING, split.NO_INTERRUPT) == (0, 2, 4, 1)
    assert (split.USED_FLAGS, split.USED_IDX, split.USED_RING, split.NO_NOTIFY) == (0, 2, 4, 1)
    assert (split.USED_ELEM_LEN, split.USED_ELEM_SIZE) == (4, 8)


@pytest.mark.parametrize(
    # The table of section 11.3 of the Linux sheet: where both parts begin in one block, and their event words.
    ("num", "avail", "used_event", "used", "avail_event"),
    [(8, 128, 148, 152, 220), (256, 4096, 4612, 8192, 10244), (1024, 16384, 18436, 20480, 28676)],
)
def test_event_words_stand_last(num: int, avail: int, used_event: int, used: int, avail_event: int) -> None:
    assert split.used_event_at(avail, num) == used_event
    assert split.avail_event_at(used, num) == avail_event
    assert split.avail_bytes(num) == used_event + 2 - avail
    assert split.used_bytes(num) == avail_event + 2 - used


@pytest.mark.parametrize("num", [2**n for n in range(16)])
def test_split_b_02_powers_of_two_up_to_32768_are_sizes(num: int) -> None:
    """SPLIT-B-02."""
    split.check_queue_size(num)


@pytest.mark.parametrize("num", [0, -1, -2, 3, 5, 6, 12, 100, 1023, 32767, 32769, 65536])
def test_split_b_02_nothing_else_is(num: int) -> None:
    """SPLIT-B-02."""
    with pytest.raises(ConfigError, match=f"not {num}$"):
        split.check_queue_size(num)


# (event, new, old): section 11.5 of the Linux sheet, and section 13 of the catalogue.
DUE = [(0, 1, 0), (5, 6, 5), (5, 10, 3), (65535, 0, 65535), (65535, 1, 65530), (0, 1, 65535), (2, 3, 0)]
NOT_DUE = [(1, 1, 0), (5, 7, 6), (5, 5, 3), (3, 3, 0), (7, 7, 7)]


@pytest.mark.parametrize("numbers", DUE, ids=str)
def test_split_d_12_v_24_the_index_passed_the_event(numbers: tuple[int, int, int]) -> None:
    """SPLIT-D-12."""
    assert vring_need_event(*numbers) == 1


@pytest.mark.parametrize("numbers", NOT_DUE, ids=str)
def test_split_d_13_v_25_the_index_did_not_pass_the_event(numbers: tuple[int, int, int]) -> None:
    """SPLIT-D-13."""
    assert vring_need_event(*numbers) == 0


def test_used_event_0_fires_on_the_first_buffer_and_again_after_65536() -> None:
    fired = [step for step in range(65538) if vring_need_event(0, (step + 1) % 65536, step % 65536)]
    assert fired == [0, 65536]


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 300))
def test_an_event_is_due_when_its_entry_is_among_those_added(event: int, old: int, added: int) -> None:
    """SPLIT-D-12 read literally: an entry placed by an index that equals the event."""
    entries = {(old + n) % 65536 for n in range(added)}
    assert vring_need_event(event, (old + added) % 65536, old) == int(event in entries)


@pytest.mark.parametrize(
    ("index", "next_off", "next_wrap", "word"),
    [
        (0, 0, 0, "00000000"),
        (0xABCD, 0, 0, "cdab0000"),
        (0, 0x7FFF, 0, "0000ff7f"),
        (0, 0, 1, "00000080"),
        (3, 0x1234, 1, "03003492"),
    ],
)
def test_notif_v_02_the_word_of_a_notification(index: int, next_off: int, next_wrap: int, word: str) -> None:
    """NOTIF-V-02: Index in bits 0 to 15, next_off in 16 to 30, next_wrap in 31, little-endian."""
    assert notification_data(index, next_off, next_wrap).to_bytes(4, "little").hex() == word


def test_notif_b_01_kicks_and_calls_do_not_mix() -> None:
    """NOTIF-B-01."""
    bell = Doorbell()
    ring_kick(bell.address, 0x8003_0007)
    assert bell.to_dict() == {"kick": 1, "call": 0, "kick_count": 1, "call_count": 0, "data": 0x8003_0007}
    ring_call(bell.address)
    ring_call(bell.address)
    assert bell.to_dict() == {"kick": 1, "call": 1, "kick_count": 1, "call_count": 2, "data": 0x8003_0007}
