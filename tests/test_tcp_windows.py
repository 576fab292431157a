"""Windows, and what is held back: RFC 9293 sections 3.7.4 and 3.8.6, RFC 7323 section 2, delayed ACKs, TSO."""

from __future__ import annotations

import pytest

from tests.tcp_kit import SACK_OK, TcpBench, mss, stamp, wscale

MSS = 1000


class TestNagle:
    def test_one_small_segment_at_a_time(self) -> None:
        """Section 3.7.4: what is not full waits while something that was not full is not acknowledged."""
        b = TcpBench()
        sock = b.accepted([mss(MSS)])
        sock.write(b"a")
        b.expect("P.", 1, 1, data=b"a")
        sock.write(b"b")
        sock.write(b"c")
        b.quiet()
        b.inject(".", 1, 2)
        b.expect("P.", 2, 1, data=b"bc")

    def test_full_segments_do_not_wait(self) -> None:
        b = TcpBench()
        sock = b.accepted([mss(MSS)])
        sock.write(b"a")
        b.expect("P.", 1, 1, data=b"a")
        sock.write(bytes(MSS + 1))
        b.expect(".", 2, 1, length=MSS)
        b.quiet()

    def test_without_it_each_write_goes(self) -> None:
        b = TcpBench(nodelay=1)
        sock = b.accepted([mss(MSS)])
        for n in range(3):
            sock.write(b"x")
            b.expect("P.", 1 + n, 1, length=1)

    def test_the_end_does_not_wait(self) -> None:
        b = TcpBench()
        sock = b.accepted([mss(MSS)])
        sock.write(b"a")
        sock.write(b"b")
        sock.shutdown()
        b.expect("P.", 1, 1, data=b"a")
        b.expect("FP.", 2, 1, data=b"b")


class TestPeersWindow:
    def test_no_more_than_the_window(self) -> None:
        b = TcpBench()
        sock = b.accepted([mss(MSS)], win=2500)
        sock.write(bytes(5000))
        b.expect(".", 1, 1, length=MSS)
        b.expect(".", 1001, 1, length=MSS)
        b.quiet()
        b.inject(".", 1, 1001, win=2500)
        b.expect(".", 2001, 1, length=MSS)

    @pytest.mark.parametrize("answered", [True, False])
    def test_a_closed_window_is_probed_ever_more_slowly(self, *, answered: bool) -> None:
        """Section 3.8.6.1 (MUST-36, SHLD-29, SHLD-30): after the timeout, then twice as long."""
        b = TcpBench()
        sock = b.accepted([mss(MSS)], win=0)
        sock.write(bytes(3000))
        b.quiet()
        for n in range(6):
            b.after(200.001 * 2**n - 1)
            b.quiet()
            b.after(1)
            b.expect(".", 0, 1)
            if answered:
                b.inject(".", 1, 1, win=0)
        assert b.moved()["TcpExtTCPWinProbe"] == 6
        assert sock.state == "ESTABLISHED"

    def test_a_window_that_stays_closed_is_no_reason_to_give_up(self) -> None:
        """Section 3.8.6.1 (MUST-37): as long as probes are answered."""
        b = TcpBench()
        sock = b.accepted([mss(MSS)], win=0)
        sock.write(bytes(3000))
        for _ in range(60):
            b.after(60_000)
            if b.collect():
                b.segments.clear()
                b.inject(".", 1, 1, win=0)
        assert sock.state == "ESTABLISHED"

    def test_the_window_opens_again(self) -> None:
        b = TcpBench()
        sock = b.accepted([mss(MSS)], win=0)
        sock.write(bytes(2000))
        b.after(201)
        b.expect(".", 0, 1)
        b.inject(".", 1, 1, win=5000)
        b.expect(".", 1, 1, length=MSS)
        b.expect("P.", 1001, 1, length=MSS)
        b.inject(".", 1, 2001, win=5000)
        b.after(60_000)
        b.quiet()

    def test_a_silly_window_is_not_filled_but_for_the_timer(self) -> None:
        """Section 3.8.6.2.1: less than a segment and than half of the largest window waits for the override timeout."""
        b = TcpBench()
        sock = b.accepted([mss(MSS)], win=4000)
        sock.write(bytes(9000))
        for n in range(4):
            b.expect(".", 1 + n * MSS, 1, length=MSS)
        b.inject(".", 1, 4001, win=300)
        b.quiet()
        b.after(201)
        b.expect(".", 4001, 1, length=300)

    def test_an_older_segment_does_not_change_the_window(self) -> None:
        """Section 3.10.7.4, fifth: SND.WL1 and SND.WL2."""
        b = TcpBench()
        sock = b.accepted([mss(MSS)])
        b.inject("P.", 1, 1, data=b"abc", win=5000)
        assert sock.tcb.snd_wnd == 5000
        b.inject(".", 1, 1, win=100)
        assert sock.tcb.snd_wnd == 5000
        b.inject(".", 4, 1, win=200)
        assert sock.tcb.snd_wnd == 200

    def test_windows_are_scaled_but_not_in_a_syn(self) -> None:
        """RFC 7323 section 2.2."""
        b = TcpBench(window_scaling=1, receive_buffer=1 << 20)
        listener = b.listen()
        b.inject("S", 0, opts=[mss(MSS), wscale(7)], win=1000)
        answer = b.expect("S.", 0, 1, win=65535)
        assert (3, b"\x05") in answer.opts  # 1 MiB >> 5 fits into 16 bits, >> 4 does not
        b.inject(".", 1, 1, win=1000)
        sock = listener.accept()
        assert sock is not None
        assert sock.tcb.snd_wnd == 128_000

    def test_no_scaling_unless_both_want_it(self) -> None:
        b = TcpBench(window_scaling=1, receive_buffer=1 << 20)
        sock = b.accepted([mss(MSS)], win=1000)
        assert (sock.tcb.snd_wnd, sock.tcb.rcv_scale) == (1000, 0)


