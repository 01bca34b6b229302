// The two ways through a network that signature.cu chooses between. z is the chain b + fma over k
// in ascending order in both, as on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/cuda_ops.h"

namespace gradsplinter::cuda {

// What both are given: the layers to compute and where each site's words begin, or -1.
template <class T>
struct Forward {
  const std::vector<Layer<T>>& layers;
  size_t depth;
  std::vector<int64_t> word;
  int64_t words = 0;
  const T* x;
  int64_t n;
  uint64_t* signature;
  T* y;
  const Device& device;
};

// small_network.cu: at most 64 units wide; 2 to 8 times as fast there, by measurement.
template <class T>
bool is_small(const Forward<T>& forward);
template <class T>
void run_small(const Forward<T>& forward);

// wide_layer.cu: of any width.
template <class T>
void run_wide(const Forward<T>& forward);

}  // namespace gradsplinter::cuda
