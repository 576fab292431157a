"""The errors netemu raises: few classes, each with a message that a user can act on."""

from __future__ import annotations


class NetemuError(Exception):
    """Something the user asked for cannot be done; the message says what, where and what to do about it."""


class ConfigError(NetemuError):
    """Options or features that do not fit together."""


class CaptureError(NetemuError):
    """A capture file that cannot be read or written.

    ``path`` names the file, ``offset`` the byte where it went wrong (None where there is none), ``cause`` says why
    in words.
    """

    def __init__(self, path: str, cause: str, offset: int | None = None) -> None:
        self.path = path
        self.cause = cause
        self.offset = offset
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{path}:{where} {cause}" if where else f"{path}: {cause}")