class TestOurWindow:
    def test_it_closes_and_an_update_tells_when_it_opens(self) -> None:
        """Section 3.8.6.2.2: the right edge stays until it can move by a segment or half the buffer."""
        b = TcpBench(receive_buffer=4000)
        sock = b.accepted([mss(MSS)])
        for n in range(4):
            b.inject(".", 1 + n * MSS, 1, data=MSS)
        wins = [seg.win for seg in b.collect()]
        assert wins[-1] == 0
        b.segments.clear()
        assert sock.read(500) == bytes(500)
        b.quiet()
        assert sock.read(1500) == bytes(1500)
        b.expect(".", 1, 4001, win=2000)
        moved = b.moved()
        assert (moved["TcpExtTCPToZeroWindowAdv"], moved["TcpExtTCPFromZeroWindowAdv"]) == (1, 1)

    def test_a_probe_of_a_closed_window_is_answered_and_not_taken(self) -> None:
        """Section 3.10.7.4, first: no text is acceptable, the ACK is."""
        b = TcpBench(receive_buffer=1000)
        sock = b.accepted([mss(MSS)])
        b.inject(".", 1, 1, data=1000)
        b.collect()
        b.segments.clear()
        b.inject(".", 1001, 1, data=b"!")
        b.expect(".", 1, 1001, win=0)
        assert sock.read() == bytes(1000)
        assert sock.read() is None

    def test_what_lies_beyond_the_window_is_cut_off(self) -> None:
        b = TcpBench(receive_buffer=1000)
        sock = b.accepted([mss(MSS)])
        b.inject("P.", 1, 1, data=b"z" * 1500)
        b.expect(".", 1, 1001)
        assert sock.read(5000) == b"z" * 1000


