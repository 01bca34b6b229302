// unique_rows against a model that numbers the rows: of each type, equal or not, on up to three
// threads, with any number of bits of the hash. The shared table, which unique_rows takes for many
// rows only, is filled with few as well.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "deduplicate.h"
#include "fuzz/expect.h"

namespace gradsplinter {
namespace {

// Different numbers below 2^20, hence different entries: 0.0 and -0.0 are one.
template <class Entry>
Entry entry_of(uint64_t number, bool negative_zero) {
  if constexpr (std::is_same_v<Entry, uint64_t>) {
    return number << (number % 3 * 20);
  } else {
    using Limits = std::numeric_limits<Entry>;
    if (number == 0) return negative_zero ? -Entry(0) : Entry(0);
    if (number == 1) return Limits::denorm_min();
    if (number == 2) return Limits::infinity();
    return static_cast<Entry>(number) * (number % 2 == 0 ? -1 : 1);
  }
}

struct Rows {
  const uint64_t* data;
  int64_t width;
  static constexpr int64_t fixed = 0;
  static constexpr int64_t batches_between_checks = 64;
  int64_t words() const { return width; }
  int64_t batch() const { return 8; }
  struct Reader {
    explicit Reader(const Rows& r) : rows(r) {}
    const uint64_t* read(int64_t begin, int64_t) const { return rows.data + begin * rows.width; }
    void prefetch(int64_t i) const { rows.prefetch(i); }
    const Rows& rows;
  };
  void prefetch(int64_t i) const { __builtin_prefetch(data + i * width); }
  bool equal(int64_t i, int64_t j) const {
    return std::equal(data + i * width, data + (i + 1) * width, data + j * width);
  }
};

template <class Entry>
void run(FuzzedDataProvider& data) {
  const auto width = data.ConsumeIntegralInRange<int64_t>(1, 6);
  const auto hash_bits = data.ConsumeIntegralInRange(4, 64);
  const Run run{data.ConsumeIntegralInRange(1, 3)};
  const auto n = data.ConsumeIntegralInRange<int64_t>(0, 3100);  // a thread for each 1,024
  const auto kinds = data.ConsumeIntegralInRange<uint64_t>(1, 8000);
  const auto step = data.ConsumeIntegralInRange<uint64_t>(0, kinds);
  const auto column = data.ConsumeIntegralInRange<int64_t>(0, width - 1);
  const std::vector<uint8_t> bytes = data.ConsumeRemainingBytes<uint8_t>();

  // Row i is that of number (byte + i * step) mod kinds, which stands in one column.
  const auto rows_n = static_cast<size_t>(n);
  std::vector<Entry> rows(rows_n * static_cast<size_t>(width));
  std::vector<int64_t> first, counts, ids;
  std::vector<int64_t> id_of(kinds, -1);
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    const uint64_t byte = bytes.empty() ? 0 : bytes[at % bytes.size()];
    const uint64_t number = (byte + at * step) % kinds;
    for (int64_t j = 0; j < width; ++j) {
      rows[static_cast<size_t>(i * width + j)] = entry_of<Entry>(j == column ? number : 0, i % 2);
    }
    int64_t& id = id_of[number];
    if (id < 0) {
      id = static_cast<int64_t>(first.size());
      first.push_back(i);
      counts.push_back(0);
    }
    ++counts[static_cast<size_t>(id)];
    ids.push_back(id);
  }

  const auto check = [&](const auto& solve) {
    std::vector<int64_t> got_first(rows_n, -1), got_counts(rows_n, -1), got_ids(rows_n, -1);
    const int64_t unique = solve(got_first.data(), got_counts.data(), got_ids.data());
    expect(unique == static_cast<int64_t>(first.size()), "number");
    got_first.resize(first.size());
    got_counts.resize(first.size());
    expect(got_first == first, "first");
    expect(got_counts == counts, "counts");
    expect(got_ids == ids, "ids");
  };
  check([&](int64_t* to_first, int64_t* to_counts, int64_t* to_ids) {
    return unique_rows(rows.data(), n, width, hash_bits, to_first, to_counts, to_ids, run);
  });
  if constexpr (std::is_same_v<Entry, uint64_t>) {
    check([&](int64_t* to_first, int64_t* to_counts, int64_t* to_ids) {
      const Rows source{rows.data(), width};
      const uint64_t mask = ~uint64_t{0} >> (64 - hash_bits);
      return with_shared_table(
          Deduplication<Rows>{source, n, mask, to_first, to_counts, to_ids, nullptr, run});
    });
  }
}

}  // namespace
}  // namespace gradsplinter

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  switch (data.ConsumeIntegralInRange(0, 2)) {
    case 0:
      gradsplinter::run<uint64_t>(data);
      break;
    case 1:
      gradsplinter::run<float>(data);
      break;
    default:
      gradsplinter::run<double>(data);
  }
  return 0;
}
