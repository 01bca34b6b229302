// The CUDA kernels on the host (cuda_on_host.h) against the CPU's.
#include <algorithm>
#include <limits>
#include <stdexcept>

#include "cuda/limits.h"
#include "cuda/table.h"
#include "row_table.h"
#include "scalar.h"
#include "testing_cuda.h"

namespace gradsplinter {
namespace {

template <class Entry>
struct Found {
  std::vector<int64_t> first, counts, ids;

  Found(const Entry* rows, int64_t n, int64_t width) {
    const auto size = static_cast<size_t>(n);
    first.resize(size), counts.resize(size), ids.resize(size);
    const auto unique = static_cast<size_t>(
        unique_rows(rows, n, width, 64, first.data(), counts.data(), ids.data(), Run{}));
    first.resize(unique), counts.resize(unique);
  }
};

// What the GPU finds.
template <class Entry>
struct FoundOnDevice {
  Output<int64_t> ids;
  std::vector<Output<int64_t>> results;  // first, counts
  int64_t unique;

  FoundOnDevice(const Entry* rows, int64_t n, int64_t width, int hash_bits, uint64_t slots)
      : ids(n) {
    TestDevice on;
    const int before = waits;
    unique = cuda::unique_rows(
        rows, n, width, hash_bits, slots, ids.data(),
        [&](int64_t count) {
          for (int i = 0; i < 2; ++i) results.emplace_back(count);
          return cuda::Unique{results[0].data(), results[1].data()};
        },
        on.device);
    CHECK((waits > before) == (n > 0));
  }
};

// The same entries where they can be loaded by 16 bytes: an Input is never aligned so.
template <class Entry>
std::vector<Entry> aligned(const Entry* entries, int64_t n) {
  return {entries, entries + n};
}

template <class Entry>
void check(const Entry* rows, int64_t n, int64_t width, int hash_bits, uint64_t slots) {
  CAPTURE(n);
  CAPTURE(width);
  CAPTURE(hash_bits);
  CAPTURE(slots);
  const Found<Entry> want(rows, n, width);
  const std::vector<Entry> copy = aligned(rows, n * width);
  const bool matters = width * static_cast<int64_t>(sizeof(Entry)) % 16 == 0;
  for (const Entry* const at : {rows, copy.data()}) {
    if (at == copy.data() && !matters) continue;
    FoundOnDevice<Entry> found(at, n, width, hash_bits, slots);
    REQUIRE(found.unique == static_cast<int64_t>(want.first.size()));
    found.ids.check(want.ids.data());
    found.results[0].check(want.first.data());
    found.results[1].check(want.counts.data());
  }
}

// n rows of which each is one of `kinds`.
template <class Entry, class Make>
Input<Entry> some_rows(Random& random, int64_t n, int64_t width, int64_t kinds, const Make& make) {
  const Input<Entry> of_kind(kinds * width, make);
  Input<Entry> rows(n * width);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t kind = random.below(kinds);
    for (int64_t j = 0; j < width; ++j) rows[i * width + j] = of_kind[kind * width + j];
  }
  return rows;
}

TEST_CASE("cuda unique rows: words") {
  Random random(1);
  for (const int64_t width : {0, 1, 2, 3, 7}) {
    for (const int64_t n : {0, 1, 31, 32, 33, 255, 256, 257, 2047, 2048, 2049, 5000}) {
      for (const int64_t kinds : {1, 40, 100000}) {
        const auto rows =
            some_rows<uint64_t>(random, n, width, kinds, [&] { return random.bits(); });
        check(rows.data(), n, width, 64, cuda::first_slots);
      }
    }
  }
}

TEST_CASE("cuda unique rows: more than a block counts for itself, and a table that grows") {
  Random random(2);
  for (const int64_t kinds : {30, 2001, 100000}) {
    const int64_t width = kinds % 2 + 1;
    const auto rows =
        some_rows<uint64_t>(random, 9000, width, kinds, [&] { return random.bits(); });
    for (const uint64_t slots : {uint64_t{1}, uint64_t{1} << 11, uint64_t{1} << 13}) {
      check(rows.data(), 9000, width, 64, slots);
    }
  }
}

// More than go in before the others, and than 16 bits can count.
TEST_CASE("cuda unique rows: many, most of one kind") {
  Random random(9);
  const int64_t n = (int64_t{1} << 18) + 5000;
  Input<uint64_t> rows(n, [&] { return random.below(4) == 0 ? random.below(100) : 7; });
  for (int64_t i = n - 50; i < n; ++i) rows[i] = 1000 + static_cast<uint64_t>(i) % 9;
  check(rows.data(), n, 1, 64, 4096);
}

// In parts, with the first one of the frequent kind late in its part, or early.
TEST_CASE("cuda unique rows: many kinds, one of them frequent") {
  Random random(11);
  for (const int64_t width : {1, 2}) {
    const int64_t n = 9000;
    Input<uint64_t> rows(n * width, [&] { return random.bits(); });
    for (int64_t i = 0; i < n; ++i) {
      if (random.below(2) == 0) continue;
      for (int64_t k = 0; k < width; ++k) rows[i * width + k] = 5;
    }
    check(rows.data(), n, width, 64, 64);
  }
}

TEST_CASE("cuda unique rows: hashes that collide") {
  Random random(3);
  const auto rows = some_rows<uint64_t>(random, 700, 2, 60, [&] { return random.bits(); });
  for (const int bits : {0, 1, 3, 32}) check(rows.data(), 700, 2, bits, 1);
}

TEST_CASE_TEMPLATE("cuda unique rows: floats", T, float, double) {
  Random random(4);
  const auto make = [&] {
    const T value = random.awkward<T>();
    return value == value ? value : T(0);
  };
  for (const int64_t width : {1, 2, 3, 10}) {
    const auto rows = some_rows<T>(random, 600, width, 50, make);
    check(rows.data(), 600, width, 64, cuda::first_slots);
  }
}

TEST_CASE_TEMPLATE("cuda unique rows: the first NaN is named", T, float, double) {
  Input<T> rows(20000 * 3, [] { return T(1); });
  for (int64_t i = 0; i < 20000; ++i) rows[i * 3] = static_cast<T>(i);
  for (const int64_t at : {59999, 40000, 3 * 300 + 1}) {
    rows[at] = std::numeric_limits<T>::quiet_NaN();
    const std::string message = "rows must not hold NaN, which equals nothing; got one at [" +
                                std::to_string(at / 3) + ", " + std::to_string(at % 3) + "]";
    for (const uint64_t slots : {uint64_t{1} << 14, cuda::first_slots}) {
      CHECK_THROWS_WITH_AS(FoundOnDevice<T>(rows.data(), 20000, 3, 64, slots), message.c_str(),
                           std::invalid_argument);
    }
  }
}

TEST_CASE("cuda unique rows: bools, and bytes that are none") {
  Random random(5);
  for (const int64_t width : {1, 16, 31, 32, 33, 48, 63, 64, 65, 80, 128, 130, 784}) {
    CAPTURE(width);
    for (const int64_t n : {1, 120}) {
      auto rows = some_rows<uint8_t>(random, n, width, 20,
                                     [&] { return static_cast<uint8_t>(random.below(2)); });
      check(rows.data(), n, width, 64, cuda::first_slots);
      for (const int other : {2, 128}) {
        rows[n * width - 1 - static_cast<int64_t>(random.below(std::min(n * width, int64_t{70})))] =
            static_cast<uint8_t>(other);
        const std::vector<uint8_t> copy = aligned(rows.data(), n * width);
        for (const uint8_t* const at : {static_cast<const uint8_t*>(rows.data()), copy.data()}) {
          CHECK_THROWS_AS(FoundOnDevice<uint8_t>(at, n, width, 64, cuda::first_slots),
                          std::invalid_argument);
        }
      }
    }
  }
}

TEST_CASE("cuda pack: a byte that is not 0 counts as 1") {
  Random random(10);
  for (const int64_t width : {1, 16, 31, 48, 63, 64, 65, 80, 128, 130, 784}) {
    CAPTURE(width);
    const int64_t n = 299, size = n * words_of(width);
    for (const uint64_t values : {2, 256}) {
      const Input<uint8_t> bytes(n * width, [&] {
        return static_cast<uint8_t>(random.below(2) == 0 ? 0 : random.below(values));
      });
      std::vector<uint8_t> bools;
      for (int64_t i = 0; i < n * width; ++i) bools.push_back(bytes[i] != 0);
      std::vector<uint64_t> want(static_cast<size_t>(size));
      pack_bits(bools.data(), n, width, want.data(), Run{});
      const std::vector<uint8_t> copy = aligned(bytes.data(), n * width);
      for (const uint8_t* const at : {bytes.data(), copy.data()}) {
        Output<uint64_t> words(size);
        TestDevice on;
        cuda::pack_bits(at, n, width, words.data(), on.device);
        words.check(want.data());
      }
    }
  }
}

// Modes of the kinds of row that `make` makes, piece by piece, into a table on the device and one
// on the CPU.
template <class Make>
void check_table(Random& random, int64_t words, int hash_bits, int64_t kinds,
                 std::initializer_list<int64_t> pieces, const Make& make) {
  CAPTURE(words);
  CAPTURE(hash_bits);
  cuda::ModeTable table(words, hash_bits);
  RowTable<> want(words);
  int64_t examples = 0;
  for (const int64_t n : pieces) {
    CAPTURE(n);
    const auto all = some_rows<uint64_t>(random, n, words, kinds, make);
    const Found<uint64_t> different(all.data(), n, words);
    const auto count = static_cast<int64_t>(different.first.size());
    Input<uint64_t> rows(count * words);
    std::vector<int64_t> want_ids;
    int64_t missing = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = different.first[static_cast<size_t>(i)];
      for (int64_t k = 0; k < words; ++k) rows[i * words + k] = all[first * words + k];
      const uint64_t hash = hash_row(rows.data() + i * words, words);
      missing += want.find(rows.data() + i * words, hash) < 0;
      want_ids.push_back(want.insert(rows.data() + i * words, hash,
                                     different.counts[static_cast<size_t>(i)], examples + first));
    }
    TestDevice on;
    on.device.stream = n % 700 == 0 ? nullptr : &on;  // the table moves from stream to stream
    CHECK(table.missing(rows.data(), count, on.device) == missing);
    Output<int64_t> ids(count);
    table.insert(rows.data(), different.counts.data(), different.first.data(), count, n, 1,
                 ids.data(), on.device);
    ids.check(want_ids.data());
    examples += n;
    REQUIRE(table.size() == want.size());
    CHECK(table.examples() == examples);
    Output<uint64_t> signatures(table.size() * words);
    Output<int64_t> counts(table.size()), first(table.size());
    table.copy_to(signatures.data(), counts.data(), first.data(), on.device);
    signatures.check(want.row(0));
    std::vector<int64_t> want_counts, want_first;
    for (int64_t id = 0; id < want.size(); ++id) {
      want_counts.push_back(want.count(id));
      want_first.push_back(want.first(id));
    }
    counts.check(want_counts.data());
    first.check(want_first.data());
  }
  CHECK(table.undercount() == static_cast<int64_t>(pieces.size()));
}

