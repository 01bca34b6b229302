#include <algorithm>

#include "buffer.h"
#include "huge_pages.h"
#include "ops.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

// W [outputs, inputs] -> panels of `tile` units, transposed and padded with zeros (cpu/kernels.h).
template <class T>
void pack(const Layer<T>& layer, int64_t tile, T* panels, T* bias) {
  const int64_t padded = round_up(layer.outputs, tile);
  std::fill(std::copy_n(layer.bias, layer.outputs, bias), bias + padded, T(0));
  for (int64_t begin = 0; begin < padded; begin += tile) {
    T* panel = panels + begin * layer.inputs;
    const int64_t units = std::min(tile, layer.outputs - begin);
    if (units < tile) std::fill_n(panel, layer.inputs * tile, T(0));
    for (int64_t unit = 0; unit < units; ++unit) {
      const T* row = layer.weight + (begin + unit) * layer.inputs;
      for (int64_t k = 0; k < layer.inputs; ++k) panel[k * tile + unit] = row[k];
    }
  }
}

}  // namespace

template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Run& run) {
  const KernelsOf<T>& k = kernels_of<T>(kernels());
  // Layers beyond the last one that is asked for are not computed.
  const int64_t depth = y != nullptr    ? static_cast<int64_t>(layers.size())
                        : sites.empty() ? 0
                                        : sites.back();
  if (n == 0 || depth == 0) return;

  int64_t packed_size = 0, stride = 0;
  for (int64_t l = 0; l < depth; ++l) {
    const int64_t padded = round_up(layers[l].outputs, k.tile);
    packed_size += padded * (layers[l].inputs + 1);
    stride = std::max(stride, padded);
  }
  const Buffer<T> packed(packed_size);
  std::vector<ForwardLayer<T>> forward;
  T* at = packed.get();
  for (int64_t l = 0; l < depth; ++l) {
    const int64_t padded = round_up(layers[l].outputs, k.tile);
    T* bias = at + padded * layers[l].inputs;
    pack(layers[l], k.tile, at, bias);
    forward.push_back({at, bias, layers[l].inputs, layers[l].outputs, -1});
    at = bias + padded;
  }
  int64_t words = 0;
  for (const int64_t site : sites) {
    forward[site - 1].word = words;
    words += words_of(layers[site - 1].outputs);
  }

  const int64_t blocks = (n + k.block_rows - 1) / k.block_rows;
  const int64_t scratch = round_up(2 * k.block_rows * stride, 64) + 128;
  const Buffer<T> activations(threads_for(blocks, run) * scratch);
  const int64_t inputs = layers[0].inputs, outputs = layers.back().outputs;
  prefer_huge_pages(signature, n * words);
  if (y != nullptr) prefer_huge_pages(y, n * outputs);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t row = block * k.block_rows;
    k.signature({forward.data(), depth, x + row * inputs, std::min(k.block_rows, n - row),
                 signature + row * words, words, y != nullptr ? y + row * outputs : nullptr,
                 activations.get() + thread * scratch, stride});
  });
}

template void signatures(const std::vector<Layer<float>>&, const std::vector<int64_t>&,
                         const float*, int64_t, uint64_t*, float*, const Run&);
template void signatures(const std::vector<Layer<double>>&, const std::vector<int64_t>&,
                         const double*, int64_t, uint64_t*, double*, const Run&);

}  // namespace gradsplinter
