// The kernel of dot products made ready for the gradients of many modes.
#pragma once

#include <algorithm>

#include "buffer.h"
#include "ops.h"

namespace gradsplinter {

template <class T>
class CrossPass {
 public:
  CrossPass(int64_t directions, int64_t width, bool normalize)
      : directions_(directions), width_(width), normalize_(normalize) {}

  int64_t modes_per_block() const { return kernel_.cross_lanes; }

  // What one thread works in.
  int64_t scratch() const { return columns_size() + padded() * padded() * kernel_.cross_lanes; }

  // jacobian [modes, directions, width] -> out [modes, directions, directions].
  void run(const T* jacobian, int64_t modes, T* out, double* scratch) const {
    for (int64_t mode = 0; mode < modes; mode += kernel_.cross_lanes) {
      kernel_.cross({jacobian + mode * directions_ * width_,
                     std::min(kernel_.cross_lanes, modes - mode), directions_, width_, normalize_,
                     out + mode * directions_ * directions_, scratch, scratch + columns_size()});
    }
  }

 private:
  int64_t padded() const { return round_up(directions_, kernel_.cross_pad); }
  int64_t columns_size() const { return padded() * kernel_.cross_columns * kernel_.cross_lanes; }

  const KernelsOf<T>& kernel_ = kernels_of<T>(kernels());
  int64_t directions_, width_;
  bool normalize_;
};

}  // namespace gradsplinter
