// One step back for all directions of a mode: a product with the rows of a matrix whose unit is on.
#pragma once

#include "cpu/isa.h"

namespace gradsplinter {
namespace {

// The units that are on, in ascending order. Up to 16 entries beyond them may be written.
int64_t list_active(const uint64_t* words, int64_t units, int32_t* active) {
  int64_t n = 0;
#if defined(__AVX512F__)
  __m512i unit = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t begin = 0; begin < units; begin += 16) {
    const auto bits = static_cast<uint16_t>(words[begin / 64] >> (begin % 64));
    _mm512_storeu_si512(active + n, _mm512_maskz_compress_epi32(bits, unit));
    n += __builtin_popcount(bits);
    unit = _mm512_add_epi32(unit, _mm512_set1_epi32(16));
  }
#else
  for (int64_t w = 0; w < (units + 63) / 64; ++w) {
    for (uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
      active[n++] = static_cast<int32_t>(64 * w + __builtin_ctzll(bits));
    }
  }
#endif
  return n;
}

// to[i] = from[active[i]]: what the units that are on have, n of them. `to` has room for all units,
// rounded up to whole vectors, and may be `from`.
template <class T>
void take_active(const T* from, const uint64_t* words, int64_t units, const int32_t* active,
                 int64_t n, T* to) {
#if defined(__AVX512F__)
  static_cast<void>(active);
  static_cast<void>(n);
  constexpr int lanes = Vec<T>::lanes;
  constexpr uint64_t all = (uint64_t{1} << lanes) - 1;
  for (int64_t unit = 0; unit < units; unit += lanes) {
    const uint64_t bits = words[unit / 64] >> (unit % 64) & all;
    Vec<T>::load_packed(bits, from + unit).store(to);
    to += __builtin_popcountll(bits);
  }
#else
  static_cast<void>(words);
  static_cast<void>(units);
  for (int64_t i = 0; i < n; ++i) to[i] = from[active[i]];
#endif
}

// out[d, :] = sum over i of coefficients[d, i] * matrix[active[i], :], a chain in ascending i.
template <class T>
struct Step {
  const T* matrix;        // rows of `stride` entries
  int64_t stride;         // whole vectors
  int64_t columns;        // to compute; whole vectors
  const int32_t* active;  // [n] rows of the matrix
  int64_t n;
  const T* coefficients;  // [directions, coefficient_stride]: of the active units
  int64_t coefficient_stride;
  T* out;  // [directions, out_stride]
  int64_t out_stride;
  int64_t out_width;  // entries that may be written in a row

  // R directions x V vectors of entries, of which load(v, row) gives vector v in the row of the
  // matrix that begins at `row`.
  template <int R, int V, class Load>
  [[gnu::always_inline]] void chains(int64_t direction, const Load& load,
                                     Vec<T> (&acc)[R][V]) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>::fill(0);
    }
    // Three rows to a pointer, as in the forward tile (signature.cpp).
    constexpr int P = (R + 2) / 3;
    const T* p[P];
#pragma GCC unroll 4
    for (int j = 0; j < P; ++j) p[j] = coefficients + (direction + 3 * j) * coefficient_stride;
    for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < P; ++j) asm("" : "+r"(p[j]));
      const int64_t row = active[i] * stride;
      Vec<T> w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = load(v, row);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> s = Vec<T>::fill(p[r / 3][r % 3 * coefficient_stride]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>::fma(s, w[v], acc[r][v]);
      }
