"""What the kernels of one instruction set give the linker must not be usable by anything else.

A weak symbol (an inline function, a template of the standard library) that is compiled for AVX-512
can be linked for all callers, and then stops the program on a CPU without AVX-512.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gradsplinter import _C

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")

SYMBOL = re.compile(r"^[0-9a-f]* +(?P<kind>[A-Za-z]) (?P<name>.+)$", re.MULTILINE)


def nm(path: Path, *options: str) -> str:
    command = ["nm", "--demangle", *options, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def violations(listing: str, instruction_set: str) -> list[str]:
    """Symbols of nm's listing that the linker could mix up with those of other objects."""
    own = f"gradsplinter::{instruction_set}::"
    found = []
    for kind, name in SYMBOL.findall(listing):
        merged = kind in "WwVvuC"
        # A C function such as memcpy has one copy, which no flag of ours has touched.
        allowed = name.startswith(own) or (kind == "U" and name.isidentifier())
        if merged or (kind.isupper() and not allowed):
            found.append(f"{kind} {name}")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "0000000000000000 W std::vector<int, std::allocator<int> >::push_back(int&&)",
        "0000000000000000 V gradsplinter::avx2::table",
        "                 w __cxa_finalize",
        "0000000000000000 u gradsplinter::avx2::f()::once",
        "0000000000000000 T gradsplinter::hash_row(unsigned long const*, long)",
        "0000000000000000 T gradsplinter::portable::cross(int)",
        "                 U std::__throw_length_error(char const*)",
        "                 U operator new(unsigned long)",
    ],
)
def test_a_symbol_that_could_be_mixed_up_is_found(line: str) -> None:
    good = "0000000000000010 T gradsplinter::avx2::cross(int)\n                 U memcpy\n"
    local = "0000000000000020 t gradsplinter::(anonymous namespace)::run(int)\n"
    assert violations(good + local, "avx2") == []
    found = violations(good + line + "\n" + local, "avx2")
    assert found == [line.lstrip("0 ")]


@needs_nm
def test_kernel_objects_have_no_symbol_that_could_be_mixed_up() -> None:
    build = os.environ.get("GRADSPLINTER_BUILD_DIR")
    if not build:
        pytest.skip("GRADSPLINTER_BUILD_DIR is not set to a build folder with the kernels' objects")
    objects = sorted(Path(build).glob("CMakeFiles/kernels_*.dir/csrc/cpu/*.o"))
    names = {path: path.parts[-4].removeprefix("kernels_").removesuffix(".dir") for path in objects}
    assert set(_C.instruction_sets()) <= set(names.values()), f"objects missing in {build}"
    for path, instruction_set in names.items():
        listing = nm(path)
        assert f"gradsplinter::{instruction_set}::" in listing, f"no kernel in {path}"
        assert violations(listing, instruction_set) == [], path


@needs_nm
def test_the_module_exports_nothing_of_ours_but_its_init_function() -> None:
    # A hidden kernel cannot be taken by, or replaced from, another library in the same process.
    kinds = {name: kind for kind, name in SYMBOL.findall(nm(Path(_C.__file__), "--dynamic"))}
    assert kinds["PyInit__C"] == "T"
    assert [name for name in kinds if "gradsplinter" in name] == []
