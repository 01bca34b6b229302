// The table that all threads share to find equal rows (probe.h).
#pragma once

#include "cuda/device.h"
#include "probe.h"

namespace gradsplinter::cuda {
namespace {

// A slot that was taken keeps its kind of row. So what the first cache shows will do, and the
// compare-and-swap says what is there where that was an empty slot, or a later row.
//
// With a tally (shift 1, else 0) a slot is followed by two numbers: how many rows are of its kind,
// and ~ the first of them, so that both begin with 0.
struct Slots {
  unsigned long long* words;
  int shift;

  __device__ unsigned long long* slot(uint64_t at) const { return words + (at << shift); }
  __device__ uint32_t* tally(uint64_t at) const {
    return reinterpret_cast<uint32_t*>(slot(at) + 1);
  }
  __device__ uint64_t load(uint64_t at) const { return cached(slot(at)); }
  __device__ bool exchange(uint64_t at, uint64_t& expected, uint64_t desired) const {
    const unsigned long long before = atomicCAS(slot(at), static_cast<unsigned long long>(expected),
                                                static_cast<unsigned long long>(desired));
    const bool done = before == expected;
    expected = before;
    return done;
  }

  // By all lanes of a warp: those with a row `have` one, that had number i, in a slot. Where the
  // rows of a frequent kind come one after the other, most are often of the kind of the first.
  __device__ void add(uint64_t at, bool have, uint32_t i) const {
    const uint64_t mine = have ? at : ~uint64_t{0};
    const unsigned same = __ballot_sync(all_lanes, mine == __shfl_sync(all_lanes, mine, 0));
    if (!have) return;
    const unsigned lane = threadIdx.x % warp;
    if (lane == 0) {
      atomicAdd(tally(at), static_cast<uint32_t>(__popc(same)));
    } else if ((same >> lane & 1) == 0) {
      atomicAdd(tally(at), 1u);
    }
    if (cached(tally(at) + 1) < ~i) atomicMax(tally(at) + 1, ~i);
  }
};

struct Table {
  Slots slots;
  uint64_t size;
  uint64_t most;  // slots that a row may try

  __device__ bool taken(uint64_t at) const { return *slots.slot(at) != 0; }
  // Of the kind in a slot that is taken.
  __device__ int64_t first_row(uint64_t at) const {
    return slots.shift == 0 ? row_in(*slots.slot(at)) : int64_t{~slots.tally(at)[1]};
  }
};

}  // namespace
}  // namespace gradsplinter::cuda
