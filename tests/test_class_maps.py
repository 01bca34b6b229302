"""Maps of classes and clusters of their gradients: by hand, against others' results, and where there is nothing."""

import pytest
import torch
from networks import random_inputs, random_network
from scipy.stats import rankdata, spearmanr

from gradsplinter import ReluNetwork, splinter
from gradsplinter.data import Dataset
from gradsplinter.draws import generator_of
from gradsplinter.studies.class_maps import (
    class_groups,
    class_maps,
    confusions,
    image_similarity,
    pairs,
    partial,
    spearman,
)
from gradsplinter.studies.gradient_clusters import class_gradients, cloud, grouped, kinds


def linear(rows):
    rows = torch.tensor(rows)
    return ReluNetwork([rows], [torch.zeros(len(rows))])


def test_maps_by_hand():
    # Gradients (1, 0), (0, 1), (0, -1): their mean is (1, 0) / 3.
    found = class_maps(splinter(linear([[1.0, 0], [0, 1], [0, -1]]), torch.ones(5, 2)))
    torch.testing.assert_close(pairs(found.cosines), torch.tensor([0.0, 0, -1]).double())
    assert found.orthogonality == pytest.approx(2 / 3)
    long, short = (1 / 9 + 1) ** 0.5, 2 / 3
    expected = [-2 / 9 / long / short, -2 / 9 / long / short, (1 / 9 - 1) / long**2]
    torch.testing.assert_close(pairs(found.centred), torch.tensor(expected).double())


def test_maps_weigh_modes_by_their_examples():
    # With the first unit on, the classes are parallel; with the second, opposed.
    net = ReluNetwork(
        [torch.eye(2), torch.tensor([[1.0, 1], [1, -1]])], [torch.zeros(2), torch.zeros(2)]
    )
    x = torch.tensor([[1.0, -1], [2, -1], [3, -1], [-1, 1]])
    found = class_maps(splinter(net, x))
    assert found.cosines[0, 1].item() == pytest.approx((3 - 1) / 4)
    # Of centred gradients, those of the first are 0 in three examples, which have no cosine.
    assert found.centred[0, 1].item() == pytest.approx(-1 / 4)


def test_maps_of_many_modes():
    torch.manual_seed(0)
    net = random_network((6, 12, 12, 5))
    s = splinter(net, random_inputs(300, 6))
    assert s.n_modes > 50
    found = class_maps(s)
    assert found.orthogonality == pytest.approx(s.orthogonality(), abs=1e-6)
    weights = s.counts.double() / s.counts.sum()
    expected = torch.einsum("u,uij->ij", weights, s.cross().double())
    torch.testing.assert_close(found.cosines, expected, rtol=0, atol=1e-6)
    centring = torch.eye(5) - 1 / 5
    of_centred = splinter(net, random_inputs(300, 6), directions=centring).cross().double()
    expected = torch.einsum("u,uij->ij", weights, of_centred)
    torch.testing.assert_close(found.centred, expected, rtol=0, atol=1e-4)


def test_what_all_classes_have_in_common_changes_only_the_plain_map():
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    one = class_maps(splinter(linear(rows.tolist()), torch.ones(1, 8)))
    other = class_maps(splinter(linear((rows + 3).tolist()), torch.ones(1, 8)))
    torch.testing.assert_close(one.centred, other.centred, rtol=0, atol=1e-5)
    assert float((one.cosines - other.cosines).abs().max()) > 0.5


def test_centred_maps_have_a_mean_by_construction():
    units = torch.nn.functional.normalize(torch.eye(4, 7) - torch.eye(4, 7).mean(dim=0), dim=1)
    found = class_maps(splinter(linear(units.tolist()), torch.ones(1, 7)))
    assert float(pairs(found.centred).mean()) == pytest.approx(-1 / 3)


def test_maps_need_two_classes():
    with pytest.raises(ValueError, match=r"^splinters must have at least two directions, got 1"):
        class_maps(splinter(linear([[1.0, 0]]), torch.ones(1, 2)))


def maps_of(seed, count=3, classes=6):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(0, 5, (classes, classes), generator=generator).double() for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlations(seed):
    a, b, given = maps_of(seed)  # with many ties
    assert spearman(a, b) == pytest.approx(spearmanr(pairs(a), pairs(b)).statistic)
    # The partial correlation is that of what a line through the third leaves of both.
    ranks = [torch.from_numpy(rankdata(pairs(one))) for one in (a, b, given)]
    x, y, z = (one - one.mean() for one in ranks)
    x, y = (one - (one @ z) / (z @ z) * z for one in (x, y))
    assert partial(a, b, given) == pytest.approx(float(x @ y / (x.norm() * y.norm())))


def test_rank_correlations_that_say_nothing():
    a, b, given = maps_of(0)
    assert spearman(a[:4, :4], b[:4, :4]) is None  # six pairs
    assert spearman(a, torch.ones(6, 6)) is None
    assert partial(a, torch.ones(6, 6), given) is None
    assert partial(a, b, b * 2) is None
    with pytest.raises(ValueError, match=r"^a and b must be square and alike"):
        spearman(a, b[:5, :5])


