// Small networks: a warp takes its own examples through all layers. Activations lie in shared
// memory as [unit, example], weights as [input, unit]; a thread computes eight units of some
// examples.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/forward.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int most_layers = 32;
constexpr int most_warps = 8;  // in a block, which share the weights
constexpr int least_warps = 4;
constexpr int blocks = 2;     // at least, on a multiprocessor that has so much memory
constexpr int own_units = 8;  // of a thread: a byte of a signature
constexpr int unroll = 8;     // inputs; an even number

// A matrix in global memory [examples, width] <-> [width, stride] in shared memory, by a warp: how
// its lanes stand over it, some vectors or numbers to a row, a power of two or more than there are.
struct Entries {
  int width, step, shift;

  Entries() = default;
  Entries(int64_t row, int together) : width(static_cast<int>(row)), step(together), shift(0) {
    while (step << shift < width) ++shift;
  }
  // move(at, unit, example), at = example * width + unit
  template <class Move>
  __device__ void each(int examples, int lane, const Move& move) const {
#pragma unroll 2
    for (int i = lane; i < examples << shift; i += warp) {
      const int example = i >> shift, unit = (i - (example << shift)) * step;
      if (unit < width) move(example * width + unit, unit, example);
    }
  }
};

template <class T>
struct SmallNetwork {
  int depth;
  int words;  // in a signature
  int warps;  // in a block
  Entries x, y;
  struct {
    const T* weight;  // [outputs, inputs]
    const T* bias;
    int inputs, outputs;
    int word;    // where the site's word is in a signature; -1: not asked for
    int offset;  // of the layer in shared memory: W transposed [inputs, units], then b [units]
  } layers[most_layers];
};

// The layers of a warp: a tile of units and examples. Its lanes stand `unit_lanes` along the units.
template <class T, int unit_lanes_>
struct SmallTile {
  static constexpr int lanes = Vector<T>::lanes;
  static constexpr int unit_lanes = unit_lanes_, example_lanes = warp / unit_lanes;
  static constexpr int vectors = 2;  // of examples of a thread, as far apart as its warp is wide
  static constexpr int own_examples = vectors * lanes, apart = example_lanes * lanes;
  static constexpr int units = unit_lanes * own_units;
  static constexpr int examples = example_lanes * own_examples;
  static constexpr int stride = examples + lanes;           // shared memory is banked
  static constexpr int activations = (units + 1) * stride;  // one input is loaded too many
  static constexpr size_t bytes = activations * sizeof(T) + examples * sizeof(uint64_t);

  // Where a unit's weights lie among those of an input, so that lanes load neighbouring vectors.
  __device__ static int place(int unit) {
    const int vector = unit % own_units / lanes;
    return (vector * unit_lanes + unit / own_units) * lanes + unit % lanes;
  }
};

