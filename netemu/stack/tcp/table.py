"""All connections of a host: found by their pair of sockets, or a listener by its port; free ones, and free ports.

Theory of operation
-------------------
Connections hang in hash buckets by addresses and ports, listeners in buckets by port alone. TCBs that nobody uses are
in a list, taken newest first, so that a host that opens and closes connections stays in warm memory. Kernels cannot
allocate: Python keeps that list filled between events (`netemu.stack.tcp.pool`), and a connection for which there is no
TCB does not come about.

Numbers that a peer must not guess, initial sequence numbers and offsets of timestamps (RFC 6528, RFC 7323 section 5.4),
come from a hash over the pair of sockets and a secret. It is a small hash, enough for an emulated world, where nobody
attacks but on purpose; an RFC 6528 host would take a cryptographic one.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load64, memset, pointer, store64, struct
from netemu.stack.host import host_at, ready_at
from netemu.stack.tcp.tcb import CLOSED, LISTEN, NOWHERE, TCB_FRESH, TCB_SIZE, Tcb, tcb_at

LISTENER_BUCKETS = 64
PORT_FIRST = 32768
PORT_LAST = 60999
"""Ports for connections that do not care, as in Linux (ip_local_port_range)."""
POSITION_BASE = 1 << 32
"""Positions begin above it, so that what lies before them is not negative."""

_WORD = 0xFFFFFFFF
_MIX_A = 0x9E3779B1
_MIX_B = 0x85EBCA77


@struct
class TcpSettings(Struct):
    """What a host's connections do; for those that begin afterwards. Times are ns. See `netemu.stack.tcp.settings`."""

    timestamps: i64
    sack: i64
    window_scaling: i64
    algorithm: i64
    """RENO or CUBIC of `netemu.stack.tcp.congestion`."""
    delayed_ack: i64
    """How long an acknowledgement may wait; 0: none does."""
    quick_acks: i64
    """Segments at the beginning of a connection whose acknowledgement does not wait."""
    rto_min: i64
    syn_retries: i64
    """How often a SYN is sent again; a SYN-ACK, too."""
    retries: i64
    """How often in a row data is sent again before the peer counts as gone (R2 of RFC 9293 section 3.8.3)."""
    time_wait: i64
    """2 MSL."""
    fin_timeout: i64
    """How long a connection that nobody holds any more waits for the peer's FIN."""
    keepalive: i64
    """How long nothing may come before a probe is sent; 0: no probes. A connection can have its own."""
    keepalive_interval: i64
    keepalive_probes: i64
    """Probes without answer after which the peer counts as gone."""
    mtu_probing: i64
    """1: what is lost again and again is sent in smaller segments, as ICMP may be filtered (tcp_mtu_probing)."""
    base_mss: i64
    """The payload that this begins with."""
    nodelay: i64
    """1: no Nagle, unless a connection asks for it."""
    challenge_acks: i64
    """Challenge ACKs that may be sent in a second (RFC 5961 section 7)."""
    idle_restart: i64
    """1: the congestion window shrinks while nothing is sent (RFC 2861)."""


@struct
class TcpTable(Struct):
    """A host's connections."""

    host: i64
    """Address of the `netemu.stack.host.Host`."""
    mib: i64
    ext: i64
    """Addresses of the `TcpMib` and the `TcpExtMib`."""
    settings: i64
    """Address of the `TcpSettings`."""
    segment: i64
    """Address of the `netemu.stack.tcp.segment.Segment` that is at hand."""
    blocks: i64
    """Address of SACK_BLOCKS_MAX `SackBlock` structs, for those that are sent."""
    header: i64
    """Host address of 60 bytes in which a header that lies in pieces is put together."""
    output: i64
    """Hook ``(tcb, 0)``: `netemu.stack.tcp.output.tcp_output`."""
    buckets: i64
    """Host address of as many TCB addresses as ``bucket_mask`` and one."""
    bucket_mask: i64
    listeners: i64
    """Host address of LISTENER_BUCKETS addresses of listeners."""
    send_capacity: i64
    receive_capacity: i64
    """Bytes of the rings that each TCB has."""
    free: i64
    free_count: i64
    """TCBs that nobody uses."""
    total: i64
    established: i64
    """Connections in ESTABLISHED or CLOSE-WAIT: tcpCurrEstab of RFC 4022, which nstat does not print."""
    secret: i64
    """32 random bits."""
    next_port: i64
    challenge_second: i64
    challenge_count: i64
    """Challenge ACKs sent in that second."""


