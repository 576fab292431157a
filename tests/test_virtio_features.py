"""Feature bits: their numbers, sets of them, and every rule of section 5.1.3.1 of VIRTIO 1.4 in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet

# Section A of the catalogue, which names no bits for GUEST_RSC4 and GUEST_RSC6: 41 is ADMIN_VQ, 42 nobody's (E12).
BY_THE_BOOK = {
    "CSUM": 0, "GUEST_CSUM": 1, "CTRL_GUEST_OFFLOADS": 2, "MTU": 3, "MAC": 5, "GSO": 6, "GUEST_TSO4": 7,
    "GUEST_TSO6": 8, "GUEST_ECN": 9, "GUEST_UFO": 10, "HOST_TSO4": 11, "HOST_TSO6": 12, "HOST_ECN": 13, "HOST_UFO": 14,
    "MRG_RXBUF": 15, "STATUS": 16, "CTRL_VQ": 17, "CTRL_RX": 18, "CTRL_VLAN": 19, "CTRL_RX_EXTRA": 20,
    "GUEST_ANNOUNCE": 21, "MQ": 22, "CTRL_MAC_ADDR": 23, "NOTIFY_ON_EMPTY": 24, "ANY_LAYOUT": 27, "INDIRECT_DESC": 28,
    "EVENT_IDX": 29, "VERSION_1": 32, "ACCESS_PLATFORM": 33, "RING_PACKED": 34, "IN_ORDER": 35, "ORDER_PLATFORM": 36,
    "SR_IOV": 37, "NOTIFICATION_DATA": 38, "NOTIF_CONFIG_DATA": 39, "RING_RESET": 40, "ADMIN_VQ": 41, "SUSPEND": 43,
    "DEVICE_STATS": 50, "HASH_TUNNEL": 51, "VQ_NOTF_COAL": 52, "NOTF_COAL": 53, "GUEST_USO4": 54, "GUEST_USO6": 55,
    "HOST_USO": 56, "HASH_REPORT": 57, "GUEST_HDRLEN": 59, "RSS": 60, "RSC_EXT": 61, "STANDBY": 62, "SPEED_DUPLEX": 63,
    "RSS_CONTEXT": 64, "GUEST_UDP_TUNNEL_GSO": 65, "GUEST_UDP_TUNNEL_GSO_CSUM": 66, "HOST_UDP_TUNNEL_GSO": 67,
    "HOST_UDP_TUNNEL_GSO_CSUM": 68, "OUT_NET_HEADER": 69, "IPSEC": 70,
}  # fmt: skip


def test_names_and_numbers_are_those_of_the_specification() -> None:
    assert {name: bit for bit, name in f.NAMES.items()} == BY_THE_BOOK
    assert f.BITS == BY_THE_BOOK
    for name, bit in BY_THE_BOOK.items():
        assert getattr(f, name) == bit


def named(text: str) -> FeatureSet:
    return FeatureSet.of(*(BY_THE_BOOK[name] for name in text.split()))


# (clause, feature, the sets of others with which it is enough, as small as they can be)
RULES = [
    ("NETF-B-01", "GUEST_TSO4", ["GUEST_CSUM"]),
    ("NETF-B-02", "GUEST_TSO6", ["GUEST_CSUM"]),
    ("NETF-B-03", "GUEST_ECN", ["GUEST_TSO4 GUEST_CSUM", "GUEST_TSO6 GUEST_CSUM"]),
    ("NETF-B-04", "GUEST_UFO", ["GUEST_CSUM"]),
    ("NETF-B-05", "GUEST_USO4", ["GUEST_CSUM"]),
    ("NETF-B-06", "GUEST_USO6", ["GUEST_CSUM"]),
    ("NETF-B-07", "GUEST_UDP_TUNNEL_GSO", ["GUEST_TSO4 GUEST_TSO6 GUEST_USO4 GUEST_USO6 GUEST_CSUM"]),
    (
        "NETF-B-08",
        "GUEST_UDP_TUNNEL_GSO_CSUM",
        ["GUEST_UDP_TUNNEL_GSO GUEST_TSO4 GUEST_TSO6 GUEST_USO4 GUEST_USO6 GUEST_CSUM"],
    ),
    ("NETF-B-09", "HOST_TSO4", ["CSUM"]),
    ("NETF-B-10", "HOST_TSO6", ["CSUM"]),
    ("NETF-B-11", "HOST_ECN", ["HOST_TSO4 CSUM", "HOST_TSO6 CSUM"]),
    ("NETF-B-12", "HOST_UFO", ["CSUM"]),
    ("NETF-B-13", "HOST_USO", ["CSUM"]),
    ("NETF-B-14", "HOST_UDP_TUNNEL_GSO", ["HOST_TSO4 HOST_TSO6 HOST_USO CSUM"]),
    ("NETF-B-15", "HOST_UDP_TUNNEL_GSO_CSUM", ["HOST_UDP_TUNNEL_GSO HOST_TSO4 HOST_TSO6 HOST_USO CSUM"]),
    ("NETF-B-16", "CTRL_RX", ["CTRL_VQ"]),
    ("NETF-B-17", "CTRL_VLAN", ["CTRL_VQ"]),
    ("NETF-B-18", "GUEST_ANNOUNCE", ["CTRL_VQ"]),
    ("NETF-B-19", "MQ", ["CTRL_VQ"]),
    ("NETF-B-20", "CTRL_MAC_ADDR", ["CTRL_VQ"]),
    ("NETF-B-21", "NOTF_COAL", ["CTRL_VQ"]),
    ("NETF-B-22", "RSC_EXT", ["HOST_TSO4 CSUM", "HOST_TSO6 CSUM"]),
    ("NETF-B-23", "RSS", ["CTRL_VQ"]),
    ("NETF-B-24", "VQ_NOTF_COAL", ["CTRL_VQ"]),
    ("NETF-B-25", "HASH_TUNNEL", ["CTRL_VQ RSS", "CTRL_VQ HASH_REPORT"]),
    ("NETF-B-26", "RSS_CONTEXT", ["CTRL_VQ RSS"]),
]
WITH_A_RULE = {feature for _, feature, _ in RULES}


@pytest.mark.parametrize(("clause", "feature", "enough"), RULES, ids=[rule[0] for rule in RULES])
def test_a_feature_with_what_it_requires_keeps_the_rules(clause: str, feature: str, enough: list[str]) -> None:
    for others in enough:
        assert (named(feature) | named(others)).unmet() == [], clause


@pytest.mark.parametrize(("clause", "feature", "enough"), RULES, ids=[rule[0] for rule in RULES])
def test_a_feature_without_one_of_them_breaks_a_rule(clause: str, feature: str, enough: list[str]) -> None:
    """Alone, and with all the others but one."""
    everything = FeatureSet.of(*BY_THE_BOOK.values())
    assert any(fault.startswith(f"{feature} requires ") for fault in named(feature).unmet()), clause
    # What is in all of the smallest sets cannot be missed, and neither can what they offer a choice of, all together.
    sets = [set(named(others)) for others in enough]
    always = set.intersection(*sets)
    choice = set.union(*sets) - always
    for missing in [{bit} for bit in always] + ([choice] if choice else []):
        assert (everything - FeatureSet.of(*missing)).unmet() != [], (clause, missing)
    direct = {f.NAMES[bit] for bit in set.union(*sets)}
    for fault in named(feature).unmet():
        assert set(fault.removeprefix(f"{feature} requires ").split(" or ")) <= direct


@pytest.mark.parametrize("feature", sorted(set(BY_THE_BOOK) - WITH_A_RULE))
def test_netf_b_27_all_other_features_stand_alone(feature: str) -> None:
    """NETF-B-27: CTRL_RX_EXTRA, HASH_REPORT, CTRL_GUEST_OFFLOADS and DEVICE_STATS among them."""
    assert named(feature).unmet() == []


def test_everything_at_once_keeps_the_rules() -> None:
    assert FeatureSet.of(*BY_THE_BOOK.values()).unmet() == []
    assert FeatureSet().unmet() == []


def test_bits_that_nobody_knows_break_no_rule() -> None:
    assert FeatureSet.of(4, 30, 42, 100, 127).unmet() == []


def test_every_fault_has_its_sentence() -> None:
    assert named("GUEST_ECN HASH_TUNNEL").unmet() == [
        "GUEST_ECN requires GUEST_TSO4 or GUEST_TSO6",
        "HASH_TUNNEL requires CTRL_VQ",
        "HASH_TUNNEL requires RSS or HASH_REPORT",
    ]


# Sets.


def test_bits_above_63_are_bits_like_any_other() -> None:
    high = FeatureSet.of(64, 70)
    assert high.mask == 0x41_0000_0000_0000_0000
    assert 70 in high
    assert 6 not in high
    assert 0 not in high
    assert list(high) == [64, 70]
    assert high - FeatureSet.of(64) == FeatureSet.of(70)
    assert high.has_any(1, 2, 70)
    assert not high.has_any(1, 2, 69)
    assert not high.has_any()


BITS = st.sets(st.integers(0, 127))


@given(BITS, BITS)
def test_sets_behave_as_sets(a: set[int], b: set[int]) -> None:
    one, two = FeatureSet.of(*a), FeatureSet.of(*b)
    assert list(one) == sorted(a)
    assert one.mask == sum(2**bit for bit in a)
    assert set(one | two) == a | b
    assert set(one & two) == a & b
    assert set(one - two) == a - b
    assert bool(one) == bool(a)
    assert (one == two) == (a == b)
    assert (hash(one) == hash(two)) or a != b
    assert all((bit in one) == (bit in a) for bit in range(128))
    assert FeatureSet.of(*a, *a) == one


def test_a_set_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        FeatureSet().mask = 1  # type: ignore[misc]


def test_a_set_prints_as_names() -> None:
    assert str(FeatureSet.of(32, 15, 0)) == "CSUM, MRG_RXBUF, VERSION_1"
    assert str(FeatureSet.of(70, 4, 100)) == "bit 4, IPSEC, bit 100"
    assert str(FeatureSet()) == "none"


@pytest.mark.parametrize(
    ("words", "bits"),
    [
        (["MRG_RXBUF"], {15}),
        (["mrg_rxbuf", " csum "], {15, 0}),
        (["VIRTIO_NET_F_MQ", "VIRTIO_F_VERSION_1", "virtio_net_f_mtu"], {22, 32, 3}),
        (["15", "0", "127"], {15, 0, 127}),
        (["IPSEC", "IPSEC"], {70}),
        ([], set()),
    ],
)
def test_names_and_numbers_are_parsed(words: list[str], bits: set[int]) -> None:
    assert FeatureSet.parse(words) == FeatureSet.of(*bits)


@pytest.mark.parametrize("word", ["", "MRG RXBUF", "RXBUF", "-1", "1.5", "0x10", "²", "128", "9" * 30, "NAMES", "BITS"])
def test_what_is_no_feature_is_refused_by_name(word: str) -> None:
    with pytest.raises(ConfigError, match="no feature is called"):
        FeatureSet.parse(["CSUM", word])


@pytest.mark.parametrize(
    ("word", "near"), [("MRG_RXBUFF", "MRG_RXBUF"), ("virtio_net_f_mqq", "MQ"), ("GUEST_TSO", "GUEST_TSO4")]
)
def test_a_wrong_name_is_answered_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean .*{near}"):
        FeatureSet.parse([word])


@pytest.mark.parametrize(
    ("before", "delta", "after"),
    [
        ("MAC", "", "MAC"),
        ("MAC", "+STATUS,-MAC", "STATUS"),
        ("MAC", " status  -mac ", "STATUS"),
        ("MAC", "+MQ", "MAC CTRL_VQ MQ"),
        ("", "+GUEST_ECN", "GUEST_ECN GUEST_TSO4 GUEST_CSUM"),
        ("GUEST_CSUM GUEST_TSO6", "+GUEST_ECN", "GUEST_ECN GUEST_TSO6 GUEST_CSUM"),
        ("CTRL_VQ HASH_REPORT", "+HASH_TUNNEL", "CTRL_VQ HASH_REPORT HASH_TUNNEL"),
        ("GUEST_CSUM GUEST_TSO4 GUEST_TSO6 GUEST_ECN", "-GUEST_TSO4", "GUEST_CSUM GUEST_TSO6 GUEST_ECN"),
        ("GUEST_CSUM GUEST_TSO4 GUEST_TSO6 GUEST_ECN MAC", "-GUEST_CSUM", "MAC"),
        ("", "+100,-4", "100"),
    ],
)
def test_a_change_keeps_the_rules(before: str, delta: str, after: str) -> None:
    """What is added brings what it requires (of a choice what is there, else the first), what goes takes along."""
    wanted = FeatureSet.of(100) if after == "100" else named(after)
    assert named(before).changed(delta) == wanted
    assert wanted.unmet() == []


def test_a_change_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="MQ cannot be added while CTRL_VQ is taken away"):
        named("MAC").changed("+MQ,-CTRL_VQ")


@given(st.sets(st.sampled_from(sorted(BY_THE_BOOK.values()))))
def test_the_largest_legal_subset_and_the_smallest_legal_superset(bits: set[int]) -> None:
    """Of any set: both keep the rules, neither changes a set that keeps them, and the subset could not be larger."""
    whole = FeatureSet.of(*bits)
    below, above = whole.closed(), whole.completed()
    assert below.unmet() == above.unmet() == []
    assert below - whole == whole - above == FeatureSet()
    assert below.closed() == below
    assert above.completed() == above
    for bit in whole - below:
        assert (below | FeatureSet.of(bit)).unmet() != []


SHOULD = [
    ("NETC-D-13 NETC-V-13", "HASH_REPORT", "CTRL_VQ"),
    ("NETC-D-14 NETC-V-14", "CTRL_RX_EXTRA", "CTRL_VQ"),
    ("NETF-D-01", "IPSEC", "OUT_NET_HEADER"),
    ("NETF-B-27", "CTRL_GUEST_OFFLOADS", "CTRL_VQ"),
    ("NETF-B-27", "DEVICE_STATS", "CTRL_VQ"),
]


@pytest.mark.parametrize(("clauses", "feature", "other"), SHOULD, ids=[row[1] for row in SHOULD])
def test_what_should_not_be_alone_gets_advice_and_no_refusal(clauses: str, feature: str, other: str) -> None:
    """NETC-D-13, NETC-D-14, NETC-V-13, NETC-V-14, NETF-D-01: SHOULD NOT, so that no rule is broken (NETF-B-27)."""
    assert named(feature).unmet() == [], clauses
    assert named(feature).unadvised() == [f"{feature} should come with {other}"]
    assert named(f"{feature} {other}").unadvised() == []


def test_rsc_ext_is_checked_as_printed_and_advised_as_meant() -> None:
    """Erratum E4, NETF-B-22: the list says HOST_TSO4/6, the prose GUEST_TSO4/6."""
    printed = named("RSC_EXT HOST_TSO4 CSUM")
    assert printed.unmet() == []
    assert printed.unadvised() == ["RSC_EXT should come with GUEST_TSO4 or GUEST_TSO6"]
    assert named("RSC_EXT GUEST_TSO4 GUEST_CSUM").unmet() == ["RSC_EXT requires HOST_TSO4 or HOST_TSO6"]


def test_bits_that_nobody_may_offer_or_take() -> None:
    """FEAT-V-04, FEAT-V-05, FEAT-V-07: not described, reserved, of others. Erratum E12: 42 is nobody's any more."""
    assert FeatureSet.of(0, 4, 30, 41, 42, 44, 58, 70, 71, 127, 128).undescribed() == FeatureSet.of(
        4, 30, 42, 44, 58, 71, 127, 128
    )


def test_legacy_bits_in_a_modern_set_get_advice() -> None:
    assert named("GSO ANY_LAYOUT").unadvised() == []
    assert named("GSO VERSION_1").unadvised() == ["GSO is of legacy devices"]


@given(st.sets(st.sampled_from(sorted(BY_THE_BOOK.values()))))
def test_what_is_printed_can_be_parsed(bits: set[int]) -> None:
    printed = str(FeatureSet.of(*bits))
    assert FeatureSet.parse([] if printed == "none" else printed.split(",")) == FeatureSet.of(*bits)
