"""A frame's way, in words: the comment that ``--journey`` puts on each frame of a capture."""

from __future__ import annotations

from collections.abc import Sequence

from netemu.fates import Fate
from netemu.skb import CHECKSUM_COMPLETE, CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY
from netemu.stack import reason_words
from netemu.trace import BufferEvent, SentEvent, SkbEvent
from netemu.virtio.net import GSO_NONE, flags_in_words, gso_in_words
from netemu.ways import Lost

PREFIX = "netemu: "
"""What each of these comments starts with, by which `netemu show` knows them."""

_BUFFERS_SHOWN = 6
_LOST_SHOWN = 8
_CHECKSUM = {
    CHECKSUM_NONE: "nobody vouched for its checksum",
    CHECKSUM_UNNECESSARY: "the device vouched for its checksum",
    CHECKSUM_COMPLETE: "the device summed it",
    CHECKSUM_PARTIAL: "its checksum is not finished",
}
_SENT = {
    Fate.XDP_TX: "sent back by the XDP program (XDP_TX)",
    Fate.XDP_REDIRECT: "sent elsewhere by the XDP program (XDP_REDIRECT)",
}


def buffers_in_words(buffers: Sequence[BufferEvent]) -> str:
    """Where a frame lay: queue, and for each buffer its head, bytes used of those posted, and address."""
    if not buffers:
        return "its buffers were not recorded"
    first = buffers[0]
    shown = [f"#{event.head} {event.used}/{event.posted} B at {event.gpa:#x}" for event in buffers[:_BUFFERS_SHOWN]]
    if len(buffers) > _BUFFERS_SHOWN:
        shown.append(f"{len(buffers) - _BUFFERS_SHOWN} more")
    descriptors = sum(event.descriptors for event in buffers)
    plural = "buffer" if len(buffers) == 1 else "buffers"
    extra = f" ({descriptors} descriptors)" if descriptors != len(buffers) else ""
    return f"queue {first.queue}, used slot {first.slot}, {len(buffers)} {plural}{extra}: {', '.join(shown)}"


def skb_in_words(skb: SkbEvent) -> str:
    """What the driver made of it: linear part, frags, memory charged, checksum, GSO, and what the stack said."""
    linear = skb.len - skb.data_len
    shape = f"skb {linear} B linear"
    if skb.nr_frags:
        shape += f" + {skb.nr_frags} frag{'s' if skb.nr_frags > 1 else ''}"
    if skb.frag_skbs:
        shape += f" + {skb.frag_skbs} skb{'s' if skb.frag_skbs > 1 else ''} in its frag list"
    if skb.xdp:
        shape = f"XDP_PASS; {shape}"
    parts = [f"{shape}, truesize {skb.truesize}", _CHECKSUM.get(skb.ip_summed, "checksum unknown")]
    if skb.gso_segs:
        parts.append(f"GRO merged {skb.gso_segs} frames")
    if skb.gso_type:
        parts.append(f"GSO, segments of {skb.gso_size} B")
    if skb.hash:
        parts.append(f"receive hash {skb.hash:#010x}")
    parts.append(f"stack: {reason_words(skb.verdict)}")
    return "; ".join(parts)


def comment(buffers: Sequence[BufferEvent], skb: SkbEvent | None) -> str:
    """The whole comment; without ``skb`` (in a capture at the ring) only as far as the buffers."""
    text = PREFIX + buffers_in_words(buffers)
    return text if skb is None else f"{text}; {skb_in_words(skb)}"


def lost_in_words(lost: Sequence[Lost]) -> list[str]:
    """A line for each frame that was lost before the one at hand, the first few at least."""
    lines = []
    for frame in lost[:_LOST_SHOWN]:
        if frame.fate in _SENT:
            what = f"was {_SENT[frame.fate]} on queue {frame.queue}"
        else:
            what = f"was dropped on queue {frame.queue}: {frame.reason.key}, {frame.reason.words}"
        lines.append(f"{PREFIX}frame {frame.frame_id} {what}")
    if len(lost) > _LOST_SHOWN:
        lines.append(f"{PREFIX}{len(lost) - _LOST_SHOWN} more frames were dropped here")
    return lines


def sent_in_words(event: SentEvent) -> str:
    """How a frame that the guest sent lay in the ring, what its header asked for, and whether the device was told."""
    plural = "s" if event.descriptors != 1 else ""
    where = f"#{event.head} {event.size} B at {event.gpa:#x}, {event.descriptors} descriptor{plural}"
    parts = [f"sent on queue {event.queue}: {where}", f"header {flags_in_words(event.flags)}"]
    if event.flags:
        parts[-1] += f", checksum from {event.csum_start} at +{event.csum_offset}"
    if event.gso_type != GSO_NONE:
        gso = gso_in_words(event.gso_type)
        parts.append(f"GSO {gso}, segments of {event.gso_size} B, headers {event.hdr_len} B")
    parts.append("with a kick" if event.kick else "without a kick")
    if event.outcome:
        parts.append("the device refused it")
    return PREFIX + "; ".join(parts)
