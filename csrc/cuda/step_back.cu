// The backward chain on a GPU. Some lanes of a warp take one mode and walk over the units that are
// on, each lane for some columns and several directions at once. The warps of a block walk over the
// same rows of weights at about the same time, which they find in the first cache. Each entry is a
// chain of fma in ascending order of the units, as on the CPU.
#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int warps = 8;  // in a block
constexpr int threads = warps * warp;
constexpr int vectors = 2;           // of columns, in a lane
constexpr int most_directions = 10;  // at once
constexpr int most_row_bits = 5;     // 32 rows in a stage

template <class T>
constexpr int own_columns = vectors * Vector<T>::lanes;  // of a lane

template <class T, int directions>
constexpr int padded = (directions + Vector<T>::lanes - 1) / Vector<T>::lanes * Vector<T>::lanes;

// Column tiles of the same width, and how warps work on them.
struct Part {
  int64_t first_column;
  int64_t tiles;
  int lanes;           // for a mode in a warp
  int modes;           // of a warp
  int rows, row_bits;  // of coefficients in a stage: 2^row_bits
  int64_t blocks;

  template <class T>
  GRADSPLINTER_HOST_DEVICE int columns() const {  // in a tile
    return lanes * own_columns<T>;
  }
  template <class T, int directions>
  size_t bytes() const {  // for a warp
    return sizeof(T) * static_cast<size_t>(2 * modes * rows * padded<T, directions>);
  }
};

// So many directions at a time.
template <class From, class T, int directions, bool in_vectors>
__global__ void __launch_bounds__(threads, 512 / threads)
    step_back_kernel(StepBack<From, T> step, Part full, Part rest) {
  constexpr int lanes = Vector<T>::lanes, stride = padded<T, directions>;
  const int own_warp = static_cast<int>(threadIdx.x) / warp;
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const bool is_rest = blockIdx.x < rest.blocks;
  const Part part = is_rest ? rest : full;
  int64_t block = blockIdx.x - (is_rest ? 0 : rest.blocks);
  const int64_t first_column = part.first_column + block % part.tiles * part.columns<T>();
  block /= part.tiles;
  const int64_t direction_tiles = (step.directions + directions - 1) / directions;
  const int64_t first_direction = block % direction_tiles * directions;
  block /= direction_tiles;

  const int own = lane / part.lanes, own_lane = lane % part.lanes;  // mode of the warp, place in it
  const int64_t first_mode = (block * warps + own_warp) * part.modes, mode = first_mode + own;
  const bool wanted = own < part.modes && mode < step.modes &&
                      (step.wanted.flags == nullptr || step.wanted.flags[mode] != 0);
  if (__ballot_sync(all_lanes, wanted) == 0) return;

  const auto outputs = static_cast<int>(step.outputs);
  const int chunks = (outputs + part.rows - 1) / part.rows;
  const int size = part.modes * part.rows * stride;
  // [2, modes, rows, directions] of this warp.
  T* const coefficients = shared_memory<T>() + own_warp * 2 * size;
  const auto directions_left =
      static_cast<int>(min(step.directions - first_direction, int64_t{directions}));
  const auto copy_coefficient = [](T* to, const From* from) {
    if constexpr (std::is_same_v<From, T>) {
      copy_ahead<sizeof(T)>(to, from);
    } else {
      *to = static_cast<T>(*from);
    }
  };
  const auto load_coefficients = [&](int chunk, int turn) {
#pragma unroll 1
    for (int line = lane; line < part.modes * part.rows; line += warp) {
      const int64_t its_mode = first_mode + (line >> part.row_bits);
      const int unit = chunk * part.rows + (line & (part.rows - 1));
      if (its_mode >= step.modes || unit >= outputs) continue;
      const From* from =
          step.from + its_mode * step.from_stride + first_direction * step.outputs + unit;
      T* const to = coefficients + turn * size + line * stride;
      if (directions_left == directions) {
#pragma unroll
        for (int d = 0; d < directions; ++d, from += step.outputs) copy_coefficient(to + d, from);
      } else {
#pragma unroll 1
        for (int d = 0; d < directions_left; ++d, from += step.outputs) {
          copy_coefficient(to + d, from);
        }
      }
    }
  };
  // The units of this lane's mode that are on.
  const uint64_t* const words =
      step.word < 0 ? nullptr : step.patterns + mode * step.words + step.word;
  const auto load_bits = [&](int chunk) {
    if (!wanted) return 0u;
    const int first = chunk * part.rows, left = outputs - first;
    uint64_t bits = left < warp ? (1u << left) - 1 : all_lanes;
    if (words != nullptr) bits &= words[first / 64] >> (first % 64);
    return static_cast<unsigned>(bits) & all_lanes >> (warp - part.rows);
  };
  // A column of the tile; those that are not there are read elsewhere and not written.
  const auto column_of = [&](int v, int i) {
    return in_vectors ? (v * part.lanes + own_lane) * lanes + i
                      : (v * lanes + i) * part.lanes + own_lane;
  };
  const auto left = static_cast<int>(min(step.inputs - first_column, int64_t{INT32_MAX}));
  // Weights are found by bytes from the first one in a stage, which fit in 32 bits.
  const int64_t row_bytes = step.inputs * static_cast<int64_t>(sizeof(T));
  const auto* first_weight = reinterpret_cast<const char*>(step.weight + first_column);
  uint32_t own_bytes[vectors];
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    const int column = in_vectors ? column_of(v, 0) : 0;
    own_bytes[v] = static_cast<uint32_t>(column < left ? column : 0) * sizeof(T);
  }
  struct Weights {
    Vector<T> of[vectors];
  };
  const auto load_weights = [&](int unit) {
    Weights weights;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      const auto* const row = reinterpret_cast<const T*>(
          first_weight +
          (static_cast<uint32_t>(unit) * static_cast<uint32_t>(row_bytes) + own_bytes[v]));
      if constexpr (in_vectors) {
        weights.of[v] = *reinterpret_cast<const Vector<T>*>(row);
      } else {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
          const int column = column_of(v, i);
          weights.of[v].at[i] = row[column < left ? column : 0];
        }
      }
    }
    return weights;
  };

  T sums[directions][vectors][lanes] = {};
  const auto add = [&](const T* own_coefficients, const Weights& weights) {
    T some[stride];
#pragma unroll
    for (int d = 0; d < stride; d += lanes) {
      const auto vector = *reinterpret_cast<const Vector<T>*>(own_coefficients + d);
#pragma unroll
      for (int i = 0; i < lanes; ++i) some[d + i] = vector.at[i];
    }
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
#pragma unroll
      for (int d = 0; d < directions; ++d) {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
          sums[d][v][i] = fused(some[d], weights.of[v].at[i], sums[d][v][i]);
        }
      }
    }
  };
  load_coefficients(0, 0);
  end_batch();
  unsigned bits = load_bits(0);
