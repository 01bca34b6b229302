"""unique_rows against torch.unique, NumPy, pandas and polars."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import gradsplinter


def check(found, rows):
    """The unique rows, their order, counts and ids, against torch's."""
    unique, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    assert len(found.first) == len(unique)
    assert torch.equal(rows[found.first][found.ids], rows)
    assert bool((found.first.diff() > 0).all())
    assert torch.equal(found.counts, counts[inverse[found.first]])


def numpy_void(rows):
    array = rows.numpy()
    void = np.ascontiguousarray(array).view(f"V{array.shape[1] * array.itemsize}")
    return np.unique(void.ravel(), return_index=True, return_inverse=True, return_counts=True)


def factorize(rows):
    words = rows.numpy().view(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) | 1
    return pd.factorize((words * odd).sum(axis=1, dtype=np.uint64))


def polars_group(rows):
    frame = pl.from_numpy(rows.numpy()).with_row_index()
    return frame.group_by(pl.exclude("index"), maintain_order=True).agg(
        pl.col("index").first(), pl.len()
    )


def torch_unique(rows):
    return torch.unique(rows, dim=0, return_inverse=True, return_counts=True)


@pytest.mark.parametrize("unique", [1_000, 100_000, 1_000_000])
def bench_words(race, unique):
    n = race.size(1_000_000, 3_000)
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-(2**63), 2**63 - 1, (unique, 2), generator=generator)
    pick = torch.randint(unique, (n,), generator=generator)
    rows = values[pick] if unique < 1_000_000 else values[:n].clone()
    check(gradsplinter.unique_rows(rows), rows)
    race(
        f"unique_rows, {n:,} × 128 bits, {unique:,} unique",
        {
            "ours": lambda: gradsplinter.unique_rows(rows),
            "torch.unique(dim=0), int64 words": lambda: torch_unique(rows),
            "numpy.unique, void view": lambda: numpy_void(rows),
            "64-bit hash, pandas factorize (not exact)": lambda: factorize(rows),
            "polars group_by": lambda: polars_group(rows),
        },
    )


def bench_bool_rows(race):
    """The form in which torch's users have patterns: one bool a unit."""
    n = race.size(1_000_000, 3_000)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1_000, 128, generator=generator) < 0.5
    rows = values[torch.randint(1_000, (n,), generator=generator)]
    packed = torch.from_numpy(np.packbits(rows.numpy(), axis=1).view(np.int64))
    check(gradsplinter.unique_rows(packed), packed)
    race(
        f"unique_rows, {n:,} × 128 bits, 1,000 unique (peer: bool rows)",
        {
            "ours": lambda: gradsplinter.unique_rows(packed),
            "torch.unique(dim=0), bool": lambda: torch_unique(rows),
        },
        rounds=3,
    )


def bench_float_rows(race):
    n = race.size(1_000_000, 3_000)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1_000, 16, generator=generator)
    rows = values[torch.randint(1_000, (n,), generator=generator)]
    check(gradsplinter.unique_rows(rows), rows)
    race(
        f"unique_rows, {n:,} × 16 float32, 1,000 unique",
        {
            "ours": lambda: gradsplinter.unique_rows(rows),
            "torch.unique(dim=0)": lambda: torch_unique(rows),
            "numpy.unique, void view": lambda: numpy_void(rows),
            "64-bit hash, pandas factorize (not exact)": lambda: factorize(rows),
            "polars group_by": lambda: polars_group(rows),
        },
    )
