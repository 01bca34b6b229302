"""A race: ours against each peer, interleaved, minima of several rounds, the result a ratio.

pytest bench                       measure, and print the table (`make bench` builds the probe first)
pytest bench --quick               on small sizes: ratios mean little
pytest bench --benchmark-disable   assert the answers only, once, on small sizes
pytest bench --write-results       also write bench/results/<date>-<cpu>.md
"""

from __future__ import annotations

import ctypes
import datetime as dt
import json
import platform
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent

# A virtual machine gives memory that has been free for some seconds back to its host, and touching it
# again can take ten times as long as the first call of a process takes: so calls in a row.
IN_A_ROW = 3
FAST = 0.3  # seconds
# A slow contender has no time for more rounds, but gigabytes to touch: 6.6 s in the first call and 2.4 s
# in the second. So it is called once more at once, unless it takes too long.
SLOW, TOO_SLOW = 3.0, 10.0  # seconds


@dataclass(frozen=True)
class Needs:
    """What a piece of work takes at least: operations (an fma is two) and bytes read or written."""

    float32: float = 0
    float64: float = 0
    bytes: float = 0

    def seconds(self, limits: dict[str, float]) -> float:
        """On this machine, if nothing else took time."""
        arithmetic = self.float32 / limits["float32"] + self.float64 / limits["float64"]
        return max(arithmetic, self.bytes / limits["copy"]) / 1e9


