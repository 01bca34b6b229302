// Unique rows on a GPU, as on the CPU with many unique rows (deduplicate.h): all threads share one
// table of row numbers; where a row is not the first of its kind, ids holds ~r for an equal row r
// before it, the first one or one that turned out not to be. The first ones are then numbered in
// order by a prefix sum, and the others follow their references.
//
// The table begins small, meant for the second cache. Where it gets crowded, it grows, and the rows
// that found no room are inserted once more: those that were already in find themselves.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/numbering.h"
#include "probe.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp;
constexpr int64_t none = INT64_MAX;

// What the host reads.
struct Status {
  unsigned long long used;           // slots
  unsigned long long first_without;  // row that found no room, rounded down to a block's
  unsigned long long first_nan;      // row with a NaN
  unsigned long long not_bool;
};

// --- rows ---------------------------------------------------------------------------------------

// A row of floats as words of canonical bits; the upper half of the last word may be empty.
template <class T>
struct FloatRow {
  const T* entries;
  int64_t width;
  __device__ uint64_t operator[](int64_t k) const {
    if constexpr (sizeof(T) == 8) {
      return canonical_bits(entries[k]);
    } else {
      const uint64_t low = canonical_bits(entries[2 * k]);
      const uint64_t high = 2 * k + 1 < width ? canonical_bits(entries[2 * k + 1]) : 0;
      return low | high << 32;
    }
  }
};

template <class Entry>
struct Rows {
  static constexpr bool floats = std::is_floating_point_v<Entry>;
  const Entry* data;
  int64_t width, words;
  uint64_t hash_mask;

  __device__ auto operator[](int64_t i) const {
    if constexpr (floats) {
      return FloatRow<Entry>{data + i * width, width};
    } else {
      return data + i * width;
    }
  }
  __device__ uint64_t hash(int64_t i) const { return hash_row((*this)[i], words) & hash_mask; }
  __device__ bool equal(int64_t i, int64_t j) const {
    const auto a = (*this)[i], b = (*this)[j];
    for (int64_t k = 0; k < words; ++k) {
      if (a[k] != b[k]) return false;
    }
    return true;
  }
  __device__ bool has_nan(int64_t i) const {
    if constexpr (floats) {
      for (int64_t j = 0; j < width; ++j) {
        if (is_nan(canonical_bits(data[i * width + j]))) return true;
      }
    }
    return false;
  }
};

// --- the table ----------------------------------------------------------------------------------

struct Slots {
  unsigned long long* slots;
  __device__ uint64_t load(uint64_t at) const { return fresh(slots + at); }
  __device__ bool exchange(uint64_t at, uint64_t& expected, uint64_t desired) const {
    const unsigned long long before =
        atomicCAS(slots + at, static_cast<unsigned long long>(expected),
                  static_cast<unsigned long long>(desired));
    const bool done = before == expected;
    expected = before;
    return done;
  }
};

struct Table {
  Slots slots;
  uint64_t mask;
  unsigned long long limit;  // of used slots, from which on blocks leave their rows out

  template <class Entry>
  __device__ Inserted insert(const Rows<Entry>& rows, uint64_t hash, int64_t i) const {
    return insert_row(slots, mask, hash, i, [&](int64_t a, int64_t b) { return rows.equal(a, b); });
  }
};

// Blocks that run at once insert so many rows at most after the limit is reached.
int64_t blocks_at_once(int device) { return int64_t{8} * multiprocessors(device); }

template <class Entry>
__global__ void insert_rows(Rows<Entry> rows, int64_t begin, int64_t n, Table table, int64_t* ids,
                            Status* status) {
  for (int64_t first = begin + int64_t{blockIdx.x} * threads; first < n;
       first += int64_t{gridDim.x} * threads) {
    const bool full = threadIdx.x == 0 && fresh(&status->used) >= table.limit;
    if (__syncthreads_count(full) != 0) {
      if (threadIdx.x == 0) {
        atomicMin(&status->first_without, static_cast<unsigned long long>(first));
      }
      return;
    }
    const int64_t i = first + threadIdx.x;
    bool claimed = false;
    if (i < n) {
      if (rows.has_nan(i)) {
        atomicMin(&status->first_nan, static_cast<unsigned long long>(i));
      } else {
        const Inserted found = table.insert(rows, rows.hash(i), i);
        claimed = found.claimed;
        if (found.row < i) ids[i] = ~found.row;
        if (found.row > i) ids[found.row] = ~i;
      }
    }
    const int count = __syncthreads_count(claimed);
    if (threadIdx.x == 0 && count > 0) {
      atomicAdd(&status->used, static_cast<unsigned long long>(count));
    }
  }
}

