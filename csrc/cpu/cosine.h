// The cosine of two gradients from their dot product and squared lengths.
#pragma once

namespace gradsplinter {
namespace {

inline double cosine(double dot, double square, double other, bool same) {
  if (square == 0 || other == 0) return 0;
  if (same) return 1;
  const double value = dot / (__builtin_sqrt(square) * __builtin_sqrt(other));
  return value > 1 ? 1 : value < -1 ? -1 : value;
}

}  // namespace
}  // namespace gradsplinter
