"""The numbers of the two capture formats, pcap and pcapng, and the names of link types.

Sources: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng), and the LINKTYPE list of tcpdump.org.
"""

from __future__ import annotations

NSEC_PER_SEC = 1_000_000_000
INT64_MAX = (1 << 63) - 1

MAX_FRAME = 262144
"""Most bytes of one captured frame, in and out: what libpcap and Wireshark take too. BIG TCP frames of 80 kB fit."""

# pcap
PCAP_MAGIC_USEC = 0xA1B2C3D4
PCAP_MAGIC_NSEC = 0xA1B23C4D
PCAP_MAGIC_MODIFIED = 0xA1B2CD34
"""A patched libpcap's, microseconds: 8 bytes more in every record header."""
PCAP_FILE_HEADER = 24
PCAP_RECORD_HEADER = 16
PCAP_MODIFIED_RECORD_HEADER = 24

# pcapng: block types, and bytes of a block in front of the frame
BLOCK_SECTION = 0x0A0D0D0A
BLOCK_INTERFACE = 1
BLOCK_PACKET = 2
BLOCK_SIMPLE_PACKET = 3
BLOCK_STATISTICS = 5
BLOCK_ENHANCED_PACKET = 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
BLOCK_OVERHEAD = 12
"""Type, length in front, and length behind."""
ENHANCED_HEADER = 28
"""Of the enhanced and of the obsolete packet block."""
SIMPLE_HEADER = 12

# pcapng: option codes
OPT_END = 0
OPT_COMMENT = 1
SHB_USERAPPL = 4
IF_NAME = 2
IF_DESCRIPTION = 3
IF_TSRESOL = 9
IF_FILTER = 11
IF_OS = 12
IF_TSOFFSET = 14
IF_HARDWARE = 15
EPB_FLAGS = 2
EPB_HASH = 3
EPB_DROPCOUNT = 4
EPB_PACKETID = 5
EPB_QUEUE = 6
EPB_VERDICT = 7
ISB_STARTTIME = 2
ISB_ENDTIME = 3
ISB_IFRECV = 4
ISB_IFDROP = 5
ISB_FILTERACCEPT = 6
ISB_OSDROP = 7
ISB_USRDELIV = 8

HASH_TOEPLITZ = 5
"""The first octet of epb_hash: the algorithm. The hash follows, most significant octet first."""

VERDICT_XDP = 2
"""The first octet of epb_verdict: the kind of program. What it returned follows, 64 bits."""
XDP_PASS = 2

FLAG_INBOUND = 1
FLAG_OUTBOUND = 2
"""Values of bits 0 and 1 of epb_flags."""

LINKTYPE_ETHERNET = 1
LINKTYPE_USER0 = 147
LINKTYPE_NAMES = {
    0: "NULL",
    1: "ETHERNET",
    6: "IEEE802_5",
    9: "PPP",
    10: "FDDI",
    50: "PPP_HDLC",
    51: "PPP_ETHER",
    100: "ATM_RFC1483",
    101: "RAW",
    104: "C_HDLC",
    105: "IEEE802_11",
    107: "FRELAY",
    108: "LOOP",
    113: "LINUX_SLL",
    117: "PFLOG",
    119: "IEEE802_11_PRISM",
    127: "IEEE802_11_RADIOTAP",
    147: "USER0",
    189: "USB_LINUX",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    197: "ERF",
    220: "USB_LINUX_MMAPPED",
    227: "CAN_SOCKETCAN",
    228: "IPV4",
    229: "IPV6",
    239: "NFLOG",
    249: "USBPCAP",
    251: "BLUETOOTH_LE_LL",
    253: "NETLINK",
    271: "VSOCK",
    272: "NORDIC_BLE",
    276: "LINUX_SLL2",
}


def link_type_name(link_type: int) -> str:
    """The LINKTYPE's name and number, as in ``ETHERNET (1)``; the number alone where the table has no name for it."""
    name = LINKTYPE_NAMES.get(link_type)
    return f"number {link_type}" if name is None else f"{name} ({link_type})"
