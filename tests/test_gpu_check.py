"""bench/gpu_check.py: what it takes to pass a step, and how it ends where there is no GPU."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "gpu_check.py"


@pytest.fixture
def gpu_check(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


SANITIZED = """========= COMPUTE-SANITIZER
.........                                                                [100%]
9 passed, 150 deselected in 20.31s
"""
CLEAN = "========= ERROR SUMMARY: 0 errors\n"
NO_RACE = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
NOT_ATTACHED = """========= COMPUTE-SANITIZER
========= Error: No attachable process found. compute-sanitizer timed-out.
========= Default timeout can be adjusted with --launch-timeout. Awaiting target completion.
9 passed, 150 deselected in 20.31s
"""


@pytest.mark.parametrize(
    ("name", "status", "log", "why"),
    [
        ("build", 0, "Successfully installed gradsplinter-0.1.0", ""),
        ("build", 1, "error: nvcc\n\n", "status 1: error: nvcc"),
        ("build", "stopped after 30 s", "", "stopped after 30 s"),
        ("tests", 0, "160 passed, 2 skipped in 12.00s", ""),
        ("tests", 0, "162 skipped in 2.41s", "no test passed"),
        ("tests", 0, "", "no test passed"),
        ("tests", 1, "1 failed, 9 passed in 2s", "status 1: 1 failed, 9 passed in 2s"),
        ("tests", 5, "0 passed in 2s", "status 5: 0 passed in 2s"),
        ("bench", 0, "| a | b |\n================ 14 passed in 99.00s ================\n", ""),
        ("tests", "stopped after 30 s", "tests/test_cuda.py::test_a[b c] Timeout (0:01:00)!\nThread",
         "stopped after 30 s, in tests/test_cuda.py::test_a[b c]"),
        ("tests", "stopped after 30 s", "tests/test_cuda.py::test_a PASSED  [100%]\n",
         "stopped after 30 s"),
        ("bench", 0, "14 skipped in 1.00s", "no test passed"),
        ("sanitize: memcheck", 0, SANITIZED + CLEAN, ""),
        ("sanitize: synccheck", 0, SANITIZED + CLEAN, ""),
        ("sanitize: racecheck", 0, SANITIZED + NO_RACE, ""),
        ("sanitize: racecheck", 0, SANITIZED + CLEAN,
         "no RACECHECK SUMMARY: the tests ran without racecheck"),
        ("sanitize: memcheck", 0, NOT_ATTACHED,
         "no ERROR SUMMARY: the tests ran without memcheck"),
        ("sanitize: memcheck", 0, "9 skipped in 1.00s\n" + CLEAN, "no test passed"),
        ("sanitize: memcheck", 99, SANITIZED + "========= ERROR SUMMARY: 3 errors\n",
         "memcheck found 3"),
        ("sanitize: racecheck", 0,
         SANITIZED + "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n",
         "racecheck found 1"),
        ("sanitize: synccheck", 0, SANITIZED + CLEAN + "========= ERROR SUMMARY: 1 error\n",
         "synccheck found 1"),
        ("sanitize: memcheck", 1, "1 failed, 3 passed in 9s\n" + CLEAN,
         "status 1: 1 failed, 3 passed in 9s"),
    ],
)  # fmt: skip
def test_what_a_log_shows(gpu_check, name, status, log, why):
    assert gpu_check.why_failed(name, status, log) == why


def test_without_a_gpu(tmp_path):
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "torch sees no GPU" in found.stdout
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == {
        "about": {"error": "torch sees no GPU"}, "steps": [], "measurements": None,
    }  # fmt: skip


def test_a_step_that_takes_too_long_is_stopped_with_what_it_started(gpu_check, tmp_path):
    gpu_check.TO_REPORT = 5
    child = "import time; time.sleep(4); open('late', 'w')"
    script = f"""
import os, subprocess, sys, time
os.chdir({str(tmp_path)!r})
subprocess.Popen([sys.executable, "-c", {child!r}])
print("begun", flush=True)
time.sleep(60)
"""
    begin = time.monotonic()
    step = gpu_check.run("tests", [sys.executable, "-c", script], 8, tmp_path)
    assert time.monotonic() - begin < 30
    assert (step.passed, step.last_line) == (False, "stopped after 3 s")
    assert "KeyboardInterrupt" in (tmp_path / "tests.log").read_text()
    time.sleep(3)
    assert not (tmp_path / "late").exists()


HANGS = """
import signal, time, pytest

