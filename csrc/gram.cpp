#include <algorithm>

#include "backward_pass.h"
#include "buffer.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// K = W W^T in float64, rows padded with zeros to `stride`: the "gradients" W of a step back
// through W^T with all units on. Each entry is a chain over the inputs of the layer.
template <class T>
void outer_product(const Layer<T>& layer, int64_t stride, double* k, const Run& run) {
  const int64_t units = layer.outputs, width = layer.inputs;
  const Buffer<double> weight(units * width), transposed(width * units), panels(width * stride);
  std::copy_n(layer.weight, units * width, weight.get());
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t i = 0; i < units; ++i) transposed[c * units + i] = weight[i * width + c];
  }
  BackwardLayer<double> step = pack_panels(transposed.get(), width, units, -1, panels.get());
  step.inputs = stride;  // from row to row of k
  std::fill_n(k, units * stride, 0.0);
  constexpr int64_t rows = 10;
  const int64_t blocks = (units + rows - 1) / rows;
  std::vector<BackwardScratch<double>> scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) scratch.emplace_back(1, rows, width + stride);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t i = block * rows;
    const BackwardScratch<double>& s = scratch[static_cast<size_t>(thread)];
    kernels().f64.jacobian({&step, 1, weight.get() + i * width, std::min(rows, units - i), nullptr,
                            0, 1, k + i * stride, s.gradients.get(), s.coefficients.get(),
                            s.active.get(), s.active_counts.get(), width + stride});
  });
}

// What one thread works in.
template <class T>
struct Scratch {
  Scratch(int64_t modes, int64_t directions, int64_t padded, int64_t units, int64_t stride)
      : gradients(modes * directions * units),
        active(modes * stride + 16),
        counts(modes),
        left(modes * directions * stride),
        product(modes * directions * stride),
        right(units * padded),
        sums(directions * padded) {}
  Buffer<T> gradients;
  Buffer<int32_t> active;
  Buffer<int64_t> counts;
  Buffer<double> left, product, right, sums;
};

}  // namespace

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Run& run) {
  if (modes == 0 || count == 0) return;
  const KernelsOf<T>& kernel = kernels_of<T>(kernels());
  const IeeeMode mode;  // turning subnormal weights into float64 keeps them
  const int64_t units = layers[0].outputs;
  const int64_t lanes = kernels().f64.lanes;
  const int64_t stride = round_up(units, lanes) + lanes;  // products are written a vector further
  const int64_t padded = round_up(count, lanes);
  const Buffer<double> k(units * stride + 2 * lanes);  // and read two with the last column
  outer_product(layers[0], stride, k.get(), run);

  // The chain down to the units of the first layer. Where there is none, these are the directions.
  const bool own = layers.size() == 1;
  const int64_t word = own && output ? -1 : 0;
  const int64_t site_words = word < 0 ? 0 : words_of(units);
  std::vector<BackwardPass<T>> pass;
  if (!own) {
    pass.emplace_back(layers.data() + 1, layers.size() - 1, output, directions, count, site_words);
  }
  const int64_t words = own ? site_words : pass[0].words();

  constexpr int64_t modes_per_block = 16;
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  std::vector<Scratch<T>> scratch;
  std::vector<BackwardScratch<T>> pass_scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) {
    scratch.emplace_back(modes_per_block, count, padded, units, stride);
    if (!own) pass_scratch.push_back(pass[0].scratch(modes_per_block));
  }
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    const int64_t n = std::min(modes_per_block, modes - mode);
    const auto t = static_cast<size_t>(thread);
    const Scratch<T>& s = scratch[t];
    if (!own) pass[0].run(patterns + mode * words, n, s.gradients.get(), pass_scratch[t]);
    kernel.gram({own ? directions : s.gradients.get(), own ? 0 : count * units, count, padded,
                 units, k.get(), stride, patterns + mode * words, words, word, n, normalize,
                 out + mode * count * count, s.active.get(), s.counts.get(), s.left.get(),
                 s.product.get(), s.right.get(), s.sums.get()});
  });
}

template void gram(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t, const float*,
                   int64_t, bool, float*, const Run&);
template void gram(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t, const double*,
                   int64_t, bool, double*, const Run&);

}  // namespace gradsplinter
