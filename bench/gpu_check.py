"""Everything that only a GPU can show, on a bare machine, from a source tree, in under 8 minutes.

    python bench/gpu_check.py [--out FOLDER] [--large] [--only build tests sanitize bench]

Builds against the torch that is there, without a network; compares with the CPU bit for bit; runs a part of
that under compute-sanitizer; measures against torch. It needs torch with CUDA, nvcc, and the Python
packages scikit-build-core, pybind11, cmake, ninja, numpy, safetensors, tqdm, pytest, hypothesis,
pytest-benchmark, pandas and polars (the last two for the CPU's benchmarks, which bench_cuda.py shares
code with). FOLDER, build/gpu_check by default, gets gpu_check.json and the whole output of each step.
The exit status says whether all steps passed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STEPS = ("build", "tests", "sanitize", "bench")


@dataclass
class Step:
    name: str
    passed: bool
    seconds: float
    last_line: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check")
    parser.add_argument("--large", action="store_true", help="rows of more than 2^31 entries too")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    about = describe()
    print(json.dumps(about, indent=2), flush=True)
    if "error" in about:
        return 1

    site = ROOT / "build" / "gpu_check" / "site"
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "PYTHONSAFEPATH": "1",  # what was built, not the source tree
        "PYTHONUNBUFFERED": "1",
    }
    python = [sys.executable]
    pytest = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = [*pytest, "tests/test_cuda.py", *(["--large"] if options.large else [])]
    capability = about["capability"].replace(".", "")
    commands = {
        "build": [("build", 300, [
            *python, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index",
            "--upgrade", "--target", str(site), str(ROOT), "-C", "cmake.define.GRADSPLINTER_CUDA=ON",
            "-C", f"cmake.define.CMAKE_CUDA_ARCHITECTURES={capability}",
        ])],
        "tests": [("tests", 240, tests)],
        "sanitize": [
            (f"sanitize: {tool}", 120, [
                # Each tensor in an allocation of its own, or overruns into the next go unseen.
                "env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", "--tool", tool,
                "--error-exitcode", "99", "--target-processes", "all", *pytest,
                "tests/test_cuda.py", "-x", "-m", "sanitized",
            ])
            for tool in ("memcheck", "racecheck", "synccheck")
        ],
        "bench": [("bench", 240, [*pytest, "bench/bench_cuda.py", "--write-results"])],
    }  # fmt: skip
    steps: list[Step] = []
    for kind in STEPS:
        for name, limit, command in commands[kind] if kind in options.only else []:
            steps.append(run(name, command, limit, environment, options.out))
            write(options.out, about, steps)
        if kind == "build" and not all(step.passed for step in steps):
            break
    width = max(len(step.name) for step in steps)
    for step in steps:
        passed = "passed" if step.passed else "FAILED"
        print(f"{step.name:<{width}}  {passed}  {step.seconds:5.0f} s  {step.last_line}")
    return 0 if all(step.passed for step in steps) else 1


def describe() -> dict[str, str]:
    import torch  # noqa: PLC0415 (what is missing is named)

    if not torch.cuda.is_available():
        return {"error": "torch sees no GPU"}
    major, minor = torch.cuda.get_device_capability(0)
    return {
        "device": torch.cuda.get_device_name(0),
        "capability": f"{major}.{minor}",
        "driver": output(
            "nvidia-smi", "-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"
        ),
        "nvcc": output("nvcc", "--version").splitlines()[-1],
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "date": time.strftime("%Y-%m-%d"),
    }


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run(
    name: str, command: list[str], limit: float, environment: dict[str, str], out: Path
) -> Step:
    """One step, whose output goes to a file; a step that takes too long has failed."""
    print(f"== {name}", flush=True)
    begin = time.perf_counter()
    log = out / f"{name.replace(': ', '-')}.log"
    with log.open("w") as file:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
                timeout=limit, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = f"stopped after {limit:.0f} s"
        except OSError as error:
            code = str(error)
    text = log.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    if code != 0:
        print("\n".join(lines[-60:]), flush=True)
    elif name == "bench":
        print("\n".join(line for line in lines if line.startswith("|")), flush=True)
    last = lines[-1].strip("= ") if isinstance(code, int) else code
    return Step(name, code == 0, time.perf_counter() - begin, last)


def write(out: Path, about: dict[str, str], steps: list[Step]) -> None:
    result = {"about": about, "steps": [asdict(step) for step in steps]}
    (out / "gpu_check.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
