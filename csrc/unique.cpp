// Each thread fills a table of its own from a contiguous range of rows; the tables are then joined
// in the order of the ranges, so that ids follow first appearance whatever the number of threads.
#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "buffer.h"
#include "huge_pages.h"
#include "ops.h"
#include "row_table.h"
#include "scalar.h"

namespace gradsplinter {
namespace {

constexpr int64_t batch = 32;  // rows hashed ahead, so that their slots are on the way

// Rows as 64-bit words: taken where they lie, or for floats written to scratch as canonical bits.
template <class Entry>
struct Rows {
  const Entry* data;
  int64_t width;
  static constexpr int64_t per_word = static_cast<int64_t>(sizeof(uint64_t) / sizeof(Entry));

  int64_t words() const { return (width + per_word - 1) / per_word; }
  static constexpr bool needs_scratch = !std::is_same_v<Entry, uint64_t>;

  const uint64_t* row(int64_t i, uint64_t* scratch) const {
    const Entry* entries = data + i * width;
    if constexpr (needs_scratch) {
      if (width > 0) scratch[words() - 1] = 0;  // the upper half of an odd row's last word
      auto* to = reinterpret_cast<unsigned char*>(scratch);
      bool nan = false;
      for (int64_t j = 0; j < width; ++j) {
        nan |= entries[j] != entries[j];
        const auto bits = canonical_bits(entries[j]);
        std::memcpy(to + j * static_cast<int64_t>(sizeof bits), &bits, sizeof bits);
      }
      if (nan) throw_nan(i);
      return scratch;
    } else {
      return entries;
    }
  }

  [[noreturn]] void throw_nan(int64_t i) const {
    const Entry* entries = data + i * width;
    const Entry* at = std::find_if(entries, entries + width, [](Entry e) { return e != e; });
    throw std::invalid_argument("rows must not hold NaN, which equals nothing; got one at [" +
                                std::to_string(i) + ", " + std::to_string(at - entries) + "]");
  }
};

// What one thread found in rows [begin, end).
struct Part {
  int64_t begin;
  int64_t end;
  RowTable table;
  std::vector<int64_t> ids;  // of the table's rows in the joined table
  std::exception_ptr error;  // e.g. a NaN
};

template <class Entry>
void fill(const Rows<Entry>& rows, uint64_t hash_mask, int64_t* ids, Part& part, Watch* watch,
          std::atomic<bool>& stop) {
  const int64_t words = rows.words();
  const Buffer<uint64_t> scratch(rows.needs_scratch ? batch * words : 1);
  for (int64_t begin = part.begin; begin < part.end && !stop; begin += batch) {
    const int64_t n = std::min(batch, part.end - begin);
    const uint64_t* row[batch];
    uint64_t hash[batch];
    for (int64_t i = 0; i < n; ++i) {
      row[i] = rows.row(begin + i, scratch.get() + (rows.needs_scratch ? i * words : 0));
      hash[i] = hash_row(row[i], words) & hash_mask;
      part.table.prefetch(hash[i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      ids[begin + i] = part.table.insert(row[i], hash[i], 1, begin + i);
    }
    if (watch != nullptr && begin / batch % 256 == 0 && watch->interrupted()) stop = true;
  }
}

}  // namespace

template <class Entry>
int64_t unique_rows(const Entry* data, int64_t n, int64_t width, int hash_bits, int64_t* first,
                    int64_t* counts, int64_t* ids, const Run& run) {
  const Rows<Entry> rows{data, width};
  const uint64_t hash_mask = hash_bits == 64 ? ~uint64_t{0} : (uint64_t{1} << hash_bits) - 1;
  prefer_huge_pages(ids, n);
  const int threads = threads_for(n / 1024, run);
  std::vector<Part> parts;
  for (int t = 0; t < threads; ++t) {
    parts.push_back({n * t / threads, n * (t + 1) / threads, RowTable(rows.words()), {}, nullptr});
  }

  std::atomic<bool> stop{false};
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int t = 0; t < threads; ++t) {
    Part& part = parts[static_cast<size_t>(t)];
    try {
      Watch watch(run);
      fill(rows, hash_mask, ids, part, t == 0 ? &watch : nullptr, stop);
    } catch (...) {
      part.error = std::current_exception();
    }
  }
  if (stop) throw Interrupted{};
  for (const Part& part : parts) {
    if (part.error) std::rethrow_exception(part.error);
  }

  RowTable& joined = parts[0].table;
  for (auto part = parts.begin() + 1; part != parts.end(); ++part) {
    const RowTable& table = part->table;
    for (int64_t id = 0; id < table.size(); ++id) {
      part->ids.push_back(
          joined.insert(table.row(id), table.hash(id), table.count(id), table.first(id)));
    }
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int t = 1; t < threads; ++t) {
    const Part& part = parts[static_cast<size_t>(t)];
    for (int64_t i = part.begin; i < part.end; ++i) ids[i] = part.ids[static_cast<size_t>(ids[i])];
  }
  for (int64_t id = 0; id < joined.size(); ++id) {
    first[id] = joined.first(id);
    counts[id] = joined.count(id);
  }
  return joined.size();
}

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes, const Run& run) {
  constexpr int64_t rows_per_block = 4096;
  parallel_blocks((n + rows_per_block - 1) / rows_per_block, run, [&](int64_t block, int) {
    const int64_t end = std::min(n, (block + 1) * rows_per_block);
    for (int64_t i = block * rows_per_block; i < end; ++i) {
      hashes[i] = hash_row(rows + i * words, words);
    }
  });
}

template int64_t unique_rows(const uint64_t*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);
template int64_t unique_rows(const float*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);
template int64_t unique_rows(const double*, int64_t, int64_t, int, int64_t*, int64_t*, int64_t*,
                             const Run&);

}  // namespace gradsplinter
