// A set of row numbers that all threads of the CPU fill at once (probe.h).
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "huge_pages.h"
#include "probe.h"

namespace gradsplinter {

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
    const uint64_t slot = load(hash & mask_);
    if (slot != 0 && same_tag(slot, hash)) rows_.prefetch(row_in(slot));
  }

  // Adds row i -> i where no equal row is there, else the smallest equal row so far: before i, or
  // after i and replaced by it. By many threads at once.
  int64_t insert(uint64_t hash, int64_t i) {
    const auto equal = [&](int64_t a, int64_t b) { return rows_.equal(a, b); };
    return insert_row(*this, mask_, hash, i, equal).row;
  }

  // For insert_row.
  uint64_t load(uint64_t at) const {
    return std::atomic_ref<uint64_t>(slots_.get()[at]).load(std::memory_order_relaxed);
  }
  bool exchange(uint64_t at, uint64_t& expected, uint64_t desired) const {
    return std::atomic_ref<uint64_t>(slots_.get()[at])
        .compare_exchange_strong(expected, desired, std::memory_order_relaxed);
  }

 private:
  const Rows& rows_;
  uint64_t mask_;
  ZeroPages slots_;
};

}  // namespace gradsplinter
