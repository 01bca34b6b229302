"""The kernels on a GPU against torch's own on the same one; skipped where there is none.

Times are of CUDA events, after a call to warm up, over inputs in turn that together are larger than the
second cache. `python bench/gpu_check.py` runs this and more on a bare machine.
"""

from __future__ import annotations

import importlib.util
from itertools import cycle, pairwise

import pytest
import torch
from bench_jacobian import masked_matmul, masked_matmul_into, needs, vmap_jacrev
from bench_signature import forward_into
from conftest import Needs
from workloads import JACOBIANS, bits, name, network

import gradsplinter
from gradsplinter import _C, ReluNetwork, unpack_bits

pytestmark = pytest.mark.skipif(
    not (_C.cuda != "" and torch.cuda.is_available()),
    reason="no GPU, or a build without kernels for one",
)
GPU = torch.device("cuda", 0)
AT_ONCE = 2**22  # examples of which the CPU checks the answers


def there(net: ReluNetwork) -> ReluNetwork:
    return ReluNetwork([w.to(GPU) for w in net.weights], [b.to(GPU) for b in net.biases])


def in_turn(tensor: torch.Tensor):
    """The same values at other addresses, so that a call finds nothing in the second cache."""
    size = tensor.numel() * tensor.element_size()
    l2 = torch.cuda.get_device_properties(GPU).L2_cache_size
    copies = [tensor, *(tensor.clone() for _ in range(min(15, 3 * l2 // max(1, size))))]
    return cycle(copies).__next__


@pytest.mark.parametrize(
    ("widths", "n"),
    [
        ((4, 32, 32, 2), 10**8),
        ((4, 64, 64, 64, 2), 3 * 10**7),
        ((784, 512, 512, 10), 10**6),
        ((64, 256, 256, 256, 256, 10), 2 * 10**6),
        ((4096, 4096, 4096, 10), 32_768),
    ],
)
def bench_signatures(cuda_race, widths, n):
    n = cuda_race.size(n, 20_000)
    module, cpu = network(*widths)
    net, module = there(cpu), module.to(GPU)
    x = torch.rand(n, widths[0], device=GPU)
    words = gradsplinter.signatures(net, x, check_finite=False)
    part = slice(0, min(n, AT_ONCE * 4 // widths[0]))
    assert torch.equal(words[part].cpu(), gradsplinter.signatures(cpu, x[part].cpu()))
    ours = torch.cat(unpack_bits(words[part], widths[1:-1]), dim=1)
    assert float((ours != bits(module, x[part])).float().mean()) < 1e-4  # torch rounds otherwise
    found = gradsplinter.unique_signatures(net, x, check_finite=False)
    assert torch.equal(found.signatures[found.ids[part]], words[part])
    assert int(found.counts.sum()) == n
    fmas = sum(a * b for a, b in pairwise(widths[:-1]))
    least = Needs(float32=2 * n * fmas, bytes=4 * x.numel() + 8 * words.numel())
    next_x = in_turn(x)
    cuda_race(
        f"signatures, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.signatures(net, next_x(), check_finite=False),
            "torch forward alone": lambda: module(next_x()),
        },
        needs=least,
    )
    del ours, words
    buffers = [torch.zeros(n, width, device=GPU) for width in widths[1:]]
    cuda_race(
        f"unique_signatures ({len(found.first):,} modes), {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.unique_signatures(net, next_x(), check_finite=False),
            "torch forward alone": lambda: module(next_x()),
            "torch forward alone, into memory at hand": lambda: forward_into(
                net, next_x(), buffers
            ),
        },
        needs=least,
    )


@pytest.mark.parametrize("unique", [1_000, 100_000, 10_000_000])
def bench_words(cuda_race, unique):
    n = cuda_race.size(10**8, 50_000)
    generator = torch.Generator(GPU).manual_seed(0)
    values = torch.randint(-(2**62), 2**62, (unique, 2), generator=generator, device=GPU)
    rows = values[torch.randint(unique, (n,), generator=generator, device=GPU)]
    found = gradsplinter.unique_rows(rows)
    assert bool((found.first.diff() > 0).all())
    assert int(found.counts.sum()) == n
    for part in range(0, n, 10**7):
        some = slice(part, part + 10**7)
        assert torch.equal(rows[found.first][found.ids[some]], rows[some])
    cpu = gradsplinter.unique_rows(rows[:AT_ONCE].cpu())
    ours = gradsplinter.unique_rows(rows[:AT_ONCE])
    assert all(torch.equal(a.cpu(), b) for a, b in zip(ours, cpu, strict=True))
    contenders = {
        "ours": lambda: gradsplinter.unique_rows(rows),
        "torch.unique(dim=0)": lambda: torch.unique(
            rows, dim=0, return_inverse=True, return_counts=True
        ),
    }
    if importlib.util.find_spec("cudf"):
        import cudf  # noqa: PLC0415
        import cupy  # noqa: PLC0415

        frame = cudf.DataFrame(cupy.from_dlpack(rows))
        contenders["cuDF, groupby.ngroup"] = lambda: frame.groupby([0, 1]).ngroup()
    elif importlib.util.find_spec("cupy"):
        import cupy  # noqa: PLC0415

        # CuPy's unique(axis=0) sorts with a comparison in Python; one word of two shows its sort.
        keys = cupy.from_dlpack(rows[:, 0].contiguous())
        contenders["cupy.unique of the first word only"] = lambda: cupy.unique(
            keys, return_inverse=True, return_counts=True
        )
    cuda_race(
        f"unique_rows, {n:,} × 128 bits, {unique:,} unique",
        contenders,
        rounds=3,
        needs=Needs(bytes=8 * rows.numel() + 8 * n),
    )


@pytest.mark.parametrize(("widths", "n"), JACOBIANS)
def bench_gradients(cuda_race, widths, n):
    n = cuda_race.size(n * 4, 200)
    module, cpu = network(*widths)
    net, module = there(cpu), module.to(GPU)
    x = torch.rand(n, widths[0], device=GPU)
    patterns = gradsplinter.signatures(net, x)
    ours = gradsplinter.jacobian(net, patterns)
    part = slice(0, min(n, 2_000))
    expected = gradsplinter.jacobian(cpu, patterns[part].cpu())
    assert torch.equal(ours[part].cpu(), expected)
    assert torch.equal(
        gradsplinter.gram(net, patterns[part]).cpu(),
        gradsplinter.gram(cpu, patterns[part].cpu()),
    )
    masks = [site.float() for site in unpack_bits(patterns, widths[1:-1])]
    torch.testing.assert_close(ours, masked_matmul(net.weights, masks), rtol=1e-3, atol=1e-5)
    sizes = [(n, widths[-1], h) for h in widths[:-1]]
    buffers = [(torch.zeros(b, device=GPU), torch.zeros(a, device=GPU)) for a, b in pairwise(sizes)]
    least = needs(net, masks, widths[-1])
    next_patterns = in_turn(patterns)
    cuda_race(
        f"jacobian, U = N, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.jacobian(net, next_patterns(), out=ours),
            "masked matmul": lambda: masked_matmul_into(net.weights, masks, buffers),
            "vmap(jacrev)": lambda: vmap_jacrev(module, x),
        },
        needs=least,
    )
    bytes_read = 4 * ours.numel()
    cuda_race(
        f"cross, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.cross(ours, normalize=False),
            "bmm (float32 sums)": lambda: ours @ ours.mT,
            "bmm (float64 sums)": lambda: ours.double() @ ours.double().mT,
        },
        needs=Needs(float64=n * widths[-1] * (widths[-1] + 1) * widths[0], bytes=bytes_read),
    )

    def by_hand():
        gradients = masked_matmul(net.weights, masks)
        return gradients @ gradients.mT

    def by_hand_without():
        gradients = masked_matmul(net.weights[1:], masks[1:]) * masks[0].unsqueeze(1)
        return gradients @ (net.weights[0] @ net.weights[0].T) @ gradients.mT

    cuda_race(
        f"from patterns to Gram matrices, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.gram(net, next_patterns(), normalize=False),
            "masked matmul, bmm": by_hand,
            "masked matmul, A K Aᵀ": by_hand_without,
        },
    )
