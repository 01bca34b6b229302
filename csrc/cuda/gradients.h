// The steps of which jacobian, cross and gram are made on a GPU. All queue their work on the
// device's stream and return.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/cuda_ops.h"
#include "cuda/device.h"

namespace gradsplinter::cuda {

// Modes whose results are wanted: all, or those with a flag that is not 0.
struct Wanted {
  const uint8_t* flags = nullptr;
};

// So many modes at a time, at most `most`, that all pieces have about the same size.
inline int64_t piece_of(int64_t modes, int64_t most) {
  return divide_up(modes, divide_up(modes, std::max(most, int64_t{1})));
}

// One step back: to[u, d, :] = sum over units j that are on, ascending, of from[u, d, j] * W[j, :],
// in T.
template <class From, class T>
struct StepBack {
  const From* from;     // [modes, directions, outputs]
  int64_t from_stride;  // from mode to mode; 0 where all share one
  const T* weight;      // [outputs, inputs]
  int64_t outputs, inputs;
  const uint64_t* patterns;  // [modes, words]
  int64_t words;
  int64_t word;  // where the bits of the outputs begin in a pattern; -1: all are on
  int64_t modes, directions;
  T* to;  // [modes, directions, inputs]
  Wanted wanted;
};
template <class From, class T>
void step_back(const StepBack<From, T>& step, const Device& device);

// The chain of steps back, as `jacobian` of ops.h, through the layers from first_layer on and
// before end_layer; `output` tells that the last one of these has no ReLU.
template <class T>
struct Chain {
  const std::vector<Layer<T>>& layers;
  size_t first_layer, end_layer;
  bool output;
  const T* directions;
  int64_t count;

  // Words of a pattern before those of layer l.
  int64_t word_of(size_t l) const;
  int64_t words() const { return word_of(end_layer - (output ? 1 : 0)); }
  int64_t width() const { return layers[first_layer].inputs; }
  // Through layer l, without what belongs to the modes.
  StepBack<T, T> step(size_t l) const;
  // The same without a last layer that has no ReLU, whose step back is the same in every mode and
  // is made here, once.
  Chain below_output(const Device& device) const;
};
template <class T>
void jacobian(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, T* out, Wanted wanted,
              const Device& device);

// out[u, i, j] = out[u, j, i] = the chain over k, ascending, of left[u, i, k] * right[u, j, k] for
// i <= j, in float64, over the k whose bits are on, where patterns are given; or the cosine.
template <class Left, class Right>
struct Dots {
  const Left* left;  // [modes, rows, width]
  const Right* right;
  int64_t right_stride;  // from mode to mode; 0 where all share one
  int64_t modes, rows, width;
  const uint64_t* patterns;  // [modes, words], at the site's first word; or null
  int64_t words;
  bool normalize;
  Right* out;    // [modes, rows, rows]
  double* sums;  // the same before it is rounded, for i <= j
  Wanted wanted;
};
template <class Left, class Right>
void dots(const Dots<Left, Right>& dots, const Device& device);

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, Wanted wanted, const Device& device);

}  // namespace gradsplinter::cuda
