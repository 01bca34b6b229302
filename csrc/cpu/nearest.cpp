// The nearest of some signatures to each of some others, by the bits in which they differ. Lanes
// hold different references, so a reference word is loaded once for several queries.
#include "cpu/isa.h"

namespace gradsplinter {
namespace {

// 64-bit words side by side. Counts are kept in parts (bytes where there are vectors) that hold
// those of up to `words_per_sum` words.
#if defined(__AVX512F__)

struct Words {
  static constexpr int lanes = 8;
  __m512i v;
  static Words load(const uint64_t* p) { return {_mm512_loadu_si512(p)}; }
  static Words fill(uint64_t word) { return {_mm512_set1_epi64(static_cast<int64_t>(word))}; }
  void store(uint64_t* p) const { _mm512_storeu_si512(p, v); }
  // The number of bits of each nibble, by a table (Mula, Kurz and Lemire 2018).
  static Words differing(Words a, Words b) {
    const __m512i ones =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15), bits = _mm512_xor_si512(a.v, b.v);
    const __m512i first = _mm512_shuffle_epi8(ones, _mm512_and_si512(bits, low));
    const __m512i second =
        _mm512_shuffle_epi8(ones, _mm512_and_si512(_mm512_srli_epi64(bits, 4), low));
    return {_mm512_add_epi8(first, second)};
  }
  static Words add_parts(Words a, Words b) { return {_mm512_add_epi8(a.v, b.v)}; }
  Words sum() const { return {_mm512_sad_epu8(v, _mm512_setzero_si512())}; }
  static Words add(Words a, Words b) { return {_mm512_add_epi64(a.v, b.v)}; }
  Words high() const { return {_mm512_slli_epi64(v, 32)}; }
  static Words least(Words a, Words b) { return {_mm512_min_epu64(a.v, b.v)}; }
};

#elif defined(__AVX2__)

struct Words {
  static constexpr int lanes = 4;
  __m256i v;
  static Words load(const uint64_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static Words fill(uint64_t word) { return {_mm256_set1_epi64x(static_cast<int64_t>(word))}; }
  void store(uint64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static Words differing(Words a, Words b) {
    const __m256i ones =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i low = _mm256_set1_epi8(15), bits = _mm256_xor_si256(a.v, b.v);
    const __m256i first = _mm256_shuffle_epi8(ones, _mm256_and_si256(bits, low));
    const __m256i second =
        _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi64(bits, 4), low));
    return {_mm256_add_epi8(first, second)};
  }
  static Words add_parts(Words a, Words b) { return {_mm256_add_epi8(a.v, b.v)}; }
  Words sum() const { return {_mm256_sad_epu8(v, _mm256_setzero_si256())}; }
  static Words add(Words a, Words b) { return {_mm256_add_epi64(a.v, b.v)}; }
  Words high() const { return {_mm256_slli_epi64(v, 32)}; }
  // Compares as signed, which keys allow (kernels.h).
  static Words least(Words a, Words b) {
    return {_mm256_blendv_epi8(a.v, b.v, _mm256_cmpgt_epi64(a.v, b.v))};
  }
};

#else  // one word; CPUs from x86-64-v2 and ARMv8 on count its bits in an instruction or three

struct Words {
  static constexpr int lanes = 1;
  uint64_t v;
  static Words load(const uint64_t* p) { return {*p}; }
  static Words fill(uint64_t word) { return {word}; }
  void store(uint64_t* p) const { *p = v; }
  static Words differing(Words a, Words b) {
    return {static_cast<uint64_t>(__builtin_popcountll(a.v ^ b.v))};
  }
  static Words add_parts(Words a, Words b) { return {a.v + b.v}; }
  Words sum() const { return *this; }
  static Words add(Words a, Words b) { return {a.v + b.v}; }
  Words high() const { return {v << 32}; }
  static Words least(Words a, Words b) { return {a.v < b.v ? a.v : b.v}; }
};

#endif

static_assert(Words::lanes == NearestTile::lanes);
constexpr int64_t words_per_sum = 31;  // 8 bits a word and byte: 248 in a byte

struct Nearest {
  const NearestBlock& block;

  // R queries at once through all panels.
  template <int R>
  void tile(int64_t row) const {
    const uint64_t* queries = block.queries + row * block.words;
    Words best[R];
    for (int r = 0; r < R; ++r) best[r] = Words::fill(block.keys[row + r]);
    for (int64_t p = 0; p < block.panels; ++p) {
      const uint64_t* panel = block.references + p * block.words * Words::lanes;
      Words total[R];
      for (int r = 0; r < R; ++r) total[r] = Words::fill(0);
      for (int64_t begin = 0; begin < block.words; begin += words_per_sum) {
        const int64_t end =
            block.words - begin < words_per_sum ? block.words : begin + words_per_sum;
        Words parts[R];
        for (int r = 0; r < R; ++r) parts[r] = Words::fill(0);
        for (int64_t k = begin; k < end; ++k) {
          const Words reference = Words::load(panel + k * Words::lanes);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const Words query = Words::fill(queries[r * block.words + k]);
            parts[r] = Words::add_parts(parts[r], Words::differing(reference, query));
          }
        }
        for (int r = 0; r < R; ++r) total[r] = Words::add(total[r], parts[r].sum());
      }
      const Words index = Words::load(block.indices + p * Words::lanes);
      for (int r = 0; r < R; ++r) {
        best[r] = Words::least(best[r], Words::add(total[r].high(), index));
      }
    }
    for (int r = 0; r < R; ++r) {
      uint64_t keys[Words::lanes];
      best[r].store(keys);
      for (const uint64_t key : keys) {
        if (key < block.keys[row + r]) block.keys[row + r] = key;
      }
    }
  }

  void run() const {
    constexpr int at_once = 4;
    int64_t row = 0;
    for (; row + at_once <= block.rows; row += at_once) tile<at_once>(row);
    for (; row < block.rows; ++row) tile<1>(row);
  }
};

}  // namespace

namespace GRADSPLINTER_ISA {
void nearest(const NearestBlock& block) { Nearest{block}.run(); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
