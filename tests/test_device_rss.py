"""RSS and hash configuration through the control queue, and the queue that follows from it (areas RSS, HCFG, MQ)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.receive import BROKEN, RECEIVED, publish, receive_frame
from netemu.device.rss import Rss
from netemu.device.steering import Steerer, flow_learn, select_queue, steer
from netemu.errors import ConfigError
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HashConfig, RssConfig
from tests import control_kit as k
from tests.control_kit import ControlHand
from tests.device_kit import MQ, Ring
from tests.hashing import (
    HASH_REPORT,
    HASH_TUNNEL,
    IPV4,
    KEY,
    NONE,
    RSS,
    TCPV4,
    UDPV4,
    Exact,
    net_config,
    packed,
    port_pair,
    toeplitz_by_bits,
    types,
)
from tests.wire import ICMP, TCP, UDP, ethernet, ipv4

ALL_V4 = types(IPV4, TCPV4, UDPV4)
RING_RESET = 40
SECOND = 1_000_000_000


def device(*bits: int, pairs: int = 4, supported: int = 0x1FF) -> ControlHand:
    """A live device with these features, configured by hand."""
    config = net_config(max_virtqueue_pairs=pairs, supported_hash_types=supported)
    return ControlHand(*bits, pairs=pairs, config=config)


def rss_bytes(
    hash_types: int = ALL_V4,
    table: tuple[int, ...] = (0, 1, 2, 3),
    unclassified: int = 0,
    max_tx: int = 4,
    key: bytes = KEY,
    mask: int | None = None,
) -> bytes:
    """struct virtio_net_rss_config, by its layout in section E."""
    head = struct.pack("<IHH", hash_types, len(table) - 1 if mask is None else mask, unclassified)
    return head + struct.pack(f"<{len(table)}H", *table) + struct.pack("<HB", max_tx, len(key)) + key


def hash_bytes(hash_types: int = ALL_V4, key: bytes = KEY) -> bytes:
    """struct virtio_net_hash_config."""
    return struct.pack("<I4HB", hash_types, 0, 0, 0, 0, len(key)) + key


def queue_of(net: ControlHand, data: bytes, now: int = 0) -> int:
    frame = Exact(data)
    return int(select_queue(net.device.steering.state.address, frame.address, frame.size, now))


def sent(net: ControlHand, data: bytes, queue: int, now: int = 0) -> None:
    """The guest sends a frame on a transmit queue."""
    frame = Exact(data)
    flow_learn(net.device.steering.state.address, frame.address, frame.size, queue, now)


def receive(net: ControlHand, queue: int, data: bytes) -> int:
    """Bring a frame to a queue: what `receive_frame` says."""
    frame = Exact(data)
    return int(receive_frame(net.device.queues[2 * queue], net.side, frame.address, frame.size, 0))


def flow(number: int, *, protocol: int = TCP, back: bool = False) -> bytes:
    """A frame of flow ``number``, or of its other direction."""
    here, there = packed(f"10.0.{number >> 8}.{number & 255}"), packed("192.0.2.1")
    ports = port_pair(1024 + number, 80)
    if back:
        return ipv4(ports[2:] + ports[:2] + bytes(16), protocol, addresses=there + here)
    return ipv4(ports + bytes(16), protocol, addresses=here + there)


def expected_hash(number: int) -> int:
    addresses = packed(f"10.0.{number >> 8}.{number & 255}", "192.0.2.1")
    return toeplitz_by_bits(KEY, addresses + port_pair(1024 + number, 80))


# RSS ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 8, 128])
def test_rss_d_03_the_hash_and_the_mask_choose_the_table_s_entry(size: int) -> None:
    """RSS-D-01, RSS-D-03: the table says 3, 1, 0, 2 over and over, or only 3."""
    net = device(MQ, RSS)
    table = tuple((3, 1, 0, 2)[n % 4] for n in range(size))
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=table))
    for number in range(40):
        assert queue_of(net, flow(number)) == table[expected_hash(number) & (size - 1)]


def test_rss_d_02_without_a_hash_the_unclassified_queue() -> None:
    """RSS-D-02: not IP, or no type enabled that fits."""
    net = device(RSS)
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(types(TCPV4), (0, 1), unclassified=3))
    assert queue_of(net, ethernet(bytes(28), 0x0806)) == 3
    assert queue_of(net, flow(1, protocol=UDP)) == 3
    assert queue_of(net, b"") == 3
    assert queue_of(net, flow(1)) == expected_hash(1) & 1


def test_rss_b_01_entries_are_queue_numbers_and_bit_15_is_reserved() -> None:
    """RSS-B-01, trap T19: entry 1 is receiveq2, whose virtqueue has index 2; an entry with bit 15 is refused."""
    net = device(RSS)
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=(1,)))
    assert queue_of(net, flow(0)) == 1
    assert not net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=(0x8001,)))


REFUSED = [
    pytest.param(rss_bytes(table=(0, 1, 2)), id="RSS-V-03-three-entries"),
    pytest.param(rss_bytes(table=(0,) * 256), id="RSS-V-04-longer-than-the-device-s"),
    pytest.param(rss_bytes(table=(0, 4)), id="RSS-V-02-no-such-queue"),
    pytest.param(rss_bytes(unclassified=4), id="RSS-V-02-unclassified"),
    pytest.param(rss_bytes(hash_types=types(IPV4) | 1 << 9), id="RSS-V-05-undefined-type"),
    pytest.param(rss_bytes(hash_types=types(IPV4) | 1 << 6), id="RSS-V-05-unsupported-type"),
    pytest.param(rss_bytes(max_tx=0), id="RSS-V-06-no-transmit-queue"),
    pytest.param(rss_bytes(max_tx=5), id="RSS-V-06-too-many-transmit-queues"),
    pytest.param(rss_bytes(key=bytes(41)), id="key-too-long"),
    pytest.param(rss_bytes(key=b""), id="no-key"),
    pytest.param(rss_bytes(mask=7), id="fewer-entries-than-the-mask-says"),
    pytest.param(rss_bytes()[:-1], id="key-cut-short"),
    pytest.param(rss_bytes() + b"\0", id="too-long"),
    pytest.param(b"", id="nothing"),
]


@pytest.mark.parametrize("data", REFUSED)
def test_a_configuration_that_breaks_a_rule_is_refused_and_changes_nothing(data: bytes) -> None:
    """RSS-V-02, RSS-V-03, RSS-V-04, RSS-V-05, RSS-V-06 as the device enforces them."""
    net = device(MQ, RSS, supported=0x3F)
    good = rss_bytes(table=(2, 3), unclassified=1)
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, good)
    before = [queue_of(net, flow(number)) for number in range(20)]
    assert not net.accepts(k.MQ_CLASS, k.RSS_CONFIG, data)
    assert [queue_of(net, flow(number)) for number in range(20)] == before
    assert queue_of(net, b"") == 1
    assert set(before) == {2, 3}


@given(st.binary(max_size=120) | st.builds(lambda data: rss_bytes()[:8] + data, st.binary(max_size=80)))
@settings(max_examples=100, deadline=None)
def test_any_data_is_accepted_or_refused_and_queues_stay_in_range(data: bytes) -> None:
    net = device(MQ, RSS)
    net.accepts(k.MQ_CLASS, k.RSS_CONFIG, data)
    assert all(queue_of(net, flow(number)) in range(4) for number in range(4))


def test_rss_v_01_without_the_feature_the_command_does_not_exist() -> None:
    """RSS-V-01: by the control queue, and by the part behind it."""
    net = device(MQ)
    assert not net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes())
    with pytest.raises(ConfigError, match="RSS-V-01"):
        net.device.steering.configure_rss(RssConfig(0, (0,)))


def test_mq_b_01_the_last_mode_command_decides() -> None:
    """MQ-B-01, and MQ-V-06: VQ_PAIRS_SET with 1 ends both."""
    net = device(MQ, RSS)
    assert {queue_of(net, flow(number)) for number in range(50)} == {0}
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=(3,), unclassified=3))
    assert {queue_of(net, flow(number)) for number in range(50)} == {3}
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\2\0")
    assert {queue_of(net, flow(number)) for number in range(50)} == {0, 1}
    assert not net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(max_tx=0))
    assert {queue_of(net, flow(number)) for number in range(50)} == {0, 1}
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=(2,)))
    assert {queue_of(net, flow(number)) for number in range(50)} == {2}
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\1\0")
    assert {queue_of(net, flow(number)) for number in range(50)} == {0}


# The hash in the header --------------------------------------------------------------------------------------------


def header_of(net: ControlHand, data: bytes) -> tuple[int, ...]:
    """hash_value, hash_report and padding in the header of a frame, by their offsets in section D."""
    queue = queue_of(net, data)
    buffer = net.buffer(2048)
    net.rings[2 * queue].post(buffer)
    assert receive(net, queue, data) == RECEIVED
    publish(net.device.queues[2 * queue])
    return struct.unpack_from("<IHH", net.memory.read(buffer.gpa, 20), 12)


def test_hrep_d_01_value_and_report_stand_in_the_header() -> None:
    """HREP-D-01, HREP-D-02, HASH-D-01, HASH-D-04: HASH_CONFIG is enough, with a single pair too (HASH-D-02)."""
    net = device(HASH_REPORT, pairs=1)
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes())
    assert header_of(net, flow(5)) == (expected_hash(5), TCPV4, 0)
    assert header_of(net, flow(5, protocol=ICMP)) == (toeplitz_by_bits(KEY, packed("10.0.0.5", "192.0.2.1")), IPV4, 0)
    assert header_of(net, ethernet(bytes(28), 0x0806)) == (0, NONE, 0)
    assert header_of(net, flow(6)) == (expected_hash(6), TCPV4, 0)


def test_hash_d_03_with_rss_the_rss_configuration_says_what_is_reported() -> None:
    """HASH-D-03, HASH-D-01: its types and key, and HASH_CONFIG is refused while it is in force."""
    net = device(MQ, RSS, HASH_REPORT)
    other_key = bytes(range(1, 41))
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(key=other_key))
    assert not net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes(0))
    addresses = packed("10.0.0.7", "192.0.2.1")
    assert header_of(net, flow(7)) == (toeplitz_by_bits(other_key, addresses + port_pair(1031, 80)), TCPV4, 0)


def test_hcfg_d_01_hash_config_goes_with_automatic_steering() -> None:
    """HCFG-D-01: hashes are reported, queues are chosen as without."""
    net = device(MQ, HASH_REPORT)
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\4\0")
    before = [queue_of(net, flow(number)) for number in range(50)]
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes())
    assert [queue_of(net, flow(number)) for number in range(50)] == before
    assert len(set(before)) == 4
    assert header_of(net, flow(9)) == (expected_hash(9), TCPV4, 0)


def test_hcfg_d_02_at_first_no_type_is_enabled_and_none_is_reported() -> None:
    """HCFG-D-02: nor after a reset, nor once the driver has turned all types off."""
    net = device(HASH_REPORT, pairs=1)
    assert header_of(net, flow(1)) == (0, NONE, 0)
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes())
    assert header_of(net, flow(1))[1] == TCPV4
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes(0, b""))
    assert header_of(net, flow(1)) == (0, NONE, 0)
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes())
    net.device.set_status(0)
    assert net.device.steering.rss.state.hash_types == 0


@pytest.mark.parametrize(
    "data",
    [hash_bytes(1 << 9), hash_bytes(key=bytes(41)), hash_bytes(key=b""), hash_bytes()[:-1], hash_bytes() + b"\0"],
    ids=["undefined-type", "key-too-long", "no-key", "cut-short", "too-long"],
)
def test_a_hash_configuration_that_breaks_a_rule_is_refused(data: bytes) -> None:
    net = device(HASH_REPORT, pairs=1)
    assert net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes(types(IPV4)))
    assert not net.accepts(k.MQ_CLASS, k.HASH_CONFIG, data)
    assert header_of(net, flow(1))[1] == IPV4


def test_hcfg_v_01_reserved_bytes_that_are_set_are_refused() -> None:
    """HCFG-V-01, as the device sees it."""
    net = device(HASH_REPORT, pairs=1)
    assert not net.accepts(k.MQ_CLASS, k.HASH_CONFIG, struct.pack("<I4HB", ALL_V4, 0, 0, 0, 1, 40) + KEY)


@given(
    st.lists(st.tuples(st.integers(12, 80), st.integers(0, 255)), max_size=5),
    st.integers(0, 500),
    st.sampled_from([TCP, UDP, ICMP]),
)
@settings(max_examples=150, deadline=None)
def test_compiled_steering_is_that_of_plain_python(changes: list[tuple[int, int]], number: int, protocol: int) -> None:
    """RSS-D-01: queue, value and report of frames whole and damaged, both ways of running the same source."""
    rss = Rss(net_config())
    steerer = Steerer(rss, 4)
    steerer.start(FeatureSet.of(RSS, HASH_REPORT, HASH_TUNNEL))
    steerer.configure_rss(RssConfig(0x1FF, (3, 1, 2, 0), 2, 4, KEY))
    steerer.configure_tunnels(0x1FF)
    data = bytearray(flow(number, protocol=protocol))
    for at, value in changes:
        data[at % len(data)] = value
    frame = Exact(bytes(data))
    compiled = steer(steerer.state.address, frame.address, frame.size, 0)
    found = rss.state.hash_value, rss.state.hash_report
    plain = select_queue(steerer.state.address, frame.address, frame.size, 0)
    assert (compiled, found) == (plain, (rss.state.hash_value, rss.state.hash_report))


def test_without_the_feature_hash_config_does_not_exist() -> None:
    net = device(MQ, RSS)
    assert not net.accepts(k.MQ_CLASS, k.HASH_CONFIG, hash_bytes())
    with pytest.raises(ConfigError, match="HASH_REPORT"):
        net.device.steering.configure_hash(HashConfig(0))


def test_htun_d_02_the_tunnel_command_answers_err_for_what_is_not_supported() -> None:
    """HTUN-D-02, HTUN-V-01."""
    net = device(MQ, RSS, HASH_TUNNEL)
    assert net.accepts(k.TUNNEL, 0, struct.pack("<I", 0x1FF))
    assert not net.accepts(k.TUNNEL, 0, struct.pack("<I", 0x200))
    assert not net.accepts(k.TUNNEL, 0, b"\1\0")
    assert net.device.steering.rss.state.tunnels == 0x1FF
    assert net.accepts(k.TUNNEL, 0, bytes(4))
    assert net.device.steering.rss.state.tunnels == 0
    assert not device(MQ, RSS).accepts(k.TUNNEL, 0, struct.pack("<I", 1))


# Automatic steering -------------------------------------------------------------------------------------------------


def learning(pairs: int = 4) -> ControlHand:
    net = device(MQ)
    net.device.steering.learn()
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, struct.pack("<H", pairs))
    return net


def test_mq_d_02_at_first_everything_goes_to_receiveq1() -> None:
    """MQ-D-02: and again after a reset."""
    net = device(MQ)
    assert {queue_of(net, flow(number)) for number in range(50)} == {0}
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\4\0")
    assert {queue_of(net, flow(number)) for number in range(50)} == {0, 1, 2, 3}
    net.device.set_status(0)
    assert {queue_of(net, flow(number)) for number in range(50)} == {0}


def test_mq_d_03_queues_beyond_those_asked_for_get_nothing() -> None:
    """MQ-D-03, MQ-D-06, MQ-B-02: also of flows that were sent on them before."""
    net = learning(4)
    for number in range(50):
        sent(net, flow(number), queue=3)
    assert {queue_of(net, flow(number, back=True)) for number in range(50)} == {3}
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\2\0")
    assert {queue_of(net, flow(number, back=True)) for number in range(50)} == {0, 1}


@pytest.mark.parametrize("asked", [0, 5, 0x8000])
def test_mq_v_03_a_number_of_pairs_there_cannot_be_is_refused(asked: int) -> None:
    """MQ-V-03."""
    net = device(MQ)
    assert not net.accepts(k.MQ_CLASS, k.PAIRS_SET, struct.pack("<H", asked))
    with pytest.raises(ConfigError, match="MQ-V-03"):
        net.device.steering.set_pairs(asked)


def test_mq_d_05_a_flow_comes_back_on_the_queue_it_was_sent_on() -> None:
    """MQ-D-04, MQ-D-05: and follows when the guest sends it on another one."""
    net = learning()
    for number in range(100):
        sent(net, flow(number), queue=number % 4)
    assert [queue_of(net, flow(number, back=True)) for number in range(100)] == [number % 4 for number in range(100)]
    sent(net, flow(8), queue=3)
    assert queue_of(net, flow(8, back=True)) == 3
    assert queue_of(net, flow(9, back=True)) == 1


def test_mq_d_06_a_flow_that_was_not_sent_goes_by_its_hash() -> None:
    """MQ-D-06: to any enabled queue, always the same; so does one that was not sent for three seconds."""
    net = learning()
    by_hash = [queue_of(net, flow(number, back=True)) for number in range(50)]
    assert set(by_hash) == {0, 1, 2, 3}
    for number in range(50):
        sent(net, flow(number), queue=2, now=SECOND)
    assert {queue_of(net, flow(number, back=True), now=4 * SECOND - 1) for number in range(50)} == {2}
    assert [queue_of(net, flow(number, back=True), now=4 * SECOND) for number in range(50)] == by_hash


def test_more_flows_than_the_table_holds_cost_preference_and_nothing_else() -> None:
    net = learning()
    for number in range(20_000):
        sent(net, flow(number), queue=1, now=number)
    found = [queue_of(net, flow(number, back=True), now=20_000) for number in range(19_000, 20_000)]
    assert found.count(1) > 950
    assert set(found) <= {0, 1, 2, 3}


def test_mq_d_07_automatic_steering_passes_over_a_queue_that_is_reset() -> None:
    """MQ-D-07, trap T20: its flows go to other queues, all else stays; set up again, it gets them back."""
    net = device(MQ, RING_RESET)
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\4\0")
    before = [queue_of(net, flow(number)) for number in range(100)]
    net.device.reset_queue(2)
    during = [queue_of(net, flow(number)) for number in range(100)]
    assert set(during) == {0, 2, 3}
    assert all(now == then for now, then in zip(during, before, strict=True) if then != 1)
    net.device.setup_queue(2, Ring(net.memory, 8).addresses)
    assert [queue_of(net, flow(number)) for number in range(100)] == before


def test_mq_d_08_with_all_queues_reset_the_frame_is_dropped() -> None:
    """MQ-D-08: it is steered to a queue that is not set up, and `receive_frame` refuses that."""
    net = device(MQ, RING_RESET)
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\4\0")
    for index in (0, 2, 4, 6):
        net.device.reset_queue(index)
    assert receive(net, queue_of(net, flow(1)), flow(1)) == BROKEN


def test_rss_d_04_rss_drops_what_is_for_a_queue_that_is_reset() -> None:
    """RSS-D-04, trap T20: no other queue gets it."""
    net = device(RSS, RING_RESET)
    assert net.accepts(k.MQ_CLASS, k.RSS_CONFIG, rss_bytes(table=(1, 2), unclassified=1))
    net.device.reset_queue(2)
    for number in range(20):
        queue = queue_of(net, flow(number))
        assert queue == (1, 2)[expected_hash(number) & 1]
        if queue == 1:
            assert receive(net, queue, flow(number)) == BROKEN


def test_the_features_a_device_hashes_with_are_those_of_the_driver() -> None:
    """HASH-D-01: a device that offers all, and a driver that took none, hash nothing and report nothing."""
    net = device(MQ)
    assert net.device.side.hashes == 0
    assert net.device.features & FeatureSet.of(RSS, HASH_REPORT) == FeatureSet()
    assert net_config().rss_max_key_size == 40
