"""What may be old, forged or wrong: RFC 5961, PAWS (RFC 7323), ICMP (RFC 5927), and what runs out."""

from __future__ import annotations

import struct

import pytest

from netemu.stack.tcp import tcb as tcbs
from netemu.stack.tcp.sockets import TcpSocket
from tests.host_kit import MAC, PEER_MAC
from tests.tcp_kit import OWN, PEER, TcpBench, mss, number, stamp

# Codes of Destination Unreachable (RFC 792, RFC 1191).
HOST_UNREACHABLE, PORT_UNREACHABLE, FRAGMENTATION_NEEDED = 1, 3, 4


class TestBlindAttacks:
    def test_a_reset_counts_only_at_the_next_number(self) -> None:
        """RFC 5961 section 3.2: elsewhere in the window it is challenged, outside it is dropped."""
        b = TcpBench()
        sock = b.accepted()
        b.inject("R", 2)
        b.expect(".", 1, 1)
        b.inject("R", 1 + 65535)
        b.inject("R", -3)
        b.quiet()
        assert sock.state == "ESTABLISHED"
        assert b.moved()["TcpExtTCPChallengeACK"] == 1
        b.inject("R", 1)
        assert sock.state == "CLOSED"

    @pytest.mark.parametrize("seq", [1, 500, -500], ids=["next", "in-window", "old"])
    def test_a_syn_is_challenged(self, seq: int) -> None:
        """RFC 5961 section 4.2: whatever its number."""
        b = TcpBench()
        sock = b.accepted()
        b.inject("S", seq)
        b.expect(".", 1, 1)
        assert sock.state == "ESTABLISHED"
        assert b.moved()["TcpExtTCPSYNChallenge"] == 1

    def test_an_ack_of_what_was_not_sent_is_answered_and_dropped(self) -> None:
        """RFC 9293 section 3.10.7.4, fifth: with its text."""
        b = TcpBench()
        sock = b.accepted()
        b.inject("P.", 1, 500, data=b"forged")
        b.expect(".", 1, 1)
        assert sock.read() is None

    def test_an_ack_from_long_ago_is_challenged_and_dropped(self) -> None:
        """RFC 5961 section 5.2: more than the largest window back."""
        b = TcpBench()
        sock = b.accepted()
        b.inject("P.", 1, 1 - 200_000, data=b"forged")
        b.expect(".", 1, 1)
        assert sock.read() is None
        assert b.moved()["TcpExtTCPChallengeACK"] == 1

    def test_bare_segments_outside_the_window_are_answered_twice_a_second(self) -> None:
        """As Linux: else two ends that disagree on where they are answer each other without end."""
        b = TcpBench()
        b.accepted()
        for _ in range(3):
            b.inject(".", -500, 1)
        assert len(b.collect()) == 1
        assert b.moved()["TcpExtTCPACKSkippedSeq"] == 2
        b.inject("P.", -500, 1, data=b"old")
        assert len(b.collect()) == 2
        b.after(500)
        b.inject(".", -500, 1)
        assert len(b.collect()) == 3

    def test_challenges_are_limited(self) -> None:
        """RFC 5961 section 7: as many in a second as the settings say."""
        b = TcpBench(challenge_acks=3)
        b.accepted()
        for _ in range(10):
            b.inject("R", 2)
        assert len(b.collect()) == 3
        b.after(1000)
        b.inject("R", 2)
        assert len(b.collect()) == 4

    def test_old_text_is_acknowledged_and_not_taken_twice(self) -> None:
        b = TcpBench()
        sock = b.accepted()
        b.inject("P.", 1, 1, data=b"once")
        assert sock.read() == b"once"
        b.after(50)
        b.expect(".", 1, 5)
        b.inject("P.", 1, 1, data=b"once")
        b.expect(".", 1, 5)
        b.inject("P.", 3, 1, data=b"ce, more")
        assert sock.read() == b", more"

    def test_without_ack_a_segment_is_dropped(self) -> None:
        b = TcpBench()
        sock = b.accepted()
        b.inject("P", 1, data=b"x")
        b.quiet()
        assert sock.read() is None


