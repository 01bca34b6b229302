#include <algorithm>

#include "buffer.h"
#include "ops.h"

namespace gradsplinter {

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Run& run) {
  if (modes == 0 || directions == 0) return;
  const KernelsOf<T>& k = kernels_of<T>(kernels());
  const int64_t padded = round_up(directions, k.cross_pad);
  const int64_t columns_size = padded * k.cross_columns * k.cross_lanes;
  const int64_t scratch_size = columns_size + padded * padded * k.cross_lanes;
  const int64_t blocks = (modes + k.cross_lanes - 1) / k.cross_lanes;
  const Buffer<double> scratch(threads_for(blocks, run) * scratch_size);
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * k.cross_lanes;
    double* columns = scratch.get() + thread * scratch_size;
    k.cross({jacobian + mode * directions * width, std::min(k.cross_lanes, modes - mode),
             directions, width, normalize, out + mode * directions * directions, columns,
             columns + columns_size});
  });
}

template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, const Run&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, const Run&);

}  // namespace gradsplinter
