// RowTable against std::map: any sequence of insert, find and reserve, with any part of the hash.
#include "row_table.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <map>
#include <vector>

#include "fuzz/expect.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

struct Expected {
  int64_t id, count, first;
};

template <int64_t fixed>
void run(FuzzedDataProvider& data, int64_t words) {
  RowTable<fixed> table(words);
  std::map<std::vector<uint64_t>, Expected> model;
  const auto hash_mask = data.ConsumeIntegral<uint64_t>();  // of slot and tag
  int64_t i = 0;

  // Different numbers make different rows, of which many differ in one word only.
  const auto row_of = [&](uint64_t number) {
    std::vector<uint64_t> row(static_cast<size_t>(words));
    for (uint64_t& word : row) {
      word = number % 3;
      number /= 3;
    }
    row.back() += 3 * number;
    return row;
  };
  const auto hash_of = [&](const std::vector<uint64_t>& row) {
    return hash_row(row.data(), words) & hash_mask;
  };
  const auto find = [&](uint64_t number) {
    const std::vector<uint64_t> row = row_of(number);
    const auto at = model.find(row);
    expect(table.find(row.data(), hash_of(row)) == (at == model.end() ? -1 : at->second.id),
           "find");
  };
  const auto insert = [&](uint64_t number, int64_t count) {
    const std::vector<uint64_t> row = row_of(number);
    const auto [at, is_new] = model.try_emplace(row, Expected{table.size(), 0, i});
    at->second.count += count;
    expect(table.insert(row.data(), hash_of(row), count, i++) == at->second.id, "id");
  };

  while (data.remaining_bytes() > 0) {
    const auto number = data.ConsumeIntegral<uint8_t>();
    switch (data.ConsumeIntegralInRange(0, 4)) {
      case 0:
        find(number);
        break;
      case 1:
        table.reserve(number);
        break;
      case 2:  // enough rows for the table to grow
        for (uint64_t k = 0; k < 40; ++k) insert(40 * uint64_t{number} + k, 1);
        break;
      default:
        insert(number, data.ConsumeIntegral<uint8_t>());
    }
    expect(table.size() == static_cast<int64_t>(model.size()), "size");
  }
  for (const auto& [row, expected] : model) {
    expect(table.find(row.data(), hash_of(row)) == expected.id, "find");
    expect(std::equal(row.begin(), row.end(), table.row(expected.id)), "row");
    expect(table.count(expected.id) == expected.count, "count");
    expect(table.first(expected.id) == expected.first, "first");
  }
}

}  // namespace
}  // namespace gradsplinter

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  switch (data.ConsumeIntegralInRange(1, 6)) {
    case 1:
      gradsplinter::run<1>(data, 1);
      break;
    case 2:
      gradsplinter::run<2>(data, 2);
      break;
    case 3:
      gradsplinter::run<3>(data, 3);
      break;
    default:
      gradsplinter::run<0>(data, data.ConsumeIntegralInRange(1, 5));
  }
  return 0;
}
