// Gram matrices of the gradients of a mode on a GPU, without all of the Jacobian: as gram.cpp, with
// the same choice of the way and the same bits.
#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;

// Gradients of some modes at a time: enough of them to fill a GPU.
constexpr int64_t gradient_bytes = int64_t{1} << 27;

template <class T>
void by_gradients(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, bool normalize,
                  T* out, Wanted wanted, const Device& device) {
  const int64_t size = chain.count * chain.width();
  const int64_t at_once = piece_of(
      modes, gradient_bytes / std::max(size * static_cast<int64_t>(sizeof(T)), int64_t{1}));
  T* const gradients = device.memory.template array<T>(at_once * size);
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const Memory::Piecewise scratch(device.memory);
    const int64_t n = std::min(at_once, modes - mode);
    const Wanted some{wanted.flags == nullptr ? nullptr : wanted.flags + mode};
    jacobian(chain, patterns + mode * chain.words(), n, gradients, some, device);
    cross(gradients, n, chain.count, chain.width(), normalize,
          out + mode * chain.count * chain.count, some, device);
  }
}

constexpr int side = 16;  // of the square of K of a block
static_assert(side * side == threads);
constexpr int columns = 32;  // of weights, in shared memory at a time

// K = W W^T in float64: a thread computes one entry, a chain over the inputs of the layer.
__global__ void outer_product_kernel(const float* weight, int64_t units, int64_t inputs,
                                     double* k) {
  constexpr int stride = columns + 1;  // shared memory is banked
  const int64_t tiles = (units + side - 1) / side;
  const int64_t first[2] = {blockIdx.x / tiles * side, blockIdx.x % tiles * side};
  const int own[2] = {static_cast<int>(threadIdx.x) / side, static_cast<int>(threadIdx.x) % side};
  auto* const rows = shared_memory<double>();  // [2, side, columns]
  double sum = 0;
  for (int64_t begin = 0; begin < inputs; begin += columns) {
    __syncthreads();  // the columns before are not needed any more
#pragma unroll
    for (int at = 0; at < 2 * side * columns; at += threads) {
      const int line = (at + static_cast<int>(threadIdx.x)) / columns;
      const int column = static_cast<int>(threadIdx.x) % columns;
      const int64_t row = first[at / (side * columns)] + line % side;
      const bool there = row < units && begin + column < inputs;
      rows[line * stride + column] = there ? weight[row * inputs + begin + column] : 0;
    }
    __syncthreads();
    const double* const left = rows + own[0] * stride;
    const double* const right = rows + (side + own[1]) * stride;
    const auto count = static_cast<int>(min(inputs - begin, int64_t{columns}));
#pragma unroll 8
    for (int i = 0; i < count; ++i) sum = fused(left[i], right[i], sum);
  }
  const int64_t i = first[0] + own[0], j = first[1] + own[1];
  if (i < units && j < units) k[i * units + j] = sum;
}

__global__ void find_lengths(const double* k, int64_t units, double* lengths) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < units) lengths[i] = sqrt(k[i * units + i]);
}

// K and the lengths of the rows of W.
void outer_product(const Layer<float>& layer, double* k, double* lengths, const Device& device) {
  const int64_t units = layer.outputs, tiles = divide_up(units, side);
  launch(outer_product_kernel, tiles * tiles, threads, 2 * side * (columns + 1) * sizeof(double),
         device.stream, layer.weight, units, layer.inputs, k);
  launch(find_lengths, divide_up(units, threads), threads, 0, device.stream, k, units, lengths);
}

struct Lengths {
  const float* gradients;  // A [modes, directions, units]
  int64_t gradients_stride;
  int64_t modes, directions, units;
  const uint64_t* patterns;  // [modes, words], at the site's first word; or null
  int64_t words;
  const double* lengths;  // [units]
  const double* sums;     // [modes, directions, directions]
  uint8_t* unsure;        // [modes], zeros
};

__global__ void find_unsure(Lengths c) {
  const int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (at >= c.modes * c.directions) return;
  const int64_t mode = at / c.directions, d = at % c.directions;
  const float* const row = c.gradients + mode * c.gradients_stride + d * c.units;
  double most = 0;  // the sum of the lengths of all terms
  for (int64_t i = 0; i < c.units; ++i) {
    if (c.patterns != nullptr && (c.patterns[mode * c.words + i / 64] >> (i % 64) & 1) == 0) {
      continue;
    }
    most += fabs(static_cast<double>(row[i])) * c.lengths[i];
  }
  const double square = c.sums[(mode * c.directions + d) * c.directions + d];
  if (is_unsure(square, most)) c.unsure[mode] = 1;
}

// What A, A K and the sums of some modes take.
constexpr int64_t outer_bytes = int64_t{1} << 27;

void by_outer_product(const Chain<float>& chain, const uint64_t* patterns, int64_t modes,
                      bool normalize, float* out, const Device& device) {
  const Layer<float>& layer = chain.layers[0];
  const int64_t units = layer.outputs, count = chain.count, words = chain.words();
  auto* const k = device.memory.array<double>(units * units);
  auto* const lengths = device.memory.array<double>(units);
  outer_product(layer, k, lengths, device);

  const bool own = chain.end_layer == 1;  // A are the directions
  const bool rectified = !(own && chain.output);
  const int64_t mode_bytes = count * (units * (own ? 8 : 12) + count * 8);
  const int64_t at_once = piece_of(modes, outer_bytes / mode_bytes);
  float* const gradients = own ? nullptr : device.memory.array<float>(at_once * count * units);
  auto* const product = device.memory.array<double>(at_once * count * units);
  auto* const sums = device.memory.array<double>(at_once * count * count);
  auto* const unsure = device.memory.array<uint8_t>(modes);
  clear(unsure, static_cast<size_t>(modes), device.stream);
  Chain<float> upper = chain;
  upper.first_layer = 1;
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const Memory::Piecewise scratch(device.memory);
    const int64_t n = std::min(at_once, modes - mode);
    const uint64_t* const some = patterns + mode * words;
    if (!own) jacobian(upper, some, n, gradients, {}, device);
    const float* const a = own ? chain.directions : gradients;
    const int64_t stride = own ? 0 : count * units;
    step_back(
        StepBack<float, double>{
            a, stride, k, units, units, some, words, rectified ? 0 : -1, n, count, product, {}},
        device);
    const uint64_t* const bits = rectified ? some : nullptr;
    dots(Dots<double, float>{product,
                             a,
                             stride,
                             n,
                             count,
                             units,
                             bits,
                             words,
                             normalize,
                             out + mode * count * count,
                             sums,
                             {}},
         device);
    launch(find_unsure, divide_up(n * count, threads), threads, 0, device.stream,
           Lengths{a, stride, n, count, units, bits, words, lengths, sums, unsure + mode});
  }
  // Once more, from the gradients, where unsure.
  by_gradients(chain, patterns, modes, normalize, out, Wanted{unsure}, device);
}

}  // namespace

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Device& device) {
  if (modes == 0 || count == 0) return;
  const Chain<T> chain =
      Chain<T>{layers, 0, layers.size(), output, directions, count}.below_output(device);
  if constexpr (std::is_same_v<T, float>) {
    if (by_outer_products(layers)) {
      return by_outer_product(chain, patterns, modes, normalize, out, device);
    }
  }
  by_gradients(chain, patterns, modes, normalize, out, Wanted{}, device);
}

template void gram(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t, const float*,
                   int64_t, bool, float*, const Device&);
template void gram(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t, const double*,
                   int64_t, bool, double*, const Device&);

}  // namespace gradsplinter::cuda
