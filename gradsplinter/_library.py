"""The compiled kernels, registered as torch operators `torch.ops.gradsplinter.*`.

Outputs are allocated here, by torch, and written by the kernels. `gradsplinter.ops` checks arguments
and says what is wrong; the checks here and in `_C` keep a direct call of an operator from reading or
writing out of bounds.
"""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from torch import Tensor

from gradsplinter import _C
from gradsplinter.checks import DTYPES
from gradsplinter.patterns import words_of

_library = torch.library.Library("gradsplinter", "DEF")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"an operator of gradsplinter needs {what}")


def _signatures(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], sites: list[int], outputs: bool
) -> tuple[Tensor, Tensor]:
    x, weights, biases = x.contiguous(), _contiguous(weights), _contiguous(biases)
    words = x.new_empty(x.shape[0], _C.check_forward(x, weights, biases, sites), dtype=torch.int64)
    y = x.new_empty(x.shape[0] if outputs else 0, weights[-1].shape[0])
    _C.signatures(x, weights, biases, sites, words, y if outputs else None, _threads())
    return words, y


def _signatures_fake(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],  # noqa: ARG001
    sites: list[int],
    outputs: bool,
) -> tuple[Tensor, Tensor]:
    words = sum(words_of(weights[site - 1].shape[0]) for site in sites)
    return (
        x.new_empty(x.shape[0], words, dtype=torch.int64),
        x.new_empty(x.shape[0] if outputs else 0, weights[-1].shape[0]),
    )


def _check_rows(rows: Tensor, hash_bits: int) -> None:
    if not 0 <= hash_bits <= 64:
        raise ValueError(f"hash_bits must be in 0..64, got {hash_bits}")
    _need(rows.dim() == 2 and rows.dtype in (torch.int64, torch.bool, *DTYPES), "rows [N, width]")


