// Jacobians: one masked backward chain per mode, for all directions at once. Off units are skipped,
// so a typical mode costs half of the dense products. Lanes hold different entries of a gradient.
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

template <class T>
struct Step {
  const BackwardLayer<T>& layer;
  const int32_t* active;  // [n]
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
    const T* weight = layer.weight + column;
    for (int64_t i = 0; i < n; ++i) {
      const T* row = weight + active[i] * layer.stride;
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
    for (; column + V * lanes <= layer.stride; column += V * lanes) tile<R, V>(direction, column);
    for (; column < layer.stride; column += lanes) tile<R, 1>(direction, column);
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

template <class T>
void run_mode(const JacobianBlock<T>& block, const uint64_t* pattern, T* out) {
  const T* from = block.start;
  int64_t from_stride = block.layers[0].outputs;
  for (int64_t l = 0; l < block.depth; ++l) {
    const BackwardLayer<T>& layer = block.layers[l];
    int64_t n = layer.outputs;
    if (layer.word >= 0) {
      n = list_active(pattern + layer.word, layer.outputs, block.active);
    } else {
      for (int64_t i = 0; i < n; ++i) block.active[i] = static_cast<int32_t>(i);
    }
    for (int64_t d = 0; d < block.directions; ++d) {
      for (int64_t i = 0; i < n; ++i) {
        block.coefficients[d * block.stride + i] = from[d * from_stride + block.active[i]];
      }
    }
    const bool last = l == block.depth - 1;
    Step<T>{layer,
            block.active,
            n,
            block.coefficients,
            block.stride,
            last ? out : block.gradients,
            last ? layer.inputs : block.stride,
            last ? layer.inputs : layer.stride}
        .run(block.directions);
    from = block.gradients;
    from_stride = block.stride;
  }
}

template <class T>
void run(const JacobianBlock<T>& block) {
  const int64_t size = block.directions * block.layers[block.depth - 1].inputs;
  for (int64_t u = 0; u < block.modes; ++u) {
    run_mode(block, block.patterns + u * block.words, block.out + u * size);
  }
}

}  // namespace

namespace GRADSPLINTER_ISA {
void jacobian(const JacobianBlock<float>& block) { run(block); }
void jacobian(const JacobianBlock<double>& block) { run(block); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