// The rows of a table into a larger one.
template <class Entry>
__global__ void insert_again(Rows<Entry> rows, const unsigned long long* slots, int64_t size,
                             Table table) {
  for (int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x; at < size;
       at += int64_t{gridDim.x} * threads) {
    if (slots[at] == 0) continue;
    const int64_t i = row_in(slots[at]);
    table.insert(rows, rows.hash(i), i);
  }
}

// --- numbers ------------------------------------------------------------------------------------

constexpr int64_t most_in_block = 4096;  // unique rows that a block counts in shared memory

__global__ void follow_and_count(int64_t* ids, int64_t n, int64_t unique,
                                 unsigned long long* counts) {
  unsigned* const own = shared_memory<unsigned>();  // [unique], where a block counts for itself
  const bool in_block = unique <= most_in_block;
  if (in_block) {
    for (int64_t id = threadIdx.x; id < unique; id += threads) own[id] = 0;
    __syncthreads();
  }
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * threads) {
    int64_t id = ids[i];
    if (id < 0) {
      while (id < 0) id = fresh(ids + ~id);
      ids[i] = id;
    }
    if (in_block) {
      atomicAdd(own + id, 1u);
    } else {
      atomicAdd(counts + id, 1ull);
    }
  }
  if (!in_block) return;
  __syncthreads();
  for (int64_t id = threadIdx.x; id < unique; id += threads) {
    if (own[id] > 0) atomicAdd(counts + id, static_cast<unsigned long long>(own[id]));
  }
}

// --- bools --------------------------------------------------------------------------------------

// A warp takes 64 bools at a time.
__global__ void pack_words(const uint8_t* bools, int64_t words, int64_t width, int64_t row_words,
                           uint64_t* to, Status* status) {
  const int lane = static_cast<int>(threadIdx.x) % warp;
  const int64_t word = (int64_t{blockIdx.x} * threads + threadIdx.x) / warp;
  if (word >= words) return;  // all of the warp
  const int64_t begin = word % row_words * 64;
  const uint8_t* const row = bools + word / row_words * width;
  uint64_t bits = 0;
  bool good = true;
  for (int half = 0; half < 2; ++half) {
    const int64_t unit = begin + half * warp + lane;
    const uint8_t value = unit < width ? row[unit] : 0;
    good = good && value <= 1;
    bits |= uint64_t{__ballot_sync(all_lanes, value != 0)} << (half * warp);
  }
  if (!good && status != nullptr) status->not_bool = 1;
  if (lane == 0) to[word] = bits;
}

// --- calls --------------------------------------------------------------------------------------

Status* new_status(const Device& device) {
  auto* const status = device.memory.array<Status>(1);
  clear(status, sizeof(Status), device.stream);
  return status;
}

Status status_of(const Status* status, const Device& device) {
  Status here;
  read(&here, status, 1, device);
  return here;
}

__global__ void reset(Status* status) {
  if (threadIdx.x == 0) status->first_without = status->first_nan = none;
}

[[noreturn]] void throw_not_bools() {
  throw std::invalid_argument("bools must be bytes of 0 or 1, got others");
}

template <class Entry>
[[noreturn]] void throw_nan(const Rows<Entry>& rows, int64_t row, const Device& device) {
  std::vector<Entry> entries(static_cast<size_t>(rows.width));
  read(entries.data(), rows.data + row * rows.width, entries.size(), device);
  size_t column = 0;
  while (entries[column] == entries[column]) ++column;
  throw std::invalid_argument("rows must not hold NaN, which equals nothing; got one at [" +
                              std::to_string(row) + ", " + std::to_string(column) + "]");
}

Table make_table(uint64_t slots, uint64_t enough, const Device& device) {
  auto* const memory = device.memory.array<unsigned long long>(static_cast<int64_t>(slots));
  clear(memory, slots * sizeof(uint64_t), device.stream);
  const auto late = static_cast<uint64_t>(blocks_at_once(device.index) * threads);
  const uint64_t most = slots / 4 * 3;
  return {{memory},
          slots - 1,
          slots >= enough ? ~0ull : static_cast<unsigned long long>(most > late ? most - late : 0)};
}

