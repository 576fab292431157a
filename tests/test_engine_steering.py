"""Automatic steering in the loop: what the guest sends decides where answers come in (MQ-D-04 to MQ-D-06)."""

from __future__ import annotations

import pytest

from netemu import Nic
from netemu.driver.eras import ERAS
from tests.hashing import packed, port_pair
from tests.wire import TCP, UDP, ipv4, ipv6

SECOND = 1_000_000_000


def conversation(number: int, *, answer: bool) -> bytes:
    """A frame of one of many conversations between the guest and others, in either direction."""
    protocol = TCP if number % 2 else UDP
    if number % 3:
        guest, other = packed("10.0.0.1"), packed(f"192.0.2.{number}")
    else:
        guest, other = packed("2001:db8::1"), packed(f"2001:db8::2:{number:x}")
    ports = port_pair(443, 5000 + number) if answer else port_pair(5000 + number, 443)
    addresses = other + guest if answer else guest + other
    make = ipv4 if number % 3 else ipv6
    return make(ports + bytes(40), protocol, addresses=addresses)


QUESTIONS = [conversation(number, answer=False) for number in range(1, 101)]
ANSWERS = [conversation(number, answer=True) for number in range(1, 101)]


@pytest.mark.parametrize("driver", ERAS)
def test_mq_d_05_answers_come_in_on_the_queue_the_question_left_by(driver: str) -> None:
    """MQ-D-04, MQ-D-05: of each of a hundred conversations, asked on two queues before four were there to answer on."""
    nic = Nic(queues=4, driver=driver)
    assert nic.driver.control.virtnet_set_queues(2)
    left_by = [sent.queue for sent in nic.send(QUESTIONS, tstamp=SECOND)]
    assert set(left_by) == {0, 1}
    assert nic.driver.control.virtnet_set_queues(4)
    untold = [one.skb.queue for one in Nic(queues=4, driver=driver).receive(ANSWERS)]
    assert set(untold) == {0, 1, 2, 3}
    assert [one.skb.queue for one in nic.receive(ANSWERS, tstamp=2 * SECOND)] == left_by


def test_mq_d_06_what_was_sent_long_ago_counts_no_more() -> None:
    """MQ-D-06: after three seconds a flow goes by its hash again, as one that was never sent."""
    nic = Nic(queues=4)
    untold = [one.skb.queue for one in Nic(queues=4).receive(ANSWERS)]
    assert nic.driver.control.virtnet_set_queues(2)
    nic.send(QUESTIONS, tstamp=SECOND)
    assert nic.driver.control.virtnet_set_queues(4)
    assert [one.skb.queue for one in nic.receive(ANSWERS, tstamp=4 * SECOND)] == untold


def test_rss_d_03_under_rss_nothing_is_learned_from_what_is_sent() -> None:
    """RSS-D-03, MQ-B-01."""
    nic = Nic(queues=4, rss="on")
    before = [one.skb.queue for one in nic.receive(ANSWERS)]
    nic.send(QUESTIONS)
    assert [one.skb.queue for one in nic.receive(ANSWERS)] == before


def test_mq_d_03_with_fewer_queues_answers_stay_within_them() -> None:
    """MQ-D-03: although the questions left by others."""
    nic = Nic(queues=4)
    nic.send(QUESTIONS, tstamp=SECOND)
    assert nic.driver.control.virtnet_set_queues(2)
    assert {one.skb.queue for one in nic.receive(ANSWERS, tstamp=SECOND)} == {0, 1}
