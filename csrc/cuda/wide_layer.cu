// Wide networks: layer by layer, a tiled matrix product with bias, ReLU and the packing of bits at
// its end.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/forward.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int side = 16;  // threads along either side of a tile
constexpr int tile_threads = side * side;
constexpr int chunk = 8;  // of inputs, in shared memory at a time

// A thread computes two vectors of units for two vectors of examples, half a tile apart.
template <class T>
constexpr int tile_size = 2 * side * Vector<T>::lanes;

template <class T>
struct WideLayer {
  const T* from;  // [n, from_stride]
  int64_t from_stride;
  int64_t n;
  const T* weight;  // [outputs, inputs]
  const T* bias;
  int64_t inputs, outputs;
  uint64_t* signature;  // at the site's first word, or null
  int64_t words;
  T* to;  // [n, to_stride], or null
  int64_t to_stride;
  bool relu;                          // else the network's outputs
  bool from_vectors, weight_vectors;  // whether they can be loaded as vectors
};

// Rows of a matrix [rows, stride] with `inputs` columns -> shared memory [chunk, tile], a part of
// each row at a time.
template <class T>
struct TileLoader {
  static constexpr int lanes = Vector<T>::lanes;
  static constexpr int size = tile_size<T>;
  static constexpr int stride = size + lanes;  // shared memory is banked
  static constexpr int per_row = chunk / lanes;
  static constexpr int loads = size * per_row / tile_threads;

  const T* rows;
  int64_t row_stride, count, inputs;
  bool vectors;
  Vector<T> held[loads];

  __device__ void load(int64_t k) {
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * tile_threads;
      const int row = at / per_row;
      const int64_t begin = k + at % per_row * lanes;
      const T* const from = rows + row * row_stride + begin;
      if (vectors && row < count && begin + lanes <= inputs) {
        held[i] = *reinterpret_cast<const Vector<T>*>(from);
        continue;
      }
#pragma unroll
      for (int lane = 0; lane < lanes; ++lane) {
        held[i].at[lane] = row < count && begin + lane < inputs ? from[lane] : T(0);
      }
    }
  }
  __device__ void store(T* to) const {
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * tile_threads;
#pragma unroll
      for (int lane = 0; lane < lanes; ++lane) {
        to[(at % per_row * lanes + lane) * stride + at / per_row] = held[i].at[lane];
      }
    }
  }
};

template <class T>
constexpr size_t tile_bytes = sizeof(T) * 4 * chunk * TileLoader<T>::stride;

template <class T>
__global__ void __launch_bounds__(tile_threads, 2) wide_layer(WideLayer<T> layer) {
  constexpr int lanes = Vector<T>::lanes, size = tile_size<T>, own = 2 * lanes;
  constexpr int stride = TileLoader<T>::stride;
  const int64_t unit_tiles = (layer.outputs + size - 1) / size;
  const int64_t first_row = int64_t{blockIdx.x} / unit_tiles * size;
  const int64_t first_unit = int64_t{blockIdx.x} % unit_tiles * size;
  const int tx = static_cast<int>(threadIdx.x) % side, ty = static_cast<int>(threadIdx.x) / side;
  // Of this thread's i-th example or unit in the tile.
  const auto place = [](int t, int i) { return i / lanes * (size / 2) + t * lanes + i % lanes; };

  T* const shared = shared_memory<T>();
  T *examples = shared, *units = shared + 2 * chunk * stride;  // two stages of each
  TileLoader<T> example_loader{layer.from + first_row * layer.from_stride,
                               layer.from_stride,
                               layer.n - first_row,
                               layer.inputs,
                               layer.from_vectors,
                               {}};
  TileLoader<T> unit_loader{layer.weight + first_unit * layer.inputs,
                            layer.inputs,
                            layer.outputs - first_unit,
                            layer.inputs,
                            layer.weight_vectors,
                            {}};

  T z[own][own];
#pragma unroll
  for (int j = 0; j < own; ++j) {
    const int64_t unit = first_unit + place(tx, j);
    const T bias = unit < layer.outputs ? layer.bias[unit] : T(0);
#pragma unroll
    for (int i = 0; i < own; ++i) z[i][j] = bias;
  }
  example_loader.load(0);
  unit_loader.load(0);
  example_loader.store(examples);
  unit_loader.store(units);
  __syncthreads();
  for (int64_t k = 0, other = chunk * stride; k < layer.inputs; k += chunk, other = -other) {
    const bool more = k + chunk < layer.inputs;
    if (more) {
      example_loader.load(k + chunk);
      unit_loader.load(k + chunk);
    }
    const auto step = [&](int i) {
      Vector<T> a[2], w[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        a[half] = *reinterpret_cast<const Vector<T>*>(examples + i * stride + half * (size / 2) +
                                                      ty * lanes);
        w[half] = *reinterpret_cast<const Vector<T>*>(units + i * stride + half * (size / 2) +
                                                      tx * lanes);
      }
#pragma unroll
      for (int r = 0; r < own; ++r) {
#pragma unroll
        for (int c = 0; c < own; ++c) {
          z[r][c] = fused(a[r / lanes].at[r % lanes], w[c / lanes].at[c % lanes], z[r][c]);
        }
      }
    };
    if (k + chunk <= layer.inputs) {
#pragma unroll
      for (int i = 0; i < chunk; ++i) step(i);
    } else {  // no product more than there are inputs, or an output of -0 would become 0
      for (int i = 0; i < static_cast<int>(layer.inputs - k); ++i) step(i);
    }
    if (more) {
      example_loader.store(examples + other);
      unit_loader.store(units + other);
    }
    __syncthreads();
    examples += other;
    units += other;
  }

#pragma unroll
  for (int r = 0; r < own; ++r) {
    const int64_t row = first_row + place(ty, r);
    const bool exists = row < layer.n;
    if (layer.signature != nullptr) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Half a row of the tile is held by 16 lanes of a warp: 64 units of float, 32 of double.
        uint64_t bits = 0;
#pragma unroll
        for (int lane = 0; lane < lanes; ++lane) {
          bits |= uint64_t{z[r][half * lanes + lane] > T(0)} << (tx * lanes + lane);
        }
#pragma unroll
        for (int distance = 1; distance < side; distance *= 2) {
          bits |= __shfl_xor_sync(all_lanes, bits, distance);
        }
        const int64_t unit = first_unit + half * (size / 2);
        if (tx == 0 && exists && unit < words_of(layer.outputs) * 64) {
          uint64_t* const word = layer.signature + row * layer.words + unit / 64;
          if constexpr (lanes == 4) {
            *word = bits;
          } else {
            reinterpret_cast<uint32_t*>(word)[unit % 64 / 32] = static_cast<uint32_t>(bits);
          }
        }
      }
    }
    if (layer.to == nullptr || !exists) continue;
