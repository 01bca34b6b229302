// A set of row numbers that all threads fill at once: open addressing with linear probing over
// 8-byte slots (half a hash as tag, row number + 1) that are claimed by compare-and-swap. Equal
// rows end in one slot, which keeps the smallest of their numbers.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "huge_pages.h"

namespace gradsplinter {

constexpr int64_t most_shared_rows = (int64_t{1} << 32) - 2;

template <class Rows>
class SharedTable {
 public:
  // For n rows, at most most_shared_rows.
  SharedTable(const Rows& rows, int64_t n)
      : rows_(rows),
        mask_(std::bit_ceil(static_cast<uint64_t>(n + n / 2 + 1)) - 1),
        slots_(mask_ + 1) {}

  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_.get()[hash & mask_]); }

  // The row that insert will compare: most often the one in the first slot.
  void prefetch_row(uint64_t hash) const {
    const std::atomic_ref<uint64_t> shared(slots_.get()[hash & mask_]);
    const uint64_t slot = shared.load(std::memory_order_relaxed);
    if (slot != 0 && ((slot ^ hash) & tag_mask) == 0) rows_.prefetch(number(slot));
  }

  // Adds row i -> i where no equal row is there, else the smallest equal row so far: before i, or
  // after i and replaced by it. By many threads at once.
  int64_t insert(uint64_t hash, int64_t i) {
    const uint64_t mine = (hash & tag_mask) | static_cast<uint64_t>(i + 1);
    for (uint64_t at = hash & mask_;; at = (at + 1) & mask_) {
      const std::atomic_ref<uint64_t> shared(slots_.get()[at]);
      uint64_t slot = shared.load(std::memory_order_relaxed);
      if (slot == 0 && shared.compare_exchange_strong(slot, mine, std::memory_order_relaxed)) {
        return i;
      }
      if (((slot ^ mine) & tag_mask) != 0 || !rows_.equal(number(slot), i)) continue;
      while (number(slot) > i &&
             !shared.compare_exchange_weak(slot, mine, std::memory_order_relaxed)) {
      }
      return number(slot);
    }
  }

 private:
  static constexpr uint64_t tag_mask = 0xFFFFFFFF00000000u;
  static int64_t number(uint64_t slot) { return static_cast<int64_t>(slot & ~tag_mask) - 1; }

  const Rows& rows_;
  uint64_t mask_;
  ZeroPages slots_;
};

}  // namespace gradsplinter
