#include <cmath>

#include "scalar.h"
#include "testing.h"

namespace gradsplinter {
namespace {

// The numeric contract, one mode, direction and entry at a time.
template <class T>
std::vector<T> oracle(const Steps<T>& steps, const uint64_t* patterns, int64_t modes,
                      const T* directions, int64_t count) {
  std::vector<T> result;
  for (int64_t u = 0; u < modes; ++u) {
    for (int64_t d = 0; d < count; ++d) {
      const T* direction = directions + d * steps.widths.back();
      std::vector<T> gradient(direction, direction + steps.widths.back());
      const uint64_t* end = patterns + (u + 1) * steps.words();  // of the bits of layer l
      for (size_t l = steps.weights.size(); l-- > 0;) {
        const int64_t inputs = steps.widths[l], outputs = steps.widths[l + 1];
        const uint64_t* bits = nullptr;
        if (steps.rectified(l)) bits = end -= words_of(outputs);
        std::vector<T> next(static_cast<size_t>(inputs), T(0));
        for (int64_t k = 0; k < inputs; ++k) {
          T& acc = next[static_cast<size_t>(k)];
          for (int64_t j = 0; j < outputs; ++j) {
            if (bits != nullptr && (bits[j / 64] >> (j % 64) & 1) == 0) continue;
            acc = std::fma(gradient[static_cast<size_t>(j)], steps.weights[l][j * inputs + k], acc);
          }
        }
        gradient = next;
      }
      result.insert(result.end(), gradient.begin(), gradient.end());
    }
  }
  return result;
}

template <class T>
void run_and_check(const Steps<T>& steps, const uint64_t* patterns, int64_t modes,
                   const T* directions, int64_t count, const std::vector<T>& want, int threads) {
  CAPTURE(modes);
  CAPTURE(count);
  CAPTURE(threads);
  Output<T> out(static_cast<int64_t>(want.size()));
  jacobian(steps.layers(), steps.output, patterns, modes, directions, count, out.data(), {threads});
  out.check(want.data());
}

template <class T, class Make>
void check(const Steps<T>& steps, int64_t modes, int64_t count, Random& random, const Make& make,
           const std::vector<int>& thread_counts = {1}) {
  CAPTURE(steps.output);
  CAPTURE(steps.weights.size());
  const Input<uint64_t> patterns = steps.patterns(random, modes);
  const Input<T> directions(count * steps.widths.back(), make);
  const std::vector<T> want = oracle(steps, patterns.data(), modes, directions.data(), count);
  on_every_instruction_set([&] {
    for (const int threads : thread_counts) {
      run_and_check(steps, patterns.data(), modes, directions.data(), count, want, threads);
    }
  });
}

TEST_CASE_TEMPLATE("jacobian: widths around a vector and a word", T, float, double) {
  Random random(1);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t width : {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 130}) {
    CAPTURE(width);
    for (const bool output : {false, true}) {
      check(Steps<T>({width, 9, 5}, output, make), 4, 3, random, make);
      check(Steps<T>({5, width, 4}, output, make), 4, 3, random, make);
      check(Steps<T>({9, 5, width}, output, make), 4, 3, random, make);
    }
  }
}

TEST_CASE_TEMPLATE("jacobian: any number of directions", T, float, double) {
  Random random(2);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t count : {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 21}) {
    for (const int64_t width : {1, 67, 130}) {
      CAPTURE(width);
      check(Steps<T>({width, 33, 6}, true, make), 5, count, random, make);
      check(Steps<T>({width, 33}, false, make), 5, count, random, make);
    }
  }
}

TEST_CASE_TEMPLATE("jacobian: any number of modes, over threads", T, float, double) {
  Random random(3);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t modes : {0, 1, 2, 15, 16, 17, 32, 33, 100}) {
    check(Steps<T>({10, 20, 70, 3}, true, make), modes, 2, random, make, {1, 2, 3});
    check(Steps<T>({10, 20, 70}, false, make), modes, 2, random, make, {1, 2, 3});
    check(Steps<T>({10, 3}, true, make), modes, 2, random, make, {1, 2, 3});  // W^L in every mode
  }
}

TEST_CASE_TEMPLATE("jacobian: deep nets whose widest layer is anywhere", T, float, double) {
  Random random(4);
  const auto make = [&] { return random.uniform<T>(); };
  for (const bool output : {false, true}) {
    check(Steps<T>({130, 7, 65, 3, 9, 2}, output, make), 18, 5, random, make, {1, 2, 3});
    check(Steps<T>({3, 130, 7, 64, 2, 33}, output, make), 18, 5, random, make, {1, 2, 3});
    check(Steps<T>({2, 8, 16, 24, 32, 129}, output, make), 18, 5, random, make, {1, 2, 3});
    check(Steps<T>({0, 4, 3}, output, make), 3, 2, random, make, {1, 2, 3});
  }
}

