// The operations on raw pointers, above the kernels of one instruction set and below the tensors.
// Arguments have been checked (module.cpp); T is float or double.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "parallel.h"

namespace gradsplinter {

// The kernels in use: the best that this CPU has, unless GRADSPLINTER_CPU or `use` says otherwise.
const Kernels& kernels();
std::vector<const char*> instruction_sets();  // those this CPU can run, best first
void use(const char* name);                   // throws std::invalid_argument

// W^l [outputs, inputs] and b^l [outputs] of a linear layer.
template <class T>
struct Layer {
  const T* weight;
  const T* bias;  // not read by jacobian
  int64_t inputs;
  int64_t outputs;
};

// Bits of the sites in `sites` (ascending, each in 1..L-1) -> signature [n, words], and y [n, h_L]
// unless it is null.
template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Run& run);

// Unique rows in order of first appearance -> how many; first and counts [at least that many],
// ids [n]. `width` entries in a row: words, float, double, or uint8_t for bools. A NaN, or a byte
// that is no bool, throws std::invalid_argument.
// hash_bits < 64 keeps only so many bits of the hash, to force collisions in tests.
template <class Entry>
int64_t unique_rows(const Entry* rows, int64_t n, int64_t width, int hash_bits, int64_t* first,
                    int64_t* counts, int64_t* ids, const Run& run);

// unique_rows(signatures(...)) without the signatures of all examples where few are unique ->
// how many; unique [that many, words] with room for n, the rest as above.
template <class T>
int64_t unique_signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites,
                          const T* x, int64_t n, uint64_t* unique, int64_t* first, int64_t* counts,
                          int64_t* ids, const Run& run);

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes, const Run& run);

// Bools [n, width], one a byte -> words [n, words_of(width)].
void pack_bits(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words, const Run& run);

// Layers source+1..target in ascending order; `output` tells that the last of them is layer L,
// which has no ReLU. patterns [modes, words] hold the bits of sites source+1..target, or
// source+1..L-1. directions [count, h_target] -> out [modes, count, h_source].
template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Run& run);

// jacobian [modes, directions, width] -> out [modes, directions, directions].
template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Run& run);

// cross of the Jacobian of these arguments, without the Jacobian. Where the source is much wider
// than the next site, float32 sums are made by A K A^T in float64, and differ in the last bits.
template <class T>
bool by_outer_products(const std::vector<Layer<T>>& layers) {
  // The last step back takes inputs * units products in float32, A K units * units in float64,
  // which cost twice as much. Nothing else may decide, or the bits would depend on it.
  return sizeof(T) == 4 && layers[0].inputs >= 2 * layers[0].outputs;
}
template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Run& run);

// Of each group the reference that differs from a query in the fewest bits, the first of several ->
// distance and index [n, groups], -1 for a group without references. queries [n, words] and
// references [m, words], with m < 2^32 and words < 2^24; group_of [m] in [0, groups).
void nearest(const uint64_t* queries, int64_t n, const uint64_t* references, int64_t m,
             int64_t words, const int64_t* group_of, int64_t groups, int32_t* distance,
             int64_t* index, const Run& run);

// rows [n, width] -> lengths [n], from the dot products of join_neighbours.
template <class T>
void lengths(const T* rows, int64_t n, int64_t width, double* lengths, const Run& run);

template <class T>
struct NeighbourRows {
  const T* data;          // [n, width]
  const double* lengths;  // [n], none of them 0
  int64_t n;
  int64_t width;
  double angle;
  double cosine;  // of the angle: rows are neighbours where theirs is not less
};

// Joins the sets of all neighbours in a common bucket: parents [n] are a forest, each row its own
// parent at first; the root of a set is its smallest row. bucket_of [n] in [0, buckets).
template <class T>
void join_neighbours(const NeighbourRows<T>& rows, const int64_t* bucket_of, int64_t buckets,
                     int64_t* parents, const Run& run);

// leader_of [n]: the first leader of the row's cluster within the angle; a row without one becomes
// a leader, and is its own. cluster_of [n] in [0, clusters), or -1 for a row without a leader (-1).
template <class T>
void leaders(const NeighbourRows<T>& rows, const int64_t* cluster_of, int64_t clusters,
             int64_t* leader_of, const Run& run);

}  // namespace gradsplinter
