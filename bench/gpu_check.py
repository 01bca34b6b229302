"""Everything that only a GPU can show, on a bare machine, from a source tree, without a network.

    python bench/gpu_check.py [--seconds 560] [--out FOLDER] [--large] [--only build tests bench sanitize]

Builds against the torch that is there, compares with the CPU bit for bit, measures against torch, runs a
part of the tests under compute-sanitizer. All steps together take at most --seconds, and each one at most
its share (MOST below): one that needs more has failed, and the next ones still run. It needs torch with
CUDA, CUDA's toolkit, and the Python packages scikit-build-core, pybind11, cmake, ninja, numpy,
safetensors, tqdm, pytest, hypothesis, pytest-benchmark and pandas (for the CPU's benchmarks, which
bench_cuda.py shares code with). FOLDER, build/gpu_check by default, gets the whole output of each step,
and gpu_check.json: the machine, the steps, the measurements and goals; also where a step failed, or
where there is no GPU. The exit status says whether all steps passed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "gpu_check" / "site"
BUILD = ROOT / "build" / "gpu_check" / "cmake"
TESTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/test_cuda*.py"))
HUNG = 60  # seconds after which a test says where it stands
STEPS = ("build", "tests", "bench", "sanitize")
# Seconds; of `sanitize`, for each tool.
MOST = {"build": 150, "import": 60, "tests": 120, "bench": 150, "sanitize": 200}
MOST_LARGE = 300  # of the tests with --large
# What each tool says at its end, however many processes it looked into; without it, it saw none.
SUMMARY = {
    "memcheck": "ERROR SUMMARY",
    "racecheck": "RACECHECK SUMMARY",
    "synccheck": "ERROR SUMMARY",
}
TO_REPORT = 10  # seconds that a step which took too long has to say how far it came

# That the tests will run what was built, and on this GPU.
IMPORT = """
import sys
from pathlib import Path
import torch, gradsplinter
from gradsplinter import _C
site, found = (Path(path).resolve() for path in (sys.argv[1], gradsplinter.__file__))
if site not in found.parents:
    sys.exit(f"gradsplinter comes from {found}, not from {site}")
if not _C.cuda:
    sys.exit("the build has no kernels for a GPU")
if why := _C.why_not_on_gpu(0):
    sys.exit(f"the GPU cannot run the kernels, built for {_C.cuda}: {why}")
