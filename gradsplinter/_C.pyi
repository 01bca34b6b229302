from torch import Tensor

cuda: str  # what the kernels for GPUs were built for, e.g. "80-real 90"; empty without them

def check_forward(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], sites: list[int]
) -> int: ...  # words in a signature
def check_chain(
    weights: list[Tensor], output: bool, patterns: Tensor, directions: Tensor
) -> None: ...
def signatures(
    x: Tensor,  # [N, h_0]
    weights: list[Tensor],  # [h_l, h_(l-1)]
    biases: list[Tensor],  # [h_l]
    sites: list[int],
    words: Tensor,  # out: int64 [N, words]
    y: Tensor | None,  # out: [N, h_L]
    threads: int,
) -> None: ...
def unique_rows(
    rows: Tensor,  # [N, width]
    hash_bits: int,
    first: Tensor,  # out: int64 [at least U]
    counts: Tensor,  # out: int64 [at least U]
    ids: Tensor,  # out: int64 [N]
    threads: int,
) -> int: ...
def unique_signatures(
    x: Tensor,  # [N, h_0]
    weights: list[Tensor],  # [h_l, h_(l-1)]
    biases: list[Tensor],  # [h_l]
    sites: list[int],
    unique: Tensor,  # out: int64 [at least U, words]; room for N
    first: Tensor,  # out: int64 [at least U]; room for N
    counts: Tensor,  # out: int64 [at least U]; room for N
    ids: Tensor,  # out: int64 [N]
    threads: int,
) -> int: ...
def hash_rows(rows: Tensor, hashes: Tensor, threads: int) -> None: ...
def pack_bits(bits: Tensor, words: Tensor, threads: int) -> None: ...
def jacobian(
    weights: list[Tensor],  # of layers source+1..target
    output: bool,
    patterns: Tensor,  # int64 [U, words]
    directions: Tensor,  # [D, h_target]
    out: Tensor,  # [U, D, h_source]
    threads: int,
) -> None: ...
def cross(
    jacobian: Tensor,  # [U, D, h]
    normalize: bool,
    out: Tensor,  # [U, D, D]
    threads: int,
) -> None: ...
def gram(
    weights: list[Tensor],  # of layers source+1..target
    output: bool,
    patterns: Tensor,  # int64 [U, words]
    directions: Tensor,  # [D, h_target]
    normalize: bool,
    out: Tensor,  # [U, D, D]
    threads: int,
) -> None: ...
def nearest_signatures(
    queries: Tensor,  # int64 [N, words]
    references: Tensor,  # int64 [M, words]
    group_of: Tensor,  # int64 [M], in 0..groups-1
    groups: int,
    distance: Tensor,  # out: int32 [N, groups]
    index: Tensor,  # out: int64 [N, groups]
    threads: int,
) -> None: ...
def lengths(
    rows: Tensor,  # [N, h]
    out: Tensor,  # float64 [N]
    threads: int,
) -> None: ...
def join_neighbours(
    rows: Tensor,  # [N, h]
    lengths: Tensor,  # float64 [N], not 0
    angle: float,
    cosine: float,  # of the angle
    bucket_of: Tensor,  # int64 [N], in 0..buckets-1
    buckets: int,
    parents: Tensor,  # in and out: int64 [N]
    threads: int,
) -> None: ...
def leaders(
    rows: Tensor,  # [N, h]
    lengths: Tensor,  # float64 [N], not 0
    angle: float,
    cosine: float,  # of the angle
    cluster_of: Tensor,  # int64 [N], in -1..clusters-1
    clusters: int,
    leader_of: Tensor,  # out: int64 [N]
    threads: int,
) -> None: ...

class ModeTable:
    """The modes of the examples seen so far, numbered in order of insertion."""

    def __init__(self, words: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def examples(self) -> int: ...
    @property
    def undercount(self) -> int: ...
    def insert(
        self,
        signatures: Tensor,  # int64 [n, words]
        counts: Tensor,  # int64 [n]
        first: Tensor,  # int64 [n], counted from `examples`
        examples: int,
        undercount: int,
        ids: Tensor,  # out: int64 [n]
    ) -> None: ...
    def missing(self, signatures: Tensor) -> int: ...
    def copy(
        self,
        signatures: Tensor,  # out: int64 [size, words]
        counts: Tensor,  # out: int64 [size]
        first: Tensor,  # out: int64 [size]
    ) -> None: ...

class PlaneRegions:
    """The linear regions of a network on a polygon."""

    def __init__(
        self,
        weights: list[Tensor],  # of the hidden layers, float64; the first is [h_1, 2]
        biases: list[Tensor],
        terms: Tensor,  # float64 [h_1]: the largest Σ|term| of each sum of the first layer
        domain: Tensor,  # float64 [corners, 2], convex and counter-clockwise
        most: int,  # regions, after which to stop
        threads: int,
    ) -> None: ...
    @property
    def regions(self) -> int: ...
    @property
    def sides(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    @property
    def cleared(self) -> int: ...
    def write(
        self,
        vertices: Tensor,  # out: float64 [sides, 2]
        offsets: Tensor,  # out: int64 [regions + 1]
        signatures: Tensor,  # out: int64 [regions, words]
        areas: Tensor,  # out: float64 [regions]
        centroids: Tensor,  # out: float64 [regions, 2]
        neighbours: Tensor,  # out: int64 [sides]
        threads: int,
    ) -> None: ...

class LineRegions:
    """The linear regions of a network on the segment from 0 to 1."""

    def __init__(
        self,
        weights: list[Tensor],
        biases: list[Tensor],
        terms: Tensor,  # float64 [h_1], as for a plane
    ) -> None: ...
    @property
    def regions(self) -> int: ...
    @property
    def cleared(self) -> int: ...
    def write(
        self,
        breakpoints: Tensor,  # out: float64 [regions + 1]
        signatures: Tensor,  # out: int64 [regions, words]
    ) -> None: ...

def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...

# With `cuda` only.
first_slots: int  # of the table of unique_rows_on_gpu, where that many rows are given

def why_not_on_gpu(device: int) -> str: ...  # why it cannot run the kernels; empty if it can
def use_only_wide_on_gpu(value: bool) -> None: ...  # for signatures of small networks, too
def unique_rows_on_gpu(
    rows: Tensor,  # [N, width]
    hash_bits: int,
    slots: int,  # at first
    ids: Tensor,  # out: int64 [N]
) -> tuple[Tensor, Tensor]: ...  # first and counts, int64 [U]

class GpuModeTable(ModeTable):
    """The same on a GPU, where its tensors lie. (In truth a class of its own.)"""

    def __init__(self, words: int, hash_bits: int = 64) -> None: ...
