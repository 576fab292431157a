"""Why a frame leaves the offload processing as it came, or not at all: a closed set, each with words and a counter."""

from __future__ import annotations

from enum import IntEnum

WHOLE = 0
NOT_IP = 1
OTHER_PROTOCOL = 2
FRAGMENT = 3
NO_CHECKSUM = 4
NO_NEED = 5
SNAPPED = 6
MALFORMED = 7
ROUTED = 8
WRONG_CHECKSUM = 9
WRONG_IP_CHECKSUM = 10
TOO_LONG = 11
NO_ROOM = 12
BAD_CSUM_START = 13
BAD_GSO = 14
BAD_TUNNEL = 15
NEVER_MERGED = 16

WORDS = {
    WHOLE: "nothing is left to do",
    NOT_IP: "neither IPv4 nor IPv6",
    OTHER_PROTOCOL: "neither TCP nor UDP",
    FRAGMENT: "a fragment of an IP packet",
    NO_CHECKSUM: "UDP without a checksum",
    NO_NEED: "taken as complete: it came without a header, and is not to be judged",
    SNAPPED: "the capture does not hold all of it",
    MALFORMED: "headers or lengths do not fit together",
    ROUTED: "source routing: its checksum is made for an address further on",
    WRONG_CHECKSUM: "its TCP or UDP checksum is wrong, and not one left to hardware",
    WRONG_IP_CHECKSUM: "its IPv4 header checksum is wrong",
    TOO_LONG: "longer than the MTU, and of no kind that can be cut",
    NO_ROOM: "its headers leave no room for data under the MTU",
    BAD_CSUM_START: "the checksum its header asks for lies outside of it",
    BAD_GSO: "its header asks for a segmentation that does not fit it",
    NEVER_MERGED: "of a kind that is not merged: UDP (unless asked for), or IPv4 with options",
    BAD_TUNNEL: "the tunnel fields of its header contradict each other",
}


class Why(IntEnum):
    """The numbers above, as members; ``words`` and ``key`` for people and programs."""

    WHOLE = WHOLE
    NOT_IP = NOT_IP
    OTHER_PROTOCOL = OTHER_PROTOCOL
    FRAGMENT = FRAGMENT
    NO_CHECKSUM = NO_CHECKSUM
    NO_NEED = NO_NEED
    SNAPPED = SNAPPED
    MALFORMED = MALFORMED
    ROUTED = ROUTED
    WRONG_CHECKSUM = WRONG_CHECKSUM
    WRONG_IP_CHECKSUM = WRONG_IP_CHECKSUM
    TOO_LONG = TOO_LONG
    NO_ROOM = NO_ROOM
    BAD_CSUM_START = BAD_CSUM_START
    BAD_GSO = BAD_GSO
    BAD_TUNNEL = BAD_TUNNEL
    NEVER_MERGED = NEVER_MERGED

    @property
    def key(self) -> str:
        """Its name in ``--json``."""
        return self.name.lower()

    @property
    def words(self) -> str:
        """What it means, for people."""
        return WORDS[self.value]

    @property
    def doubtful(self) -> bool:
        """Whether something is the matter with such a frame; the others need nothing done."""
        return SNAPPED <= self.value <= BAD_TUNNEL

    @property
    def refused(self) -> bool:
        """Whether such a frame is dropped: its virtio-net header is one that a device must not accept."""
        return BAD_CSUM_START <= self.value <= BAD_TUNNEL
