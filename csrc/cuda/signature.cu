// Activation patterns on a GPU: the choice between the ways of forward.h.
#include "cuda/cuda_ops.h"
#include "cuda/forward.h"
#include "scalar.h"

namespace gradsplinter::cuda {

bool only_wide = false;

template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Device& device) {
  const size_t depth = y != nullptr    ? layers.size()
                       : sites.empty() ? 0
                                       : static_cast<size_t>(sites.back());
  if (n == 0 || depth == 0) return;
  Forward<T> forward{layers, depth, std::vector<int64_t>(depth, -1), 0, x, n, signature, y, device};
  for (const int64_t site : sites) {
    const auto l = static_cast<size_t>(site) - 1;
    forward.word[l] = forward.words;
    forward.words += words_of(layers[l].outputs);
  }
  if (!only_wide && is_small(forward)) return run_small(forward);
  run_wide(forward);
}

template void signatures(const std::vector<Layer<float>>&, const std::vector<int64_t>&,
                         const float*, int64_t, uint64_t*, float*, const Device&);
template void signatures(const std::vector<Layer<double>>&, const std::vector<int64_t>&,
                         const double*, int64_t, uint64_t*, double*, const Device&);

}  // namespace gradsplinter::cuda
