// Jacobians: one masked backward chain per mode, for all directions at once. Off units are skipped,
// so a typical mode costs half of the dense products. Lanes hold different entries of a gradient.
#include "cpu/backward.h"

namespace gradsplinter {
namespace {

template <class T>
void run_mode(const JacobianBlock<T>& block, const uint64_t* pattern, T* out) {
  const T* from = block.start;
  int64_t from_stride = block.layers[0].outputs;
  for (int64_t l = 0; l < block.depth; ++l) {
    const BackwardLayer<T>& layer = block.layers[l];
    int64_t n = layer.outputs;
    if (layer.word >= 0) {
      n = list_active(pattern + layer.word, layer.outputs, block.active);
    } else {
      for (int64_t i = 0; i < n; ++i) block.active[i] = static_cast<int32_t>(i);
    }
    for (int64_t d = 0; d < block.directions; ++d) {
      for (int64_t i = 0; i < n; ++i) {
        block.coefficients[d * block.stride + i] = from[d * from_stride + block.active[i]];
      }
    }
    const bool last = l == block.depth - 1;
    Step<T>{layer.weight,
            layer.stride,
            layer.stride,
            block.active,
            n,
            block.coefficients,
            block.stride,
            last ? out : block.gradients,
            last ? layer.inputs : block.stride,
            last ? layer.inputs : layer.stride}
        .run(block.directions);
    from = block.gradients;
    from_stride = block.stride;
  }
}

template <class T>
void run(const JacobianBlock<T>& block) {
  const int64_t size = block.directions * block.layers[block.depth - 1].inputs;
  for (int64_t u = 0; u < block.modes; ++u) {
    run_mode(block, block.patterns + u * block.words, block.out + u * size);
  }
}

}  // namespace

namespace GRADSPLINTER_ISA {
void jacobian(const JacobianBlock<float>& block) { run(block); }
void jacobian(const JacobianBlock<double>& block) { run(block); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
