"""Small networks side by side, their weights stacked: a step of Adam for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gradsplinter.network import ReluNetwork

# Larger batches are worked off in equal blocks of at most so many examples, to stay in cache. It
# does not depend on how many networks are stacked, so that the order of the sums does not either.
BLOCK = 2048
# Adam (Kingma and Ba 2015, algorithm 1), as in torch.optim.Adam.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Stack:
    """C networks of these widths, with a seed each, on data x `[C, n, h_0]` and y `[C, n, h_L]`.

    Inside, examples are the last dimension, `[C, width, rows]`, so that every product is one of long
    rows. No step allocates anything large.
    """

    def __init__(
        self,
        widths: Sequence[int],
        x: Tensor,
        y: Tensor,
        seeds: Sequence[int],
        batch_size: int | None = None,
    ) -> None:
        self.widths, self.count, self.steps = widths, len(seeds), 0
        self.x, self.y = x.mT.contiguous(), y.mT.contiguous()
        self.rows = batch_size or x.shape[1]
        # One flat buffer each for parameters, gradients and Adam's moments: one update for all.
        size = len(seeds) * sum(n * (m + 1) for m, n in pairwise(widths))
        self.parameters, self.denominator = x.new_empty(2, size)
        self.gradient, self.mean, self.square = x.new_zeros(3, size)
        self.layers = self._layers(self.parameters)
        self.gradients = self._layers(self.gradient)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for i, generator in enumerate(self.generators):
            reset([(weight[i], bias[i]) for weight, bias in self.layers], generator)
        rows = len(seeds) * block_size(self.rows)
        self.activations = [x.new_empty(rows * width) for width in widths[1:]]
        self.backs = [x.new_empty(rows * width) for width in widths[1:-1]]

    def _layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of a flat buffer: the weights `[C, h_l, h_(l-1)]` and biases `[C, h_l, 1]`."""
        count = self.count
        layers = []
        for before, after in pairwise(self.widths):
            size = count * after * before
            weight, bias, flat = flat.split([size, count * after, len(flat) - size - count * after])
            layers.append((weight.view(count, after, before), bias.view(count, after, 1)))
        return layers

    def step(self, learning_rate: float, losses: Tensor) -> None:
        """One step of Adam; the losses before it are added to `losses` `[C]`."""
        x, y = self._batch()
        self.gradient.zero_()
        size = block_size(self.rows)
        for x_block, y_block in zip(x.split(size, 2), y.split(size, 2), strict=True):
            self._add_gradient(x_block, y_block, losses)
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.gradient, self.gradient, value=1 - BETA2)
        scale = math.sqrt(1 - BETA2**self.steps)
        torch.sqrt(self.square, out=self.denominator).div_(scale).add_(EPSILON)
        rate = learning_rate / (1 - BETA1**self.steps)
        self.parameters.addcdiv_(self.mean, self.denominator, value=-rate)

    def _batch(self) -> tuple[Tensor, Tensor]:
        n = self.x.shape[2]
        if self.rows == n:
            return self.x, self.y
        begin = self.steps % (n // self.rows) * self.rows
        if begin == 0:
            epochs = [torch.randperm(n, generator=generator) for generator in self.generators]
            self.order = torch.stack(epochs).unsqueeze(1)
        index = self.order[:, :, begin : begin + self.rows]
        x, y = (data.gather(2, index.expand(-1, data.shape[1], -1)) for data in (self.x, self.y))
        return x, y

    def _add_gradient(self, x: Tensor, y: Tensor, losses: Tensor) -> None:
        """Add a block's share of the mean squared errors `[C]` and of their gradient."""
        count, _, rows = x.shape
        inputs = [x]
        for (weight, bias), buffer in zip(self.layers, self.activations, strict=True):
            z = buffer[: count * weight.shape[1] * rows].view(count, -1, rows)
            torch.baddbmm(bias, weight, inputs[-1], out=z)
            inputs.append(z if buffer is self.activations[-1] else z.relu_())
        back = inputs.pop().sub_(y)
        entries = self.rows * y.shape[1]
        losses.add_(back.square().sum((1, 2)), alpha=1 / entries)
        back.mul_(2 / entries)
        for layer in reversed(range(len(self.layers))):
            a = inputs[layer]
            weight_gradient, bias_gradient = self.gradients[layer]
            weight_gradient.baddbmm_(back, a.mT)
            bias_gradient.add_(back.sum(2, keepdim=True))
            if layer > 0:
                out = self.backs[layer - 1][: a.numel()].view_as(a)
                back = torch.bmm(self.layers[layer][0].mT, back, out=out)
                # In place and in one pass, as no public function of torch is.
                torch.ops.aten.threshold_backward.grad_input(back, a, 0, grad_input=back)

    def networks(self) -> list[ReluNetwork]:
        layers = [(weight, bias.squeeze(2)) for weight, bias in self.layers]
        networks = []
        for i in range(self.count):
            weights, biases = zip(*((weight[i], bias[i]) for weight, bias in layers), strict=True)
            networks.append(ReluNetwork(weights, biases))
        return networks


def reset(layers: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator) -> None:
    """The two calls of `nn.Linear.reset_parameters` for each (weight, bias)."""
    for weight, bias in layers:
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
        bound = 1 / math.sqrt(weight.shape[1])
        nn.init.uniform_(bias, -bound, bound, generator=generator)


def block_size(rows: int) -> int:
    """The size of the fewest equal blocks of at most BLOCK examples."""
    return -(-rows // -(-rows // BLOCK))
