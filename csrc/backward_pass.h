// Layers made ready for the backward chain of many modes.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {

// A matrix [rows, columns] as a BackwardLayer whose panels are written to `to`: one of all columns
// where a core's own cache holds them.
template <class T>
BackwardLayer<T> pack_panels(const T* matrix, int64_t rows, int64_t columns, int64_t word,
                             int64_t lanes, T* to) {
  const int64_t stride = round_up(columns, lanes);
  const bool fits = rows * stride * static_cast<int64_t>(sizeof(T)) <= int64_t{1} << 19;
  const int64_t panel = fits ? stride : std::min(stride, int64_t{128});
  const BackwardLayer<T> layer{to, panel, columns, stride, rows, word};
  for (int64_t begin = 0; begin < stride; begin += panel) {
    const int64_t padded = std::min(panel, stride - begin);
    const int64_t n = std::min(padded, columns - begin);
    for (int64_t row = 0; row < rows; ++row, to += padded) {
      std::fill(std::copy_n(matrix + row * columns + begin, n, to), to + padded, T(0));
    }
  }
  return layer;
}

// What one thread works in for so many modes at once.
template <class T>
struct BackwardScratch {
  BackwardScratch(int64_t modes, int64_t directions, int64_t stride)
      : gradients(modes * directions * stride),
        coefficients(2 * modes * directions * stride),
        active(2 * modes * stride + 16),
        active_counts(2 * modes) {}
  Buffer<T> gradients;
  Buffer<T> coefficients;
  Buffer<int32_t> active;
  Buffer<int64_t> active_counts;
};

template <class T>
class BackwardPass {
 public:
  // At least one layer, in ascending order; `output` tells that the last one is layer L. Their bits
  // start in a pattern at `first_word`.
  BackwardPass(const Layer<T>* layers, size_t depth, bool output, const T* directions,
               int64_t count, int64_t first_word)
      : count_(count), words_(first_word), padded_(padded_size(layers, depth)), start_(directions) {
    T* at = padded_.get();
    for (size_t l = 0; l < depth; ++l) {
      const Layer<T>& layer = layers[l];
      const bool rectified = !(output && l + 1 == depth);
      const int64_t word = rectified ? words_ : -1;
      const int64_t lanes = kernel_.lanes;
      layers_.push_back(pack_panels(layer.weight, layer.outputs, layer.inputs, word, lanes, at));
      if (rectified) words_ += words_of(layer.outputs);
      stride_ = std::max(stride_,
                         lanes + std::max(layers_.back().stride, round_up(layer.outputs, lanes)));
      at += layers_.back().stride * layer.outputs;
    }
    std::reverse(layers_.begin(), layers_.end());
    if (output && depth > 1) share_first_step();
  }

  int64_t words() const { return words_; }                         // of a pattern
  int64_t size() const { return count_ * layers_.back().inputs; }  // of a mode's gradients

  // As many as a core's own cache holds what they work in, beside a panel.
  int64_t modes_per_block() const {
    const int64_t bytes = 3 * count_ * stride_ * static_cast<int64_t>(sizeof(T));
    return std::clamp((int64_t{1} << 18) / bytes, int64_t{1}, int64_t{16});
  }
  BackwardScratch<T> scratch(int64_t modes) const { return {modes, count_, stride_}; }

  // patterns [modes, words] -> out [modes, count, inputs of the first layer].
  void run(const uint64_t* patterns, int64_t modes, T* out, const BackwardScratch<T>& s) const {
    step(depth(), start_, patterns, modes, out, s);
  }

 private:
  int64_t padded_size(const Layer<T>* layers, size_t depth) const {
    int64_t size = 2 * kernel_.lanes;  // read with the last columns
    for (size_t l = 0; l < depth; ++l) {
      size += round_up(layers[l].inputs, kernel_.lanes) * layers[l].outputs;
    }
    return size;
  }

  int64_t depth() const { return static_cast<int64_t>(layers_.size()) - skipped_; }

  // The step through W^L has no ReLU, so it is the same in every mode and is made once.
  void share_first_step() {
    const IeeeMode ieee;
    shared_.emplace_back(count_ * layers_[0].inputs);
    step(1, start_, nullptr, 1, shared_[0].get(), scratch(1));
    start_ = shared_[0].get();
    skipped_ = 1;
  }

  void step(int64_t depth, const T* start, const uint64_t* patterns, int64_t modes, T* out,
            const BackwardScratch<T>& s) const {
    kernel_.jacobian({layers_.data() + skipped_, depth, start, count_, patterns, words_, modes, out,
                      s.gradients.get(), s.coefficients.get(), s.active.get(),
                      s.active_counts.get(), stride_});
  }

  const KernelsOf<T>& kernel_ = kernels_of<T>(kernels());
  int64_t count_;
  int64_t words_;
  int64_t stride_ = 0;
  Buffer<T> padded_;
  std::vector<BackwardLayer<T>> layers_;  // the first step back first
  int64_t skipped_ = 0;                   // of them, because they were made once
  const T* start_;
  std::vector<Buffer<T>> shared_;
};

}  // namespace gradsplinter
