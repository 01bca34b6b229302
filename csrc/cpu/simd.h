// One vector type per element type and instruction set, chosen by the flags of the compilation.
// Every operation is lane by lane and correctly rounded, so results do not depend on the choice.
#pragma once

#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
// GCC 12 takes the undefined operands inside some intrinsics for a mistake (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__) && !defined(GRADSPLINTER_PORTABLE)
#include <arm_neon.h>
#endif

namespace gradsplinter {
namespace {

template <class T>
struct Vec;

#if defined(__AVX512F__)

constexpr int kRegisters = 32;

template <>
struct Vec<float> {
  static constexpr int lanes = 16;
  __m512 v;
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec fill(float s) { return {_mm512_set1_ps(s)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  __mmask16 compare() const { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ); }
  uint32_t positive() const { return compare(); }
  Vec relu() const { return {_mm512_maskz_mov_ps(compare(), v)}; }
  // The entries whose bit is set, one after the other; nothing else is read.
  static Vec load_packed(uint64_t mask, const float* p) {
    const auto bits = static_cast<__mmask16>(mask);
    return {_mm512_maskz_compress_ps(bits, _mm512_maskz_loadu_ps(bits, p))};
  }
  // `lanes` indices less `begin`, and the entries p[i] for those in [0, 2 * lanes).
  using Indices = __m512i;
  static Indices indices(const int32_t* i, int32_t begin) {
    return _mm512_sub_epi32(_mm512_loadu_si512(i), _mm512_set1_epi32(begin));
  }
  static uint32_t below(Indices i, int32_t limit) {
    return _mm512_cmplt_epu32_mask(i, _mm512_set1_epi32(limit));
  }
  static Vec load_some(Indices i, const float* p) {
    return {_mm512_permutex2var_ps(_mm512_loadu_ps(p), i, _mm512_loadu_ps(p + lanes))};
  }
};

template <>
struct Vec<double> {
  static constexpr int lanes = 8;
  __m512d v;
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Vec load(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
  static Vec fill(double s) { return {_mm512_set1_pd(s)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  static Vec add(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
  __mmask8 compare() const { return _mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_GT_OQ); }
  uint32_t positive() const { return compare(); }
  Vec relu() const { return {_mm512_maskz_mov_pd(compare(), v)}; }
  static Vec load_packed(uint64_t mask, const double* p) {
    const auto bits = static_cast<__mmask8>(mask);
    return {_mm512_maskz_compress_pd(bits, _mm512_maskz_loadu_pd(bits, p))};
  }
  using Indices = __m512i;
  static Indices indices(const int32_t* i, int32_t begin) {
    const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(i));
    return _mm512_cvtepi32_epi64(_mm256_sub_epi32(loaded, _mm256_set1_epi32(begin)));
  }
  static uint32_t below(Indices i, int64_t limit) {
    return _mm512_cmplt_epu64_mask(i, _mm512_set1_epi64(limit));
  }
  static Vec load_some(Indices i, const double* p) {
    return {_mm512_permutex2var_pd(_mm512_loadu_pd(p), i, _mm512_loadu_pd(p + lanes))};
  }
  // A square of `lanes` vectors, in place.
  static void transpose(Vec* a) {
    __m512d b[8], c[8];
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm512_unpacklo_pd(a[i].v, a[i + 1].v);
      b[i + 1] = _mm512_unpackhi_pd(a[i].v, a[i + 1].v);
    }
    for (int i = 0; i < 8; i += 4) {  // quarters of pairs of rows: 0 2 0 2, and 1 3 1 3
      for (int j = i; j < i + 2; ++j) {
        c[j] = _mm512_shuffle_f64x2(b[j], b[j + 2], 0x88);
        c[j + 2] = _mm512_shuffle_f64x2(b[j], b[j + 2], 0xDD);
      }
    }
    for (int j = 0; j < 4; ++j) {
      a[j].v = _mm512_shuffle_f64x2(c[j], c[j + 4], 0x88);
      a[j + 4].v = _mm512_shuffle_f64x2(c[j], c[j + 4], 0xDD);
    }
  }
};

#elif defined(__AVX2__) && defined(__FMA__)

constexpr int kRegisters = 16;

template <>
struct Vec<float> {
  static constexpr int lanes = 8;
  __m256 v;
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec fill(float s) { return {_mm256_set1_ps(s)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  __m256 compare() const { return _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ); }
  uint32_t positive() const { return static_cast<uint32_t>(_mm256_movemask_ps(compare())); }
  Vec relu() const { return {_mm256_and_ps(v, compare())}; }
};

template <>
struct Vec<double> {
  static constexpr int lanes = 4;
  __m256d v;
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static Vec load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p))}; }
  static Vec fill(double s) { return {_mm256_set1_pd(s)}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  static Vec add(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
  __m256d compare() const { return _mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_GT_OQ); }
  uint32_t positive() const { return static_cast<uint32_t>(_mm256_movemask_pd(compare())); }
  Vec relu() const { return {_mm256_and_pd(v, compare())}; }
  static void transpose(Vec* a) {
    const __m256d b[4] = {_mm256_unpacklo_pd(a[0].v, a[1].v), _mm256_unpackhi_pd(a[0].v, a[1].v),
                          _mm256_unpacklo_pd(a[2].v, a[3].v), _mm256_unpackhi_pd(a[2].v, a[3].v)};
    for (int j = 0; j < 2; ++j) {
      a[j].v = _mm256_permute2f128_pd(b[j], b[j + 2], 0x20);
      a[j + 2].v = _mm256_permute2f128_pd(b[j], b[j + 2], 0x31);
    }
  }
};

#elif defined(__aarch64__) && !defined(GRADSPLINTER_PORTABLE)

constexpr int kRegisters = 32;

template <>
struct Vec<float> {
  static constexpr int lanes = 4;
  float32x4_t v;
  static Vec load(const float* p) { return {vld1q_f32(p)}; }
  static Vec fill(float s) { return {vdupq_n_f32(s)}; }
  void store(float* p) const { vst1q_f32(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  uint32_t positive() const {
    constexpr uint32_t weights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtzq_f32(v), vld1q_u32(weights)));
  }
  Vec relu() const {
    return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcgtzq_f32(v)))};
  }
};

