"""The transmission control block: all that is known of one connection (RFC 9293 section 3.3.1).

Theory of operation
-------------------
A connection is a `Tcb`, named by its address. What it is made of lives in structs of their own, one per concept, which
know nothing of each other; the TCB has their addresses, and they come and go with it: bytes to send
(`netemu.stack.tcp.send_buffer`) and received (`receive_buffer`), what the peer has selectively acknowledged
(`scoreboard`), round-trip times (`send_times`, `rtt`), the congestion window (`congestion`), three timers.

Who works on it, from below to above; each module imports only those before it:

=================  ======================================================================================
``segment``        takes a header apart
``table``          finds the TCB of a segment, hands out free ones, keeps listeners and ports
``events``         tells the user, which is Python or an app in a kernel
``lifetime``       states are entered and left; what is counted, and freed, thereby
``owed``           what a segment is to be answered with
``output``         puts segments together
``recovery``       what was lost, and how fast it is sent again
``sending``        says what may be sent now
``timeouts``       what happens when nothing comes
``handshake``      segments in LISTEN and SYN-SENT, SYNs that make connections
``acks``           the ACK of a segment: what it covers, duplicates, windows
``text``           the bytes of a segment, and its FIN
``input``          a segment arrives: the order of the checks
``calls``          what the user calls
=================  ======================================================================================

All of them take time from ``host``'s timers and send by ``host.send``; nothing else reaches out.

Sequence numbers are unwrapped positions in 64 bits (`netemu.stack.tcp.sequence`), names are those of the RFCs. SYN and
FIN take a position each, in front of the first byte and behind the last.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, pointer, struct

# States, RFC 9293 section 3.3.2.
CLOSED = 0
LISTEN = 1
SYN_SENT = 2
SYN_RECEIVED = 3
ESTABLISHED = 4
FIN_WAIT_1 = 5
FIN_WAIT_2 = 6
CLOSE_WAIT = 7
CLOSING = 8
LAST_ACK = 9
TIME_WAIT = 10

STATE_NAMES = (
    "CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
    "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
)  # fmt: skip
"""As the RFC spells them, by number."""

# How loss is being repaired (`Tcb.recovery`).
OPEN = 0
"""Nothing is known to be lost."""
FAST_RECOVERY = 1
"""Duplicate acknowledgements told of a loss (RFC 6675, RFC 6582)."""
TIMEOUT_RECOVERY = 2
"""The timer did: everything is sent again, by slow start."""

# Why a connection is gone (`Tcb.error`).
NO_ERROR = 0
ERROR_REFUSED = 1
"""A RST, or an ICMP error, came in answer to our SYN."""
ERROR_RESET = 2
"""A RST came in a connection that stood."""
ERROR_TIMED_OUT = 3
"""The peer has not answered for too long."""
ERROR_UNREACHABLE = 4
"""There is no route, or ICMP said that there is no way."""
ERROR_ABORTED = 5
"""The user aborted it, or closed it with bytes unread or on their way."""

# What the user hears of (`Tcb.events`).
EVENT_CONNECTED = 1
"""The handshake is done."""
EVENT_READABLE = 2
"""Bytes arrived, or the end of the peer's stream."""
EVENT_WRITABLE = 4
"""There is room to send again, after there was too little for a call."""
EVENT_ACCEPT = 8
"""A listener has a connection to accept."""
EVENT_CLOSED = 16
"""The connection is gone; ``error`` says why."""
EVENT_SENT = 32
"""All that was written, and the FIN, is acknowledged."""

NOWHERE = -1
"""A position that there is not: of a FIN that was not sent, or did not come."""


