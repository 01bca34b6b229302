// Short rows in parts by their hash, for tables that are larger than the second cache: the rows of
// a part are looked up in few of the slots, and compared with rows that lie near.
#pragma once

#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/numbering.h"
#include "cuda/rows.h"

namespace gradsplinter::cuda {
namespace {

constexpr int part_count = 128;
constexpr int part_shift = 18;  // in a table of 2^25 slots, a part is for 2^18 slots side by side
constexpr int part_threads = 512;
constexpr int rows_at_once = 8;  // that a thread moves
constexpr int block_rows = part_threads * rows_at_once;
constexpr int apart = 16;  // counters of parts, so that each has a cache line to itself

__device__ inline int part_of(uint64_t hash) {
  return static_cast<int>(hash >> part_shift) & (part_count - 1);
}

template <class Rows>
__global__ void __launch_bounds__(part_threads) count_parts(Rows rows, int64_t n, int64_t* counts) {
  int* const own = shared_memory<int>();  // [part_count]
  if (threadIdx.x < part_count) own[threadIdx.x] = 0;
  __syncthreads();
  for (int64_t i = int64_t{blockIdx.x} * part_threads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * part_threads) {
    atomicAdd(own + part_of(rows.hash(rows[i])), 1);
  }
  __syncthreads();
  if (threadIdx.x >= part_count) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(counts + threadIdx.x * apart),
            static_cast<unsigned long long>(own[threadIdx.x]));
}

template <class Rows>
struct Moved {
  typename Rows::Row* rows;  // [n], part by part
  uint32_t* from;            // [n]: the number that a row had
  uint32_t* to;              // [n]: the number that a row has now
};

// What a block sorts by parts before it writes them, so that rows of a part are written together.
template <class Rows>
struct Sorted {
  typename Rows::Row rows[block_rows];
  int from[block_rows];  // the place in the block
  uint8_t part[block_rows];
  int count[part_count], begin[part_count];
  int64_t to[part_count];  // what `begin` becomes
};

// `next` [part_count, apart]: where the next row of each part goes. A block takes places for all
// its rows of a part at once.
template <class Rows>
__global__ void __launch_bounds__(part_threads)
    move_rows(Rows rows, int64_t n, int64_t* next, Moved<Rows> moved) {
  auto& sorted = *shared_memory<Sorted<Rows>>();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread < part_count) sorted.count[thread] = 0;
  __syncthreads();
  const int64_t block = int64_t{blockIdx.x} * block_rows;
  const int size = static_cast<int>(min(n - block, int64_t{block_rows}));
  typename Rows::Row row[rows_at_once];
  int part[rows_at_once], place[rows_at_once];
#pragma unroll
  for (int k = 0; k < rows_at_once; ++k) {
    const int i = k * part_threads + thread;
    if (i < size) row[k] = rows[block + i];
  }
#pragma unroll
  for (int k = 0; k < rows_at_once; ++k) {
    if (k * part_threads + thread >= size) continue;
    part[k] = part_of(rows.hash(row[k]));
    place[k] = atomicAdd(sorted.count + part[k], 1);
  }
  __syncthreads();
  if (thread < part_count) {
    const int own = sorted.count[thread];
    sorted.to[thread] =
        static_cast<int64_t>(atomicAdd(reinterpret_cast<unsigned long long*>(next + thread * apart),
                                       static_cast<unsigned long long>(own)));
    int begin = 0;
    for (int before = 0; before < thread; ++before) begin += sorted.count[before];
    sorted.begin[thread] = begin;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < rows_at_once; ++k) {
    const int i = k * part_threads + thread;
    if (i >= size) continue;
    moved.to[block + i] = static_cast<uint32_t>(sorted.to[part[k]] + place[k]);
    const int at = sorted.begin[part[k]] + place[k];
    sorted.rows[at] = row[k];
    sorted.from[at] = i;
    sorted.part[at] = static_cast<uint8_t>(part[k]);
  }
  __syncthreads();
  for (int at = thread; at < size; at += part_threads) {
    const int of = sorted.part[at];
    const int64_t to = sorted.to[of] + (at - sorted.begin[of]);
    moved.rows[to] = sorted.rows[at];
    moved.from[to] = static_cast<uint32_t>(block + sorted.from[at]);
  }
}

