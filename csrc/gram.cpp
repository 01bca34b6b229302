#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>

#include "backward_pass.h"
#include "buffer.h"
#include "cross_pass.h"
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
  const CrossPass<T> cross_pass(count, width, chain.normalize);
  // Some vectors of modes, whose gradients stay in a core's own cache.
  const int64_t bytes = pass.size() * static_cast<int64_t>(sizeof(T));
  const int64_t lanes = cross_pass.modes_per_block();
  const int64_t modes_per_block =
      lanes * std::clamp((int64_t{1} << 18) / (lanes * bytes), int64_t{1}, int64_t{16});
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  const int threads = threads_for(blocks, chain.run);
  const int64_t size = modes_per_block * pass.size();
  const Buffer<T> jacobians(threads * size);
  const Buffer<double> cross_scratch(threads * cross_pass.scratch());
  std::vector<BackwardScratch<T>> scratch;
  for (int i = 0; i < threads; ++i) scratch.push_back(pass.scratch(pass.modes_per_block()));
  parallel_blocks(blocks, chain.run, [&](int64_t block, int thread, const Stopping& stopping) {
    const int64_t begin = block * modes_per_block;
    const int64_t end = std::min(begin + modes_per_block, modes);
    T* jacobian = jacobians.get() + thread * size;
    for (int64_t mode = begin; mode < end; mode += pass.modes_per_block()) {
      pass.run(patterns + mode * pass.words(), std::min(pass.modes_per_block(), end - mode),
               jacobian + (mode - begin) * pass.size(), scratch[static_cast<size_t>(thread)]);
      if (stopping()) return;
    }
    cross_pass.run(jacobian, end - begin, out + begin * count * count,
                   cross_scratch.get() + thread * cross_pass.scratch());
  });
}

// K = W W^T in float64, rows padded with zeros to `stride`: the "gradients" W of a step back
// through W^T with all units on. Each entry is a chain over the inputs of the layer.
void outer_product(const Layer<float>& layer, const KernelsOf<double>& kernel, int64_t stride,
                   double* k, const Run& run) {
  const int64_t units = layer.outputs, width = layer.inputs;
  const Buffer<double> weight(units * width), transposed(width * units), panels(width * stride);
  std::copy_n(layer.weight, units * width, weight.get());
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t i = 0; i < units; ++i) transposed[c * units + i] = weight[i * width + c];
  }
  BackwardLayer<double> step =
      pack_panels(transposed.get(), width, units, -1, kernel.lanes, panels.get());
  step.inputs = stride;  // from row to row of k
  std::fill_n(k, units * stride, 0.0);
  constexpr int64_t rows = 10;
  const int64_t blocks = (units + rows - 1) / rows;
  std::vector<BackwardScratch<double>> scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) scratch.emplace_back(1, rows, width + stride);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t i = block * rows;
    const BackwardScratch<double>& s = scratch[static_cast<size_t>(thread)];
    kernel.jacobian({&step, 1, weight.get() + i * width, std::min(rows, units - i), nullptr, 0, 1,
                     k + i * stride, s.gradients.get(), s.coefficients.get(), s.active.get(),
                     s.active_counts.get(), width + stride});
  });
}

// A K A^T of modes, for A their gradients at the first layer's units.
class OuterProductPass {
 public:
  static constexpr int64_t modes_per_block = 16;

  // What one thread works in.
  class Scratch {
   public:
    explicit Scratch(const OuterProductPass& pass)
        : gradients_(modes_per_block * pass.chain_.count * pass.units_),
          active_(modes_per_block * pass.stride_ + 16),
          counts_(modes_per_block),
          left_(modes_per_block * pass.chain_.count * pass.stride_),
          product_(modes_per_block * pass.chain_.count * pass.stride_),
          right_(pass.units_ * pass.padded_),
          sums_((pass.chain_.count + 1) * pass.padded_) {
      if (pass.above_) above_.emplace(pass.above_->scratch(modes_per_block));
    }

   private:
    friend class OuterProductPass;
    Buffer<float> gradients_;
    Buffer<int32_t> active_;
    Buffer<int64_t> counts_;
    Buffer<double> left_, product_, right_, sums_;
    std::optional<BackwardScratch<float>> above_;
  };

  explicit OuterProductPass(const Chain<float>& chain) : chain_(chain) {
    const IeeeMode ieee;  // turning subnormal weights into float64 keeps them
    outer_product(chain.layers[0], kernels_.f64, stride_, k_.get(), chain.run);
    for (int64_t i = 0; i < units_; ++i) lengths_[i] = std::sqrt(k_[i * stride_ + i]);
    if (chain.layers.size() > 1) {
      above_.emplace(chain.layers.data() + 1, chain.layers.size() - 1, chain.output,
                     chain.directions, chain.count, words_of(units_));
    }
  }

  // Up to modes_per_block modes -> out [modes, count, count]; unsure[mode] tells that it is not to
  // be relied on (is_unsure in scalar.h).
  void run(const uint64_t* patterns, int64_t modes, float* out, uint8_t* unsure,
           const Scratch& s) const {
    // Where there is no layer above, A are the directions, and where that is the output, all units
    // are on.
    if (above_) above_->run(patterns, modes, s.gradients_.get(), *s.above_);
    kernels_.gram({above_ ? s.gradients_.get() : chain_.directions,
                   above_ ? chain_.count * units_ : 0,
                   chain_.count,
                   padded_,
                   units_,
                   k_.get(),
                   lengths_.get(),
                   stride_,
                   patterns,
                   words_,
                   !above_ && chain_.output ? -1 : 0,
                   modes,
                   chain_.normalize,
                   out,
                   unsure,
                   s.active_.get(),
                   s.counts_.get(),
                   s.left_.get(),
                   s.product_.get(),
                   s.right_.get(),
                   s.sums_.get()});
  }

 private:
  const Kernels& kernels_ = kernels();
  const Chain<float>& chain_;
  int64_t units_ = chain_.layers[0].outputs;
  int64_t words_ = chain_.words();
  int64_t lanes_ = kernels_.f64.lanes;
  int64_t stride_ = round_up(units_, lanes_) + lanes_;  // products are written a vector further
  int64_t padded_ = round_up(chain_.count, lanes_);
  Buffer<double> k_{units_ * stride_ + 2 * lanes_};  // and read two with the last column
  Buffer<double> lengths_{units_};
  std::optional<BackwardPass<float>> above_;  // down to the units of the first layer
};

void by_outer_product(const Chain<float>& chain, const uint64_t* patterns, int64_t modes,
                      float* out, uint8_t* unsure) {
  constexpr int64_t modes_per_block = OuterProductPass::modes_per_block;
  const OuterProductPass pass(chain);
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  std::vector<OuterProductPass::Scratch> scratch;
  for (int i = 0; i < threads_for(blocks, chain.run); ++i) scratch.emplace_back(pass);
  parallel_blocks(blocks, chain.run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    pass.run(patterns + mode * chain.words(), std::min(modes_per_block, modes - mode),
             out + mode * chain.count * chain.count, unsure + mode,
             scratch[static_cast<size_t>(thread)]);
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
