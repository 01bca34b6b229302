// The steps of which jacobian, cross and gram are made on a GPU. All queue their work on the
// device's stream and return.
#pragma once

#include <cstdint>

#include "cuda/cuda_ops.h"

namespace gradsplinter::cuda {

// Modes whose results are wanted: all, or those with a flag that is not 0.
struct Wanted {
  const uint8_t* flags = nullptr;
};

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

// The chain of steps back, as `jacobian` of ops.h, with the patterns' bits from word `first_word`
// on.
template <class T>
struct Chain {
  const std::vector<Layer<T>>& layers;
  size_t first_layer;  // leave out those before it
  bool output;
  const T* directions;
  int64_t count;

  // Words of a pattern before those of layer l.
  int64_t word_of(size_t l) const;
  int64_t words() const { return word_of(layers.size() - (output ? 1 : 0)); }
  int64_t width() const { return layers[first_layer].inputs; }
};
template <class T>
void jacobian(const Chain<T>& chain, const uint64_t* patterns, int64_t modes, T* out, Wanted wanted,
              const Device& device);

// sums[u, i, j] for i <= j = the chain over k, ascending, of left[u, i, k] * right[u, j, k], in
// float64; over the k whose bits are on, where patterns are given.
template <class Left, class Right>
struct Dots {
  const Left* left;  // [modes, rows, width]
  const Right* right;
  int64_t right_stride;  // from mode to mode; 0 where all share one
  int64_t modes, rows, width;
  const uint64_t* patterns;  // [modes, words], at the site's first word; or null
  int64_t words;
  double* sums;  // [modes, rows, rows]
  Wanted wanted;
};
template <class Left, class Right>
void dots(const Dots<Left, Right>& dots, const Device& device);

// out[u, i, j] = out[u, j, i]: the sum, or the cosine.
template <class T>
struct Finish {
  const double* sums;  // [modes, directions, directions]
  int64_t modes, directions;
  bool normalize;
  T* out;
  Wanted wanted;
};
template <class T>
void finish(const Finish<T>& finish, const Device& device);

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, Wanted wanted, const Device& device);

}  // namespace gradsplinter::cuda
