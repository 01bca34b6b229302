"""unique_rows against torch.unique, NumPy, pandas and polars."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import Needs

import gradsplinter


def some_rows(n, unique, make):
    """n rows, each one of `unique` rows; as many as there are, each once, if n is not more."""
    generator = torch.Generator().manual_seed(0)
    values = make(generator)
    if unique >= n:
        return values[:n].clone()
    return values[torch.randint(unique, (n,), generator=generator)]


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


def numpy_axis(rows):
    return np.unique(
        rows.numpy(), axis=0, return_index=True, return_inverse=True, return_counts=True
    )


def factorize(rows):
    words = rows.numpy().view(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) | 1
    return pd.factorize((words * odd).sum(axis=1, dtype=np.uint64))


def packed(bools):
    return torch.from_numpy(np.packbits(bools.numpy(), axis=1).view(np.int64))


def polars_group(rows):
    frame = pl.from_numpy(rows.numpy()).with_row_index()
    return frame.group_by(pl.exclude("index"), maintain_order=True).agg(
        pl.col("index").first(), pl.len()
    )


def torch_unique(rows):
    return torch.unique(rows, dim=0, return_inverse=True, return_counts=True)


@pytest.mark.parametrize("unique", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("words", [2, 16])
def bench_words(race, words, unique):
    n = race.size(1_000_000, 3_000)
    rows = some_rows(
        n, unique, lambda g: torch.randint(-(2**63), 2**63 - 1, (unique, words), generator=g)
    )
    check(gradsplinter.unique_rows(rows), rows)
    contenders = {
        "ours": lambda: gradsplinter.unique_rows(rows),
        "torch.unique(dim=0), int64 words": lambda: torch_unique(rows),
        "numpy.unique, void view": lambda: numpy_void(rows),
        "numpy.unique(axis=0)": lambda: numpy_axis(rows),
        "64-bit hash, pandas factorize (not exact)": lambda: factorize(rows),
        "polars group_by": lambda: polars_group(rows),
    }
    race(
        f"unique_rows, {n:,} × {64 * words} bits, {unique:,} unique",
        contenders,
        rounds=4,
        needs=Needs(bytes=8 * rows.numel() + 8 * n),
    )


def bench_bool_rows(race):
    """The form in which torch's users have patterns: one bool a unit."""
    n = race.size(1_000_000, 3_000)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1_000, 128, generator=generator) < 0.5
    rows = values[torch.randint(1_000, (n,), generator=generator)]
    check(gradsplinter.unique_rows(rows), rows)
    assert factorize(packed(rows))[0].max() == len(gradsplinter.unique_rows(rows).first) - 1
    race(
        f"unique_rows, {n:,} × 128 bools, 1,000 unique",
        {
            "ours": lambda: gradsplinter.unique_rows(rows),
            "packbits, 64-bit hash, pandas factorize (not exact)": lambda: factorize(packed(rows)),
            "torch.unique(dim=0)": lambda: torch_unique(rows),
        },
        rounds=4,
        needs=Needs(bytes=rows.numel() + 8 * n),
    )


@pytest.mark.parametrize(
    ("n", "columns", "unique"),
    [(10**6, 16, 1_000), (10**6, 16, 10**6), (10**5, 784, 1_000), (10**5, 784, 10**5)],
)
def bench_float_rows(race, n, columns, unique):
    n, unique = race.size(n, 3_000), race.size(unique, min(unique, 3_000))
    rows = some_rows(n, unique, lambda g: torch.randn(unique, columns, generator=g))
    check(gradsplinter.unique_rows(rows), rows)
    contenders = {
        "ours": lambda: gradsplinter.unique_rows(rows),
        "torch.unique(dim=0)": lambda: torch_unique(rows),
        "numpy.unique, void view": lambda: numpy_void(rows),
        "numpy.unique(axis=0)": lambda: numpy_axis(rows),
        "64-bit hash, pandas factorize (not exact)": lambda: factorize(rows),
        "polars group_by": lambda: polars_group(rows),
    }
    race(
        f"unique_rows, {n:,} × {columns} float32, {unique:,} unique",
        contenders,
        rounds=4,
        needs=Needs(bytes=4 * rows.numel() + 8 * n),
    )
