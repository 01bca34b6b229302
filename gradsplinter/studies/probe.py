"""A linear probe: does a linear function of an embedding tell the task?"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gradsplinter.studies.statistics import standardised
from gradsplinter.wording import missing_extra

PENALTIES = (0.01, 1.0, 100.0)
"""1 / strength of the squared penalty, of which one is chosen by cross-validation in the training set."""
FOLDS = 3


def check_probe() -> None:
    """
    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        import sklearn.linear_model  # noqa: F401, PLC0415
    except ImportError as error:
        raise ImportError(missing_extra("probes", "cluster", error)) from error


def probe_accuracy(
    features: Tensor,
    labels: Tensor,
    training: Tensor,
    test: Tensor,
    *,
    per_class: int | None = None,
) -> float:
    """Share of test rows whose class a linear classifier names; multinomial logistic regression.

    Features are standardised by all training rows, which needs no labels. The penalty is chosen by
    cross-validation among the training rows, where each class has enough; else it is 1.

    Args:
        features: `[M, F]`.
        labels: int `[M]`.
        training, test: indices of rows.
        per_class: only the labels of the first so many training rows of each class.

    Raises:
        ImportError: scikit-learn is missing.

    Examples:
        >>> features = torch.tensor([[0.0], [0.1], [1.0], [1.1], [0.2], [0.9]])
        >>> labels = torch.tensor([0, 0, 1, 1, 0, 1])
        >>> probe_accuracy(features, labels, torch.arange(4), torch.tensor([4, 5]))
        1.0
    """
    found = probe_labels(features, labels[training], training, test, per_class=per_class)
    return float((found == labels[test]).double().mean())


def probe_labels(
    features: Tensor,
    labels: Tensor,
    training: Tensor,
    test: Tensor,
    *,
    per_class: int | None = None,
) -> Tensor:
    """The class that the same classifier names for each test row, int64 `[test]`.

    Args:
        features, training, test, per_class: as in `probe_accuracy`.
        labels: int `[training]`.
    """
    check_probe()
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415

    features = features.double()
    scaled = standardised(features, features[training]).numpy()
    if per_class is not None:
        some = torch.cat(
            [(labels == label).nonzero().flatten()[:per_class] for label in labels.unique()]
        )
        training, labels = training[some], labels[some]
    x, y = scaled[training.numpy()], labels.numpy()
    model = LogisticRegression(max_iter=200, tol=1e-3)
    if _fewest(labels) >= FOLDS:
        model = GridSearchCV(model, {"C": list(PENALTIES)}, cv=FOLDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a separable set has no end
        model.fit(x, y)
    return torch.from_numpy(model.predict(scaled[test.numpy()]))


def _fewest(labels: Tensor) -> int:
    """Rows of the smallest class."""
    return int(labels.unique(return_counts=True)[1].min())