table_at = pointer(TcpTable)
settings_at = pointer(TcpSettings)


@kernel
def pair_hash(
    local_hi: i64, local_lo: i64, local_port: i64, remote_hi: i64, remote_lo: i64, remote_port: i64, seed: i64
) -> i64:
    """32 bits that hang on all of it."""
    h = ((local_lo ^ (local_lo >> 32) ^ local_hi ^ (local_hi >> 32)) + seed) & _WORD
    h = (h * _MIX_A) & _WORD
    h ^= h >> 15
    h = (h ^ remote_lo ^ (remote_lo >> 32) ^ remote_hi ^ (remote_hi >> 32)) & _WORD
    h = (h * _MIX_B) & _WORD
    h ^= h >> 13
    h = (h ^ (local_port << 16) ^ remote_port) & _WORD
    h = (h * _MIX_A) & _WORD
    return h ^ (h >> 16)


@kernel
def _bucket(
    table: TcpTable,
    local_hi: i64,
    local_lo: i64,
    local_port: i64,
    remote_hi: i64,
    remote_lo: i64,
    remote_port: i64,
) -> i64:
    """Host address of a pair's bucket."""
    h = pair_hash(local_hi, local_lo, local_port, remote_hi, remote_lo, remote_port, 0)
    return table.buckets + (h & table.bucket_mask) * 8


@kernel
def find_connection(
    table: TcpTable,
    local_hi: i64,
    local_lo: i64,
    local_port: i64,
    remote_hi: i64,
    remote_lo: i64,
    remote_port: i64,
) -> i64:
    """The connection of a pair of sockets, or 0."""
    at = load64(_bucket(table, local_hi, local_lo, local_port, remote_hi, remote_lo, remote_port))
    while at != 0:
        tcb = tcb_at(at)
        if (
            tcb.remote_port == remote_port
            and tcb.local_port == local_port
            and tcb.remote_lo == remote_lo
            and tcb.remote_hi == remote_hi
            and tcb.local_lo == local_lo
            and tcb.local_hi == local_hi
        ):
            return at
        at = tcb.hash_next
    return 0


@kernel
def find_listener(table: TcpTable, local_hi: i64, local_lo: i64, local_port: i64) -> i64:
    """Who listens at an address and a port: a listener at just this address before one at all addresses; or 0."""
    at = load64(table.listeners + (local_port & (LISTENER_BUCKETS - 1)) * 8)
    found = 0
    while at != 0:
        tcb = tcb_at(at)
        if tcb.local_port == local_port:
            if tcb.local_hi == local_hi and tcb.local_lo == local_lo:
                return at
            if tcb.local_hi == 0 and tcb.local_lo == 0:
                found = at
        at = tcb.next
    return found


@kernel
def enter_connection(table: TcpTable, address: i64) -> None:
    """Make a connection, whose sockets are set, one that is found."""
    tcb = tcb_at(address)
    bucket = _bucket(table, tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port)
    tcb.hash_next = load64(bucket)
    store64(bucket, address)


@kernel
def remove_connection(table: TcpTable, address: i64) -> None:
    """Undo `enter_connection`."""
    tcb = tcb_at(address)
    bucket = _bucket(table, tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port)
    at = load64(bucket)
    if at == address:
        store64(bucket, tcb.hash_next)
        return
    while at != 0:
        before = tcb_at(at)
        at = before.hash_next
        if at == address:
            before.hash_next = tcb.hash_next
            return


