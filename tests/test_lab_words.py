"""A lab that is built wrongly says so in words, and takes names where it takes what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netemu import ConfigError, Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as one:
        one.guest("a", "10.0.0.1/24")
        one.guest("b", "10.0.0.2/24")
        yield one


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mod": "small"}, "a guest has no option 'mod'; did you mean mode?"),
        ({"queue_siz": 64}, "a guest has no option 'queue_siz'; did you mean queue_size?"),
        ({"quirks": "chain-lop"}, "no quirk is called 'chain-lop'; did you mean chain-loop?"),
    ],
)
def test_an_option_that_there_is_not_is_told_with_the_nearest(lab: Lab, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        lab.guest("c", "10.0.0.3/24", **options)
    assert str(error.value).startswith(told)


def test_nodes_and_places_may_be_named(lab: Lab) -> None:
    link = lab.link("a", "b", rate="10mbit")
    assert lab.links == {"a-b": link}
    with pytest.raises(ConfigError, match="nothing in the lab is called 'z'; there is a and b"):
        lab.link("a", "z")
    with pytest.raises(ConfigError, match="no guest and no link is called 'zz'"):
        lab.capture("zz", "zz.pcapng")


def test_one_address_of_a_router_needs_no_list(lab: Lab) -> None:
    assert len(lab.router("r", "10.0.0.254/24").ports) == 1


def test_what_is_in_a_lab_names_itself(lab: Lab) -> None:
    link, switch = lab.link("a", lab.switch("sw")), lab.nodes["sw"]
    assert [*map(repr, (lab.nodes["a"], link, switch))] == ["<guest a 10.0.0.1>", "<link a-sw>", "<switch sw>"]
    assert repr(lab) == "<lab of 3 nodes and 1 links, seed 1, 0 s>"


def test_what_traffic_is_measured_by_is_expected_of_traffic(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"rtt is measured of traffic, and needs of=\.\.\."):
        lab.expect("rtt p99 < 25 ms")
