"""cmake/cuda.cmake: which CUDA compiler is taken, and what happens where it does not work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CMAKE = Path(sys.executable).parent / "cmake"

pytestmark = pytest.mark.skipif(
    not CMAKE.exists() and "CI" not in os.environ, reason="CMake is not installed here"
)

# Says what it can compile for, and fails at it: as nvcc with a host compiler that is too new.
BROKEN = """#!/bin/sh
if [ "$1" = --list-gpu-arch ]; then printf 'compute_80\\ncompute_90\\n'; exit; fi
echo "error: unsupported GNU version!" >&2
exit 1
"""


def configure(folder, *options, **environment):
    return subprocess.run(
        [
            str(CMAKE), "-S", str(ROOT), "-B", str(folder), "-DGRADSPLINTER_MODULE=OFF", *options,
        ],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def broken(tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(BROKEN)
    nvcc.chmod(0o755)
    return str(nvcc)


def test_a_compiler_that_cannot_compile_is_left_out(tmp_path, broken):
    for _ in range(2):  # and again in the same folder
        found = configure(tmp_path / "build", CUDACXX=broken)
        assert found.returncode == 0, found.stderr
        message = " ".join(found.stderr.split())
        assert f"'{broken}' cannot compile CUDA here, building for the CPU only" in message


def test_a_compiler_that_cannot_compile_is_an_error_where_it_is_needed(tmp_path, broken):
    found = configure(tmp_path / "build", "-DGRADSPLINTER_CUDA=ON", CUDACXX=broken)
    assert found.returncode != 0
    assert "not able to compile" in " ".join(found.stderr.split())


def test_architectures_by_the_environment(tmp_path):
    found = configure(tmp_path / "build", CUDAARCHS="90-virtual")
    if "building for the CPU only" in found.stdout + found.stderr:
        pytest.skip("there is no CUDA compiler")
    assert found.returncode == 0, found.stderr
    assert " for 90-virtual\n" in found.stdout
