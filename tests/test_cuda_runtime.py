"""What a GPU has beside its kernels: streams, capture into graphs, devices, memory and its end."""

import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from networks import MODES, moved, random_inputs, random_network, same, same_modes

import gradsplinter
from gradsplinter import _C, SplinterTable, ops, splinter

NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)
EXPECTED = splinter(NET, X)
# By the kernel of small networks, and by the one of wide layers.
small_and_wide = pytest.mark.parametrize("widths", [(4, 32, 32, 2), (4, 30, 70, 3)])


def test_tensors_on_different_devices(gpu):
    net = moved(NET, gpu)
    words = EXPECTED.signatures
    with pytest.raises(ValueError, match=r"^x must be on the network's device cuda:0, got cpu$"):
        ops.signatures(net, X)
    with pytest.raises(ValueError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        ops.jacobian(net, words)
    with pytest.raises(ValueError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        ops.jacobian(net, words.to(gpu), directions=torch.eye(3))
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        torch.ops.gradsplinter.signatures(X.to(gpu), NET.weights, NET.biases, [1], True)


@small_and_wide
def test_on_another_stream(gpu, widths):
    """Work is queued on torch's current stream, behind what makes its input."""
    cpu = random_network(widths)
    net, stream = moved(cpu, gpu), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which makes the weights
    big = random_inputs(200_000, 4)
    expected = splinter(cpu, big)
    expected_y = cpu(big)
    for _ in range(3):
        with torch.cuda.stream(stream):
            x = torch.full((200_000, 4), torch.nan, device=gpu)
            torch.cuda._sleep(50_000_000)
            x.copy_(big.pin_memory(), non_blocking=True)
            y = torch.ops.gradsplinter.signatures(x, net.weights, net.biases, [1, 2], True)[1]
            found = ops.unique_signatures(net, x, check_finite=False)
            jacobian = ops.jacobian(net, found.signatures)
            gram = ops.gram(net, found.signatures)
        stream.synchronize()
        assert same(y, expected_y)
        assert all(
            map(same, found, (expected.signatures, expected.first, expected.counts, expected.ids))
        )
        assert same(jacobian, expected.jacobian())
        assert same(gram, ops.gram(cpu, expected.signatures))


def test_a_table_updated_on_several_streams(gpu):
    """Each piece and each look waits for what the stream before still has to do."""
    net, streams = moved(NET, gpu), [torch.cuda.Stream() for _ in range(3)]
    pieces = [x.to(gpu) for x in X.split([5, 1000, 1995])]
    torch.cuda.synchronize()
    for pieces_before in (1, 2, 3):  # a first piece is held as it came, later ones in a hash table
        table = SplinterTable(net, ids=True)
        for stream, x in zip(streams, pieces[:pieces_before], strict=False):
            with torch.cuda.stream(stream):
                torch.cuda._sleep(50_000_000)
                table.update(x)
        with torch.cuda.stream(streams[-1]):
            found = table.splinters()
            modes = table.modes()
        torch.cuda.synchronize()
        expected = splinter(NET, torch.cat([x.cpu() for x in pieces[:pieces_before]]))
        assert torch.equal(modes.counts, expected.counts)
        for name in (*MODES, "ids"):
            assert same(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("widths", [(4, 32, 32, 2), (784, 64, 64, 10)])
def test_replayed_from_a_graph(gpu, widths):
    """What has static shapes can be captured: all that docs/gpu.md lists."""
    cpu = random_network(widths)
    x = torch.zeros(300, widths[0], device=gpu)

    def work(net, x):
        words = ops.signatures(net, x)
        jacobian = ops.jacobian(net, words)
        return (
            words, net(x), jacobian, ops.cross(jacobian), ops.gram(net, words),
            gradsplinter.pack_bits(x > 0), gradsplinter.hash_rows(words),
        )  # fmt: skip

    net, warm = moved(cpu, gpu), torch.cuda.Stream()
    with torch.cuda.stream(warm):
        work(net, x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work(net, x)
    for seed in range(3):
        inputs = random_inputs(300, widths[0], seed=seed)
        x.copy_(inputs)
        graph.replay()
        torch.cuda.synchronize()
        assert all(map(same, found, work(cpu, inputs)))


@small_and_wide
def test_nothing_waits_that_need_not(gpu, widths):
    """torch's own waits only; those of the kernels would fail a capture."""
    net, x = moved(random_network(widths), gpu), X.to(gpu)
    words = ops.signatures(net, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a beta feature
        torch.cuda.set_sync_debug_mode("error")
    try:
        ops.signatures(net, x, outputs=True, check_finite=False)
        ops.gram(net, words)
        ops.cross(ops.jacobian(net, words))
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("default")


def test_python_goes_on_while_a_call_waits(gpu):
    rows = torch.randint(9, (1000, 2), device=gpu)
    ops.unique_rows(rows)
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        torch.cuda._sleep(2_000_000_000)  # a second or so
        call = pool.submit(ops.unique_rows, rows)
        turns = 0
        while not call.done():
            time.sleep(0.001)
            turns += 1
    assert time.perf_counter() - begun > 0.2
    assert turns > 50


def test_out_of_memory(gpu):
    """torch's own error where work cannot be split, and smaller pieces where it can."""
    net = moved(random_network((4, 300, 64, 3)), gpu)
    words = torch.zeros(2_000_000, 6, dtype=torch.int64, device=gpu)
    x = random_inputs(3_000, 4).repeat(1_000, 1)  # 144 MB of signatures, of few modes
    expected = splinter(random_network((4, 300, 64, 3)), x)
    there = x.to(gpu)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**27) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            ops.jacobian(moved(random_network((400, 300, 64, 3)), gpu), words)
        table = SplinterTable(net)
        table.update(there)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert same_modes(table, expected)


@pytest.mark.usefixtures("gpu")
def test_on_each_of_several_devices():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    for index in range(torch.cuda.device_count()):  # cuda:0 stays the current one
        there = torch.device("cuda", index)
        found = splinter(moved(NET, there), X.to(there))
        assert found.signatures.device == there
        assert same(found.jacobian(), EXPECTED.jacobian())


@pytest.mark.usefixtures("gpu")
def test_one_of_several_devices_alone():
    """A context takes memory: only the device that is used gets one."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    script = """
import torch, gradsplinter
rows = torch.ones(100, 2, dtype=torch.int64, device="cuda:1")
gradsplinter.hash_rows(rows)
gradsplinter.unique_rows(rows)
torch.cuda.synchronize(1)
assert torch.cuda.current_device() == 0
assert not torch._C._cuda_hasPrimaryContext(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_why_nothing_runs_without_a_driver():
    if not _C.cuda or torch.cuda.is_available():
        pytest.skip("this build has no kernels, or there is a GPU")
    assert re.match("there is no driver|its driver is for CUDA [1-9]", _C.why_not_on_gpu(0))