template <>
struct Vec<double> {
  static constexpr int lanes = 2;
  float64x2_t v;
  static Vec load(const double* p) { return {vld1q_f64(p)}; }
  static Vec load(const float* p) { return {vcvt_f64_f32(vld1_f32(p))}; }
  static Vec fill(double s) { return {vdupq_n_f64(s)}; }
  void store(double* p) const { vst1q_f64(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
  static Vec add(Vec a, Vec b) { return {vaddq_f64(a.v, b.v)}; }
  uint32_t positive() const {
    constexpr uint64_t weights[2] = {1, 2};
    return static_cast<uint32_t>(vaddvq_u64(vandq_u64(vcgtzq_f64(v), vld1q_u64(weights))));
  }
  Vec relu() const {
    return {vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(v), vcgtzq_f64(v)))};
  }
  static void transpose(Vec* a) {
    const float64x2_t first = vtrn1q_f64(a[0].v, a[1].v);
    a[1].v = vtrn2q_f64(a[0].v, a[1].v);
    a[0].v = first;
  }
};

#else  // any other CPU, and x86-64 without FMA: one lane, libm's fma

constexpr int kRegisters = 16;

inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

template <class T>
struct Vec {
  static constexpr int lanes = 1;
  T v;
  template <class From>
  static Vec load(const From* p) {
    return {static_cast<T>(*p)};
  }
  static Vec fill(T s) { return {s}; }
  void store(T* p) const { *p = v; }
  static Vec fma(Vec a, Vec b, Vec c) { return {fused(a.v, b.v, c.v)}; }
  static Vec add(Vec a, Vec b) { return {a.v + b.v}; }
  uint32_t positive() const { return v > 0; }
  Vec relu() const { return {v > 0 ? v : T(0)}; }
  static void transpose(Vec*) {}
};

#endif

}  // namespace
}  // namespace gradsplinter
