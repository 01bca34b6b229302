"""Toy tasks: their targets, their distribution of inputs, and above all their exact gradients."""

import dataclasses

import pytest
import torch
from torch.func import jacrev

from gradsplinter.families import SideBySide
from gradsplinter.formula import Formula
from gradsplinter.tasks import (
    ChainedProducts,
    CorrelatedInputs,
    GatedProduct,
    ParallelProducts,
    Product,
    QuotientOfDifference,
    SoftMixing,
    exact_orthogonality,
)

TASKS = [
    ParallelProducts(1),
    ParallelProducts(2),
    ParallelProducts(5, epsilon=0.1),
    Product(2),
    Product(5),
    ChainedProducts(3),
    CorrelatedInputs(ParallelProducts(3), 0.5),
    GatedProduct(),
    QuotientOfDifference(),
    SoftMixing(ParallelProducts(2), 0.3),
    SoftMixing(ParallelProducts(4), 0.75),
    SoftMixing(SoftMixing(ParallelProducts(3), 0.2), 0.1),
    SideBySide((GatedProduct(), SoftMixing(ParallelProducts(2), 0.3), Product(2))),
]
# Of soft mixing of two products at λ = 0, 0.1, ..., 0.5, to three digits.
THEORY = [1.000, 0.765, 0.504, 0.254, 0.069, 0.000]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tensor64(rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("n", [1, 64])
def test_gradient_is_the_derivative_of_the_target(task, n):
    x = task.sample(n, generator=seeded(), dtype=torch.float64)
    # The sum over examples: the target of one example depends on no other.
    expected = jacrev(lambda x: task.target(x).sum(0))(x).transpose(0, 1)
    gradient = task.gradient(x)
    assert gradient.shape == (n, task.n_outputs, task.n_inputs)
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_seeds(task, dtype):
    x = task.sample(100, generator=seeded(), dtype=dtype)
    assert x.shape == (100, task.n_inputs)
    assert x.dtype == task.target(x).dtype == task.gradient(x).dtype == dtype
    assert task.target(x).shape == (100, task.n_outputs)
    assert torch.equal(x, task.sample(100, generator=seeded(), dtype=dtype))
    assert not torch.equal(x, task.sample(100, generator=seeded(1), dtype=dtype))
    both = task.sample(100, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(x.double(), both, rtol=1e-6, atol=1e-6)


def test_no_examples():
    x = torch.empty(0, 4)
    assert ParallelProducts(2).target(x).shape == (0, 2)
    assert ParallelProducts(2).gradient(x).shape == (0, 2, 4)


def test_products_by_hand():
    x = tensor64([[2.0, 3.0, 5.0, 7.0]])
    task = ParallelProducts(2)
    assert task.target(x).tolist() == [[6.0, 35.0]]
    assert task.gradient(x).tolist() == [[[3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 7.0, 5.0]]]


def test_gated_product_by_hand():
    x = tensor64([[2.0, 3.0, 1.0], [2.0, 3.0, 0.0]])
    assert GatedProduct().target(x).tolist() == [[6.0], [0.0]]
    # With respect to the gate: that of the extension x1 x2 g.
    assert GatedProduct().gradient(x).tolist() == [[[3.0, 2.0, 6.0]], [[0.0, 0.0, 6.0]]]


def test_quotient_by_hand():
    x = tensor64([[3.0, 1.0, 4.0]])
    assert QuotientOfDifference().target(x).tolist() == [[0.5]]
    assert QuotientOfDifference().gradient(x).tolist() == [[[0.25, -0.25, -0.125]]]


def test_mixing_by_hand():
    x = tensor64([[1.0, 4.0, 2.0, 4.0, 3.0, 4.0]])  # products 4, 8, 12
    mixed = SoftMixing(ParallelProducts(3), 0.5)
    # Half of its own and half of the mean of the two others.
    assert mixed.target(x).tolist() == [[2 + 5, 4 + 4, 6 + 3]]
    assert mixed.gradient(x)[0, 0].tolist() == [2.0, 0.5, 1.0, 0.5, 1.0, 0.75]


def test_tasks_side_by_side_by_hand():
    task = SideBySide([ParallelProducts(2), QuotientOfDifference()])
    assert (task.n_inputs, task.n_outputs) == (7, 3)
    assert task.name == "2 products | quotient of a difference"
    x = tensor64([[2.0, 3.0, 5.0, 7.0, 3.0, 1.0, 4.0]])
    assert task.target(x).tolist() == [[6.0, 35.0, 0.5]]
    assert task.gradient(x).tolist() == [
        [[3, 2, 0, 0, 0, 0, 0], [0, 0, 7, 5, 0, 0, 0], [0, 0, 0, 0, 0.25, -0.25, -0.125]]
    ]


def test_equal_tasks_side_by_side_have_inputs_of_their_own():
    task = SideBySide((Formula("x1 * x2"), Formula("x1 * x2")))
    x = task.sample(500, generator=seeded())
    assert task == SideBySide([Formula("x1 * x2")] * 2)
    assert not torch.equal(x[:, :2], x[:, 2:])
    assert torch.corrcoef(x.T).fill_diagonal_(0).abs().max() < 0.2


def test_mixing_at_the_ends():
    task = ParallelProducts(2)
    x = task.sample(50, generator=seeded())
    y = task.target(x)
    assert torch.equal(SoftMixing(task, 0).target(x), y)
    assert torch.equal(SoftMixing(task, 1).target(x), y.flip(1))
    half = SoftMixing(task, 0.5).target(x)
    assert torch.equal(half[:, 0], half[:, 1])
    assert torch.equal(SoftMixing(task, 0.5).sample(50, generator=seeded()), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.001, 0.5, 0.999])
def test_products_are_uniform_between_0_and_1(dtype, epsilon):
    n = 200_000
    x = ParallelProducts(1, epsilon).sample(n, generator=seeded(), dtype=dtype)
    product = x.prod(1)
    assert product.min() > 0
    assert product.max() < 1
    # The largest distance of distribution functions is below 1.95 / sqrt(n) in 99.9 % of samples.
    grid = (torch.arange(n) + 0.5) / n
    assert (product.sort().values.double() - grid).abs().max() < 1.95 / n**0.5 + 1 / n
    # One factor is the second one, in [ε, 1]; it stands on either side half of the time.
    assert x.max() <= 1 / epsilon
    assert ((x >= epsilon * (1 - 1e-6)) & (x <= 1)).any(1).all()
    if epsilon == 0.999:
        swapped = (x[:, 0] > x[:, 1]).double().mean()
        assert abs(swapped - 0.5) < 5 * 0.5 / n**0.5


def test_extreme_random_numbers_keep_the_product_inside(monkeypatch):
    for value in (0.0, 1 - 2**-53):
        monkeypatch.setattr(
            torch, "rand", lambda *shape, v=value, **kw: torch.full(shape, v, dtype=kw["dtype"])
        )
        for dtype in (torch.float32, torch.float64):
            x = ParallelProducts(2).sample(3, generator=seeded(), dtype=dtype)
            product = ParallelProducts(2).target(x)
            assert ((product > 0) & (product < 1)).all()


def test_gates_and_denominators():
    gate = GatedProduct().sample(10_000, generator=seeded())[:, 2]
    assert gate.unique().tolist() == [0.0, 1.0]
    assert abs(gate.mean() - 0.5) < 5 * 0.5 / 100
    x = QuotientOfDifference(lowest=0.25).sample(10_000, generator=seeded())
    assert x.min() >= 0
    assert 0.25 <= x[:, 2].min() < 0.26
    assert 0.99 < x[:, 2].max() <= 1


@pytest.mark.parametrize(("step", "expected"), list(enumerate(THEORY)))
def test_orthogonality_of_mixed_products_is_the_theory(step, expected):
    task = SoftMixing(ParallelProducts(2), step / 10)
    few = task.sample(2_000, generator=seeded(), dtype=torch.float32)
    many = task.sample(500_000, generator=seeded(1), dtype=torch.float64)
    # |cos| has a standard deviation below 0.3, so the mean of n has one of 0.3 / sqrt(n):
    # three of them, and half of the last digit of the expected number.
    assert exact_orthogonality(task, few) == pytest.approx(expected, abs=0.9 / 2_000**0.5 + 5e-4)
    assert exact_orthogonality(task, many) == pytest.approx(expected, abs=0.9 / 5e5**0.5 + 5e-4)


def test_orthogonality_by_hand():
    # Products of (1, 1) and (1, 1), λ = 1/4: gradients (3, 3, 1, 1)/4 and (1, 1, 3, 3)/4,
    # of dot product 12/16 and squared length 20/16.
    task = SoftMixing(ParallelProducts(2), 0.25)
    assert exact_orthogonality(task, torch.ones(1, 4)) == pytest.approx(1 - 12 / 20, abs=1e-15)
    # The gradient at 0 is 0, whose cosine is 0: the mean of 1 - 0.6 and 1.
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert exact_orthogonality(task, x) == pytest.approx(1 - 12 / 40, abs=1e-15)
    # Three outputs, λ = 2/3: all gradients are equal.
    same = SoftMixing(ParallelProducts(3), 2 / 3)
    assert exact_orthogonality(same, torch.ones(5, 6)) == pytest.approx(0, abs=1e-14)


def test_orthogonality_is_never_negative():
    # The squared length of a unit vector can round to a little more than 1.
    task = SoftMixing(ParallelProducts(2), 0.5)
    for x in task.sample(100, generator=seeded()):
        assert 0 <= exact_orthogonality(task, x.unsqueeze(0)) < 1e-15


def test_tasks_are_frozen_values():
    assert SoftMixing(ParallelProducts(2), 0.5) == SoftMixing(ParallelProducts(2), 0.5)
    assert len({ParallelProducts(2), ParallelProducts(2), ParallelProducts(3)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        ParallelProducts(2).n = 3
    assert SoftMixing(ParallelProducts(2), 0.1).name == "2 products, λ = 0.1"


def test_inputs_that_are_not_plain():
    task = SoftMixing(ParallelProducts(2), 0.25)
    x = task.sample(6, generator=seeded())
    strided = torch.zeros(6, 8)[:, ::2].copy_(x)
    assert torch.equal(task.gradient(strided), task.gradient(x))
    assert torch.equal(task.target(strided), task.target(x))
    leaf = x.clone().requires_grad_()
    assert not task.gradient(leaf).requires_grad
    assert torch.autograd.grad(task.target(leaf).sum(), leaf)[0].shape == (6, 4)
    assert exact_orthogonality(task, leaf) == exact_orthogonality(task, x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SoftMixing(ParallelProducts(2), 1.5), ValueError, r"strength \(λ\).*got 1.5"),
        (lambda: SoftMixing(ParallelProducts(2), -0.1), ValueError, r"\[0, 1\], got -0.1"),
        (lambda: SoftMixing(ParallelProducts(2), float("nan")), ValueError, "strength.*got nan"),
        (lambda: SoftMixing(ParallelProducts(2), "0.5"), TypeError, "strength.*number, got str"),
        (lambda: SoftMixing(GatedProduct(), 0.5), ValueError, "2 outputs, got 1 .gated product"),
        (lambda: SoftMixing("products", 0.5), TypeError, "task must be a Task, got str"),
        (lambda: ParallelProducts(0), ValueError, "n must be at least 1, got 0"),
        (lambda: ParallelProducts(2.0), TypeError, "n must be an integer, got float"),
        (lambda: ParallelProducts(True), TypeError, "n must be an integer, got bool"),
        (lambda: ParallelProducts(2, 0.0), ValueError, r"epsilon must be in \(0, 1\), got 0.0"),
        (lambda: GatedProduct(1.0), ValueError, r"epsilon must be in \(0, 1\), got 1.0"),
        (lambda: GatedProduct(None), TypeError, "epsilon must be a number, got NoneType"),
        (lambda: SideBySide(()), ValueError, "tasks must hold at least one task, got none"),
        (lambda: SideBySide((Product(2), "x")), TypeError, r"tasks\[1\] must be a Task, got str"),
        (lambda: QuotientOfDifference(-1), ValueError, r"lowest must be in \(0, 1\), got -1"),
    ],
)
def test_bad_tasks(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (0, {}, ValueError, "n must be at least 1, got 0"),
        (1.5, {}, TypeError, "n must be an integer, got float"),
        (1, {"generator": 0}, TypeError, "generator must be a torch.Generator, got int"),
        (1, {"dtype": torch.float16}, TypeError, "dtype must be .* got torch.float16"),
    ],
)
def test_bad_samples(n, options, error, message):
    with pytest.raises(error, match=message):
        ParallelProducts(2).sample(n, **{"generator": seeded(), **options})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(5, 3), ValueError, r"x must have shape \[n, 4\] for 2 products.*got \[5, 3\]"),
        (torch.ones(4), ValueError, r"x must have 2 dimensions, got 1"),
        (torch.ones(5, 4, dtype=torch.int64), TypeError, "x must be float32 or float64, got int64"),
        ([[1.0] * 4], TypeError, "x must be a torch.Tensor, got list"),
        (torch.tensor([[1.0, 1, 1, float("nan")]]), ValueError, r"finite.*first at \[0, 3\]: nan"),
    ],
)
@pytest.mark.parametrize("function", ["target", "gradient", "exact_orthogonality"])
def test_bad_inputs(function, x, error, message):
    task = SoftMixing(ParallelProducts(2), 0.25)
    with pytest.raises(error, match=message):
        exact_orthogonality(task, x) if "exact" in function else getattr(task, function)(x)


