"""A driver's control queue by hand: commands as bytes in chains of any shape (VIRTIO 1.4, section 5.1.6.5).

Class and command numbers are written out here as the specification lists them; nothing of `netemu.virtio.control` is
used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from netemu.device.net import NetDevice
from netemu.virtio.net import NetConfig
from tests.device_kit import CTRL_VQ, MQ, VERSION_1, Hand, Part, Ring

CTRL_GUEST_OFFLOADS, MAC, STATUS, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, GUEST_ANNOUNCE = 2, 5, 16, 18, 19, 20, 21
CTRL_MAC_ADDR, DEVICE_STATS, VQ_NOTF_COAL, NOTF_COAL, RSS = 23, 50, 52, 53, 60

OK, ERR = 0, 1
UNWRITTEN = 0xAA

RX, MAC_CLASS, VLAN, ANNOUNCE, MQ_CLASS, OFFLOADS, COAL, TUNNEL, STATS, CONTEXTS = range(10)
PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST = range(6)
TABLE_SET, ADDR_SET = range(2)
ADD, DEL = range(2)
PAIRS_SET, RSS_CONFIG, HASH_CONFIG = range(3)
TX_SET, RX_SET, VQ_SET, VQ_GET = range(4)
QUERY, GET = range(2)

STATION = bytes.fromhex("020000000001")
"""What a device's configuration says where nobody says otherwise."""


class Answer(NamedTuple):
    """What came back: the acknowledgement (UNWRITTEN if there was none), the result, and the used length."""

    ack: int
    result: bytes
    length: int


class ControlHand(Hand):
    """A live device whose control queue stands where the specification puts it: behind all pairs there could be."""

    def __init__(
        self, *bits: int, num: int = 8, size: int = 1 << 18, pairs: int = 1, config: NetConfig | None = None
    ) -> None:
        super().__init__(VERSION_1, CTRL_VQ, *bits, num=num, size=size, pairs=pairs, config=config)
        self.control_index = 2 * (pairs if MQ in bits or RSS in bits else 1)
        self.control = Ring(self.memory, num)
        self.control_bell = self.device.setup_queue(self.control_index, self.control.addresses)
        self._area = self.memory.reserve(1 << 16, 1)

    def post_command(self, request: bytes, room: int = 1, cuts: Sequence[int] = ()) -> tuple[int, list[Part]]:
        """Make a command available, its readable bytes cut at ``cuts``; the head, and the writable part.

        Nothing is cut from the ``room`` writable bytes: see `post_parts` for chains of any shape.
        """
        edges = [0, *cuts, len(request)]
        sizes = [end - start for start, end in pairwise(edges)]
        return self.post_parts(request, sizes, [room] if room else [])

    def post_parts(
        self, request: bytes, readable: Sequence[int], writable: Sequence[int], *, indirect: bool = False
    ) -> tuple[int, list[Part]]:
        """Make a chain available whose descriptors have these sizes; the head, and the writable parts."""
        assert sum(readable) == len(request)
        self.memory.write(self._area, request + bytes([UNWRITTEN]) * sum(writable))
        parts, at = [], self._area
        for size in readable:
            parts.append(Part(at, size, writable=False))
            at += size
        for size in writable:
            parts.append(Part(at, size))
            at += size
        head = self.control.post_indirect(*parts) if indirect else self.control.post(*parts)
        return head, [part for part in parts if part.writable]

    def serve(self) -> None:
        """Ring the bell, and let the device have its turn."""
        self.device.serve(self.control_index)

    def answer(self, head: int, writable: Sequence[Part]) -> Answer:
        """The used element, which has to be that of ``head``, and what lies in the writable part."""
        [(used, length)] = self.control.take_used()
        assert used == head
        data = b"".join(self.memory.read(part.gpa, part.size) for part in writable)
        return Answer(data[0] if data else UNWRITTEN, data[1:length], length)

    def send(self, kind: int, command: int, data: bytes = b"", *, room: int = 1, cuts: Sequence[int] = ()) -> Answer:
        """A whole command: post, serve, answer."""
        head, writable = self.post_command(bytes([kind, command]) + data, room, cuts)
        self.serve()
        return self.answer(head, writable)

    def accepts(self, kind: int, command: int, data: bytes = b"") -> bool:
        """Whether a command was acknowledged with OK; anything but OK has to be ERR, and one byte long."""
        answer = self.send(kind, command, data)
        assert answer.ack in (OK, ERR)
        assert answer.length == 1
        return answer.ack == OK


def state_of(device: NetDevice) -> tuple[object, ...]:
    """All that commands can change, to see that one changed nothing."""
    filter_state = device.filter.struct.to_dict()
    vlans = bytes(device.filter._vlans.array)
    table = bytes(device.filter._table.array)
    coalescing = [queue.to_dict() for queue in device.coalescing.queues]
    pairs = device.steering.state.pairs
    return filter_state, vlans, table, coalescing, pairs, device.guest_offloads, device.config.pack()


def coal(max_packets: int, max_usecs: int) -> bytes:
    """struct virtio_net_ctrl_coal."""
    return struct.pack("<II", max_packets, max_usecs)


def coal_vq(index: int, max_packets: int, max_usecs: int, reserved: int = 0) -> bytes:
    """struct virtio_net_ctrl_coal_vq."""
    return struct.pack("<HHII", index, reserved, max_packets, max_usecs)
