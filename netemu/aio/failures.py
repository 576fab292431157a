"""What goes wrong at a socket, as the exceptions that Python's own sockets raise."""

from __future__ import annotations

import errno
import os

from netemu.stack.host import (
    ERROR_HOST_UNREACHABLE,
    ERROR_NET_UNREACHABLE,
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
    SEND_NO_MEMORY,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
)

# icmp_err_convert of Linux's net/ipv4/icmp.c.
_OF_ICMP = {
    ERROR_NET_UNREACHABLE: errno.ENETUNREACH,
    ERROR_HOST_UNREACHABLE: errno.EHOSTUNREACH,
    ERROR_PROTOCOL_UNREACHABLE: errno.ENOPROTOOPT,
    ERROR_PORT_UNREACHABLE: errno.ECONNREFUSED,
    ERROR_TOO_BIG: errno.EMSGSIZE,
    ERROR_PROHIBITED: errno.EHOSTUNREACH,
    ERROR_TIME_EXCEEDED: errno.EHOSTUNREACH,
    ERROR_PARAMETER: errno.EPROTO,
}
_OF_SENDING = {
    SEND_UNREACHABLE: errno.ENETUNREACH,
    SEND_TOO_BIG: errno.EMSGSIZE,
    SEND_NO_MEMORY: errno.ENOBUFS,
}


def failure(number: int, where: str) -> OSError:
    """The exception for an errno, a `ConnectionRefusedError` for ECONNREFUSED and so on; ``where`` says of what."""
    return OSError(number, f"{where}: {os.strerror(number)}")


def icmp_failure(error: int, where: str) -> OSError:
    """The exception for an ERROR_... that ICMP told of."""
    return failure(_OF_ICMP.get(error, errno.EPROTO), where)


def send_failure(result: int, where: str) -> OSError | None:
    """The exception for a SEND_...; None for what a sender does not hear of: it was sent, or the interface was full."""
    return failure(_OF_SENDING[result], where) if result in _OF_SENDING else None