def dataset(x, y, classes=3):
    return Dataset(torch.tensor(x), torch.tensor(y), tuple("abcdef"[:classes]), None, "here")


def test_confusions_by_hand():
    net = torch.nn.Linear(3, 3, bias=False)
    net.weight.data = torch.eye(3)
    seen = dataset(torch.eye(3)[[0, 1, 1, 2, 0]].tolist(), [0, 0, 0, 2, 1])
    assert confusions(net, seen).tolist() == [[0, 3, 0], [3, 0, 0], [0, 0, 0]]


def test_likeness_by_hand():
    # Means (0, 0), (4, 0), (2, 3): less (2, 1) these are (-2, -1), (2, -1), (0, 2).
    seen = dataset([[0.0, 0], [3, 0], [5, 0], [2, 3]], [0, 1, 1, 2])
    expected = torch.tensor([-3 / 5, -1 / 5**0.5, -1 / 5**0.5]).double()
    torch.testing.assert_close(pairs(image_similarity(seen)), expected)
    with pytest.raises(ValueError, match=r"^data must have examples of every class, got none of d"):
        image_similarity(dataset([[0.0, 0]] * 3, [0, 1, 2], classes=4))


def test_groups_of_classes():
    blocks = torch.full((6, 6), -0.2)
    for a, b in ((0, 3), (3, 5), (0, 5), (1, 2), (2, 4), (1, 4)):
        blocks[a, b] = blocks[b, a] = 0.5
    assert class_groups(blocks) == [0, 1, 1, 0, 1, 0]
    assert class_groups(torch.full((3, 3), -0.5)) == [0, 1, 2]


def test_gradients_of_a_class_are_those_of_autograd():
    torch.manual_seed(0)
    net = random_network((5, 9, 7, 4))
    x = random_inputs(40, 5)
    members = torch.tensor([3, 17, 17, 39])
    found = class_gradients(splinter(net, x), members, 2)
    y = net.to_module()
    expected = torch.stack([
        torch.func.grad(lambda one: y(one)[2] - y(one).mean())(x[i]) for i in members
    ])  # fmt: skip
    torch.testing.assert_close(found, expected)


def planted(generator):
    """Thirty vectors around each of three directions that are 90° apart."""
    centres = torch.eye(3, 20).repeat_interleave(30, dim=0)
    return centres + 0.02 * torch.randn(90, 20, generator=generator)


def test_clusters_are_found_where_there_are_some_and_not_in_a_cloud():
    vectors = planted(torch.Generator().manual_seed(0))
    found = grouped(vectors, (45.0, 80.0))
    assert found.clusters == {45.0: 3, 80.0: 3}
    assert found.largest == {45.0: pytest.approx(1 / 3), 80.0: pytest.approx(1 / 3)}
    assert found.dense == 3
    assert found.in_second == pytest.approx(found.in_dense / 3, abs=0.05)
    by_chance = grouped(cloud(vectors, generator_of(0, "cloud")), (45.0, 80.0))
    assert by_chance.clusters[45.0] > 2 * found.clusters[45.0]


def test_a_cloud_has_the_mean_and_the_covariance():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3000, 3, generator=generator) @ torch.tensor(
        [[2.0, 1, 0], [0, 1, 0], [0, 0, 0]]
    ) + torch.tensor([5.0, 0, 1])
    drawn = cloud(vectors, generator_of(7, "cloud"))
    assert drawn.shape == vectors.shape
    torch.testing.assert_close(drawn.mean(dim=0), vectors.mean(dim=0), rtol=0, atol=0.2)
    torch.testing.assert_close(drawn.T.cov(), vectors.T.cov(), rtol=0, atol=0.4)
    assert torch.equal(drawn, cloud(vectors, generator_of(7, "cloud")))
    assert not torch.equal(drawn, cloud(vectors, generator_of(8, "cloud")))


def test_clusters_of_few_or_of_zero_gradients():
    with pytest.raises(ValueError, match=r"^gradients must be at least two, got 1"):
        grouped(torch.ones(1, 3), (45.0,))
    found = grouped(torch.zeros(6, 3), (45.0,))
    assert (found.clusters, found.dense, found.in_dense, found.in_second) == ({45.0: 0}, 0, 0, 0)


def test_kinds_have_their_members():
    vectors = planted(torch.Generator().manual_seed(0))[20:]  # 10, 30 and 30
    members = torch.arange(70) * 2
    examples = torch.arange(140.0).unsqueeze(1)
    first, second = kinds(vectors, examples, members, 4, 45, 2)
    assert first.label == 4
    assert first.members.tolist() == list(range(20, 80, 2))
    assert second.members.tolist() == list(range(80, 140, 2))
    assert first.share == pytest.approx(3 / 7)
    assert first.example.item() == 49
    torch.testing.assert_close(second.gradient, vectors[40:].mean(dim=0))