class TestDelayedAcks:
    def test_every_second_full_segment_at_once(self) -> None:
        """RFC 5681 section 4.2."""
        b = TcpBench()
        b.accepted([mss(MSS)])
        b.inject(".", 1, 1, data=MSS)
        b.quiet()
        b.inject(".", 1001, 1, data=MSS)
        b.expect(".", 1, 2001)

    def test_one_alone_after_40_ms(self) -> None:
        b = TcpBench()
        b.accepted([mss(MSS)])
        b.inject("P.", 1, 1, data=b"x")
        b.after(39.9)
        b.quiet()
        b.after(0.2)
        b.expect(".", 1, 2)
        assert b.moved()["TcpExtDelayedACKs"] == 1

    def test_data_takes_it_along(self) -> None:
        b = TcpBench()
        sock = b.accepted([mss(MSS)])
        b.inject("P.", 1, 1, data=b"ask")
        sock.write(b"answer")
        b.expect("P.", 1, 4, data=b"answer")
        b.after(50)
        b.quiet()

    def test_the_first_segments_are_acknowledged_at_once(self) -> None:
        b = TcpBench(quick_acks=3)
        b.accepted([mss(MSS)])
        for n in range(3):
            b.inject("P.", 1 + n, 1, data=b"x")
            b.expect(".", 1, 2 + n)
        b.inject("P.", 4, 1, data=b"x")
        b.quiet()

    def test_a_gap_that_is_filled_is_acknowledged_at_once(self) -> None:
        b = TcpBench()
        b.accepted([mss(MSS)])
        b.inject("P.", 3, 1, data=b"x")
        b.expect(".", 1, 1)
        b.inject("P.", 1, 1, data=b"ab")
        b.expect(".", 1, 4)


class TestSegmentsAndOptions:
    @pytest.mark.parametrize(
        ("opts", "settings", "expected"),
        [
            ([], {}, 536),
            ([mss(1200)], {}, 1200),
            ([mss(9000)], {}, 1460),
            ([mss(1460), stamp(1, 0)], {"timestamps": 1}, 1448),
        ],
        ids=["no-option", "smaller", "larger", "timestamps"],
    )
    def test_payload_of_a_full_segment(
        self, opts: list[tuple[int, bytes]], settings: dict[str, int], expected: int
    ) -> None:
        """Section 3.7.1 (536 without the option); RFC 6691: options come off."""
        b = TcpBench(timestamps=settings.get("timestamps", 0))
        sock = b.accepted(opts)
        assert sock.tcb.mss == expected

    def test_a_syn_offers_all_and_the_answer_what_was_asked(self) -> None:
        b = TcpBench(timestamps=1, sack=1, window_scaling=1)
        sock = b.sockets.connect((0, 0xFFFF0A090002), 8080)
        sent = b.collect().pop()
        assert [kind for kind, _ in sent.opts] == [2, 4, 8, 3]
        assert sock.state == "SYN-SENT"
        b = TcpBench(timestamps=1, sack=1, window_scaling=1)
        b.listen()
        b.inject("S", 0, opts=[mss(1460), SACK_OK])
        assert [kind for kind, _ in b.expect("S.", 0, 1).opts] == [2, 4]

    def test_timestamps_are_echoed(self) -> None:
        """RFC 7323 section 3.2 and 4.3: of the segment that the acknowledgement answers first."""
        b = TcpBench(timestamps=1)
        sock = b.accepted([mss(1460), stamp(1000, 0)])
        b.inject("P.", 1, 1, data=b"x", opts=[stamp(1005, 0)])
        b.inject("P.", 2, 1, data=b"y", opts=[stamp(1009, 0)])
        b.after(40)
        answer = b.expect(".", 1, 3)
        assert answer.timestamps is not None
        assert answer.timestamps[1] == 1005
        assert sock.read() == b"xy"

    def test_a_segmenting_interface_gets_large_frames(self) -> None:
        b = TcpBench(offloads=3, send_buffer=1 << 17)
        sock = b.accepted([mss(MSS)])
        sock.write(bytes(12_500))
        seg = b.expect(".", 1, 1, length=10_000)
        assert seg.gso_size == MSS
        assert b.moved()["TcpOutSegs"] == 11
        b.inject(".", 1, 10_001)
        tail = b.expect("P.", 10_001, 1, length=2500)
        assert tail.gso_size == MSS

    def test_large_frames_are_waited_for(self) -> None:
        """While most of the window is under way, less than a third of it does not go."""
        b = TcpBench(offloads=3, send_buffer=1 << 17)
        sock = b.accepted([mss(MSS)])
        sock.write(bytes(40_000))
        b.expect(".", 1, 1, length=10_000)
        b.inject(".", 1, 1001)
        b.quiet()
        b.inject(".", 1, 4001)
        assert len(b.expect(".", 10_001, 1, length=8000).data) == 8000
