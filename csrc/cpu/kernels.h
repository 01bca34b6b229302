// What a CPU kernel is given, and the table of kernels of one instruction set.
//
// The kernel files are compiled once per instruction set, each into its own namespace
// (GRADSPLINTER_ISA). They include no torch and no standard containers, and keep their helpers in
// anonymous namespaces: a weak symbol compiled for AVX-512 could otherwise be linked everywhere.
#pragma once

#include <cstdint>

namespace gradsplinter {

// One layer of the forward pass. Weights are transposed into panels of `tile` units, so that lanes
// hold different units: panel p is [inputs, tile] with W[p * tile + lane, k] at [k, lane]; panels
// and bias are padded with zeros, and a unit of zeros is always off.
template <class T>
struct ForwardLayer {
  const T* panels;  // [ceil(outputs / tile), inputs, tile]
  const T* bias;    // [ceil(outputs / tile) * tile]
  int64_t inputs;
  int64_t outputs;
  int64_t word;  // where this site's words start in a signature; -1: not asked for
};

// Up to `block_rows` examples through all layers.
template <class T>
struct SignatureBlock {
  const ForwardLayer<T>* layers;
  int64_t depth;  // number of layers to compute
  const T* x;     // [rows, layers[0].inputs]
  int64_t rows;
  uint64_t* signature;  // [rows, words]
  int64_t words;
  T* y;            // [rows, layers[depth - 1].outputs], or null: the last layer is a hidden one
  T* activations;  // scratch [2, rows, stride]
  int64_t stride;  // at least the widest padded layer
};

// One step back, from site l to site l - 1. Rows of W^l are padded with zeros to `stride`, whole
// vectors, and lie in panels of `panel` columns, so that a panel stays in cache while all modes of
// a block use it: that of column c, [outputs, its columns], begins at panels + outputs * c.
template <class T>
struct BackwardLayer {
  const T* panels;
  int64_t panel;
  int64_t inputs;
  int64_t stride;
  int64_t outputs;
  int64_t word;  // where the bits of site l start in a pattern; -1: no ReLU, every unit is on
};

template <class T>
struct JacobianBlock {
  const BackwardLayer<T>* layers;  // the first step back first
  int64_t depth;                   // at least 1
  const T* start;                  // [directions, layers[0].outputs]
  int64_t directions;
  const uint64_t* patterns;  // [modes, words]
  int64_t words;
  int64_t modes;
  T* out;                  // [modes, directions, layers[depth - 1].inputs]
  T* gradients;            // scratch [modes, directions, stride]
  T* coefficients;         // scratch [2, modes, directions, stride]
  int32_t* active;         // scratch [2, modes, stride], and 16 more
  int64_t* active_counts;  // scratch [2, modes]
  int64_t stride;          // at least the widest padded layer, and a vector more
};

// Up to `lanes` modes at once: lanes hold different modes, and a dot product is one chain.
template <class T>
struct CrossBlock {
  const T* jacobian;  // [modes, directions, width]
  int64_t modes;
  int64_t directions;
  int64_t width;
  bool normalize;
  T* out;           // [modes, directions, directions]
  double* columns;  // scratch [padded directions, columns_per_pass, lanes]
  double* sums;     // scratch [padded directions, padded directions, lanes]
};

// The gradients of some modes before the last step back, A = `gradients`, and K = W W^T of that
// step.
struct GramBlock {
  const float* gradients;    // [modes, directions, units]
  int64_t gradients_stride;  // from mode to mode; 0 where all modes share them
  int64_t directions;
  int64_t padded_directions;  // whole vectors of double
  int64_t units;              // of the site before the last step
  const double* k;            // [units, stride], padded with zeros
  const double* lengths;      // [units]: of the rows of W
  int64_t stride;             // whole vectors of double, one more than the units take
  const uint64_t* patterns;   // [modes, words]
  int64_t words;
  int64_t word;  // where the bits of the site start in a pattern; -1: no ReLU, every unit is on
  int64_t modes;
  bool normalize;
  float* out;              // [modes, directions, directions]
  uint8_t* unsure;         // [modes]: whether the terms of a gradient cancel
  int32_t* active;         // scratch [modes, stride], and 16 more
  int64_t* active_counts;  // scratch [modes]
  double* left;            // scratch [modes, directions, stride]
  double* product;         // scratch [modes, directions, stride]
  double* right;           // scratch [units, padded directions]
  double* sums;            // scratch [directions + 1, padded directions]
};

// One row with some others.
template <class T>
struct DotsBlock {
  const T* row;   // [width]
  const T* rows;  // [..., width]
  int64_t width;
  const int64_t* at;  // [count]: which of the rows
  int64_t count;
  double* dots;  // out [count]
};

// Some queries with panels of references, `lanes` of them side by side. A key is distance << 32 |
// index, so that the least one is of the nearest reference, the first of several; all are less than
// 2^63.
struct NearestBlock {
  const uint64_t* references;  // [panels, words, lanes]
  const uint64_t* indices;     // [panels, lanes]; at least 2^62 where there is no reference
  int64_t panels;
  int64_t words;            // less than 2^24
  const uint64_t* queries;  // [rows, words]
  int64_t rows;
  uint64_t* keys;  // in and out [rows]: the least one so far
};

// Points and the pre-activations of a layer there. `stride` is a multiple of 8, padded with zeros;
// bit j of word w belongs to unit 64 w + j.
struct PointsBlock {
  double* z;  // [points, stride]
  int64_t points;
  int64_t stride;
  const double* tolerance;  // [stride]
  uint64_t* positive;       // out [points, words]
  uint64_t* negative;       // out [points, words]
  int64_t words;
};

// Some entries of each row, those below 0 as 0.
struct GatherBlock {
  const double* from;  // [rows, stride]
  int64_t stride;
  int64_t rows;
  const int32_t* at;  // [count]
  int64_t count;
  int64_t padded;  // at least count
  double* to;      // [rows, padded], padded with zeros
};

// The point at a + t (b - a), where a unit is 0.
struct BetweenBlock {
  const double* a;  // [stride]
  const double* b;  // [stride]
  double t;
  int64_t unit;
  int64_t stride;
  const double* tolerance;     // [stride]
  const uint64_t* a_positive;  // [words], as the next three
  const uint64_t* a_negative;
  const uint64_t* b_positive;
  const uint64_t* b_negative;
  int64_t words;
  double* z;           // out [stride]
  uint64_t* positive;  // out [words]
  uint64_t* negative;  // out [words]
};

template <class T>
struct KernelsOf {
  int64_t lanes;          // of Vec<T>
  int64_t tile;           // units in a panel of ForwardLayer
  int64_t block_rows;     // examples in a SignatureBlock
  int64_t cross_lanes;    // modes in a CrossBlock
  int64_t cross_pad;      // directions are padded to a multiple of this
  int64_t cross_columns;  // columns_per_pass
  void (*signature)(const SignatureBlock<T>&);
  void (*jacobian)(const JacobianBlock<T>&);
  void (*cross)(const CrossBlock<T>&);
  void (*dots)(const DotsBlock<T>&);
};

struct Kernels {
  const char* name;
  KernelsOf<float> f32;
  KernelsOf<double> f64;
  void (*gram)(const GramBlock&);
  int64_t nearest_lanes;  // of a NearestBlock
  void (*nearest)(const NearestBlock&);
  int64_t (*signs)(const PointsBlock&);  // -> how many z within tolerance were set to 0
  int64_t (*between)(const BetweenBlock&);
  void (*gather)(const GatherBlock&);
};

template <class T>
const KernelsOf<T>& kernels_of(const Kernels& kernels);
template <>
inline const KernelsOf<float>& kernels_of<float>(const Kernels& kernels) {
  return kernels.f32;
}
template <>
inline const KernelsOf<double>& kernels_of<double>(const Kernels& kernels) {
  return kernels.f64;
}

}  // namespace gradsplinter