def wall_clock(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def cuda_clock(call: Callable[[], object]) -> float:
    """Seconds between two events on the stream, with nothing before them in the queue."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


@dataclass
class Race:
    """Times contenders in one process; the first one is ours, and may be alone."""

    answers_only: bool
    quick: bool
    limits: dict[str, float] | None
    machine: str
    clock: Callable[[Callable[[], object]], float] = wall_clock
    rows: list[tuple[str, str, float, float | None, str]] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick or self.answers_only else full

    def __call__(
        self,
        work: str,
        contenders: dict[str, Callable[[], object]],
        rounds: int = 4,
        pieces: dict[str, float] | None = None,
        needs: Needs | None = None,
    ) -> None:
        """Add a row for each peer, unless answers only are wanted. Slow peers run fewer rounds.

        Where a call of a contender does several pieces of the work, `pieces` says how many, and
        times are for one piece. `needs` gives the share of the machine's limit that ours reaches.
        """
        if self.answers_only:
            return
        best = dict.fromkeys(contenders, float("inf"))
        spent = dict.fromkeys(contenders, 0.0)
        for round_ in range(rounds):
            for name, call in contenders.items():
                if round_ > 0 and spent[name] > SLOW:
                    continue
                calls = IN_A_ROW if best[name] < FAST else 1
                while calls > 0:
                    seconds = self.clock(call)
                    best[name] = min(best[name], seconds)
                    spent[name] += seconds
                    first = spent[name] == seconds
                    calls += (first and SLOW < seconds < TOO_SLOW) - 1
        (_, ours), *peers = ((n, t / (pieces or {}).get(n, 1)) for n, t in best.items())
        share = ""
        if needs is not None and self.limits is not None:
            share = f"{needs.seconds(self.limits) / ours:.0%}"
        for name, seconds in peers or [("none", None)]:
            self.rows.append((work, name, ours, seconds, share))

    def table(self) -> str:
        lines = [
            "| work | ours | of the limit | peer | peer's time | ratio |",
            "|---|---:|---:|---|---:|---:|",
        ]
        before = ""
        for work, name, ours, peer, share in self.rows:
            first = f"{work} | {_ms(ours)} | {share}" if work != before else " | | "
            theirs = "| " if peer is None else f"{_ms(peer)} | {peer / ours:.1f} ×"
            lines.append(f"| {first} | {name} | {theirs} |")
            before = work
        return "\n".join(lines)


def _fresh_memory() -> None:
    """Large arrays always come from the system and go back to it, as in the first call of a process.

    Otherwise holes that earlier calls left in the heap decide whether a contender pays for touching
    fresh memory: torch's forward pass of 1M × 4-32-32-2 took 38 ms in one run and 160 ms in another.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_threshold = -3  # set by hand, it no longer grows with what is freed
        ctypes.CDLL(None).mallopt(mmap_threshold, 2**17)


def _ms(seconds: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.3g} ms"


_RACES = pytest.StashKey[dict[str, Race]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-results", action="store_true", help="write the table into bench/results"
    )
    parser.addoption("--quick", action="store_true", help="small sizes, in under a minute")


def pytest_configure(config: pytest.Config) -> None:
    _fresh_memory()
    answers_only, quick = config.getoption("benchmark_disable"), config.getoption("--quick")
    config.stash[_RACES] = races = {
        "cpu": Race(answers_only, quick, None if answers_only else _limits(), _cpu())
    }
    if torch.cuda.is_available():
        limits = None if answers_only else _cuda_limits()
        name = torch.cuda.get_device_name()
        races["cuda"] = Race(answers_only, quick, limits, name, cuda_clock)


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Race:
    return request.config.stash[_RACES]["cpu"]


@pytest.fixture
def cuda_race(request: pytest.FixtureRequest) -> Race:
    return request.config.stash[_RACES]["cuda"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for kind, race in config.stash[_RACES].items():
        if not race.rows:
            continue
        text = f"{_about(race, kind)}\n\n{race.table()}\n"
        terminalreporter.section("ours against peers")
        terminalreporter.write(text)
        if config.getoption("--write-results"):
            slug = re.sub(r"[^a-z0-9]+", "-", race.machine.lower()).strip("-")
            path = ROOT / "results" / f"{dt.date.today():%Y-%m-%d}-{slug}.md"
            path.write_text(f"# Ours against peers\n\n{text}", encoding="utf-8")
            terminalreporter.write(f"\nwritten to {path}\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def _limits() -> dict[str, float] | None:
    """Of this machine, measured: GFLOP/s and GB/s."""
    probe = ROOT.parent / "build" / "probe"
    if not probe.exists():
        return None
    limits: dict[str, float] = json.loads(subprocess.check_output([probe]))
    return limits


def _cuda_limits() -> dict[str, float]:
    """Of the GPU: GFLOP/s at its highest clock (compute capability 8.0 and 9.0), and measured GB/s."""
    device = torch.cuda.get_device_properties(0)
    clock = subprocess.check_output(
        ["nvidia-smi", "-i", "0", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    )
    rate = device.multi_processor_count * 2 * float(clock) / 1e3  # for an fma a clock, in GFLOP/s
    float32 = rate * (64 if (device.major, device.minor) == (8, 0) else 128)
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = min(cuda_clock(lambda: target.copy_(source)) for _ in range(10))
    return {"float32": float32, "float64": rate * 64, "copy": 2 * source.numel() / seconds / 1e9}


def _about(race: Race, kind: str) -> str:
    from gradsplinter import ops  # noqa: PLC0415 (after pytest has set up the imports)

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    with_what = f"{torch.get_num_threads()} threads, {ops.instruction_sets()[0]}"
    if kind == "cuda":
        driver = subprocess.check_output(
            ["nvidia-smi", "-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"],
            text=True,
        ).strip()
        with_what = f"driver {driver}, CUDA {torch.version.cuda}, TF32 off"
    return (
        f"{race.machine}, {with_what}; "
        f"torch {torch.__version__}; commit {commit or 'unknown'}; "
        f"{dt.date.today():%Y-%m-%d}. Times are minima; ratio = peer / ours.{_limit_text(race)}"
    )


def _limit_text(race: Race) -> str:
    if race.limits is None:
        return ""
    return (
        " Limits: {float32:,.0f} GFLOP/s in float32, {float64:,.0f} in float64, {copy:,.0f} GB/s of "
        "copying; the share is of what the operations or the bytes, whichever is more, take at least."
    ).format(**race.limits)
