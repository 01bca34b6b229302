"""Training many networks at once against plain torch, one network after the other.

The peer is `nn.Sequential` with `torch.optim.Adam`, on as many threads as torch has or on one,
whichever is faster. It trains a few of the networks, and its time is counted per network and step.
Ours and the peer's runs alternate, and of each the fastest is taken.
"""

import math
import time
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
    ("widths", "batch_size", "networks", "steps", "goal"),
    [
        pytest.param((4, 32, 32, 2), 256, 500, 31, 5.0, id="batches of 256"),
        pytest.param((4, 16, 16, 2), None, 55, 20, 1.6, id="full batches of 8000"),
    ],
)
def test_train(benchmark, capsys, widths, batch_size, networks, steps, goal):
    if benchmark.disabled:
        networks, steps = 20, 10
    x, y = data(networks)
    assert_same_function(TrainConfig(widths, PEER_STEPS, batch_size=batch_size), x[:20], y[:20])
    config = TrainConfig(widths, steps, batch_size=batch_size)
    peer_config = TrainConfig(widths, PEER_STEPS, batch_size=batch_size)
    peer_times = []
    threads = torch.get_num_threads()

    def peer():
        for count in (threads, 1):
            torch.set_num_threads(count)
            start = time.perf_counter()
            for seed in range(PEER_NETWORKS):
                train_with_torch(peer_config, x[seed], y[seed], seed)
            peer_times.append((time.perf_counter() - start) / PEER_NETWORKS / PEER_STEPS)
        torch.set_num_threads(threads)

    # The set-up of each round is a run of the peer, so that the two alternate.
    trained = benchmark.pedantic(
        lambda: train(config, x, y, range(networks), progress=False), setup=peer, rounds=5
    )
    assert trained.losses.isfinite().all()
    if benchmark.disabled:
        return
    ours = benchmark.stats.stats.min / networks / steps
    ratio = min(peer_times) / ours
    benchmark.extra_info["times as fast as torch"] = round(ratio, 2)
    with capsys.disabled():
        print(
            f"\n{networks} networks {'-'.join(map(str, widths))}, {batch_size or EXAMPLES} examples "
            f"a step: {1e3 * ours:.3f} ms a network and step, one after the other "
            f"{1e3 * min(peer_times):.3f} ms: {ratio:.1f} times as fast"
        )
    assert ratio >= goal
