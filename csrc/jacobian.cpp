#include "backward_pass.h"
#include "huge_pages.h"
#include "ops.h"

namespace gradsplinter {

template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Run& run) {
  if (modes == 0 || count == 0) return;
  const BackwardPass<T> pass(layers.data(), layers.size(), output, directions, count, 0);
  const int64_t modes_per_block = pass.modes_per_block();
  const int64_t blocks = (modes + modes_per_block - 1) / modes_per_block;
  std::vector<BackwardScratch<T>> scratch;
  for (int i = 0; i < threads_for(blocks, run); ++i) {
    scratch.push_back(pass.scratch(modes_per_block));
  }
  prefer_huge_pages(out, modes * pass.size());
  parallel_blocks(blocks, run, [&](int64_t block, int thread) {
    const int64_t mode = block * modes_per_block;
    pass.run(patterns + mode * pass.words(), std::min(modes_per_block, modes - mode),
             out + mode * pass.size(), scratch[static_cast<size_t>(thread)]);
  });
}

template void jacobian(const std::vector<Layer<float>>&, bool, const uint64_t*, int64_t,
                       const float*, int64_t, float*, const Run&);
template void jacobian(const std::vector<Layer<double>>&, bool, const uint64_t*, int64_t,
                       const double*, int64_t, double*, const Run&);

}  // namespace gradsplinter
