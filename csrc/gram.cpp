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
  const Buffer<double> weight(units * width), transposed(width * stride);
  std::copy_n(layer.weight, units * width, weight.get());
  for (int64_t c = 0; c < width; ++c) {
    double* row = transposed.get() + c * stride;
    for (int64_t i = 0; i < units; ++i) row[i] = weight[i * width + c];
    std::fill(row + units, row + stride, 0.0);
  }
  const BackwardLayer<double> step{transposed.get(), stride, stride, width, -1};
  constexpr int64_t rows = 10;
  const int64_t blocks = (units + rows - 1) / rows;
  const int threads = threads_for(blocks, run);
  const Buffer<double> coefficients(threads * rows * width);
  const Buffer<int32_t> active(threads * width);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t i = block * rows;
    kernels().f64.jacobian({&step, 1, weight.get() + i * width, std::min(rows, units - i), nullptr,
                            0, 1, k + i * stride, nullptr,
                            coefficients.get() + thread * rows * width,
                            active.get() + thread * width, width});
  });
}

// What one thread works in.
template <class T>
struct Scratch {
  Scratch(int64_t modes, int64_t directions, int64_t padded, int64_t units, int64_t stride)
      : gradients(modes * directions * units),
        active(modes * stride),
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
  const int64_t stride = round_up(units, kernels().f64.lanes);
  const int64_t padded = round_up(count, kernels().f64.lanes);
  const Buffer<double> k(units * stride);
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
  std::vector<typename BackwardPass<T>::Scratch> pass_scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) {
    scratch.emplace_back(modes_per_block, count, padded, units, stride);
    if (!own) pass_scratch.emplace_back(pass[0]);
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
