"""Training many networks at once against plain torch, one network after the other.

The peer is `nn.Sequential` with `torch.optim.Adam`, on as many threads as torch has and on one. It
trains a few of the networks, and times are counted per network and step.
"""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from gradsplinter.tasks import ParallelProducts
from gradsplinter.train import TrainConfig, train

EXAMPLES = 8_000
PEER_NETWORKS = 3
PEER_STEPS = 20


def data(networks):
    task = ParallelProducts(2)
    x = torch.stack(
        [
            task.sample(EXAMPLES, generator=torch.Generator().manual_seed(seed))
            for seed in range(networks)
        ]
    )
    return x, task.target(x.flatten(0, 1)).view(networks, EXAMPLES, 2)


def train_with_torch(config, x, y, seed):
    """The peer: one network, from the same initial weights and with the same batches as ours."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for before, after in pairwise(config.widths):
        linear = nn.Linear(before, after)
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(linear.bias, -(before**-0.5), before**-0.5, generator=generator)
        modules += [linear, nn.ReLU()]
    module = nn.Sequential(*modules[:-1])
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    size = config.batch_size or len(x)
    for step in range(config.steps):
        x_batch, y_batch = x, y
        if size < len(x):
            begin = step % (len(x) // size) * size
            if begin == 0:
                order = torch.randperm(len(x), generator=generator)
            batch = order[begin : begin + size]
            x_batch, y_batch = x[batch], y[batch]
        optimizer.zero_grad()
        nn.functional.mse_loss(module(x_batch), y_batch).backward()
        optimizer.step()
    return module


def assert_same_function(config, x, y):
    ours = train(config, x, y, range(len(x)), progress=False).networks
    for seed in range(PEER_NETWORKS):
        module = train_with_torch(config, x[seed], y[seed], seed)
        # Rounding errors of 1e-7, amplified in the steps.
        torch.testing.assert_close(ours[seed](x[seed]), module(x[seed]), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("widths", "batch_size", "networks", "steps"),
    [((4, 32, 32, 2), 256, 500, 31), ((4, 16, 16, 2), None, 55, 20)],
)
def bench_train(race, widths, batch_size, networks, steps):
    networks, steps = race.size(networks, 20), race.size(steps, 10)
    x, y = data(networks)
    assert_same_function(TrainConfig(widths, PEER_STEPS, batch_size=batch_size), x[:20], y[:20])
    config = TrainConfig(widths, steps, batch_size=batch_size)
    peer_config = TrainConfig(widths, PEER_STEPS, batch_size=batch_size)

    def one_after_the_other(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for seed in range(PEER_NETWORKS):
            train_with_torch(peer_config, x[seed], y[seed], seed)
        torch.set_num_threads(before)

    peers = {
        f"one after the other in torch, {n} thread{'s' * (n > 1)}": n
        for n in sorted({1, torch.get_num_threads()})
    }
    race(
        f"train {networks} × {'-'.join(map(str, widths))}, {batch_size or EXAMPLES:,} examples "
        "a step: a network and step",
        {
            "ours": lambda: train(config, x, y, range(networks), progress=False),
            **{name: partial(one_after_the_other, n) for name, n in peers.items()},
        },
        rounds=5,
        pieces={"ours": networks * steps, **dict.fromkeys(peers, PEER_NETWORKS * PEER_STEPS)},
    )
