// The backward chain on a GPU. A warp takes one mode and walks over the units that are on; the
// warps of a block share the weights, some rows and columns at a time. Each entry is a chain of fma
// in ascending order of the units, as on the CPU.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int warps = 8;  // and modes in a block
constexpr int threads = warps * warp;
constexpr int rows = 32;    // of weights, in shared memory at a time
constexpr int vectors = 2;  // of columns, in a lane

template <class T>
constexpr int columns = vectors * warp * Vector<T>::lanes;

template <class T, int directions>
constexpr int padded = (directions + Vector<T>::lanes - 1) / Vector<T>::lanes * Vector<T>::lanes;

template <class T, int directions>
constexpr size_t shared_bytes =
    sizeof(T) * (rows * columns<T> + warps * rows * padded<T, directions>);

// So many directions at a time.
template <class From, class T, int directions>
__global__ void __launch_bounds__(threads, 2)
    step_back_kernel(StepBack<From, T> step, bool weight_vectors) {
  constexpr int lanes = Vector<T>::lanes;
  const int own = static_cast<int>(threadIdx.x) / warp, lane = static_cast<int>(threadIdx.x) % warp;
  const int64_t column_tiles = (step.inputs + columns<T> - 1) / columns<T>;
  const int64_t direction_tiles = (step.directions + directions - 1) / directions;
  int64_t block = blockIdx.x;
  const int64_t first_column = block % column_tiles * columns<T>;
  block /= column_tiles;
  const int64_t first_direction = block % direction_tiles * directions;
  const int64_t mode = block / direction_tiles * warps + own;
  const bool wanted =
      mode < step.modes && (step.wanted.flags == nullptr || step.wanted.flags[mode] != 0);
  if (__syncthreads_count(wanted) == 0) return;

  T* const weights = shared_memory<T>();  // [rows, columns]
  T* const coefficients =                 // [rows, directions] of this warp
      weights + rows * columns<T> + own * rows * padded<T, directions>;
  T sums[directions][vectors][lanes] = {};
  for (int64_t first = 0; first < step.outputs; first += rows) {
    __syncthreads();  // the rows before are not needed any more
    for (int at = static_cast<int>(threadIdx.x) * lanes; at < rows * columns<T>;
         at += threads * lanes) {
      const int64_t row = first + at / columns<T>, column = first_column + at % columns<T>;
      const T* const from = step.weight + row * step.inputs + column;
      Vector<T> part;
      if (weight_vectors && row < step.outputs && column + lanes <= step.inputs) {
        part = *reinterpret_cast<const Vector<T>*>(from);
      } else {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
          part.at[i] = row < step.outputs && column + i < step.inputs ? from[i] : T(0);
        }
      }
      *reinterpret_cast<Vector<T>*>(weights + at) = part;
    }
    unsigned bits = 0;
    if (wanted) {
      const int64_t left = step.outputs - first;
      bits = left < rows ? (1u << left) - 1 : all_lanes;
      if (step.word >= 0) {
        const uint64_t word = step.patterns[mode * step.words + step.word + first / 64];
        bits &= static_cast<unsigned>(word >> (first % 64));
      }
      if (lane < left) {
#pragma unroll
        for (int d = 0; d < directions; ++d) {
          const int64_t direction = first_direction + d;
          coefficients[lane * padded<T, directions> + d] =
              direction < step.directions
                  ? static_cast<T>(step.from[mode * step.from_stride + direction * step.outputs +
                                             first + lane])
                  : T(0);
        }
      }
    }
    __syncthreads();
    for (; bits != 0; bits &= bits - 1) {
      const int unit = __ffs(bits) - 1;
      T some[padded<T, directions>];
#pragma unroll
      for (int d = 0; d < padded<T, directions>; d += lanes) {
        const auto part =
            *reinterpret_cast<const Vector<T>*>(coefficients + unit * padded<T, directions> + d);
#pragma unroll
        for (int i = 0; i < lanes; ++i) some[d + i] = part.at[i];
      }
#pragma unroll
      for (int v = 0; v < vectors; ++v) {
        const auto weight = *reinterpret_cast<const Vector<T>*>(weights + unit * columns<T> +
                                                                (v * warp + lane) * lanes);
#pragma unroll
        for (int d = 0; d < directions; ++d) {
#pragma unroll
          for (int i = 0; i < lanes; ++i) {
            sums[d][v][i] = fused(some[d], weight.at[i], sums[d][v][i]);
          }
        }
      }
    }
  }
  if (!wanted) return;
