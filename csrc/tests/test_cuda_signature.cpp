// The CUDA kernels on the host (cuda_on_host.h) against the CPU's.
#include <algorithm>

#include "scalar.h"
#include "testing_cuda.h"

namespace gradsplinter {
namespace {

// A network and its inputs, copied to where vectors of 16 bytes may begin.
template <class T>
struct Aligned {
  std::vector<T> x;
  std::vector<std::vector<T>> weights;
  std::vector<Layer<T>> layers;

  Aligned(const Net<T>& net, const T* from, int64_t n)
      : x(from, from + n * net.widths[0]), layers(net.layers()) {
    for (Layer<T>& layer : layers) {
      weights.emplace_back(layer.weight, layer.weight + layer.inputs * layer.outputs);
      layer.weight = weights.back().data();
    }
  }
};

template <class T>
void check(const Net<T>& net, const T* x, int64_t n, const std::vector<int64_t>& sites,
           bool outputs) {
  CAPTURE(n);
  CAPTURE(outputs);
  int64_t words = 0;
  for (const int64_t site : sites) words += words_of(net.widths[static_cast<size_t>(site)]);
  const int64_t size = outputs ? n * net.widths.back() : 0;
  std::vector<uint64_t> want(static_cast<size_t>(n * words));
  std::vector<T> want_y(static_cast<size_t>(size));
  signatures(net.layers(), sites, x, n, want.data(), outputs ? want_y.data() : nullptr, {1});
  const int before = waits;
  const auto run = [&](const std::vector<Layer<T>>& layers, const T* from) {
    Output<uint64_t> signature(n * words);
    Output<T> y(size);
    TestDevice on;
    cuda::signatures(layers, sites, from, n, signature.data(), outputs ? y.data() : nullptr,
                     on.device);
    signature.check(want.data());
    y.check(want_y.data());
  };
  // Small networks by the kernel of wide ones too, and both with whole vectors: Input is unaligned.
  const bool either = n <= 33 && *std::max_element(net.widths.begin(), net.widths.end()) <= 64;
  for (const bool only_wide : either ? std::vector{true, false} : std::vector{false}) {
    CAPTURE(only_wide);
    cuda::only_wide = only_wide;
    run(net.layers(), x);
    const Aligned<T> memory(net, x, n);
    run(memory.layers, memory.x.data());
  }
  CHECK(waits == before);
}

TEST_CASE_TEMPLATE("cuda signature: small networks", T, float, double) {
  Random random(1);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t width : {1, 7, 8, 9, 31, 32, 33, 63, 64}) {
    CAPTURE(width);
    const Net<T> net({width, width / 2 + 1, width, 3}, make);
    const Input<T> x(600 * width, make);
    for (const int64_t n : {0, 1, 31, 32, 33, 127, 128, 129, 600}) {
      check(net, x.data(), n, {1, 2}, n % 2 == 0);
    }
    check(net, x.data(), 5, {2}, false);
    check(net, x.data(), 5, {1}, false);
    check(net, x.data(), 5, {1}, true);
    check(net, x.data(), 5, {}, true);
    check(net, x.data(), 5, {}, false);
  }
}

TEST_CASE_TEMPLATE("cuda signature: more layers than a small network may have", T, float, double) {
  Random random(2);
  const auto make = [&] { return 3 * random.uniform<T>(); };
  for (const size_t depth : {31, 32, 33, 40}) {
    const Net<T> net(std::vector<int64_t>(depth + 1, 5), make);
    const Input<T> x(50 * 5, make);
    check(net, x.data(), 50, all_sites(net.depth()), true);
  }
}

TEST_CASE_TEMPLATE("cuda signature: wide layers", T, float, double) {
  Random random(3);
  const auto make = [&] { return random.uniform<T>(); };
  for (const std::vector<int64_t>& widths : {std::vector<int64_t>{3, 65, 2},
                                             {65, 1, 1},
                                             {1, 127, 128, 129, 130},
                                             {128, 129, 64, 3},
                                             {7, 200, 9, 257, 1},
                                             {9, 16, 16, 300}}) {
    const Net<T> net(widths, make);
    const Input<T> x(130 * widths[0], make);
    for (const int64_t n : {0, 1, 63, 64, 65, 127, 128, 129, 130}) {
      check(net, x.data(), n, all_sites(net.depth()), n % 2 == 0);
    }
    check(net, x.data(), 70, {net.depth() - 1}, true);
    check(net, x.data(), 70, {1}, false);
    check(net, x.data(), 70, {}, true);
  }
}

TEST_CASE_TEMPLATE("cuda signature: zeros of either sign, infinities, NaN", T, float, double) {
  Random random(4);
  const auto make = [&] { return random.awkward<T>(); };
  for (const int64_t width : {5, 70}) {
    const Net<T> net({width, width, width}, make);
    const Input<T> x(40 * width, make);
    check(net, x.data(), 40, {1}, true);
  }
  const Net<T> net({1, 1}, {{T(-0.0)}}, {{T(-0.0)}});
  const Input<T> x(1, [] { return T(1); });
  check(net, x.data(), 1, {}, true);
}

}  // namespace
}  // namespace gradsplinter
