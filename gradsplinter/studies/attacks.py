"""Adversarial examples, and noise of the same size: inputs near others that a network takes for another class.

All inputs are in [0, 1], and stay there. Attacks take a network whose inputs are rows and whose outputs are
the logits of classes; the cross entropy of the right class is what they raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradsplinter.checks import DTYPES, check_integer, check_tensor

Norm = Literal["linf", "l2"]
Nearest = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x `[N, h_0]`, classes `[N]`) → how unusual the bits of each are for its class, `[N]`, and the bits of the
nearest training mode of that class as 1 and -1, `[N, units of all hidden sites]`."""

STEP = 2.5
"""Steps of projected gradient ascent together, over ε (Madry et al. 2018, their code)."""
MARGIN = 1e-3
"""m, by which a unit shall be on or off: at 0 itself it is off."""


def fgsm(net: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """The fast gradient sign method: x + ε sign(∇ loss), within [0, 1].

    Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples" (2015).

    Args:
        net: from inputs to logits `[N, classes]`.
        x: `[N, h_0]`.
        y: int64 `[N]`, the right classes.
        epsilon: how far each coordinate moves.

    Raises:
        TypeError, ValueError: inputs that are no rows of numbers in [0, 1], an ε that is not positive.

    Examples:
        >>> net = nn.Linear(2, 2)
        >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 0], [0, 1]]))
        >>> fgsm(net, torch.tensor([[0.5, 0.25]]), torch.tensor([0]), 0.125)
        tensor([[0.3750, 0.3750]])
    """
    _check(x, epsilon)
    return (x + epsilon * _gradient(_loss(net, y), x).sign()).clamp(0, 1)


def pgd(
    net: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: Norm, steps: int,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Projected gradient ascent of the loss in the ball of radius ε, from a random start; its last point.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (2018).

    Args:
        net, x, y: as in `fgsm`.
        epsilon: the radius.
        norm: of the ball: "linf", whose steps are signs, or "l2", whose steps go along the gradient.
        steps: how many; each is 2.5 ε / steps long.
        generator: of the start, uniform in the ball.

    Raises:
        TypeError, ValueError: as `fgsm`; an unknown norm, no step.
    """
    _check(x, epsilon, norm, steps)
    at = _project(x, x + _in_ball(x, epsilon, norm, generator), epsilon, norm)
    objective = _loss(net, y)
    for _ in range(steps):
        at = _step(objective, x, at, epsilon, norm, steps)
    return at


def mode_seeking(
    net: nn.Sequential, x: Tensor, y: Tensor, start: Tensor, epsilon: float, norm: Norm, *,
    steps: int, weights: tuple[float, ...], scale: Tensor, nearest: Nearest,
) -> Tensor:  # fmt: skip
    """An attack that knows of the modes: it looks for another class in a mode known from training.

    From a first attack on, it raises log p of the class that this attack has reached (of the second best,
    where it has failed) less a penalty: the mean over units of relu(m - s_j z_j / scale_j), where s_j = ±1 are
    the bits of the training mode of that class that is nearest at each step. Among all points on the way, and
    for all weights of the penalty, it keeps the one of that class whose bits are the least unusual; where there
    is none, the first attack. A defence must be tested by an attack that knows it: Carlini and
    Wagner, "Adversarial Examples Are Not Easily Detected" (2017).

    Args:
        net: `nn.Linear` and `nn.ReLU` in turn.
        x, y, epsilon, norm, steps: as in `pgd`.
        start: the first attack `[N, h_0]`.
        weights: of the penalty, tried one after the other.
        scale: of z_j, one number for each hidden unit.
        nearest: what is usual for a class.

    Raises:
        TypeError, ValueError: as `pgd`.
    """
    _check(x, epsilon, norm, steps)
    target = _second_best(net, start, y)
    best, least = start.clone(), torch.full((len(x),), torch.inf)

    def keep(at: Tensor) -> Tensor:
        unusual, signs = nearest(at, target)
        with torch.no_grad():
            reached = net(at).argmax(1) == target
        better = reached & (unusual < least)
        best[better], least[better] = at[better], unusual[better].float()
        return signs

    for weight in weights:
        at = start
        for _ in range(steps):
            signs = keep(at)

            def objective(at: Tensor, signs: Tensor = signs, weight: float = weight) -> Tensor:
                z, logits = pre_activations(net, at)
                away = F.relu(MARGIN - signs * z / scale).mean(1)
                own = F.log_softmax(logits, 1).gather(1, target.unsqueeze(1)).squeeze(1)
                return own - weight * away

            at = _step(objective, x, at, epsilon, norm, steps)
        keep(at)
    return best


def pre_activations(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """z of all hidden units `[N, units]`, site by site, and the outputs `[N, classes]`."""
    found, a = [], x
    for layer in net:
        a = layer(a)
        if isinstance(layer, nn.Linear):
            found.append(a)
    return torch.cat(found[:-1], dim=1), a


def sign_noise(x: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Each coordinate moves by ε up or down, at random, within [0, 1]."""
    return (x + epsilon * torch.randn(x.shape, generator=generator).sign()).clamp(0, 1)


def gaussian_noise(x: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """Each example moves in a random direction until, within [0, 1], it has gone as far as its length.

    Args:
        x: `[N, h_0]` in [0, 1].
        lengths: Euclidean, `[N]`; where the corner of the cube is nearer, that far.
        generator: of the directions.
    """
    direction = torch.randn(x.shape, generator=generator)
    low, high = torch.zeros(len(x), 1), torch.full((len(x), 1), 2.0**16)
    for _ in range(48):  # halvings of 2^16: float32 has no more digits
        middle = (low + high) / 2
        short = ((x + middle * direction).clamp(0, 1) - x).norm(dim=1) < lengths
        low = torch.where(short.unsqueeze(1), middle, low)
        high = torch.where(short.unsqueeze(1), high, middle)
    return (x + low * direction).clamp(0, 1)


def _check(x: Tensor, epsilon: float, norm: str = "linf", steps: int = 1) -> None:
    check_tensor(x, "x", 2, DTYPES)
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(f"x must be in [0, 1], got values in [{x.min():g}, {x.max():g}]")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be linf or l2, got {norm!r}")
    check_integer(steps, "steps", 1)


def _loss(net: nn.Module, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda at: F.cross_entropy(net(at), y, reduction="none")


def _gradient(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        gradient: Tensor = torch.autograd.grad(objective(x).sum(), x)[0]
    return gradient


def _step(
    objective: Callable[[Tensor], Tensor], x: Tensor, at: Tensor, epsilon: float, norm: Norm,
    steps: int,
) -> Tensor:  # fmt: skip
    gradient = _gradient(objective, at)
    direction = gradient.sign() if norm == "linf" else F.normalize(gradient, eps=1e-30)
    return _project(x, at + STEP * epsilon / steps * direction, epsilon, norm)


def _project(x: Tensor, at: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Into the ball around x and into [0, 1], where x is: the second never leads out of the first."""
    if norm == "linf":
        moved = (at - x).clamp(-epsilon, epsilon)
    else:
        moved = at - x
        moved = moved * (epsilon / moved.norm(dim=1, keepdim=True).clamp_min(epsilon))
    return (x + moved).clamp(0, 1)


def _in_ball(x: Tensor, epsilon: float, norm: Norm, generator: torch.Generator) -> Tensor:
    if norm == "linf":
        return epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
    direction = F.normalize(torch.randn(x.shape, generator=generator))
    radius = torch.rand(len(x), 1, generator=generator) ** (1 / x.shape[1])
    return epsilon * radius * direction


def _second_best(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The class with the largest output but y: the predicted one, where that is not y."""
    with torch.no_grad():
        logits: Tensor = net(x)
    return logits.scatter(1, y.unsqueeze(1), -torch.inf).argmax(1)
