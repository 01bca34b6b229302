// Wide networks: layer by layer, a tiled matrix product with bias, ReLU and the packing of bits at
// its end.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/forward.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int own_units = 8;  // of a thread: a byte of a signature

// What a block computes, some warps along either side of it. A thread has two vectors of examples,
// half its warp's apart, and eight units in a row.
template <class T, int example_warps, int unit_warps_, int chunk_vectors, int blocks_>
struct WideTile {
  static constexpr int lanes = Vector<T>::lanes, vectors = 2;
  static constexpr int example_lanes = 8, unit_lanes = 4;  // of a warp
  static constexpr int own_examples = vectors * lanes, apart = example_lanes * lanes;
  static constexpr int unit_warps = unit_warps_;
  static constexpr int warp_examples = example_lanes * own_examples;
  static constexpr int warp_units = unit_lanes * own_units;
  static constexpr int examples = example_warps * warp_examples;
  static constexpr int units = unit_warps * warp_units;
  static_assert(units % 64 == 0);  // whole words
  static constexpr int threads = example_warps * unit_warps * warp;
  static constexpr int blocks = blocks_;               // at least, on a multiprocessor
  static constexpr int chunk = chunk_vectors * lanes;  // of inputs, in shared memory at a time
  // In shared memory [chunk, stride]: it is banked.
  static constexpr int example_stride = examples + lanes, unit_stride = units + lanes;
  static constexpr int stage = chunk * (example_stride + unit_stride);
  static constexpr size_t bytes = sizeof(T) * 2 * stage;

  // Where a unit's weights lie among those of an input, so that lanes load neighbouring vectors.
  __device__ static int place(int unit) {
    const int vector = unit % own_units / lanes, unit_lane = unit % warp_units / own_units;
    return unit / warp_units * warp_units + (vector * unit_lanes + unit_lane) * lanes +
           unit % lanes;
  }
};

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

// Rows of a matrix [count, row_stride] with `width` columns -> shared memory [chunk, stride], a
// part of each row at a time. Of what is not there anything may come: it is not used.
template <class T, class Tile, int size, int stride>
struct TileLoader {
  static constexpr int lanes = Vector<T>::lanes, per_row = Tile::chunk / lanes;
  static constexpr int step = Tile::threads / per_row, loads = size / step;
  static_assert(size % step == 0);

  const T* from;  // this thread's first vector; the next one is `step` rows below
  int64_t step_stride;
  int rows;  // from there on
  int64_t columns;
  bool whole;  // whether vectors can be loaded as such
  int places[loads];
  Vector<T> held[loads] = {};