template <class T, class Tile>
__global__ void __launch_bounds__(most_warps* warp, blocks)
    small_network(SmallNetwork<T> net, int weights_size, const T* x, int64_t n, uint64_t* signature,
                  T* y) {
  constexpr int lanes = Tile::lanes, units = Tile::units, stride = Tile::stride;
  constexpr int own_examples = Tile::own_examples, apart = Tile::apart;
  T* const weights = shared_memory<T>();
  for (int l = 0; l < net.depth; ++l) {
    const auto& layer = net.layers[l];
    const int size = units * (layer.inputs + 1);
    for (int i = static_cast<int>(threadIdx.x); i < size; i += net.warps * warp) {
      const int k = i / units, unit = i % units;
      T value = 0;
      if (unit < layer.outputs) {
        value = k < layer.inputs ? layer.weight[unit * layer.inputs + k] : layer.bias[unit];
      }
      weights[layer.offset + k * units + Tile::place(unit)] = value;
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const int own_warp = static_cast<int>(threadIdx.x) / warp;
  const int unit_lane = lane / Tile::example_lanes, example_lane = lane % Tile::example_lanes;
  // Bits of the tile's examples: a word each. Bytes of units that are not there stay zero.
  auto* const all_bits = reinterpret_cast<uint64_t*>(weights + weights_size);
  uint64_t* const bits = all_bits + own_warp * Tile::examples;
  T* const activations =
      reinterpret_cast<T*>(all_bits + net.warps * Tile::examples) + own_warp * Tile::activations;
  for (int i = lane; i < Tile::examples; i += warp) bits[i] = 0;
  __syncthreads();

  const int inputs = net.layers[0].inputs;
  for (int64_t first = (int64_t{blockIdx.x} * net.warps + own_warp) * Tile::examples; first < n;
       first += int64_t{gridDim.x} * net.warps * Tile::examples) {
    const int count = static_cast<int>(min(n - first, int64_t{Tile::examples}));
    const T* const rows = x + first * inputs;
    if (net.x.step == lanes) {
      net.x.each(count, lane, [&](int at, int unit, int example) {
        const auto values = *reinterpret_cast<const Vector<T>*>(rows + at);
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
          activations[(unit + i) * stride + example] = values.at[i];
        }
      });
    } else {
      net.x.each(count, lane, [&](int at, int unit, int example) {
        activations[unit * stride + example] = rows[at];
      });
    }
    __syncwarp();
    for (int l = 0; l < net.depth; ++l) {
      const auto& layer = net.layers[l];
      const T* const w = weights + layer.offset + unit_lane * lanes;
      const T* const a = activations + example_lane * lanes;
      T z[own_examples][own_units];
      struct Parts {
        Vector<T> examples[Tile::vectors], units[own_units / lanes];
      };
      const auto load = [&](int k, Parts& parts) {
#pragma unroll
        for (int h = 0; h < Tile::vectors; ++h) {
          parts.examples[h] = *reinterpret_cast<const Vector<T>*>(a + k * stride + h * apart);
        }
#pragma unroll
        for (int v = 0; v < own_units / lanes; ++v) {
          parts.units[v] =
              *reinterpret_cast<const Vector<T>*>(w + k * units + v * Tile::unit_lanes * lanes);
        }
      };
      const auto step = [&](const Parts& parts, const auto& addend) {
#pragma unroll
        for (int e = 0; e < own_examples; ++e) {
#pragma unroll
          for (int i = 0; i < own_units; ++i) {
            const int u = e % 2 == 0 ? i : own_units - 1 - i;
            z[e][u] = fused(parts.examples[e / lanes].at[e % lanes],
                            parts.units[u / lanes].at[u % lanes], addend(e, u));
          }
        }
      };
      // What is loaded for the step after the last is not used.
      Parts parts[2];
      const auto sum = [&](int e, int u) { return z[e][u]; };
      {
        Vector<T> bias[own_units / lanes];
#pragma unroll
        for (int v = 0; v < own_units / lanes; ++v) {
          bias[v] = *reinterpret_cast<const Vector<T>*>(w + layer.inputs * units +
                                                        v * Tile::unit_lanes * lanes);
        }
        load(0, parts[0]);
        load(1, parts[1]);
        step(parts[0], [&](int, int u) { return bias[u / lanes].at[u % lanes]; });
      }
      // No product more than there are inputs, or an output of -0 would become 0.
      int k = 1;
#pragma unroll 1
      for (; k + unroll <= layer.inputs; k += unroll) {
#pragma unroll
        for (int i = 0; i < unroll; ++i) {
          load(k + i + 1, parts[i % 2]);
          step(parts[(i + 1) % 2], sum);
        }
      }
#pragma unroll 1
      for (; k < layer.inputs; ++k) {
        step(parts[1], sum);
        load(k + 1, parts[1]);
      }

      const bool last = l == net.depth - 1, outputs = last && y != nullptr;
      if (!outputs) {
#pragma unroll
        for (int e = 0; e < own_examples; ++e) {
          uint32_t byte = 0;
#pragma unroll
          for (int u = own_units - 1; u >= 0; --u) {
            z[e][u] = relu(z[e][u]);
            byte = byte << 1 | (is_positive(z[e][u]));
          }
          reinterpret_cast<unsigned char*>(bits + e / lanes * apart + example_lane * lanes +
                                           e % lanes)[unit_lane] = static_cast<unsigned char>(byte);
        }
      }
      __syncwarp();  // all have read the activations
      if (!last || outputs) {
#pragma unroll
        for (int u = 0; u < own_units; ++u) {
#pragma unroll
          for (int h = 0; h < Tile::vectors; ++h) {
            Vector<T> part;
#pragma unroll
            for (int i = 0; i < lanes; ++i) part.at[i] = z[h * lanes + i][u];
            *reinterpret_cast<Vector<T>*>(activations + (unit_lane * own_units + u) * stride +
                                          h * apart + example_lane * lanes) = part;
          }
        }
      }
      if (!outputs && layer.word >= 0) {
        uint64_t* const word = signature + first * net.words + layer.word;
#pragma unroll
        for (int i = lane; i < Tile::examples; i += warp) {
          if (i < count) word[int64_t{i} * net.words] = bits[i];
        }
      }
      __syncwarp();
    }
    if (y != nullptr) {
      T* const to = y + first * net.y.width;
      net.y.each(count, lane, [&](int at, int unit, int example) {
        to[at] = activations[unit * stride + example];
      });
      __syncwarp();
    }
  }
}

template <class T>
int64_t widest(const Forward<T>& forward) {
  int64_t width = forward.layers[0].inputs;
  for (size_t l = 0; l < forward.depth; ++l) width = std::max(width, forward.layers[l].outputs);
  return width;
}

// What a block takes of shared memory.
template <class T, class Tile>
size_t block_bytes(const Forward<T>& forward, int warps) {
  int64_t rows = 0;
  for (size_t l = 0; l < forward.depth; ++l) rows += forward.layers[l].inputs + 1;
  return static_cast<size_t>(rows * Tile::units) * sizeof(T) +
         static_cast<size_t>(warps) * Tile::bytes;
}

// Of a block: as many as have room; 0 if that is too few.
template <class T, class Tile>
int warps_of(const Forward<T>& forward) {
  const auto most =
      std::min(static_cast<size_t>(most_shared(forward.device.index)), most_block_bytes);
  for (int warps = most_warps; warps >= least_warps; --warps) {
    if (block_bytes<T, Tile>(forward, warps) <= most) return warps;
  }
  return 0;
}

template <class T, class Tile>
void run(const Forward<T>& forward) {
  SmallNetwork<T> net{};
  net.depth = static_cast<int>(forward.depth);
  net.words = static_cast<int>(forward.words);
  net.warps = warps_of<T, Tile>(forward);
  const int64_t inputs = forward.layers[0].inputs;
  const bool whole = aligned(forward.x) && inputs % Vector<T>::lanes == 0;
  net.x = Entries(inputs, whole ? Vector<T>::lanes : 1);
  net.y = Entries(forward.layers[forward.depth - 1].outputs, 1);
  int offset = 0;
  for (size_t l = 0; l < forward.depth; ++l) {
    const Layer<T>& layer = forward.layers[l];
    net.layers[l] = {layer.weight,
                     layer.bias,
                     static_cast<int>(layer.inputs),
                     static_cast<int>(layer.outputs),
                     static_cast<int>(forward.word[l]),
                     offset};
    offset += Tile::units * (net.layers[l].inputs + 1);
  }
  // As many blocks as run at a time: each loads the weights once.
  const auto kernel = small_network<T, Tile>;
  const int threads = net.warps * warp;
  const size_t shared = block_bytes<T, Tile>(forward, net.warps);
  const int64_t resident =
      int64_t{resident_blocks(kernel, threads, shared)} * multiprocessors(forward.device.index);
  const int64_t count = std::min(divide_up(forward.n, net.warps * Tile::examples), resident);
  launch(kernel, count, threads, shared, forward.device.stream, net, offset, forward.x, forward.n,
         forward.signature, forward.y);
}

// use(tile), of the narrowest tile that is wide enough.
template <class T, class Use>
auto with_tile(int64_t width, const Use& use) {
  if (width <= SmallTile<T, 2>::units) return use(SmallTile<T, 2>());
  if (width <= SmallTile<T, 4>::units) return use(SmallTile<T, 4>());
  return use(SmallTile<T, 8>());
}

}  // namespace

template <class T>
bool is_small(const Forward<T>& forward) {
  const int64_t width = widest(forward);
  if (forward.depth > most_layers || width > SmallTile<T, 8>::units) return false;
  return with_tile<T>(width, [&](auto tile) { return warps_of<T, decltype(tile)>(forward); }) > 0;
}

template <class T>
void run_small(const Forward<T>& forward) {
  with_tile<T>(widest(forward), [&](auto tile) { run<T, decltype(tile)>(forward); });
}

template bool is_small(const Forward<float>&);
template bool is_small(const Forward<double>&);
template void run_small(const Forward<float>&);
template void run_small(const Forward<double>&);

}  // namespace gradsplinter::cuda
