// Points of a mesh: the pre-activations of a layer, and on which side of each unit's border a point
// lies. A unit is at its border where |z| is at most its tolerance; there z is set to 0.
#include "cpu/isa.h"

namespace gradsplinter {
namespace {

using Double = Vec<double>;

// The signs of up to 64 units, from the first of a word on.
struct Signs {
  uint64_t positive = 0, negative = 0;

  void add(Double z, const double* tolerance, int64_t unit) {
    const Double minus = Double::fill(-1), t = Double::load(tolerance);
    const auto above = Double::fma(minus, t, z);  // z - t: its sign is exact
    const auto below = Double::fma(minus, z, Double::fma(minus, t, Double::fill(0)));
    positive |= static_cast<uint64_t>(above.positive()) << unit;
    negative |= static_cast<uint64_t>(below.positive()) << unit;
  }
};

// Sets some units of a word to 0 -> how many were not.
inline int64_t clear(double* z, uint64_t units) {
  int64_t count = 0;
  for (; units != 0; units &= units - 1) {
    double& unit = z[__builtin_ctzll(units)];
    count += unit != 0;
    unit = 0;
  }
  return count;
}

inline uint64_t used(int64_t units) {
  return units < 64 ? (uint64_t{1} << units) - 1 : ~uint64_t{0};
}

}  // namespace

namespace GRADSPLINTER_ISA {

int64_t signs(const PointsBlock& block) {
  int64_t cleared = 0;
  for (int64_t i = 0; i < block.points; ++i) {
    double* z = block.z + i * block.stride;
    for (int64_t word = 0; word < block.words; ++word, z += 64) {
      const double* tolerance = block.tolerance + word * 64;
      const int64_t left = block.stride - word * 64, units = left < 64 ? left : 64;
      Signs found;
      for (int64_t k = 0; k < units; k += Double::lanes) {
        found.add(Double::load(z + k), tolerance + k, k);
      }
      block.positive[i * block.words + word] = found.positive;
      block.negative[i * block.words + word] = found.negative;
      cleared += clear(z, used(units) & ~(found.positive | found.negative));
    }
  }
  return cleared;
}

int64_t between(const BetweenBlock& block) {
  int64_t cleared = 0;
  const Double t = Double::fill(block.t), minus = Double::fill(-1);
  for (int64_t word = 0; word < block.words; ++word) {
    const int64_t begin = word * 64, left = block.stride - begin, units = left < 64 ? left : 64;
    double* z = block.z + begin;
    Signs found;
    for (int64_t k = 0; k < units; k += Double::lanes) {
      const Double a = Double::load(block.a + begin + k), b = Double::load(block.b + begin + k);
      const Double between = Double::fma(t, Double::fma(minus, a, b), a);
      between.store(z + k);
      found.add(between, block.tolerance + begin + k, k);
    }
    // Where the ends agree, so does what lies between; where both are 0, it is 0.
    const uint64_t a_positive = block.a_positive[word], a_negative = block.a_negative[word];
    const uint64_t b_positive = block.b_positive[word], b_negative = block.b_negative[word];
    const uint64_t crossing = (a_positive & b_negative) | (a_negative & b_positive);
    const uint64_t positive = (found.positive & crossing) | ((a_positive | b_positive) & ~crossing);
    const uint64_t negative = (found.negative & crossing) | ((a_negative | b_negative) & ~crossing);
    const uint64_t own = word == block.unit / 64 ? uint64_t{1} << block.unit % 64 : 0;
    block.positive[word] = positive & ~own;
    block.negative[word] = negative & ~own;
    if (own != 0) z[block.unit % 64] = 0;
    cleared += clear(z, used(units) & ~(positive | negative | own));
  }
  return cleared;
}

void gather(const GatherBlock& block) {
  for (int64_t i = 0; i < block.rows; ++i) {
    const double* from = block.from + i * block.stride;
    double* to = block.to + i * block.padded;
    for (int64_t k = 0; k < block.count; ++k) {
      const double value = from[block.at[k]];
      to[k] = value > 0 ? value : 0;
    }
    for (int64_t k = block.count; k < block.padded; ++k) to[k] = 0;
  }
}

}  // namespace GRADSPLINTER_ISA

}  // namespace gradsplinter
