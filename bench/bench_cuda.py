"""The kernels on a GPU against torch's own on the same one; skipped where there is none.

Times are of CUDA events, after a call to warm up, over inputs in turn that together are larger than the
second cache. `python bench/gpu_check.py` runs this and more on a bare machine;
`pytest bench/bench_cuda.py --quick --device cpu` tries it where there is no GPU.
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
from gradsplinter import _C, ReluNetwork, SplinterTable, unpack_bits

AT_ONCE = 2**22  # examples of which the CPU checks the answers


def there(net: ReluNetwork, device: torch.device) -> ReluNetwork:
    return ReluNetwork([w.to(device) for w in net.weights], [b.to(device) for b in net.biases])


def in_turn(*tensors: torch.Tensor):
    """The same values at other addresses, so that a call finds nothing in the second cache."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    l2 = 0
    if tensors[0].is_cuda:
        l2 = torch.cuda.get_device_properties(tensors[0].device).L2_cache_size
    more = min(4096, 3 * l2 // max(1, size))
    return cycle([tensors, *(tuple(map(torch.clone, tensors)) for _ in range(more))]).__next__


def as_if_wide(net: ReluNetwork, x: torch.Tensor) -> torch.Tensor:
    """`signatures` of a small network by the kernel of wide ones."""
    _C.use_only_wide_on_gpu(True)
    try:
        return gradsplinter.signatures(net, x, check_finite=False)
    finally:
        _C.use_only_wide_on_gpu(False)


def gram_needs(net: ReluNetwork, patterns: torch.Tensor, masks: list[torch.Tensor]) -> Needs:
    """Of the way that `gram` takes: through the gradients, or through K = W^1 (W^1)ᵀ."""
    n, directions = len(patterns), net.widths[-1]
    pairs = directions * (directions + 1) / 2
    moved = 8 * patterns.numel() + 4 * n * directions**2
    if net.widths[0] < 2 * net.widths[1]:
        return Needs(needs(net, masks, directions).float32, 2 * n * pairs * net.widths[0], moved)
    on = [mask.sum(1).double() for mask in masks]
    upper = directions * sum(float((a * b).sum()) for a, b in pairwise(on))
    k = net.widths[1] * (net.widths[1] + 1) / 2 * net.widths[0]
    products = float((on[0] * (on[0] * directions + pairs)).sum())
    return Needs(2 * upper, 2 * (k + products), moved)


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
def bench_signatures(cuda_race, device, widths, n):
    n = cuda_race.size(n, 640_000 // max(widths))
    module, cpu = network(*widths)
    net, module = there(cpu, device), module.to(device)
    x = torch.rand(n, widths[0], device=device)
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
    contenders = {
        "ours": lambda: gradsplinter.signatures(net, *next_x(), check_finite=False),
        "torch forward alone": lambda: module(*next_x()),
    }
    if device.type == "cuda" and max(widths[:-1]) <= 64:
        assert torch.equal(as_if_wide(net, x), words)
        contenders["ours, the kernel of wide networks"] = lambda: as_if_wide(net, *next_x())
    cuda_race(f"signatures, {name(cpu, n)}", contenders, needs=least)
    del ours, words
    buffers = [torch.zeros(n, width, device=device) for width in widths[1:]]
    cuda_race(
        f"unique_signatures ({len(found.first):,} modes), {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.unique_signatures(net, *next_x(), check_finite=False),
            "torch forward alone": lambda: module(*next_x()),
            "torch forward alone, into memory at hand": lambda: forward_into(
                net, *next_x(), buffers
            ),
        },
        needs=least,
    )


def bench_table(cuda_race, device):
    """Pieces as they come, into one table on the device."""
    n, widths = cuda_race.size(10**8, 20_000), (4, 32, 32, 2)
    module, cpu = network(*widths)
    net, module = there(cpu, device), module.to(device)
    x = torch.rand(n, widths[0], device=device)
    pieces = x.chunk(8)

    def streamed():
        table = SplinterTable(net, check_finite=False)
        for piece in pieces:
            table.update(piece)
        return table

    def forward():
        for piece in pieces:
            module(piece)

    modes, expected = streamed().modes(), gradsplinter.unique_signatures(net, x)
    for name_ in ("signatures", "counts", "first"):
        assert torch.equal(getattr(modes, name_), getattr(expected, name_).cpu()), name_
    words = modes.signatures.shape[1]
    del expected
    cuda_race(
        f"SplinterTable, 8 updates ({len(modes):,} modes), {name(cpu, n)}",
        {
            "ours": streamed,
            "ours, unique_signatures of all at once": lambda: gradsplinter.unique_signatures(
                net, x, check_finite=False
            ),
            "torch forward alone": forward,
        },
        needs=Needs(
            float32=2 * n * sum(a * b for a, b in pairwise(widths[:-1])),
            bytes=4 * x.numel() + 8 * words * n,
        ),
    )


@pytest.mark.parametrize("unique", [1_000, 100_000, 10_000_000])
def bench_words(cuda_race, device, unique):
    n = cuda_race.size(10**8, 50_000)
    generator = torch.Generator(device).manual_seed(0)
    values = torch.randint(-(2**62), 2**62, (unique, 2), generator=generator, device=device)
    rows = values[torch.randint(unique, (n,), generator=generator, device=device)]
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
def bench_gradients(cuda_race, device, widths, n):
    n = cuda_race.size(n * 4, 200)
    module, cpu = network(*widths)
    net, module = there(cpu, device), module.to(device)
    x = torch.rand(n, widths[0], device=device)
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
    buffers = [
        (torch.zeros(b, device=device), torch.zeros(a, device=device)) for a, b in pairwise(sizes)
    ]
    least = needs(net, masks, widths[-1])
    next_patterns, next_masks = in_turn(patterns), in_turn(*masks)
    next_x, next_ours = in_turn(x), in_turn(ours)
    cuda_race(
        f"jacobian, U = N, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.jacobian(net, *next_patterns(), out=ours),
            "masked matmul": lambda: masked_matmul_into(net.weights, next_masks(), buffers),
            "vmap(jacrev)": lambda: vmap_jacrev(module, *next_x()),
        },
        needs=least,
    )
    pairs = widths[-1] * (widths[-1] + 1) / 2
    moved = 4 * (ours.numel() + n * widths[-1] ** 2)

    def bmm(jacobian):
        return jacobian @ jacobian.mT

    cuda_race(
        f"cross, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.cross(*next_ours(), normalize=False),
            "bmm (float32 sums)": lambda: bmm(*next_ours()),
            "bmm (float64 sums)": lambda: bmm(next_ours()[0].double()),
        },
        needs=Needs(float64=2 * n * pairs * widths[0], bytes=moved),
    )

    def without_gradients():
        first, *others = next_masks()
        gradients = masked_matmul(net.weights[1:], others) * first.unsqueeze(1)
        return gradients @ (net.weights[0] @ net.weights[0].T) @ gradients.mT

    cuda_race(
        f"from patterns to Gram matrices, {name(cpu, n)}",
        {
            "ours": lambda: gradsplinter.gram(net, *next_patterns(), normalize=False),
            "masked matmul, bmm": lambda: bmm(masked_matmul(net.weights, next_masks())),
            "masked matmul, A K Aᵀ": without_gradients,
        },
        needs=gram_needs(net, patterns, masks),
    )


