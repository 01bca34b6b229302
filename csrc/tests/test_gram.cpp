#include <cmath>

#include "scalar.h"
#include "testing.h"

namespace gradsplinter {
namespace {

// One layer of W [units, width] before the target, which is the output or a hidden site: A is then
// the directions, so that G = V D W by hand. In exact small integers, nothing is rounded. Where
// `width` is twice `units` or more, float32 takes A K A^T.
template <class T>
void check(Random& random, int64_t width, int64_t units, int64_t count, int64_t modes,
           bool output) {
  CAPTURE(width);
  CAPTURE(units);
  CAPTURE(count);
  CAPTURE(modes);
  CAPTURE(output);
  const auto small = [&] { return static_cast<T>(random.below(7) - 3); };
  const Input<T> weight(units * width, small), directions(count * units, small);
  const int64_t words = output ? 0 : words_of(units);
  Input<uint64_t> patterns(modes * words, [&] { return random.bits(); });
  for (int64_t u = 0; u < modes && words > 0; ++u) {
    if (units % 64 != 0) patterns[(u + 1) * words - 1] &= (uint64_t{1} << units % 64) - 1;
  }
  std::vector<T> expected;
  for (int64_t u = 0; u < modes; ++u) {
    std::vector<double> gradient(static_cast<size_t>(count * width), 0.0);
    for (int64_t d = 0; d < count; ++d) {
      for (int64_t j = 0; j < units; ++j) {
        if (!output && (patterns[u * words + j / 64] >> (j % 64) & 1) == 0) continue;
        for (int64_t k = 0; k < width; ++k) {
          gradient[static_cast<size_t>(d * width + k)] +=
              static_cast<double>(directions[d * units + j] * weight[j * width + k]);
        }
      }
    }
    for (int64_t d = 0; d < count; ++d) {
      for (int64_t e = 0; e < count; ++e) {
        double dot = 0;
        for (int64_t k = 0; k < width; ++k) {
          dot += gradient[static_cast<size_t>(d * width + k)] *
                 gradient[static_cast<size_t>(e * width + k)];
        }
        expected.push_back(static_cast<T>(dot));
      }
    }
  }
  const std::vector<Layer<T>> layers = {{weight.data(), nullptr, width, units}};
  for (const int threads : {1, 2}) {
    on_every_instruction_set([&] {
      Output<T> out(modes * count * count);
      gram(layers, output, patterns.data(), modes, directions.data(), count, false, out.data(),
           {threads});
      out.check(expected.data());
    });
  }
}

TEST_CASE_TEMPLATE("gram: dot products of integers, whatever the sizes", T, float, double) {
  Random random(1);
  for (const bool output : {false, true}) {
    for (const int64_t units : {1, 7, 8, 9, 64, 65, 127, 128, 129}) {
      for (const int64_t width : {int64_t{3}, 2 * units})
        check<T>(random, width, units, 2, 3, output);
    }
    for (const int64_t count : {1, 2, 3, 7, 8, 9, 10, 11, 17, 33}) {
      for (const int64_t width : {5, 40}) check<T>(random, width, 20, count, 2, output);
    }
    for (const int64_t modes : {0, 1, 15, 16, 17, 40, 129, 300}) {
      for (const int64_t width : {1, 24}) check<T>(random, width, 12, 3, modes, output);
    }
  }
}

}  // namespace
}  // namespace gradsplinter