#pragma unroll
    for (int c = 0; c < own; ++c) {
      const int64_t unit = first_unit + place(tx, c);
      if (unit >= layer.outputs) continue;
      const T value = z[r][c];
      layer.to[row * layer.to_stride + unit] = !layer.relu || value > T(0) ? value : T(0);
    }
  }
}

// Examples go through the layers some at a time, so that what lies between the layers stays small.
constexpr int64_t between_layers = int64_t{1} << 27;  // bytes

}  // namespace

template <class T>
void run_wide(const Forward<T>& forward) {
  constexpr int lanes = Vector<T>::lanes, size = tile_size<T>;
  int64_t stride = 0;
  for (size_t l = 0; l + 1 < forward.depth; ++l) {
    stride = std::max(stride, divide_up(forward.layers[l].outputs, lanes) * lanes);
  }
  const auto row_bytes = static_cast<int64_t>(2 * sizeof(T)) * std::max(stride, int64_t{1});
  const int64_t rows =
      std::min(forward.n, std::max(between_layers / row_bytes / size, int64_t{1}) * size);
  T* const activations =
      stride > 0 ? forward.device.memory.template array<T>(2 * rows * stride) : nullptr;
  for (int64_t row = 0; row < forward.n; row += rows) {
    const T* from = forward.x + row * forward.layers[0].inputs;
    int64_t from_stride = forward.layers[0].inputs;
    for (size_t l = 0; l < forward.depth; ++l) {
      const Layer<T>& layer = forward.layers[l];
      const bool last = l + 1 == forward.depth, outputs = last && forward.y != nullptr;
      WideLayer<T> wide{};
      wide.from = from;
      wide.from_stride = from_stride;
      wide.n = std::min(rows, forward.n - row);
      wide.weight = layer.weight;
      wide.bias = layer.bias;
      wide.inputs = layer.inputs;
      wide.outputs = layer.outputs;
      wide.words = forward.words;
      if (forward.word[l] >= 0) {
        wide.signature = forward.signature + row * forward.words + forward.word[l];
      }
      wide.to = outputs ? forward.y + row * layer.outputs
                : last  ? nullptr
                        : activations + static_cast<int64_t>(l % 2) * rows * stride;
      wide.to_stride = outputs ? layer.outputs : stride;
      wide.relu = !outputs;
      wide.from_vectors = aligned(from) && from_stride % lanes == 0;
      wide.weight_vectors = aligned(layer.weight) && layer.inputs % lanes == 0;
      launch(wide_layer<T>, divide_up(wide.n, size) * divide_up(layer.outputs, size), tile_threads,
             tile_bytes<T>, forward.device.stream, wide);
      from = wide.to;
      from_stride = stride;
    }
  }
}

template void run_wide(const Forward<float>&);
template void run_wide(const Forward<double>&);

}  // namespace gradsplinter::cuda
