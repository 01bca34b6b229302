// The table that threads share, with threads that ThreadSanitizer can follow (`make tsan`): those
// of OpenMP meet at barriers that it does not see.
#include <thread>

#include "scalar.h"
#include "shared_table.h"
#include "testing.h"

namespace gradsplinter {
namespace {

struct Words {
  const std::vector<uint64_t>& words;
  void prefetch(int64_t) const {}
  bool equal(int64_t i, int64_t j) const {
    return words[static_cast<size_t>(i)] == words[static_cast<size_t>(j)];
  }
};

// n rows of so many kinds, inserted by threads at once with hashes of so many bits: from row to
// equal row before it, each must lead to the first of its kind.
void check_first(int64_t n, int64_t kinds, int threads, int hash_bits) {
  CAPTURE(kinds);
  CAPTURE(threads);
  CAPTURE(hash_bits);
  Random random(static_cast<uint64_t>(kinds));
  std::vector<uint64_t> words(static_cast<size_t>(n));
  for (uint64_t& word : words) word = static_cast<uint64_t>(random.below(kinds));
  const Words rows{words};
  SharedTable<Words> table(rows, n);
  std::vector<int64_t> before(words.size(), -1);
  std::vector<std::vector<std::pair<int64_t, int64_t>>> replaced(static_cast<size_t>(threads));
  const uint64_t mask = (uint64_t{1} << hash_bits) - 1;
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      // Every threads-th row; in every second thread backwards, so that smaller numbers replace
      // larger ones.
      const int64_t mine = (n - t + threads - 1) / threads;
      for (int64_t k = 0; k < mine; ++k) {
        const int64_t i = t + threads * (t % 2 == 0 ? k : mine - 1 - k);
        const auto at = static_cast<size_t>(i);
        const int64_t found = table.insert(hash_row(&words[at], 1) & mask, i);
        before[at] = found < i ? found : i;
        if (found > i) replaced[static_cast<size_t>(t)].emplace_back(found, i);
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  for (const auto& pairs : replaced) {
    for (const auto& [row, by] : pairs) before[static_cast<size_t>(row)] = by;
  }
  std::vector<int64_t> first(static_cast<size_t>(kinds), -1);
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    int64_t& expected = first[static_cast<size_t>(words[at])];
    if (expected < 0) expected = i;
    before[at] = before[static_cast<size_t>(before[at])];  // which has been followed to its end
    wrong += before[at] != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("shared table: threads that insert the same rows at once keep the first") {
  for (const int threads : {1, 2, 4}) {
    for (const int64_t kinds : {1, 10, 3000, 1000000}) {
      check_first(20000, kinds, threads, 63);
    }
    check_first(3000, 400, threads, 3);
    check_first(3000, 400, threads, 0);
  }
}

}  // namespace
}  // namespace gradsplinter
