"""Why a frame did not arrive: a closed set of reasons, each with its counter and its words."""

from __future__ import annotations

from enum import IntEnum


class DropReason(IntEnum):
    """The reasons; `words` says who drops, and which of Linux's counters moves."""

    NONE = 0
    NO_BUFFER = 1
    TOO_LONG = 2
    QUEUE_BROKEN = 3
    SHORT_FRAME = 4
    LENGTH_ERROR = 5
    BUFFERS_MISSING = 6
    NO_MEMORY = 7
    BAD_HEADER = 8
    FILTERED = 9
    OVER_MTU = 10
    LINK_DOWN = 11
    RING_LOST = 12
    TX_STOPPED = 13
    TX_TOO_LONG = 14
    TX_INVALID = 15
    TX_REFUSED = 16
    TX_MALFORMED = 17
    TX_NOT_NEGOTIATED = 18
    XDP_DROPPED = 19
    XDP_ABORTED = 20
    XDP_UNFIT = 21
    XDP_NOT_SENT = 22
    TX_NO_MEMORY = 23

    @property
    def key(self) -> str:
        """The name in JSON and in tables: lower case."""
        return self.name.lower()

    @property
    def sending(self) -> bool:
        """Whether it is a reason not to leave, for frames that a guest sends; the others are reasons not to arrive."""
        return self.name.startswith("TX_")

    @property
    def words(self) -> str:
        """One sentence for people."""
        return _WORDS[self]


_WORDS = {
    DropReason.NONE: "delivered",
    DropReason.NO_BUFFER: "the device had too few receive buffers for it",
    DropReason.TOO_LONG: "longer than all buffers the driver posts for one frame",
    DropReason.QUEUE_BROKEN: "the queue is broken or not set up",
    DropReason.SHORT_FRAME: "shorter than an Ethernet header (rx_length_errors)",
    DropReason.LENGTH_ERROR: "a length the driver refuses: more than its buffers or an skb hold (drops)",
    DropReason.BUFFERS_MISSING: "the device used fewer buffers than num_buffers says (rx_length_errors, drops)",
    DropReason.NO_MEMORY: "the guest had no memory for an skb",
    DropReason.BAD_HEADER: "virtio header that the driver refuses (rx_frame_errors)",
    DropReason.FILTERED: "the device's receive filter does not let it in",
    DropReason.OVER_MTU: "longer than the MTU that the device told the driver",
    DropReason.LINK_DOWN: "the link is down",
    DropReason.RING_LOST: "lost in the ring, and counted by nobody: a quirk hid it, or others took its buffers",
    DropReason.TX_STOPPED: "the send queue was stopped, and nothing woke it in time",
    DropReason.TX_TOO_LONG: "longer than the guest's MTU, and nothing says how to segment it",
    DropReason.TX_INVALID: "no frame that a guest can send: too short, or its checksum's place lies outside of it",
    DropReason.TX_REFUSED: "the driver could not put it on the send queue (tx_fifo_errors, tx_dropped)",
    DropReason.TX_MALFORMED: "sent with a length or a virtio header that the device refuses (tx_drop_malformed)",
    DropReason.TX_NOT_NEGOTIATED: "sent with an offload that was not negotiated (tx_drop_malformed)",
    DropReason.XDP_DROPPED: "the XDP program dropped it (xdp_drops)",
    DropReason.XDP_ABORTED: "the XDP program failed or gave no verdict there is (xdp_drops)",
    DropReason.XDP_UNFIT: "cannot be shown to an XDP program: GSO, an unfinished checksum, its size (xdp_drops)",
    DropReason.XDP_NOT_SENT: "no room for what the XDP program sent away (xdp_tx_drops, xdp_drops)",
    DropReason.TX_NO_MEMORY: "the guest had no memory to send it",
}

# The same numbers for kernels, which take no enums.
NO_BUFFER = int(DropReason.NO_BUFFER)
TOO_LONG = int(DropReason.TOO_LONG)
QUEUE_BROKEN = int(DropReason.QUEUE_BROKEN)
SHORT_FRAME = int(DropReason.SHORT_FRAME)
LENGTH_ERROR = int(DropReason.LENGTH_ERROR)
BUFFERS_MISSING = int(DropReason.BUFFERS_MISSING)
NO_MEMORY = int(DropReason.NO_MEMORY)
BAD_HEADER = int(DropReason.BAD_HEADER)
XDP_DROPPED = int(DropReason.XDP_DROPPED)
XDP_ABORTED = int(DropReason.XDP_ABORTED)
XDP_UNFIT = int(DropReason.XDP_UNFIT)
XDP_NOT_SENT = int(DropReason.XDP_NOT_SENT)
FILTERED = int(DropReason.FILTERED)
OVER_MTU = int(DropReason.OVER_MTU)
LINK_DOWN = int(DropReason.LINK_DOWN)
TX_STOPPED = int(DropReason.TX_STOPPED)
TX_TOO_LONG = int(DropReason.TX_TOO_LONG)
TX_INVALID = int(DropReason.TX_INVALID)
TX_REFUSED = int(DropReason.TX_REFUSED)
TX_MALFORMED = int(DropReason.TX_MALFORMED)
TX_NOT_NEGOTIATED = int(DropReason.TX_NOT_NEGOTIATED)
TX_NO_MEMORY = int(DropReason.TX_NO_MEMORY)

REASON_COUNT = len(DropReason)