def bench_bits_and_hashes(cuda_race, device):
    n, width = cuda_race.size(4 * 10**6, 20_000), 128
    flags = torch.rand(n, width, device=device) < 0.5
    words = gradsplinter.pack_bits(flags)
    places = torch.arange(64, device=device)

    def packed(flags):
        return (flags.view(n, -1, 64).long() << places).sum(dim=2)

    part = slice(0, AT_ONCE)
    assert torch.equal(words, packed(flags))
    assert torch.equal(
        gradsplinter.hash_rows(words[part]).cpu(), gradsplinter.hash_rows(words[part].cpu())
    )
    next_flags, next_words = in_turn(flags), in_turn(words)
    cuda_race(
        f"pack_bits, {n:,} × {width}",
        {
            "ours": lambda: gradsplinter.pack_bits(*next_flags()),
            "shift and sum": lambda: packed(*next_flags()),
        },
        needs=Needs(bytes=flags.numel() + 8 * words.numel()),
    )
    cuda_race(
        f"hash_rows, {n:,} × {width} bits",
        {
            "ours": lambda: gradsplinter.hash_rows(*next_words()),
            "torch.sum of the rows, which reads as much": lambda: next_words()[0].sum(dim=1),
        },
        needs=Needs(bytes=8 * words.numel() + 8 * n),
    )
