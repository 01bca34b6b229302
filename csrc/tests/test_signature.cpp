#include <cmath>

#include "scalar.h"
#include "testing.h"

namespace gradsplinter {
namespace {

// The numeric contract, one example and one unit at a time.
template <class T>
struct Expected {
  std::vector<std::vector<uint64_t>> words;  // per hidden site [n, words]
  std::vector<T> y;                          // [n, h_L]

  Expected(const Net<T>& net, const T* x, int64_t n) : words(net.weights.size()) {
    for (int64_t i = 0; i < n; ++i) {
      std::vector<T> a(x + i * net.widths[0], x + (i + 1) * net.widths[0]);
      for (size_t l = 0; l < net.weights.size(); ++l) a = step(net, l, a);
      y.insert(y.end(), a.begin(), a.end());
    }
  }

 private:
  std::vector<T> step(const Net<T>& net, size_t l, const std::vector<T>& a) {
    const bool hidden = l + 1 < net.weights.size();
    std::vector<T> result;
    std::vector<uint64_t> bits(static_cast<size_t>(words_of(net.widths[l + 1])), 0);
    for (int64_t j = 0; j < net.widths[l + 1]; ++j) {
      T acc = net.biases[l][j];
      for (size_t k = 0; k < a.size(); ++k) {
        acc = std::fma(a[k], net.weights[l][j * net.widths[l] + static_cast<int64_t>(k)], acc);
      }
      const bool on = acc > 0;
      if (on) bits[static_cast<size_t>(j / 64)] |= uint64_t{1} << (j % 64);
      result.push_back(!hidden || on ? acc : T(0));
    }
    words[l].insert(words[l].end(), bits.begin(), bits.end());
    return result;
  }
};

// Examples [begin, begin + n) as a batch of their own, against what is expected of all examples.
template <class T>
void check(const Net<T>& net, const Expected<T>& expected, const T* x, int64_t begin, int64_t n,
           const std::vector<int64_t>& sites, bool outputs, int threads) {
  CAPTURE(begin);
  CAPTURE(n);
  CAPTURE(outputs);
  CAPTURE(threads);
  std::vector<uint64_t> want;
  for (int64_t i = begin; i < begin + n; ++i) {
    for (const int64_t site : sites) {
      const int64_t words = words_of(net.widths[static_cast<size_t>(site)]);
      const uint64_t* from = expected.words[static_cast<size_t>(site - 1)].data() + i * words;
      want.insert(want.end(), from, from + words);
    }
  }
  Output<uint64_t> signature(static_cast<int64_t>(want.size()));
  Output<T> y(outputs ? n * net.widths.back() : 0);
  signatures(net.layers(), sites, x + begin * net.widths[0], n, signature.data(),
             outputs ? y.data() : nullptr, {threads});
  signature.check(want.data());
  y.check(expected.y.data() + begin * net.widths.back());
}

// Around every tile (8, 16, 32 units; 1, 6, 14 examples), word (64) and block (56 or 60 examples).
const std::vector<int64_t> unit_counts = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130};
const std::vector<int64_t> example_counts = {0,  1,  2,  5,  6,  7,  13, 14,  15,
                                             55, 56, 57, 59, 60, 61, 63, 113, 185};

TEST_CASE_TEMPLATE("signature: tiles, words and blocks that are not full", T, float, double) {
  Random random(1);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t width : unit_counts) {
    CAPTURE(width);
    const Net<T> net({3, width, 2}, make);
    const Input<T> x(185 * 3, make);
    const Expected<T> expected(net, x.data(), 185);
    on_every_instruction_set([&] {
      for (const int64_t n : example_counts) {
        check(net, expected, x.data(), 0, n, {1}, n % 2 == 0, 1);
        check(net, expected, x.data(), 185 - n, n, {1}, n % 2 == 1, n < 57 ? 2 : 3);
      }
    });
  }
}

