// Layers made ready for the backward chain of many modes.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {

template <class T>
class BackwardPass {
 public:
  // What one thread works in.
  struct Scratch {
    explicit Scratch(const BackwardPass& pass)
        : gradients(pass.count_ * pass.stride_),
          coefficients(pass.count_ * pass.stride_),
          active(pass.stride_) {}
    Buffer<T> gradients;
    Buffer<T> coefficients;
    Buffer<int32_t> active;
  };

  // At least one layer, in ascending order; `output` tells that the last one is layer L. Their bits
  // start in a pattern at `first_word`.
  BackwardPass(const Layer<T>* layers, size_t depth, bool output, const T* directions,
               int64_t count, int64_t first_word)
      : count_(count), words_(first_word), padded_(padded_size(layers, depth)), start_(directions) {
    T* at = padded_.get();
    for (size_t l = 0; l < depth; ++l) {
      const Layer<T>& layer = layers[l];
      const int64_t row = padded_row(layer);
      for (int64_t j = 0; j < layer.outputs; ++j) {
        T* end = std::copy_n(layer.weight + j * layer.inputs, layer.inputs, at + j * row);
        std::fill(end, at + (j + 1) * row, T(0));
      }
      const bool rectified = !(output && l + 1 == depth);
      layers_.push_back({at, layer.inputs, row, layer.outputs, rectified ? words_ : -1});
      if (rectified) words_ += words_of(layer.outputs);
      stride_ = std::max({stride_, row, layer.outputs});
      at += row * layer.outputs;
    }
    std::reverse(layers_.begin(), layers_.end());
    if (output && depth > 1) share_first_step();
  }

  int64_t words() const { return words_; }                         // of a pattern
  int64_t size() const { return count_ * layers_.back().inputs; }  // of a mode's gradients

  // patterns [modes, words] -> out [modes, count, inputs of the first layer].
  void run(const uint64_t* patterns, int64_t modes, T* out, const Scratch& scratch) const {
    step(depth(), start_, patterns, modes, out, scratch);
  }

 private:
  static int64_t padded_row(const Layer<T>& layer) {
    return round_up(layer.inputs, kernels_of<T>(kernels()).lanes);
  }
  static int64_t padded_size(const Layer<T>* layers, size_t depth) {
    int64_t size = 0;
    for (size_t l = 0; l < depth; ++l) size += padded_row(layers[l]) * layers[l].outputs;
    return size;
  }

  int64_t depth() const { return static_cast<int64_t>(layers_.size()) - skipped_; }

  // The step through W^L has no ReLU, so it is the same in every mode and is made once.
  void share_first_step() {
    const IeeeMode mode;
    shared_.emplace_back(count_ * layers_[0].inputs);
    step(1, start_, nullptr, 1, shared_[0].get(), Scratch(*this));
    start_ = shared_[0].get();
    skipped_ = 1;
  }

  void step(int64_t depth, const T* start, const uint64_t* patterns, int64_t modes, T* out,
            const Scratch& s) const {
    kernels_of<T>(kernels()).jacobian({layers_.data() + skipped_, depth, start, count_, patterns,
                                       words_, modes, out, s.gradients.get(), s.coefficients.get(),
                                       s.active.get(), stride_});
  }

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
