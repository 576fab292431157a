"""Sets of stream positions: sorted ranges that neither overlap nor touch, in bounded memory.

Theory of operation
-------------------
A range is three numbers in a row: its left edge, its right edge (the first position that is not in it) and a *mark* of
whoever keeps the set. They lie in order, from ``first`` on, in an array. Ranges come and go at its ends, mostly: the
highest one grows, the lowest one is trimmed, which moves ``first``. A range in the middle is found by bisection, and
put in or taken out by moving the fewer ones of those below and above it by one place.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load64, pointer, store64, struct

RANGE_SIZE = 24
"""Bytes of memory for each range."""
_RIGHT = 8
_MARK = 16
NO_ROOM = -1


@struct
class Ranges(Struct):
    """A set of positions."""

    items: i64
    """Host address of ``capacity`` ranges (RANGE_SIZE bytes each)."""
    capacity: i64
    first: i64
    """Place in the array of the lowest range."""
    count: i64
    total: i64
    """Positions in all ranges together."""


ranges_at = pointer(Ranges)
RANGES_SIZE = Ranges.dtype.itemsize


@kernel
def start_ranges(ranges: Ranges, items: i64, capacity: i64) -> None:
    """Make it an empty set with room for ``capacity`` ranges at host address ``items``."""
    ranges.items = items
    ranges.capacity = capacity
    clear_ranges(ranges)


@kernel
def clear_ranges(ranges: Ranges) -> None:
    """Make the set empty."""
    ranges.first = 0
    ranges.count = 0
    ranges.total = 0


@kernel
def _item(ranges: Ranges, index: i64) -> i64:
    return ranges.items + (ranges.first + index) * RANGE_SIZE


@kernel
def range_left(ranges: Ranges, index: i64) -> i64:
    """Left edge of the range number ``index``, from 0 for the lowest one."""
    return load64(_item(ranges, index))


@kernel
def range_right(ranges: Ranges, index: i64) -> i64:
    """Its right edge."""
    return load64(_item(ranges, index) + _RIGHT)


@kernel
def range_mark(ranges: Ranges, index: i64) -> i64:
    """Its mark."""
    return load64(_item(ranges, index) + _MARK)


@kernel
def set_range_mark(ranges: Ranges, index: i64, mark: i64) -> None:
    """Change its mark."""
    store64(_item(ranges, index) + _MARK, mark)


@kernel
def ranges_end(ranges: Ranges) -> i64:
    """Right edge of the highest range; there is one."""
    return range_right(ranges, ranges.count - 1)


@kernel
def range_above(ranges: Ranges, position: i64) -> i64:
    """Number of the lowest range that ends above ``position`` (which may lie in it); ``count`` if there is none."""
    low = 0
    high = ranges.count
    if high > 0 and range_right(ranges, high - 1) <= position:
        return high
    while low < high:
        middle = (low + high) >> 1
        if range_right(ranges, middle) > position:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def in_ranges(ranges: Ranges, position: i64) -> i64:
    """1 if the position is in the set, else 0."""
    index = range_above(ranges, position)
    return 1 if index < ranges.count and range_left(ranges, index) <= position else 0


@kernel
def _copy(ranges: Ranges, target: i64, source: i64) -> None:
    """Copy a range from one place of the array to another; places count from its beginning."""
    to = ranges.items + target * RANGE_SIZE
    at = ranges.items + source * RANGE_SIZE
    store64(to, load64(at))
    store64(to + _RIGHT, load64(at + _RIGHT))
    store64(to + _MARK, load64(at + _MARK))


@kernel
def _make_room(ranges: Ranges, index: i64) -> None:
    """Make a place in front of the range number ``index``; the array has room for it."""
    first = ranges.first
    count = ranges.count
    at_end = first + count == ranges.capacity
    if first > 0 and (at_end or index < count - index):
        for place in range(first, first + index):
            _copy(ranges, place - 1, place)
        ranges.first = first - 1
    else:
        for n in range(count - index):
            _copy(ranges, first + count - n, first + count - n - 1)
    ranges.count = count + 1


@kernel
def _take_out(ranges: Ranges, index: i64, number: i64) -> None:
    """Take out ``number`` ranges, from the one with number ``index`` on."""
    if number <= 0:
        return
    first = ranges.first
    above = ranges.count - index - number
    if index < above:
        for n in range(index):
            _copy(ranges, first + index + number - 1 - n, first + index - 1 - n)
        ranges.first = first + number
    else:
        for place in range(first + index, first + index + above):
            _copy(ranges, place, place + number)
    ranges.count -= number
    if ranges.count == 0:
        ranges.first = 0


@kernel
def add_range(ranges: Ranges, left: i64, right: i64, mark: i64) -> i64:
    """Add the positions from ``left`` up to and without ``right``, which is higher.

    Gives the number of the range that has them now, with ``mark`` as its mark, or NO_ROOM where it would have been one
    range too many.
    """
    index = range_above(ranges, left - 1)  # the lowest that overlaps, or touches on the left
    behind = index
    lowest = left
    highest = right
    while behind < ranges.count and range_left(ranges, behind) <= right:
        lowest = min(lowest, range_left(ranges, behind))
        highest = max(highest, range_right(ranges, behind))
        ranges.total -= range_right(ranges, behind) - range_left(ranges, behind)
        behind += 1
    if behind == index:
        if ranges.count == ranges.capacity:
            return NO_ROOM
        _make_room(ranges, index)
    else:
        _take_out(ranges, index + 1, behind - index - 1)
    item = _item(ranges, index)
    store64(item, lowest)
    store64(item + _RIGHT, highest)
    store64(item + _MARK, mark)
    ranges.total += highest - lowest
    return index


@kernel
def trim_ranges(ranges: Ranges, position: i64) -> None:
    """Take out all positions below ``position``."""
    gone = 0
    while gone < ranges.count and range_right(ranges, gone) <= position:
        ranges.total -= range_right(ranges, gone) - range_left(ranges, gone)
        gone += 1
    ranges.first += gone
    ranges.count -= gone
    if ranges.count == 0:
        ranges.first = 0
    elif range_left(ranges, 0) < position:
        ranges.total -= position - range_left(ranges, 0)
        store64(_item(ranges, 0), position)
