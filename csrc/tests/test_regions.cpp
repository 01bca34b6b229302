// Linear regions: the kernels against plain loops, counts known by hand, the same regions for any
// number of threads, and an interruption.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "regions.h"
#include "testing.h"

namespace gradsplinter {
namespace {

constexpr double square[] = {-1, -1, 1, -1, 1, 1, -1, 1};

TEST_CASE("regions: signs, and what lies within tolerance set to 0") {
  on_every_instruction_set([] {
    Random random(1);
    for (const int64_t stride : {8, 16, 56, 72, 128, 136, 200}) {
      CAPTURE(stride);
      constexpr int64_t points = 5;
      const int64_t words = words_of(stride);
      const Input<double> tolerance(stride, [&] { return random.below(2) == 0 ? 0.0 : 0.5; });
      Input<double> z(points * stride, [&] {
        return random.below(4) == 0 ? static_cast<double>(random.below(3) - 1) / 2
                                    : random.uniform<double>();
      });
      std::vector<double> want(z.data(), z.data() + points * stride);
      std::vector<uint64_t> want_positive(points * words, 0), want_negative(points * words, 0);
      int64_t want_cleared = 0;
      for (int64_t i = 0; i < points; ++i) {
        for (int64_t j = 0; j < stride; ++j) {
          double& value = want[i * stride + j];
          const uint64_t bit = uint64_t{1} << j % 64;
          if (value > tolerance[j]) want_positive[i * words + j / 64] |= bit;
          if (value < -tolerance[j]) want_negative[i * words + j / 64] |= bit;
          if (std::abs(value) > tolerance[j]) continue;
          want_cleared += value != 0;
          value = 0;
        }
      }
      Output<uint64_t> positive(points * words), negative(points * words);
      CHECK(kernels().signs({z.data(), points, stride, tolerance.data(), positive.data(),
                             negative.data(), words}) == want_cleared);
      positive.check(want_positive.data());
      negative.check(want_negative.data());
      CHECK(std::equal(want.begin(), want.end(), z.data()));
    }
  });
}

TEST_CASE("regions: the point between two others where a unit is 0") {
  on_every_instruction_set([] {
    Random random(2);
    for (const int64_t stride : {8, 56, 72, 136}) {
      for (const int64_t unit : {int64_t{0}, stride / 2, stride - 1}) {
        CAPTURE(stride);
        CAPTURE(unit);
        const int64_t words = words_of(stride);
        const Input<double> tolerance(stride, [] { return 0.125; });
        std::array<Input<double>, 2> ends{
            Input<double>(stride, [&] { return random.uniform<double>(); }),
            Input<double>(stride, [&] { return random.uniform<double>(); })};
        ends[0][unit] = 0.5;
        ends[1][unit] = -0.25;
        std::array<Input<uint64_t>, 2> positive{Input<uint64_t>(words), Input<uint64_t>(words)};
        std::array<Input<uint64_t>, 2> negative{Input<uint64_t>(words), Input<uint64_t>(words)};
        for (size_t i = 0; i < 2; ++i) {
          kernels().signs({ends[i].data(), 1, stride, tolerance.data(), positive[i].data(),
                           negative[i].data(), words});
        }
        const double t = 0.5 / 0.75;
        std::vector<double> want(static_cast<size_t>(stride));
        std::vector<uint64_t> want_positive(words, 0), want_negative(words, 0);
        int64_t want_cleared = 0;
        for (int64_t j = 0; j < stride; ++j) {
          const auto sign = [&](size_t i) {
            return static_cast<int>(positive[i][j / 64] >> j % 64 & 1) -
                   static_cast<int>(negative[i][j / 64] >> j % 64 & 1);
          };
          const double a = ends[0][j], b = ends[1][j], between = std::fma(t, b - a, a);
          int side = sign(0) + sign(1);  // of what is not crossed
          if (sign(0) * sign(1) < 0) side = between > 0.125 ? 1 : between < -0.125 ? -1 : 0;
          if (j == unit) side = 0;
          if (side > 0) want_positive[j / 64] |= uint64_t{1} << j % 64;
          if (side < 0) want_negative[j / 64] |= uint64_t{1} << j % 64;
          want[j] = side == 0 ? 0 : between;
          want_cleared += j != unit && side == 0 && between != 0;
        }
        Output<double> z(stride);
        Output<uint64_t> found_positive(words), found_negative(words);
        CHECK(kernels().between({ends[0].data(), ends[1].data(), t, unit, stride, tolerance.data(),
                                 positive[0].data(), negative[0].data(), positive[1].data(),
                                 negative[1].data(), words, z.data(), found_positive.data(),
                                 found_negative.data()}) == want_cleared);
        z.check(want.data());
        found_positive.check(want_positive.data());
        found_negative.check(want_negative.data());
      }
    }
  });
}

TEST_CASE("regions: activations of some units gathered") {
  on_every_instruction_set([] {
    Random random(3);
    for (const int64_t count : {0, 1, 7, 8, 17}) {
      constexpr int64_t rows = 3, stride = 40;
      const int64_t padded = count + 2;
      const Input<double> from(rows * stride, [&] { return random.uniform<double>(); });
      Input<int32_t> at(count);
      for (int64_t k = 0; k < count; ++k) at[k] = static_cast<int32_t>(random.below(stride));
      std::vector<double> want(static_cast<size_t>(rows * padded), 0);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t k = 0; k < count; ++k) {
          want[i * padded + k] = std::max(from[i * stride + at[k]], 0.0);
        }
      }
      Output<double> to(rows * padded);
      kernels().gather({from.data(), stride, rows, at.data(), count, padded, to.data()});
      to.check(want.data());
    }
  });
}

