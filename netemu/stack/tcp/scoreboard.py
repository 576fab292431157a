"""The sender's scoreboard: what the receiver has selectively acknowledged, what that makes lost, what to send next.

The functions are those of RFC 6675 section 4: Update, IsLost, SetPipe and NextSeg; so are the names HighACK, HighData,
HighRxt, RescueRxt and RecoveryPoint. When to enter recovery, and how much to send, is the business of the caller.

Theory of operation
-------------------
RFC 6675 calls an unacknowledged position lost if DupThresh ranges above it were SACKed, or more than (DupThresh - 1) *
SMSS bytes. What lies above grows towards lower positions, so there is an edge, ``lost_below``: unSACKed positions below
it are lost, those above are not. It is the left edge of one of the three highest ranges, and found by looking at them.

Pipe then is a difference of sums: of the unSACKed bytes, those from ``lost_below`` on were not lost, and those below
HighRxt were retransmitted. The set of ranges knows how many bytes are in it; how many of them lie below HighRxt is kept
up to date (``sacked_retransmitted``), so that nothing walks over the window.

RFC 6675 leaves a retransmission that is lost to the timer. Here, as in Linux before RACK, one counts as lost when
something was SACKed that was sent DupThresh segments after it: the mark of a range is what ``high_data`` was when the
gap below it was retransmitted last. Gaps are looked at only when the lowest of these marks says that there may be one
(``lowest_mark``). What is lost again (``lost_again`` bytes, the first of them at ``again``) goes before all else.

DupThresh begins at 3, and grows on a path that reorders, as in Linux (tcp_check_sack_reordering): when something comes,
or is acknowledged, that was sent once and lies below what was SACKed before, the distance between the two was no loss.
Whoever finds out otherwise that a retransmission was for nothing tells by `note_reordering`.

After a timeout everything that was sent counts as lost (``all_lost_below``), and SACKs are believed on: RFC 2018 wanted
them forgotten since a receiver may have dropped what it had SACKed. One that did shows it: it acknowledges up to the
left edge of a SACKed range and no further, upon which the scoreboard is emptied (``reneged``).
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.stack.tcp.options import SACK_BLOCK_SIZE, sack_block_at
from netemu.stack.tcp.ranges import (
    add_range,
    clear_ranges,
    range_above,
    range_left,
    range_mark,
    range_right,
    ranges_at,
    ranges_end,
    set_range_mark,
    start_ranges,
    trim_ranges,
)

DUP_THRESH = 3
_DUP_THRESH_MAX = 300
"""As Linux has it (tcp_max_reordering)."""

# What `next_seg` says to send.
NOTHING = 0
RETRANSMIT = 1
"""``next_len`` bytes from ``next`` on, which are lost."""
NEW_DATA = 2
"""Data that was never sent."""
RESCUE = 3
"""Like RETRANSMIT: the end of what is outstanding, once in a recovery."""

UNDEFINED = -1
_NO_MARK = 1 << 62


@struct
class Scoreboard(Struct):
    """What is known of the data between SND.UNA and SND.NXT. Positions are of the stream."""

    ranges: i64
    """Address of the `Ranges` that were SACKed."""
    smss: i64
    by_the_rfc: i64
    """1: RFC 6675 and no more: DupThresh is 3, and lost retransmissions wait for the timer."""
    dup_thresh: i64
    """DupThresh, in segments."""
    high_ack: i64
    """SND.UNA (RFC 6675's HighACK is the byte before)."""
    high_data: i64
    """Position behind the highest byte that was ever sent."""
    high_rxt: i64
    """Position behind the highest byte retransmitted in this recovery; ``high_ack`` or less if there is none."""
    rescue_rxt: i64
    """Position behind the rescue retransmission of this recovery, or UNDEFINED."""
    recovery_point: i64
    """``high_data`` when the recovery, or the timeout, began."""
    lost_below: i64
    all_lost_below: i64
    """What was sent before the last timeout ends here."""
    sacked_retransmitted: i64
    """SACKed bytes below ``high_rxt``."""
    lost_again: i64
    again: i64
    again_end: i64
    """Bytes that were retransmitted, and lost again; where the first gap of them begins, and where it ends."""
    again_sent: i64
    """Of the gap that is sent again once more, all below this went."""
    lowest_mark: i64
    tail_mark: i64
    """The mark of what was retransmitted above all ranges; 0: nothing was."""
    next: i64
    next_len: i64
    """Result of `next_seg`."""
    duplicate: i64
    """1: the last update began with a D-SACK (RFC 2883), of bytes that end at ``duplicate_right``."""
    duplicate_left: i64
    duplicate_right: i64
    reneged: i64
    """How often the receiver dropped what it had SACKed."""


scoreboard_at = pointer(Scoreboard)
SCOREBOARD_SIZE = Scoreboard.dtype.itemsize


@kernel
def start_scoreboard(board: Scoreboard, ranges: i64, items: i64, range_count: i64, position: i64, smss: i64) -> None:
    """Nothing is outstanding, and ``position`` is sent next.

    ``ranges`` is the address of a `Ranges` for it, with ``items`` the memory of ``range_count`` ranges: a SACK for
    which there is none left is ignored, which makes the sender send what it need not.
    """
    board.ranges = ranges
    board.smss = max(smss, 1)
    board.by_the_rfc = 0
    board.dup_thresh = DUP_THRESH
    board.high_ack = position
    board.high_data = position
    board.high_rxt = position
    board.rescue_rxt = UNDEFINED
    board.recovery_point = position
    board.lost_below = position
    board.all_lost_below = position
    board.sacked_retransmitted = 0
    board.lost_again = 0
    board.again = position
    board.again_end = position
    board.again_sent = position
    board.lowest_mark = _NO_MARK
    board.tail_mark = 0
    board.next = position
    board.next_len = 0
    board.duplicate = 0
    board.reneged = 0
    start_ranges(ranges_at(ranges), items, range_count)


@kernel
def sacked_bytes(board: Scoreboard) -> i64:
    """Bytes above SND.UNA that the receiver has."""
    return ranges_at(board.ranges).total


@kernel
def dup_thresh(board: Scoreboard) -> i64:
    """DupThresh: duplicates that make a loss. It leaves room for as many as there can be of what is under way."""
    outstanding = (board.high_data - board.high_ack) // board.smss
    return max(min(board.dup_thresh, outstanding - 1), DUP_THRESH)


@kernel
def note_reordering(board: Scoreboard, position: i64, highest: i64) -> None:
    """What was sent first at ``position`` came after what lies below ``highest``: no loss made that gap."""
    distance = (highest - position + board.smss - 1) // board.smss
    if distance > board.dup_thresh and board.by_the_rfc == 0:
        board.dup_thresh = min(distance, _DUP_THRESH_MAX)


@kernel
def _came_late(board: Scoreboard, position: i64, highest: i64) -> None:
    """Something at ``position`` came after what lies below ``highest``; it says something if it was sent once."""
    if max(board.high_rxt, board.all_lost_below) <= position < highest:
        note_reordering(board, position, highest)


@kernel
def _acknowledged_late(board: Scoreboard, una: i64, highest: i64) -> None:
    """What lies before ``una`` is acknowledged: look for the first of it that was not SACKed, and was sent once."""
    ranges = ranges_at(board.ranges)
    position = max(board.high_ack, board.high_rxt)
    index = range_above(ranges, position)
    if index < ranges.count and range_left(ranges, index) <= position:
        position = range_right(ranges, index)
    if position < una:
        _came_late(board, position, highest)


@kernel
def _find_lost(board: Scoreboard) -> None:
    """Find the edge below which what is not SACKed is lost."""
    ranges = ranges_at(board.ranges)
    edge = board.high_ack
    sacked = 0
    threshold = dup_thresh(board)
    for n in range(min(ranges.count, threshold)):
        index = ranges.count - 1 - n
        sacked += range_right(ranges, index) - range_left(ranges, index)
        if n == threshold - 1 or sacked > (threshold - 1) * board.smss:
            edge = range_left(ranges, index)
            break
    board.lost_below = max(edge, board.all_lost_below)


@kernel
def _take_block(board: Scoreboard, left: i64, right: i64, highest: i64) -> i64:
    """Enter one block; bytes in it that were not known. ``highest`` ends what was SACKed before this ACK.

    One that begins at SND.UNA or below is a D-SACK, or a lie: what is there would have been acknowledged.
    """
    if left <= board.high_ack or left >= right or right > board.high_data:
        return 0
    ranges = ranges_at(board.ranges)
    index = range_above(ranges, left)
    if index < ranges.count and range_left(ranges, index) <= left and right <= range_right(ranges, index):
        return 0
    if left < highest:
        known = index < ranges.count and range_left(ranges, index) <= left
        _came_late(board, range_right(ranges, index) if known else left, highest)
    # The gap below the range that there will be is one that there was, or a part of it: it keeps its mark.
    index = range_above(ranges, left - 1)
    mark = range_mark(ranges, index) if index < ranges.count else board.tail_mark
    before = ranges.total
    if left < board.high_rxt:
        add_range(ranges, left, min(right, board.high_rxt), mark)
        board.sacked_retransmitted += ranges.total - before
    if right > board.high_rxt:
        add_range(ranges, max(left, board.high_rxt), right, mark)
    return ranges.total - before


@kernel
def _is_past(board: Scoreboard, mark: i64) -> i64:
    """1 if DupThresh segments were SACKed, or at least passed over, that were sent after a gap got its mark."""
    return 1 if ranges_end(ranges_at(board.ranges)) >= mark + dup_thresh(board) * board.smss else 0


@kernel
def _find_lost_again(board: Scoreboard) -> None:
    """Look through the gaps for what was retransmitted, and is lost again."""
    ranges = ranges_at(board.ranges)
    board.lost_again = 0
    board.lowest_mark = _NO_MARK
    left = board.high_ack
    for index in range(ranges.count):
        right = min(range_left(ranges, index), board.high_rxt)
        mark = range_mark(ranges, index)
        if left >= right:
            break
        if mark > 0 and _is_past(board, mark) != 0:
            if left < board.again_sent < right:
                left = board.again_sent
            if board.lost_again == 0:
                board.again = left
                board.again_end = right
            board.lost_again += right - left
        elif mark > 0:
            board.lowest_mark = min(board.lowest_mark, mark)
        left = range_right(ranges, index)


@kernel
def _mark_gap(board: Scoreboard, position: i64) -> None:
    """Remember when the gap with ``position`` in it was retransmitted."""
    if board.by_the_rfc != 0:
        return
    ranges = ranges_at(board.ranges)
    index = range_above(ranges, position)
    if index < ranges.count:
        set_range_mark(ranges, index, board.high_data)
    else:
        board.tail_mark = board.high_data
    board.lowest_mark = min(board.lowest_mark, board.high_data)


@kernel
def _is_duplicate(una: i64, blocks: i64, count: i64) -> i64:
    """1 if the first block is a D-SACK (RFC 2883 section 4): below the acknowledgement, or inside of the second."""
    first = sack_block_at(blocks)
    if first.left >= first.right:
        return 0
    if first.left < una:
        return 1
    if count < 2:
        return 0
    second = sack_block_at(blocks + SACK_BLOCK_SIZE)
    return 1 if second.left <= first.left and first.right <= second.right else 0


@kernel
def update(board: Scoreboard, una: i64, high_data: i64, blocks: i64, count: i64) -> i64:
    """Take an acknowledgement: SND.UNA as it is now, and its SACK blocks as positions; newly SACKed bytes.

    ``high_data`` is the position behind what was ever sent; blocks that reach beyond, or make no sense, are ignored.
    """
    ranges = ranges_at(board.ranges)
    board.high_data = max(board.high_data, high_data)
    board.duplicate = 0
    highest = ranges_end(ranges) if ranges.count > 0 else 0
    if una > board.high_ack:
        if highest > 0:
            _acknowledged_late(board, una, highest)
        before = ranges.total
        board.high_ack = una
        trim_ranges(ranges, una)
        board.sacked_retransmitted -= before - ranges.total
        if una >= board.high_rxt:
            board.high_rxt = una
            board.sacked_retransmitted = 0
        if ranges.count > 0 and range_left(ranges, 0) == una:
            clear_ranges(ranges)
            board.sacked_retransmitted = 0
            board.lost_again = 0
            board.reneged += 1
    newly = 0
    if count > 0:
        board.duplicate = _is_duplicate(una, blocks, count)
        if board.duplicate != 0:
            first = sack_block_at(blocks)
            board.duplicate_left = first.left
            board.duplicate_right = first.right
        for n in range(count):
            block = sack_block_at(blocks + n * SACK_BLOCK_SIZE)
            newly += _take_block(board, block.left, block.right, highest)
    _find_lost(board)
    if ranges.count > 0 and (board.lost_again > 0 or _is_past(board, board.lowest_mark) != 0):
        _find_lost_again(board)
    return newly


@kernel
def highest_sacked(board: Scoreboard) -> i64:
    """Where the highest SACKed range ends; 0 if there is none."""
    ranges = ranges_at(board.ranges)
    return ranges_end(ranges) if ranges.count > 0 else 0


@kernel
def forget_losses(board: Scoreboard) -> None:
    """It was no loss: nothing counts as lost by a timeout, and nothing as retransmitted."""
    board.all_lost_below = board.high_ack
    _forget_retransmissions(board)
    _find_lost(board)


@kernel
def is_lost(board: Scoreboard, position: i64) -> i64:
    """1 if the unSACKed byte at a position counts as lost."""
    return 1 if position < board.lost_below else 0


@kernel
def set_pipe(board: Scoreboard) -> i64:
    """Bytes that are taken to be under way."""
    ranges = ranges_at(board.ranges)
    una = board.high_ack
    sacked_above = 0
    edge = max(board.lost_below, una)
    index = ranges.count - 1
    while index >= 0 and range_right(ranges, index) > edge:
        sacked_above += range_right(ranges, index) - max(range_left(ranges, index), edge)
        index -= 1
    not_lost = max(board.high_data - edge - sacked_above, 0)
    retransmitted = max(board.high_rxt - una - board.sacked_retransmitted - board.lost_again, 0)
    return not_lost + retransmitted


@kernel
def _gap_from(board: Scoreboard, position: i64) -> i64:
    """Find the first unSACKed bytes from ``position`` on: 1, or 0 if all above is SACKed or was never sent.

    They begin at ``next``; ``next_len`` is how many there are up to the next SACKed one, at most a segment's.
    """
    ranges = ranges_at(board.ranges)
    index = range_above(ranges, position)
    if index < ranges.count and range_left(ranges, index) <= position:
        position = range_right(ranges, index)
        index += 1
    end = range_left(ranges, index) if index < ranges.count else board.high_data
    board.next = position
    board.next_len = min(end - position, board.smss)
    return 1 if end > position else 0


@kernel
def next_seg(board: Scoreboard, new_data: i64) -> i64:
    """What to send in recovery: NOTHING, RETRANSMIT, NEW_DATA or RESCUE, with its place in ``next`` and ``next_len``.

    The rescue takes the highest bytes there are even if they were retransmitted already, as the RFC has it.
    ``new_data`` says whether there is data that was never sent and fits into the receiver's window.
    """
    ranges = ranges_at(board.ranges)
    if board.lost_again > 0:
        board.next = board.again
        board.next_len = min(board.again_end - board.again, board.smss)
        return RETRANSMIT
    highest = max(ranges_end(ranges) if ranges.count > 0 else board.high_ack, board.all_lost_below)
    gap = _gap_from(board, max(board.high_rxt, board.high_ack))
    candidate = 1 if gap != 0 and board.next < highest else 0
    if candidate != 0 and board.next < board.lost_below:
        return RETRANSMIT
    if new_data != 0:
        return NEW_DATA
    if candidate != 0:
        return RETRANSMIT
    if (
        board.high_ack < board.high_data
        and ranges.total < board.high_data - board.high_ack
        and (board.rescue_rxt == UNDEFINED or board.high_ack > board.rescue_rxt)
    ):
        return _rescue(board)
    return NOTHING


@kernel
def _rescue(board: Scoreboard) -> i64:
    """Choose the highest unSACKed bytes that are outstanding, up to a segment's."""
    ranges = ranges_at(board.ranges)
    end = board.high_data
    index = ranges.count - 1
    if index >= 0 and range_right(ranges, index) >= end:
        end = range_left(ranges, index)
        index -= 1
    floor = max(range_right(ranges, index) if index >= 0 else board.high_ack, board.high_ack)
    board.next = max(end - board.smss, floor)
    board.next_len = end - board.next
    return RESCUE


@kernel
def note_retransmitted(board: Scoreboard, kind: i64, right: i64) -> None:
    """What `next_seg` chose (its value, and where it ends) was sent."""
    if kind == RETRANSMIT and board.lost_again > 0 and right <= board.high_rxt:
        board.again_sent = right
        if right >= board.again_end:
            _mark_gap(board, right - 1)
        _find_lost_again(board)
    elif kind == RETRANSMIT:
        _mark_gap(board, right - 1)
        ranges = ranges_at(board.ranges)
        index = range_above(ranges, board.high_rxt)
        while index < ranges.count and range_left(ranges, index) < right:
            passed = min(range_right(ranges, index), right) - max(range_left(ranges, index), board.high_rxt)
            board.sacked_retransmitted += passed
            index += 1
        board.high_rxt = max(board.high_rxt, right)
    elif kind == RESCUE:
        board.rescue_rxt = board.recovery_point


@kernel
def note_new_data(board: Scoreboard, high_data: i64) -> None:
    """Data up to ``high_data`` was sent."""
    board.high_data = max(board.high_data, high_data)


@kernel
def begin_recovery(board: Scoreboard) -> None:
    """Recovery begins (RFC 6675 section 5); it lasts to ``high_data``.

    What the recovery before it has retransmitted behind its own end is under way: it is not sent again for nothing.
    """
    board.recovery_point = board.high_data
    board.rescue_rxt = UNDEFINED


@kernel
def _forget_retransmissions(board: Scoreboard) -> None:
    """Nothing counts as retransmitted."""
    board.high_rxt = board.high_ack
    board.sacked_retransmitted = 0
    board.lost_again = 0
    board.again_sent = board.high_ack
    board.lowest_mark = _NO_MARK
    board.tail_mark = 0
    ranges = ranges_at(board.ranges)
    for index in range(ranges.count):
        set_range_mark(ranges, index, 0)


@kernel
def begin_timeout(board: Scoreboard) -> None:
    """The retransmission timer expired: all that is outstanding and not SACKed is lost, and is to be sent again."""
    begin_recovery(board)
    _forget_retransmissions(board)
    board.dup_thresh = DUP_THRESH
    board.all_lost_below = board.high_data
    _find_lost(board)
