// Unique rows on a GPU: all threads share one table of row numbers (probe.h), in which each kind of
// row ends with the first of its rows. ids holds the slot of each row at first. The rows that are
// in the table are then numbered in their order, and each row takes the number of its slot.
//
// The table begins small, meant for the second cache. Where it gets crowded, all begins again with
// a larger one.
#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include "cuda/counting.h"
#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/numbering.h"
#include "cuda/packing.h"
#include "cuda/parts.h"
#include "cuda/rows.h"
#include "probe.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t none = INT64_MAX;

// What the host reads.
struct Status {
  bool crowded;                  // a row found no room
  unsigned long long first_nan;  // row with a NaN
  int64_t unique;
};

// --- the table ----------------------------------------------------------------------------------

// A slot that was taken keeps its kind of row. So what the first cache shows will do, and the
// compare-and-swap says what is there where that was an empty slot, or a later row.
struct Slots {
  unsigned long long* slots;
  __device__ uint64_t load(uint64_t at) const { return cached(slots + at); }
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
  uint64_t size;
  uint64_t most;  // slots that a row may try
  Tally tally;    // of rows in parts

  // Of the kind in a slot that is taken.
  __device__ int64_t first_row(uint64_t at) const {
    return tally.first == nullptr ? row_in(slots.slots[at]) : int64_t{~tally.first[at]};
  }
};

// Blocks that run at once, or more.
int64_t blocks_at_once(int device) { return int64_t{8} * multiprocessors(device); }

// Rows begin <= i < end. The lanes of a warp wait for each other at every row: else they drift
// apart, and so do the rows that are looked up at a time.
template <class Rows>
__global__ void insert_rows(Rows rows, int64_t begin, int64_t end, Table table, int64_t* places,
                            Status* status) {
  for (int64_t first = begin + int64_t{blockIdx.x} * threads; first < end;
       first += int64_t{gridDim.x} * threads) {
    const int64_t i = first + threadIdx.x;
    Inserted found{i, 0};
    bool stop = false;
    if (i < end && rows.has_nan(i)) {
      atomicMin(&status->first_nan, static_cast<unsigned long long>(i));
    } else if (i < end) {
      const auto row = rows[i];
      const auto equal = [&](int64_t other, int64_t) { return rows.equal(row, other); };
      found = insert_row(table.slots, table.size - 1, rows.hash(row), i, equal, table.most);
      if (found.row < 0) status->crowded = true;
      stop = found.row < 0 || (found.row == i && fresh(&status->crowded));
    }
    if (__ballot_sync(all_lanes, stop) != 0) return;
    if (i < end) places[i] = static_cast<int64_t>(found.at);
  }
}

// --- numbers ------------------------------------------------------------------------------------

__global__ void mark_first(Table table, const Status* status, Bitmap first) {
  if (status->crowded) return;
  for (uint64_t at = uint64_t{blockIdx.x} * threads + threadIdx.x; at < table.size;
       at += uint64_t{gridDim.x} * threads) {
    if (table.slots.slots[at] != 0) first.set(table.first_row(at));
  }
}

// ids of the slots; where they hold the counts, those go to the ids.
__global__ void number_slots(Table table, Numbers numbers, uint32_t* ids, int64_t* counts) {
  for (uint64_t at = uint64_t{blockIdx.x} * threads + threadIdx.x; at < table.size;
       at += uint64_t{gridDim.x} * threads) {
    if (table.slots.slots[at] == 0) continue;
    const int64_t id = numbers[table.first_row(at)];
    if (ids == table.tally.counts) counts[id] = ids[at];
    ids[at] = static_cast<uint32_t>(id);
  }
}

// --- calls --------------------------------------------------------------------------------------

__global__ void reset(Status* status) {
  if (threadIdx.x == 0) *status = {false, none, 0};
}

[[noreturn]] void throw_not_bools() {
  throw std::invalid_argument("bools must be bytes of 0 or 1, got others");
}

template <class Entry>
[[noreturn]] void throw_nan(const Entry* rows, int64_t row, int64_t width, const Device& device) {
  std::vector<Entry> entries(static_cast<size_t>(width));
  read(entries.data(), rows + row * width, entries.size(), device);
  size_t column = 0;
  while (entries[column] == entries[column]) ++column;
  throw std::invalid_argument("rows must not hold NaN, which equals nothing; got one at [" +
                              std::to_string(row) + ", " + std::to_string(column) + "]");
}

constexpr uint64_t growth = 8;
constexpr uint64_t most_tried = 128;  // in a table that may grow; reached at a load of about 0.6

