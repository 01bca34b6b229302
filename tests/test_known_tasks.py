"""The tasks that an embedder remembers."""

import pytest
import torch

from gradsplinter.known_tasks import FAR, KnownTasks

NAMES = ["sum", "product", "distance"]
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
EMBEDDINGS = torch.tensor(
    [[0.0, 1.0], [0.0, 3.0], [5.0, 0.0], [6.0, 0.0], [-9.0, 0.0], [-9.0, 0.0]]
)
KNOWN = KnownTasks.of(NAMES, LABELS, EMBEDDINGS)


def test_by_hand():
    assert KNOWN.names == ("sum", "product", "distance")
    assert KNOWN.means.tolist() == [[0, 2], [5.5, 0], [-9, 0]]
    assert KNOWN.distances.tolist() == [1, 0.5, 0]
    found = KNOWN.nearest(torch.tensor([4.0, 2.0]))
    assert [task.name for task in found] == ["product", "sum", "distance"]
    assert [task.distance for task in found] == pytest.approx([2.5, 4, 173**0.5])
    assert [task.usual for task in found] == [0.5, 1, 0]
    assert len(KNOWN.nearest(torch.zeros(2), 1)) == 1
    assert len(KNOWN.nearest(torch.zeros(2), 9)) == 3


@pytest.mark.parametrize(
    ("embedding", "alike"),
    [
        ([0.0, 2.0], True),
        ([0.0, 2.0 + FAR], True),
        ([0.0, 2.1 + FAR], False),
        # Nearest to the product, and far from it, but not far from the sum, whose networks are spread.
        ([2.9, 2.0], True),
        ([5.5, 0.5 * FAR + 0.1], False),
        ([-9.0, 0.0], True),
        ([-9.0, 0.1], False),
    ],
)
def test_like_none_of_them(embedding, alike):
    """More than 3 times as far from each of them as its own networks are on average."""
    assert KNOWN.has_alike(torch.tensor(embedding)) is alike


def test_none_are_known():
    none = KnownTasks.none(4)
    assert len(none) == 0
    assert none.nearest(torch.zeros(4)) == []
    assert not none.has_alike(torch.zeros(4))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: KnownTasks.of(NAMES, LABELS[:3], EMBEDDINGS),
            ValueError,
            "labels must be of 6 networks, as embeddings, got 3",
        ),
        (
            lambda: KnownTasks.of([*NAMES, "more"], LABELS, EMBEDDINGS),
            ValueError,
            r"labels must be 0..3, each at least 2 times, got \[0, 1, 2\], \[2, 2, 2\] times",
        ),
        (
            lambda: KnownTasks.of(NAMES, LABELS[:5], EMBEDDINGS[:5]),
            ValueError,
            r"labels must be 0..2, each at least 2 times, got \[0, 1, 2\], \[2, 2, 1\] times",
        ),
        (lambda: KnownTasks.of(NAMES[:2], LABELS, EMBEDDINGS), ValueError, r"labels must be 0..1"),
        (lambda: KnownTasks.of(NAMES, LABELS, EMBEDDINGS[0]), ValueError, "embeddings must have 2"),
        (
            lambda: KnownTasks.of(NAMES, LABELS, EMBEDDINGS * torch.nan),
            ValueError,
            "means must be finite",
        ),
        (
            lambda: KnownTasks(("sum",), torch.zeros(2, 4), torch.zeros(1)),
            ValueError,
            "means must be of 1 tasks, as names, got 2",
        ),
        (
            lambda: KNOWN.nearest(torch.zeros(3)),
            ValueError,
            "embedding must have 2 entries, as those of the known tasks, got 3",
        ),
        (
            lambda: KNOWN.has_alike(torch.tensor([0.0, torch.nan])),
            ValueError,
            "embedding must be finite, got 1 value that is not",
        ),
        (lambda: KNOWN.nearest([0.0, 0.0]), TypeError, r"embedding must be a torch\.Tensor"),
        (lambda: KNOWN.nearest(torch.zeros(2), 0), ValueError, "k must be at least 1, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
