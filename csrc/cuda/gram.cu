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

// Gradients of some modes at a time, meant to stay in the second cache.
constexpr int64_t gradient_bytes = int64_t{1} << 24;

template <class T>
void by_gradients(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, bool normalize,
                  T* out, Wanted wanted, const Device& device) {
  const int64_t size = chain.count * chain.width();
  const int64_t at_once =
      std::clamp(gradient_bytes / (size * static_cast<int64_t>(sizeof(T))), int64_t{1}, modes);
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

// K above the diagonal -> below it too; and the lengths of the rows of W.
__global__ void mirror(double* k, int64_t units, double* lengths) {
  const int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (at >= units * units) return;
  const int64_t i = at / units, j = at % units;
  if (i < j) k[j * units + i] = k[at];
  if (i == j) lengths[i] = sqrt(k[at]);
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
  dots(Dots<float, float>{layer.weight, layer.weight, 0, 1, units, layer.inputs, nullptr, 0, k, {}},
       device);
  launch(mirror, divide_up(units * units, threads), threads, 0, device.stream, k, units, lengths);

  const bool own = chain.layers.size() == 1;  // A are the directions
  const bool rectified = !(own && chain.output);
  const int64_t mode_bytes = count * (units * (own ? 8 : 12) + count * 8);
  const int64_t at_once = std::clamp(outer_bytes / mode_bytes, int64_t{1}, modes);
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
    dots(Dots<double, float>{product, a, stride, n, count, units, bits, words, sums, {}}, device);
    launch(find_unsure, divide_up(n * count, threads), threads, 0, device.stream,
           Lengths{a, stride, n, count, units, bits, words, lengths, sums, unsure + mode});
    finish(Finish<float>{sums, n, count, normalize, out + mode * count * count, {}}, device);
  }
  // Once more, from the gradients, where unsure.
  by_gradients(chain, patterns, modes, normalize, out, Wanted{unsure}, device);
}

}  // namespace

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Device& device) {
  if (modes == 0 || count == 0) return;
  const Chain<T> chain{layers, 0, output, directions, count};
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
