// Two ways to the same answer. With few unique rows each thread fills a table of its own, which
// stays in its cache, from a contiguous range of rows; the tables are then joined in the order of
// the ranges. With many, joining would take as long as filling: all threads share one table of row
// numbers. Either way ids follow first appearance, whatever the number of threads.
#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "buffer.h"
#include "huge_pages.h"
#include "ops.h"
#include "row_table.h"
#include "scalar.h"
#include "shared_table.h"

namespace gradsplinter {
namespace {

constexpr int64_t batch = 32;  // rows hashed ahead, so that their slots are on the way

// Rows as 64-bit words: taken where they lie, or for floats written to scratch as canonical bits.
// `fixed` is the number of words where it is known while compiling, else 0.
template <class Entry, int64_t fixed>
struct Rows {
  const Entry* data;
  int64_t width;
  static constexpr bool floats = !std::is_same_v<Entry, uint64_t>;
  // The bits of an entry, written into words of scratch: a type that may alias.
  using Bits [[gnu::may_alias]] = std::conditional_t<sizeof(Entry) == 4, uint32_t, uint64_t>;
  static constexpr auto per_word = static_cast<int64_t>(sizeof(uint64_t) / sizeof(Entry));

  int64_t words() const { return fixed > 0 ? fixed : (width + per_word - 1) / per_word; }

  const uint64_t* row(int64_t i, uint64_t* scratch) const {
    const Entry* entries = data + i * width;
    if constexpr (floats) {
      if (width > 0) scratch[words() - 1] = 0;  // the upper half of an odd row's last word
      auto* to = reinterpret_cast<Bits*>(scratch);
      Bits nan = 0;  // as wide as an entry, so that the loop is vectorised
      for (int64_t j = 0; j < width; ++j) {
        const Bits bits = canonical_bits(entries[j]);
        nan |= is_nan(bits) ? ~Bits{0} : Bits{0};
        to[j] = bits;
      }
      if (nan != 0) throw_nan(i);
      return scratch;
    } else {
      return entries;
    }
  }

  bool equal(int64_t i, int64_t j) const {
    const Entry* a = data + i * width;
    const Entry* b = data + j * width;
    if constexpr (floats) {
      Bits different = 0;
      for (int64_t k = 0; k < width; ++k) different |= canonical_bits(a[k]) ^ canonical_bits(b[k]);
      return different == 0;
    } else {
      uint64_t different = 0;
      for (int64_t k = 0; k < words(); ++k) different |= a[k] ^ b[k];
      return different == 0;
    }
  }

 private:
  // By bits: the caller's thread may treat subnormal numbers as zero when it compares.
  static bool is_nan(uint32_t bits) { return (bits & 0x7FFFFFFFu) > 0x7F800000u; }
  static bool is_nan(uint64_t bits) { return (bits & 0x7FFFFFFFFFFFFFFFu) > 0x7FF0000000000000u; }

