// The chain of steps back on a GPU.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

// What lies between two steps back, for some modes at a time.
constexpr int64_t between_steps = int64_t{1} << 28;  // bytes

}  // namespace

template <class T>
int64_t Chain<T>::word_of(size_t l) const {
  int64_t words = 0;
  for (size_t before = 0; before < l; ++before) words += words_of(layers[before].outputs);
  return words;
}

template <class T>
StepBack<T, T> Chain<T>::step(size_t l) const {
  StepBack<T, T> step{};
  step.weight = layers[l].weight;
  step.outputs = layers[l].outputs;
  step.inputs = layers[l].inputs;
  step.words = words();
  step.word = output && l + 1 == end_layer ? -1 : word_of(l);
  step.directions = count;
  return step;
}

template <class T>
Chain<T> Chain<T>::below_output(const Device& device) const {
  if (!output || end_layer - first_layer < 2) return *this;
  StepBack<T, T> last = step(end_layer - 1);
  T* const shared = device.memory.array<T>(count * last.inputs);
  last.from = directions;
  last.modes = 1;
  last.to = shared;
  step_back(last, device);
  return {layers, first_layer, end_layer - 1, false, shared, count};
}

template <class T>
void jacobian(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, T* out, Wanted wanted,
              const Device& device) {
  if (modes * chain.count == 0) return;
  int64_t widest = 0;  // between two steps
  for (size_t l = chain.first_layer + 1; l < chain.end_layer; ++l) {
    widest = std::max(widest, chain.layers[l].inputs);
  }
  const auto turns = static_cast<int64_t>(
      std::min(chain.end_layer - chain.first_layer - 1, size_t{2}));  // buffers between steps
  const int64_t mode_bytes = turns * chain.count * widest * static_cast<int64_t>(sizeof(T));
  const int64_t at_once = mode_bytes == 0 ? modes : piece_of(modes, between_steps / mode_bytes);
  T* between[2] = {nullptr, nullptr};
  for (int64_t i = 0; i < turns; ++i) {
    between[i] = device.memory.array<T>(at_once * chain.count * widest);
  }
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const T* from = chain.directions;
    int64_t from_stride = 0;
    for (size_t l = chain.end_layer, turn = 0; l-- > chain.first_layer; turn ^= 1) {
      StepBack<T, T> step = chain.step(l);
      step.from = from;
      step.from_stride = from_stride;
      step.patterns = patterns + mode * step.words;
      step.modes = std::min(at_once, modes - mode);
      step.to = l == chain.first_layer ? out + mode * chain.count * step.inputs : between[turn];
      if (wanted.flags != nullptr) step.wanted.flags = wanted.flags + mode;
      step_back(step, device);
      from = step.to;
      from_stride = chain.count * step.inputs;
    }
  }
}

template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Device& device) {
  if (modes * count == 0) return;
  const Chain<T> chain{layers, 0, layers.size(), output, directions, count};
  jacobian(chain.below_output(device), patterns, modes, out, Wanted{}, device);
}

template struct Chain<float>;
template struct Chain<double>;
template void jacobian(const Chain<float>&, const uint64_t*, int64_t, float*, Wanted,
                       const Device&);
template void jacobian(const Chain<double>&, const uint64_t*, int64_t, double*, Wanted,
                       const Device&);
template void jacobian(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t,
                       const float*, int64_t, float*, const Device&);
template void jacobian(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t,
                       const double*, int64_t, double*, const Device&);

}  // namespace gradsplinter::cuda
