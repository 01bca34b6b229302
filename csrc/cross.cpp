#include "cross_pass.h"

namespace gradsplinter {

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Run& run) {
  if (modes == 0 || directions == 0) return;
  const CrossPass<T> pass(directions, width, normalize);
  const int64_t modes_per_block = pass.modes_per_block();
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  const Buffer<double> scratch(threads_for(blocks, run) * pass.scratch());
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    pass.run(jacobian + mode * directions * width, std::min(modes_per_block, modes - mode),
             out + mode * directions * directions, scratch.get() + thread * pass.scratch());
  });
}

template void cross(const float*, int64_t, int64_t, int64_t, bool, float*, const Run&);
template void cross(const double*, int64_t, int64_t, int64_t, bool, double*, const Run&);

}  // namespace gradsplinter
