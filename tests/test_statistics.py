"""Means with standard errors and rank correlations, by hand and beside SciPy's."""

import math

import pytest
import torch
from scipy.stats import rankdata, sem, spearmanr

from gradsplinter.studies.statistics import mean_and_error, rank_correlation, ranks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_ranks_and_their_correlation_are_those_of_scipy(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-4, 5, (30,), generator=generator).to(dtype) for _ in range(2))  # ties
    assert ranks(a).tolist() == rankdata(a).tolist()
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlation_by_hand():
    ties, others = torch.tensor([1.0, 2, 2, 3]), torch.tensor([1.0, 2, 3, 4])
    assert rank_correlation(ties, others) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert math.isnan(rank_correlation(ties, torch.ones(4)))


def test_mean_and_error():
    values = [0.2, 0.5, 1.5, -3.0]
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(sum(values) / 4)
    assert error == pytest.approx(sem(values))
    assert mean_and_error([2.0]) == (2.0, None)
    assert mean_and_error([2.0, None]) == mean_and_error([]) == (None, None)
