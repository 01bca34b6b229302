#include <cmath>
#include <map>
#include <stdexcept>

#include "scalar.h"
#include "testing.h"

namespace gradsplinter {
namespace {

struct Expected {
  std::vector<int64_t> first, counts, ids;

  // Rows compare as numbers: -0.0 == 0.0.
  template <class Entry>
  Expected(const Entry* rows, int64_t n, int64_t width) {
    std::map<std::vector<Entry>, int64_t> seen;
    for (int64_t i = 0; i < n; ++i) {
      const std::vector<Entry> row(rows + i * width, rows + (i + 1) * width);
      const auto [at, is_new] = seen.emplace(row, static_cast<int64_t>(first.size()));
      if (is_new) {
        first.push_back(i);
        counts.push_back(0);
      }
      ++counts[static_cast<size_t>(at->second)];
      ids.push_back(at->second);
    }
  }
};

template <class Entry>
void check(const Input<Entry>& rows, int64_t n, int64_t width, int hash_bits = 64) {
  CAPTURE(n);
  CAPTURE(width);
  CAPTURE(hash_bits);
  const Expected expected(rows.data(), n, width);
  const auto unique = static_cast<int64_t>(expected.first.size());
  for (const int threads : {1, 2, 3, 4}) {
    CAPTURE(threads);
    Output<int64_t> first(unique), counts(unique), ids(n);
    CHECK(unique_rows(rows.data(), n, width, hash_bits, first.data(), counts.data(), ids.data(),
                      {threads}) == unique);
    first.check(expected.first.data());
    counts.check(expected.counts.data());
    ids.check(expected.ids.data());
  }
}

// n rows, each one of `kinds` rows.
template <class Entry, class Make>
Input<Entry> rows_of(Random& random, int64_t n, int64_t width, int64_t kinds, const Make& make) {
  const Input<Entry> kind(kinds * width, make);
  Input<Entry> rows(n * width);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = random.below(kinds) * width;
    for (int64_t j = 0; j < width; ++j) rows[i * width + j] = kind[from + j];
  }
  return rows;
}

// Rows of two words with one and the same hash: where the lower halves of both are those of a
// constant of wyhash, it multiplies by 0.
Input<uint64_t> colliding_rows(int64_t n) {
  constexpr uint64_t constant = Wyhash::secret[1];
  Input<uint64_t> rows(2 * n);
  for (int64_t i = 0; i < n; ++i) {
    rows[2 * i] = static_cast<uint64_t>(i) << 32 | constant >> 32;
    rows[2 * i + 1] = static_cast<uint64_t>(3 * i) << 32 | (constant & 0xFFFFFFFFu);
  }
  return rows;
}

// Around a batch of hashes (32) and the rows for which a thread is worth it (1,024).
const std::vector<int64_t> row_counts = {0, 1, 31, 32, 33, 1023, 1025, 2047, 2048, 2049, 4500};

TEST_CASE("unique: rows of words") {
  Random random(1);
  for (const int64_t width : {1, 2, 3, 4, 5, 9}) {
    for (const int64_t n : row_counts) {
      check(rows_of<uint64_t>(random, n, width, 50, [&] { return random.bits(); }), n, width);
    }
    // Words that differ in one bit only, and words of a NaN's or an infinity's bits.
    check(rows_of<uint64_t>(random, 3000, width, 500,
                            [&] { return uint64_t{1} << random.below(64); }),
          3000, width);
  }
  const uint64_t odd[] = {0, 0x8000000000000000u, 0x7FF0000000000000u, 0x7FF8000000000000u};
  check(rows_of<uint64_t>(random, 100, 2, 50, [&] { return odd[random.below(4)]; }), 100, 2);
}

TEST_CASE_TEMPLATE("unique: rows of floats, of odd widths too", T, float, double) {
  Random random(2);
  for (const int64_t width : {1, 2, 3, 4, 5, 16, 17}) {
    for (const int64_t n : row_counts) {
      check(rows_of<T>(random, n, width, 50, [&] { return random.uniform<T>(); }), n, width);
    }
    // Few values in few places, so that rows differ in one entry, which may be the last.
    check(rows_of<T>(random, 2500, width, 600,
                     [&] {
                       const T value = random.awkward<T>();
                       return value == value ? value : T(7);
                     }),
          2500, width);
  }
}

TEST_CASE_TEMPLATE("unique: -0.0 equals 0.0, and nothing else is rounded", T, float, double) {
  const T tiny = std::numeric_limits<T>::denorm_min(), inf = std::numeric_limits<T>::infinity();
  const T values[] = {0, -T(0), tiny, -tiny, 1, std::nextafter(T(1), T(2)), inf, -inf, -T(0), 0};
  const std::vector<int64_t> want = {0, 0, 1, 2, 3, 4, 5, 6, 0, 0};
  for (const int64_t width : {1, 2, 3}) {  // the value is the last entry
    Input<T> rows(10 * width, [] { return T(3); });
    for (int64_t i = 0; i < 10; ++i) rows[(i + 1) * width - 1] = values[i];
    Output<int64_t> first(7), counts(7), ids(10);
    CHECK(unique_rows(rows.data(), 10, width, 64, first.data(), counts.data(), ids.data(), {1}) ==
          7);
    ids.check(want.data());
    CHECK(counts.data()[0] == 4);
    check(rows, 10, width);
  }
}

TEST_CASE_TEMPLATE("unique: NaN is refused, naming the first one", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Input<T> rows(5000 * 3, [] { return T(1); });
  Output<int64_t> first(5000), counts(5000), ids(5000);
  const auto call = [&](int threads) {
    unique_rows(rows.data(), 5000, 3, 64, first.data(), counts.data(), ids.data(), {threads});
  };
  rows[4900 * 3] = rows[3000 * 3 + 2] = rows[3000 * 3 + 1] = nan;
  for (const int threads : {1, 2, 3, 4}) {
    CHECK_THROWS_WITH_AS(call(threads),
                         "rows must not hold NaN, which equals nothing; got one at [3000, 1]",
                         std::invalid_argument);
  }
  rows[0] = -nan;
  CHECK_THROWS_WITH_AS(call(4), "rows must not hold NaN, which equals nothing; got one at [0, 0]",
                       std::invalid_argument);
}

TEST_CASE("unique: without a column all rows are one") {
  const int64_t none = 0;
  for (const int64_t n : {0, 1, 5, 5000}) {
    check(Input<uint64_t>(0), n, none);
    check(Input<float>(0), n, none);
    check(Input<double>(0), n, none);
  }
}

TEST_CASE("unique: forced collisions of the hash") {
  Random random(3);
  for (const int hash_bits : {0, 1, 4, 10, 33}) {
    for (const int64_t kinds : {1, 2, 60, 600}) {  // 600: the table grows while all collide
      check(rows_of<uint64_t>(random, 4200, 2, kinds, [&] { return random.bits(); }), 4200, 2,
            hash_bits);
      check(rows_of<float>(random, 2100, 3, kinds, [&] { return random.uniform<float>(); }), 2100,
            3, hash_bits);
    }
    // Rows that share all words but one, which may be any of them.
    check(rows_of<uint64_t>(random, 2100, 5, 60, [&] { return random.bits() & 1; }), 2100, 5,
          hash_bits);
  }
}

TEST_CASE("unique: real collisions of all 64 bits of the hash") {
  Random random(4);
  const int64_t kinds = 700, n = 4200;
  const Input<uint64_t> kind = colliding_rows(kinds);
  for (int64_t i = 1; i < kinds; ++i) {
    REQUIRE(hash_row(kind.data() + 2 * i, 2) == hash_row(kind.data(), 2));
    REQUIRE(kind[2 * i] != kind[0]);
  }
  Input<uint64_t> rows(2 * n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = random.below(kinds);
    rows[2 * i] = kind[2 * from];
    rows[2 * i + 1] = kind[2 * from + 1];
  }
  check(rows, n, 2);
}

TEST_CASE("unique: ids follow first appearance wherever a thread's rows begin") {
  // 4,400 rows: row i shows kind i / 11, so that each thread meets kinds of its own; then all kinds
  // again in descending order, so that every thread's table has them in another order.
  const int64_t n = 8800, kinds = 400;
  Input<uint64_t> rows(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t kind = i < 4400 ? i / 11 : (n - 1 - i) % kinds;
    rows[i] = static_cast<uint64_t>(kind) * 0x9E3779B97F4A7C15u;
  }
  check(rows, n, 1);
}

TEST_CASE("unique: the table grows") {
  Random random(5);
  const int64_t n = 20000;
  check(Input<uint64_t>(2 * n, [&] { return random.bits(); }), n, 2);  // all of them differ
  check(Input<double>(n, [&] { return static_cast<double>(random.below(6000)); }), n, 1);
  for (const int64_t edge : {127, 128, 129, 512, 513}) {  // an eighth full: 4 times the slots
    Input<uint64_t> rows(2 * edge);
    for (int64_t i = 0; i < 2 * edge; ++i) rows[i] = static_cast<uint64_t>(i % edge);
    check(rows, 2 * edge, 1);
  }
}

// From 65,536 rows on, if nearly all of a sample differ, all threads fill one table.
TEST_CASE("unique: a table that threads share") {
  Random random(6);
  const int64_t n = 70001;
  const auto word = [&] { return random.bits(); };
  const auto value = [&] {
    return random.uniform<float>() * static_cast<float>(random.bits() & 1);
  };
  check(Input<uint64_t>(2 * n, word), n, 2);  // all of them differ
  check(rows_of<uint64_t>(random, n, 2, 60000, word), n, 2);
  check(rows_of<uint64_t>(random, n, 2, 60000, word), n, 2, 10);  // and collide
  check(rows_of<uint64_t>(random, n, 5, 60000, word), n, 5, 33);
  check(rows_of<float>(random, n, 3, 60000, value), n, 3);  // zeros of both signs among them
  check(rows_of<double>(random, n, 2, 60000, [&] { return random.uniform<double>(); }), n, 2);

  // The sample shows all rows different, yet one row is a third of them: its counter is shared.
  Input<uint64_t> heavy(n, word);
  for (int64_t i = 1; i < n; i += 3) heavy[i] = 7;
  for (int64_t i = 0; i < n; i += n / 4096) heavy[i] = static_cast<uint64_t>(i);
  check(heavy, n, 1);

  Input<float> nan(2 * n, [&] { return random.uniform<float>(); });
  nan[2 * 1234 + 1] = nan[2 * 60000] = nan[2 * (n / 4096)] =
      std::numeric_limits<float>::quiet_NaN();
  std::vector<int64_t> first(n), counts(n), ids(n);
  for (const int threads : {1, 2, 3}) {
    CHECK_THROWS_WITH(
        unique_rows(nan.data(), n, 2, 64, first.data(), counts.data(), ids.data(), {threads}),
        "rows must not hold NaN, which equals nothing; got one at [17, 0]");
  }
}

TEST_CASE("unique: an interrupt stops it") {
  const int64_t n = 100000;  // all different and all in collision, so to the end it takes seconds
  Input<uint64_t> rows(n);
  for (int64_t i = 0; i < n; ++i) rows[i] = static_cast<uint64_t>(i);
  std::vector<int64_t> first(n), counts(n), ids(n, -1);
  for (const int threads : {1, 2}) {
    const Run run{threads, [] { return true; }};
    CHECK_THROWS_AS(unique_rows(rows.data(), n, 1, 0, first.data(), counts.data(), ids.data(), run),
                    Interrupted);
    CHECK(ids[n / 2 - 1] == -1);
    CHECK(ids[n - 1] == -1);
  }
}

}  // namespace
}  // namespace gradsplinter
