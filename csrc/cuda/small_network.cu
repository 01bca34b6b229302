// Small networks: a thread takes examples through all layers with their activations in registers
// and the weights in shared memory.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/forward.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int most_layers = 32;
constexpr int threads = 128;
constexpr int group = 8;  // units that a thread computes at a time

template <class T>
struct SmallNetwork {
  int depth;
  int words;  // in a signature
  struct {
    const T* weight;  // [outputs, inputs]
    const T* bias;
    int inputs, outputs;
    int word;    // where the site's word is in a signature; -1: not asked for
    int offset;  // of the layer in shared memory: W transposed [inputs, padded], then b [padded]
  } layers[most_layers];
};

__host__ __device__ inline int pad(int units) { return (units + group - 1) / group * group; }

// Up to `width` units in a layer, `count` examples to a thread.
template <class T, int width, int count>
__global__ void __launch_bounds__(threads, 3)
    small_network(SmallNetwork<T> net, const T* x, int64_t n, uint64_t* signature, T* y) {
  constexpr int lanes = Vector<T>::lanes;
  T* const weights = shared_memory<T>();
  for (int l = 0; l < net.depth; ++l) {
    const auto& layer = net.layers[l];
    const int padded = pad(layer.outputs), size = padded * (layer.inputs + 1);
    for (int i = static_cast<int>(threadIdx.x); i < size; i += threads) {
      const int k = i / padded, unit = i % padded;
      T value = 0;
      if (unit < layer.outputs) {
        value = k < layer.inputs ? layer.weight[unit * layer.inputs + k] : layer.bias[unit];
      }
      weights[layer.offset + i] = value;
    }
  }
  __syncthreads();

  const int inputs = net.layers[0].inputs;
  for (int64_t begin = int64_t{blockIdx.x} * (threads * count); begin < n;
       begin += int64_t{gridDim.x} * (threads * count)) {
    int64_t row[count];
    T a[count][width];
#pragma unroll
    for (int e = 0; e < count; ++e) {
      row[e] = begin + e * threads + threadIdx.x;
#pragma unroll
      for (int k = 0; k < width; ++k) {
        a[e][k] = k < inputs && row[e] < n ? x[row[e] * inputs + k] : T(0);
      }
    }
    for (int l = 0; l < net.depth; ++l) {
      const auto& layer = net.layers[l];
      const int padded = pad(layer.outputs);
      const T* const w = weights + layer.offset;
      const T* const bias = w + layer.inputs * padded;
      T z[count][width];
#pragma unroll
      for (int first = 0; first < width; first += group) {
        if (first >= layer.outputs) break;
#pragma unroll
        for (int i = 0; i < group; ++i) {
#pragma unroll
          for (int e = 0; e < count; ++e) z[e][first + i] = bias[first + i];
        }
        const auto step = [&](int k) {
          Vector<T> part[group / lanes];
#pragma unroll
          for (int v = 0; v < group / lanes; ++v) {
            part[v] = *reinterpret_cast<const Vector<T>*>(w + k * padded + first + v * lanes);
          }
#pragma unroll
          for (int i = 0; i < group; ++i) {
#pragma unroll
            for (int e = 0; e < count; ++e) {
              z[e][first + i] = fused(a[e][k], part[i / lanes].at[i % lanes], z[e][first + i]);
            }
          }
        };
        // Whole groups of inputs without a test for each; no product more than there are inputs,
        // or an output of -0 would become 0.
#pragma unroll
        for (int k = 0; k < width; k += group) {
          if (k + group <= layer.inputs) {
#pragma unroll
            for (int i = 0; i < group; ++i) step(k + i);
          } else {
#pragma unroll
            for (int i = 0; i < group; ++i) {
              if (k + i < layer.inputs) step(k + i);
            }
          }
        }
      }
      if (y != nullptr && l == net.depth - 1) {
#pragma unroll
        for (int e = 0; e < count; ++e) {
#pragma unroll
          for (int unit = 0; unit < width; ++unit) {
            if (unit < layer.outputs && row[e] < n) y[row[e] * layer.outputs + unit] = z[e][unit];
          }
        }
        break;
      }
#pragma unroll
      for (int e = 0; e < count; ++e) {
        uint64_t bits = 0;
#pragma unroll
        for (int unit = 0; unit < width; ++unit) {
          const bool on = unit < layer.outputs && z[e][unit] > T(0);
          bits |= uint64_t{on} << unit;
          a[e][unit] = on ? z[e][unit] : T(0);
        }
        if (layer.word >= 0 && row[e] < n) signature[row[e] * net.words + layer.word] = bits;
      }
    }
  }
}

template <class T>
size_t small_bytes(const Forward<T>& forward) {
  size_t size = 0;
  for (size_t l = 0; l < forward.depth; ++l) {
    const auto& layer = forward.layers[l];
    size += static_cast<size_t>(pad(static_cast<int>(layer.outputs)) * (layer.inputs + 1));
  }
  return size * sizeof(T);
}

template <class T>
int64_t widest(const Forward<T>& forward) {
  int64_t width = forward.layers[0].inputs;
  for (size_t l = 0; l < forward.depth; ++l) width = std::max(width, forward.layers[l].outputs);
  return width;
}

template <class T, int width, int count>
void run(const Forward<T>& forward) {
  SmallNetwork<T> net{};
  net.depth = static_cast<int>(forward.depth);
  net.words = static_cast<int>(forward.words);
  int offset = 0;
  for (size_t l = 0; l < forward.depth; ++l) {
    const Layer<T>& layer = forward.layers[l];
    const auto inputs = static_cast<int>(layer.inputs), outputs = static_cast<int>(layer.outputs);
    net.layers[l] = {layer.weight, layer.bias, inputs, outputs, static_cast<int>(forward.word[l]),
                     offset};
    offset += pad(outputs) * (inputs + 1);
  }
  // As many blocks as run at a time: each loads the weights once.
  const auto kernel = small_network<T, width, count>;
  const size_t shared = small_bytes(forward);
  const int64_t resident =
      int64_t{resident_blocks(kernel, threads, shared)} * multiprocessors(forward.device.index);
  const int64_t blocks = std::min(divide_up(forward.n, threads * count), resident);
  launch(kernel, blocks, threads, shared, forward.device.stream, net, forward.x, forward.n,
         forward.signature, forward.y);
}

}  // namespace

// Shared memory for two blocks to a multiprocessor; registers for so many activations.
template <class T>
bool is_small(const Forward<T>& forward) {
  constexpr int64_t most = sizeof(T) == 4 ? 64 : 32;
  return forward.depth <= most_layers && widest(forward) <= most &&
         small_bytes(forward) <= static_cast<size_t>(most_shared(forward.device.index)) / 2;
}

template <class T>
void run_small(const Forward<T>& forward) {
  constexpr bool single = sizeof(T) == 4;
  if (widest(forward) <= 32) return run<T, 32, single ? 2 : 1>(forward);
  if constexpr (single) run<T, 64, 1>(forward);
}

template bool is_small(const Forward<float>&);
template bool is_small(const Forward<double>&);
template void run_small(const Forward<float>&);
template void run_small(const Forward<double>&);

}  // namespace gradsplinter::cuda
