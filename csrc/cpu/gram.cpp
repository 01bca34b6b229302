// Gram matrices of the gradients of a mode without the gradients: with A the gradients before the
// last step back, G = A W, so G G^T = A K A^T for K = W W^T, which is the same in every mode. All
// sums are chains in float64 over the units that are on, in ascending order.
#include "cpu/backward.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

struct Gram {
  const GramBlock& block;

  int64_t n(int64_t u) const { return block.active_counts[u]; }
  const uint64_t* bits(int64_t u) const { return block.patterns + u * block.words + block.word; }
  int32_t* active(int64_t u) const { return block.active + u * block.stride; }
  // A of a mode, of the units that are on: [directions, n] with rows of `stride`.
  double* left(int64_t u) const { return block.left + u * block.directions * block.stride; }
  // A K of a mode: [directions, stride].
  double* product(int64_t u) const { return block.product + u * block.directions * block.stride; }

  void gather(int64_t u) const {
    int32_t* on = active(u);
    int64_t count = block.units;
    if (block.word >= 0) {
      count = list_active(bits(u), count, on);
    } else {
      for (int64_t i = 0; i < count; ++i) on[i] = static_cast<int32_t>(i);
    }
    block.active_counts[u] = count;
    const float* from = block.gradients + u * block.gradients_stride;
    for (int64_t d = 0; d < block.directions; ++d) {
      double* to = left(u) + d * block.stride;
      for (int64_t i = 0; i < block.units; ++i) {
        to[i] = static_cast<double>(from[d * block.units + i]);
      }
      take(u, to);
    }
  }

  // Entries of all units -> of those that are on, in place.
  void take(int64_t u, double* row) const {
    if (block.word >= 0) take_active(row, bits(u), block.units, active(u), n(u), row);
  }

  // Columns [begin, end) of A K; of the units that are on, if it is no more work.
  void multiply(int64_t u, int64_t begin, int64_t end) const {
    const int64_t columns = end - begin;
    Step<double> step{block.k + begin, block.stride,       columns,      active(u), n(u), left(u),
                      block.stride,    product(u) + begin, block.stride, columns};
#if defined(__AVX512F__)
    if (block.word >= 0) {
      const int64_t first = count_bits(bits(u), begin);
      const int64_t limit = count_bits(bits(u), end < block.units ? end : block.units);
      step.out = product(u) + first;
      SomeColumns<double>{step, active(u) + first, limit - first, begin}.run(block.directions);
      return;
    }
#endif
    step.run(block.directions);
  }

  // (A K) of the units that are on, wherever `multiply` has written more.
  void take_product([[maybe_unused]] int64_t u) const {
#if !defined(__AVX512F__)
    for (int64_t d = 0; d < block.directions; ++d) take(u, product(u) + d * block.stride);
#endif
  }

  // (A K) A^T, the second factor transposed so that lanes hold different directions.
  void finish(int64_t u) const {
    const int64_t count = n(u), directions = block.directions, padded = block.padded_directions;
    int32_t* on = active(u);
    take_product(u);
    double* most = block.sums + directions * padded;  // the sum of the lengths of all terms
    __builtin_memset(most, 0, static_cast<uint64_t>(padded) * sizeof(double));
    __builtin_memset(block.right, 0, static_cast<uint64_t>(count * padded) * sizeof(double));
    for (int64_t i = 0; i < count; ++i) {
      double* right = block.right + i * padded;
      for (int64_t d = 0; d < directions; ++d) right[d] = left(u)[d * block.stride + i];
      const double length = block.lengths[on[i]];
      for (int64_t d = 0; d < padded; ++d) most[d] += __builtin_fabs(right[d]) * length;
      on[i] = static_cast<int32_t>(i);
    }
    Step<double>{block.right, padded,       padded,     on,     count,
                 product(u),  block.stride, block.sums, padded, padded}
        .run(directions);
    bool unsure = false;
    for (int64_t d = 0; d < directions; ++d) {
      unsure |= is_unsure(block.sums[d * padded + d], most[d]);
    }
    block.unsure[u] = unsure;
    float* out = block.out + u * directions * directions;
    for (int64_t i = 0; i < directions; ++i) {
      for (int64_t j = i; j < directions; ++j) {
        const double dot = block.sums[i * padded + j];
        out[i * directions + j] = out[j * directions + i] =
            static_cast<float>(block.normalize ? cosine(dot, block.sums[i * padded + i],
                                                        block.sums[j * padded + j], i == j)
                                               : dot);
      }
    }
  }

  void run() const {
    // Columns of K that stay in cache while all modes of the block use them.
    constexpr int64_t columns = GramTile::columns;
    for (int64_t u = 0; u < block.modes; ++u) gather(u);
    for (int64_t begin = 0; begin < block.stride; begin += columns) {
      const int64_t end = begin + columns < block.stride ? begin + columns : block.stride;
      for (int64_t u = 0; u < block.modes; ++u) multiply(u, begin, end);
    }
    for (int64_t u = 0; u < block.modes; ++u) finish(u);
  }
};

}  // namespace

namespace GRADSPLINTER_ISA {
void gram(const GramBlock& block) { Gram{block}.run(); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
