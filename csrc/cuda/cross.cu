// Dot products of the gradients within a mode on a GPU: a thread computes 2 x 2 of them, each one
// chain of fma in float64 in ascending order, as on the CPU.
#include <algorithm>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/gradients.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;
constexpr int side = 2;  // of a thread's tile of products

// How the work is cut: the upper triangle of tiles of some modes, or some tiles of one mode.
struct Cut {
  int64_t tile_rows;  // in a matrix
  int64_t tiles;      // in its upper triangle
  int64_t modes;      // in a block
  int64_t tiles_in_block;
  int64_t tile_blocks;  // for a mode
  int columns;          // in shared memory at a time; 0: everything is read where it lies
};

template <class Left, class Right>
__global__ void dots_kernel(Dots<Left, Right> dots, Cut cut) {
  constexpr bool can_be_same = std::is_same_v<Left, Right>;
  const bool same = can_be_same && static_cast<const void*>(dots.left) == dots.right;
  const int64_t tile_block = blockIdx.x % cut.tile_blocks;
  const int64_t first_mode = blockIdx.x / cut.tile_blocks * cut.modes;
  const int64_t modes = min(cut.modes, dots.modes - first_mode);
  bool any = dots.wanted.flags == nullptr;
  for (int64_t m = 0; m < modes && !any; ++m) any = dots.wanted.flags[first_mode + m] != 0;
  if (!any) return;

  const int64_t own_mode = threadIdx.x / cut.tiles_in_block;
  int64_t tile = tile_block * cut.tiles_in_block + threadIdx.x % cut.tiles_in_block;
  const bool busy = own_mode < modes && tile < cut.tiles;
  int64_t i = 0;  // tiles of rows before; the tile is one of the rest of this row
  for (; busy && tile >= cut.tile_rows - i; ++i) tile -= cut.tile_rows - i;
  const int64_t row = i * side, column = (i + tile) * side;

  double sums[side][side] = {};
  const int stride = cut.columns + 1;  // shared memory is banked
  const int64_t padded = cut.tile_rows * side;
  double* const left = shared_memory<double>();  // [modes, padded rows, stride]
  double* const right = same ? left : left + cut.modes * padded * stride;
  const auto entry = [&](const auto* from, int64_t from_stride, int64_t mode, int64_t r,
                         int64_t k) {
    if (r >= dots.rows) return 0.0;
    if (dots.patterns != nullptr &&
        (dots.patterns[mode * dots.words + k / 64] >> (k % 64) & 1) == 0) {
      return 0.0;  // on both sides, which adds nothing
    }
    return static_cast<double>(from[mode * from_stride + r * dots.width + k]);
  };
  const int64_t left_stride = dots.rows * dots.width;

  if (cut.columns == 0) {
    for (int64_t k = 0; busy && k < dots.width; ++k) {
      for (int r = 0; r < side; ++r) {
        const double a = entry(dots.left, left_stride, first_mode + own_mode, row + r, k);
        for (int c = 0; c < side; ++c) {
          const double b =
              entry(dots.right, dots.right_stride, first_mode + own_mode, column + c, k);
          sums[r][c] = fused(a, b, sums[r][c]);
        }
      }
    }
  }
  for (int64_t first = 0; cut.columns > 0 && first < dots.width; first += cut.columns) {
    const auto count = static_cast<int>(min(int64_t{cut.columns}, dots.width - first));
    __syncthreads();  // the columns before are not needed any more
    const int64_t size = modes * padded * cut.columns;
    for (int64_t at = threadIdx.x; at < size; at += threads) {
      const auto k = static_cast<int>(at % cut.columns);
      if (k >= count) continue;
      const int64_t line = at / cut.columns, mode = first_mode + line / padded;
      left[line * stride + k] = entry(dots.left, left_stride, mode, line % padded, first + k);
      if (same) continue;
      right[line * stride + k] =
          entry(dots.right, dots.right_stride, mode, line % padded, first + k);
    }
    __syncthreads();
    if (!busy) continue;
    const double* const a = left + (own_mode * padded + row) * stride;
    const double* const b = right + (own_mode * padded + column) * stride;
    for (int k = 0; k < count; ++k) {
#pragma unroll
      for (int r = 0; r < side; ++r) {
#pragma unroll
        for (int c = 0; c < side; ++c) {
          sums[r][c] = fused(a[r * stride + k], b[c * stride + k], sums[r][c]);
        }
      }
    }
  }
  if (!busy) return;
  double* const to = dots.sums + (first_mode + own_mode) * dots.rows * dots.rows;
#pragma unroll
  for (int r = 0; r < side; ++r) {
#pragma unroll
    for (int c = 0; c < side; ++c) {
      if (row + r < dots.rows && column + c < dots.rows) {
        to[(row + r) * dots.rows + column + c] = sums[r][c];
      }
    }
  }
}