class TestTimestamps:
    def test_paws_drops_what_is_older(self) -> None:
        """RFC 7323 section 5.3, R1: acknowledged and dropped."""
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(1000, 0)])
        b.inject("P.", 1, 1, data=b"old", opts=[stamp(999, 0)])
        b.expect(".", 1, 1)
        assert sock.read() is None
        assert b.moved()["TcpExtPAWSEstab"] == 1
        b.inject("P.", 1, 1, data=b"new", opts=[stamp(1001, 0)])
        assert sock.read() == b"new"

    def test_paws_counts_modulo_2_to_the_32(self) -> None:
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(0xFFFFFFFF, 0)])
        b.inject("P.", 1, 1, data=b"wrapped", opts=[stamp(3, 0)])
        assert sock.read() == b"wrapped"

    def test_after_24_days_paws_believes(self) -> None:
        """RFC 7323 section 5.5."""
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(1000, 0)])
        b.after(25 * 24 * 3600 * 1000)
        b.inject("P.", 1, 1, data=b"late", opts=[stamp(5, 0)])
        assert sock.read() == b"late"

    def test_a_reset_needs_no_timestamp(self) -> None:
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(1000, 0)])
        b.inject("R", 1)
        assert sock.state == "CLOSED"

    def test_a_segment_without_the_timestamp_that_was_agreed_on_is_dropped(self) -> None:
        """RFC 7323 section 3.2."""
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(1000, 0)])
        b.inject("P.", 1, 1, data=b"x")
        b.quiet()
        assert sock.read() is None


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp(b: TcpBench, sock: TcpSocket, code: int, mtu: int = 0, *, seq: int | None = None) -> None:
    """Destination Unreachable comes from the peer, about the host's segment at SND.UNA, or at ``seq``."""
    tcb = sock.tcb
    quoted = struct.pack("!BBHHHBBHII", 0x45, 0, 1500, 1, 0x4000, 64, 6, 0, number(OWN), number(PEER))
    quoted += struct.pack("!HHI", tcb.local_port, tcb.remote_port, (tcb.snd_una if seq is None else seq) & 0xFFFFFFFF)
    message = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quoted
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(message), 1, 0, 64, 1, 0, number(PEER), number(OWN))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    b.receive(MAC + PEER_MAC + b"\x08\x00" + ip + message)


class TestIcmp:
    def test_a_port_that_nobody_has_ends_an_opening(self) -> None:
        b = TcpBench()
        sock = b.connecting()
        icmp(b, sock, PORT_UNREACHABLE)
        assert (sock.state, sock.error_code) == ("CLOSED", tcbs.ERROR_REFUSED)

    def test_a_host_that_nobody_finds_ends_an_opening(self) -> None:
        b = TcpBench()
        sock = b.connecting()
        icmp(b, sock, HOST_UNREACHABLE)
        assert (sock.state, sock.error) == ("CLOSED", "no route to host")

    def test_a_connection_that_stands_takes_it_as_a_hint(self) -> None:
        """RFC 5927 section 5.2, RFC 1122 section 4.2.3.9."""
        b = TcpBench()
        sock = b.accepted()
        sock.write(b"x")
        icmp(b, sock, PORT_UNREACHABLE)
        assert sock.state == "ESTABLISHED"
        assert sock.tcb.soft_error == tcbs.ERROR_REFUSED

    def test_what_quotes_no_segment_under_way_is_ignored(self) -> None:
        """RFC 5927 section 4.1."""
        b = TcpBench()
        sock = b.connecting()
        icmp(b, sock, PORT_UNREACHABLE, seq=sock.tcb.iss + 9)
        assert sock.state == "SYN-SENT"
        assert b.moved()["TcpExtOutOfWindowIcmps"] == 1

    def test_too_big_makes_segments_smaller_and_sends_again(self) -> None:
        """RFC 1191 section 6.4: no loss, no smaller window; 1400 - 40 bytes of payload."""
        b = TcpBench()
        sock = b.accepted()
        sock.write(bytes(2920))
        b.expect(".", 1, 1, length=1460)
        b.expect("P.", 1461, 1, length=1460)
        cwnd = sock.info()["cwnd"]
        icmp(b, sock, FRAGMENTATION_NEEDED, 1400)
        b.expect(".", 1, 1, length=1360)
        b.expect(".", 1361, 1, length=1360)
        b.expect("P.", 2721, 1, length=200)
        assert sock.info()["cwnd"] == cwnd

    def test_a_path_that_takes_less_than_552_is_not_believed(self) -> None:
        b = TcpBench()
        sock = b.accepted()
        sock.write(bytes(100))
        icmp(b, sock, FRAGMENTATION_NEEDED, 68)
        assert sock.tcb.mss == 512

    @pytest.mark.parametrize("probing", [0, 1], ids=["black-hole", "tcp_mtu_probing"])
    def test_a_silent_path(self, probing: int) -> None:
        """A path that drops long segments and says nothing stays a black hole, or segments get smaller (RFC 4821)."""
        b = TcpBench(mtu_probing=probing)
        sock = b.accepted()
        sock.write(bytes(1460))
        b.after(200 * (1 + 2 + 4 + 8) + 10)
        longest = [len(seg.data) for seg in b.collect()]
        assert longest[:3] == [1460, 1460, 1460]
        assert longest[3] == (1024 if probing else 1460)