#pragma unroll
  for (int d = 0; d < directions; ++d) {
    const int64_t direction = first_direction + d;
    if (direction >= step.directions) break;
    T* const to = step.to + (mode * step.directions + direction) * step.inputs;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
#pragma unroll
      for (int i = 0; i < lanes; ++i) {
        const int64_t column = first_column + (v * warp + lane) * lanes + i;
        if (column < step.inputs) to[column] = sums[d][v][i];
      }
    }
  }
}

template <class From, class T, int directions>
void run(const StepBack<From, T>& step, const Device& device) {
  const int64_t blocks = divide_up(step.modes, warps) * divide_up(step.inputs, columns<T>) *
                         divide_up(step.directions, directions);
  const bool weight_vectors = aligned(step.weight) && step.inputs % Vector<T>::lanes == 0;
  launch(step_back_kernel<From, T, directions>, blocks, threads, shared_bytes<T, directions>,
         device.stream, step, weight_vectors);
}

// What lies between two steps back, for some modes at a time.
constexpr int64_t between_steps = int64_t{1} << 27;  // bytes

}  // namespace

template <class From, class T>
void step_back(const StepBack<From, T>& step, const Device& device) {
  if (step.modes * step.directions * step.inputs == 0) return;
  constexpr int64_t most = 8;
  const int64_t tiles = divide_up(step.directions, most);
  switch (divide_up(step.directions, tiles)) {  // as even as can be
    case 1:
      return run<From, T, 1>(step, device);
    case 2:
      return run<From, T, 2>(step, device);
    case 3:
      return run<From, T, 3>(step, device);
    case 4:
      return run<From, T, 4>(step, device);
    case 5:
      return run<From, T, 5>(step, device);
    case 6:
      return run<From, T, 6>(step, device);
    case 7:
      return run<From, T, 7>(step, device);
    default:
      return run<From, T, 8>(step, device);
  }
}

template <class T>
int64_t Chain<T>::word_of(size_t l) const {
  int64_t words = 0;
  for (size_t before = 0; before < l; ++before) words += words_of(layers[before].outputs);
  return words;
}

template <class T>
void jacobian(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, T* out, Wanted wanted,
              const Device& device) {
  if (modes * chain.count == 0) return;
  const auto& layers = chain.layers;
  const int64_t words = chain.words();
  const auto step_of = [&](size_t l) {
    StepBack<T, T> step{};
    step.weight = layers[l].weight;
    step.outputs = layers[l].outputs;
    step.inputs = layers[l].inputs;
    step.words = words;
    step.word = chain.output && l + 1 == layers.size() ? -1 : chain.word_of(l);
    step.directions = chain.count;
    step.wanted = wanted;
    return step;
  };

  size_t steps = layers.size() - chain.first_layer;
  const T* start = chain.directions;
  if (chain.output && steps > 1) {
    // The step through W^L has no ReLU, so it is the same in every mode and is made once.
    StepBack<T, T> step = step_of(layers.size() - 1);
    T* const shared = device.memory.array<T>(chain.count * step.inputs);
    step.from = start;
    step.modes = 1;
    step.to = shared;
    step.wanted = {};
    step_back(step, device);
    start = shared;
    --steps;
  }
  int64_t widest = 0;  // between two steps
  for (size_t l = chain.first_layer + 1; l < chain.first_layer + steps; ++l) {
    widest = std::max(widest, layers[l].inputs);
  }
  const int64_t mode_bytes = 2 * chain.count * widest * static_cast<int64_t>(sizeof(T));
  const int64_t at_once =
      mode_bytes == 0 ? modes : std::clamp(between_steps / mode_bytes, int64_t{1}, modes);
  T* between[2] = {nullptr, nullptr};  // by turns
  for (size_t i = 0; i < 2 && i + 1 < steps; ++i) {
    between[i] = device.memory.array<T>(at_once * chain.count * widest);
  }
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const T* from = start;
    int64_t from_stride = 0;
    for (size_t l = chain.first_layer + steps, turn = 0; l-- > chain.first_layer; turn ^= 1) {
      StepBack<T, T> step = step_of(l);
      step.from = from;
      step.from_stride = from_stride;
      step.patterns = patterns + mode * words;
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
  jacobian(Chain<T>{layers, 0, output, directions, count}, patterns, modes, out, Wanted{}, device);
}

template void step_back(const StepBack<float, double>&, const Device&);
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