  template <class Place>
  __device__ TileLoader(const T* matrix, int64_t row_stride, int64_t count, int64_t width,
                        bool vectors, const Place& place)
      : step_stride(step * row_stride), whole(vectors) {
    const int row = static_cast<int>(threadIdx.x) / per_row;
    const int column = static_cast<int>(threadIdx.x) % per_row * lanes;
    from = matrix + row * row_stride + column;
    rows = static_cast<int>(min(count, int64_t{size})) - row;
    columns = width - column;
#pragma unroll
    for (int i = 0; i < loads; ++i) places[i] = column * stride + place(row + i * step);
  }
  __device__ void load(int64_t k) {
    const int left = static_cast<int>(min(columns - k, int64_t{lanes}));
    const T* at = from + k;
#pragma unroll
    for (int i = 0; i < loads; ++i, at += step_stride) {
      if (i * step >= rows) continue;
      if (whole) {
        if (left > 0) held[i] = *reinterpret_cast<const Vector<T>*>(at);
        continue;
      }
#pragma unroll
      for (int lane = 0; lane < lanes; ++lane) {
        if (lane < left) held[i].at[lane] = at[lane];
      }
    }
  }
  __device__ void store(T* to) const {
#pragma unroll
    for (int i = 0; i < loads; ++i) {
#pragma unroll
      for (int lane = 0; lane < lanes; ++lane) to[places[i] + lane * stride] = held[i].at[lane];
    }
  }
};

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks) wide_layer(WideLayer<T> layer) {
  constexpr int lanes = Tile::lanes, chunk = Tile::chunk, own_examples = Tile::own_examples;
  const int64_t unit_tiles = (layer.outputs + Tile::units - 1) / Tile::units;
  const int64_t first_row = int64_t{blockIdx.x} / unit_tiles * Tile::examples;
  const int64_t first_unit = int64_t{blockIdx.x} % unit_tiles * Tile::units;
  const int own_warp = static_cast<int>(threadIdx.x) / warp;
  const int lane = static_cast<int>(threadIdx.x) % warp;
  // Pairs of lanes have the same examples, which is faster than rows or columns of lanes.
  const int example_lane = lane % 16 / 2, unit_lane = lane / 16 * 2 + lane % 2;
  const int own_row = own_warp / Tile::unit_warps * Tile::warp_examples + example_lane * lanes;
  const int warp_unit = own_warp % Tile::unit_warps * Tile::warp_units;
  const int64_t own_unit = first_unit + warp_unit + unit_lane * own_units;

  TileLoader<T, Tile, Tile::examples, Tile::example_stride> example_loader(
      layer.from + first_row * layer.from_stride, layer.from_stride, layer.n - first_row,
      layer.inputs, layer.from_vectors, [](int row) { return row; });
  TileLoader<T, Tile, Tile::units, Tile::unit_stride> unit_loader(
      layer.weight + first_unit * layer.inputs, layer.inputs, layer.outputs - first_unit,
      layer.inputs, layer.weight_vectors, Tile::place);
  T z[own_examples][own_units];
#pragma unroll
  for (int u = 0; u < own_units; ++u) {
    const int64_t unit = own_unit + u;  // one that is not there is off
    const T bias = unit < layer.outputs ? layer.bias[unit] : static_cast<T>(-INFINITY);
#pragma unroll
    for (int e = 0; e < own_examples; ++e) z[e][u] = bias;
  }
  T* stage = shared_memory<T>();  // one of two
  const auto store = [&](T* to) {
    example_loader.store(to);
    unit_loader.store(to + chunk * Tile::example_stride);
  };
  example_loader.load(0);
  unit_loader.load(0);
  store(stage);
  __syncthreads();

  struct Parts {
    Vector<T> examples[Tile::vectors], units[own_units / lanes];
  };
  for (int64_t k = 0, other = Tile::stage; k < layer.inputs; k += chunk, other = -other) {
    const bool more = k + chunk < layer.inputs;
    if (more) {
      example_loader.load(k + chunk);
      unit_loader.load(k + chunk);
    }
    const auto fetch = [&](int i, Parts& parts) {
      const T* const examples = stage + i * Tile::example_stride + own_row;
      const T* const units = stage + chunk * Tile::example_stride + i * Tile::unit_stride +
                             warp_unit + unit_lane * lanes;
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v) {
        parts.examples[v] = *reinterpret_cast<const Vector<T>*>(examples + v * Tile::apart);
      }
#pragma unroll
      for (int v = 0; v < own_units / lanes; ++v) {
        parts.units[v] = *reinterpret_cast<const Vector<T>*>(units + v * Tile::unit_lanes * lanes);
      }
    };
    const auto step = [&](const Parts& parts) {
#pragma unroll
      for (int e = 0; e < own_examples; ++e) {
#pragma unroll
        for (int i = 0; i < own_units; ++i) {
          // There and back, so that each product has a factor of the one before in its registers:
          // three others would take two clocks to read.
          const int u = e % 2 == 0 ? i : own_units - 1 - i;
          z[e][u] = fused(parts.examples[e / lanes].at[e % lanes],
                          parts.units[u / lanes].at[u % lanes], z[e][u]);
        }
      }
    };
    Parts parts[2];
    if (k + chunk <= layer.inputs) {
      fetch(0, parts[0]);
#pragma unroll
      for (int i = 0; i < chunk; ++i) {
        if (i + 1 < chunk) fetch(i + 1, parts[(i + 1) % 2]);
        step(parts[i % 2]);
      }
    } else {  // no product more than there are inputs, or an output of -0 would become 0
#pragma unroll 1
      for (int i = 0; i < static_cast<int>(layer.inputs - k); ++i) {
        fetch(i, parts[0]);
        step(parts[0]);
      }
    }
    if (more) store(stage + other);
    __syncthreads();
    stage += other;
  }

  const bool has_bits = layer.signature != nullptr && own_unit < words_of(layer.outputs) * 64;