struct Written {
  std::vector<double> vertices, areas, centroids;
  std::vector<int64_t> offsets, neighbours;
  std::vector<uint64_t> signatures;
  bool operator==(const Written&) const = default;
};

Written write(const PlaneRegions& regions, int64_t words, int threads) {
  const auto n = static_cast<size_t>(regions.regions()),
             sides = static_cast<size_t>(regions.sides());
  Written written;
  written.vertices.resize(2 * sides);
  written.areas.resize(n);
  written.centroids.resize(2 * n);
  written.offsets.resize(n + 1);
  written.neighbours.resize(sides);
  written.signatures.resize(n * static_cast<size_t>(words));
  regions.write(written.vertices.data(), written.offsets.data(), written.signatures.data(),
                written.areas.data(), written.centroids.data(), written.neighbours.data(),
                Run{threads});
  return written;
}

Net<double> random_net(std::vector<int64_t> widths, uint64_t seed) {
  Random random(seed);
  const double scale = 1 / std::sqrt(static_cast<double>(widths.back()));
  return {std::move(widths), [&] { return scale * random.uniform<double>(); }};
}

// Of the sums of the first layer, where no coordinate is beyond 1.
std::vector<double> terms(const Net<double>& net) {
  const Layer<double> first = net.layers()[0];
  std::vector<double> found;
  for (int64_t j = 0; j < first.outputs; ++j) {
    found.push_back(std::abs(first.bias[j]));
    for (int64_t k = 0; k < first.inputs; ++k) {
      found.back() += std::abs(first.weight[j * first.inputs + k]);
    }
  }
  return found;
}

TEST_CASE("regions: borders through one point, coinciding and along the domain") {
  on_every_instruction_set([] {
    // s, t, s + t, 2 s, s - 1, and a dead unit.
    const Net<double> net({2, 6}, {{1, 0, 0, 1, 1, 1, 2, 0, 1, 0, 0, 0}}, {{0, 0, 0, 0, -1, -1}});
    const PlaneRegions regions(net.layers(), terms(net), square, 4, 100, Run{2});
    REQUIRE(regions.regions() == 6);
    CHECK(regions.complete());
    CHECK(regions.cleared() == 0);
    const Written found = write(regions, 1, 2);
    std::vector<uint64_t> patterns = found.signatures;
    std::sort(patterns.begin(), patterns.end());
    CHECK(patterns == std::vector<uint64_t>{0b0000, 0b0010, 0b0110, 0b1001, 0b1101, 0b1111});
    CHECK(std::accumulate(found.areas.begin(), found.areas.end(), 0.0) == 4);
    CHECK(std::count(found.areas.begin(), found.areas.end(), 1) == 2);
    CHECK(std::count(found.areas.begin(), found.areas.end(), 0.5) == 4);
  });
}

TEST_CASE("regions: the same for any number of threads") {
  const Net<double> net = random_net({2, 100, 70, 130}, 4);
  const int64_t words = words_of(100) + words_of(70) + words_of(130);
  const PlaneRegions alone(net.layers(), terms(net), square, 4, 1 << 20, Run{1});
  const Written want = write(alone, words, 1);
  CHECK(alone.regions() > 3000);
  CHECK(std::abs(std::accumulate(want.areas.begin(), want.areas.end(), 0.0) - 4) < 1e-11);
  CHECK(std::count(want.neighbours.begin(), want.neighbours.end(), PlaneRegions::unknown) == 0);
  for (const int threads : {2, 3}) {
    const PlaneRegions regions(net.layers(), terms(net), square, 4, 1 << 20, Run{threads});
    CHECK(regions.cleared() == alone.cleared());
    CHECK(write(regions, words, threads) == want);
  }
  const PlaneRegions some(net.layers(), terms(net), square, 4, 1000, Run{3});
  CHECK(!some.complete());
  CHECK(some.regions() > 1000);
  CHECK(some.regions() < alone.regions());
  write(some, words, 3);
}

TEST_CASE("regions: an interruption") {
  const Net<double> net = random_net({2, 700, 700, 700}, 5);  // seconds, without it
  const Run run{2, [] { return true; }};
  CHECK_THROWS_AS(PlaneRegions(net.layers(), terms(net), square, 4, int64_t{1} << 40, run),
                  Interrupted);
}

TEST_CASE("regions: of a segment") {
  on_every_instruction_set([] {
    const Net<double> net({1, 2, 1}, {{1, -1}, {1, 1}}, {{-0.25, 0.5}, {-0.375}});
    const LineRegions regions(net.layers(), terms(net), Run{});
    CHECK(regions.breakpoints() == std::vector<double>{0, 0.125, 0.25, 0.5, 0.625, 1});
    CHECK(regions.signatures() == std::vector<uint64_t>{2, 1, 2, 0, 3, 0, 1, 0, 1, 1});
    CHECK(regions.regions() == 5);
  });
  CHECK(LineRegions({}, {}, Run{}).regions() == 1);
}

}  // namespace
}  // namespace gradsplinter