TEST_CASE("cuda table of modes: the ids, counts and first examples of the CPU's") {
  Random random(7);
  for (const int64_t words : {0, 1, 2, 5}) {
    check_table(random, words, 64, 2000, {0, 1, 700, 300, 5000}, [&] { return random.below(9); });
  }
}

TEST_CASE("cuda table of modes: hashes that collide") {
  Random random(8);
  for (const int bits : {0, 1, 8}) {
    for (const int64_t words : {1, 3}) {
      const int64_t values = words == 1 ? 600 : 8;  // so that pieces have modes in common
      check_table(random, words, bits, 2000, {1, 700, 300, 800},
                  [&] { return random.below(values); });
    }
  }
}

TEST_CASE("cuda unique rows and modes: no more than can be numbered") {
  const int64_t most = (int64_t{1} << 32) - 2;
  const auto none = [](int64_t) -> cuda::Unique { throw std::logic_error("asked for memory"); };
  TestDevice on;
  CHECK_THROWS_WITH_AS(
      cuda::unique_rows<uint64_t>(nullptr, most + 1, 2, 64, 1, nullptr, none, on.device),
      "rows must be at most 4294967294 (2^32 - 2) on a GPU, got 4294967295", std::length_error);
  CHECK_THROWS_WITH_AS(
      cuda::check_rows(most + 3, "the modes of x must be"),
      "the modes of x must be at most 4294967294 (2^32 - 2) on a GPU, got 4294967297",
      std::length_error);
  cuda::check_rows(most, "rows must be");
}

TEST_CASE("cuda hash: rows of a matrix") {
  Random random(6);
  for (const int64_t words : {0, 1, 2, 3, 8, 17}) {
    const Input<uint64_t> rows(700 * words, [&] { return random.bits(); });
    for (const int64_t n : {0, 1, 255, 256, 257, 700}) {
      std::vector<uint64_t> want(static_cast<size_t>(n));
      hash_rows(rows.data(), n, words, want.data(), Run{});
      const std::vector<uint64_t> copy = aligned(rows.data(), n * words);
      for (const uint64_t* const at : {rows.data(), copy.data()}) {
        Output<uint64_t> hashes(n);
        TestDevice on;
        cuda::hash_rows(at, n, words, hashes.data(), on.device);
        hashes.check(want.data());
      }
    }
  }
}

}  // namespace
}  // namespace gradsplinter
