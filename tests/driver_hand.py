"""The device's half of what a driver sees, held by hand: a split ring, the transport, the control queue.

Everything is done with `struct` on the bytes of guest memory, at the offsets the specification gives (VIRTIO 1.4,
sections 2.7 and 5.1.6.5). Nothing of `netemu.device` is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from netemu.memory import GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.notify import ConfigBell, Doorbell
from netemu.virtio.split import RingAddresses


class HandRing:
    """The device's view of a split ring, byte by byte."""

    def __init__(self, memory: GuestMemory, num: int, desc: int, avail: int, used: int, start: int = 0) -> None:
        self.memory = memory
        self.num = num
        self.desc = desc
        self.avail = avail
        self.used = used
        self.last_avail = start
        """The next available index the device looks at."""
        self.next_used = start
        """The used index it writes next."""

    def _u16(self, gpa: int) -> int:
        return int.from_bytes(self.memory.read(gpa, 2), "little")

    def _put16(self, gpa: int, value: int) -> None:
        self.memory.write(gpa, value.to_bytes(2, "little"))

    def descriptor(self, index: int) -> tuple[int, int, int, int]:
        """addr, len, flags, next (SPLIT-B-03)."""
        addr, length, flags, following = struct.unpack("<QIHH", self.memory.read(self.desc + 16 * index, 16))
        return addr, length, flags, following

    def write_descriptor(self, index: int, addr: int, length: int, flags: int, following: int) -> None:
        """What a device must not do (SPLIT-D-05)."""
        self.memory.write(self.desc + 16 * index, struct.pack("<QIHH", addr, length, flags, following))

    @property
    def avail_flags(self) -> int:
        return self._u16(self.avail)

    @property
    def avail_idx(self) -> int:
        return self._u16(self.avail + 2)

    def avail_entry(self, slot: int) -> int:
        return self._u16(self.avail + 4 + 2 * slot)

    @property
    def used_event(self) -> int:
        return self._u16(self.avail + 4 + 2 * self.num)

    def set_used_event(self, value: int) -> None:
        self._put16(self.avail + 4 + 2 * self.num, value)

    def set_used_flags(self, value: int) -> None:
        self._put16(self.used, value)

    @property
    def used_idx(self) -> int:
        return self._u16(self.used + 2)

    def set_used_idx(self, value: int) -> None:
        self._put16(self.used + 2, value & 0xFFFF)

    def set_avail_event(self, value: int) -> None:
        self._put16(self.used + 4 + 8 * self.num, value)

    def pending(self) -> int:
        """Available buffers the device has not taken."""
        return (self.avail_idx - self.last_avail) & 0xFFFF

    def take(self) -> int:
        """The head of the next available buffer."""
        assert self.pending(), "the driver has made nothing available"
        head = self.avail_entry(self.last_avail % self.num)
        self.last_avail = (self.last_avail + 1) & 0xFFFF
        return head

    def chain(self, head: int) -> list[tuple[int, int, int]]:
        """(address, length, flags without NEXT) of each segment; an indirect table is followed (SPLIT-B-04)."""
        addr, length, flags, _ = self.descriptor(head)
        if flags & 4:
            assert not flags & 1, "SPLIT-V-09: INDIRECT together with NEXT"
            assert length % 16 == 0
            table = [struct.unpack("<QIHH", self.memory.read(addr + at, 16)) for at in range(0, length, 16)]
            return list(self._walk(0, table.__getitem__))
        return list(self._walk(head, self.descriptor))

    @staticmethod
    def _walk(index: int, entry: Callable[[int], tuple[int, int, int, int]]) -> Iterator[tuple[int, int, int]]:
        for _ in range(2048):
            addr, length, flags, following = entry(index)
            assert not flags & 4, "SPLIT-V-07: INDIRECT inside a table or a chain"
            yield addr, length, flags & ~1
            if not flags & 1:
                return
            index = following
        raise AssertionError("a chain without an end")

    def write_buffer(self, head: int, data: bytes) -> None:
        """Fill the writable segments of a buffer from the first byte on."""
        for addr, length, flags in self.chain(head):
            if flags & 2:
                self.memory.write(addr, data[:length])
                data = data[length:]
        assert not data, "more data than the buffer holds"

    def read_buffer(self, head: int) -> bytes:
        """The readable segments of a buffer."""
        return b"".join(self.memory.read(addr, length) for addr, length, flags in self.chain(head) if not flags & 2)

    def place_used(self, head: int, length: int) -> None:
        """Write the next used element without showing it."""
        at = self.used + 4 + 8 * (self.next_used % self.num)
        self.memory.write(at, struct.pack("<II", head, length))
        self.next_used = (self.next_used + 1) & 0xFFFF

    def publish(self) -> None:
        """Show the driver all used elements written so far."""
        self.set_used_idx(self.next_used)

    def use(self, head: int, length: int) -> None:
        """One used buffer, shown at once."""
        self.place_used(head, length)
        self.publish()