print(f"{found.parent}, kernels for {_C.cuda}")
"""


@dataclass
class Step:
    name: str
    passed: bool
    seconds: float
    last_line: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=560, help="for all steps together")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check")
    parser.add_argument("--large", action="store_true", help="rows of more than 2^31 entries too")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    measured = out / "bench" / "cuda.json"
    measured.unlink(missing_ok=True)
    about, steps = describe(), []
    print(json.dumps(about, indent=2), flush=True)
    write(out, about, steps, measured)
    if "error" in about:
        return 1

    for name, command in commands(options.only, options.large, about["capability"], out):
        kind = name.partition(":")[0]
        most = MOST_LARGE if kind == "tests" and options.large else MOST[kind]
        steps.append(run(name, command, min(most, deadline - time.monotonic()), out))
        about["nvcc"] = compiler()
        write(out, about, steps, measured)
        if name in ("build", "import") and not steps[-1].passed:
            break
    width = max(len(step.name) for step in steps)
    for step in steps:
        passed = "passed" if step.passed else "FAILED"
        print(f"{step.name:<{width}}  {passed}  {step.seconds:5.0f} s  {step.last_line}")
    return 0 if all(step.passed for step in steps) else 1


def describe() -> dict[str, str]:
    """The machine, or why nothing can be checked on it."""
    try:
        import torch  # noqa: PLC0415 (what is missing is named)
    except ImportError as error:
        return {"error": str(error)}
    if not torch.cuda.is_available():
        return {"error": "torch sees no GPU"}
    if editable():
        return {
            "error": "gradsplinter is installed editable here, and that would be tested instead of "
            f"the build in {SITE}: `pip uninstall gradsplinter`, or run this with another Python"
        }
    device = torch.cuda.get_device_properties(0)
    return {
        "device": device.name,
        "capability": f"{device.major}.{device.minor}",
        "driver": output(
            "nvidia-smi", "-i", f"GPU-{device.uuid}", "--query-gpu=driver_version",
            "--format=csv,noheader",
        ),
        "nvcc": compiler(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def editable() -> bool:
    """Whether gradsplinter is installed in a way that goes before PYTHONPATH."""
    try:
        text = metadata.distribution("gradsplinter").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return False
    return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))


def compiler() -> str:
    """The CUDA compiler that built what is tested, as CMake has noted it."""
    for file in BUILD.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        values = dict(re.findall(r'^set\((\w+) "([^"]*)"\)$', file.read_text(), re.MULTILINE))
        return f"{values['CMAKE_CUDA_COMPILER']}, {values['CMAKE_CUDA_COMPILER_VERSION']}"
    return "unknown"


def find(tool: str) -> str | None:
    """A program of CUDA's toolkit, in the places and the order in which cmake/cuda.cmake looks."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [f"{home}/bin" for home in [*homes, "/usr/local/cuda"]]
    return shutil.which(tool, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def commands(
    only: list[str], large: bool, capability: str, out: Path
) -> Iterator[tuple[str, list[str] | str]]:
    """The name and the command of each step, or why there is none."""
    python = [sys.executable]
    pytest = [
        *python, "-m", "pytest", "-p", "no:cacheprovider",
        "-v", "-o", f"faulthandler_timeout={HUNG}",  # or nobody knew which test hangs
        "-W", "default",  # other packages may warn here
    ]  # fmt: skip
    if "build" in only:
        for folder in (SITE, BUILD):
            shutil.rmtree(folder, ignore_errors=True)
        yield "build", [
            *python, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index",
            "--upgrade", "--target", str(SITE), str(ROOT), "-C", f"build-dir={BUILD}",
            "-C", "cmake.define.GRADSPLINTER_CUDA=ON",
            "-C", f"cmake.define.CMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}",
        ]  # fmt: skip
    yield "import", [*python, "-c", IMPORT, str(SITE)]
    if "tests" in only:
        yield "tests", [*pytest, *TESTS, *(["--large"] if large else [])]
    if "bench" in only:
        yield "bench", [*pytest, "bench/bench_cuda.py", "--results", str(out / "bench")]
    for tool in SUMMARY if "sanitize" in only else []:
        sanitizer = find("compute-sanitizer")
        yield f"sanitize: {tool}", (
            [
                # Each tensor in an allocation of its own, or overruns into the next go unseen.
                "env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", sanitizer, "--tool", tool,
                "--launch-timeout", "0",  # torch takes its time before the first call of CUDA
                "--report-api-errors", "no",  # torch's own, which it handles
                "--error-exitcode", "99", "--target-processes", "all",
                *pytest, *TESTS, "-x", "-m", "sanitized",
            ]
            if sanitizer
            else "compute-sanitizer not found, on PATH or in $CUDA_HOME/bin or /usr/local/cuda/bin"
        )  # fmt: skip


def run(name: str, command: list[str] | str, seconds: float, out: Path) -> Step:
    """One step, whose output goes to a file; it fails where the seconds are not enough."""
    print(f"== {name}", flush=True)
    if isinstance(command, str):
        return Step(name, False, 0, command)
    if seconds <= TO_REPORT:
        return Step(name, False, 0, "no time left")
    path = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONSAFEPATH": "1",  # what was built, not the source tree
        "PYTHONUNBUFFERED": "1",
    }
    begin = time.monotonic()
    log = out / f"{name.replace(': ', '-')}.log"
    with log.open("w") as file:
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Step(name, False, 0, str(error))
        status = wait(process, seconds)
    text = log.read_text(errors="replace")
    wrong = why_failed(name, status, text)
    if wrong:
        print("\n".join(text.splitlines()[-60:]), flush=True)
    if name == "bench":
        print("\n".join(re.findall(r"^\|.*", text, re.MULTILINE)), flush=True)
    return Step(name, not wrong, time.monotonic() - begin, wrong or last_line(text))


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | str:
    """Its status, or that it took too long. Nothing of it, nor of what it started, goes on."""
    try:
        return process.wait(seconds - TO_REPORT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # pytest then says how far it came
        with suppress(subprocess.TimeoutExpired):
            process.wait(TO_REPORT)
        return f"stopped after {seconds - TO_REPORT:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def why_failed(name: str, status: int | str, log: str) -> str:
    """Empty where a step passed, which takes more than a status of 0.

    Without a GPU pytest skips every test, and a sanitizer that finds no process lets it run alone.

    Examples:
        >>> why_failed("tests", 0, "148 skipped in 2.41s")
        'no test passed'
        >>> why_failed("sanitize: memcheck", 0, "9 passed in 2s")
        'no ERROR SUMMARY: the tests ran without memcheck'
        >>> why_failed("sanitize: memcheck", 0, "9 passed in 2s\\n=== ERROR SUMMARY: 0 errors")
        ''
    """
    kind, _, tool = name.partition(": ")
    if isinstance(status, str):
        return f"{status}{running_test(log)}"
    found = [int(count) for count in re.findall(rf"{SUMMARY[tool]}: (\d+) ", log)] if tool else []
    if any(found):
        return f"{tool} found {sum(found)}"
    if status != 0:
        return f"status {status}: {last_line(log)}"
    if kind in ("tests", "sanitize", "bench"):
        counts = re.findall(r"\b(\d+) passed\b", log)
        if not counts or int(counts[-1]) == 0:
            return "no test passed"
    if tool and not found:
        return f"no {SUMMARY[tool]}: the tests ran without {tool}"
    return ""


def running_test(log: str) -> str:
    """Which one had begun and not ended when a step was stopped.

    Examples:
        >>> running_test("tests/test_cuda.py::test_a PASSED  [ 50%]\\ntests/test_cuda.py::test_b[1 2] ")
        ', in tests/test_cuda.py::test_b[1 2]'
    """
    begun = re.findall(r"^(\S+\.py::.*)$", log, re.MULTILINE)
    ended = re.compile(r" (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
    if not begun or ended.search(begun[-1]):
        return ""
    return f", in {begun[-1].partition(' Timeout (')[0].strip()}"


def last_line(log: str) -> str:
    """pytest's, where a sanitizer, each of whose lines begins with nine signs, has the last word."""
    sanitizers = re.compile("={9} .*[^=]$")
    lines = [line for line in log.splitlines() if line.strip() and not sanitizers.match(line)]
    return lines[-1].strip("= ") if lines else ""


def write(out: Path, about: dict[str, str], steps: list[Step], measured: Path) -> None:
    result = {
        "about": about,
        "steps": [asdict(step) for step in steps],
        "measurements": json.loads(measured.read_text()) if measured.exists() else None,
    }
    (out / "gpu_check.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