def _unique_rows(rows: Tensor, hash_bits: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    _check_rows(rows, hash_bits)
    n = rows.shape[0]
    # Room for n unique rows; pages that are not written cost nothing.
    first, counts, ids = (rows.new_empty(n, dtype=torch.int64) for _ in range(3))
    unique = _C.unique_rows(rows.contiguous(), hash_bits, first, counts, ids, _threads())
    return _begin_of(first, unique), _begin_of(counts, unique), ids


def _unique_rows_on_gpu(rows: Tensor, hash_bits: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    _check_rows(rows, hash_bits)
    ids = rows.new_empty(rows.shape[0], dtype=torch.int64)
    first, counts = _C.unique_rows_on_gpu(rows.contiguous(), hash_bits, _C.first_slots, ids)
    return first, counts, ids


def _unique_rows_fake(
    rows: Tensor,
    hash_bits: int = 64,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    unique = torch.library.get_ctx().new_dynamic_size()
    first, counts = (rows.new_empty(unique, dtype=torch.int64) for _ in range(2))
    return first, counts, rows.new_empty(rows.shape[0], dtype=torch.int64)


def _unique_signatures(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], sites: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weights, biases = x.contiguous(), _contiguous(weights), _contiguous(biases)
    words = x.new_empty(x.shape[0], _C.check_forward(x, weights, biases, sites), dtype=torch.int64)
    first, counts, ids = (x.new_empty(x.shape[0], dtype=torch.int64) for _ in range(3))
    unique = _C.unique_signatures(x, weights, biases, sites, words, first, counts, ids, _threads())
    return (
        _begin_of(words, unique),
        _begin_of(first, unique),
        _begin_of(counts, unique),
        ids,
    )


def _unique_signatures_on_gpu(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], sites: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    words, _ = _signatures(x, weights, biases, sites, outputs=False)
    first, counts, ids = _unique_rows_on_gpu(words)
    return words[first], first, counts, ids


def _unique_signatures_fake(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], sites: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    words, _ = _signatures_fake(x, weights, biases, sites, outputs=False)
    unique = torch.library.get_ctx().new_dynamic_size()
    first, counts = (x.new_empty(unique, dtype=torch.int64) for _ in range(2))
    return (
        x.new_empty(unique, words.shape[1], dtype=torch.int64),
        first,
        counts,
        x.new_empty(x.shape[0], dtype=torch.int64),
    )


def _hash_rows(rows: Tensor) -> Tensor:
    _need(rows.dim() == 2 and rows.dtype == torch.int64, "int64 rows [N, words]")
    hashes = rows.new_empty(rows.shape[0])
    _C.hash_rows(rows.contiguous(), hashes, _threads())
    return hashes


def _hash_rows_fake(rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0])


def _pack_bits(bits: Tensor) -> Tensor:
    _need(bits.dim() == 2 and bits.dtype == torch.bool, "bool bits [rows, units]")
    words = _pack_bits_fake(bits)
    _C.pack_bits(bits.contiguous(), words, _threads())
    return words


def _pack_bits_fake(bits: Tensor) -> Tensor:
    return bits.new_empty(bits.shape[0], words_of(bits.shape[1]), dtype=torch.int64)


def _jacobian(weights: list[Tensor], output: bool, patterns: Tensor, directions: Tensor) -> Tensor:
    arguments = _chain(weights, output, patterns, directions)
    out = _jacobian_fake(weights, output, patterns, directions)
    _C.jacobian(*arguments, out, _threads())
    return out


def _jacobian_out(
    weights: list[Tensor], output: bool, patterns: Tensor, directions: Tensor, out: Tensor
) -> None:
    arguments = _chain(weights, output, patterns, directions)
    shape = (patterns.shape[0], directions.shape[0], weights[0].shape[1])
    _need(
        out.shape == shape
        and out.dtype == directions.dtype
        and out.device == directions.device
        and out.is_contiguous(),
        f"a contiguous out {list(shape)} of the directions' dtype and device"
        f" {directions.device}, got one on {out.device}",
    )
    _C.jacobian(*arguments, out, _threads())


def _jacobian_out_fake(
    weights: list[Tensor],  # noqa: ARG001
    output: bool,  # noqa: ARG001
    patterns: Tensor,  # noqa: ARG001
    directions: Tensor,  # noqa: ARG001
    out: Tensor,  # noqa: ARG001
) -> None:
    return None


def _jacobian_fake(
    weights: list[Tensor],
    output: bool,  # noqa: ARG001
    patterns: Tensor,
    directions: Tensor,
) -> Tensor:
    return directions.new_empty(patterns.shape[0], directions.shape[0], weights[0].shape[1])


def _cross(jacobian: Tensor, normalize: bool) -> Tensor:
    _need(jacobian.dim() == 3 and jacobian.dtype in DTYPES, "a Jacobian [U, D, h]")
    out = _cross_fake(jacobian, normalize)
    _C.cross(jacobian.contiguous(), normalize, out, _threads())
    return out


def _cross_fake(jacobian: Tensor, normalize: bool) -> Tensor:  # noqa: ARG001
    modes, directions, _ = jacobian.shape
    return jacobian.new_empty(modes, directions, directions)


def _gram(
    weights: list[Tensor], output: bool, patterns: Tensor, directions: Tensor, normalize: bool
) -> Tensor:
    arguments = _chain(weights, output, patterns, directions)
    out = _gram_fake(weights, output, patterns, directions, normalize)
    _C.gram(*arguments, normalize, out, _threads())
    return out


def _gram_fake(
    weights: list[Tensor],  # noqa: ARG001
    output: bool,  # noqa: ARG001
    patterns: Tensor,
    directions: Tensor,
    normalize: bool,  # noqa: ARG001
) -> Tensor:
    count = directions.shape[0]
    return directions.new_empty(patterns.shape[0], count, count)


def _nearest_signatures(
    queries: Tensor, references: Tensor, group_of: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    for tensor in (queries, references):
        _need(tensor.dim() == 2 and tensor.dtype == torch.int64, "int64 signatures [N, words]")
    _need(queries.shape[1] == references.shape[1] < 2**24, "signatures of fewer than 2^24 words")
    _need(len(references) < 2**32, "fewer than 2^32 references")
    _need(
        group_of.shape == references.shape[:1] and group_of.dtype == torch.int64,
        "int64 groups [M]",
    )
    _need_between(group_of, 0, groups, "groups in 0..n_groups-1")
    distance, index = _nearest_signatures_fake(queries, references, group_of, groups)
    _C.nearest_signatures(
        queries.contiguous(), references.contiguous(), group_of.contiguous(), groups,
        distance, index, _threads(),
    )  # fmt: skip
    return distance, index


def _nearest_signatures_fake(
    queries: Tensor,
    references: Tensor,  # noqa: ARG001
    group_of: Tensor,  # noqa: ARG001
    groups: int,
) -> tuple[Tensor, Tensor]:
    distance = queries.new_empty(queries.shape[0], groups, dtype=torch.int32)
    return distance, queries.new_empty(queries.shape[0], groups)


def _lengths(rows: Tensor) -> Tensor:
    _need(rows.dim() == 2 and rows.dtype in DTYPES, "rows [N, width]")
    out = _lengths_fake(rows)
    _C.lengths(rows.contiguous(), out, _threads())
    return out


def _lengths_fake(rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], dtype=torch.float64)


def _join_neighbours(
    rows: Tensor, lengths: Tensor, angle: float, bucket_of: Tensor, buckets: int, parents: Tensor
) -> None:
    _need_rows(rows, lengths, bucket_of, parents)
    _need_between(bucket_of, 0, buckets, "buckets in 0..buckets-1")
    _need_between(parents, 0, len(rows), "parents in 0..N-1")
    _C.join_neighbours(
        rows.contiguous(), lengths, angle, math.cos(angle), bucket_of, buckets, parents, _threads()
    )


def _join_neighbours_fake(
    rows: Tensor,  # noqa: ARG001
    lengths: Tensor,  # noqa: ARG001
    angle: float,  # noqa: ARG001
    bucket_of: Tensor,  # noqa: ARG001
    buckets: int,  # noqa: ARG001
    parents: Tensor,  # noqa: ARG001
) -> None:
    return None


def _leaders(
    rows: Tensor, lengths: Tensor, angle: float, cluster_of: Tensor, clusters: int
) -> Tensor:
    _need_rows(rows, lengths, cluster_of)
    _need_between(cluster_of, -1, clusters, "clusters in -1..clusters-1")
    out = torch.empty_like(cluster_of)
    _C.leaders(
        rows.contiguous(), lengths, angle, math.cos(angle), cluster_of, clusters, out, _threads()
    )
    return out


def _leaders_fake(
    rows: Tensor,  # noqa: ARG001
    lengths: Tensor,  # noqa: ARG001
    angle: float,  # noqa: ARG001
    cluster_of: Tensor,
    clusters: int,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(cluster_of)


def _need_rows(rows: Tensor, lengths: Tensor, *integers: Tensor) -> None:
    _need(rows.dim() == 2 and rows.dtype in DTYPES, "rows [N, width]")
    for tensor in (lengths, *integers):
        dtype = torch.float64 if tensor is lengths else torch.int64
        _need(
            tensor.shape == rows.shape[:1] and tensor.dtype == dtype and tensor.is_contiguous(),
            "contiguous lengths, float64, and integers, int64 [N]",
        )


def _need_between(tensor: Tensor, least: int, end: int, what: str) -> None:
    inside = len(tensor) == 0 or (int(tensor.min()) >= least and int(tensor.max()) < end)
    _need(inside, what)


def _chain(
    weights: list[Tensor], output: bool, patterns: Tensor, directions: Tensor
) -> tuple[list[Tensor], bool, Tensor, Tensor]:
    arguments = _contiguous(weights), output, patterns.contiguous(), directions.contiguous()
    _C.check_chain(*arguments)
    return arguments


def _contiguous(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _begin_of(tensor: Tensor, n: int) -> Tensor:
    """Memory of its own, so that the rest is freed."""
    return tensor if n == tensor.shape[0] else tensor[:n].clone()


def _threads() -> int:
    return torch.get_num_threads()


def cannot_run(device: int, why: str) -> NoReturn:
    """Called from `_C` for the first tensor on a GPU that cannot run the kernels."""
    name = torch.cuda.get_device_name(device)
    major, minor = torch.cuda.get_device_capability(device)
    raise NotImplementedError(
        f"cuda:{device}, {name} ({major}.{minor}), cannot run gradsplinter's CUDA kernels, which were "
        f"built for {_C.cuda}: {why}; build for it with `pip install . -C "
        "cmake.define.GRADSPLINTER_CUDA=ON -C "
        f"cmake.define.CMAKE_CUDA_ARCHITECTURES={major}{minor}`"
    )


def _not_on_cuda(*_: object) -> NoReturn:
    raise NotImplementedError(
        "this build of gradsplinter has no kernels for CUDA tensors; move them to the CPU, or build "
        "with `pip install . -C cmake.define.GRADSPLINTER_CUDA=ON`"
    )


def _on_the_cpu_only(*_: object) -> NoReturn:
    raise NotImplementedError(
        "gradsplinter clusters vectors and compares signatures on the CPU only; move them there"
    )


# What runs otherwise on a GPU; the rest finds the device of its tensors in C++.
_ON_GPU = {
    "unique_rows": _unique_rows_on_gpu,
    "unique_signatures": _unique_signatures_on_gpu,
    "nearest_signatures": _on_the_cpu_only,
    "lengths": _on_the_cpu_only,
    "join_neighbours": _on_the_cpu_only,
    "leaders": _on_the_cpu_only,
}

for _schema, _kernel, _fake in (
    (
        "signatures(Tensor x, Tensor[] weights, Tensor[] biases, int[] sites, bool outputs) "
        "-> (Tensor, Tensor)",
        _signatures,
        _signatures_fake,
    ),
    (
        "unique_rows(Tensor rows, int hash_bits=64) -> (Tensor, Tensor, Tensor)",
        _unique_rows,
        _unique_rows_fake,
    ),
    (
        "unique_signatures(Tensor x, Tensor[] weights, Tensor[] biases, int[] sites) "
        "-> (Tensor, Tensor, Tensor, Tensor)",
        _unique_signatures,
        _unique_signatures_fake,
    ),
    ("hash_rows(Tensor rows) -> Tensor", _hash_rows, _hash_rows_fake),
    ("pack_bits(Tensor bits) -> Tensor", _pack_bits, _pack_bits_fake),
    (
        "jacobian(Tensor[] weights, bool output, Tensor patterns, Tensor directions) -> Tensor",
        _jacobian,
        _jacobian_fake,
    ),
    (
        "jacobian_out(Tensor[] weights, bool output, Tensor patterns, Tensor directions, "
        "Tensor(a!) out) -> ()",
        _jacobian_out,
        _jacobian_out_fake,
    ),
    ("cross(Tensor jacobian, bool normalize) -> Tensor", _cross, _cross_fake),
    (
        "gram(Tensor[] weights, bool output, Tensor patterns, Tensor directions, bool normalize) "
        "-> Tensor",
        _gram,
        _gram_fake,
    ),
    (
        "nearest_signatures(Tensor queries, Tensor references, Tensor group_of, int groups) "
        "-> (Tensor, Tensor)",
        _nearest_signatures,
        _nearest_signatures_fake,
    ),
    ("lengths(Tensor rows) -> Tensor", _lengths, _lengths_fake),
    (
        "join_neighbours(Tensor rows, Tensor lengths, float angle, Tensor bucket_of, int buckets, "
        "Tensor(a!) parents) -> ()",
        _join_neighbours,
        _join_neighbours_fake,
    ),
    (
        "leaders(Tensor rows, Tensor lengths, float angle, Tensor cluster_of, int clusters) "
        "-> Tensor",
        _leaders,
        _leaders_fake,
    ),
):
    _name = _schema.partition("(")[0]
    _library.define(_schema)
    _library.impl(_name, _kernel, "CPU")
    _library.impl(_name, _ON_GPU.get(_name, _kernel) if _C.cuda else _not_on_cuda, "CUDA")
    torch.library.register_fake(f"gradsplinter::{_name}", _fake, lib=_library)
