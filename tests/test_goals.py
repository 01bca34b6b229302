"""bench/goals.py and bench/limits.py: what is said of a GPU's figures, without one."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCH = Path(__file__).parent.parent / "bench"


def load(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def goals(monkeypatch):
    return load("goals", monkeypatch)


def row(work, peer, ratio, of_the_limit=None):
    return SimpleNamespace(
        work=work, ours=2.0, peer=peer, peer_time=ratio and 2.0 * ratio, of_the_limit=of_the_limit
    )


def test_met_by_the_best_peer_and_by_all_sizes(goals):
    small = "unique_signatures (3,022 modes), 100,000,000 × 4-32-32-2"
    words = "unique_rows, 100,000,000 × 128 bits, 1,000 unique"
    rows = [
        row(small, "torch forward alone", 12, 0.51),
        row(small, "torch forward alone, into memory at hand", 9.5, 0.51),
        row(words, "torch.unique(dim=0)", 25),
        row(words, "cuDF, groupby.ngroup", 2),
        row("jacobian, U = N, 16,000 × 784-512-512-10", "masked matmul", 2.9),
        row("jacobian, U = N, 16,000 × 784-512-512-10", "vmap(jacrev)", 9),
        row("signatures, 32,768 × 4096-4096-4096-10", None, None, 0.7),
    ]
    _, _, *lines = goals.table(rows).splitlines()
    assert [line.split(" | ")[1:] for line in lines] == [
        ["9.5 ×", "NO |"],
        ["51%", "yes |"],
        ["25 ×", "yes |"],
        ["not measured", "|"],
        ["not measured", "|"],
        ["2.9 ×", "NO |"],
        ["70%", "yes |"],
    ]


def test_small_sizes_do_not_count(goals):
    rows = [row("unique_signatures (900 modes), 20,000 × 4-32-32-2", "torch forward alone", 99, 1)]
    assert all(goal.measured(rows) is None for goal in goals.GOALS)


@pytest.mark.parametrize("name", ["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE"])
def test_peers_in_tf32_are_refused(monkeypatch, name):
    limits = load("limits", monkeypatch)
    limits.need_plain_float32()
    with monkeypatch.context() as patch:
        patch.setenv(name, "1")
        with pytest.raises(ValueError, match=f"^{name} must not be set, got '1'$"):
            limits.need_plain_float32()
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(ValueError, match="allow_tf32 must be False"):
            limits.need_plain_float32()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