def test_bad_orthogonality():
    with pytest.raises(ValueError, match="x must hold at least one example, got shape"):
        exact_orthogonality(ParallelProducts(2), torch.ones(0, 4))
    with pytest.raises(ValueError, match="task must have at least 2 outputs, got 1"):
        exact_orthogonality(ParallelProducts(1), torch.ones(1, 2))
    with pytest.raises(TypeError, match="task must be a Task, got NoneType"):
        exact_orthogonality(None, torch.ones(1, 2))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_inputs_of_different_pairs_have_the_correlation_that_was_asked_for(share):
    x = CorrelatedInputs(ParallelProducts(3), share).sample(50_000, generator=seeded()).T
    found = x.corrcoef()
    for i, j in ((0, 2), (1, 5), (3, 5)):
        assert abs(float(found[i, j]) - share) < 0.02
    assert torch.equal(found[0:2, 0:2] < 0, torch.tensor([[False, True], [True, False]]))


def test_bad_products():
    with pytest.raises(ValueError, match=r"^n must be at least 2, got 1$"):
        Product(1)
    with pytest.raises(ValueError, match=r"^n must be at least 2, got 1$"):
        ChainedProducts(1)
    with pytest.raises(TypeError, match=r"^task must be ParallelProducts, got Product$"):
        CorrelatedInputs(Product(2), 0.5)
    with pytest.raises(ValueError, match=r"^share must be in \[0, 1\], got 2$"):
        CorrelatedInputs(ParallelProducts(2), 2)