  [[noreturn]] void throw_nan(int64_t i) const {
    const Entry* entries = data + i * width;
    const Entry* at =
        std::find_if(entries, entries + width, [](Entry e) { return is_nan(canonical_bits(e)); });
    throw std::invalid_argument("rows must not hold NaN, which equals nothing; got one at [" +
                                std::to_string(i) + ", " + std::to_string(at - entries) + "]");
  }
};

// Hashes the rows [begin, end) a batch ahead, and gives them one by one to
// insert(row's words, hash, i), whose result is the row's id.
template <class Rows, class Table, class Insert>
void fill(const Rows& rows, int64_t begin, int64_t end, uint64_t hash_mask, const Table& table,
          const Insert& insert, int64_t* ids, Watch* watch, std::atomic<bool>& stop) {
  const int64_t words = rows.words();
  const Buffer<uint64_t> scratch(rows.floats ? batch * words : 1);
  for (; begin < end && !stop; begin += batch) {
    const int64_t n = std::min(batch, end - begin);
    const uint64_t* row[batch];
    uint64_t hash[batch];
    for (int64_t i = 0; i < n; ++i) {
      row[i] = rows.row(begin + i, scratch.get() + (rows.floats ? i * words : 0));
      hash[i] = hash_row(row[i], words) & hash_mask;
      table.prefetch(hash[i]);
    }
    for (int64_t i = 0; i < n; ++i) ids[begin + i] = insert(row[i], hash[i], begin + i);
    if (watch != nullptr && begin / batch % 256 == 0 && watch->interrupted()) stop = true;
  }
}

// work(thread, begin, end, watch, stop) over contiguous ranges of [0, n). Of several errors the one
// of the first range is thrown, so that it does not depend on the threads.
template <class Work>
void over_ranges(int64_t n, int threads, const Run& run, const Work& work) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  std::atomic<bool> stop{false};
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int t = 0; t < threads; ++t) {
    try {
      Watch watch(run);
      work(t, n * t / threads, n * (t + 1) / threads, t == 0 ? &watch : nullptr, stop);
    } catch (...) {
      errors[static_cast<size_t>(t)] = std::current_exception();
    }
  }
  if (stop) throw Interrupted{};
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

// The arguments of unique_rows.
template <class Entry, int64_t fixed>
struct Job {
  Rows<Entry, fixed> rows;
  int64_t n;
  uint64_t hash_mask;
  int64_t* first;
  int64_t* counts;
  int64_t* ids;
  const Run& run;
  int threads;
};

template <class Entry, int64_t fixed>
int64_t with_table_per_thread(const Job<Entry, fixed>& job) {
  using Table = RowTable<fixed>;
  const auto threads = static_cast<size_t>(job.threads);
  std::vector<Table> tables(threads, Table(job.rows.words()));
  over_ranges(job.n, job.threads, job.run,
              [&](int t, int64_t begin, int64_t end, Watch* watch, std::atomic<bool>& stop) {
                Table& table = tables[static_cast<size_t>(t)];
                const auto insert = [&](const uint64_t* row, uint64_t hash, int64_t i) {
                  return table.insert(row, hash, 1, i);
                };
                fill(job.rows, begin, end, job.hash_mask, table, insert, job.ids, watch, stop);
              });

  Table& joined = tables[0];
  std::vector<std::vector<int64_t>> ids(threads);  // of each table's rows in the joined one
  for (size_t t = 1; t < threads; ++t) {
    const Table& table = tables[t];
    for (int64_t id = 0; id < table.size(); ++id) {
      ids[t].push_back(
          joined.insert(table.row(id), table.hash(id), table.count(id), table.first(id)));
    }
  }
  over_ranges(job.n, job.threads, job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                if (t == 0) return;
                const std::vector<int64_t>& to = ids[static_cast<size_t>(t)];
                for (int64_t i = begin; i < end; ++i)
                  job.ids[i] = to[static_cast<size_t>(job.ids[i])];
              });
  for (int64_t id = 0; id < joined.size(); ++id) {
    job.first[id] = joined.first(id);
    job.counts[id] = joined.count(id);
  }
  return joined.size();
}

// Adds to counters that all threads share. Many additions to one counter would make them wait for
// each other, so the latest counters are kept aside.
class Counts {
 public:
  explicit Counts(int64_t* counts) : counts_(counts) {}
  ~Counts() {
    for (const Kept& kept : kept_) flush(kept);
  }
  void add(int64_t id) {
    Kept& kept = kept_[id % size];
    if (kept.id != id) {
      flush(kept);
      kept = {id, 0};
    }
    ++kept.count;
  }

 private:
  static constexpr int64_t size = 1024;
  struct Kept {
    int64_t id = 0;
    int64_t count = 0;
  };
  void flush(const Kept& kept) {
    if (kept.count == 0) return;
    std::atomic_ref<int64_t>(counts_[kept.id]).fetch_add(kept.count, std::memory_order_relaxed);
  }
  int64_t* counts_;
  Kept kept_[size];
};

