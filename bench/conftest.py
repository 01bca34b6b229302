"""A race: ours against each peer, interleaved, minima of several rounds, the result a ratio.

pytest bench                       measure, and print the table (`make bench` builds the probe first)
pytest bench --quick               on small sizes: ratios mean little
pytest bench --benchmark-disable   assert the answers only, once, on small sizes
pytest bench --write-results       also write bench/results/<date>-<cpu>.md
pytest bench --results FOLDER      also write the table there, and its rows as cpu.json, cuda.json
pytest bench --device cpu          bench_cuda.py on the CPU, to try it where there is no GPU
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

import goals
import pytest
import torch
from limits import cpu_limits, cpu_name, cuda_clock, gpu_limits, need_plain_float32, nvidia_smi

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

    def seconds(self, limits: dict[str, float]) -> float | None:
        """On this machine, if nothing else took time; None where a limit is not known."""
        operations = {"float32": self.float32, "float64": self.float64}
        if any(count and name not in limits for name, count in operations.items()):
            return None
        arithmetic = sum(count / limits[name] for name, count in operations.items() if count)
        return max(arithmetic, self.bytes / limits["copy"]) / 1e9

    def __str__(self) -> str:
        counts = (self.float32, "GFLOP"), (self.float64, "GFLOP in float64"), (self.bytes, "GB")
        return ", ".join(f"{count / 1e9:,.3g} {unit}" for count, unit in counts if count)


def wall_clock(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Row:
    """Times in seconds; no peer where nobody raced."""

    work: str
    ours: float
    peer: str | None
    peer_time: float | None
    needs: Needs | None
    of_the_limit: float | None
    made: int | None = None
    """Things that ours made, for a rate."""


@dataclass
class Race:
    """Times contenders in one process; the first one is ours, and may be alone."""

    answers_only: bool
    quick: bool
    limits: dict[str, float] | None
    machine: str
    clock: Callable[[Callable[[], object]], float] = wall_clock
    rows: list[Row] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick or self.answers_only else full

    def __call__(
        self,
        work: str,
        contenders: dict[str, Callable[[], object]],
        rounds: int = 4,
        pieces: dict[str, float] | None = None,
        needs: Needs | None = None,
        made: int | None = None,
    ) -> None:
        """Add a row for each peer, unless answers only are wanted. Slow peers run fewer rounds.

        Where a call of a contender does several pieces of the work, `pieces` says how many, and
        times are for one piece. `needs` gives the share of the machine's limit that ours reaches, `made` the
        rate at which ours makes things.
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
        least = None if needs is None or self.limits is None else needs.seconds(self.limits)
        share = None if least is None else least / ours
        for name, seconds in peers or [(None, None)]:
            self.rows.append(Row(work, ours, name, seconds, needs, share, made))

    def table(self) -> str:
        lines = [
            "| work | ours | of the limit | peer | peer's time | ratio |",
            "|---|---:|---:|---|---:|---:|",
        ]
        before = ""
        for row in self.rows:
            share = "" if row.of_the_limit is None else f"{row.of_the_limit:.0%} of {row.needs}"
            rate = "" if row.made is None else f", {row.made / row.ours / 1e6:.3g} million/s"
            first = (
                f"{row.work} | {_ms(row.ours)}{rate} | {share}" if row.work != before else " | | "
            )
            peer = row.peer_time
            theirs = "| " if peer is None else f"{_ms(peer)} | {peer / row.ours:.1f} ×"
            lines.append(f"| {first} | {row.peer or 'none'} | {theirs} |")
            before = row.work
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
    parser.addoption("--results", type=Path, help="write the table into this folder, and its rows")
    parser.addoption("--quick", action="store_true", help="small sizes, in under a minute")
    parser.addoption("--device", default="cuda", help="what bench_cuda.py takes for the GPU")


def pytest_configure(config: pytest.Config) -> None:
    _fresh_memory()
    config.stash[_RACES] = {}


def _race(config: pytest.Config, kind: str) -> Race:
    races = config.stash[_RACES]
    if kind not in races:
        answers_only, quick = config.getoption("benchmark_disable"), config.getoption("--quick")
        gpu = kind == "cuda" and config.getoption("--device") == "cuda"
        if kind == "cuda":
            need_plain_float32()
        limits = None if answers_only else gpu_limits() if gpu else cpu_limits()
        machine = torch.cuda.get_device_name() if gpu else cpu_name()
        races[kind] = Race(answers_only, quick, limits, machine, cuda_clock if gpu else wall_clock)
    return races[kind]


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Race:
    return _race(request.config, "cpu")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    from gradsplinter import _C  # noqa: PLC0415 (after pytest has set up the imports)

    name = request.config.getoption("--device")
    if name == "cuda" and not (_C.cuda and torch.cuda.is_available()):
        pytest.skip("there is no GPU, or this build has no kernels for one")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@pytest.fixture
def cuda_race(request: pytest.FixtureRequest, device: torch.device) -> Race:  # noqa: ARG001
    return _race(request.config, "cuda")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for kind, race in config.stash[_RACES].items():
        if not race.rows:
            continue
        text = f"{_about(race, kind)}\n\n{race.table()}\n"
        if kind == "cuda":
            text += f"\n{goals.table(race.rows)}\n"
        terminalreporter.section("ours against peers")
        terminalreporter.write(text)
        slug = re.sub(r"[^a-z0-9]+", "-", race.machine.lower()).strip("-")
        name = f"{dt.date.today():%Y-%m-%d}-{slug}.md"
        folder = config.getoption("--results")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            rows = {
                "limits": race.limits,
                "rows": [asdict(row) for row in race.rows],
                "goals": [
                    {"goal": str(goal), "least": goal.least, "measured": goal.measured(race.rows)}
                    for goal in (goals.GOALS if kind == "cuda" else [])
                ],
            }
            (folder / f"{kind}.json").write_text(json.dumps(rows, indent=2) + "\n")
        written = [folder] if folder else []
        written += [ROOT / "results"] if config.getoption("--write-results") else []
        for path in written:
            (path / name).write_text(f"# Ours against peers\n\n{text}", encoding="utf-8")
            terminalreporter.write(f"\nwritten to {path / name}\n")


def _about(race: Race, kind: str) -> str:
    from gradsplinter import ops  # noqa: PLC0415 (after pytest has set up the imports)

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    with_what = f"{torch.get_num_threads()} threads, {ops.instruction_sets()[0]}"
    if kind == "cuda" and race.clock is cuda_clock:
        driver = nvidia_smi("driver_version") or "unknown"
        with_what = f"driver {driver}, CUDA {torch.version.cuda}, TF32 off"
    return (
        f"{race.machine}, {with_what}; "
        f"torch {torch.__version__}; commit {commit or 'unknown'}; "
        f"{dt.date.today():%Y-%m-%d}. Times are minima; ratio = peer / ours.{_limit_text(race)}"
    )


def _limit_text(race: Race) -> str:
    if race.limits is None:
        return ""
    units = {
        "float32": "GFLOP/s in float32", "float64": "GFLOP/s in float64", "copy": "GB/s of copying",
    }  # fmt: skip
    known = [
        f"{race.limits[name]:,.0f} {unit}" for name, unit in units.items() if name in race.limits
    ]
    return (
        f" Limits: {', '.join(known)}; the share is of what the operations or the bytes, whichever is "
        "more, take at least."
    )
