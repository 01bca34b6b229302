// The bits that are set in a bitmap, numbered in their order by a prefix sum.
#pragma once

#include "cuda/cuda_ops.h"
#include "cuda/device.h"

namespace gradsplinter::cuda {
namespace {

constexpr int number_threads = 256;
constexpr int number_warps = number_threads / warp;
constexpr int rounds = 4;  // of words that a block numbers the bits of
constexpr int64_t block_words = int64_t{rounds} * number_threads;

struct Bitmap {
  unsigned long long* words;
  __device__ void set(int64_t i) const { atomicOr(words + i / 64, 1ull << (i % 64)); }
};

// The number of bit i: how many are set before it.
struct Numbers {
  const unsigned long long* words;
  const uint32_t* before;  // each word
  __device__ int64_t operator[](int64_t i) const {
    return before[i / 64] + __popcll(words[i / 64] & ((1ull << (i % 64)) - 1));
  }
};

__global__ void count_bits(const unsigned long long* bits, int64_t words, int64_t* counts) {
  int* const in_warp = shared_memory<int>();  // [warps]
  int count = 0;
  for (int round = 0; round < rounds; ++round) {
    const int64_t word = blockIdx.x * block_words + round * number_threads + threadIdx.x;
    if (word < words) count += __popcll(bits[word]);
  }
  for (int mask = 1; mask < warp; mask *= 2) count += __shfl_xor_sync(all_lanes, count, mask);
  if (threadIdx.x % warp == 0) in_warp[threadIdx.x / warp] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < number_warps; ++w) count += in_warp[w];
  counts[blockIdx.x] = count;
}

constexpr int scan_threads = 1024;

// counts [n] -> how many there are before each, in place, and how many in all. By one block.
__global__ void sum_before(int64_t* counts, int64_t n, int64_t* total) {
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
  if (thread == scan_threads - 1) *total = before;
}

__global__ void number_bits(const unsigned long long* bits, int64_t words,
                            const int64_t* before_block, uint32_t* before, int64_t* places) {
  int* const in_warp = shared_memory<int>();  // [warps]
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const int own = static_cast<int>(threadIdx.x) / warp;
  int64_t next = before_block[blockIdx.x];
  for (int round = 0; round < rounds; ++round) {
    const int64_t word = blockIdx.x * block_words + round * number_threads + threadIdx.x;
    unsigned long long left = word < words ? bits[word] : 0;
    const int count = __popcll(left);
    int sum = count;  // with the lanes before
    for (int distance = 1; distance < warp; distance *= 2) {
      const int more = __shfl_up_sync(all_lanes, sum, distance);
      if (lane >= distance) sum += more;
    }
    if (lane == warp - 1) in_warp[own] = sum;
    __syncthreads();
    int64_t number = next + sum - count;
    for (int w = 0; w < number_warps; ++w) {
      if (w < own) number += in_warp[w];
      next += in_warp[w];
    }
    if (word < words) before[word] = static_cast<uint32_t>(number);
    if (places != nullptr) {
      for (; left != 0; left &= left - 1) places[number++] = word * 64 + __ffsll(left) - 1;
    }
    __syncthreads();
  }
}

// Of a bitmap of n bits, at most 2^32.
class Numbering {
 public:
  Numbering(int64_t n, const Device& device)
      : words_(divide_up(n, 64)),
        blocks_(divide_up(words_, block_words)),
        bits_(device.memory.array<unsigned long long>(words_)),
        before_block_(device.memory.array<int64_t>(blocks_)),
        before_(device.memory.array<uint32_t>(words_)),
        device_(device) {}

  // All bits clear.
  Bitmap bitmap() const {
    clear(bits_, static_cast<size_t>(words_) * 8, device_.stream);
    return {bits_};
  }

  // How many bits are set, to the device's memory.
  void count(int64_t* total) const {
    const auto* const bits = static_cast<const unsigned long long*>(bits_);
    launch(count_bits, blocks_, number_threads, number_warps * sizeof(int), device_.stream, bits,
           words_, before_block_);
    launch(sum_before, 1, scan_threads, scan_threads * sizeof(int64_t), device_.stream,
           before_block_, blocks_, total);
  }

  // After `count`. The place of the k-th bit goes to places[k], if that is wanted.
  Numbers numbers(int64_t* places) const {
    launch(number_bits, blocks_, number_threads, number_warps * sizeof(int), device_.stream,
           static_cast<const unsigned long long*>(bits_), words_,
           static_cast<const int64_t*>(before_block_), before_, places);
    return {bits_, before_};
  }

 private:
  int64_t words_, blocks_;
  unsigned long long* bits_;
  int64_t* before_block_;
  uint32_t* before_;
  const Device& device_;
};

}  // namespace
}  // namespace gradsplinter::cuda
