// Dot products of the gradients within a mode on a GPU: a lane computes all those of a mode, or a
// square of them, so that each gradient is turned into float64 once for many products. Each is one
// chain of fma in float64 in ascending order, as on the CPU. A warp takes 32 modes, some columns at
// a time, while the next ones are on their way to shared memory.
#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = warp;
constexpr int stages = 2;         // of columns in shared memory: in use, or on their way
constexpr int column_bytes = 64;  // of a row, in a stage
constexpr int most_rows = 10;     // of which a lane computes all products
constexpr int side = 6;           // of the square of products of a lane where there are more

// Columns in a stage: as many of both sides.
template <class Left>
constexpr int columns = column_bytes / sizeof(Left);

// Numbers from mode to mode in a stage: an odd number of vectors, so that the lanes of a warp, each
// in its own mode, read from different banks.
template <class T, class Left, int rows>
constexpr int mode_stride = (rows * columns<Left> / Vector<T>::lanes | 1) * Vector<T>::lanes;

// Rows of both sides, of which a lane computes products.
template <class Left, class Right, int rows, bool all>
struct Stage {
  static constexpr bool same = all && std::is_same_v<Left, Right>;  // the sides
  static constexpr size_t left_bytes = sizeof(Left) * warp * mode_stride<Left, Left, rows>;
  static constexpr size_t right_bytes =
      same ? 0 : sizeof(Right) * warp * mode_stride<Right, Left, rows>;
  static constexpr size_t bytes = left_bytes + right_bytes;
};
// With all products of a mode in one lane, they are gathered there to be written.
template <class Left, class Right, int rows, bool all>
constexpr size_t shared_bytes = std::max(stages * Stage<Left, Right, rows, all>::bytes,
                                         all ? sizeof(double) * warp * rows * rows : size_t{0});

// A side of the products: where it lies.
template <class T>
struct Side {
  const T* first;  // row of the first mode
  int64_t stride;  // from mode to mode
  int64_t modes, rows, width;
  bool vectors;
};

// Rows of 32 modes, the columns from `first` on, to shared memory, so many bytes at once. What is
// not there is not copied: it has no part in what is written.
template <class Left, int rows, bool all, int bytes, class T>
__device__ void load_rows(const Side<T>& side, int64_t first, T* to) {
  constexpr int count = columns<Left>, at_once = bytes / static_cast<int>(sizeof(T));
  constexpr int lanes = count / at_once, modes = warp / lanes;  // of a row; of the warp at a time
  const int lane = static_cast<int>(threadIdx.x), column = lane % lanes * at_once;
  if (first + column >= side.width) return;
#pragma unroll 1
  for (int mode = lane / lanes; mode < warp && mode < side.modes; mode += modes) {
    const T* from = side.first + mode * side.stride + first + column;
#pragma unroll
    for (int row = 0; row < rows; ++row, from += side.width) {
      if (!all && row >= side.rows) break;
      copy_ahead<bytes>(to + mode * mode_stride<T, Left, rows> + row * count + column, from);
    }
  }
}
template <class Left, int rows, bool all, class T>
__device__ void load_side(const Side<T>& side, int64_t first, T* to) {
  if (side.vectors) {
    load_rows<Left, rows, all, 16>(side, first, to);
  } else {
    load_rows<Left, rows, all, sizeof(T)>(side, first, to);
  }
}

