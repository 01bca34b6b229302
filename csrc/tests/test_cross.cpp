#include <cmath>

#include "testing.h"

namespace gradsplinter {
namespace {

// float64 chains; the cosine of two gradients is clamped, of a zero gradient 0, with itself 1.
template <class T>
struct Oracle {
  std::vector<T> dots, cosines;
  int64_t clamped = 0;

  Oracle(const Input<T>& jacobian, int64_t modes, int64_t directions, int64_t width) {
    for (int64_t u = 0; u < modes; ++u) {
      const auto dot = [&](int64_t i, int64_t j) {
        const T* a = jacobian.data() + (u * directions + i) * width;
        const T* b = jacobian.data() + (u * directions + j) * width;
        double acc = 0;
        for (int64_t k = 0; k < width; ++k) {
          acc = std::fma(static_cast<double>(a[k]), static_cast<double>(b[k]), acc);
        }
        return acc;
      };
      for (int64_t i = 0; i < directions; ++i) {
        for (int64_t j = 0; j < directions; ++j) {
          const double product = dot(i, j), left = dot(i, i), right = dot(j, j);
          dots.push_back(static_cast<T>(product));
          double cosine = product / (std::sqrt(left) * std::sqrt(right));
          if (left == 0 || right == 0) {
            cosine = 0;
          } else if (i == j) {
            cosine = 1;
          } else if (std::abs(cosine) > 1) {
            cosine = cosine > 0 ? 1 : -1;
            ++clamped;
          }
          cosines.push_back(static_cast<T>(cosine));
        }
      }
    }
  }
};

template <class T>
void run_and_check(const Input<T>& jacobian, int64_t modes, int64_t directions, int64_t width,
                   bool normalize, const std::vector<T>& want, int threads = 1) {
  CAPTURE(modes);
  CAPTURE(directions);
  CAPTURE(width);
  CAPTURE(normalize);
  CAPTURE(threads);
  Output<T> out(modes * directions * directions);
  cross(jacobian.data(), modes, directions, width, normalize, out.data(), {threads});
  out.check(want.data());
}

template <class T>
int64_t check(const Input<T>& jacobian, int64_t modes, int64_t directions, int64_t width,
              const std::vector<int>& thread_counts = {1}) {
  const Oracle<T> oracle(jacobian, modes, directions, width);
  on_every_instruction_set([&] {
    for (const int threads : thread_counts) {
      run_and_check(jacobian, modes, directions, width, true, oracle.cosines, threads);
      run_and_check(jacobian, modes, directions, width, false, oracle.dots, threads);
    }
  });
  return oracle.clamped;
}

template <class T>
Input<T> input_of(const std::vector<T>& values) {
  auto next = values.begin();
  return Input<T>(static_cast<int64_t>(values.size()), [&] { return *next++; });
}

TEST_CASE_TEMPLATE("cross: sizes around a vector, a tile and a pass", T, float, double) {
  Random random(1);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t directions : {0, 1, 2, 3, 4, 5, 7, 8, 9, 13}) {
    for (const int64_t modes : {0, 1, 2, 3, 4, 5, 7, 8, 9, 17}) {
      const int64_t width = random.below(20);
      check(Input<T>(modes * directions * width, make), modes, directions, width);
    }
    for (const int64_t width : {0, 1, 2, 63, 64, 65, 127, 128, 130, 200}) {
      check(Input<T>(3 * directions * width, make), 3, directions, width);
    }
  }
}

TEST_CASE_TEMPLATE("cross: many modes over threads", T, float, double) {
  Random random(2);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t modes : {0, 1, 9, 63, 64, 65, 200}) {
    check(Input<T>(modes * 3 * 5, make), modes, 3, 5, {1, 2, 3});
  }
}

TEST_CASE_TEMPLATE("cross: worked out by hand", T, float, double) {
  // Mode 0: (3, 4), (0, 2), (-3, -4). Mode 1: (1, 0), (0, -5), (0, 0).
  const Input<T> jacobian = input_of<T>({3, 4, 0, 2, -3, -4, 1, 0, 0, -5, 0, 0});
  const T c = T(0.8);
  const std::vector<T> cosines = {1, c, -1, c, 1, -c, -1, -c, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0};
  const std::vector<T> dots = {25, 8, -25, 8, 4, -8, -25, -8, 25, 1, 0, 0, 0, 25, 0, 0, 0, 0};
  on_every_instruction_set([&] {
    run_and_check(jacobian, 2, 3, 2, true, cosines);
    run_and_check(jacobian, 2, 3, 2, false, dots);
  });
}

TEST_CASE_TEMPLATE("cross: a zero gradient of either sign has cosine 0, with itself too", T, float,
                   double) {
  const T zero = -T(0);
  const Input<T> jacobian = input_of<T>({zero, 0, zero, 1, zero, 2, 0, 0, 0});
  on_every_instruction_set(
      [&] { run_and_check(jacobian, 1, 3, 3, true, std::vector<T>{0, 0, 0, 0, 1, 0, 0, 0, 0}); });
}

TEST_CASE("cross: cosines never leave [-1, 1]") {
  Random random(3);
  int64_t clamped = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    Input<double> jacobian(20 * 3 * 7, [&] { return random.uniform<double>(); });
    for (int64_t u = 0; u < 20; ++u) {  // the others are multiples of the first, up to rounding
      double* g = jacobian.data() + u * 21;
      const double factor = random.uniform<double>();
      for (int64_t k = 0; k < 7; ++k) {
        g[7 + k] = g[k] * factor;
        g[14 + k] = g[k] * -3;
      }
    }
    clamped += check(jacobian, 20, 3, 7);
  }
  CHECK(clamped > 0);
}

TEST_CASE("cross: float gradients of any size have their cosine") {
  using Limits = std::numeric_limits<float>;
  const float large = Limits::max(), tiny = Limits::denorm_min();
  // (large, large), (tiny, tiny), (large, -tiny), (-tiny, 0)
  const Input<float> jacobian = input_of<float>({large, large, tiny, tiny, large, -tiny, -tiny, 0});
  const float c = static_cast<float>(std::sqrt(0.5));
  const std::vector<float> want = {1, 1, c, -c, 1, 1, c, -c, c, c, 1, -1, -c, -c, -1, 1};
  on_every_instruction_set([&] { run_and_check(jacobian, 1, 4, 2, true, want); });
  check(jacobian, 1, 4, 2);
}

TEST_CASE("cross: products of floats are not rounded") {
  // (1 + e)^2 - (1 + 2 e) = e^2, which float32 arithmetic loses even with one rounding less.
  const float e = std::ldexp(1.0f, -12), a = 1 + e;
  const Input<float> jacobian = input_of<float>({a, 1 + 2 * e, 1, a, -1, 0});
  Output<float> out(4);
  on_every_instruction_set([&] {
    cross(jacobian.data(), 1, 2, 3, false, out.data(), {1});
    CHECK(out.data()[1] == std::ldexp(1.0f, -24));
    CHECK(out.data()[2] == std::ldexp(1.0f, -24));
  });
}

TEST_CASE_TEMPLATE("cross: zeros of both signs, denormals, infinities, NaN", T, float, double) {
  Random random(4);
  for (int repeat = 0; repeat < 30; ++repeat) {
    check(Input<T>(9 * 3 * 2, [&] { return random.awkward<T>(); }), 9, 3, 2);
  }
}

}  // namespace
}  // namespace gradsplinter
