"""Skbs of any layout, made from the bytes of a frame, for tests of what reads them."""

from __future__ import annotations

from hypothesis import strategies as st

from netemu.jit import Buffer, allocate, entry, i64
from netemu.memory import GuestMemory
from netemu.skb import FRAG_SIZE, MAX_SKB_FRAGS, Skb, Skbs, alloc_skb, frag_at, skb_at
from netemu.stack import ProtocolStack, netif_receive_skb, stack_at

ETH_HLEN = 14


class SkbKit:
    """A pool of skbs whose bytes lie in blocks of exactly their size, so that a checked access cannot overrun one."""

    def __init__(self, count: int = 16) -> None:
        self.skbs = Skbs(GuestMemory(1 << 16), count)
        self._blocks: list[Buffer] = []

    def build(
        self,
        frame: bytes,
        linear: int | None = None,
        pieces: tuple[int, ...] = (),
        own: int = MAX_SKB_FRAGS,
    ) -> Skb:
        """An skb of ``frame``: ``linear`` bytes linear (all by default), the rest in frags of ``pieces`` bytes each.

        The first ``own`` frags belong to the skb, the others to skbs in its frag list; the last takes what is left.
        ``protocol`` and ``pkt_type`` are set as eth_type_trans does; unicast is for this host. The skb stays valid
        until the next is built.
        """
        self._blocks.clear()
        for skb in self.skbs.skbs:
            skb.next = skb.address + type(skb).dtype.itemsize
        self.skbs.skbs[-1].next = 0
        self.skbs.pool.free, self.skbs.pool.free_count = self.skbs.skbs.address, len(self.skbs.skbs)
        linear = len(frame) if linear is None else min(linear, len(frame))
        skb = skb_at(alloc_skb(self.skbs.pool))
        skb.data = self._block(frame[:linear])
        skb.len = linear
        holder, limit = skb, own
        rest = frame[linear:]
        for number in range(len(frame)):
            if not rest:
                break
            size = pieces[number] if number < len(pieces) else len(rest)
            if holder.nr_frags == limit:
                follower = skb_at(alloc_skb(self.skbs.pool))
                follower.len = 0
                if skb.frag_list == 0:
                    skb.frag_list = follower.address
                else:
                    holder.next = follower.address
                holder, limit = follower, MAX_SKB_FRAGS
            frag = frag_at(holder.frags + holder.nr_frags * FRAG_SIZE)
            frag.address, frag.size, frag.page = self._block(rest[:size]), len(rest[:size]), 0
            holder.nr_frags += 1
            for each in {holder.address: holder, skb.address: skb}.values():
                each.len += frag.size
                each.data_len += frag.size
            rest = rest[size:]
        classify(skb, frame)
        return skb

    def read(self, address: int, size: int) -> bytes:
        """Bytes of a frame's blocks, for whoever was given their address."""
        for block in self._blocks:
            if block.address <= address and address + size <= block.address + block.size:
                return block.array[address - block.address :][:size].tobytes()
        raise AssertionError(f"{size} bytes at {address:#x} lie in no block of the frame")

    def _block(self, data: bytes) -> int:
        block = allocate(len(data), align=1)
        block.array[:] = bytearray(data)
        self._blocks.append(block)
        return block.address


def classify(skb: Skb, frame: bytes) -> None:
    """What eth_type_trans says of a frame, worked out anew."""
    skb.network_header = ETH_HLEN
    kind = int.from_bytes(frame[12:14], "big")
    if kind < 0x600:
        kind = 1 if frame[14:16] == b"\xff\xff" else 4
    skb.protocol = kind
    if frame[:6] == b"\xff" * 6:
        skb.pkt_type = 1
    else:
        skb.pkt_type = 2 if frame[:1] and frame[0] & 1 else 0


@entry
def compiled_receive(stack: i64, skb: i64) -> i64:
    return int(netif_receive_skb(stack_at(stack), skb_at(skb)))


def receive(stack: ProtocolStack, skb: Skb) -> int:
    """The verdict on a frame, by the kernels as machine code."""
    return int(compiled_receive(stack.address, skb.address))


def receive_checked(stack: ProtocolStack, skb: Skb) -> int:
    """The verdict on a frame, by the kernels as plain Python, where a wild access raises WildAccessError."""
    return int(netif_receive_skb(stack.struct, skb))


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, object]:
    """Arguments of `SkbKit.build` for any layout with an Ethernet header in the linear part."""
    pieces = draw(st.lists(st.integers(1, 40), max_size=24))
    return {
        "linear": ETH_HLEN + draw(st.integers(0, 90)),
        "pieces": tuple(pieces),
        "own": draw(st.integers(0, MAX_SKB_FRAGS)),
    }
