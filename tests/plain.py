"""Entry points, and hooks that lead to them, as plain Python: what stands behind a socket can then be tested at once.

Every access to memory is checked, nothing is compiled, and a hook may be a test's own function.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netemu.jit.entries import Entry

_FIRST = 1 << 61
"""Numbers for entry points; `netemu.jit.hooks` counts from 1 << 62 on for plain functions."""


def _call(self: Entry, *args: int) -> int:
    return int(self.py_func(*args) or 0)


def _address(self: Entry) -> int:
    return _FIRST + id(self)


@pytest.fixture
def plain_entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For the length of a test no entry point is compiled."""
    with monkeypatch.context() as patch:
        patch.setattr(Entry, "__call__", _call)
        patch.setattr(Entry, "address", property(_address))
        yield
