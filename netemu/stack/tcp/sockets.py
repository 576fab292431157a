"""`TcpSockets`: a host's TCP for Python. Connections are `TcpSocket` objects; events come by the `Ready` list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netemu.errors import ConfigError, NetemuError
from netemu.jit import allocate, load_together
from netemu.jit.kernels import Kernel
from netemu.stack.addresses import check_port
from netemu.stack.tcp.apps import tcp_start_app
from netemu.stack.tcp.calls import (
    DONE,
    END_OF_STREAM,
    GONE,
    UNREACHABLE,
    tcp_abort,
    tcp_accept,
    tcp_close,
    tcp_connect,
    tcp_events,
    tcp_listen,
    tcp_new,
    tcp_read,
    tcp_shutdown,
    tcp_write,
)
from netemu.stack.tcp.congestion import CUBIC, RENO, congestion_at
from netemu.stack.tcp.errors import tcp_error
from netemu.stack.tcp.input import tcp_input
from netemu.stack.tcp.pool import TcpPool
from netemu.stack.tcp.rtt import rtt_at, rtt_timeout
from netemu.stack.tcp.sending import output_hook
from netemu.stack.tcp.settings import tcp_settings
from netemu.stack.tcp.table import TcpSettings, TcpTable
from netemu.stack.tcp.tcb import (
    ERROR_ABORTED,
    ERROR_REFUSED,
    ERROR_RESET,
    ERROR_TIMED_OUT,
    ERROR_UNREACHABLE,
    EVENT_CLOSED,
    NO_ERROR,
    STATE_NAMES,
    Tcb,
    tcb_at,
)
from netemu.stack.tcp.timeouts import tcp_timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from netemu.stack.host_stack import HostStack

SEND_BUFFER = 4 << 20
RECEIVE_BUFFER = 6 << 20
"""Bytes; what Linux lets a connection grow to (tcp_wmem, tcp_rmem)."""
CONNECTIONS = 1 << 16
_COPY = 1 << 16

ALGORITHMS = {"reno": RENO, "cubic": CUBIC}

_ERRORS = {
    ERROR_REFUSED: "connection refused",
    ERROR_RESET: "connection reset by peer",
    ERROR_TIMED_OUT: "connection timed out",
    ERROR_UNREACHABLE: "no route to host",
    ERROR_ABORTED: "connection aborted",
}


class TcpSocket:
    """One connection or listener: thin, over the entry points of `netemu.stack.tcp.calls`.

    Nothing waits here: what cannot be done says so, and the handle is on the `Ready` list when it may be tried again.
    """

    def __init__(self, owner: TcpSockets, address: int) -> None:
        self._owner, self.address = owner, address
        self.tcb: Tcb = tcb_at(address)
        self._held = True

    @property
    def state(self) -> str:
        """As RFC 9293 spells it."""
        return STATE_NAMES[self.tcb.state] if self._held else "CLOSED"

    @property
    def error(self) -> str | None:
        """Why the connection is gone, if it is and not by its end."""
        return None if self.tcb.error == NO_ERROR else _ERRORS[self.tcb.error]

    @property
    def error_code(self) -> int:
        """The same as ERROR_... of `netemu.stack.tcp.tcb`."""
        return self.tcb.error

    @property
    def handle(self) -> int:
        """What is put on the `Ready` list when something happens; 0: nothing is."""
        return self.tcb.handle

    @handle.setter
    def handle(self, handle: int) -> None:
        self.tcb.handle = handle

    def events(self) -> int:
        """Mask of EVENT_... of what happened since the last call; afterwards the handle may come on the list again."""
        return int(self._owner.call(tcp_events, self.address)) if self._held else EVENT_CLOSED

    def accept(self, handle: int = 0) -> TcpSocket | None:
        """The next connection of a listener, or None."""
        address = int(self._owner.call(tcp_accept, self.address))
        if address == 0:
            return None
        sock = TcpSocket(self._owner, address)
        sock.handle = handle
        self._owner.grow()
        return sock

    def write(self, data: bytes) -> int:
        """Send; how many bytes there was room for. Raises `NetemuError` where the state does not allow it."""
        done = 0
        if not self._held:
            raise NetemuError("the connection is closed: nothing can be sent")
        scratch = self._owner.scratch
        while done < len(data):
            part = data[done : done + scratch.size]
            scratch.array[: len(part)] = bytearray(part)
            written = int(self._owner.call(tcp_write, self.address, scratch.address, len(part)))
            if written < 0:
                raise NetemuError(f"nothing can be sent: {self.error or 'the connection is ' + self.state}")
            done += written
            if written < len(part):
                break
        return done

    def read(self, size: int = _COPY) -> bytes | None:
        """Up to ``size`` bytes; b"" at the end of the stream, None if there are none yet.

        Raises `NetemuError` if the connection is gone by an error and nothing is left to read.
        """
        scratch = self._owner.scratch
        got = (
            int(self._owner.call(tcp_read, self.address, scratch.address, min(size, scratch.size)))
            if self._held
            else GONE
        )
        if got == END_OF_STREAM:
            return b""
        if got == GONE:
            if not self._held or self.tcb.error == NO_ERROR:
                return b""
            raise NetemuError(f"nothing can be read: {self.error}")
        return scratch.array[:got].tobytes() if got > 0 else None

    def buffers(self, send: int | None = None, receive: int | None = None) -> None:
        """Use only so many bytes of each buffer; before a socket connects, or for all that a listener gets."""
        if send is not None:
            self.tcb.send_capacity = min(max(send, 1), self._owner.table.send_capacity)
        if receive is not None:
            self.tcb.receive_capacity = min(max(receive, 1), self._owner.table.receive_capacity)

    def start_app(self, app: int, count: int = 0) -> None:
        """Give a connection that stands to an app (`netemu.stack.tcp.apps`), with its ``app_count``."""
        self.tcb.app, self.tcb.app_count = app, count
        self._owner.call(tcp_start_app, self.address)

    def shutdown(self) -> None:
        """Say that nothing more will be sent."""
        if self._held:
            self._owner.call(tcp_shutdown, self.address)

    def close(self) -> None:
        """Give the connection up: what was written is still sent. The object is of no use afterwards."""
        if self._held:
            self._held = False
            self._owner.call(tcp_close, self.address)

    def abort(self) -> None:
        """Give it up at once, with a RST."""
        if self._held:
            self._held = False
            self._owner.call(tcp_abort, self.address)

    def info(self) -> dict[str, int | str]:
        """What ``ss -i`` shows: times in ns, windows in bytes."""
        tcb, rtt, congestion = self.tcb, rtt_at(self.tcb.rtt), congestion_at(self.tcb.congestion)
        return {
            "state": self.state,
            "mss": tcb.mss,
            "pmtu": tcb.path_mtu,
            "cwnd": congestion.cwnd,
            "ssthresh": congestion.ssthresh,
            "srtt": rtt.srtt,
            "rttvar": rtt.rttvar,
            "minrtt": rtt.lowest,
            "rto": rtt_timeout(rtt),
            "unacked": tcb.snd_nxt - tcb.snd_una,
            "retrans": tcb.total_retrans,
            "bytes_sent": tcb.bytes_sent,
            "bytes_retrans": tcb.bytes_retrans,
            "bytes_acked": tcb.bytes_acked,
            "bytes_received": tcb.bytes_received,
            "segs_out": tcb.segs_out,
            "segs_in": tcb.segs_in,
            "snd_wnd": tcb.snd_wnd,
            "wscale_send": tcb.snd_scale,
            "wscale_receive": tcb.rcv_scale,
            "timestamps": tcb.timestamps,
            "sack": tcb.sack,
        }


class TcpSockets:
    """The connections of one host."""

    def __init__(
        self,
        stack: HostStack,
        *,
        congestion: str = "cubic",
        send_buffer: int = SEND_BUFFER,
        receive_buffer: int = RECEIVE_BUFFER,
        connections: int = CONNECTIONS,
        settings: TcpSettings | None = None,
    ) -> None:
        """Make the host one that speaks TCP, and no longer one that drops segments.

        ``settings``: see `netemu.stack.tcp.settings.tcp_settings`. Raises `ConfigError` for an algorithm nobody knows.
        """
        if congestion not in ALGORITHMS:
            raise ConfigError(f"no congestion control is called {congestion!r}: {', '.join(ALGORITHMS)}")
        self.settings = settings or tcp_settings()
        self.settings.algorithm = ALGORITHMS[congestion]
        self._stack = stack
        self.scratch = allocate(_COPY)
        if not stack.plain:
            load_together(tcp_input, output_hook, tcp_timer, tcp_error)
        self._pool = TcpPool(
            host=stack.host.address,
            mib=stack.struct.tcp,
            ext=stack.struct.tcp_ext,
            settings=self.settings,
            timer_hook=stack.hook_of(tcp_timer),
            output_hook=stack.hook_of(output_hook),
            seed=stack.host.random,
            send_buffer=send_buffer,
            receive_buffer=receive_buffer,
            connections=connections,
        )
        stack.when_short(self.grow)
        stack.host.tcp = self.table.address
        stack.host.tcp_error = stack.hook_of(tcp_error)
        stack.struct.tcp_input = stack.hook_of(tcp_input)

    @property
    def table(self) -> TcpTable:
        """The struct behind it."""
        return self._pool.table

    def tcbs(self) -> list[Tcb]:
        """All connections and listeners there are, as ``ss -a`` lists them."""
        return self._pool.in_use()

    def call(self, entry_point: Callable[..., int], *arguments: int) -> int:
        """Call an entry point of `netemu.stack.tcp.calls`: machine code, or plain Python on a plain host."""
        if self._stack.plain and isinstance(entry_point, Kernel):
            return int(entry_point.py_func(*arguments))
        return int(entry_point(*arguments))

    def grow(self) -> None:
        """Make room for more connections if there is little; to be called between events."""
        while self._pool.low():
            self._pool.grow()

    def reserve(self, count: int) -> None:
        """Make room for ``count`` connections that may all begin within one event, when nothing can be added."""
        self._pool.reserve(count)

    def new(self, handle: int = 0) -> TcpSocket:
        """A socket that neither connects nor listens yet. Raises `NetemuError` if there are too many already."""
        self.grow()
        address = self.call(tcp_new, self.table.address)
        if address == 0:
            raise NetemuError(f"all {self.table.total} connections of this host are in use: close some")
        sock = TcpSocket(self, address)
        sock.handle = handle
        return sock

    def listen(
        self, port: int, address: tuple[int, int] = (0, 0), *, backlog: int = 128, app: int = 0, handle: int = 0
    ) -> TcpSocket:
        """A listener at a port (0: any that is free), at one address (hi and lo) or at all.

        With ``app``, a hook, connections are its own as they come, and `TcpSocket.accept` gives none. Raises
        `NetemuError` if somebody listens there already, `ConfigError` for what is no port.
        """
        check_port(port, "TCP")
        sock = self.new(handle)
        tcb = sock.tcb
        tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.app = *address, port, app
        if self.call(tcp_listen, sock.address, backlog) != DONE:
            sock.close()
            raise NetemuError(f"port {port} is in use already" if port else "no port is free")
        return sock

    def connect(
        self,
        remote: tuple[int, int],
        port: int,
        *,
        local: tuple[int, int] = (0, 0),
        local_port: int = 0,
        interface: int = 0,
        app: int = 0,
        count: int = 0,
        send_buffer: int | None = None,
        handle: int = 0,
    ) -> TcpSocket:
        """A connection to an address (hi and lo) and a port, on its way: EVENT_CONNECTED or EVENT_CLOSED follows.

        ``app`` with its ``count``: see `netemu.stack.tcp.apps`. It has the connection; the socket is for looking at it.

        Raises `NetemuError` if there is no way to the address, or no port for it, `ConfigError` for what is no port.
        """
        check_port(port, "TCP")
        check_port(local_port, "TCP")
        sock = self.new(handle)
        tcb = sock.tcb
        tcb.local_hi, tcb.local_lo, tcb.local_port = *local, local_port
        tcb.remote_hi, tcb.remote_lo, tcb.remote_port = *remote, port
        tcb.interface, tcb.app, tcb.app_count = interface, app, count
        sock.buffers(send_buffer)
        result = self.call(tcp_connect, sock.address)
        if result != DONE:
            sock.close()
            why = "no route to host" if result == UNREACHABLE else "the address is in use already"
            raise NetemuError(f"cannot connect: {why}")
        return sock
