"""Who waits for what, in words: for the error that says why a program cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

_LINES = 12
"""Waiting tasks, and open sockets, that are named; of more only the number is told."""
_OWN = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)


def _frames(waiting: Any) -> list[FrameType]:
    """The frames of a suspended coroutine, outermost first, as far as they are Python's."""
    frames: list[FrameType] = []
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return frames


def place_of(task: asyncio.Task[Any]) -> str:
    """Where a suspended task waits: the innermost line that is neither asyncio's nor netemu's."""
    frames = _frames(task.get_coro())
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith((_OWN, _ASYNCIO))]
    if not (own or frames):
        return task.get_name()
    frame = own[-1] if own else frames[-1]
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}()"


def _listed(lines: Iterable[str]) -> list[str]:
    """The lines, indented, no more than there is patience for."""
    every = list(lines)
    more = len(every) - _LINES
    return [f"  {line}" for line in every[:_LINES]] + ([f"  and {more} more"] if more > 0 else [])


def waits_in_words(tasks: Iterable[asyncio.Task[Any]], sockets: Iterable[str]) -> str:
    """Where each task waits, and which sockets are open."""
    places = sorted(place_of(task) for task in tasks if not task.done())
    lines = ["waiting:", *_listed(places)] if places else []
    open_sockets = _listed(sockets)
    if open_sockets:
        lines += ["open sockets:", *open_sockets]
    return "\n".join(lines)
