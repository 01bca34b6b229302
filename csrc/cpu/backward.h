// One step back for all directions of a mode: a product with the rows of a matrix whose unit is on.
#pragma once

#include "cpu/isa.h"

namespace gradsplinter {
namespace {

// The units that are on, in ascending order.
int64_t list_active(const uint64_t* words, int64_t units, int32_t* active) {
  int64_t n = 0;
  for (int64_t w = 0; w < (units + 63) / 64; ++w) {
    for (uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
      active[n++] = static_cast<int32_t>(64 * w + __builtin_ctzll(bits));
    }
  }
  return n;
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

  // R directions x V vectors of entries.
  template <int R, int V>
  void tile(int64_t direction, int64_t column) const {
    constexpr int lanes = Vec<T>::lanes;
    Vec<T> acc[R][V];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>::fill(0);
    }
    const T* c = coefficients + direction * coefficient_stride;
    for (int64_t i = 0; i < n; ++i) {
      const T* row = matrix + active[i] * stride + column;
      Vec<T> w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = Vec<T>::load(row + v * lanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> s = Vec<T>::fill(c[r * coefficient_stride + i]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>::fma(s, w[v], acc[r][v]);
      }
    }
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

}  // namespace
}  // namespace gradsplinter