// With `all`, of just `rows` rows, and the results are written too. Otherwise of tiles of so many
// rows, above the diagonal or on it, and only the sums are written.
template <class Left, class Right, int rows, bool all>
__global__ void __launch_bounds__(threads)
    dots_kernel(Dots<Left, Right> dots, bool left_vectors, bool right_vectors) {
  using Both = Stage<Left, Right, rows, all>;
  constexpr int count = columns<Left>, lanes = Vector<Right>::lanes;
  constexpr bool same_type = std::is_same_v<Left, Right>;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t tiles = (dots.rows + rows - 1) / rows;  // in a side
  int64_t block = blockIdx.x, first_row = 0, first_column = 0;
  if (!all) {
    first_row = block % tiles * rows;
    block /= tiles;
    first_column = block % tiles * rows;
    block /= tiles;
    if (first_column < first_row) return;
  }
  const int64_t first_mode = block * warp, mode = first_mode + lane;
  const bool wanted =
      mode < dots.modes && (dots.wanted.flags == nullptr || dots.wanted.flags[mode] != 0);
  if (__ballot_sync(all_lanes, wanted) == 0) return;

  auto* const memory = shared_memory<unsigned char>();
  const auto left_of = [&](int stage) {
    return reinterpret_cast<Left*>(memory + stage * Both::bytes);
  };
  const auto right_of = [&](int stage) {
    return reinterpret_cast<Right*>(memory + stage * Both::bytes + Both::left_bytes);
  };
  const int64_t left_stride = dots.rows * dots.width, modes = dots.modes - first_mode;
  const Side<Left> left_side{dots.left + first_mode * left_stride + first_row * dots.width,
                             left_stride,
                             modes,
                             dots.rows - first_row,
                             dots.width,
                             left_vectors};
  const Side<Right> right_side{
      dots.right + first_mode * dots.right_stride + first_column * dots.width,
      dots.right_stride,
      modes,
      dots.rows - first_column,
      dots.width,
      right_vectors};
  const auto load = [&](int64_t first, int stage) {
    if (first < dots.width) {
      load_side<Left, rows, all>(left_side, first, left_of(stage));
      if constexpr (!Both::same) load_side<Left, rows, all>(right_side, first, right_of(stage));
    }
    end_batch();
  };

  double sums[rows][rows] = {};
  for (int stage = 0; stage + 1 < stages; ++stage) load(int64_t{stage} * count, stage);
  int stage = 0;
  uint64_t word = 0;  // of this lane's pattern
  for (int64_t first = 0; first < dots.width; first += count) {
    if (dots.patterns != nullptr && wanted && first % 64 == 0) {
      word = dots.patterns[mode * dots.words + first / 64];
    }
    wait_for_batches<stages - 2>();
    __syncwarp();  // the columns are here, and those before are not needed any more
    load(first + (stages - 1) * count, (stage + stages - 1) % stages);
    const auto left_over = static_cast<int>(min(dots.width - first, int64_t{count}));
    unsigned bits = left_over < warp ? (1u << left_over) - 1 : all_lanes;
    if (dots.patterns != nullptr) bits &= static_cast<unsigned>(word >> (first % 64));
    const Left* const left = left_of(stage) + lane * mode_stride<Left, Left, rows>;
    const Right* const right = right_of(stage) + lane * mode_stride<Right, Left, rows>;
#pragma unroll 1
    for (int k = 0; k < left_over; k += lanes) {
      Vector<Right> a[rows], b[rows];
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        if constexpr (same_type) {
          a[r] = *reinterpret_cast<const Vector<Left>*>(left + r * count + k);
        }
        if constexpr (!Both::same) {
          b[r] = *reinterpret_cast<const Vector<Right>*>(right + r * count + k);
        }
      }
#pragma unroll
      for (int i = 0; i < lanes; ++i) {
        if ((bits >> (k + i) & 1) == 0) continue;
        double own[rows], other[rows];
#pragma unroll
        for (int r = 0; r < rows; ++r) {
          own[r] = static_cast<double>(same_type ? a[r].at[i] : left[r * count + k + i]);
          other[r] = Both::same ? own[r] : static_cast<double>(b[r].at[i]);
        }
#pragma unroll
        for (int r = 0; r < rows; ++r) {
#pragma unroll
          for (int c = all ? r : 0; c < rows; ++c) sums[r][c] = fused(own[r], other[c], sums[r][c]);
        }
      }
    }
    stage = (stage + 1) % stages;
  }

  if constexpr (all) {
    wait_for_batches<0>();
    __syncwarp();  // no columns are needed any more
    // [modes, rows, rows]
    auto* const found = reinterpret_cast<double*>(memory);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
#pragma unroll
      for (int c = r; c < rows; ++c) {
        found[(lane * rows + r) * rows + c] = sums[r][c];
        found[(lane * rows + c) * rows + r] = sums[r][c];
      }
    }
    __syncwarp();
    constexpr int size = rows * rows;
    for (int at = lane; at < warp * size; at += warp) {
      const int own = at / size, r = at % size / rows, c = at % rows;
      if (first_mode + own >= dots.modes) break;
      if (dots.wanted.flags != nullptr && dots.wanted.flags[first_mode + own] == 0) continue;
      const double* const of = found + own * rows * rows;
      const double dot = of[r * rows + c];
      if (dots.sums != nullptr) dots.sums[first_mode * size + at] = dot;
      dots.out[first_mode * size + at] = static_cast<Right>(
          dots.normalize ? cosine(dot, of[r * rows + r], of[c * rows + c], r == c) : dot);
    }
  } else if (wanted) {
#pragma unroll
    for (int r = 0; r < rows; ++r) {
#pragma unroll
      for (int c = 0; c < rows; ++c) {
        const int64_t row = first_row + r, column = first_column + c;
        if (row <= column && column < dots.rows) {
          dots.sums[(mode * dots.rows + row) * dots.rows + column] = sums[r][c];
        }
      }
    }
  }
}