TEST_CASE_TEMPLATE("jacobian: zeros of both signs, denormals, infinities, NaN", T, float, double) {
  Random random(5);
  const auto make = [&] { return random.awkward<T>(); };
  for (int repeat = 0; repeat < 20; ++repeat) {
    // Short chains, or all would be NaN.
    check(Steps<T>({21, 2, 2}, repeat % 2 == 0, make), 12, 4, random, make);
    check(Steps<T>({21, 3}, repeat % 2 == 0, make), 12, 4, random, make);
  }
}

template <class T>
Steps<T> steps_of(std::vector<int64_t> widths, bool output, const std::vector<T>& weights) {
  auto next = weights.begin();
  return Steps<T>(std::move(widths), output, [&] { return *next++; });
}

TEST_CASE_TEMPLATE("jacobian: worked out by hand", T, float, double) {
  // W^1 = ((1, 2), (3, 4), (5, 6)), W^2 = ((1, 10, 100), (2, 20, 200)).
  const auto steps = steps_of<T>({2, 3, 2}, true, {1, 2, 3, 4, 5, 6, 1, 10, 100, 2, 20, 200});
  const std::vector<uint64_t> patterns = {0b101, 0b010, 0b000};
  const std::vector<T> unit_directions = {1, 0, 0, 1};
  const std::vector<T> want = {501, 602, 1002, 1204, 30, 40, 60, 80, 0, 0, 0, 0};
  const std::vector<T> difference = {1, -1};
  const std::vector<T> want_difference = {-501, -602, -30, -40, 0, 0};
  on_every_instruction_set([&] {
    run_and_check(steps, patterns.data(), 3, unit_directions.data(), 2, want, 1);
    run_and_check(steps, patterns.data(), 3, difference.data(), 1, want_difference, 1);
  });
}

TEST_CASE_TEMPLATE("jacobian: an inner target has bits of its own", T, float, double) {
  // Site 1 from the input: (v o s) W. Then site 2: ((v o s^2) W^2 o s^1) W^1.
  const auto one = steps_of<T>({2, 3}, false, {1, 2, 3, 4, 5, 6});
  const auto two = steps_of<T>({2, 3, 2}, false, {1, 2, 3, 4, 5, 6, 1, 10, 100, 2, 20, 200});
  const std::vector<T> v1 = {1, 1, -1}, v2 = {1, 1};
  const std::vector<uint64_t> pattern1 = {0b101, 0b111}, pattern2 = {0b101, 0b10, 0b011, 0b11};
  // (2, 20, 200) o (1, 0, 1) = (2, 0, 200); (3, 30, 300) o (1, 1, 0) = (3, 30, 0).
  const std::vector<T> want1 = {-4, -4, -1, 0}, want2 = {1002, 1204, 93, 126};
  on_every_instruction_set([&] {
    run_and_check(one, pattern1.data(), 2, v1.data(), 1, want1, 1);
    run_and_check(two, pattern2.data(), 2, v2.data(), 1, want2, 1);
  });
}

TEST_CASE_TEMPLATE("jacobian: a unit that is off is skipped, whatever its weights", T, float,
                   double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto steps = steps_of<T>({2, 3, 1}, true, {1, 2, nan, inf, 5, 6, 1, nan, 100});
  const std::vector<uint64_t> off = {0b101, 0b000}, on = {0b111};
  const std::vector<T> direction = {1}, want = {501, 602, 0, 0}, poisoned = {nan, nan};
  on_every_instruction_set([&] {
    run_and_check(steps, off.data(), 2, direction.data(), 1, want, 1);
    run_and_check(steps, on.data(), 1, direction.data(), 1, poisoned, 1);
  });
}

TEST_CASE_TEMPLATE("jacobian: products are fused, in ascending order", T, float, double) {
  const T half_ulp = std::ldexp(T(1), -(std::numeric_limits<T>::digits / 2));
  const T a = 1 + half_ulp, square = 1 + 2 * half_ulp, large = std::ldexp(T(1), 60);
  const auto fused = steps_of<T>({1, 2}, true, {1, a});
  const auto ordered = steps_of<T>({1, 3}, true, {large, -large, T(0.5)});
  const std::vector<T> d = {-square, a}, ones = {1, 1, 1};
  const std::vector<T> rest = {half_ulp * half_ulp}, half = {T(0.5)};
  on_every_instruction_set([&] {
    run_and_check(fused, nullptr, 1, d.data(), 1, rest, 1);
    run_and_check(ordered, nullptr, 1, ones.data(), 1, half, 1);
  });
}

}  // namespace
}  // namespace gradsplinter