#pragma GCC unroll 4
      for (int j = 0; j < P; ++j) ++p[j];
    }
  }

  // A function of its own, since its accumulators need all the registers.
  template <int R, int V>
  [[gnu::noinline]] void tile(int64_t direction, int64_t column) const {
    constexpr int lanes = Vec<T>::lanes;
    Vec<T> acc[R][V];
    const T* from = matrix + column;
    chains<R, V>(
        direction, [=](int v, int64_t row) { return Vec<T>::load(from + row + v * lanes); }, acc);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) store(acc[r][v], direction + r, column + v * lanes);
    }
  }

  void store(Vec<T> value, int64_t direction, int64_t column) const {
    T* to = out + direction * out_stride + column;
    const int64_t left = out_width - column;
    if (left >= Vec<T>::lanes) {
      value.store(to);
    } else {
      T row[Vec<T>::lanes];
      value.store(row);
      __builtin_memcpy(to, row, static_cast<uint64_t>(left) * sizeof(T));
    }
  }

  template <int R, int V>
  void rows(int64_t direction) const {
    constexpr int lanes = Vec<T>::lanes;
    int64_t column = 0;
    for (; column + V * lanes <= columns; column += V * lanes) tile<R, V>(direction, column);
    for (; column < columns; column += lanes) tile<R, 1>(direction, column);
  }

  void run(int64_t directions) const {
    constexpr int most = kRegisters == 32 ? 10 : 6;
    int64_t d = 0;
    for (; d + most <= directions; d += most) rows<most, 2>(d);
    for (; d + 4 <= directions; d += 4) rows<4, kRegisters == 32 ? 4 : 2>(d);
    for (; d + 2 <= directions; d += 2) rows<2, kRegisters == 32 ? 8 : 4>(d);
    for (; d < directions; ++d) rows<1, kRegisters == 32 ? 8 : 4>(d);
  }
};

#if defined(__AVX512F__)
// How many of the units before `unit` are on.
int64_t count_bits(const uint64_t* words, int64_t unit) {
  int64_t n = 0;
  for (int64_t w = 0; w < unit / 64; ++w) n += __builtin_popcountll(words[w]);
  const int64_t rest = unit % 64;
  if (rest > 0) n += __builtin_popcountll(words[unit / 64] & ((uint64_t{1} << rest) - 1));
  return n;
}

// The same for the columns that are wanted, ascending: out[d, j] is of column wanted[j] of the
// matrix whose column `column` is step.matrix. A vector takes as many of them as lie within two
// vectors of columns; up to a vector beyond the last one is written, and two are read.
template <class T>
struct SomeColumns {
  const Step<T>& step;
  const int32_t* wanted;  // [n], and room to read a vector more
  int64_t n;
  int64_t column;

  template <int R, int V>
  [[gnu::noinline]] void tile(int64_t direction, const T* const* from,
                              const typename Vec<T>::Indices* indices, const int64_t* to) const {
    Vec<T> acc[R][V];
    step.template chains<R, V>(
        direction, [=](int v, int64_t row) { return Vec<T>::load_some(indices[v], from[v] + row); },
        acc);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {  // in this order, since a vector may write over the next one's
        acc[r][v].store(step.out + (direction + r) * step.out_stride + to[v]);
      }
    }
  }

  template <int R, int V>
  void rows(int64_t direction) const {
    for (int64_t j = 0; j < n;) {
      const T* from[V];
      typename Vec<T>::Indices indices[V];
      int64_t to[V];
      int vectors = 0;
      for (; vectors < V && j < n; ++vectors) {
        constexpr int lanes = Vec<T>::lanes;
        const int32_t begin = wanted[j] & -lanes;  // so that loads are aligned
        indices[vectors] = Vec<T>::indices(wanted + j, begin);
        from[vectors] = step.matrix + begin - column;
        to[vectors] = j;
        const int64_t left = n - j < lanes ? n - j : lanes;
        const uint32_t near = Vec<T>::below(indices[vectors], 2 * lanes);
        j += __builtin_popcount(near & ((1u << left) - 1));
      }
      if (vectors == V) {
        tile<R, V>(direction, from, indices, to);
      } else {
        for (int v = 0; v < vectors; ++v) tile<R, 1>(direction, from + v, indices + v, to + v);
      }
    }
  }

  void run(int64_t directions) const {
    int64_t d = 0;
    for (; d + 10 <= directions; d += 10) rows<10, 2>(d);
    for (; d + 4 <= directions; d += 4) rows<4, 4>(d);
    for (; d + 2 <= directions; d += 2) rows<2, 4>(d);
    for (; d < directions; ++d) rows<1, 4>(d);
  }
};
#endif

}  // namespace
}  // namespace gradsplinter
