// The table of modes on a GPU (row_table.h is the CPU's): open addressing with linear probing over
// 8-byte slots (half a hash as tag, id + 1), the rows themselves in the order of their ids. Rows
// that are added together are all different, so that they only compete for empty slots.
#include "cuda/cuda_ops.h"
#include "cuda/device.h"
#include "probe.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;

__device__ bool equal_rows(const uint64_t* a, const uint64_t* b, int64_t words) {
  for (int64_t k = 0; k < words; ++k) {
    if (a[k] != b[k]) return false;
  }
  return true;
}

__global__ void find_kernel(ModeSlots table, const uint64_t* rows, int64_t n, int64_t* ids) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= n) return;
  const uint64_t* const row = rows + i * table.words;
  const uint64_t hash = hash_row(row, table.words);
  int64_t id = -1;
  for (uint64_t at = hash & table.mask; table.slots[at] != 0; at = (at + 1) & table.mask) {
    const uint64_t slot = table.slots[at];
    if (!same_tag(slot, hash)) continue;
    if (!equal_rows(table.rows + row_in(slot) * table.words, row, table.words)) continue;
    id = row_in(slot);
    break;
  }
  ids[i] = id;
}

__global__ void enter_kernel(ModeSlots table, int64_t begin, int64_t end) {
  const int64_t id = begin + int64_t{blockIdx.x} * threads + threadIdx.x;
  if (id >= end) return;
  const uint64_t hash = hash_row(table.rows + id * table.words, table.words);
  const uint64_t mine = (hash & tag_mask) | static_cast<uint64_t>(id + 1);
  for (uint64_t at = hash & table.mask;; at = (at + 1) & table.mask) {
    if (fresh(table.slots + at) != 0) continue;
    if (atomicCAS(table.slots + at, 0ull, static_cast<unsigned long long>(mine)) == 0) return;
  }
}

}  // namespace

void find_modes(const ModeSlots& table, const uint64_t* rows, int64_t n, int64_t* ids,
                const Device& device) {
  if (n == 0) return;
  const OnDevice on(device.index);
  launch(find_kernel, divide_up(n, threads), threads, 0, device.stream, table, rows, n, ids);
}

void enter_modes(const ModeSlots& table, int64_t begin, int64_t end, const Device& device) {
  if (begin == end) return;
  const OnDevice on(device.index);
  launch(enter_kernel, divide_up(end - begin, threads), threads, 0, device.stream, table, begin,
         end);
}

}  // namespace gradsplinter::cuda
