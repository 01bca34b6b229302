#include <algorithm>
#include <cmath>
#include <type_traits>

#include "backward_pass.h"
#include "buffer.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// What the Gram matrices of some modes are of.
template <class T>
struct Chain {
  const std::vector<Layer<T>>& layers;
  bool output;
  const T* directions;
  int64_t count;
  bool normalize;
  const Run& run;

  int64_t words() const {  // of a pattern
    int64_t words = 0;
    for (size_t l = 0; l + (output ? 1 : 0) < layers.size(); ++l) {
      words += words_of(layers[l].outputs);
    }
    return words;
  }
};

// cross(jacobian), bit for bit, of a few modes at a time.
template <class T>
void by_gradients(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, T* out) {
  const int64_t count = chain.count, width = chain.layers[0].inputs;
  const BackwardPass<T> pass(chain.layers.data(), chain.layers.size(), chain.output,
                             chain.directions, count, 0);
  // Some vectors of modes, whose gradients stay in a core's own cache.
  const int64_t bytes = pass.size() * static_cast<int64_t>(sizeof(T));
  const int64_t lanes = kernels_of<T>(kernels()).cross_lanes;
  const int64_t modes_per_block =
      lanes * std::clamp((int64_t{1} << 18) / (lanes * bytes), int64_t{1}, int64_t{16});
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  const int threads = threads_for(blocks, chain.run);
  const int64_t size = modes_per_block * pass.size();
  const Buffer<T> jacobians(threads * size);
  std::vector<BackwardScratch<T>> scratch;
  for (int i = 0; i < threads; ++i) scratch.push_back(pass.scratch(modes_per_block));
  parallel_blocks(blocks, chain.run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    const int64_t n = std::min(modes_per_block, modes - mode);
    T* jacobian = jacobians.get() + thread * size;
    pass.run(patterns + mode * pass.words(), n, jacobian, scratch[static_cast<size_t>(thread)]);
    cross(jacobian, n, count, width, chain.normalize, out + mode * count * count, Run{});
  });
}

// K = W W^T in float64, rows padded with zeros to `stride`: the "gradients" W of a step back
// through W^T with all units on. Each entry is a chain over the inputs of the layer.
void outer_product(const Layer<float>& layer, int64_t stride, double* k, const Run& run) {
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
struct Scratch {
  Scratch(int64_t modes, int64_t directions, int64_t padded, int64_t units, int64_t stride)
      : gradients(modes * directions * units),
        active(modes * stride + 16),
        counts(modes),
        left(modes * directions * stride),
        product(modes * directions * stride),
        right(units * padded),
        sums((directions + 1) * padded) {}
  Buffer<float> gradients;
  Buffer<int32_t> active;
  Buffer<int64_t> counts;
  Buffer<double> left, product, right, sums;
};

// A K A^T of every mode. unsure[mode] tells that the terms of a gradient cancel, so that its length
// is that of the rounding.
void by_outer_product(const Chain<float>& chain, const uint64_t* patterns, int64_t modes,
                      float* out, uint8_t* unsure) {
  const auto& [layers, output, directions, count, normalize, run] = chain;
  const IeeeMode mode;  // turning subnormal weights into float64 keeps them
  const int64_t units = layers[0].outputs, words = chain.words();
  const int64_t lanes = kernels().f64.lanes;
  const int64_t stride = round_up(units, lanes) + lanes;  // products are written a vector further
  const int64_t padded = round_up(count, lanes);
  const Buffer<double> k(units * stride + 2 * lanes);  // and read two with the last column
  outer_product(layers[0], stride, k.get(), run);
  const Buffer<double> lengths(units);
  for (int64_t i = 0; i < units; ++i) lengths[i] = std::sqrt(k[i * stride + i]);

  // The chain down to the units of the first layer. Where there is none, these are the directions.
  const bool own = layers.size() == 1;
  const int64_t word = own && output ? -1 : 0;
  std::vector<BackwardPass<float>> pass;
  if (!own) {
    pass.emplace_back(layers.data() + 1, layers.size() - 1, output, directions, count,
                      words_of(units));
  }

  constexpr int64_t modes_per_block = 16;
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  std::vector<Scratch> scratch;
  std::vector<BackwardScratch<float>> pass_scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) {
    scratch.emplace_back(modes_per_block, count, padded, units, stride);
    if (!own) pass_scratch.push_back(pass[0].scratch(modes_per_block));
  }
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    const int64_t n = std::min(modes_per_block, modes - mode);
    const auto t = static_cast<size_t>(thread);
    const Scratch& s = scratch[t];
    if (!own) pass[0].run(patterns + mode * words, n, s.gradients.get(), pass_scratch[t]);
    kernels().gram({own ? directions : s.gradients.get(),
                    own ? 0 : count * units,
                    count,
                    padded,
                    units,
                    k.get(),
                    lengths.get(),
                    stride,
                    patterns + mode * words,
                    words,
                    word,
                    n,
                    normalize,
                    out + mode * count * count,
                    unsure + mode,
                    s.active.get(),
                    s.counts.get(),
                    s.left.get(),
                    s.product.get(),
                    s.right.get(),
                    s.sums.get()});
  });
}

// Once more, from the gradients, where `unsure`.
void make_sure(const Chain<float>& chain, const uint64_t* patterns, int64_t modes, float* out,
               const uint8_t* unsure) {
  std::vector<int64_t> some;
  for (int64_t mode = 0; mode < modes; ++mode) {
    if (unsure[mode]) some.push_back(mode);
  }
  if (some.empty()) return;
  const int64_t words = chain.words(), size = chain.count * chain.count;
  const auto n = static_cast<int64_t>(some.size());
  const Buffer<uint64_t> some_patterns(n * words);
  const Buffer<float> found(n * size);
  uint64_t* to = some_patterns.get();
  for (const int64_t mode : some) to = std::copy_n(patterns + mode * words, words, to);
  by_gradients(chain, some_patterns.get(), n, found.get());
  const float* from = found.get();
  for (const int64_t mode : some) {
    std::copy_n(from, size, out + mode * size);
    from += size;
  }
}

}  // namespace

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Run& run) {
  if (modes == 0 || count == 0) return;
  const Chain<T> chain{layers, output, directions, count, normalize, run};
  if constexpr (std::is_same_v<T, float>) {
    if (by_outer_products(layers)) {
      const Buffer<uint8_t> unsure(modes);
      by_outer_product(chain, patterns, modes, out, unsure.get());
      return make_sure(chain, patterns, modes, out, unsure.get());
    }
  }
  by_gradients(chain, patterns, modes, out);
}

template void gram(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t, const float*,
                   int64_t, bool, float*, const Run&);
template void gram(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t, const double*,
                   int64_t, bool, double*, const Run&);

}  // namespace gradsplinter
