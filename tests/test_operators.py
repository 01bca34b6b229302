"""The registered operators: under opcheck, torch.compile, fake and meta tensors, and other views."""

import warnings
from functools import partial

import pytest
import torch
from networks import random_inputs, random_network, same_bits
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import gradsplinter
from gradsplinter import _C, ReluNetwork, _library

OPERATORS = torch.ops.gradsplinter
NAMES = [
    "signatures", "unique_rows", "unique_signatures", "hash_rows", "pack_bits",
    "jacobian", "jacobian_out", "cross", "gram", "nearest_signatures", "lengths",
    "join_neighbours", "leaders",
]  # fmt: skip
DYNAMIC = ["unique_rows", "unique_signatures"]


def arguments(dtype=torch.float32, n=5):
    """Valid arguments of each operator, some of them not contiguous."""
    net = random_network((4, 70, 6, 3), dtype=dtype)
    x = random_inputs(n, 9, dtype=dtype)[:, 1::2]
    weights, biases = list(net.weights), list(net.biases)
    words = gradsplinter.signatures(net, x)
    chains = [
        (weights, True, words, torch.eye(3, dtype=dtype)),
        (weights[:2], False, words, random_inputs(6, 2, dtype=dtype).t()),
        (weights[1:], True, words[:, 2:], random_inputs(2, 3, dtype=dtype)),
    ]
    return {
        "signatures": [
            (x, weights, biases, [1, 2], True),
            (x, weights, biases, [2], False),
            (x, weights, biases, [], True),
        ],
        "unique_rows": [(words,), (words, 4), (x,), (x.t(),), (x > 0,)],
        "unique_signatures": [(x, weights, biases, sites) for sites in ([1, 2], [2], [])],
        "hash_rows": [(words,), (words[:, :2],)],
        "pack_bits": [(x > 0,), ((x > 0).t(),)],
        "jacobian": chains,
        "jacobian_out": [(*chain, OPERATORS.jacobian(*chain).fill_(7)) for chain in chains],
        "gram": [(*chain, normalize) for chain in chains for normalize in (True, False)],
        "cross": [(x.reshape(n, 2, 2), True), (x.reshape(n, 2, 2).mT, False)],
        "nearest_signatures": [
            (
                words,
                words[:m, :w].flip(0).repeat(1, 3 // w)[:, :3],
                torch.arange(len(words[:m])) % g,
                g,
            )
            for m, w, g in ((5, 3, 1), (4, 1, 3), (0, 3, 2))
        ],
        "lengths": [(x,), (x.t(),)],
        "join_neighbours": [
            (x, OPERATORS.lengths(x), 0.5, torch.arange(n) % buckets, buckets, torch.arange(n))
            for buckets in (1, 3)
        ],
        "leaders": [
            (x, OPERATORS.lengths(x), 0.5, torch.arange(n) % (clusters + 1) - 1, clusters)
            for clusters in (0, 1, 3)
        ],
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_opcheck(name, dtype, n):
    """What takes long, tracing with symbolic sizes, for one dtype and the first arguments of each size."""
    operator = getattr(OPERATORS, name).default
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    for i, args in enumerate(arguments(dtype, n)[name]):
        slow = ("test_aot_dispatch_dynamic",) if i == 0 and dtype == torch.float32 else ()
        results = torch.library.opcheck(operator, args, test_utils=(*quick, *slow))
        assert set(results.values()) == {"SUCCESS"}


def test_all_operators_are_listed_here():
    registered = {
        schema.name.removeprefix("gradsplinter::")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("gradsplinter::")
    }
    assert registered == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_fake_results_look_like_the_real_ones(name):
    for args in arguments()[name]:
        real = getattr(OPERATORS, name)(*args)
        mode = FakeTensorMode(shape_env=ShapeEnv())
        fake_args = torch.utils._pytree.tree_map_only(torch.Tensor, mode.from_tensor, args)
        with mode:
            fake = getattr(OPERATORS, name)(*fake_args)
        for got, want in zip(*map(as_tuple, (fake, real)), strict=True):
            assert got.dtype == want.dtype
            assert got.dim() == want.dim()
            if name not in DYNAMIC:
                assert got.shape == want.shape
                assert got.stride() == want.stride()


def as_tuple(value):
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in DYNAMIC])
def test_meta_tensors(name):
    """Where the number of unique rows depends on the data, there is no meta result."""
    for args in arguments()[name]:
        real = getattr(OPERATORS, name)(*args)
        meta = getattr(OPERATORS, name)(
            *torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), args)
        )
        for got, want in zip(*map(as_tuple, (meta, real)), strict=True):
            assert got.is_meta
            assert (got.shape, got.dtype) == (want.shape, want.dtype)


