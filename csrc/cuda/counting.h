// The last pass over rows whose slots are known: their ids, and how many rows each id has.
#pragma once

#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/device.h"

namespace gradsplinter::cuda {
namespace {

// Rows of frequent kinds meet in one counter, which has to be near: each block counts the first
// kinds for itself, and the frequent ones are among those. In 16 bits; what does not fit goes to
// `counts` before other threads of the block can fill the rest.
struct BlockCounts {
  unsigned* pairs;
  unsigned long long* counts;

  __device__ void add(uint32_t id) const {
    const unsigned shift = id % 2 * 16, half = 0x8000;
    const unsigned before = atomicAdd(pairs + id / 2, 1u << shift);
    if ((before >> shift & 0xFFFF) != half - 1) return;
    atomicSub(pairs + id / 2, half << shift);
    atomicAdd(counts + id, static_cast<unsigned long long>(half));
  }
  __device__ void give(uint32_t id) const {
    const unsigned count = pairs[id / 2] >> (id % 2 * 16) & 0xFFFF;
    if (count > 0) atomicAdd(counts + id, static_cast<unsigned long long>(count));
  }
};

constexpr int id_threads = 1024;
constexpr int ids_at_once = 2;  // that a thread waits for

// ids [n]: from slots to their ids. A block counts the first `in_block` kinds for itself.
__global__ void __launch_bounds__(id_threads)
    write_ids(const uint32_t* of_slots, int64_t n, uint32_t in_block, int64_t* ids,
              unsigned long long* counts) {
  const BlockCounts own{shared_memory<unsigned>(), counts};
  for (uint32_t pair = threadIdx.x; pair < (in_block + 1) / 2; pair += id_threads) {
    own.pairs[pair] = 0;
  }
  __syncthreads();
  for (int64_t first = int64_t{blockIdx.x} * (id_threads * ids_at_once) + threadIdx.x; first < n;
       first += int64_t{gridDim.x} * (id_threads * ids_at_once)) {
    uint32_t found[ids_at_once];
    for (int k = 0; k < ids_at_once; ++k) {
      const int64_t i = first + k * id_threads;
      if (i < n) found[k] = of_slots[ids[i]];
    }
    for (int k = 0; k < ids_at_once; ++k) {
      const int64_t i = first + k * id_threads;
      if (i >= n) continue;
      ids[i] = found[k];
      if (found[k] < in_block) {
        own.add(found[k]);
      } else {
        atomicAdd(counts + found[k], 1ull);
      }
    }
  }
  __syncthreads();
  for (uint32_t id = threadIdx.x; id < in_block; id += id_threads) own.give(id);
}

// ids [n]: from slots to their ids, of which there are `unique`; counts [unique]: of each.
void write_and_count_ids(const uint32_t* of_slots, int64_t n, int64_t unique, int64_t* ids,
                         int64_t* counts, const Device& device) {
  clear(counts, static_cast<size_t>(unique) * sizeof(int64_t), device.stream);
  const int64_t most = std::min(most_shared(device.index), 160 * 1024) / int{sizeof(uint16_t)};
  const int64_t in_block = std::min(unique, most);
  const size_t shared = static_cast<size_t>(divide_up(in_block, 2)) * sizeof(unsigned);
  const int64_t blocks =
      int64_t{resident_blocks(write_ids, id_threads, shared)} * multiprocessors(device.index);
  launch(write_ids, std::min(divide_up(n, id_threads * ids_at_once), blocks), id_threads, shared,
         device.stream, of_slots, n, static_cast<uint32_t>(in_block), ids,
         reinterpret_cast<unsigned long long*>(counts));
}

}  // namespace
}  // namespace gradsplinter::cuda
