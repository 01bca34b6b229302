"""Relevance of inputs for outputs: gradient × input from splinters, and layer-wise relevance propagation.

For one output in one example, relevance is a number for each input: a heat map. Here are the two methods that
are nearest to splinters, to compare with.

In a ReLU network the first follows from the second. Write R^l_j for the relevance of unit j at site l and start
from R^L_d = y_d. The rule of LRP-0 (Bach et al. 2015, eq. 56) passes R^(l-1)_i = Σ_j a_i W_ji / z_j · R^l_j down.

1. Say R^l_j = c_j a^l_j. It holds at the output with c = 1 for the output and 0 for the others.
2. A unit that is on has a^l_j = z_j, which cancels; one that is off has a^l_j = 0 and R^l_j = 0. So
   R^(l-1)_i = a_i · Σ_(j on) W_ji c_j.
3. So it holds at site l-1 with c_i = Σ_(j on) W_ji c_j, the gradient's own recursion: R^0 = G_u ∘ x.

So in one mode LRP-0 is linear in x, with the splinter as its matrix. It takes z_j with its bias in it, and no
bias of zero; what biases add to an output is then in no input's relevance: Σ_i R^0_i = y - (what G_u x lacks).
With ε, step 2 leaves a factor z_j / (z_j + ε) of each unit (of abs(y) / (abs(y) + ε) for the output): LRP-ε is
the gradient × input of a network whose slopes are these and not 1, and differs from LRP-0 by O(ε).
The αβ rule splits each sum by sign, and nothing cancels.

Bach, Binder, Montavon, Klauschen, Müller and Samek, "On pixel-wise explanations for non-linear classifier
decisions by layer-wise relevance propagation" (PLoS ONE 2015); Montavon et al., "Layer-wise relevance
propagation: an overview" (2019); Ancona et al., "Towards better understanding of gradient-based attribution
methods" (ICLR 2018), proposition 1, has the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradsplinter.checks import check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.splinters import Splinters

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Inputs a `[N, 1, h]`, weights `[k, h]`, biases `[k]`, relevance `[N, D, k]` → relevance `[N, D, h]`."""


def gradient_times_input(splinters: Splinters, x: Tensor) -> Tensor:
    """The gradient of each direction times the input: one gradient serves all examples of its mode.

    Args:
        splinters: with the mode of each example (`ids`).
        x: the examples as they are at the source site, `[N, h_source]`, in the same order.

    Returns:
        `[N, D, h_source]`, in units of the direction. Its sum over the last dimension is the direction's value
        less what biases add to it.

    Raises:
        TypeError, ValueError: splinters without ids; x of another shape or dtype than they were collected from.

    Examples:
        >>> from gradsplinter import ReluNetwork, splinter
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[3.0, 1.0], [-1.0, 2.0]])
        >>> gradient_times_input(splinter(net, x), x)[:, 0]
        tensor([[3., 1.],
                [-0., 2.]])
    """
    if splinters.ids is None:
        raise ValueError("splinters must have the mode of each example: collect them with ids=True")
    check_tensor(x, "x", 2, (splinters.directions.dtype,), " like the network")
    shape = [splinters.n_examples, splinters.net.widths[splinters.source]]
    if list(x.shape) != shape:
        raise ValueError(f"x must have shape {shape}, that of the examples, got {list(x.shape)}")
    return splinters.jacobian()[splinters.ids] * x.unsqueeze(1)


def lrp_epsilon(net: ReluNetwork | nn.Module, x: Tensor, epsilon: float = 0.0) -> Tensor:
    """Relevance by the ε rule in every layer (Bach et al. 2015, eq. 58), of every output.

    R_i = Σ_j a_i W_ji / (z_j + ε · sign(z_j)) · R_j, with z_j = Σ_i a_i W_ji + b_j and sign(0) = 1.

    Args:
        net: a `ReluNetwork`, or a module that `ReluNetwork.from_module` takes.
        x: inputs `[N, h_0]` of the network's dtype; what is returned is held in memory, so not too many.
        epsilon: at least 0; in units of the pre-activations. With 0 an output that is 0 has no relevance.

    Returns:
        `[N, h_L, h_0]`, in units of the outputs.

    Raises:
        TypeError, ValueError: as `signatures`; an epsilon that is negative or not finite.

    Examples:
        With ε = 0 it is gradient × input; ε takes away most where pre-activations are small:

        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[3.0, 1.0]])
        >>> lrp_epsilon(net, x)
        tensor([[[3., 1.]]])
        >>> lrp_epsilon(net, x, 1.0)  # 3 · 4/5 · 3/4 and 1 · 4/5 · 1/2
        tensor([[[1.8000, 0.4000]]])
    """
    epsilon = _number(epsilon, "epsilon")

    def rule(a: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor) -> Tensor:
        z = a @ weight.T + bias
        return a * (_ratio(relevance, torch.where(z < 0, z - epsilon, z + epsilon)) @ weight)

    return _propagate(net, x, rule)