@struct
class Tcb(Struct):
    """One connection, or a listener. Times are ns."""

    # What stays: where it belongs, its parts.
    table: i64
    """Address of the `netemu.stack.tcp.table.TcpTable`."""
    host: i64
    """Address of the `netemu.stack.host.Host`."""
    retransmit_timer: i64
    ack_timer: i64
    wait_timer: i64
    """Addresses of `netemu.timers.Timer` structs."""
    send_buffer: i64
    receive_buffer: i64
    scoreboard: i64
    rtt: i64
    send_times: i64
    congestion: i64
    """Addresses of one struct each."""
    send_memory: i64
    receive_memory: i64
    """Host addresses of the rings."""
    send_capacity: i64
    receive_capacity: i64
    """Their bytes that are used: all there are unless a user sets less before the connection begins."""
    receive_ranges: i64
    receive_range_items: i64
    sacked_ranges: i64
    sacked_range_items: i64
    send_time_items: i64
    """Addresses of parts of those parts."""

    # Whose it is. From here on all is 0 in a new one (`netemu.stack.tcp.table.alloc_tcb`).
    next: i64
    """The next one in the list it is in: free ones, listeners of a bucket, connections to accept."""
    hash_next: i64
    """The next connection in its bucket."""
    state: i64
    owned: i64
    """1: a user holds it, and releases it; 0: it is freed as soon as it is CLOSED."""
    error: i64
    soft_error: i64
    """What ICMP said meanwhile: the error that is told should the connection time out."""
    events: i64
    """Mask of EVENT_... that the user has not been given yet."""
    ready: i64
    """1: its handle is on the `Ready` list."""
    handle: i64
    """What is put there; 0: nobody is woken."""
    app: i64
    """Hook ``(host, tcb)`` that is called for events in place of waking; 0: none. It runs before anything is sent."""
    app_state: i64
    """The app's own: an address, or a number."""
    app_count: i64
    """The app's own: bytes it has moved, or has yet to move."""

    # A listener's.
    backlog: i64
    """Connections that may wait to be accepted."""
    embryos: i64
    """Of its connections, those in SYN-RECEIVED."""
    accept_first: i64
    accept_last: i64
    """The connections that wait to be accepted."""
    accept_count: i64
    parent: i64
    """Of a connection that was not accepted yet: its listener; else 0."""

    # The pair of sockets. Addresses as in `netemu.stack.host`.
    local_hi: i64
    local_lo: i64
    local_port: i64
    remote_hi: i64
    remote_lo: i64
    remote_port: i64
    interface: i64
    """Address of the interface it is bound to (a link-local address needs one), or 0."""

    # Send sequence space.
    iss: i64
    snd_una: i64
    snd_nxt: i64
    """Nothing from here on was ever sent: what is sent again is chosen by the scoreboard, and does not move it."""
    snd_wnd: i64
    """Bytes."""
    snd_wl1: i64
    snd_wl2: i64
    snd_fin: i64
    """Position of our FIN once the user has closed, else NOWHERE."""
    snd_scale: i64
    """Shift of the windows that the peer announces."""
    max_snd_wnd: i64
    """The largest window that the peer offered."""
    snd_small: i64
    """Right edge of the last segment sent that was not full: Nagle waits for its acknowledgement."""
    nodelay: i64
    """1: no Nagle."""

    # Receive sequence space. The window is that of the receive buffer.
    irs: i64
    rcv_nxt: i64
    rcv_fin: i64
    """Position of the peer's FIN once one came, maybe ahead of bytes; else NOWHERE."""
    rcv_acked: i64
    """The acknowledgement number that was sent last (Last.ACK.sent of RFC 7323)."""
    rcv_scale: i64
    """Shift of the windows that we announce."""
    rcv_announced: i64
    """The window field that was sent last."""
    rcv_mss: i64
    """The longest segment that came: what delayed acknowledgements count in."""
    rcv_lowat: i64
    """Bytes that have to be there before the user is told of them, unless the sender pushed (SO_RCVLOWAT)."""
    rcv_closed: i64
    """1: the user reads no more; what comes is dropped."""

    # What both ends agreed on, and the path.
    peer_mss: i64
    """The MSS option of the peer; 0 before it came."""
    path_mtu: i64
    """Bytes of an IP packet."""
    out_interface: i64
    """Address of the interface that the last packet left by."""
    mtu_limit: i64
    """Bytes of an IP packet that black-hole detection has gone down to; 0: none."""
    mss: i64
    """Payload bytes of a full segment: SMSS of RFC 5681. Timestamps are off already, SACK blocks are not."""
    timestamps: i64
    sack: i64
    scaling: i64
    """1 each: wanted, before the handshake is done; in use, afterwards."""
    ts_recent: i64
    """32 bits as they came."""
    ts_recent_when: i64
    ts_offset: i64
    """What our timestamp clock is ahead of time, ms."""

    # Loss recovery.
    recovery: i64
    recover: i64
    """It ends when everything before this position is acknowledged: RecoveryPoint, or ``recover`` of RFC 6582."""
    dup_acks: i64
    """Duplicate acknowledgements in a row."""
    dup_bytes: i64
    """Without SACK: bytes that these say have left the network, which RFC 6582 adds to the congestion window."""
    timed_out: i64
    """1: the timer has expired for what is outstanding (a second time does not reduce ``ssthresh`` again)."""
    cwnd_limited: i64
    """1: the congestion window kept the sender from sending more when it last sent."""
    last_sent: i64
    """When data was sent last."""
    undo_from: i64
    """``snd_una`` when the window was reduced last, while that can be taken back; else 0."""
    undo_sent: i64
    undo_left: i64
    """Segments that were sent again since, and those of them that no D-SACK has told of."""
    undo_stamp: i64
    """The timestamp that the first of them had."""
    lost_now: i64
    """1: the first retransmission, which goes out whatever the congestion window says, is due."""

    # Timers.
    retries: i64
    """How often in a row the retransmission timer, or the persist timer, has expired."""
    stalled_since: i64
    """When the oldest byte that is not acknowledged was first sent, or the window closed."""
    persisting: i64
    """1: the retransmission timer runs as persist timer, to probe a closed window."""
    probes: i64
    """Probes of the closed window sent so far: each comes after twice as long as the one before, answered or not."""
    user_timeout: i64
    """How long bytes may stay without acknowledgement; 0: as many retries as the settings say."""
    keepalive: i64
    """How long nothing may come before the peer is asked whether it is there; 0: never."""
    last_received: i64
    """When a segment came."""
    keepalive_count: i64
    """Probes sent since."""

    # What is owed to the peer, and goes out when all is said about the segment at hand (`sending.tcp_output`).
    silent_until: i64
    """Until then segments without bytes that lie outside the window get no answer."""
    ack_now: i64
    """1: an acknowledgement."""
    syn_now: i64
    """1: our SYN, for the first time or again."""
    probe_now: i64
    """1: whatever the peer must answer, though its window is closed or nothing is there to say."""
    reset_now: i64
    """1: a RST; the connection is CLOSED already."""
    ack_pending: i64
    """1: one is owed, and the timer runs."""
    quick_acks: i64
    """So many are still sent at once: at the beginning the peer's window is too small for delays."""
    want_write: i64
    """1: the user was told that there is no room, and waits for it."""

    # What `ss -i` shows.
    bytes_sent: i64
    """Payload, retransmissions included."""
    bytes_acked: i64
    bytes_retrans: i64
    bytes_received: i64
    segs_out: i64
    """Segments as the receiver sees them: a TSO frame counts for all it is cut into."""
    segs_in: i64
    total_retrans: i64
    """Segments sent again."""


tcb_at = pointer(Tcb)
TCB_SIZE = Tcb.dtype.itemsize
TCB_FRESH = list(Tcb.__annotations__).index("next") * 8
"""Offset of the first field that belongs to one connection."""
