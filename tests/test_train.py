"""Training many networks at once: the same as torch trains one, whatever the company."""

import math
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from gradsplinter import ReluNetwork
from gradsplinter._stack import Stack
from gradsplinter.tasks import ParallelProducts
from gradsplinter.train import TrainConfig, _chunks, initialise, train


def data(m, n, widths, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(m, n, widths[0], generator=generator, dtype=dtype)
    return x, torch.rand(m, n, widths[-1], generator=generator, dtype=dtype)


def parameters(net: ReluNetwork):
    return torch.cat([t.flatten() for t in (*net.weights, *net.biases)])


def train_with_torch(config, x, y, seed):
    """One network with nn.Sequential, autograd and torch.optim.Adam → the module, its losses."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for before, after in zip(config.widths, config.widths[1:], strict=False):
        linear = nn.Linear(before, after, dtype=x.dtype)
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(linear.bias, -(before**-0.5), before**-0.5, generator=generator)
        modules += [linear, nn.ReLU()]
    module = nn.Sequential(*modules[:-1])
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
    losses = []
    batches = []
    for _ in range(config.steps):
        if not batches:
            order = torch.arange(len(x))
            if config.batch_size is not None and config.batch_size < len(x):
                order = torch.randperm(len(x), generator=generator)
            size = config.batch_size or len(x)
            batches = [b for b in order.split(size) if len(b) == size]
        batch = batches.pop(0)
        loss = nn.functional.mse_loss(module(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return module, torch.tensor(losses, dtype=x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(4, 16, 16, 2), (1, 1), (3, 1, 5, 2)])
def test_initial_weights_are_those_of_nn_linear(widths, dtype):
    before = torch.get_rng_state()
    ours = initialise(widths, 5, dtype)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for weight, bias in zip(ours.weights, ours.biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
            assert torch.equal(weight, linear.weight)
            assert torch.equal(bias, linear.bias)
    assert not torch.equal(parameters(ours), parameters(initialise(widths, 6, dtype)))


@pytest.mark.parametrize(
    ("widths", "n", "batch_size"),
    [
        ((4, 16, 16, 2), 60, None),
        ((4, 16, 16, 2), 60, 16),  # three batches an epoch, the last 12 examples left out
        ((2, 9, 1), 60, 60),
        ((3, 7, 5, 6, 2), 25, 7),
        ((3, 2), 20, 1),
        ((1, 1, 1), 1, None),
        ((2, 4, 1), 5000, None),  # three blocks, of which the last is smaller
        ((2, 4, 1), 5000, 2049),
    ],
)
@pytest.mark.usefixtures("poisoned")
def test_trains_as_torch_does(widths, n, batch_size):
    config = TrainConfig(widths, steps=40, learning_rate=0.02, batch_size=batch_size)
    x, y = data(3, n, widths, torch.float64)
    seeds = [7, 3, 7]
    trained = train(config, x, y, seeds, progress=False)
    assert len(trained) == 3
    assert trained.losses.shape == (3, 40)
    for i, seed in enumerate(seeds):
        module, losses = train_with_torch(config, x[i], y[i], seed)
        # Rounding errors of 1e-16, amplified in 40 steps.
        torch.testing.assert_close(trained.losses[i], losses, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(trained.networks[i](x[i]), module(x[i]), rtol=1e-9, atol=1e-9)


def test_float32_trains_as_torch_does():
    config = TrainConfig((4, 16, 16, 2), steps=100, batch_size=64)
    x, y = data(2, 500, config.widths)
    trained = train(config, x, y, [0, 1], progress=False)
    module, losses = train_with_torch(config, x[1], y[1], 1)
    # Rounding errors of 1e-7, amplified in 100 steps.
    torch.testing.assert_close(trained.losses[1], losses, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(trained.networks[1](x[1]), module(x[1]), rtol=1e-3, atol=1e-3)


def in_company(config, x, y, seeds):
    """The networks as (name, trained, their numbers): alone, together, in chunks, in reverse."""
    everyone = list(range(len(seeds)))
    for chunk in (None, 1, 2, len(seeds)):
        other = TrainConfig(
            config.widths, config.steps, config.learning_rate, config.batch_size, chunk
        )
        yield f"chunk {chunk}", train(other, x, y, seeds, progress=False), everyone
    back = everyone[::-1]
    seeds_back = [seeds[i] for i in back]
    yield "reversed", train(config, x[back], y[back], seeds_back, progress=False), back
    for i in everyone:
        yield "alone", train(config, x[[i]], y[[i]], [seeds[i]], progress=False), [i]


@pytest.mark.parametrize("batch_size", [None, 16, 100])
def test_company_does_not_change_the_function(batch_size):
    config = TrainConfig((4, 16, 16, 2), steps=100, batch_size=batch_size)
    x, y = data(5, 300, config.widths)
    seeds = [11, 2, 5, 2, 0]
    expected = train(config, x, y, seeds, progress=False)
    for name, trained, numbers in in_company(config, x, y, seeds):
        for network, losses, i in zip(trained.networks, trained.losses, numbers, strict=True):
            # Targets have a scale of 1; rounding errors of 1e-7, amplified in 100 steps.
            torch.testing.assert_close(
                network(x[i]), expected.networks[i](x[i]), rtol=0, atol=1e-3, msg=name
            )
            torch.testing.assert_close(losses, expected.losses[i], rtol=1e-3, atol=1e-5, msg=name)


def test_company_does_not_change_the_initial_weights():
    # Steps of 1e-30 change no weight.
    config = TrainConfig((4, 16, 2), steps=1, learning_rate=1e-30)
    x, y = data(4, 10, config.widths)
    seeds = [3, 1, 4, 1]
    for _, trained, numbers in in_company(config, x, y, seeds):
        for network, i in zip(trained.networks, numbers, strict=True):
            assert network.fingerprint == initialise(config.widths, seeds[i]).fingerprint


def test_company_does_not_change_the_order_of_batches():
    n, epochs = 9, 4
    config = TrainConfig((1, 1), epochs * n, learning_rate=1e-30, batch_size=1)
    # The input is 0 and the target 100 i, so the loss of a batch of one says which it is.
    seeds = [3, 1, 4, 1]
    x = torch.zeros(4, n, 1, dtype=torch.float64)
    y = (100.0 * torch.arange(n, dtype=torch.float64)).reshape(1, n, 1).expand(4, n, 1)

    def order(losses):
        return losses.sqrt().div(100).round().int().reshape(epochs, n).tolist()

    expected = [order(losses) for losses in train(config, x, y, seeds, progress=False).losses]
    for orders in expected:
        assert all(sorted(epoch) == list(range(n)) for epoch in orders)
        assert len({tuple(epoch) for epoch in orders}) == epochs
    assert expected[1] == expected[3]  # one seed
    assert expected[0] != expected[1] != expected[2]
    for _, trained, numbers in in_company(config, x, y, seeds):
        assert [order(losses) for losses in trained.losses] == [expected[i] for i in numbers]


def test_the_same_call_gives_the_same_bits():
    config = TrainConfig((4, 16, 2), steps=20, batch_size=16)
    x, y = data(20, 100, config.widths)
    before = torch.get_rng_state()
    first, second = (train(config, x, y, range(20), progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.losses, second.losses)
    assert [n.fingerprint for n in first.networks] == [n.fingerprint for n in second.networks]


@pytest.mark.usefixtures("restore_threads")
def test_threads_change_nothing():
    config = TrainConfig((4, 16, 2), steps=20, batch_size=64, chunk=2)
    x, y = data(6, 200, config.widths)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(train(config, x, y, range(6), progress=False).losses)
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:  # torch's number is one for each thread
            assert pool.submit(torch.get_num_threads).result() == threads
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_learns_products():
    task = ParallelProducts(2)
    x = torch.stack(
        [task.sample(1000, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    )
    y = torch.stack([task.target(v) for v in x])
    trained = train(TrainConfig((4, 16, 16, 2), steps=300), x, y, range(3), progress=False)
    # The variance of a uniform target is 1/12.
    assert (trained.losses[:, 0] > 0.05).all()
    assert (trained.losses[:, -1] < 0.005).all()


@pytest.mark.parametrize(
    ("widths", "batch_size", "count", "threads", "sizes"),
    [
        # Blocks of 2000 x 72 floats a network, 7.3 to a chunk: 8 chunks, an even number.
        ((4, 16, 16, 2), None, 55, 2, [7] * 7 + [6]),
        # 256 x 136 floats, 30.1 to a chunk.
        ((4, 32, 32, 2), 256, 500, 2, [28] * 14 + [27] * 4),
        ((4, 16, 16, 2), None, 3, 2, [2, 1]),
        ((4, 16, 16, 2), None, 1, 2, [1]),
        ((1000, 4000, 10), None, 4, 1, [1] * 4),
    ],
)
def test_chunks_stay_in_cache(widths, batch_size, count, threads, sizes):
    x = torch.empty(1, 8000, 1).expand(count, -1, -1)
    chunks = _chunks(TrainConfig(widths, batch_size=batch_size), x, threads)
    assert sorted((c.stop - c.start for c in chunks), reverse=True) == sizes
    assert [i for c in chunks for i in range(c.start, c.stop)] == list(range(count))


def test_inputs_that_are_not_plain():
    config = TrainConfig((4, 8, 2), steps=5)
    x, y = data(1, 50, config.widths)
    expected = train(config, x, y, [0], progress=False)
    strided = torch.zeros(1, 50, 8)[:, :, ::2].copy_(x)
    wide, leaf = x.expand(3, -1, -1), x.clone().requires_grad_()
    copy = x.clone()
    for inputs in (strided, leaf):
        assert torch.equal(train(config, inputs, y, [0], progress=False).losses, expected.losses)
    with torch.inference_mode():
        assert torch.equal(train(config, x, y, [0], progress=False).losses, expected.losses)
    shared = train(config, wide, y.expand(3, -1, -1), [0, 1, 0], progress=False)
    torch.testing.assert_close(shared.losses[2:], expected.losses, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, copy)
    assert not shared.losses.requires_grad


def test_progress_bar(capsys):
    config = TrainConfig((4, 8, 2), steps=5)
    x, y = data(3, 50, config.widths)
    train(config, x, y, range(3), progress=False)
    assert capsys.readouterr() == ("", "")
    train(config, x, y, range(3))
    out, err = capsys.readouterr()
    assert out == ""
    assert "training: 100%" in err
    assert "15/15" in err


def test_ctrl_c_stops_the_threads(capsys, monkeypatch):
    x, y = data(4, 3000, (4, 64, 64, 2))
    steps = []
    step = Stack.step

    def record(stack, *args):
        steps.append(stack.steps)
        step(stack, *args)

    monkeypatch.setattr(Stack, "step", record)
    threads = torch.get_num_threads()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(TrainConfig((4, 64, 64, 2), steps=10**6), x, y, range(4))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    done = len(steps)
    assert done > 0
    assert torch.get_num_threads() == threads
    assert capsys.readouterr().err.endswith("\n")  # the bar is closed
    # Only this call's steps follow: no thread is left, and training works as before.
    train(TrainConfig((4, 8, 2), steps=3, chunk=4), x, y, range(4), progress=False)
    assert steps[done:] == [0, 1, 2]


@pytest.mark.parametrize("chunk", [None, 2])
def test_checkpoints_see_the_networks_of_each_step(chunk):
    x, y = data(5, 40, (3, 6, 2))
    seen = {}

    def callback(step, network, i):
        assert (step, i) not in seen
        seen[step, i] = parameters(network)

    config = TrainConfig((3, 6, 2), steps=7, chunk=chunk)
    trained = train(
        config, x, y, range(5), checkpoints=(7, 0, 3, 3), callback=callback, progress=False
    )
    assert set(seen) == {(step, i) for step in (0, 3, 7) for i in range(5)}
    for i, network in enumerate(trained.networks):
        assert torch.equal(seen[7, i], parameters(network))
        assert torch.equal(seen[0, i], parameters(initialise((3, 6, 2), i)))
    # What is kept does not change as the training goes on, and nothing else changes by looking.
    short = TrainConfig((3, 6, 2), steps=3, chunk=chunk)
    for i, network in enumerate(train(short, x, y, range(5), progress=False).networks):
        assert torch.equal(seen[3, i], parameters(network))
    again = train(config, x, y, range(5), progress=False)
    assert torch.equal(again.losses, trained.losses)


def test_an_error_in_a_callback_stops_the_training():
    x, y = data(4, 40, (3, 6, 2))
    calls = []

    def callback(step, network, i):
        calls.append((step, i))
        raise RuntimeError(f"{network} at {step}")

    with pytest.raises(RuntimeError, match=r"ReluNetwork\(3-6-2, float32\) at 1"):
        train(TrainConfig((3, 6, 2), steps=10**5), x, y, range(4), checkpoints=[1], callback=callback,
              progress=False)  # fmt: skip
    assert {step for step, _ in calls} == {1}
