// Bools of a byte each as the bits of words.
#pragma once

#include "cuda/device.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int pack_threads = 256;
constexpr int pack_warps = pack_threads / warp;

struct Bools {
  const uint8_t* bytes;  // [n, width]
  int64_t width;
  int64_t words, row_words;  // of the result
};

// Four bytes of 0 or 1 as four bits. The factor takes byte k from bit 8k to 28 + k; all else falls
// out at the top or stays below.
__device__ inline uint32_t four_bits(uint32_t bytes) { return bytes * 0x10204080u >> 28; }

// Four bytes, each that is not 0 as 1.
__device__ inline uint32_t as_bools(uint32_t bytes) {
  return ((((bytes & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) | bytes) >> 7) & 0x01010101u;
}

__device__ inline bool are_bools(uint32_t bytes) { return (bytes & 0xFEFEFEFEu) == 0; }

constexpr int part_lanes = 4;     // that make a word, of 16 bools each
constexpr int words_at_once = 4;  // that a lane has a part in

// Of bools that can be loaded by 16.
__global__ void pack_vectors(Bools bools, uint64_t* to, bool* others) {
  const int64_t first =
      int64_t{blockIdx.x} * (pack_threads / part_lanes * words_at_once) + threadIdx.x / part_lanes;
  const int64_t part = threadIdx.x % part_lanes;
  Vector<uint32_t> loaded[words_at_once];
  for (int k = 0; k < words_at_once; ++k) {
    const int64_t word = first + k * (pack_threads / part_lanes);
    loaded[k] = {};
    if (word >= bools.words) continue;
    const int64_t row = bools.row_words == bools.words ? 0 : word / bools.row_words;
    const int64_t unit = (word - row * bools.row_words) * 64 + part * 16;
    if (unit >= bools.width) continue;
    loaded[k] = *reinterpret_cast<const Vector<uint32_t>*>(bools.bytes + row * bools.width + unit);
  }
  bool good = true;
  for (int k = 0; k < words_at_once; ++k) {
    uint64_t bits = 0;
    for (int four = 0; four < 4; ++four) {
      const uint32_t bytes = loaded[k].at[four];
      good = good && are_bools(bytes);
      bits |= uint64_t{four_bits(as_bools(bytes))} << (part * 16 + four * 4);
    }
    bits |= __shfl_xor_sync(all_lanes, bits, 1);
    bits |= __shfl_xor_sync(all_lanes, bits, 2);
    const int64_t word = first + k * (pack_threads / part_lanes);
    if (part == 0 && word < bools.words) to[word] = bits;
  }
  if (!good && others != nullptr) *others = true;
}

// Of any bools. A warp takes 64 at a time.
__global__ void pack_words(Bools bools, uint64_t* to, bool* others) {
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const int64_t word = (int64_t{blockIdx.x} * pack_threads + threadIdx.x) / warp;
  if (word >= bools.words) return;  // all of the warp
  const int64_t begin = word % bools.row_words * 64;
  const uint8_t* const row = bools.bytes + word / bools.row_words * bools.width;
  uint64_t bits = 0;
  bool good = true;
  for (int half = 0; half < 2; ++half) {
    const int64_t unit = begin + half * warp + lane;
    const uint8_t value = unit < bools.width ? row[unit] : 0;
    good = good && value <= 1;
    bits |= uint64_t{__ballot_sync(all_lanes, value != 0)} << (half * warp);
  }
  if (!good && others != nullptr) *others = true;
  if (lane == 0) to[word] = bits;
}

// Bytes [n, width] -> words [n, words_of(width)]. One that is not 0 counts as 1; `others` becomes
// true where one is neither.
void pack(const uint8_t* bytes, int64_t n, int64_t width, uint64_t* words, bool* others,
          const Device& device) {
  const int64_t row_words = words_of(width);
  if (n * row_words == 0) return;
  Bools bools{bytes, width, n * row_words, row_words};
  if (width % 16 != 0 || !aligned(bytes)) {
    launch(pack_words, divide_up(bools.words, pack_warps), pack_threads, 0, device.stream, bools,
           words, others);
    return;
  }
  if (width % 64 == 0) bools.width = n * width, bools.row_words = bools.words;  // as one row
  launch(pack_vectors, divide_up(bools.words, pack_threads / part_lanes * words_at_once),
         pack_threads, 0, device.stream, bools, words, others);
}

}  // namespace
}  // namespace gradsplinter::cuda
