// Scalar functions shared by the CPU and the CUDA kernels: the hash of a row and the canonical bits
// of a float. They define results that must be the same on every device, so they exist once.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define GRADSPLINTER_HOST_DEVICE __host__ __device__
#else
#define GRADSPLINTER_HOST_DEVICE
#endif

namespace gradsplinter {
// Anonymous on purpose: this header is compiled for several instruction sets, and a shared (weak)
// copy could be linked from the wrong one.
namespace {

// XXH64 (Collet, "xxHash fast digest algorithm", version 0.1.1) of a row of 64-bit words read as
// little-endian bytes, seed 0. Rows are whole words, so the tail has no 4-byte and 1-byte steps.
struct Xxh64 {
  static constexpr uint64_t p1 = 0x9E3779B185EBCA87u;
  static constexpr uint64_t p2 = 0xC2B2AE3D27D4EB4Fu;
  static constexpr uint64_t p3 = 0x165667B19E3779F9u;
  static constexpr uint64_t p4 = 0x85EBCA77C2B2AE63u;
  static constexpr uint64_t p5 = 0x27D4EB2F165667C5u;

  GRADSPLINTER_HOST_DEVICE static uint64_t rotate(uint64_t v, int by) {
    return (v << by) | (v >> (64 - by));
  }
  GRADSPLINTER_HOST_DEVICE static uint64_t round(uint64_t lane, uint64_t word) {
    return rotate(lane + word * p2, 31) * p1;
  }
  GRADSPLINTER_HOST_DEVICE static uint64_t merge(uint64_t h, uint64_t lane) {
    return (h ^ round(0, lane)) * p1 + p4;
  }
};

GRADSPLINTER_HOST_DEVICE inline uint64_t hash_row(const uint64_t* row, int64_t words) {
  using X = Xxh64;
  int64_t i = 0;
  uint64_t h;
  if (words >= 4) {
    uint64_t a = X::p1 + X::p2, b = X::p2, c = 0, d = uint64_t{0} - X::p1;
    for (; i + 4 <= words; i += 4) {
      a = X::round(a, row[i]);
      b = X::round(b, row[i + 1]);
      c = X::round(c, row[i + 2]);
      d = X::round(d, row[i + 3]);
    }
    h = X::rotate(a, 1) + X::rotate(b, 7) + X::rotate(c, 12) + X::rotate(d, 18);
    h = X::merge(X::merge(X::merge(X::merge(h, a), b), c), d);
  } else {
    h = X::p5;
  }
  h += 8 * static_cast<uint64_t>(words);
  for (; i < words; ++i) {
    h = X::rotate(h ^ X::round(0, row[i]), 27) * X::p1 + X::p4;
  }
  h = (h ^ (h >> 33)) * X::p2;
  h = (h ^ (h >> 29)) * X::p3;
  return h ^ (h >> 32);
}

// The bits of a float with -0.0 turned into 0.0, so that equal numbers have equal bits.
GRADSPLINTER_HOST_DEVICE inline uint32_t canonical_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits == 0x80000000u ? 0u : bits;
}
GRADSPLINTER_HOST_DEVICE inline uint64_t canonical_bits(double value) {
  uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits == 0x8000000000000000u ? 0u : bits;
}

// Words that a site of `width` units takes in a signature.
GRADSPLINTER_HOST_DEVICE inline int64_t words_of(int64_t width) { return (width + 63) / 64; }

}  // namespace
}  // namespace gradsplinter
