"""The cache of compiled kernels: what is kept, what is taken back, and what is not trusted."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from netemu.jit import loader

SOURCE = """
define i64 @{name}(i64 %x) {{
  %y = add i64 %x, {addend}
  ret i64 %y
}}
"""


def compiled(name: str, addend: int) -> tuple[str, bytes]:
    """An object file with a function that adds ``addend`` to its argument."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine()
    return name, target.emit_object(llvm.parse_assembly(SOURCE.format(name=name, addend=addend)))


def call(address: int, argument: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(argument))


def test_code_is_kept_and_taken_back_without_a_compiler(tmp_path: Path) -> None:
    path = tmp_path / "kept.o"
    assert call(loader.address_of(path, lambda: compiled("kept_first", 5)), 1) == 6

    def no_compiler() -> tuple[str, bytes]:
        pytest.fail("compiled although the code was kept")

    assert call(loader.address_of(path, no_compiler), 2) == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.o"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:0], lambda data: data[:60] + b"?" + data[61:]]
)
def test_a_damaged_cache_file_is_compiled_anew(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "damaged.o"
    loader.address_of(path, lambda: compiled("damaged_first", 1))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert call(loader.address_of(path, lambda: compiled("damaged_second", 40)), 2) == 42


def test_without_a_folder_code_is_compiled_and_not_kept() -> None:
    assert call(loader.address_of(None, lambda: compiled("unkept", 3)), 4) == 7


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "absent folder" / "x.o"
    assert call(loader.address_of(path, lambda: compiled("unwritten", 1)), 1) == 2
    assert not path.exists()