def lrp_alpha_beta(
    net: ReluNetwork | nn.Module, x: Tensor, alpha: float = 2.0, beta: float = 1.0
) -> Tensor:
    """Relevance by the αβ rule in every layer (Bach et al. 2015, eq. 60, where β has the other sign), of every output.

    R_i = Σ_j (α (a_i W_ji)^+ / z_j^+ - β (a_i W_ji)^- / z_j^-) · R_j, where z_j^+ = Σ_i (a_i W_ji)^+ + b_j^+ and
    likewise z_j^-. Where one of them is 0 its term is, too.

    Args:
        net, x: as in `lrp_epsilon`.
        alpha, beta: at least 0, with alpha - beta = 1, so that relevance is kept where there are no biases.

    Returns:
        `[N, h_L, h_0]`, in units of the outputs.

    Raises:
        TypeError, ValueError: as `signatures`; numbers that are negative, or whose difference is not 1.

    Examples:
        >>> net = ReluNetwork([torch.tensor([[2.0, -1.0]])], [torch.zeros(1)])
        >>> x = torch.tensor([[3.0, 2.0]])
        >>> lrp_alpha_beta(net, x), lrp_alpha_beta(net, x, alpha=1.0, beta=0.0)
        (tensor([[[ 8., -4.]]]), tensor([[[4., 0.]]]))
    """
    alpha, beta = _number(alpha, "alpha"), _number(beta, "beta")
    if not math.isclose(alpha - beta, 1, abs_tol=1e-9):
        raise ValueError(f"alpha must be beta + 1, got alpha {alpha} and beta {beta}")

    def part(a: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor, sign: float) -> Tensor:
        """Of the products of this sign: those of factors of the same sign, or of different ones."""
        pairs = [(half, (sign * other * weight).clamp_min(0)) for other, half in _halves(a)]
        z = sum((half @ some.T for half, some in pairs), (sign * bias).clamp_min(0))
        share = _ratio(relevance, z)
        return sum((half * (share @ some) for half, some in pairs), torch.zeros_like(a))

    def rule(a: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor) -> Tensor:
        found = alpha * part(a, weight, bias, relevance, 1)
        return found - beta * part(a, weight, bias, relevance, -1) if beta else found

    return _propagate(net, x, rule)


def _halves(a: Tensor) -> list[tuple[int, Tensor]]:
    """abs(a) where a is positive, and where it is negative."""
    return [(1, a.clamp_min(0)), (-1, (-a).clamp_min(0))]


def _propagate(net: ReluNetwork | nn.Module, x: Tensor, rule: Rule) -> Tensor:
    """From y_d at each output d down to the input, layer by layer."""
    if isinstance(net, nn.Module):
        net = ReluNetwork.from_module(net)
    if not isinstance(net, ReluNetwork):
        raise NotImplementedError(
            f"net must be a ReluNetwork or a chain of linear layers with ReLU between, got {type(net).__name__}; "
            "gradient_times_input takes splinters of any network"
        )
    a = net.check_inputs(x)
    a, inputs = a.unsqueeze(1), []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        inputs.append(a)
        z = a @ weight.T + bias
        a = z.clamp_min(0)
    relevance = torch.diag_embed(z.squeeze(1))
    for i in reversed(range(net.depth)):
        relevance = rule(inputs[i], net.weights[i], net.biases[i], relevance)
    return relevance


def _ratio(relevance: Tensor, z: Tensor) -> Tensor:
    """R / z; 0 where z is."""
    return torch.where(z == 0, 0, relevance / torch.where(z == 0, 1, z))


def _number(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")
    return float(value)
