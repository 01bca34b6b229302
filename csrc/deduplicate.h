// Unique rows, wherever the rows come from. Two ways to the same answer: with few unique rows each
// thread fills a table of its own, which stays in its cache, from a contiguous range of rows; the
// tables are then joined in the order of the ranges. With many, joining would take as long as
// filling: all threads share one table of row numbers. Either way ids follow first appearance,
// whatever the number of threads.
//
// Rows is a type with
//   fixed                    words in a row where that is known while compiling, else 0
//   words()                  words in a row
//   batch()                  rows to read at a time, at most most_batch
//   batches_between_checks   how often to look whether the caller was interrupted
//   Reader(rows)             scratch of one thread, with
//     read(begin, n)         n rows from `begin` on -> [n, words], valid until the next call
//     prefetch(i)            row i is read soon
//   equal(i, j)              for the shared table only
#pragma once

#include <algorithm>
#include <exception>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "ops.h"
#include "row_table.h"
#include "scalar.h"
#include "shared_table.h"

namespace gradsplinter {

constexpr int64_t most_batch = 64;

// call(std::integral_constant<int64_t, fixed>) for rows of so many words.
template <class Call>
auto with_fixed(int64_t words, const Call& call) {
  if (words == 1) return call(std::integral_constant<int64_t, 1>{});
  if (words == 2) return call(std::integral_constant<int64_t, 2>{});
  if (words == 3) return call(std::integral_constant<int64_t, 3>{});
  return call(std::integral_constant<int64_t, 0>{});
}

// The arguments of a deduplication of n rows; first, counts and unique have room for n.
template <class Rows>
struct Deduplication {
  const Rows& rows;
  int64_t n;
  uint64_t hash_mask;
  int64_t* first;
  int64_t* counts;
  int64_t* ids;
  uint64_t* unique;  // the unique rows, or null
  const Run& run;

