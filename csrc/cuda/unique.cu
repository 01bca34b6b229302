// Unique rows on a GPU: all threads share one table of row numbers (probe.h), in which each kind of
// row ends with the first of its rows. ids holds the slot of each row at first. The rows that are
// in the table are then numbered in their order, and each row takes the number of its slot.
//
// The table begins small, meant for the second cache. Where it gets crowded, all begins again with
// a larger one.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "cuda/numbering.h"
#include "cuda/packing.h"
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
};

// Blocks that run at once, or more.
int64_t blocks_at_once(int device) { return int64_t{8} * multiprocessors(device); }

// Rows begin <= i < end.
template <class Rows>
__global__ void insert_rows(Rows rows, int64_t begin, int64_t end, Table table, int64_t* places,
                            Status* status) {
  for (int64_t i = begin + int64_t{blockIdx.x} * threads + threadIdx.x; i < end;
       i += int64_t{gridDim.x} * threads) {
    if (rows.has_nan(i)) {
      atomicMin(&status->first_nan, static_cast<unsigned long long>(i));
      continue;
    }
    const auto row = rows[i];
    const auto equal = [&](int64_t other, int64_t) { return rows.equal(row, other); };
    const Inserted found =
        insert_row(table.slots, table.size - 1, rows.hash(row), i, equal, table.most);
    if (found.row < 0) {
      status->crowded = true;
      return;
    }
    places[i] = static_cast<int64_t>(found.at);
    if (found.row == i && fresh(&status->crowded)) return;
  }
}

// --- numbers ------------------------------------------------------------------------------------

__global__ void mark_first(Table table, Bitmap first) {
  for (uint64_t at = uint64_t{blockIdx.x} * threads + threadIdx.x; at < table.size;
       at += uint64_t{gridDim.x} * threads) {
    const uint64_t slot = table.slots.slots[at];
    if (slot != 0) first.set(row_in(slot));
  }
}

__global__ void number_slots(Table table, Numbers numbers, uint32_t* ids) {
  for (uint64_t at = uint64_t{blockIdx.x} * threads + threadIdx.x; at < table.size;
       at += uint64_t{gridDim.x} * threads) {
    const uint64_t slot = table.slots.slots[at];
    if (slot != 0) ids[at] = static_cast<uint32_t>(numbers[row_in(slot)]);
  }
}

// Rows of frequent kinds meet in one counter, which has to be near: each block counts the first
// kinds for itself, and the frequent ones are among those. In 16 bits; what does not fit goes to
// `counts` before other threads of the block can fill the rest.
struct BlockCounts {
  unsigned* pairs;
  unsigned long long* counts;

  __device__ void add(uint32_t id) const {
    const unsigned shift = id % 2 * 16, half = 0x8000;
    const unsigned before = atomicAdd(pairs + id / 2, 1u << shift);
    if ((before >> shift & 0xFFFF) != half - 1) return;
    atomicSub(pairs + id / 2, half << shift);
    atomicAdd(counts + id, static_cast<unsigned long long>(half));
  }
  __device__ void give(uint32_t id) const {
    const unsigned count = pairs[id / 2] >> (id % 2 * 16) & 0xFFFF;
    if (count > 0) atomicAdd(counts + id, static_cast<unsigned long long>(count));
  }
};

constexpr int id_threads = 1024;
constexpr int ids_at_once = 2;  // that a thread waits for

// ids [n]: from slots to their ids. A block counts the first `in_block` kinds for itself.
__global__ void __launch_bounds__(id_threads)
    write_ids(const uint32_t* of_slots, int64_t n, uint32_t in_block, int64_t* ids,
              unsigned long long* counts) {
  const BlockCounts own{shared_memory<unsigned>(), counts};
  for (uint32_t pair = threadIdx.x; pair < (in_block + 1) / 2; pair += id_threads) {
    own.pairs[pair] = 0;
  }
  __syncthreads();
  for (int64_t first = int64_t{blockIdx.x} * (id_threads * ids_at_once) + threadIdx.x; first < n;
       first += int64_t{gridDim.x} * (id_threads * ids_at_once)) {
    uint32_t found[ids_at_once];
    for (int k = 0; k < ids_at_once; ++k) {
      const int64_t i = first + k * id_threads;
      if (i < n) found[k] = of_slots[ids[i]];
    }
    for (int k = 0; k < ids_at_once; ++k) {
      const int64_t i = first + k * id_threads;
      if (i >= n) continue;
      ids[i] = found[k];
      if (found[k] < in_block) {
        own.add(found[k]);
      } else {
        atomicAdd(counts + found[k], 1ull);
      }
    }
  }
  __syncthreads();
  for (uint32_t id = threadIdx.x; id < in_block; id += id_threads) own.give(id);
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
    const Numbering numbering(n, device);
    auto* const status = device.memory.array<Status>(1);
    const auto attempt = [&](const Table& table) {
      with_rows(rows, width, hash_mask_of(hash_bits),
                [&](const auto& all) { insert_all(all, n, table, ids, status, device); });
      launch(mark_first, blocks_at_once(device.index), threads, 0, device.stream, table,
             numbering.bitmap());
      numbering.count(&status->unique);
      Status now;
      read(&now, status, 1, device);
      return now;
    };
    for (slots = std::min(slots, enough);; slots = std::min(growth * slots, enough)) {
      const Memory::Piecewise piece(device.memory);
      const Table table{{device.memory.array<unsigned long long>(static_cast<int64_t>(slots))},
                        slots,
                        slots < enough ? most_tried : ~uint64_t{0}};
      const Status now = attempt(table);
      if (now.crowded) continue;
      if (now.first_nan != none) {
        throw_nan(rows, static_cast<int64_t>(now.first_nan), width, device);
      }
      const Unique results = make(now.unique);
      auto* const of_slots = device.memory.array<uint32_t>(static_cast<int64_t>(slots));
      launch(number_slots, blocks_at_once(device.index), threads, 0, device.stream, table,
             numbering.numbers(results.first), of_slots);
      auto* const counts = reinterpret_cast<unsigned long long*>(results.counts);
      clear(counts, static_cast<size_t>(now.unique) * sizeof(int64_t), device.stream);
      const size_t most = std::min(most_shared(device.index), 160 * 1024) / sizeof(uint16_t);
      const size_t in_block = std::min(static_cast<size_t>(now.unique), most);
      const size_t shared = (in_block + 1) / 2 * sizeof(unsigned);
      const int64_t blocks =
          int64_t{resident_blocks(write_ids, id_threads, shared)} * multiprocessors(device.index);
      launch(write_ids, std::min(divide_up(n, id_threads * ids_at_once), blocks), id_threads,
             shared, device.stream, static_cast<const uint32_t*>(of_slots), n,
             static_cast<uint32_t>(in_block), ids, counts);
      return now.unique;
    }
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
