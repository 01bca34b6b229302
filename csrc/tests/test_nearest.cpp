// The nearest signatures, against a loop over all pairs.
#include <bit>

#include "testing.h"

namespace gradsplinter {
namespace {

void check_nearest(int64_t n, int64_t m, int64_t words, int64_t groups, int64_t kinds) {
  CAPTURE(n);
  CAPTURE(m);
  CAPTURE(words);
  CAPTURE(groups);
  Random random(static_cast<uint64_t>(n + 31 * m + 1009 * words));
  // Words of few kinds make ties.
  const auto word = [&] {
    const uint64_t kind = random.bits() % static_cast<uint64_t>(kinds);
    return kind < 2 ? 0 - kind : kind * 0x9E3779B97F4A7C15u;
  };
  const Input<uint64_t> queries(n * words, word), references(m * words, word);
  const Input<int64_t> group_of(m, [&] { return random.below(groups); });
  std::vector<int32_t> distance(static_cast<size_t>(n * groups), -1);
  std::vector<int64_t> index(static_cast<size_t>(n * groups), -1);
  for (int64_t q = 0; q < n; ++q) {
    for (int64_t i = 0; i < m; ++i) {
      int32_t bits = 0;
      for (int64_t k = 0; k < words; ++k) {
        bits += std::popcount(queries[q * words + k] ^ references[i * words + k]);
      }
      const auto at = static_cast<size_t>(q * groups + group_of[i]);
      if (index[at] >= 0 && distance[at] <= bits) continue;
      distance[at] = bits;
      index[at] = i;
    }
  }
  for (const int threads : {1, 2, 3}) {
    Output<int32_t> found(n * groups);
    Output<int64_t> which(n * groups);
    nearest(queries.data(), n, references.data(), m, words, group_of.data(), groups, found.data(),
            which.data(), Run{threads});
    found.check(distance.data());
    which.check(index.data());
  }
}

TEST_CASE("nearest signatures: every size") {
  on_every_instruction_set([] {
    for (const int64_t words : {0, 1, 2, 3, 16, 30, 31, 32, 62, 63, 100}) {
      for (const int64_t n : {0, 1, 3, 4, 5, 16, 17, 40}) {
        for (const int64_t m : {0, 1, 7, 8, 9, 50}) check_nearest(n, m, words, 1, 100);
      }
      check_nearest(21, 60, words, 5, 3);
      check_nearest(21, 6, words, 40, 100);
    }
    check_nearest(20, 5000, 16, 3, 2);  // more references than are searched at a time
  });
}

}  // namespace
}  // namespace gradsplinter
