#include <algorithm>

#include "buffer.h"
#include "huge_pages.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// What one thread works in.
template <class T>
struct Scratch {
  Scratch(int64_t directions, int64_t stride)
      : gradients(directions * stride), coefficients(directions * stride), active(stride) {}
  Buffer<T> gradients;
  Buffer<T> coefficients;
  Buffer<int32_t> active;
};

// Rows of W padded with zeros to whole vectors.
template <class T>
void pad_rows(const Layer<T>& layer, int64_t stride, T* to) {
  for (int64_t j = 0; j < layer.outputs; ++j, to += stride) {
    T* end = std::copy_n(layer.weight + j * layer.inputs, layer.inputs, to);
    std::fill(end, to + stride, T(0));
  }
}

}  // namespace

template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Run& run) {
  if (modes == 0 || count == 0) return;
  const KernelsOf<T>& k = kernels_of<T>(kernels());

  int64_t padded_size = 0, stride = 0, words = 0;
  for (const Layer<T>& layer : layers) {
    const int64_t row = round_up(layer.inputs, k.lanes);
    padded_size += row * layer.outputs;
    stride = std::max({stride, row, layer.outputs});
  }
  const Buffer<T> padded(padded_size);
  T* at = padded.get();
  std::vector<BackwardLayer<T>> backward;
  for (size_t l = 0; l < layers.size(); ++l) {
    const Layer<T>& layer = layers[l];
    const int64_t row = round_up(layer.inputs, k.lanes);
    pad_rows(layer, row, at);
    const bool rectified = !(output && l + 1 == layers.size());
    backward.push_back({at, layer.inputs, row, layer.outputs, rectified ? words : -1});
    if (rectified) words += words_of(layer.outputs);
    at += row * layer.outputs;
  }
  std::reverse(backward.begin(), backward.end());

  std::vector<Scratch<T>> scratch;
  const int64_t modes_per_block = 16;
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  for (int i = 0; i < threads_for(blocks, run); ++i) scratch.emplace_back(count, stride);
  const auto step_back = [&](const BackwardLayer<T>* from, size_t depth, const T* start,
                             const uint64_t* pattern, int64_t n, T* to, const Scratch<T>& s) {
    k.jacobian({from, static_cast<int64_t>(depth), start, count, pattern, words, n, to,
                s.gradients.get(), s.coefficients.get(), s.active.get(), stride});
  };

  // The step through W^L has no ReLU, so it is the same in every mode and is made once.
  const BackwardLayer<T>* first = backward.data();
  size_t depth = backward.size();
  const T* start = directions;
  const Buffer<T> shared(count * backward[0].inputs);
  if (output && depth > 1) {
    const IeeeMode mode;
    step_back(first, 1, directions, nullptr, 1, shared.get(), scratch[0]);
    start = shared.get();
    ++first;
    --depth;
  }
  const int64_t size = count * layers.front().inputs;
  prefer_huge_pages(out, modes * size);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    step_back(first, depth, start, patterns + mode * words, std::min(modes_per_block, modes - mode),
              out + mode * size, scratch[thread]);
  });
}

template void jacobian(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t,
                       const float*, int64_t, float*, const Run&);
template void jacobian(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t,
                       const double*, int64_t, double*, const Run&);

}  // namespace gradsplinter