class TestLimits:
    def test_the_backlog_is_kept(self) -> None:
        b = TcpBench()
        listener = b.sockets.listen(80, backlog=2)
        for port in range(4):
            b.sport, b.isn = 1000 + port, None
            b.inject("S", 0)
        assert len(b.collect()) == 2
        moved = b.moved()
        assert (moved["TcpExtListenOverflows"], moved["TcpExtListenDrops"]) == (2, 2)
        assert listener.tcb.embryos == 2

    def test_a_syn_without_a_free_tcb_is_dropped(self) -> None:
        b = TcpBench(connections=3)
        b.listen()
        for port in range(4):
            b.sport, b.isn = 1000 + port, None
            b.inject("S", 0)
        assert len(b.collect()) == 2
        assert b.moved()["TcpExtListenDrops"] == 2

    def test_two_listeners_at_a_port_are_refused(self) -> None:
        b = TcpBench()
        b.listen()
        with pytest.raises(Exception, match="port 80 is in use"):
            b.listen()
        assert b.sockets.listen(80 + 64).state == "LISTEN"

    def test_no_route(self) -> None:
        b = TcpBench()
        with pytest.raises(Exception, match="no route to host"):
            b.sockets.connect((0, 0xFFFF_0000_0000 | number("172.16.0.1")), 80)
        assert b.sockets.table.free_count == b.sockets.table.total

    def test_keepalive(self) -> None:
        """RFC 9293 section 3.8.4: a probe at SND.UNA - 1; a peer that does not answer for long is given up."""
        b = TcpBench(keepalive=10_000_000_000, keepalive_interval=1_000_000_000, keepalive_probes=2)
        sock = b.accepted()
        b.after(9_999)
        b.quiet()
        b.after(1)
        b.expect(".", 0, 1)
        b.inject(".", 1, 1)
        b.after(10_000)
        b.expect(".", 0, 1)
        b.after(1000)
        b.expect(".", 0, 1)
        b.after(1000)
        b.expect("R.", 1)
        assert (sock.state, sock.error) == ("CLOSED", "connection timed out")

    def test_events_come_on_the_list_once(self) -> None:
        b = TcpBench()
        sock = b.accepted()
        sock.handle = 7
        sock.events()
        b.inject("P.", 1, 1, data=b"a")
        b.inject("P.", 2, 1, data=b"b")
        assert b.ready.take() == [7]
        assert sock.events() == tcbs.EVENT_READABLE
        b.inject("P.", 3, 1, data=b"c")
        assert b.ready.take() == [7]

    def test_room_to_write_is_told_after_it_was_missed(self) -> None:
        b = TcpBench(send_buffer=3000)
        sock = b.accepted([mss(1000)])
        sock.handle = 7
        sock.events()
        assert sock.write(bytes(5000)) == 3000
        b.inject(".", 1, 1001)
        assert b.ready.take() == [7]
        assert sock.events() & tcbs.EVENT_WRITABLE
