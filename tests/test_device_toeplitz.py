"""The hash function against published vectors and against its own definition (HASH-D-11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device.toeplitz import INPUT_MAX, KeyTable, toeplitz
from tests.hashing import KEY, Exact, packed, port_pair, toeplitz_by_bits

# Microsoft, "Verifying the RSS Hash Calculation": source, port, target, port, addresses only, with TCP ports.
PUBLISHED = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4B61E985, 0x02D1FEEF),
]


def hashed(key: bytes, data: bytes) -> int:
    table = KeyTable()
    table.load(key)
    source = Exact(data)
    return int(toeplitz(table.address, source.address, source.size))


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0])
def test_hash_d_11_every_published_vector(row: tuple[str, int, str, int, int, int]) -> None:
    """HASH-D-11: and the definition by hand gives the same, so that other tests may rely on it."""
    source, source_port, target, target_port, addresses_only, with_ports = row
    addresses = packed(source, target)
    everything = addresses + port_pair(source_port, target_port)
    assert hashed(KEY, addresses) == toeplitz_by_bits(KEY, addresses) == addresses_only
    assert hashed(KEY, everything) == toeplitz_by_bits(KEY, everything) == with_ports


@given(st.binary(min_size=0, max_size=255), st.binary(max_size=INPUT_MAX))
def test_hash_d_11_any_key_and_input_hash_as_defined(key: bytes, data: bytes) -> None:
    """HASH-D-11: a key shorter than the input needs ends in zeros, of a longer one only the start counts."""
    assert hashed(key, data) == toeplitz_by_bits(key.ljust(INPUT_MAX + 4, b"\0"), data)


@given(st.binary(min_size=INPUT_MAX, max_size=INPUT_MAX), st.integers(0, INPUT_MAX))
def test_pieces_hash_like_the_whole(data: bytes, cut: int) -> None:
    """What lets addresses and ports lie apart."""
    table = KeyTable()
    table.load(KEY)
    source = Exact(data)
    head = toeplitz(table.address, source.address, cut)
    tail = toeplitz(table.address + cut * 1024, source.address + cut, INPUT_MAX - cut)
    assert head ^ tail == toeplitz_by_bits(KEY, data)


def test_a_new_key_replaces_the_old_one() -> None:
    table = KeyTable()
    data = Exact(b"\x80" + bytes(11))
    for key in (b"\xff" * 40, b"\x01\x02\x03\x04" + bytes(36)):
        table.load(key)
        assert toeplitz(table.address, data.address, 12) == int.from_bytes(key[:4], "big")
