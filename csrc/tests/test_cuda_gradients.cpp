// The CUDA kernels on the host (cuda_on_host.h) against the CPU's.
#include "testing_cuda.h"

namespace gradsplinter {
namespace {

template <class T>
void check(const Steps<T>& steps, const Input<uint64_t>& patterns, int64_t modes,
           const Input<T>& directions, int64_t count,
           std::initializer_list<bool> normalized = {false, true}) {
  CAPTURE(modes);
  CAPTURE(count);
  const auto layers = steps.layers();
  const int64_t width = steps.widths[0];
  std::vector<T> want(static_cast<size_t>(modes * count * width));
  jacobian(layers, steps.output, patterns.data(), modes, directions.data(), count, want.data(),
           Run{});
  Output<T> jacobians(modes * count * width);
  TestDevice on;
  const int before = waits;
  cuda::jacobian(layers, steps.output, patterns.data(), modes, directions.data(), count,
                 jacobians.data(), on.device);
  jacobians.check(want.data());
  for (const bool normalize : normalized) {
    std::vector<T> products(static_cast<size_t>(modes * count * count));
    cross(want.data(), modes, count, width, normalize, products.data(), Run{});
    Output<T> found(modes * count * count);
    cuda::cross(want.data(), modes, count, width, normalize, found.data(), on.device);
    found.check(products.data());
    gram(layers, steps.output, patterns.data(), modes, directions.data(), count, normalize,
         products.data(), Run{});
    Output<T> grams(modes * count * count);
    cuda::gram(layers, steps.output, patterns.data(), modes, directions.data(), count, normalize,
               grams.data(), on.device);
    grams.check(products.data());
  }
  CHECK(waits == before);
}

template <class T>
void check(const std::vector<int64_t>& widths, bool output, int64_t modes, int64_t count,
           uint64_t seed, std::initializer_list<bool> normalized = {false, true}) {
  CAPTURE(widths.size());
  CAPTURE(output);
  Random random(seed);
  const Steps<T> steps(widths, output, [&] { return random.uniform<T>(); });
  const auto patterns = steps.patterns(random, modes);
  const Input<T> directions(count * widths.back(), [&] { return random.uniform<T>(); });
  check(steps, patterns, modes, directions, count, normalized);
}

TEST_CASE_TEMPLATE("cuda gradients: depths and sites", T, float, double) {
  for (const bool output : {false, true}) {
    check<T>({5, 3}, output, 4, 3, 1);
    check<T>({70, 33}, output, 4, 2, 2);
    check<T>({3, 40, 70, 2}, output, 19, 2, 3);
    check<T>({30, 9, 20, 8, 17}, output, 11, 9, 4);
    check<T>({9, 9, 9, 9, 9, 9}, output, 5, 1, 5);
  }
}

TEST_CASE_TEMPLATE("cuda gradients: tiles that are not full", T, float, double) {
  uint64_t seed = 10;
  for (const int64_t inputs : {1, 127, 128, 129, 255, 256, 257, 300}) {
    check<T>({inputs, 33}, false, 3, 2, ++seed);
  }
  for (const int64_t units : {1, 31, 32, 33, 63, 64, 65, 130}) {
    check<T>({20, units, 3}, true, 3, 3, ++seed);
  }
  for (const int64_t modes : {0, 1, 7, 8, 9, 17}) check<T>({6, 5, 4}, true, modes, 4, ++seed);
  for (const int64_t count : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 46, 47}) {
    check<T>({30, 7, 5}, true, 2, count, ++seed);
  }
}

TEST_CASE("cuda gradients: a thousand directions, more than shared memory holds") {
  check<float>({3, 4}, false, 1, 1300, 50, {true});
}

// Memory of an allocation's own, whose vectors are aligned.
TEST_CASE_TEMPLATE("cuda gradients: aligned", T, float, double) {
  Random random(80);
  for (const int64_t inputs : {4, 12, 64, 260, 272}) {
    for (const int64_t count : {2, 10, 13}) {
      CAPTURE(inputs);
      CAPTURE(count);
      const int64_t modes = 70;
      const Steps<T> steps({inputs, 68, 20, 4}, true, [&] { return random.uniform<T>(); });
      const auto patterns = steps.patterns(random, modes);
      const Input<T> directions(count * 4, [&] { return random.uniform<T>(); });
      auto layers = steps.layers();
      std::vector<T> jacobians(static_cast<size_t>(modes * count * inputs)), want = jacobians;
      jacobian(layers, true, patterns.data(), modes, directions.data(), count, want.data(), Run{});
      std::vector<T> products(static_cast<size_t>(modes * count * count)), found = products;
      cross(want.data(), modes, count, inputs, true, products.data(), Run{});
      std::vector<std::vector<T>> weights;
      for (auto& layer : layers) {
        weights.emplace_back(layer.weight, layer.weight + layer.inputs * layer.outputs);
        layer.weight = weights.back().data();
      }
      TestDevice on;
      cuda::jacobian(layers, true, patterns.data(), modes, directions.data(), count,
                     jacobians.data(), on.device);
      CHECK(first_difference(jacobians.data(), want.data(), modes * count * inputs) == -1);
      cuda::cross(want.data(), modes, count, inputs, true, found.data(), on.device);
      CHECK(first_difference(found.data(), products.data(), modes * count * count) == -1);
    }
  }
}

// Two equal rows with opposite signs: their gradients cancel, to zero or to what rounding left.
TEST_CASE("cuda gradients: terms that cancel are computed from the gradients") {
  Random random(60);
  Steps<float> steps({40, 6, 3}, true, [&] { return random.uniform<float>(); });
  for (int64_t k = 0; k < 40; ++k) steps.weights[0][40 + k] = steps.weights[0][k];
  for (int64_t d = 0; d < 3; ++d) {
    for (int64_t j = 2; j < 6; ++j) steps.weights[1][d * 6 + j] = 0;
    steps.weights[1][d * 6 + 1] = -steps.weights[1][d * 6];
  }
  const auto patterns = steps.patterns(random, 20);
  const Input<float> directions(4 * 3, [&] { return random.uniform<float>(); });
  check(steps, patterns, 20, directions, 4);
}

TEST_CASE_TEMPLATE("cuda gradients: zeros, infinities, NaN", T, float, double) {
  Random random(70);
  for (int i = 0; i < 20; ++i) {
    const Steps<T> steps({5, 4, 3}, true, [&] { return random.awkward<T>(); });
    const auto patterns = steps.patterns(random, 9);
    const Input<T> directions(2 * 3, [&] { return random.uniform<T>(); });
    check(steps, patterns, 9, directions, 2);
  }
}

TEST_CASE("cuda gradients: what one piece of the modes takes is freed before the next") {
  int64_t alive = 0;  // outlives the memory, whose last pieces are freed by its base class
  class Counting : public TestMemory {
   public:
    explicit Counting(int64_t& alive) : alive(alive) {}
    std::shared_ptr<void> own(int64_t bytes) override {
      alive += bytes;
      const auto piece = TestMemory::own(bytes);
      return {piece.get(), [&alive = alive, piece, bytes](void*) { alive -= bytes; }};
    }
    int64_t& alive;
  } memory(alive);
  memory.get(100);
  for (int piece = 0; piece < 3; ++piece) {
    const cuda::Memory::Piecewise scratch(memory);
    memory.get(10);
    memory.get(1);
    CHECK(alive == 111);
  }
  CHECK(alive == 100);
}

}  // namespace
}  // namespace gradsplinter
