// Activation patterns: every layer of a block of examples while its activations are in cache. The
// pre-activations of a hidden layer live in registers only; what is stored is their bits and a^l.
#include "cpu/isa.h"

namespace gradsplinter {
namespace {

template <int bytes>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using type = uint8_t;
};
template <>
struct UnsignedOf<2> {
  using type = uint16_t;
};
template <>
struct UnsignedOf<4> {
  using type = uint32_t;
};

// z[r][v] = the chain b + fma over k, for R examples and one panel of units.
template <class T, int R>
struct Tile {
  static constexpr int V = ForwardTile<T>::vectors;
  static constexpr int lanes = Vec<T>::lanes;
  static constexpr int units = ForwardTile<T>::units;
  Vec<T> z[R][V];

  void compute(const T* panel, const T* bias, const T* a, int64_t a_stride, int64_t inputs) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) z[r][v] = Vec<T>::load(bias + v * lanes);
    }
    // Three rows to a pointer, since an address holds one or two times the stride. The empty asm
    // keeps the compiler from a pointer for each row, which the registers do not hold.
    constexpr int P = (R + 2) / 3;
    const T* p[P];
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) p[i] = a + 3 * i * a_stride;
    for (const T* end = panel + inputs * units; panel != end; panel += units) {
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) asm("" : "+r"(p[i]));
      Vec<T> w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = Vec<T>::load(panel + v * lanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> s = Vec<T>::fill(p[r / 3][r % 3 * a_stride]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) z[r][v] = Vec<T>::fma(s, w[v], z[r][v]);
      }
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) ++p[i];
    }
  }

  // Bits of the panel as a little-endian integer of the signature. A panel that begins a word
  // writes all of it, so that the bits of no unit are 0; the panels after it come later.
  template <class Bits>
  void store_bits(uint8_t* bits, int64_t row_bytes) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      uint32_t mask = 0;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) mask |= z[r][v].positive() << (v * lanes);
      const Bits stored = static_cast<Bits>(mask);
      __builtin_memcpy(bits + r * row_bytes, &stored, sizeof stored);
    }
  }

  void store_relu(T* a, int64_t stride) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) z[r][v].relu().store(a + r * stride + v * lanes);
    }
  }

  // Unrolled as well: an index that is not a constant would put z into memory for every user.
  void store_outputs(T* y, int64_t stride, int64_t count) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      T row[units];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) z[r][v].store(row + v * lanes);
      __builtin_memcpy(y + r * stride, row, static_cast<uint64_t>(count) * sizeof(T));
    }
  }
};

template <class T>
struct ForwardStep {
  const SignatureBlock<T>& block;
  const ForwardLayer<T>& layer;
  const T* from;
  int64_t from_stride;
  T* to;  // null where no later layer reads the activations

  template <int R>
  void tile(int64_t row, int64_t panel) const {
    constexpr int64_t units = ForwardTile<T>::units;
    Tile<T, R> t;
    t.compute(layer.panels + panel * layer.inputs * units, layer.bias + panel * units,
              from + row * from_stride, from_stride, layer.inputs);
    if (block.y != nullptr && &layer == block.layers + block.depth - 1) {
      const int64_t left = layer.outputs - panel * units;
      t.store_outputs(block.y + row * layer.outputs + panel * units, layer.outputs,
                      left < units ? left : units);
      return;
    }
    if (layer.word >= 0) {
      auto* bits = reinterpret_cast<uint8_t*>(block.signature + row * block.words + layer.word);
      if (panel * units % 64 == 0) {
        t.template store_bits<uint64_t>(bits + panel * (units / 8), block.words * 8);
      } else {
        using Bits = typename UnsignedOf<units / 8>::type;
        t.template store_bits<Bits>(bits + panel * (units / 8), block.words * 8);
      }
    }
    if (to != nullptr) t.store_relu(to + row * block.stride + panel * units, block.stride);
  }

  void run() const {
    constexpr int R = ForwardTile<T>::rows;
    constexpr int64_t units = ForwardTile<T>::units;
    const int64_t panels = (layer.outputs + units - 1) / units;
    for (int64_t panel = 0; panel < panels; ++panel) {
      if (block.rows < R) {
        for (int64_t row = 0; row < block.rows; ++row) tile<1>(row, panel);
        continue;
      }
      // The last tile overlaps the one before it: the same rows again, with the same results.
      for (int64_t row = 0; row < block.rows; row += R) {
        tile<R>(row + R <= block.rows ? row : block.rows - R, panel);
      }
    }
  }
};

template <class T>
void run(const SignatureBlock<T>& block) {
  const T* from = block.x;
  int64_t from_stride = block.layers[0].inputs;
  for (int64_t l = 0; l < block.depth; ++l) {
    T* to = block.activations + (l % 2) * block.rows * block.stride;
    const bool last = l == block.depth - 1;
    ForwardStep<T>{block, block.layers[l], from, from_stride, last ? nullptr : to}.run();
    from = to;
    from_stride = block.stride;
  }
}

}  // namespace

namespace GRADSPLINTER_ISA {
void signature(const SignatureBlock<float>& block) { run(block); }
void signature(const SignatureBlock<double>& block) { run(block); }
}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
