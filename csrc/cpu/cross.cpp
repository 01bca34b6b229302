// Dot products of the gradients within a mode. Lanes hold different modes, so that each product is
// one chain in ascending order. Sums are float64: the product of two float32 is exact there, and
// the squared norm of a tiny gradient does not underflow.
#include "cpu/isa.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

constexpr int lanes = CrossTile::lanes;
using Double = Vec<double>;

template <class T>
struct Cross {
  const CrossBlock<T>& block;
  const int64_t padded =
      (block.directions + CrossTile::columns - 1) / CrossTile::columns * CrossTile::columns;

  double* sum(int64_t i, int64_t j) const { return block.sums + (i * padded + j) * lanes; }
  double* columns(int64_t d) const { return block.columns + d * CrossTile::pass * lanes; }

  // Entries [begin, begin + n) of every gradient, with the modes side by side.
  void transpose(int64_t begin, int64_t n) const {
    for (int64_t d = 0; d < block.directions; ++d) {
      const T* from = block.jacobian + d * block.width + begin;
      const int64_t stride = block.directions * block.width;
      double* to = columns(d);
      int64_t k = 0;
      for (; block.modes == lanes && k + lanes <= n; k += lanes) {
        Double square[lanes];
#pragma GCC unroll 8
        for (int u = 0; u < lanes; ++u) {
          square[u] = Double::load(from + u * stride + k);
          if (k % (64 / sizeof(T)) == 0)
            __builtin_prefetch(from + u * stride + k + 2 * CrossTile::pass);
        }
        Double::transpose(square);
#pragma GCC unroll 8
        for (int i = 0; i < lanes; ++i) square[i].store(to + (k + i) * lanes);
      }
      for (; k < n; ++k) {
        for (int64_t u = 0; u < block.modes; ++u) {
          to[k * lanes + u] = static_cast<double>(from[u * stride + k]);
        }
      }
    }
  }

  void tile(int64_t i, int64_t j, int64_t n) const {
    constexpr int R = CrossTile::rows, C = CrossTile::columns;
    Double acc[R][C];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) acc[r][c] = Double::load(sum(i + r, j + c));
    }
    for (int64_t k = 0; k < n; ++k) {
      Double right[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) right[c] = Double::load(columns(j + c) + k * lanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Double left = Double::load(columns(i + r) + k * lanes);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) acc[r][c] = Double::fma(left, right[c], acc[r][c]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) acc[r][c].store(sum(i + r, j + c));
    }
  }

  T entry(int64_t u, int64_t i, int64_t j) const {
    const double dot = sum(i, j)[u];
    if (!block.normalize) return static_cast<T>(dot);
    return static_cast<T>(cosine(dot, sum(i, i)[u], sum(j, j)[u], i == j));
  }

  void run() const {
    __builtin_memset(block.sums, 0,
                     static_cast<uint64_t>(padded * padded * lanes) * sizeof(double));
    __builtin_memset(block.columns, 0,
                     static_cast<uint64_t>(padded * CrossTile::pass * lanes) * sizeof(double));
    for (int64_t begin = 0; begin < block.width; begin += CrossTile::pass) {
      const int64_t left = block.width - begin;
      const int64_t n = left < CrossTile::pass ? left : CrossTile::pass;
      transpose(begin, n);
      for (int64_t i = 0; i < padded; i += CrossTile::rows) {
        const int64_t from = i / CrossTile::columns * CrossTile::columns;  // the upper triangle
        for (int64_t j = from; j < padded; j += CrossTile::columns) tile(i, j, n);
      }
    }
    for (int64_t u = 0; u < block.modes; ++u) {
      T* out = block.out + u * block.directions * block.directions;
      for (int64_t i = 0; i < block.directions; ++i) {
        for (int64_t j = i; j < block.directions; ++j) {
          out[i * block.directions + j] = out[j * block.directions + i] = entry(u, i, j);
        }
      }
    }
  }
};

}  // namespace

namespace GRADSPLINTER_ISA {
void cross(const CrossBlock<float>& block) { Cross<float>{block}.run(); }
void cross(const CrossBlock<double>& block) { Cross<double>{block}.run(); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
