// A layer made ready for the forward kernel.
#pragma once

#include <algorithm>

#include "buffer.h"
#include "ops.h"

namespace gradsplinter {

// W [outputs, inputs] -> panels of `tile` units, transposed and padded with zeros (cpu/kernels.h).
template <class T>
void pack_layer(const Layer<T>& layer, int64_t tile, T* panels, T* bias) {
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

}  // namespace gradsplinter