constexpr int finish_threads = 256;

template <class Left, class Right>
__global__ void finish_kernel(Dots<Left, Right> dots) {
  const int64_t size = dots.rows * dots.rows;
  const int64_t at = int64_t{blockIdx.x} * finish_threads + threadIdx.x;
  if (at >= dots.modes * size) return;
  const int64_t mode = at / size, i = at % size / dots.rows, j = at % dots.rows;
  if (dots.wanted.flags != nullptr && dots.wanted.flags[mode] == 0) return;
  const double* const sums = dots.sums + mode * size;
  const auto sum = [&](int64_t row, int64_t column) {
    return sums[min(row, column) * dots.rows + max(row, column)];
  };
  const double dot = sum(i, j);
  dots.out[at] =
      static_cast<Right>(dots.normalize ? cosine(dot, sum(i, i), sum(j, j), i == j) : dot);
}

template <class Left, class Right, int rows, bool all>
void run(const Dots<Left, Right>& dots, const Device& device) {
  const bool whole_left = dots.width % Vector<Left>::lanes == 0 && aligned(dots.left);
  const bool whole_right = dots.width % Vector<Right>::lanes == 0 && aligned(dots.right);
  const int64_t tiles = all ? 1 : divide_up(dots.rows, rows);
  launch(dots_kernel<Left, Right, rows, all>, divide_up(dots.modes, warp) * tiles * tiles, threads,
         shared_bytes<Left, Right, rows, all>, device.stream, dots, whole_left, whole_right);
}

// What lies between the products and the cosines, for some modes at a time.
constexpr int64_t sums_bytes = int64_t{1} << 26;

}  // namespace

template <class Left, class Right>
void dots(const Dots<Left, Right>& dots, const Device& device) {
  if (dots.modes * dots.rows == 0) return;
  switch (dots.rows) {
    case 1:
      return run<Left, Right, 1, true>(dots, device);
    case 2:
      return run<Left, Right, 2, true>(dots, device);
    case 3:
      return run<Left, Right, 3, true>(dots, device);
    case 4:
      return run<Left, Right, 4, true>(dots, device);
    case 5:
      return run<Left, Right, 5, true>(dots, device);
    case 6:
      return run<Left, Right, 6, true>(dots, device);
    case 7:
      return run<Left, Right, 7, true>(dots, device);
    case 8:
      return run<Left, Right, 8, true>(dots, device);
    case 9:
      return run<Left, Right, 9, true>(dots, device);
    case 10:
      return run<Left, Right, 10, true>(dots, device);
    default:
      run<Left, Right, side, false>(dots, device);
  }
  launch(finish_kernel<Left, Right>, divide_up(dots.modes * dots.rows * dots.rows, finish_threads),
         finish_threads, 0, device.stream, dots);
}

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, Wanted wanted, const Device& device) {
  if (modes * directions == 0) return;
  const int64_t size = directions * directions;
  const bool in_pieces = directions > most_rows;
  const int64_t at_once = in_pieces ? piece_of(modes, sums_bytes / (size * 8)) : modes;
  auto* const sums = in_pieces ? device.memory.array<double>(at_once * size) : nullptr;
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const int64_t n = std::min(at_once, modes - mode);
    const Wanted some{wanted.flags == nullptr ? nullptr : wanted.flags + mode};
    const T* const from = jacobian + mode * directions * width;
    dots(Dots<T, T>{from, from, directions * width, n, directions, width, nullptr, 0, normalize,
                    out + mode * size, sums, some},
         device);
  }
}

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Device& device) {
  cross(jacobian, modes, directions, width, normalize, out, Wanted{}, device);
}

template void dots(const Dots<double, float>&, const Device&);
template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, Wanted, const Device&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, Wanted, const Device&);
template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, const Device&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, const Device&);

}  // namespace gradsplinter::cuda
