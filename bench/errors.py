"""The errors of the benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """A row that cannot be measured; the message says why."""


class AbsentError(BenchError):
    """A row whose rival is not installed, or not possible on this machine."""