// The least power of two that leaves a third of the slots empty.
uint64_t slots_for(int64_t rows) {
  uint64_t slots = 1;
  while (slots < static_cast<uint64_t>(rows + rows / 2 + 1)) slots *= 2;
  return slots;
}

// The first rows go in before the others begin. Those find most kinds there, and no first cache
// that still shows the empty slot of a kind that is met over and over.
constexpr int64_t rows_before = int64_t{1} << 18;

template <class Rows>
void insert_all(const Rows& rows, int64_t n, const Table& table, int64_t* places, Status* status,
                const Device& device) {
  clear(table.slots.slots, table.size * sizeof(uint64_t), device.stream);
  launch(reset, 1, warp, 0, device.stream, status);
  int64_t begin = 0;
  for (const int64_t end : {std::min(n, rows_before), n}) {
    if (begin == end) break;
    launch(insert_rows<Rows>,
           std::min(divide_up(end - begin, threads), blocks_at_once(device.index)), threads, 0,
           device.stream, rows, begin, end, table, places, status);
    begin = end;
  }
}

// Finds the kinds of rows by one table.
template <class Rows>
class Search {
 public:
  Search(const Rows& rows, int64_t n, int64_t* ids, const Device& device)
      : rows_(rows),
        n_(n),
        ids_(ids),
        numbering_(n, device),
        status_(device.memory.array<Status>(1)),
        device_(device) {}

  // -> what was found. If that is all, in a table that was not crowded, `make` is asked for memory
  // for the results.
  Status run(uint64_t slots, uint64_t most, const std::function<Unique(int64_t)>& make) {
    const Memory::Piecewise piece(device_.memory);
    const auto size = static_cast<int64_t>(slots);
    Table table{{device_.memory.array<unsigned long long>(size)}, slots, most, {nullptr, nullptr}};
    auto* const of_slots = device_.memory.array<uint32_t>(size);
    if constexpr (Rows::in_registers) {
      if (parts_) {
        table.tally = {of_slots, device_.memory.array<uint32_t>(size)};
        clear(table.tally.counts, slots * sizeof(uint32_t), device_.stream);
        clear(table.tally.first, slots * sizeof(uint32_t), device_.stream);
        insert_all(parts_->rows(), n_, table, ids_, status_, device_);
        parts_->tally(ids_, &status_->crowded, table.tally);
      }
    }
    if (table.tally.first == nullptr) insert_all(rows_, n_, table, ids_, status_, device_);
    launch(mark_first, blocks_at_once(device_.index), threads, 0, device_.stream, table,
           static_cast<const Status*>(status_), numbering_.bitmap());
    numbering_.count(&status_->unique);
    Status found;
    read(&found, status_, 1, device_);
    if (found.crowded || found.first_nan != none) return found;
    const Unique results = make(found.unique);
    launch(number_slots, blocks_at_once(device_.index), threads, 0, device_.stream, table,
           numbering_.numbers(results.first), of_slots, results.counts);
    if constexpr (Rows::in_registers) {
      if (parts_) {
        parts_->write_ids(of_slots, ids_);
        return found;
      }
    }
    write_and_count_ids(of_slots, n_, found.unique, ids_, results.counts, device_);
    return found;
  }

  void take_parts() {
    if constexpr (Rows::in_registers) {
      if (!parts_) parts_.emplace(rows_, n_, device_);
    }
  }

 private:
  Rows rows_;
  int64_t n_;
  int64_t* ids_;
  Numbering numbering_;
  Status* status_;
  std::optional<Parts<Rows>> parts_;
  const Device& device_;
};

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
    auto* const others = device.memory.array<bool>(1);
    clear(others, sizeof(bool), device.stream);
    pack(rows, n, width, words, others, device);
    bool not_bools = false;
    read(&not_bools, others, 1, device);
    if (not_bools) throw_not_bools();
    return unique_rows<uint64_t>(words, n, words_of(width), hash_bits, slots, ids, make, device);
  } else {
    if (n == 0) {
      make(0);
      return 0;
    }
    check_rows(n, "rows must be");
    const uint64_t enough = slots_for(n);
    Status found;
    with_rows(rows, width, hash_mask_of(hash_bits), [&](const auto& all) {
      Search search(all, n, ids, device);
      for (slots = std::min(slots, enough);; slots = std::min(growth * slots, enough)) {
        found = search.run(slots, slots < enough ? most_tried : ~uint64_t{0}, make);
        if (!found.crowded) return;
        search.take_parts();
      }
    });
    if (found.first_nan != none) {
      throw_nan(rows, static_cast<int64_t>(found.first_nan), width, device);
    }
    return found.unique;
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
