// Dot products of one row with some others, in float64. Entry k belongs to partial sum k mod 16,
// whatever the width of a vector; the sums are added pair by pair at the end.
#include "cpu/isa.h"

namespace gradsplinter {
namespace {

using Double = Vec<double>;
constexpr int parts = 16;
constexpr int vectors = parts / Double::lanes;
constexpr int rows_at_once = Double::lanes == 8 ? 4 : Double::lanes == 1 ? 1 : 2;

template <class T>
struct Dots {
  const DotsBlock<T>& block;

  template <int R>
  void tile(int64_t begin) const {
    const int64_t width = block.width;
    const T* other[R];
    Double acc[R][vectors];
    for (int r = 0; r < R; ++r) {
      other[r] = block.rows + block.at[begin + r] * width;
      for (int v = 0; v < vectors; ++v) acc[r][v] = Double::fill(0);
    }
    int64_t k = 0;
    for (; k + parts <= width; k += parts) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const Double own = Double::load(block.row + k + v * Double::lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          acc[r][v] = Double::fma(own, Double::load(other[r] + k + v * Double::lanes), acc[r][v]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      if (k < width) add_rest(other[r], k, acc[r]);
      for (int step = vectors / 2; step > 0; step /= 2) {
        for (int v = 0; v < step; ++v) acc[r][v] = Double::add(acc[r][v], acc[r][v + step]);
      }
      double sums[Double::lanes];
      acc[r][0].store(sums);
      for (int step = Double::lanes / 2; step > 0; step /= 2) {
        for (int i = 0; i < step; ++i) sums[i] += sums[i + step];
      }
      block.dots[begin + r] = sums[0];
    }
  }

  // The last entries, fewer than there are partial sums.
  void add_rest(const T* other, int64_t k, Double* acc) const {
    double sums[parts];
    for (int v = 0; v < vectors; ++v) acc[v].store(sums + v * Double::lanes);
    for (int64_t i = 0; k + i < block.width; ++i) {
      sums[i] = __builtin_fma(static_cast<double>(block.row[k + i]),
                              static_cast<double>(other[k + i]), sums[i]);
    }
    for (int v = 0; v < vectors; ++v) acc[v] = Double::load(sums + v * Double::lanes);
  }

  void run() const {
    int64_t i = 0;
    for (; i + rows_at_once <= block.count; i += rows_at_once) tile<rows_at_once>(i);
    for (; i < block.count; ++i) tile<1>(i);
  }
};

}  // namespace

namespace GRADSPLINTER_ISA {
void dots(const DotsBlock<float>& block) { Dots<float>{block}.run(); }
void dots(const DotsBlock<double>& block) { Dots<double>{block}.run(); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