def test_public_functions_take_meta_tensors():
    net = random_network((4, 70, 3))
    meta = ReluNetwork([w.to("meta") for w in net.weights], [b.to("meta") for b in net.biases])
    words, y = gradsplinter.signatures(meta, torch.empty(5, 4, device="meta"), outputs=True)
    jacobian = gradsplinter.jacobian(meta, words)
    cosines = gradsplinter.cross(jacobian)
    shapes = [tuple(t.shape) for t in (words, y, jacobian, cosines)]
    assert shapes == [(5, 2), (5, 3), (5, 3, 4), (5, 3, 3)]
    assert all(t.is_meta for t in (words, y, jacobian, cosines))


def pipeline(x, weights, biases):
    words, y = OPERATORS.signatures(x, weights, biases, [1, 2], True)
    first, counts, ids = OPERATORS.unique_rows(words)
    directions = torch.eye(3, dtype=x.dtype)
    jacobian = OPERATORS.jacobian(weights, True, words[first], directions)
    cosines = OPERATORS.cross(jacobian * 1, True)
    return y + 1, counts, ids, OPERATORS.hash_rows(words[first]), jacobian, cosines


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_into_one_graph(backend):
    net = random_network((4, 70, 6, 3))
    weights, biases = list(net.weights), list(net.biases)
    with (
        warnings.catch_warnings(),
        torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True),
    ):
        warnings.simplefilter("ignore")  # torch's own deprecations, on its way to compile
        compiled = torch.compile(pipeline, fullgraph=True, backend=backend)
        for n in (40, 3):
            x = random_inputs(n, 4)
            got, expected = compiled(x, weights, biases), pipeline(x, weights, biases)
            for a, b in zip(got, expected, strict=True):
                assert same_bits(a, b)
    torch._dynamo.reset()


def test_negative_and_conjugate_views():
    """Such a view holds numbers of the other sign; a kernel that read its memory would be wrong."""
    net = random_network((4, 30, 2))
    negative = torch.view_as_complex(random_inputs(12, 4).view(6, 4, 2)).conj().imag
    assert negative.is_neg()
    plain = negative.resolve_neg()
    assert not same_bits(net(plain), net(-plain))
    assert same_bits(net(negative), net(plain))
    assert same_bits(gradsplinter.signatures(net, negative), gradsplinter.signatures(net, plain))
    ids = gradsplinter.unique_rows(torch.cat([plain, -plain])).ids.tolist()
    assert ids == list(range(12))
    mixed = torch.stack([negative, negative])[0]
    assert gradsplinter.unique_rows(mixed).ids.tolist() == list(range(6))
    directions = negative[:, :2]
    words = gradsplinter.signatures(net, plain)
    assert same_bits(
        gradsplinter.jacobian(net, words, directions=directions),
        gradsplinter.jacobian(net, words, directions=directions.resolve_neg()),
    )
    cube = negative.view(3, 2, 4)
    shifted = torch.cat([cube[:, :1], cube[:, 1:].resolve_neg()], dim=1)
    assert same_bits(gradsplinter.cross(cube), gradsplinter.cross(shifted))
    weights = [negative, random_inputs(2, 6)]
    words, y = OPERATORS.signatures(plain, weights, [torch.zeros(6), torch.zeros(2)], [1], True)
    plain_net = ReluNetwork([plain, weights[1]], [torch.zeros(6), torch.zeros(2)])
    assert same_bits(y, plain_net(plain))
    assert same_bits(words, gradsplinter.signatures(plain_net, plain))


