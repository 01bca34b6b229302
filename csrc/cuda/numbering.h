// Entries of an array that have one value, numbered in their order by a prefix sum.
#pragma once

#include "cuda/cuda_ops.h"
#include "cuda/device.h"

namespace gradsplinter::cuda {
namespace {

constexpr int number_threads = 256;
constexpr int number_warps = number_threads / warp;
constexpr int rounds = 8;  // of entries that a block numbers
constexpr int64_t block_entries = int64_t{rounds} * number_threads;

__global__ void count_value(const int64_t* entries, int64_t n, int64_t value, int64_t* counts) {
  int64_t count = 0;
  for (int round = 0; round < rounds; ++round) {
    const int64_t i = blockIdx.x * block_entries + round * number_threads + threadIdx.x;
    count += __syncthreads_count(i < n && entries[i] == value);
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

constexpr int scan_threads = 1024;

// counts [n] -> how many there are before each, in place, and after them how many in all. By one
// block.
__global__ void sum_before(int64_t* counts, int64_t n) {
  int64_t* const sums = shared_memory<int64_t>();  // [scan_threads]
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t begin = n * thread / scan_threads, end = n * (thread + 1) / scan_threads;
  int64_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += counts[i];
  sums[thread] = sum;
  __syncthreads();
  for (int distance = 1; distance < scan_threads; distance *= 2) {
    const int64_t more = thread >= distance ? sums[thread - distance] : 0;
    __syncthreads();
    sums[thread] += more;
    __syncthreads();
  }
  int64_t before = sums[thread] - sum;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t count = counts[i];
    counts[i] = before;
    before += count;
  }
  if (thread == scan_threads - 1) counts[n] = before;
}

__global__ void write_numbers(int64_t* entries, int64_t n, int64_t value, const int64_t* before,
                              int64_t base, int64_t* places) {
  int* const in_warp = shared_memory<int>();  // [warps]
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const int own = static_cast<int>(threadIdx.x) / warp;
  int64_t next = before[blockIdx.x];
  for (int round = 0; round < rounds; ++round) {
    const int64_t i = blockIdx.x * block_entries + round * number_threads + threadIdx.x;
    const bool has = i < n && entries[i] == value;
    const unsigned lanes = __ballot_sync(all_lanes, has);
    if (lane == 0) in_warp[own] = __popc(lanes);
    __syncthreads();
    int64_t number = next + __popc(lanes & ((1u << lane) - 1));
    for (int w = 0; w < number_warps; ++w) {
      if (w < own) number += in_warp[w];
      next += in_warp[w];
    }
    if (has) {
      if (places != nullptr) places[number] = i;
      entries[i] = base + number;
    }
    __syncthreads();
  }
}

// Of the entries [n] that are `value`.
class Numbering {
 public:
  Numbering(int64_t* entries, int64_t n, int64_t value, const Device& device)
      : entries_(entries),
        n_(n),
        value_(value),
        blocks_(divide_up(n, block_entries)),
        before_(device.memory.array<int64_t>(blocks_ + 1)),
        device_(device) {
    launch(count_value, blocks_, number_threads, 0, device.stream,
           static_cast<const int64_t*>(entries), n, value, before_);
    launch(sum_before, 1, scan_threads, scan_threads * sizeof(int64_t), device.stream, before_,
           blocks_);
  }

  // How many there are. Waits for the stream.
  int64_t count() const {
    int64_t count = 0;
    read(&count, before_ + blocks_, 1, device_);
    return count;
  }

  // The k-th of them becomes base + k, and its place goes to places[k], if that is wanted.
  void write(int64_t base, int64_t* places) const {
    launch(write_numbers, blocks_, number_threads, number_warps * sizeof(int), device_.stream,
           entries_, n_, value_, static_cast<const int64_t*>(before_), base, places);
  }

 private:
  int64_t* entries_;
  int64_t n_, value_, blocks_;
  int64_t* before_;
  const Device& device_;
};

}  // namespace
}  // namespace gradsplinter::cuda
