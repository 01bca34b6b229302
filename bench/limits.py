"""What the machine could do at most, which a measured time is compared with."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch


def cuda_clock(call: Callable[[], object]) -> float:
    """Seconds between two events on the stream, with nothing before them in the queue."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def cpu_limits() -> dict[str, float] | None:
    """Of this machine, measured: GFLOP/s and GB/s."""
    probe = Path(__file__).parent.parent / "build" / "probe"
    if not probe.exists():
        return None
    limits: dict[str, float] = json.loads(subprocess.check_output([probe]))
    return limits


# Multiply-adds a clock that a multiprocessor of this compute capability does, in float32 and float64:
# CUDA C++ Programming Guide, throughput of native arithmetic instructions.
_FMAS = {
    (8, 0): (64, 32),
    (8, 6): (128, 2),
    (8, 9): (128, 2),
    (9, 0): (128, 64),
    (10, 0): (128, 64),
    (12, 0): (128, 2),
}


def need_plain_float32() -> None:
    """That nothing lets torch's products run in TF32, which has 10 bits after the leading one."""
    if torch.backends.cuda.matmul.allow_tf32:
        raise ValueError("torch.backends.cuda.matmul.allow_tf32 must be False")
    for name in ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE"):
        if name in os.environ:
            raise ValueError(f"{name} must not be set, got {os.environ[name]!r}")


def gpu_limits() -> dict[str, float]:
    """Of the GPU: GFLOP/s at its highest clock, where that is known, and measured GB/s."""
    device = torch.cuda.get_device_properties(0)
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = min(cuda_clock(lambda: target.copy_(source)) for _ in range(10))
    limits = {"copy": 2 * source.numel() / seconds / 1e9}
    clock, fmas = nvidia_smi("clocks.max.sm"), _FMAS.get((device.major, device.minor))
    if clock is not None and fmas is not None:
        rate = device.multi_processor_count * 2 * float(clock) / 1e3
        limits |= {"float32": rate * fmas[0], "float64": rate * fmas[1]}
    return limits


def nvidia_smi(query: str) -> str | None:
    """Of torch's first GPU, whichever CUDA_VISIBLE_DEVICES makes that; None where nobody knows."""
    gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    command = ["nvidia-smi", "-i", gpu, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