  int threads() const { return threads_for(n / 1024, run); }
};

// work(thread, begin, end, watch, stop) over contiguous ranges of [0, n). Of several errors the one
// of the first range is thrown, so that it does not depend on the threads.
template <class Work>
void over_ranges(int64_t n, int threads, const Run& run, const Work& work) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  std::atomic<bool> stop{false};
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int t = 0; t < threads; ++t) {
    try {
      const IeeeMode mode;
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

// Reads and hashes the rows [begin, end) a batch ahead, so that their slots and the next batch are
// on the way, and gives them one by one to insert(row's words, hash, i), whose result is ids[i].
template <class Rows, class Table, class Insert>
void fill(const Deduplication<Rows>& job, int64_t begin, int64_t end, const Table& table,
          const Insert& insert, Watch* watch, std::atomic<bool>& stop) {
  const int64_t words = Rows::fixed > 0 ? Rows::fixed : job.rows.words();
  const int64_t batch = job.rows.batch();
  typename Rows::Reader reader(job.rows);
  for (int64_t batches = 0; begin < end && !stop; begin += batch, ++batches) {
    const int64_t n = std::min(batch, end - begin);
    const uint64_t* rows = reader.read(begin, n);
    uint64_t hash[most_batch];
    for (int64_t i = 0; i < n; ++i) {
      hash[i] = hash_row(rows + i * words, words) & job.hash_mask;
      table.prefetch(hash[i]);
    }
    for (int64_t i = 0; i < n; ++i) table.prefetch_row(hash[i]);
    for (int64_t i = 0; i < n; ++i) {
      if (begin + batch + i < end) reader.prefetch(begin + batch + i);
      job.ids[begin + i] = insert(rows + i * words, hash[i], begin + i);
    }
    if (watch != nullptr && batches % Rows::batches_between_checks == 0 && watch->interrupted()) {
      stop = true;
    }
  }
}

template <class Rows>
int64_t with_table_per_thread(const Deduplication<Rows>& job) {
  using Table = RowTable<Rows::fixed>;
  const auto threads = static_cast<size_t>(job.threads());
  std::vector<Table> tables(threads, Table(job.rows.words()));
  over_ranges(job.n, job.threads(), job.run,
              [&](int t, int64_t begin, int64_t end, Watch* watch, std::atomic<bool>& stop) {
                Table& table = tables[static_cast<size_t>(t)];
                const auto insert = [&](const uint64_t* row, uint64_t hash, int64_t i) {
                  return table.insert(row, hash, 1, i);
                };
                fill(job, begin, end, table, insert, watch, stop);
              });

  Watch watch(job.run);
  Table& joined = tables[0];
  std::vector<std::vector<int64_t>> ids(threads);  // of each table's rows in the joined one
  for (size_t t = 1; t < threads; ++t) {
    const Table& table = tables[t];
    for (int64_t id = 0; id < table.size(); ++id) {
      if (id % 4096 == 0 && watch.interrupted()) throw Interrupted{};
      ids[t].push_back(
          joined.insert(table.row(id), table.hash(id), table.count(id), table.first(id)));
    }
  }
  over_ranges(job.n, job.threads(), job.run,
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
  if (job.unique != nullptr)
    std::copy_n(joined.row(0), joined.size() * job.rows.words(), job.unique);
  return joined.size();
}

// Of each row the first one that is equal, or an equal one before it, whose own entry leads on:
// ids[i] is 0 where row i is the first of its kind, else ~r for such a row r. So nothing has to be
// looked up in a table afterwards.
template <class Rows>
void find_equal_rows(const Deduplication<Rows>& job) {
  std::vector<std::vector<std::pair<int64_t, int64_t>>> replaced(
      static_cast<size_t>(job.threads()));
  SharedTable<Rows> table(job.rows, job.n);
  over_ranges(job.n, job.threads(), job.run,
              [&](int t, int64_t begin, int64_t end, Watch* watch, std::atomic<bool>& stop) {
                std::vector<std::pair<int64_t, int64_t>> mine;
                const auto insert = [&](const uint64_t*, uint64_t hash, int64_t i) -> int64_t {
                  const int64_t found = table.insert(hash, i);
                  if (found == i) return 0;
                  if (found < i) return ~found;
                  mine.emplace_back(found, i);
                  return 0;
                };
                fill(job, begin, end, table, insert, watch, stop);
                replaced[static_cast<size_t>(t)] = std::move(mine);
              });
  for (const auto& pairs : replaced) {
    for (const auto& [row, by] : pairs) job.ids[row] = ~by;
  }
}

// ids, first, and counts of 1 for the rows that are the first of their kind -> how many.
template <class Rows>
int64_t number_first_rows(const Deduplication<Rows>& job) {
  int64_t* ids = job.ids;
  std::vector<int64_t> numbers(static_cast<size_t>(job.threads()) + 1, 0);  // in each range
  over_ranges(job.n, job.threads(), job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                numbers[static_cast<size_t>(t) + 1] = std::count(ids + begin, ids + end, 0);
              });
  std::partial_sum(numbers.begin(), numbers.end(), numbers.begin());
  over_ranges(job.n, job.threads(), job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                int64_t id = numbers[static_cast<size_t>(t)];
                for (int64_t i = begin; i < end; ++i) {
                  if (ids[i] < 0) continue;
                  job.first[id] = i;
                  job.counts[id] = 1;
                  ids[i] = id++;
                }
              });
  return numbers.back();
}

// ids of all other rows, which are counted. Each thread counts for itself: counters that all share
// would go from core to core for each row.
template <class Rows>
void count_equal_rows(const Deduplication<Rows>& job, int64_t unique) {
  int64_t* ids = job.ids;
  const auto counting = static_cast<int>(std::min(int64_t{job.threads()}, 1 + job.n / unique));
  std::vector<ZeroPages> more;
  for (int t = 1; t < counting; ++t) more.emplace_back(static_cast<uint64_t>(unique));
  const auto counts_of = [&](int t) {
    return t == 0 ? job.counts : reinterpret_cast<int64_t*>(more[static_cast<size_t>(t) - 1].get());
  };
  over_ranges(job.n, counting, job.run,
              [&](int t, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                const auto id_of = [&](int64_t i) { return std::atomic_ref<int64_t>(ids[i]); };
                int64_t* counts = counts_of(t);
                for (int64_t i = begin; i < end; ++i) {
                  int64_t id = ids[i];
                  if (id >= 0) continue;
                  while (id < 0) id = id_of(~id).load(std::memory_order_relaxed);
                  id_of(i).store(id, std::memory_order_relaxed);
                  ++counts[id];
                }
              });
  over_ranges(unique, counting, job.run,
              [&](int, int64_t begin, int64_t end, Watch*, std::atomic<bool>&) {
                for (int t = 1; t < counting; ++t) {
                  for (int64_t id = begin; id < end; ++id) job.counts[id] += counts_of(t)[id];
                }
              });
}

template <class Rows>
int64_t with_shared_table(const Deduplication<Rows>& job) {
  find_equal_rows(job);
  const int64_t unique = number_first_rows(job);
  if (unique < job.n) count_equal_rows(job, unique);
  return unique;
}

// Whether a sample [size, words] of rows has so few equal ones that a table of row numbers costs
// less than tables that copy the rows: wide rows cost more to copy.
inline bool mostly_unique(const uint64_t* sample, int64_t size, int64_t words) {
  RowTable<> table(words);
  for (int64_t i = 0; i < size; ++i) {
    const uint64_t* row = sample + i * words;
    table.insert(row, hash_row(row, words), 1, i);
  }
  return table.size() > size - size / (words < 8 ? 20 : 4);
}

// Of how many rows such a sample is taken; 0 where there are too few rows to care.
inline int64_t sample_size(int64_t n) {
  return n < 512 || n > most_shared_rows ? 0 : std::min(n / 32, int64_t{4096});
}

}  // namespace gradsplinter
