"""How scores separate: by hand, by counting pairs, and as scikit-learn has it."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gradsplinter.studies.separation import (
    RIDGE,
    auroc,
    false_positive_rate,
    logistic_scores,
    matched_auroc,
)


def scores(n, seed, kinds=None):
    drawn = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn if kinds is None else (drawn * kinds).round()


def test_auroc_by_hand():
    assert auroc(torch.tensor([2.0, 3]), torch.tensor([0.0, 1])) == 1
    assert auroc(torch.tensor([0.0, 1]), torch.tensor([2.0, 3])) == 0
    assert auroc(torch.tensor([1.0, 1]), torch.tensor([1.0, 1, 1])) == 0.5
    assert auroc(torch.tensor([1.0, 4]), torch.tensor([0.0, 1, 5])) == (1.5 + 2) / 6
    assert math.isnan(auroc(torch.empty(0), torch.ones(2)))
    assert math.isnan(auroc(torch.ones(2), torch.empty(0)))


@pytest.mark.parametrize("kinds", [None, 2])
def test_auroc_is_scikit_learns(kinds):
    positives, negatives = scores(70, 0, kinds) + 1, scores(90, 1, kinds)
    expected = roc_auc_score([1] * 70 + [0] * 90, torch.cat([positives, negatives]))
    assert auroc(positives, negatives) == pytest.approx(expected, abs=1e-12)
    ties = (positives[:, None] == negatives).any()
    assert ties == (kinds is not None)


def test_false_positive_rate_by_hand():
    positives, negatives = torch.arange(20.0), torch.tensor([0.5, 1.0, 7.0, -1.0])
    assert false_positive_rate(positives, negatives) == 0.5  # 19 of 20: from 1 on
    assert false_positive_rate(positives, negatives, 1.0) == 0.75
    assert false_positive_rate(positives, negatives, 0.05) == 0
    same = torch.zeros(5)
    assert false_positive_rate(same, same) == 1
    assert math.isnan(false_positive_rate(torch.empty(0), same))


def test_matched_auroc_sees_only_what_the_other_score_does_not():
    other = scores(2000, 2) + 1, scores(2000, 3)
    noise = scores(2000, 4), scores(2000, 5)
    assert auroc(*other) > 0.7
    assert matched_auroc(*noise, *other) == pytest.approx(0.5, abs=0.03)
    # A score that follows the other one says little more; one that adds its own does.
    follows = [o + 0.5 * n for o, n in zip(other, noise, strict=True)]
    assert auroc(*follows) > 0.7
    assert matched_auroc(*follows, *other) < 0.55
    adds = noise[0] + 1, noise[1]
    assert matched_auroc(*adds, *other) == pytest.approx(auroc(*adds), abs=0.03)


def test_matched_auroc_by_hand():
    # Strata of the other score: {1, 2, 3} and {5, 6, 7}. In the first, positive 4 against negatives 3 and 5;
    # in the second, positives 1 and 3 against negative 3.
    found = matched_auroc(
        torch.tensor([4.0, 1, 3]), torch.tensor([3.0, 5, 3]),
        torch.tensor([1.0, 5, 6]), torch.tensor([2.0, 3, 7]), strata=2,
    )  # fmt: skip
    assert found == (1 + 0 + 0 + 0.5) / 4
    apart = torch.tensor([0.0, 0]), torch.tensor([9.0, 9])
    assert math.isnan(matched_auroc(torch.ones(2), torch.ones(2), *apart, strata=2))
    assert math.isnan(matched_auroc(*(torch.empty(0),) * 4))


def test_logistic_regression_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64, generator=generator) * torch.tensor([1, 50, 0.01])
    positive = x[:, 0] + x[:, 1] / 50 + scores(200, 1) > 0.5
    found = logistic_scores(x, positive, x)
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    peer = LogisticRegression(C=1 / RIDGE, tol=1e-10).fit(standard, positive)
    expected = torch.tensor(peer.decision_function(standard))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    constant = torch.cat([x, torch.ones(200, 1)], dim=1)
    torch.testing.assert_close(
        logistic_scores(constant, positive, constant + 5 * (constant == 1)), found
    )


def test_logistic_regression_of_classes_that_are_apart():
    x = torch.tensor([[0.0], [1], [10], [11]], dtype=torch.float64)
    found = logistic_scores(x, torch.tensor([False, False, True, True]), x)
    assert found.isfinite().all()
    assert (found[2:] > 0).all()
    assert (found[:2] < 0).all()