template <class T>
__global__ void finish_kernel(Finish<T> finish) {
  const int64_t size = finish.directions * finish.directions;
  const int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (at >= finish.modes * size) return;
  const int64_t mode = at / size, i = at % size / finish.directions, j = at % finish.directions;
  if (finish.wanted.flags != nullptr && finish.wanted.flags[mode] == 0) return;
  const double* const sums = finish.sums + mode * size;
  const auto sum = [&](int64_t row, int64_t column) {
    return sums[min(row, column) * finish.directions + max(row, column)];
  };
  const double dot = sum(i, j);
  finish.out[at] =
      static_cast<T>(finish.normalize ? cosine(dot, sum(i, i), sum(j, j), i == j) : dot);
}

constexpr int64_t shared_bytes = 40 * 1024;

// What lies between the products and the cosines, for some modes at a time.
constexpr int64_t sums_bytes = int64_t{1} << 26;

}  // namespace

template <class Left, class Right>
void dots(const Dots<Left, Right>& dots, const Device& device) {
  if (dots.modes * dots.rows == 0) return;
  Cut cut{};
  cut.tile_rows = divide_up(dots.rows, side);
  cut.tiles = cut.tile_rows * (cut.tile_rows + 1) / 2;
  cut.tiles_in_block = std::min(cut.tiles, int64_t{threads});
  cut.modes = threads / cut.tiles_in_block;
  cut.tile_blocks = divide_up(cut.tiles, cut.tiles_in_block);
  const bool same =
      std::is_same_v<Left, Right> && static_cast<const void*>(dots.left) == dots.right;
  const auto bytes = [&](int columns) {
    return cut.modes * cut.tile_rows * side * (columns + 1) * (same ? 1 : 2) *
           static_cast<int64_t>(sizeof(double));
  };
  cut.columns = 32;
  while (cut.columns > 0 && bytes(cut.columns) > shared_bytes) cut.columns /= 2;
  launch(dots_kernel<Left, Right>, divide_up(dots.modes, cut.modes) * cut.tile_blocks, threads,
         static_cast<size_t>(cut.columns > 0 ? bytes(cut.columns) : 0), device.stream, dots, cut);
}

template <class T>
void finish(const Finish<T>& finish, const Device& device) {
  const int64_t size = finish.modes * finish.directions * finish.directions;
  if (size == 0) return;
  launch(finish_kernel<T>, divide_up(size, threads), threads, 0, device.stream, finish);
}

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, Wanted wanted, const Device& device) {
  if (modes * directions == 0) return;
  const int64_t size = directions * directions;
  const int64_t at_once = std::clamp(sums_bytes / (size * 8), int64_t{1}, modes);
  auto* const sums = device.memory.array<double>(at_once * size);
  for (int64_t mode = 0; mode < modes; mode += at_once) {
    const int64_t n = std::min(at_once, modes - mode);
    const Wanted some{wanted.flags == nullptr ? nullptr : wanted.flags + mode};
    const T* const from = jacobian + mode * directions * width;
    const int64_t stride = directions * width;
    dots(Dots<T, T>{from, from, stride, n, directions, width, nullptr, 0, sums, some}, device);
    finish(Finish<T>{sums, n, directions, normalize, out + mode * size, some}, device);
  }
}

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Device& device) {
  cross(jacobian, modes, directions, width, normalize, out, Wanted{}, device);
}

template void dots(const Dots<float, float>&, const Device&);
template void dots(const Dots<double, float>&, const Device&);
template void finish(const Finish<float>&, const Device&);
template void finish(const Finish<double>&, const Device&);
template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, Wanted, const Device&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, Wanted, const Device&);
template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, const Device&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, const Device&);

}  // namespace gradsplinter::cuda