def test_good():
    pass

@pytest.mark.parametrize("how", ["for ever and a day"])
def test_hangs(how):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a kernel that never ends
    time.sleep(600)
"""


def test_a_test_that_hangs_is_named(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "TO_REPORT", 2)
    monkeypatch.setattr(gpu_check, "HUNG", 2)
    monkeypatch.setattr(gpu_check, "TESTS", [str(tmp_path / "test_it.py")])
    (tmp_path / "test_it.py").write_text(HANGS)
    (command,) = [c for name, c in gpu_check.commands(["tests"], False, "9.0", tmp_path)][1:]
    step = gpu_check.run("tests", command, 20, tmp_path)
    assert not step.passed
    assert step.last_line.startswith("stopped after 18 s, in ")
    assert step.last_line.endswith("test_it.py::test_hangs[for ever and a day]")
    log = (tmp_path / "tests.log").read_text()
    assert "Timeout (0:00:02)!" in log
    assert "in test_hangs\n" in log


def test_no_step_takes_the_time_of_the_others(gpu_check, tmp_path, monkeypatch, capsys):
    """Each has its cap, and the table comes last."""
    given = {}

    def run(name, command, seconds, out):  # noqa: ARG001
        given[name] = seconds
        return gpu_check.Step(name, name != "tests", 1.0, "1 passed in 1 s")

    monkeypatch.setattr(gpu_check, "run", run)
    monkeypatch.setattr(gpu_check, "describe", lambda: {"capability": "9.0"})
    monkeypatch.setattr(gpu_check, "find", lambda tool: tool)
    monkeypatch.setattr(gpu_check.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path)])
    assert gpu_check.main() == 1
    assert list(given) == [
        "build", "import", "tests", "bench",
        "sanitize: memcheck", "sanitize: racecheck", "sanitize: synccheck",
    ]  # fmt: skip
    assert all(given[name] == gpu_check.MOST[name.partition(":")[0]] for name in given)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-7].split() == ["build", "passed", "1", "s", "1", "passed", "in", "1", "s"]
    assert "FAILED" in lines[-5]
    assert "nvcc" in json.loads((tmp_path / "gpu_check.json").read_text())["about"]


def test_the_compiler_that_built_is_named(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "BUILD", tmp_path)
    assert gpu_check.compiler() == "unknown"
    file = tmp_path / "CMakeFiles" / "4.1.0" / "CMakeCUDACompiler.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(
        'set(CMAKE_CUDA_COMPILER "/opt/cuda/bin/nvcc")\nset(CMAKE_CUDA_COMPILER_ID "NVIDIA")\n'
        'set(CMAKE_CUDA_COMPILER_VERSION "13.0.88")\nset(CMAKE_CUDA_FLAGS "")\n'
    )
    assert gpu_check.compiler() == "/opt/cuda/bin/nvcc, 13.0.88"


def test_what_cannot_begin_has_failed(gpu_check, tmp_path, monkeypatch):
    assert gpu_check.run("tests", ["true"], 1, tmp_path).last_line == "no time left"
    assert "No such file" in gpu_check.run("tests", ["no-such-tool"], 60, tmp_path).last_line
    monkeypatch.setattr(gpu_check, "find", lambda _: None)
    steps = [
        gpu_check.run(name, command, 60, tmp_path)
        for name, command in gpu_check.commands(["sanitize"], False, "9.0", tmp_path)
        if name.startswith("sanitize")
    ]
    assert len(steps) == 3
    assert all(not step.passed and "not found" in step.last_line for step in steps)


def test_nothing_but_what_was_built_is_tested(gpu_check, tmp_path):
    """The package that is installed here, instead of one in build/gpu_check/site."""
    (command,) = [c for name, c in gpu_check.commands([], False, "9.0", tmp_path)]
    step = gpu_check.run("import", [*command[:-1], str(tmp_path)], 120, tmp_path)
    assert not step.passed
    assert "gradsplinter comes from" in step.last_line
