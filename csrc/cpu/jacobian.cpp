// Jacobians: one masked backward chain per mode, for all directions at once. Off units are skipped,
// so a typical mode costs half of the dense products. Lanes hold different entries of a gradient.
#include "cpu/backward.h"

namespace gradsplinter {
namespace {

template <class T>
struct Jacobian {
  const JacobianBlock<T>& block;

  // The units that are on in the site that a step starts from, and what they have in each gradient.
  struct State {
    int32_t* active;  // [modes, stride]
    int64_t* counts;  // [modes]
    T* coefficients;  // [modes, directions, stride]
  };
  State state(int64_t l) const {
    const int64_t odd = l % 2 * block.modes;
    return {block.active + odd * block.stride, block.active_counts + odd,
            block.coefficients + odd * size()};
  }
  int64_t size() const { return block.directions * block.stride; }
  const uint64_t* bits(const BackwardLayer<T>& layer, int64_t u) const {
    return block.patterns + u * block.words + layer.word;
  }

  void list(const BackwardLayer<T>& layer, int64_t u, const State& state) const {
    int32_t* on = state.active + u * block.stride;
    int64_t n = layer.outputs;
    if (layer.word >= 0) {
      n = list_active(bits(layer, u), n, on);
    } else {
      for (int64_t i = 0; i < n; ++i) on[i] = static_cast<int32_t>(i);
    }
    state.counts[u] = n;
  }

  // Coefficients from entries of all units.
  void take(const BackwardLayer<T>& layer, int64_t u, const T* from, int64_t from_stride,
            const State& state) const {
    for (int64_t d = 0; d < block.directions; ++d) {
      T* to = state.coefficients + u * size() + d * block.stride;
      if (layer.word >= 0) {
        take_active(from + d * from_stride, bits(layer, u), layer.outputs,
                    state.active + u * block.stride, state.counts[u], to);
      } else {
        __builtin_memcpy(to, from + d * from_stride,
                         static_cast<uint64_t>(layer.outputs) * sizeof(T));
      }
    }
  }

  // The product of mode u with the panel that begins at `column`, into out [directions].
  Step<T> step(const BackwardLayer<T>& layer, int64_t u, const State& state, int64_t column, T* out,
               int64_t out_stride, int64_t out_width) const {
    const int64_t left = layer.stride - column;
    const int64_t columns = left < layer.panel ? left : layer.panel;
    return {layer.panels + layer.outputs * column,
            columns,
            columns,
            state.active + u * block.stride,
            state.counts[u],
            state.coefficients + u * size(),
            block.stride,
            out,
            out_stride,
            out_width};
  }

  // One step further: entries of the gradients of a panel's columns, of modes [begin, end).
  void last(const BackwardLayer<T>& layer, int64_t begin, int64_t end, const State& state) const {
    for (int64_t column = 0; column < layer.stride; column += layer.panel) {
      for (int64_t u = begin; u < end; ++u) {
        T* out = block.out + u * block.directions * layer.inputs + column;
        step(layer, u, state, column, out, layer.inputs, layer.inputs - column)
            .run(block.directions);
      }
    }
  }

  // To the site of the next layer, of whose units only those that are on matter.
  void middle(const BackwardLayer<T>& layer, const BackwardLayer<T>& next, int64_t begin,
              int64_t end, const State& state, const State& to) const {
    for (int64_t u = begin; u < end; ++u) list(next, u, to);
#if defined(__AVX512F__)
    for (int64_t column = 0; column < layer.stride; column += layer.panel) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t first = count_bits(bits(next, u), column);
        const int64_t limit =
            column + layer.panel < next.outputs ? column + layer.panel : next.outputs;
        T* out = to.coefficients + u * size() + first;
        const Step<T> all = step(layer, u, state, column, out, block.stride, 0);
        SomeColumns<T>{all, to.active + u * block.stride + first,
                       count_bits(bits(next, u), limit) - first, column}
            .run(block.directions);
      }
    }
#else
    for (int64_t column = 0; column < layer.stride; column += layer.panel) {
      for (int64_t u = begin; u < end; ++u) {
        T* out = block.gradients + u * size() + column;
        step(layer, u, state, column, out, block.stride, layer.stride - column)
            .run(block.directions);
      }
    }
    for (int64_t u = begin; u < end; ++u) {
      take(next, u, block.gradients + u * size(), block.stride, to);
    }
#endif
  }

  void run() const {
    const BackwardLayer<T>& first = block.layers[0];
    for (int64_t u = 0; u < block.modes; ++u) {
      list(first, u, state(0));
      take(first, u, block.start, first.outputs, state(0));
    }
    for (int64_t l = 0; l < block.depth; ++l) {
      const BackwardLayer<T>& layer = block.layers[l];
      // One mode after the other, unless they are to share a panel.
      const int64_t at_once = layer.panel < layer.stride ? block.modes : 1;
      for (int64_t u = 0; u < block.modes; u += at_once) {
        if (l == block.depth - 1) {
          last(layer, u, u + at_once, state(l));
        } else {
          middle(layer, block.layers[l + 1], u, u + at_once, state(l), state(l + 1));
        }
      }
    }
  }
};

}  // namespace

namespace GRADSPLINTER_ISA {
void jacobian(const JacobianBlock<float>& block) { Jacobian<float>{block}.run(); }
void jacobian(const JacobianBlock<double>& block) { Jacobian<double>{block}.run(); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