@kernel
def enter_listener(table: TcpTable, address: i64) -> None:
    """Make a listener, whose address and port are set, one that is found."""
    tcb = tcb_at(address)
    bucket = table.listeners + (tcb.local_port & (LISTENER_BUCKETS - 1)) * 8
    tcb.next = load64(bucket)
    store64(bucket, address)


@kernel
def remove_listener(table: TcpTable, address: i64) -> None:
    """Undo `enter_listener`."""
    tcb = tcb_at(address)
    bucket = table.listeners + (tcb.local_port & (LISTENER_BUCKETS - 1)) * 8
    at = load64(bucket)
    if at == address:
        store64(bucket, tcb.next)
        return
    while at != 0:
        before = tcb_at(at)
        at = before.next
        if at == address:
            before.next = tcb.next
            return


LOW_WATER = 16
"""Free TCBs below which more are to be added: more connections than begin within one event."""


@kernel
def alloc_tcb(table: TcpTable) -> i64:
    """A TCB in CLOSED, all of it 0 but what belongs to it for good; 0 if there is none."""
    address = table.free
    if address == 0:
        return 0
    table.free = tcb_at(address).next
    table.free_count -= 1
    if table.free_count < LOW_WATER and host_at(table.host).ready != 0:
        ready_at(host_at(table.host).ready).short = 1
    memset(address + TCB_FRESH, 0, TCB_SIZE - TCB_FRESH)
    tcb = tcb_at(address)
    tcb.send_capacity = table.send_capacity
    tcb.receive_capacity = table.receive_capacity
    tcb.snd_fin = NOWHERE
    tcb.rcv_fin = NOWHERE
    return address


@kernel
def free_tcb(table: TcpTable, address: i64) -> None:
    """Nobody uses the TCB any more; its timers are stopped."""
    tcb = tcb_at(address)
    tcb.state = CLOSED
    tcb.next = table.free
    table.free = address
    table.free_count += 1


@kernel
def port_is_taken(table: TcpTable, local_hi: i64, local_lo: i64, port: i64) -> i64:
    """1 if somebody listens at a port, at this address or at all (or, if this is 0 and 0, at any)."""
    at = load64(table.listeners + (port & (LISTENER_BUCKETS - 1)) * 8)
    while at != 0:
        tcb = tcb_at(at)
        if tcb.local_port == port and tcb.state == LISTEN:
            if (tcb.local_hi == local_hi and tcb.local_lo == local_lo) or (tcb.local_hi == 0 and tcb.local_lo == 0):
                return 1
            if local_hi == 0 and local_lo == 0:
                return 1
        at = tcb.next
    return 0


@kernel
def choose_port(table: TcpTable, tcb: Tcb) -> i64:
    """A port from which there is no connection to the TCB's peer yet, and at which nobody listens; 0: all are taken."""
    count = PORT_LAST - PORT_FIRST + 1
    for _ in range(count):
        port = PORT_FIRST + table.next_port % count
        table.next_port = port - PORT_FIRST + 1
        if port_is_taken(table, tcb.local_hi, tcb.local_lo, port) == 0:
            other = find_connection(
                table, tcb.local_hi, tcb.local_lo, port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port
            )
            if other == 0:
                return port
    return 0


@kernel
def initial_sequence(table: TcpTable, tcb: Tcb, now: i64) -> i64:
    """The position of the SYN: a clock of 4 us, and what hangs on the pair of sockets (RFC 9293 section 3.4.1)."""
    h = pair_hash(
        tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port, table.secret
    )
    return POSITION_BASE + ((h + now // 4000) & _WORD)


@kernel
def timestamp_offset(table: TcpTable, tcb: Tcb) -> i64:
    """Where the timestamps of a pair of sockets begin: the same for each connection of it, so that they grow on."""
    seed = table.secret ^ _MIX_B
    h = pair_hash(tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port, seed)
    return h & 0x7FFFFFFF