// What is known of the rows of each slot.
struct Tally {
  uint32_t* counts;
  uint32_t* first;  // ~ the number of the first row, so that all begin with 0
};

// slots [n]: of the rows that have come `from` elsewhere. Where all rows of a frequent kind come
// one after the other, most of a warp's are often of the kind of the first.
__global__ void tally_rows(const int64_t* slots, const uint32_t* from, int64_t n,
                           const bool* crowded, Tally tally) {
  if (*crowded) return;  // some rows have no slot
  for (int64_t first = int64_t{blockIdx.x} * part_threads; first < n;
       first += int64_t{gridDim.x} * part_threads) {
    const int64_t j = first + threadIdx.x;
    const int64_t slot = j < n ? slots[j] : -1;
    const unsigned same = __ballot_sync(all_lanes, slot == __shfl_sync(all_lanes, slot, 0));
    if (j >= n) continue;
    if (threadIdx.x % warp == 0) {
      atomicAdd(tally.counts + slot, static_cast<uint32_t>(__popc(same)));
    } else if ((same >> threadIdx.x % warp & 1) == 0) {
      atomicAdd(tally.counts + slot, 1u);
    }
    if (cached(tally.first + slot) < ~from[j]) atomicMax(tally.first + slot, ~from[j]);
  }
}

// values [n]: what of_slots has for the slot of each row.
__global__ void number_moved(const int64_t* slots, const uint32_t* of_slots, int64_t n,
                             uint32_t* values) {
  for (int64_t j = int64_t{blockIdx.x} * part_threads + threadIdx.x; j < n;
       j += int64_t{gridDim.x} * part_threads) {
    values[j] = of_slots[slots[j]];
  }
}

__global__ void move_back(const uint32_t* values, const uint32_t* to, int64_t n, int64_t* ids) {
  for (int64_t i = int64_t{blockIdx.x} * part_threads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * part_threads) {
    ids[i] = values[to[i]];
  }
}

// A copy of the rows, part by part.
template <class Rows>
class Parts {
 public:
  Parts(const Rows& rows, int64_t n, const Device& device)
      : n_(n),
        blocks_(std::min(divide_up(n, part_threads), int64_t{4} * multiprocessors(device.index))),
        hash_mask_(rows.hash_mask),
        moved_{device.memory.array<typename Rows::Row>(n), device.memory.array<uint32_t>(n),
               device.memory.array<uint32_t>(n)},
        device_(device) {
    constexpr int64_t counters = part_count * apart;
    auto* const next = device.memory.array<int64_t>(counters + 1);
    clear(next, counters * sizeof(int64_t), device.stream);
    launch(count_parts<Rows>, blocks_, part_threads, part_count * sizeof(int), device.stream, rows,
           n, next);
    launch(sum_before, 1, scan_threads, scan_threads * sizeof(int64_t), device.stream, next,
           counters, next + counters);
    launch(move_rows<Rows>, divide_up(n, block_rows), part_threads, sizeof(Sorted<Rows>),
           device.stream, rows, n, next, moved_);
  }

  Rows rows() const { return {moved_.rows, hash_mask_}; }

  void tally(const int64_t* slots, const bool* crowded, const Tally& tally) const {
    launch(tally_rows, blocks_, part_threads, 0, device_.stream, slots,
           static_cast<const uint32_t*>(moved_.from), n_, crowded, tally);
  }

  // ids [n]: from the slots of the moved rows to the ids of the rows where they were.
  void write_ids(const uint32_t* of_slots, int64_t* ids) const {
    launch(number_moved, blocks_, part_threads, 0, device_.stream, static_cast<const int64_t*>(ids),
           of_slots, n_, moved_.from);
    launch(move_back, blocks_, part_threads, 0, device_.stream,
           static_cast<const uint32_t*>(moved_.from), static_cast<const uint32_t*>(moved_.to), n_,
           ids);
  }

 private:
  int64_t n_, blocks_;
  uint64_t hash_mask_;
  Moved<Rows> moved_;
  const Device& device_;
};

}  // namespace
}  // namespace gradsplinter::cuda
