"""Frames followed through a ring by number: who came out, who is lost, who was made up."""

from __future__ import annotations

from netemu.outstanding import WINDOW, Outstanding, note_entered, note_left


def entered(*numbers: int) -> Outstanding:
    """Frames of these numbers, in the ring."""
    frames = Outstanding()
    for number in numbers:
        note_entered(frames.address, number)
    return frames


def test_a_frame_that_comes_out_is_not_lost() -> None:
    frames = entered(1, 2, 3)
    for number in (2, 1, 3):
        note_left(frames.address, number)
    assert (frames.struct.passed, frames.struct.made_up, frames.lost) == (3, 0, 0)


def test_a_frame_that_comes_out_twice_was_made_up_the_second_time_and_makes_up_for_no_other() -> None:
    frames = entered(1, 2)
    note_left(frames.address, 1)
    note_left(frames.address, 1)
    assert (frames.struct.passed, frames.struct.made_up, frames.lost) == (1, 1, 1)


def test_a_frame_without_a_number_was_made_up() -> None:
    frames = entered(1)
    note_left(frames.address, 0)
    assert (frames.struct.passed, frames.struct.made_up, frames.lost) == (0, 1, 1)


def test_a_frame_that_is_long_gone_is_lost_even_when_its_place_is_taken() -> None:
    frames = entered(5, 5 + WINDOW)
    note_left(frames.address, 5)
    note_left(frames.address, 5 + WINDOW)
    assert (frames.struct.passed, frames.struct.made_up, frames.lost) == (1, 1, 1)