@pytest.mark.parametrize("call", [gradsplinter.unique_rows, gradsplinter.cross])
def test_complex_and_conjugate_tensors_are_refused(call):
    with pytest.raises(TypeError, match=r"must be .*float32 or float64, got complex64"):
        call(torch.ones(2, 2, 2, dtype=torch.complex64).conj())


def test_weights_that_are_not_contiguous():
    """ReluNetwork copies its weights; whoever calls an operator may pass any."""
    net, x = random_network((4, 70, 3)), random_inputs(5, 4)
    weights = [w.t().contiguous().t() for w in net.weights]
    biases = [b.repeat_interleave(2)[::2] for b in net.biases]
    words, y = OPERATORS.signatures(x, weights, biases, [1], True)
    assert same_bits(y, net(x))
    assert same_bits(words, gradsplinter.signatures(net, x))
    jacobian = OPERATORS.jacobian(weights, True, words, torch.eye(3))
    assert same_bits(jacobian, gradsplinter.jacobian(net, words))


@pytest.mark.parametrize("name", NAMES)
def test_cuda_tensors_get_a_message(name):
    """The kernel that torch calls for CUDA tensors where none were built in, called without one."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    operator = getattr(OPERATORS, name).default
    call = _library._not_on_cuda if _C.cuda else partial(operator.redispatch, keys)
    with pytest.raises(NotImplementedError) as raised:
        call(*arguments()[name][0])
    assert str(raised.value) == (
        "this build of gradsplinter has no kernels for CUDA tensors; move them to the CPU, or build "
        "with `pip install . -C cmake.define.GRADSPLINTER_CUDA=ON`"
    )


def test_an_out_on_another_device():
    """torch calls the kernel of one of the devices: it must not write to an address of the other."""
    out = torch.empty(5, 3, 4, device="meta")
    message = r"needs a contiguous out \[5, 3, 4\] .* device cpu, got one on meta"
    with pytest.raises(ValueError, match=message):
        _library._jacobian_out(WEIGHTS, True, WORDS, EYE, out)


def test_a_gpu_that_cannot_run_the_kernels_gets_a_message(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A40")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    monkeypatch.setattr(_library._C, "cuda", "90-real 120")
    with pytest.raises(NotImplementedError) as raised:
        _library.cannot_run(1, "no kernel image is available for execution on the device")
    assert str(raised.value) == (
        "cuda:1, NVIDIA A40 (8.6), cannot run gradsplinter's CUDA kernels, which were built for "
        "90-real 120: no kernel image is available for execution on the device; build for it with "
        "`pip install . -C cmake.define.GRADSPLINTER_CUDA=ON -C "
        "cmake.define.CMAKE_CUDA_ARCHITECTURES=86`"
    )


def test_gradients_do_not_flow_silently():
    """An operator has no derivative: torch warns where one is asked for, and never returns zero."""
    x = random_inputs(2, 4).requires_grad_()
    _, y = OPERATORS.signatures(x, [torch.ones(1, 4)], [torch.zeros(1)], [], True)
    with pytest.warns(UserWarning, match="gradsplinter::signatures"):
        y.sum().backward()
    assert x.grad is None


NET = random_network((4, 7, 6, 3))
WORDS = gradsplinter.signatures(NET, random_inputs(5, 4))
WEIGHTS, BIASES, EYE = list(NET.weights), list(NET.biases), torch.eye(3)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("signatures", (random_inputs(5, 3), WEIGHTS, BIASES, [1], True)),
        ("signatures", (random_inputs(5, 4).double(), WEIGHTS, BIASES, [1], True)),
        ("signatures", (random_inputs(5, 4), WEIGHTS, BIASES[:2], [1], True)),
        ("signatures", (random_inputs(5, 4), WEIGHTS[::-1], BIASES[::-1], [1], True)),
        ("signatures", (random_inputs(5, 4), [], [], [], True)),
        ("signatures", (random_inputs(5, 4), WEIGHTS, BIASES, [0], True)),
        ("signatures", (random_inputs(5, 4), WEIGHTS, BIASES, [3], True)),
        ("signatures", (random_inputs(5, 4), WEIGHTS, BIASES, [2, 1], True)),
        ("unique_signatures", (random_inputs(5, 3), WEIGHTS, BIASES, [1])),
        ("unique_signatures", (random_inputs(5, 4), WEIGHTS, BIASES, [3])),
        ("unique_rows", (WORDS[0],)),
        ("unique_rows", (WORDS.int(),)),
        ("unique_rows", (WORDS, 65)),
        ("hash_rows", (WORDS.int(),)),
        ("hash_rows", (WORDS[0],)),
        ("pack_bits", (WORDS,)),
        ("pack_bits", (WORDS[0] > 0,)),
        ("jacobian", (WEIGHTS, True, WORDS[:, :0], EYE)),
        ("jacobian", (WEIGHTS, True, WORDS | 1 << 40, EYE)),
        ("jacobian", (WEIGHTS, False, WORDS, EYE)),
        ("jacobian", (WEIGHTS, True, WORDS, EYE.double())),
        ("jacobian", (WEIGHTS, True, WORDS, torch.eye(2))),
        ("jacobian_out", (WEIGHTS, True, WORDS, EYE, torch.empty(5, 3, 3))),
        ("jacobian_out", (WEIGHTS, True, WORDS, EYE, torch.empty(5, 4, 3).mT)),
        ("jacobian_out", (WEIGHTS, True, WORDS, EYE, torch.empty(5, 3, 4).double())),
        ("gram", (WEIGHTS, True, WORDS[:, 1:], EYE, True)),
        ("gram", (WEIGHTS[:0], True, WORDS, EYE, True)),
        ("nearest_signatures", (WORDS, WORDS[:, :1], torch.zeros(5, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS[0], WORDS, torch.zeros(5, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS.int(), WORDS, torch.zeros(5, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS, WORDS, torch.zeros(4, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS, WORDS, torch.ones(5, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS, WORDS, -torch.ones(5, dtype=torch.int64), 1)),
        ("nearest_signatures", (WORDS, WORDS, torch.zeros(5), 1)),
        ("cross", (torch.zeros(3, 4), True)),
        ("cross", (torch.zeros(3, 4, 5).half(), True)),
    ],
)
def test_direct_calls_cannot_reach_out_of_bounds(name, args):
    with pytest.raises(ValueError, match=r"needs|hash_bits must be|patterns must have no bits"):
        getattr(OPERATORS, name)(*args)


def test_joining_neighbours_stays_in_bounds():
    x, ids = random_inputs(4, 3), torch.arange(4)
    lengths, zeros = OPERATORS.lengths(x), torch.zeros(4, dtype=torch.int64)
    for wrong in (
        (x, lengths, 0.5, ids, 2, ids),
        (x, lengths, 0.5, ids - 1, 4, ids),
        (x, lengths, 0.5, zeros, 1, ids + 1),
        (x, lengths[:3], 0.5, zeros, 1, ids),
        (x, lengths.float(), 0.5, zeros, 1, ids),
    ):
        with pytest.raises(ValueError, match="an operator of gradsplinter needs"):
            OPERATORS.join_neighbours(*wrong)


def test_leaders_stay_in_bounds():
    x, ids = random_inputs(4, 3), torch.arange(4)
    lengths = OPERATORS.lengths(x)
    for wrong in (
        (x, lengths, 0.5, ids, 3),
        (x, lengths, 0.5, ids - 2, 4),
        (x, lengths[:3], 0.5, ids, 4),
        (x, lengths, 0.5, ids.int(), 4),
        (x, lengths, 0.5, ids.repeat(2)[::2], 4),
    ):
        with pytest.raises(ValueError, match="an operator of gradsplinter needs"):
            OPERATORS.leaders(*wrong)
