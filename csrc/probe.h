// One insertion into a table of row numbers that many threads fill at once: open addressing with
// linear probing over 8-byte slots (half a hash as tag, row number + 1) that are claimed by
// compare-and-swap. Equal rows end in one slot, which keeps the smallest of their numbers. The same
// steps on the CPU (shared_table.h) and on a GPU (cuda/unique.cu).
#pragma once

#include <cstdint>

#include "scalar.h"

namespace gradsplinter {

constexpr int64_t most_shared_rows = (int64_t{1} << 32) - 2;

namespace {

constexpr uint64_t tag_mask = 0xFFFFFFFF00000000u;

GRADSPLINTER_HOST_DEVICE inline int64_t row_in(uint64_t slot) {
  return static_cast<int64_t>(slot & ~tag_mask) - 1;
}
GRADSPLINTER_HOST_DEVICE inline bool same_tag(uint64_t slot, uint64_t hash) {
  return ((slot ^ hash) & tag_mask) == 0;
}

// What is kept of a hash: `bits` of its bits; fewer than 64 force collisions in tests.
constexpr uint64_t hash_mask_of(int bits) {
  return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
}

struct Inserted {
  int64_t row;  // i where no equal row was there, else the smallest equal row so far; -1: no room
  uint64_t at;  // the slot
};

// Adds row i, if one of the first `most` slots from its own on has room for it. An equal row after
// i is replaced by i, and is the one returned. Slots is a type with
//   load(at)                           the slot, perhaps of a moment ago
//   exchange(at, expected, desired)    compare-and-swap -> whether it did; else `expected` is fresh
// and equal(row, i) compares two rows.
template <class Slots, class Equal>
GRADSPLINTER_HOST_DEVICE inline Inserted insert_row(const Slots& slots, uint64_t mask,
                                                    uint64_t hash, int64_t i, const Equal& equal,
                                                    uint64_t most = ~uint64_t{0}) {
  const uint64_t mine = (hash & tag_mask) | static_cast<uint64_t>(i + 1);
  uint64_t at = hash & mask;
  for (uint64_t step = 0; step < most; ++step, at = (at + 1) & mask) {
    uint64_t slot = slots.load(at);
    if (slot == 0 && slots.exchange(at, slot, mine)) return {i, at};
    if (!same_tag(slot, mine) || !equal(row_in(slot), i)) continue;
    while (row_in(slot) > i && !slots.exchange(at, slot, mine)) {
    }
    return {row_in(slot), at};
  }
  return {-1, at};
}

}  // namespace
}  // namespace gradsplinter
