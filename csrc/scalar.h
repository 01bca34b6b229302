// Scalar functions shared by the CPU and the CUDA kernels: the hash of a row, the canonical bits of
// a float, the order of bits in words. They define results that must be the same on every device,
// so they exist once.
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

// wyhash (Wang Yi et al., final version 4.3, in the public domain) of a row of 64-bit words read as
// little-endian bytes, with seed 0 and the default secret. Rows are whole words, so that the steps
// for other lengths are left out.
struct Wyhash {
  static constexpr uint64_t secret[4] = {0x2D358DCCAA6C78A5u, 0x8BB84B93962EACC9u,
                                         0x4B33A62ED433D4A3u, 0x4D5A2DA51DE1AA47u};

  struct Product {
    uint64_t low, high;
  };
  GRADSPLINTER_HOST_DEVICE static constexpr Product multiply(uint64_t a, uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return {static_cast<uint64_t>(product), static_cast<uint64_t>(product >> 64)};
  }
  GRADSPLINTER_HOST_DEVICE static constexpr uint64_t mix(uint64_t a, uint64_t b) {
    const Product product = multiply(a, b);
    return product.low ^ product.high;
  }
};

// row[k] is word k: a pointer, or what makes words of something else.
template <class Row>
GRADSPLINTER_HOST_DEVICE inline uint64_t hash_row(const Row& row, int64_t words) {
  using W = Wyhash;
  constexpr uint64_t p0 = W::secret[0], p1 = W::secret[1], p2 = W::secret[2], p3 = W::secret[3];
  uint64_t seed = W::mix(p0, p1), a = 0, b = 0;
  if (words == 1) {
    a = row[0] << 32 | row[0] >> 32;
    b = row[0];
  } else if (words == 2) {
    a = row[0] << 32 | (row[1] & 0xFFFFFFFFu);
    b = row[0] >> 32 | (row[1] >> 32 << 32);
  } else if (words > 2) {
    int64_t i = 0;
    if (words >= 6) {
      uint64_t second = seed, third = seed;
      for (; i + 6 <= words; i += 6) {
        seed = W::mix(row[i] ^ p1, row[i + 1] ^ seed);
        second = W::mix(row[i + 2] ^ p2, row[i + 3] ^ second);
        third = W::mix(row[i + 4] ^ p3, row[i + 5] ^ third);
      }
      seed ^= second ^ third;
    }
    for (; i + 2 < words; i += 2) seed = W::mix(row[i] ^ p1, row[i + 1] ^ seed);
    a = row[words - 2];
    b = row[words - 1];
  }
  const W::Product product = W::multiply(a ^ p1, b ^ seed);
  return W::mix(product.low ^ p0 ^ 8 * static_cast<uint64_t>(words), product.high ^ p1);
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

// By bits: the caller's thread may treat subnormal numbers as zero when it compares.
GRADSPLINTER_HOST_DEVICE inline bool is_nan(uint32_t bits) {
  return (bits & 0x7FFFFFFFu) > 0x7F800000u;
}
GRADSPLINTER_HOST_DEVICE inline bool is_nan(uint64_t bits) {
  return (bits & 0x7FFFFFFFFFFFFFFFu) > 0x7FF0000000000000u;
}

// Up to 64 bytes of 0 or 1 as the bits of a word.
GRADSPLINTER_HOST_DEVICE inline uint64_t pack_word(const uint8_t* bytes, int64_t n) {
  uint64_t word = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t eight;
    __builtin_memcpy(&eight, bytes + i, sizeof eight);
    // The factor takes byte k from bit 8k to 56 + k; all else falls out at the top or stays below.
    word |= (eight * 0x0102040810204080u >> 56) << i;
  }
  for (; i < n; ++i) word |= static_cast<uint64_t>(bytes[i]) << i;
  return word;
}

// The cosine of two gradients from their dot product and squared lengths.
GRADSPLINTER_HOST_DEVICE inline double cosine(double dot, double square, double other, bool same) {
  if (square == 0 || other == 0) return 0;
  if (same) return 1;
  const double value = dot / (__builtin_sqrt(square) * __builtin_sqrt(other));
  return value > 1 ? 1 : value < -1 ? -1 : value;
}

// Of gram: the rounding of h inputs and n units changes a squared length by at most (h + 2 n) 2^-53
// of the square of the sum of the lengths of its terms. With h + 2 n up to 4,096 and a squared
// length of more than 2^-20 of that, this is less than 2^-21 of it.
constexpr double gram_unsure = 0x1p-20;

// Whether the length of a gradient is to be had from the gradient, since it is that of the rounding
// of its terms (`most` is the sum of their lengths), or since float32 may underflow or overflow
// there.
GRADSPLINTER_HOST_DEVICE inline bool is_unsure(double square, double most) {
  const bool sure = most > 0x1p-100 && most < 0x1p120 && square > gram_unsure * most * most;
  return most != 0 && !sure;
}

// Words that a site of `width` units takes in a signature.
GRADSPLINTER_HOST_DEVICE inline int64_t words_of(int64_t width) { return (width + 63) / 64; }

}  // namespace
}  // namespace gradsplinter
