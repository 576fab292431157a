"""The scoreboard of RFC 6675: its scenarios, and a naive model byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.tcp.scoreboard import (
    DUP_THRESH,
    NEW_DATA,
    NOTHING,
    RESCUE,
    RETRANSMIT,
    begin_recovery,
    begin_timeout,
    dup_thresh,
    is_lost,
    next_seg,
    note_new_data,
    note_reordering,
    note_retransmitted,
    sacked_bytes,
    set_pipe,
)
from tests.tcp_parts_kit import Board, spans

MSS = 1000


def after(una: int, *sacked: int, sent: int = 10, position: int = 0) -> Board:
    """A board of segments 0 to ``sent`` (of MSS bytes), of which those named were SACKed one by one."""
    board = Board(MSS, position)
    note_new_data(board.struct, position + sent * MSS)
    for segment in sacked:
        left = position + segment * MSS
        board.ack(position + una * MSS, [(left, left + MSS)])
    return board


def take(board: Board, new_data: int = 0) -> tuple[int, int, int]:
    """What is sent next, and that it is."""
    kind = next_seg(board.struct, new_data)
    place = (board.struct.next, board.struct.next_len)
    if kind in (RETRANSMIT, RESCUE):
        note_retransmitted(board.struct, kind, sum(place))
    return (kind, *place) if kind in (RETRANSMIT, RESCUE) else (kind, 0, 0)


# IsLost.


def test_three_ranges_above_make_a_byte_lost() -> None:
    """DupThresh discontiguous ranges, RFC 6675 section 4, however small."""
    board = Board(MSS)
    note_new_data(board.struct, 10 * MSS)
    board.ack(0, [(1000, 1001)])
    board.ack(0, [(2000, 2001)])
    assert is_lost(board.struct, 0) == 0
    board.ack(0, [(3000, 3001)])
    assert is_lost(board.struct, 0) == 1
    assert is_lost(board.struct, 999) == 1
    assert is_lost(board.struct, 1001) == 0


def test_more_than_two_segments_of_bytes_above_make_a_byte_lost() -> None:
    """(DupThresh - 1) * SMSS: exactly that much is not more."""
    board = after(0, 1, 2)
    assert sacked_bytes(board.struct) == 2 * MSS
    assert is_lost(board.struct, 0) == 0
    board.ack(0, [(3 * MSS, 3 * MSS + 1)])
    assert is_lost(board.struct, 0) == 1


def test_what_lies_above_the_third_range_from_the_top_is_not_lost() -> None:
    board = after(0, 1, 3, 5, 7)
    lost = [segment for segment in (0, 2, 4, 6, 8) if is_lost(board.struct, segment * MSS)]
    assert lost == [0, 2]


# SetPipe.


def test_pipe_leaves_out_what_is_sacked_and_what_is_lost() -> None:
    """Ten segments; 0 is lost under three SACKed ones; six are under way above."""
    board = after(0, 1, 2, 3)
    assert set_pipe(board.struct) == 6 * MSS


def test_pipe_counts_a_retransmission_again() -> None:
    board = after(0, 1, 2, 3)
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, MSS)
    assert set_pipe(board.struct) == 7 * MSS


def test_pipe_counts_a_byte_twice_that_was_retransmitted_before_it_was_lost() -> None:
    """By rules (a) and (b) of SetPipe each: not lost, and below HighRxt."""
    board = after(0, 1, sent=4)
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, MSS)  # rule (3) of NextSeg
    assert set_pipe(board.struct) == (3 + 1) * MSS


# NextSeg.


def test_lost_segments_go_first_then_new_data_then_gaps_then_one_rescue() -> None:
    """All four rules in turn. Of 12 segments 0, 2, 9 and 11 are missing; only 0 and 2 are lost."""
    board = after(0, 1, 3, 4, 5, 6, 7, 8, 10, sent=12)
    begin_recovery(board.struct)
    assert take(board, new_data=1) == (RETRANSMIT, 0, MSS)
    assert take(board, new_data=1) == (RETRANSMIT, 2 * MSS, MSS)
    assert take(board, new_data=1) == (NEW_DATA, 0, 0)
    assert take(board) == (RETRANSMIT, 9 * MSS, MSS)
    assert take(board) == (RESCUE, 11 * MSS, MSS)
    assert board.struct.high_rxt == 10 * MSS
    assert take(board) == (NOTHING, 0, 0)


def test_the_rescue_comes_once_in_a_recovery_and_has_the_highest_byte() -> None:
    """RescueRxt becomes RecoveryPoint: HighACK does not pass that before the recovery is over."""
    board = Board(MSS)
    note_new_data(board.struct, 4500)
    board.ack(0, [(1000, 4000)])
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, 1000)
    assert take(board) == (RESCUE, 4000, 500)
    board.ack(4000)
    assert take(board) == (NOTHING, 0, 0)
    assert (board.struct.recovery_point, board.struct.rescue_rxt) == (4500, 4500)
    begin_recovery(board.struct)
    assert take(board) == (RESCUE, 4000, 500)


def test_a_rescue_under_a_sacked_end_takes_the_gap_below_it() -> None:
    board = Board(MSS)
    note_new_data(board.struct, 5000)
    board.ack(0, [(4600, 5000)])
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, 1000)
    for _ in range(4):
        take(board)
    assert take(board) == (RESCUE, 3600, 1000)


def test_a_retransmission_ends_where_the_receiver_has_more() -> None:
    board = Board(MSS)
    note_new_data(board.struct, 9000)
    board.ack(0, [(300, 1300), (1500, 3000), (3100, 9000)])
    begin_recovery(board.struct)
    assert [take(board) for _ in range(4)] == [
        (RETRANSMIT, 0, 300),
        (RETRANSMIT, 1300, 200),
        (RETRANSMIT, 3000, 100),
        (RESCUE, 3000, 100),
    ]


def test_a_gap_above_everything_sacked_is_not_retransmitted() -> None:
    """Rule (1.b): S2 is less than the highest byte covered by a SACK."""
    board = after(0, 1, 2, 3, sent=6)
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, MSS)
    assert take(board) == (RESCUE, 5 * MSS, MSS)
    assert take(board) == (NOTHING, 0, 0)


# Acknowledgements.


def test_an_acknowledgement_trims_what_was_sacked() -> None:
    board = after(0, 2, 3, 5)
    board.ack(2500)
    assert board.struct.reneged == 1  # 2 was SACKed, and is acknowledged by half
    assert board.ranges.pairs() == []


def test_a_receiver_that_drops_what_it_sacked_is_found_out() -> None:
    """RFC 2018 section 8: it acknowledges up to data that it said it had, and no further."""
    board = after(0, 1, 2, 5)
    board.ack(3 * MSS)
    assert board.struct.reneged == 0
    assert board.ranges.pairs() == [(5 * MSS, 6 * MSS)]
    board.ack(5 * MSS)
    assert board.struct.reneged == 1
    assert board.ranges.pairs() == []
    assert set_pipe(board.struct) == 5 * MSS


def test_blocks_that_make_no_sense_are_ignored() -> None:
    board = after(2, sent=5)
    assert board.ack(2000, [(4000, 5001), (4000, 4000), (4500, 4400), (0, 2000)]) == 0
    assert board.ranges.pairs() == []
    assert board.ack(2000, [(4000, 5000), (1500, 2200), (2000, 2100)]) == 1000
    assert board.ranges.pairs() == [(4000, 5000)]


def test_newly_sacked_bytes_are_counted_once() -> None:
    board = after(0, sent=9)
    assert board.ack(0, [(2000, 4000)]) == 2000
    assert board.ack(0, [(2000, 4000)]) == 0
    assert board.ack(0, [(1000, 5000), (2000, 3000), (8000, 9000)]) == 3000


@pytest.mark.parametrize(
    ("una", "sacks", "duplicate"),
    [
        # RFC 2883 section 4.1.1: segments 3000-3499 and 3500-3999 come, the second one twice.
        (4000, [(3500, 4000)], (3500, 4000)),
        # 4.1.2: a duplicate below the acknowledgement, then a block of data out of order.
        (4000, [(3000, 3500), (4500, 5000)], (3000, 3500)),
        # 4.1.3: a duplicate inside of the block that follows.
        (4000, [(5000, 5500), (4500, 6000)], (5000, 5500)),
        (4000, [(4500, 6000), (7000, 7500)], None),
        (4000, [(4500, 6000)], None),
    ],
)
def test_a_duplicate_is_told_from_a_sack(
    una: int, sacks: list[tuple[int, int]], duplicate: tuple[int, int] | None
) -> None:
    """The scenarios of RFC 2883 section 4."""
    board = Board(500, 3000)
    note_new_data(board.struct, 9000)
    board.ack(una, sacks)
    assert board.struct.duplicate == int(duplicate is not None)
    if duplicate is not None:
        assert (board.struct.duplicate_left, board.struct.duplicate_right) == duplicate
    assert (3500, 4000) not in board.ranges.pairs()


def test_what_a_recovery_retransmitted_behind_its_end_is_not_sent_again_by_the_next() -> None:
    """Segment 12 was lost among the data sent in the first recovery, and sent again in it."""
    board = after(0, 1, 2, 3)
    begin_recovery(board.struct)
    note_new_data(board.struct, 20 * MSS)
    assert take(board) == (RETRANSMIT, 0, MSS)
    board.ack(0, [(4 * MSS, 12 * MSS), (13 * MSS, 17 * MSS)])
    assert take(board) == (RETRANSMIT, 12 * MSS, MSS)
    board.ack(12 * MSS, [(13 * MSS, 18 * MSS)])
    begin_recovery(board.struct)
    assert board.struct.high_rxt > board.struct.high_ack
    assert take(board, new_data=1)[0] == NEW_DATA
    begin_timeout(board.struct)
    assert take(board) == (RETRANSMIT, 12 * MSS, MSS)


# Retransmissions that are lost.


def test_a_retransmission_is_lost_when_three_segments_behind_it_arrived() -> None:
    """Segments 10 to 12 were sent after it; the gap at 4, retransmitted with it, is lost again too, and comes next."""
    board = after(0, 1, 2, 3, 5, 6, 7, 8, 9)
    begin_recovery(board.struct)
    assert [take(board), take(board)] == [(RETRANSMIT, 0, MSS), (RETRANSMIT, 4 * MSS, MSS)]
    note_new_data(board.struct, 20 * MSS)
    board.ack(0, [(10 * MSS, 12 * MSS)])
    assert set_pipe(board.struct) == (2 + 8) * MSS
    assert take(board, new_data=1)[0] == NEW_DATA
    board.ack(0, [(10 * MSS, 13 * MSS)])
    assert set_pipe(board.struct) == 7 * MSS
    assert take(board, new_data=1) == (RETRANSMIT, 0, MSS)
    assert take(board, new_data=1) == (RETRANSMIT, 4 * MSS, MSS)
    assert take(board, new_data=1)[0] == NEW_DATA
    assert set_pipe(board.struct) == (2 + 7) * MSS
    board.ack(0, [(10 * MSS, 20 * MSS)])
    assert take(board)[0] != RETRANSMIT  # these were sent before
    note_new_data(board.struct, 30 * MSS)
    board.ack(0, [(10 * MSS, 23 * MSS)])
    assert take(board) == (RETRANSMIT, 0, MSS)


def test_a_gap_of_several_segments_is_sent_again_piece_by_piece() -> None:
    board = Board(MSS)
    note_new_data(board.struct, 10 * MSS)
    board.ack(0, [(3500, 10000)])
    begin_recovery(board.struct)
    first = [take(board) for _ in range(4)]
    assert [place for _, place, _ in first] == [0, 1000, 2000, 3000]
    note_new_data(board.struct, 20 * MSS)
    board.ack(0, [(10000, 13000)])
    assert [take(board) for _ in range(4)] == first
    assert take(board, new_data=1)[0] == NEW_DATA


def test_of_a_gap_that_was_filled_in_the_middle_both_parts_are_lost_again() -> None:
    board = Board(MSS)
    note_new_data(board.struct, 10 * MSS)
    board.ack(0, [(3000, 10000)])
    begin_recovery(board.struct)
    for _ in range(3):
        assert take(board)[0] == RETRANSMIT
    note_new_data(board.struct, 20 * MSS)
    board.ack(0, [(1000, 2000)])
    board.ack(0, [(10000, 13000), (1000, 2000)])
    assert [take(board), take(board)] == [(RETRANSMIT, 0, MSS), (RETRANSMIT, 2 * MSS, MSS)]
    assert take(board, new_data=1)[0] == NEW_DATA


def test_by_the_rfc_a_lost_retransmission_waits_for_the_timer() -> None:
    board = after(0, 1, 2, 3, sent=20)
    board.struct.by_the_rfc = 1
    begin_recovery(board.struct)
    assert take(board) == (RETRANSMIT, 0, MSS)
    note_new_data(board.struct, 40 * MSS)
    board.ack(0, [(1 * MSS, 40 * MSS)])
    assert take(board, new_data=1)[0] == NEW_DATA


def test_after_a_timeout_a_lost_retransmission_is_found_too() -> None:
    """Nothing was SACKed when it was sent."""
    board = after(0, sent=2)
    begin_timeout(board.struct)
    assert [take(board), take(board)] == [(RETRANSMIT, 0, MSS), (RETRANSMIT, MSS, MSS)]
    note_new_data(board.struct, 9 * MSS)
    board.ack(MSS, [(2 * MSS, 5 * MSS)])
    assert take(board, new_data=1) == (RETRANSMIT, MSS, MSS)


# Reordering.


def test_what_comes_late_and_was_sent_once_raises_dupthresh() -> None:
    """As tcp_check_sack_reordering in Linux: segment 1 comes after 6, which is 6 segments from edge to edge."""
    board = after(0, 2, 3, sent=20)
    board.ack(0, [(2000, 7000)])
    assert is_lost(board.struct, 0) == 1
    board.ack(0, [(1000, 2000)])
    assert board.struct.dup_thresh == 6
    assert is_lost(board.struct, 0) == 1  # six segments lie above
    board.ack(9000, [(10000, 15000)])  # and 0 came too
    assert board.struct.dup_thresh == 7
    assert is_lost(board.struct, 9000) == 0
    board.ack(9000, [(10000, 16001)])
    assert is_lost(board.struct, 9000) == 1


def test_what_is_acknowledged_late_and_was_sent_once_raises_dupthresh() -> None:
    board = after(0, 1, 2, 3, 4, 5, sent=20)
    board.ack(6000)
    assert board.struct.dup_thresh == 6


def test_a_retransmission_says_nothing_of_reordering() -> None:
    board = after(0, 1, 2, 3, 4, 5, sent=20)
    begin_recovery(board.struct)
    assert take(board)[0] == RETRANSMIT
    board.ack(6000)
    assert board.struct.dup_thresh == DUP_THRESH
    board.ack(6000, [(7000, 12000)])
    begin_timeout(board.struct)
    board.ack(12000)
    assert board.struct.dup_thresh == DUP_THRESH


def test_dupthresh_leaves_room_for_what_is_under_way() -> None:
    """As many duplicates as there cannot be would make each loss a timeout; a timeout begins with 3 again."""
    board = after(0, sent=40)
    note_reordering(board.struct, 0, 30 * MSS)
    assert dup_thresh(board.struct) == 30
    board.ack(30 * MSS)
    assert dup_thresh(board.struct) == 9
    board.ack(38 * MSS)
    assert dup_thresh(board.struct) == DUP_THRESH
    begin_timeout(board.struct)
    assert board.struct.dup_thresh == DUP_THRESH


# Timeouts.


def test_after_a_timeout_everything_is_sent_again_but_what_is_sacked() -> None:
    board = after(0, 1, 4, sent=6)
    begin_timeout(board.struct)
    assert set_pipe(board.struct) == 0
    sent = [take(board) for _ in range(6)]
    assert [place // MSS for kind, place, _ in sent if kind == RETRANSMIT] == [0, 2, 3, 5]
    assert sent[4:] == [(RESCUE, 5 * MSS, MSS), (NOTHING, 0, 0)]
    assert set_pipe(board.struct) == 4 * MSS


def test_after_a_timeout_what_is_sent_anew_is_not_lost() -> None:
    board = after(0, sent=3)
    begin_timeout(board.struct)
    assert take(board) == (RETRANSMIT, 0, MSS)
    board.ack(3 * MSS)
    note_new_data(board.struct, 5 * MSS)
    assert set_pipe(board.struct) == 2 * MSS
    assert is_lost(board.struct, 3 * MSS) == 0


# Against a model that knows each byte.


class Model:
    """RFC 6675 section 4, word by word, with a segment of one byte."""

    def __init__(self) -> None:
        self.una = self.high_data = self.high_rxt = 0
        self.sacked = set[int]()

    def is_lost(self, position: int) -> bool:
        above = [span for span in spans(self.sacked) if span[0] > position]
        return len(above) >= DUP_THRESH or sum(right - left for left, right in above) > DUP_THRESH - 1

    def pipe(self) -> int:
        missing = [position for position in range(self.una, self.high_data) if position not in self.sacked]
        return sum((not self.is_lost(position)) + (position < self.high_rxt) for position in missing)

    def next_seg(self, new_data: int) -> tuple[int, int]:
        top = max(self.sacked, default=-1)
        gaps = [position for position in range(max(self.high_rxt, self.una), top) if position not in self.sacked]
        lost = [position for position in gaps if self.is_lost(position)]
        if lost:
            return RETRANSMIT, lost[0]
        if new_data:
            return NEW_DATA, 0
        return (RETRANSMIT, gaps[0]) if gaps else (NOTHING, 0)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("new"), st.integers(1, 6), st.just(0)),
            st.tuples(st.just("sack"), st.integers(0, 40), st.integers(1, 5)),
            st.tuples(st.just("ack"), st.integers(0, 6), st.just(0)),
            st.tuples(st.just("retransmit"), st.integers(0, 1), st.just(0)),
        ),
        max_size=60,
    )
)
@settings(max_examples=400, deadline=None)
def test_the_scoreboard_is_what_the_rfc_says_byte_by_byte(steps: list[tuple[str, int, int]]) -> None:
    board, model = Board(1), Model()
    board.struct.by_the_rfc = 1
    for what, a, b in steps:
        if what == "new":
            model.high_data += a
            note_new_data(board.struct, model.high_data)
        elif what == "sack":
            left = model.una + 1 + a
            right = min(left + b, model.high_data)
            if left < right:
                newly = len(set(range(left, right)) - model.sacked)
                model.sacked |= set(range(left, right))
                assert board.ack(model.una, [(left, right)]) == newly
        elif what == "ack":
            una = min(model.una + a, model.high_data)
            while una in model.sacked:
                una += 1
            model.una = una
            model.high_rxt = max(model.high_rxt, una)
            model.sacked = {position for position in model.sacked if position >= una}
            board.ack(una)
        else:
            kind, place = model.next_seg(a)
            chosen = next_seg(board.struct, a)
            if kind == NOTHING:
                assert chosen in (NOTHING, RESCUE)
            else:
                assert chosen == kind
            if kind == RETRANSMIT:
                assert (board.struct.next, board.struct.next_len) == (place, 1)
                note_retransmitted(board.struct, RETRANSMIT, place + 1)
                model.high_rxt = place + 1
        assert set_pipe(board.struct) == model.pipe()
        assert sacked_bytes(board.struct) == len(model.sacked)
        for position in range(model.una, model.high_data):
            if position not in model.sacked:
                assert is_lost(board.struct, position) == model.is_lost(position)


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(-50, 160), st.integers(-50, 160)), max_size=4),
            st.integers(0, 4),
            st.integers(0, 3),
        ),
        max_size=40,
    ),
    st.integers(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_no_blocks_bring_the_scoreboard_out_of_its_bounds(
    acks: list[tuple[list[tuple[int, int]], int, int]], by_the_rfc: int
) -> None:
    """A hostile peer, few ranges: what is SACKed stays between SND.UNA and HighData, pipe between 0 and twice that."""
    board = Board(3, ranges=4)
    board.struct.by_the_rfc = by_the_rfc
    una, sent = 0, 60
    note_new_data(board.struct, sent)
    begin_recovery(board.struct)
    for blocks, ahead, sends in acks:
        una = min(una + ahead, sent)
        board.ack(una, blocks)
        pairs = board.ranges.pairs()
        assert all(una <= left < right <= sent for left, right in pairs)
        assert len(pairs) <= 4
        for _ in range(sends):
            assert 0 <= set_pipe(board.struct) <= 2 * (sent - una)
            assert 0 <= board.struct.lost_again <= sent - una
            kind = next_seg(board.struct, 0)
            left, size = board.struct.next, board.struct.next_len
            if kind in (RETRANSMIT, RESCUE):
                assert una <= left < left + size <= sent
                assert size <= 3
                assert not any(low < left + size and left < high for low, high in pairs)
                note_retransmitted(board.struct, kind, left + size)
        sent += 2
        note_new_data(board.struct, sent)
