"""A race: ours against each peer, interleaved, minima of several rounds, the result a ratio.

pytest bench                       measure, and print the table
pytest bench --benchmark-disable   assert the answers only, once, on small sizes
pytest bench --write-results       also write bench/results/<date>-<cpu>.md
"""

from __future__ import annotations

import datetime as dt
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


@dataclass
class Race:
    """Times contenders in one process; the first one is ours."""

    quick: bool
    rows: list[tuple[str, str, float, float]] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def __call__(
        self,
        work: str,
        contenders: dict[str, Callable[[], object]],
        rounds: int = 7,
        pieces: dict[str, int] | None = None,
    ) -> None:
        """Add a row for each peer, unless answers only are wanted. Slow peers run fewer rounds.

        Where a call of a contender does several pieces of the work, `pieces` says how many, and
        times are for one piece.
        """
        if self.quick:
            return
        best = dict.fromkeys(contenders, float("inf"))
        spent = dict.fromkeys(contenders, 0.0)
        for round_ in range(rounds):
            for name, call in contenders.items():
                if round_ > 0 and spent[name] > 6:
                    continue
                begin = time.perf_counter()
                call()
                seconds = time.perf_counter() - begin
                best[name] = min(best[name], seconds)
                spent[name] += seconds
        (_, ours), *peers = ((n, t / (pieces or {}).get(n, 1)) for n, t in best.items())
        for name, seconds in peers:
            self.rows.append((work, name, ours, seconds))

    def table(self) -> str:
        lines = ["| work | ours | peer | peer's time | ratio |", "|---|---:|---|---:|---:|"]
        lines += [
            f"| {work} | {ours * 1e3:.3g} ms | {name} | {peer * 1e3:.3g} ms | {peer / ours:.1f} × |"
            for work, name, ours, peer in self.rows
        ]
        return "\n".join(lines)


_RACE = pytest.StashKey[Race]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-results", action="store_true", help="write the table into bench/results"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RACE] = Race(quick=config.getoption("benchmark_disable"))


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Race:
    return request.config.stash[_RACE]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    race = config.stash[_RACE]
    if not race.rows:
        return
    text = f"{_machine()}\n\n{race.table()}\n"
    terminalreporter.section("ours against peers")
    terminalreporter.write(text)
    if config.getoption("--write-results"):
        slug = re.sub(r"[^a-z0-9]+", "-", _cpu().lower()).strip("-")
        path = ROOT / "results" / f"{dt.date.today():%Y-%m-%d}-{slug}.md"
        path.write_text(f"# Ours against peers\n\n{text}", encoding="utf-8")
        terminalreporter.write(f"\nwritten to {path}\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def _machine() -> str:
    from gradsplinter import ops  # noqa: PLC0415 (after pytest has set up the imports)

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return (
        f"{_cpu()}, {torch.get_num_threads()} threads, {ops.instruction_sets()[0]}; "
        f"torch {torch.__version__}; commit {commit or 'unknown'}; "
        f"{dt.date.today():%Y-%m-%d}. Times are minima; ratio = peer / ours."
    )