class HandTransport:
    """A transport without a device behind it: it keeps a log of what the driver did."""

    def __init__(
        self, offered: FeatureSet, config: NetConfig, queue_size: int = 256, *, refuse_features: bool = False
    ) -> None:
        self.offered = offered
        self.config = config
        self.queue_size = queue_size
        self.refuse_features = refuse_features
        self.log: list[tuple[str, int]] = []
        self.accepted = FeatureSet()
        self.status = 0
        self.rings: dict[int, RingAddresses] = {}
        self.bells: dict[int, Doorbell] = {}
        self.config_bell = ConfigBell()
        self.generation = 0
        self.answer: Callable[[int], None] | None = None
        """What the device does when a driver waits for a queue's answer."""
        self.reads: list[tuple[int, int]] = []
        """Offset and size of each access to configuration space."""

    def get_features(self) -> FeatureSet:
        self.log.append(("get_features", self.offered.mask))
        return self.offered

    def set_features(self, features: FeatureSet) -> None:
        self.log.append(("set_features", features.mask))
        self.accepted = features

    def get_status(self) -> int:
        return self.status

    def set_status(self, status: int) -> None:
        self.log.append(("status", status))
        self.status = status & ~8 if self.refuse_features else status

    def config_generation(self) -> int:
        return self.generation

    def read_config(self, offset: int = 0, size: int | None = None) -> bytes:
        data = self.config.pack()[offset:]
        self.reads.append((offset, len(data) if size is None else size))
        return data if size is None else data[:size]

    def write_config(self, offset: int, data: bytes) -> None:
        self.log.append(("write_config", offset))
        packed = self.config.pack()
        self.config = NetConfig.unpack(packed[:offset] + data + packed[offset + len(data) :])

    def queue_size_max(self, index: int) -> int:  # noqa: ARG002 - all queues are alike
        return self.queue_size

    def setup_queue(self, index: int, ring: RingAddresses) -> Doorbell:
        self.log.append(("queue", index))
        self.rings[index] = ring
        self.bells[index] = Doorbell()
        return self.bells[index]

    def reset_queue(self, index: int) -> None:
        self.log.append(("reset_queue", index))
        del self.rings[index]

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002 - it is over at once
        return False

    def queue_enabled(self, index: int) -> bool:
        return index in self.rings

    def serve(self, index: int) -> None:
        self.log.append(("serve", index))
        if self.answer is not None:
            self.answer(index)

    @property
    def status_writes(self) -> list[int]:
        return [value for what, value in self.log if what == "status"]


class HandControl:
    """A device's end of the control queue: it keeps what it was asked, and answers as it is told (section 5.1.6.5)."""

    def __init__(self, memory: GuestMemory, transport: HandTransport) -> None:
        self.memory = memory
        self.transport = transport
        self.commands: list[tuple[int, int, bytes]] = []
        """Class, command and data of each command, in order."""
        self.chains: list[list[tuple[int, int, int]]] = []
        """The segments each came in: address, length, flags."""
        self.presets: list[int] = []
        """What stood where the acknowledgement goes."""
        self.status: list[int] = []
        """The device status at each command."""
        self.refuse: set[tuple[int, int]] = set()
        """Classes and commands that are answered with ERR."""
        self.results: dict[tuple[int, int], bytes] = {}
        self.used_length: int | None = None
        """What the used elements say, where that is not what was written."""
        self.ring: HandRing | None = None

    def __call__(self, index: int) -> None:
        if self.ring is None:
            at = self.transport.rings[index]
            self.ring = HandRing(self.memory, at.num, at.desc, at.avail, at.used)
        while self.ring.pending():
            head = self.ring.take()
            request = self.ring.read_buffer(head)
            chain = self.ring.chain(head)
            kind = (request[0], request[1])
            self.commands.append((*kind, request[2:]))
            self.chains.append(chain)
            self.presets.append(self.memory.read(next(gpa for gpa, _, flags in chain if flags & 2), 1)[0])
            self.status.append(self.transport.status)
            answer = b"\1" if kind in self.refuse else b"\0" + self.results.get(kind, b"")
            self.ring.write_buffer(head, answer)
            self.ring.use(head, len(answer) if self.used_length is None else self.used_length)

    def take(self) -> list[tuple[int, int, bytes]]:
        """The commands since the last look."""
        commands, self.commands = self.commands, []
        return commands