// The least power of two that leaves a third of the slots empty.
uint64_t slots_for(int64_t rows) {
  uint64_t slots = 1;
  while (slots < static_cast<uint64_t>(rows + rows / 2 + 1)) slots *= 2;
  return slots;
}

void pack(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words, Status* status,
          const Device& device) {
  const int64_t row_words = words_of(width);
  if (n * row_words == 0) return;
  launch(pack_words, divide_up(n * row_words, warps), threads, 0, device.stream, bools,
         n * row_words, width, row_words, words, status);
}

constexpr uint64_t growth = 8;

template <class Entry>
void insert_all(const Rows<Entry>& rows, int64_t n, int64_t* ids, uint64_t slots,
                const Device& device) {
  const uint64_t enough = slots_for(n);
  slots = std::min(slots, enough);
  Table table = make_table(slots, enough, device);
  Status* const status = new_status(device);
  for (int64_t begin = 0;;) {
    launch(reset, 1, warp, 0, device.stream, status);
    const int64_t blocks = std::min(divide_up(n - begin, threads), blocks_at_once(device.index));
    launch(insert_rows<Entry>, blocks, threads, 0, device.stream, rows, begin, n, table, ids,
           status);
    const Status now = status_of(status, device);
    // One after a row without room may not be the first.
    if (now.first_nan < now.first_without) {
      throw_nan(rows, static_cast<int64_t>(now.first_nan), device);
    }
    if (now.first_without == none) return;
    begin = static_cast<int64_t>(now.first_without);
    const uint64_t larger = std::min(growth * slots, enough);
    const Table grown = make_table(larger, enough, device);
    launch(insert_again<Entry>, blocks_at_once(device.index), threads, 0, device.stream, rows,
           static_cast<const unsigned long long*>(table.slots.slots), static_cast<int64_t>(slots),
           grown);
    slots = larger;
    table = grown;
  }
}

}  // namespace

void pack_bits(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words,
               const Device& device) {
  pack(bools, n, width, words, nullptr, device);
}

template <class Entry>
int64_t unique_rows(const Entry* rows, int64_t n, int64_t width, int hash_bits, uint64_t slots,
                    int64_t* ids, const std::function<Unique(int64_t)>& make,
                    const Device& device) {
  if constexpr (std::is_same_v<Entry, uint8_t>) {
    auto* const words = device.memory.array<uint64_t>(n * words_of(width));
    Status* const status = new_status(device);
    pack(rows, n, width, words, status, device);
    if (status_of(status, device).not_bool != 0) throw_not_bools();
    return unique_rows<uint64_t>(words, n, words_of(width), hash_bits, slots, ids, make, device);
  } else {
    if (n == 0) {
      make(0);
      return 0;
    }
    check_rows(n, "rows must be");
    constexpr auto per_word = static_cast<int64_t>(sizeof(uint64_t) / sizeof(Entry));
    const Rows<Entry> all{rows, width, divide_up(width, per_word), hash_mask_of(hash_bits)};
    clear(ids, static_cast<size_t>(n) * sizeof(int64_t), device.stream);
    insert_all(all, n, ids, slots, device);

    const Numbering numbering(ids, n, 0, device);
    const int64_t unique = numbering.count();
    const Unique results = make(unique);
    numbering.write(0, results.first);
    auto* const counts = reinterpret_cast<unsigned long long*>(results.counts);
    clear(counts, static_cast<size_t>(unique) * sizeof(int64_t), device.stream);
    const size_t shared = unique <= most_in_block ? static_cast<size_t>(unique) * 4 : 0;
    launch(follow_and_count, std::min(divide_up(n, threads), blocks_at_once(device.index)), threads,
           shared, device.stream, ids, n, unique, counts);
    return unique;
  }
}

#define GRADSPLINTER_INSTANCE(Entry)                                                    \
  template int64_t unique_rows(const Entry*, int64_t, int64_t, int, uint64_t, int64_t*, \
                               const std::function<Unique(int64_t)>&, const Device&);
GRADSPLINTER_INSTANCE(uint64_t)
GRADSPLINTER_INSTANCE(uint8_t)
GRADSPLINTER_INSTANCE(float)
GRADSPLINTER_INSTANCE(double)

}  // namespace gradsplinter::cuda