#pragma unroll
  for (int e = 0; e < own_examples; ++e) {
    const int64_t row = first_row + own_row + e / lanes * Tile::apart + e % lanes;
    if (row >= layer.n) continue;
    if (layer.relu) {
      uint32_t byte = 0;
#pragma unroll
      for (int u = own_units - 1; u >= 0; --u) {
        z[e][u] = relu(z[e][u]);
        byte = byte << 1 | is_positive(z[e][u]);
      }
      if (has_bits) {
        reinterpret_cast<unsigned char*>(layer.signature + row * layer.words)[own_unit / 8] =
            static_cast<unsigned char>(byte);
      }
    }
    if (layer.to == nullptr) continue;
    T* const to = layer.to + row * layer.to_stride + own_unit;
#pragma unroll
    for (int u = 0; u < own_units; ++u) {
      if (own_unit + u >= layer.outputs) break;
      if (!layer.relu) {
        to[u] = z[e][u];
      } else if (u % lanes == 0) {  // in whole vectors
        Vector<T> part;
#pragma unroll
        for (int lane = 0; lane < lanes; ++lane) part.at[lane] = z[e][u + lane];
        *reinterpret_cast<Vector<T>*>(to + u) = part;
      }
    }
  }
}

template <class T, class Tile>
void run_layer(const WideLayer<T>& layer, void* stream) {
  const int64_t tiles = divide_up(layer.n, Tile::examples) * divide_up(layer.outputs, Tile::units);
  launch(wide_layer<T, Tile>, tiles, Tile::threads, Tile::bytes, stream, layer);
}

template <class T>
using Narrow = WideTile<T, 2, 2, 4, 3>;
template <class T>  // its loads would not come out even in float64
using Broad = std::conditional_t<sizeof(T) == 4, WideTile<T, 2, 4, 2, 2>, Narrow<T>>;
constexpr int64_t broad_from = 512;  // units, by measurement

// Examples go through the layers some at a time, so that what lies between the layers stays small:
// as many as keep all multiprocessors busy some times over, without a rest.
constexpr int64_t between_layers = int64_t{1} << 27;  // bytes

template <class T, class Tile>
int64_t rows_at_a_time(const Forward<T>& forward, int64_t widest) {
  const auto row_bytes = static_cast<int64_t>(2 * sizeof(T)) * widest;
  const int64_t row_tiles = std::max(between_layers / row_bytes / Tile::examples, int64_t{1});
  const int64_t unit_tiles = divide_up(widest, Tile::units);
  const int64_t at_once =
      int64_t{resident_blocks(wide_layer<T, Tile>, Tile::threads, Tile::bytes)} *
      multiprocessors(forward.device.index);
  const int64_t times = row_tiles * unit_tiles / at_once;
  return std::max(times > 0 ? times * at_once / unit_tiles : row_tiles, int64_t{1}) *
         Tile::examples;
}

}  // namespace

template <class T>
void run_wide(const Forward<T>& forward) {
  constexpr int lanes = Vector<T>::lanes;
  int64_t widest = 1, stride = 0;
  for (size_t l = 0; l < forward.depth; ++l) {
    widest = std::max(widest, forward.layers[l].outputs);
    if (l + 1 < forward.depth) {
      stride = std::max(stride, divide_up(forward.layers[l].outputs, lanes) * lanes);
    }
  }
  const int64_t rows =
      std::min(forward.n, widest < broad_from ? rows_at_a_time<T, Narrow<T>>(forward, widest)
                                              : rows_at_a_time<T, Broad<T>>(forward, widest));
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
      if (layer.outputs < broad_from) {
        run_layer<T, Narrow<T>>(wide, forward.device.stream);
      } else {
        run_layer<T, Broad<T>>(wide, forward.device.stream);
      }
      from = wide.to;
      from_stride = stride;
    }
  }
}

template void run_wide(const Forward<float>&);
template void run_wide(const Forward<double>&);

}  // namespace gradsplinter::cuda