#pragma unroll 1
  for (int chunk = 0, turn = 0; chunk < chunks; ++chunk, turn ^= 1) {
    wait_for_batches<0>();
    __syncwarp();  // the coefficients are here, and those before are not needed any more
    unsigned next_bits = 0;
    if (chunk + 1 < chunks) {
      load_coefficients(chunk + 1, turn ^ 1);
      next_bits = load_bits(chunk + 1);
    }
    end_batch();
    const T* const own_coefficients = coefficients + turn * size + own * part.rows * stride;
    for (; bits != 0; bits &= bits - 1) {
      const int unit = __ffs(bits) - 1;
      add(own_coefficients + unit * stride, load_weights(unit));
    }
    first_weight += part.rows * row_bytes;
    bits = next_bits;
  }

  if (!wanted) return;
#pragma unroll
  for (int d = 0; d < directions; ++d) {
    if (d >= directions_left) break;
    T* const to =
        step.to + (mode * step.directions + first_direction + d) * step.inputs + first_column;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      if constexpr (in_vectors) {
        Vector<T> some;
#pragma unroll
        for (int i = 0; i < lanes; ++i) some.at[i] = sums[d][v][i];
        const int column = column_of(v, 0);
        if (column < left) *reinterpret_cast<Vector<T>*>(to + column) = some;
      } else {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
          const int column = column_of(v, i);
          if (column < left) to[column] = sums[d][v][i];
        }
      }
    }
  }
}

template <class From, class T, int directions>
void run(const StepBack<From, T>& step, const Device& device) {
  constexpr int64_t widest = warp * own_columns<T>;
  const int64_t tiles = step.inputs / widest, left = step.inputs % widest;
  const int64_t direction_tiles = divide_up(step.directions, directions);
  // Of shared memory, at most; what it leaves is the first cache, for weights.
  const size_t warp_bytes = tiles > 0 ? 6144 : 12288;
  const auto part_of = [&](int64_t first_column, int64_t count, int lanes) {
    Part part{first_column, count, lanes, warp / lanes, 1 << most_row_bits, most_row_bits, 0};
    while (part.rows > 1 &&
           (part.rows / 2 >= step.outputs || part.bytes<T, directions>() > warp_bytes ||
            part.rows * step.inputs * static_cast<int64_t>(sizeof(T)) > INT32_MAX)) {
      part.rows = 1 << --part.row_bits;
    }
    part.blocks = divide_up(step.modes, warps * part.modes) * count * direction_tiles;
    return part;
  };
  Part full{}, rest{};
  size_t bytes = 0;
  if (tiles > 0) {
    full = part_of(0, tiles, warp);
    bytes = full.bytes<T, directions>();
  }
  if (left > 0) {
    rest = part_of(tiles * widest, 1, static_cast<int>(divide_up(left, own_columns<T>)));
    bytes = std::max(bytes, rest.bytes<T, directions>());
  }
  const bool in_vectors =
      step.inputs % Vector<T>::lanes == 0 && aligned(step.weight) && aligned(step.to);
  launch(in_vectors ? step_back_kernel<From, T, directions, true>
                    : step_back_kernel<From, T, directions, false>,
         full.blocks + rest.blocks, threads, warps * bytes, device.stream, step, full, rest);
}

}  // namespace

template <class From, class T>
void step_back(const StepBack<From, T>& step, const Device& device) {
  if (step.modes * step.directions * step.inputs == 0) return;
  const int64_t tiles = divide_up(step.directions, most_directions);
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
    case 8:
      return run<From, T, 8>(step, device);
    case 9:
      return run<From, T, 9>(step, device);
    default:
      return run<From, T, 10>(step, device);
  }
}

template void step_back(const StepBack<float, float>&, const Device&);
template void step_back(const StepBack<double, double>&, const Device&);
template void step_back(const StepBack<float, double>&, const Device&);

}  // namespace gradsplinter::cuda
