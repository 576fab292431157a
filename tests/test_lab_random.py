"""Labs put together by chance, with whatever traffic: nothing fails, nothing is lost, and it repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab_random import play


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_in_a_lab_the_books_balance_once_all_is_quiet(seed: int) -> None:
    """Bytes of a stream are those that were sent; buffers, skbs, pages and connections are free again."""
    play(seed)


@pytest.mark.parametrize("seed", range(100, 108))
def test_so_do_they_where_allocations_fail(seed: int) -> None:
    play(seed, faults=True)


@pytest.mark.parametrize("seed", [3, 5])
def test_the_same_seed_gives_the_same_bytes_in_guests_rings_and_links(tmp_path: Path, seed: int) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        play(seed, folder=folder)
    for name in ("guest.pcapng", "ring.pcapng", "link.pcapng"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert len(first) > 1000
        assert first == second, name