template <class Entry, int64_t fixed>
int64_t with_shared_table(const Job<Entry, fixed>& job) {
  int64_t* ids = job.ids;
  SharedTable<Rows<Entry, fixed>> table(job.rows, job.n);
  over_ranges(job.n, job.threads, job.run,
              [&](int, int64_t begin, int64_t end, Watch* watch, std::atomic<bool>& stop) {
                const auto insert = [&](const uint64_t*, uint64_t hash, int64_t i) {
                  return table.insert(hash, i);
                };
                fill(job.rows, begin, end, job.hash_mask, table, insert, ids, watch, stop);
              });
  // ids hold slots. Where a row is the first of its kind, the complement of its slot; counted by
  // range, these are numbered in ascending order.
  std::vector<int64_t> numbers(static_cast<size_t>(job.threads) + 1, 0);
  over_ranges(job.n, job.threads, job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                int64_t count = 0;
                for (int64_t i = begin; i < end; ++i) {
                  const bool is_first = table.get(ids[i]) == i;
                  ids[i] = is_first ? ~ids[i] : ids[i];
                  count += is_first;
                }
                numbers[static_cast<size_t>(t) + 1] = count;
              });
  std::partial_sum(numbers.begin(), numbers.end(), numbers.begin());
  over_ranges(job.n, job.threads, job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                int64_t id = numbers[static_cast<size_t>(t)];
                for (int64_t i = begin; i < end; ++i) {
                  if (ids[i] >= 0) continue;
                  ids[i] = ~ids[i];
                  job.first[id] = i;
                  job.counts[id] = 0;
                  table.set(ids[i], id++);
                }
              });
  over_ranges(job.n, job.threads, job.run,
              [&](int, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                Counts counts(job.counts);
                for (int64_t i = begin; i < end; ++i) counts.add(ids[i] = table.get(ids[i]));
              });
  return numbers.back();
}

// Whether a sample of the rows has hardly a pair of equal ones: about 40,000 unique rows or more,
// for which a table does not stay in a core's own cache.
template <class Entry, int64_t fixed>
bool many_unique(const Job<Entry, fixed>& job) {
  constexpr int64_t sample = 4096;
  if (job.n < 16 * sample || job.n > SharedTable<Rows<Entry, fixed>>::most_rows) return false;
  RowTable<fixed> table(job.rows.words());
  const Buffer<uint64_t> scratch(job.rows.words() + 1);
  try {
    for (int64_t i = 0; i < sample; ++i) {
      const int64_t at = job.n / sample * i;
      const uint64_t* row = job.rows.row(at, scratch.get());
      table.insert(row, hash_row(row, job.rows.words()), 1, at);
    }
  } catch (const std::invalid_argument&) {
    return false;  // a NaN, and not the first one: the pass over all rows says where that is
  }
  return table.size() > sample - sample / 20;
}

}  // namespace

template <class Entry>
int64_t unique_rows(const Entry* data, int64_t n, int64_t width, int hash_bits, int64_t* first,
                    int64_t* counts, int64_t* ids, const Run& run) {
  const uint64_t hash_mask = hash_bits == 64 ? ~uint64_t{0} : (uint64_t{1} << hash_bits) - 1;
  prefer_huge_pages(ids, n);
  const auto solve = [&]<int64_t fixed>(std::integral_constant<int64_t, fixed>) {
    const Job<Entry, fixed> job{{data, width}, n,   hash_mask, first,
                                counts,        ids, run,       threads_for(n / 1024, run)};
    return many_unique(job) ? with_shared_table(job) : with_table_per_thread(job);
  };
  if constexpr (std::is_same_v<Entry, uint64_t>) {
    if (width == 1) return solve(std::integral_constant<int64_t, 1>{});
    if (width == 2) return solve(std::integral_constant<int64_t, 2>{});
    if (width == 3) return solve(std::integral_constant<int64_t, 3>{});
  }
  return solve(std::integral_constant<int64_t, 0>{});
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