TEST_CASE_TEMPLATE("signature: input and output widths", T, float, double) {
  Random random(2);
  const auto make = [&] { return random.uniform<T>(); };
  for (const int64_t width : {0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
    CAPTURE(width);
    const Net<T> net({width, 5, width}, make);
    const Input<T> x(61 * width, make);
    const Expected<T> expected(net, x.data(), 61);
    on_every_instruction_set([&] {
      for (const int64_t n : {1, 13, 61}) check(net, expected, x.data(), 0, n, {1}, true, 2);
    });
  }
}

TEST_CASE_TEMPLATE("signature: any subset of the sites, with outputs or without", T, float,
                   double) {
  Random random(3);
  const auto make = [&] { return random.uniform<T>(); };
  const Net<T> net({4, 65, 33, 130, 64, 1, 3}, make);
  const Input<T> x(130 * 4, make);
  const Expected<T> expected(net, x.data(), 130);
  on_every_instruction_set([&] {
    for (unsigned subset = 0; subset < 32; ++subset) {
      CAPTURE(subset);
      std::vector<int64_t> sites;
      for (int64_t site = 1; site <= 5; ++site) {
        if ((subset >> (site - 1) & 1) != 0) sites.push_back(site);
      }
      const int threads = 1 + static_cast<int>(subset % 3);
      check(net, expected, x.data(), 0, 130, sites, false, threads);
      check(net, expected, x.data(), 0, 130, sites, true, threads);
    }
  });
}

TEST_CASE_TEMPLATE("signature: a net without hidden layers has outputs only", T, float, double) {
  Random random(4);
  const auto make = [&] { return random.uniform<T>(); };
  const Net<T> net({7, 19}, make);
  const Input<T> x(70 * 7, make);
  const Expected<T> expected(net, x.data(), 70);
  on_every_instruction_set([&] {
    for (const int64_t n : {0, 1, 70}) check(net, expected, x.data(), 0, n, {}, true, 2);
  });
}

TEST_CASE_TEMPLATE("signature: zeros of both signs, denormals, infinities, NaN", T, float, double) {
  Random random(5);
  const auto make = [&] { return random.awkward<T>(); };
  for (const int64_t width : {1, 9, 33, 65, 130}) {
    for (int repeat = 0; repeat < 8; ++repeat) {
      CAPTURE(width);
      const int64_t inputs = 1 + repeat % 3;
      const Net<T> net({inputs, width, width, 3}, make);
      const Input<T> x(75 * inputs, make);
      const Expected<T> expected(net, x.data(), 75);
      on_every_instruction_set(
          [&] { check(net, expected, x.data(), 0, 75, all_sites(3), true, 1 + repeat % 3); });
    }
  }
}

// The bits of one hidden layer of a net with outputs that are the hidden activations' sum.
template <class T>
uint64_t bits_of(const std::vector<T>& weights, const std::vector<T>& biases,
                 const std::vector<T>& x) {
  const auto width = static_cast<int64_t>(biases.size());
  const Net<T> net({static_cast<int64_t>(x.size()), width, 1},
                   {weights, std::vector<T>(biases.size(), T(1))}, {biases, {T(0)}});
  Output<uint64_t> signature(1);
  signatures(net.layers(), {1}, x.data(), 1, signature.data(), static_cast<T*>(nullptr), {1});
  return *signature.data();
}

TEST_CASE_TEMPLATE("signature: on means greater than zero", T, float, double) {
  using Limits = std::numeric_limits<T>;
  const T inf = Limits::infinity(), nan = Limits::quiet_NaN(), tiny = Limits::denorm_min();
  on_every_instruction_set([&] {
    // Units with weights 0: the bias alone decides.
    CHECK(bits_of<T>({0, 0, 0, 0, 0, 0, 0, 0}, {1, 0, -T(0), tiny, -tiny, inf, -inf, nan}, {1}) ==
          0b00101001);
    CHECK(bits_of<T>({1, -1, 0}, {0, 0, 1}, {inf}) == 0b001);  // inf, -inf, NaN
    CHECK(bits_of<T>({1, -1, 0}, {0, 0, 1}, {-inf}) == 0b010);
    CHECK(bits_of<T>({1, -1, 0}, {1, 1, 1}, {nan}) == 0b000);
    CHECK(bits_of<T>({1, -1, 1}, {0, 0, -T(0)}, {-T(0)}) == 0b000);
    CHECK(bits_of<T>({1, -1}, {0, 0}, {tiny}) == 0b01);
  });
}

TEST_CASE_TEMPLATE("signature: products are fused, in ascending order", T, float, double) {
  const T half_ulp = std::ldexp(T(1), -(std::numeric_limits<T>::digits / 2));
  const T a = 1 + half_ulp, square = 1 + 2 * half_ulp;  // a * a is a little more than `square`
  const T large = std::ldexp(T(1), 60), small = T(0.5);
  on_every_instruction_set([&] {
    CHECK(bits_of<T>({a, -a}, {-square, square}, {a}) == 0b01);
    // (large - large) + small is on, (large + small) - large would be off.
    CHECK(bits_of<T>({-large, small}, {large}, {1, 1}) == 0b1);
    CHECK(bits_of<T>({small, -large}, {large}, {1, 1}) == 0b0);
  });
}

TEST_CASE_TEMPLATE("signature: worked out by hand", T, float, double) {
  // z^1 = (x0 + x1, x0 - x1, -x0), z^2 = (a0 - a1, a1 + a2 - 1), y = 2 a0 - a1 + 10.
  const Net<T> net({2, 3, 2, 1}, {{1, 1, 1, -1, -1, 0}, {1, -1, 0, 0, 1, 1}, {2, -1}},
                   {{0, 0, 0}, {0, -1}, {10}});
  // (1, 2): z^1 = (3, -1, -1), z^2 = (3, -1), y = 16. (2, -1): (1, 3, -2), (-2, 2), 8.
  // (-3, 1): (-2, -4, 3), (0, 2), 8.
  const std::vector<T> x = {1, 2, 2, -1, -3, 1};
  const std::vector<uint64_t> bits = {0b001, 0b01, 0b011, 0b10, 0b100, 0b10};
  const std::vector<T> outputs = {16, 8, 8};
  on_every_instruction_set([&] {
    Output<uint64_t> signature(6);
    Output<T> y(3);
    signatures(net.layers(), {1, 2}, x.data(), 3, signature.data(), y.data(), {1});
    signature.check(bits.data());
    y.check(outputs.data());
  });
}

// unique_signatures against signatures and unique_rows.
template <class T>
void check_unique(const Net<T>& net, const std::vector<int64_t>& sites, int64_t n, const T* x) {
  CAPTURE(n);
  CAPTURE(sites.size());
  int64_t words = 0;
  for (const int64_t site : sites) words += words_of(net.widths[static_cast<size_t>(site)]);
  std::vector<uint64_t> all(static_cast<size_t>(n * words));
  std::vector<int64_t> first(static_cast<size_t>(n)), counts(first), ids(first);
  signatures<T>(net.layers(), sites, x, n, all.data(), nullptr, {1});
  const int64_t want =
      unique_rows(all.data(), n, words, 64, first.data(), counts.data(), ids.data(), {1});
  std::vector<uint64_t> unique;
  for (int64_t id = 0; id < want; ++id) {
    const uint64_t* row = all.data() + first[static_cast<size_t>(id)] * words;
    unique.insert(unique.end(), row, row + words);
  }
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    // Room for n rows, of which the first `want` are compared.
    std::vector<uint64_t> rows(all.size());
    std::vector<int64_t> first_rows(first.size()), row_counts(first.size());
    Output<int64_t> row_ids(n);
    const int64_t got = unique_signatures(net.layers(), sites, x, n, rows.data(), first_rows.data(),
                                          row_counts.data(), row_ids.data(), {threads});
    REQUIRE(got == want);
    CHECK(first_difference(rows.data(), unique.data(), want * words) == -1);
    CHECK(first_difference(first_rows.data(), first.data(), want) == -1);
    CHECK(first_difference(row_counts.data(), counts.data(), want) == -1);
    row_ids.check(ids.data());
  }
}

TEST_CASE_TEMPLATE("unique signatures: those of signatures and unique_rows", T, float, double) {
  Random random(8);
  const auto value = [&] { return random.uniform<T>(); };
  on_every_instruction_set([&] {
    for (const auto& widths : {std::vector<int64_t>{2, 5, 3, 1}, {3, 65, 7, 2}, {2, 70, 130, 1}}) {
      const Net<T> net(widths, value);
      const int64_t most = 5000;
      const Input<T> x(most * widths[0], value);
      for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{57}, int64_t{2047}, most}) {
        for (const auto& sites : {std::vector<int64_t>{}, {1}, {2}, {1, 2}}) {
          check_unique(net, sites, n, x.data());
        }
      }
    }
  });
  const Net<T> many({4, 130, 1}, value);  // nearly every example has its own
  const int64_t n = 66000;
  check_unique(many, {1}, n, Input<T>(n * 4, value).data());
}

}  // namespace
}  // namespace gradsplinter
