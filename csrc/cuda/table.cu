#include <algorithm>
#include <stdexcept>

#include "cuda/device.h"
#include "cuda/numbering.h"
#include "cuda/table.h"
#include "probe.h"
#include "scalar.h"

namespace gradsplinter::cuda {
namespace {

constexpr int threads = 256;

// The modes: signatures in the order of their ids, and 8-byte slots (half a hash as tag, id + 1)
// with linear probing.
struct Slots {
  unsigned long long* slots;
  uint64_t mask;
  const uint64_t* rows;
  int64_t words;
  uint64_t hash_mask;

  __device__ uint64_t hash(const uint64_t* row) const { return hash_row(row, words) & hash_mask; }
};

__device__ bool equal_rows(const uint64_t* a, const uint64_t* b, int64_t words) {
  for (int64_t k = 0; k < words; ++k) {
    if (a[k] != b[k]) return false;
  }
  return true;
}

// ids[i] of the mode with signature i, or -1 and bit i of `missing`.
__global__ void find_kernel(Slots table, const uint64_t* signatures, int64_t n, int64_t* ids,
                            Bitmap missing) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= n) return;
  const uint64_t* const row = signatures + i * table.words;
  const uint64_t hash = table.hash(row);
  int64_t id = -1;
  for (uint64_t at = hash & table.mask; table.slots[at] != 0; at = (at + 1) & table.mask) {
    const uint64_t slot = table.slots[at];
    if (!same_tag(slot, hash)) continue;
    if (!equal_rows(table.rows + row_in(slot) * table.words, row, table.words)) continue;
    id = row_in(slot);
    break;
  }
  ids[i] = id;
  if (id < 0) missing.set(i);
}

// Enters modes that are not there yet and all different: they only compete for empty slots.
__global__ void enter_kernel(Slots table, int64_t begin, int64_t end) {
  const int64_t id = begin + int64_t{blockIdx.x} * threads + threadIdx.x;
  if (id >= end) return;
  const uint64_t hash = table.hash(table.rows + id * table.words);
  const uint64_t mine = (hash & tag_mask) | static_cast<uint64_t>(id + 1);
  for (uint64_t at = hash & table.mask;; at = (at + 1) & table.mask) {
    if (fresh(table.slots + at) != 0) continue;
    if (atomicCAS(table.slots + at, 0ull, static_cast<unsigned long long>(mine)) == 0) return;
  }
}

struct Piece {
  const uint64_t* signatures;  // [n, words]
  const int64_t *counts, *first;
  int64_t* ids;  // of find_kernel
  int64_t n;
  int64_t size, examples;  // of the table before
  int64_t words;
};

// Modes that the table has not are numbered on from its size.
__global__ void add_kernel(Piece piece, Numbers missing, uint64_t* rows, int64_t* counts,
                           int64_t* first) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= piece.n) return;
  if (piece.ids[i] >= 0) {
    counts[piece.ids[i]] += piece.counts[i];
    return;
  }
  const int64_t id = piece.size + missing[i];
  piece.ids[i] = id;
  for (int64_t k = 0; k < piece.words; ++k) {
    rows[id * piece.words + k] = piece.signatures[i * piece.words + k];
  }
  counts[id] = piece.counts[i];
  first[id] = piece.examples + piece.first[i];
}

template <class T>
T* pointer(const std::shared_ptr<void>& memory) {
  return static_cast<T*>(memory.get());
}

std::shared_ptr<void> with_room(const std::shared_ptr<void>& values, int64_t words, int64_t room,
                                const Device& device) {
  std::shared_ptr<void> larger = device.memory.own(room * 8);
  copy(larger.get(), values.get(), static_cast<size_t>(words) * 8, device.stream);
  return larger;
}

Slots slots_of(const std::shared_ptr<void>& slots, uint64_t count,
               const std::shared_ptr<void>& rows, int64_t words, uint64_t hash_mask) {
  return {pointer<unsigned long long>(slots), count - 1, pointer<const uint64_t>(rows), words,
          hash_mask};
}

void enter(const Slots& table, int64_t begin, int64_t end, const Device& device) {
  if (begin == end) return;
  launch(enter_kernel, divide_up(end - begin, threads), threads, 0, device.stream, table, begin,
         end);
}

// -> how many are missing. Waits for the stream.
int64_t find(const Slots& table, const uint64_t* signatures, int64_t n, int64_t* ids,
             const Numbering& numbering, const Device& device) {
  launch(find_kernel, divide_up(n, threads), threads, 0, device.stream, table, signatures, n, ids,
         numbering.bitmap());
  auto* const total = device.memory.array<int64_t>(1);
  numbering.count(total);
  int64_t missing = 0;
  read(&missing, total, 1, device);
  return missing;
}

}  // namespace

ModeTable::ModeTable(int64_t words, int hash_bits)
    : words_(words), hash_mask_(hash_mask_of(hash_bits)) {}

// What is freed can be used again by work on the stream that it was made on, so the table has to be
// made of memory of the stream that works on it.
void ModeTable::move_to_stream(const Device& device) {
  if (device.stream == stream_) return;
  if (slot_count_ > 0) {
    wait_for_device(device);
    const auto count = static_cast<int64_t>(slot_count_);
    const std::shared_ptr<void> rows = with_room(rows_, size_ * words_, room_ * words_, device);
    const std::shared_ptr<void> counts = with_room(counts_, size_, room_, device);
    const std::shared_ptr<void> first = with_room(first_, size_, room_, device);
    const std::shared_ptr<void> slots = with_room(slots_, count, count, device);
    wait_for_device(device);
    rows_ = rows, counts_ = counts, first_ = first, slots_ = slots;
  }
  stream_ = device.stream;
}

// All or nothing: what runs out of memory does so before the first change.
void ModeTable::reserve(int64_t rows, const Device& device) {
  check_rows(rows, "the modes of x must be");
  if (rows > room_) {
    const int64_t room = std::max(rows, 2 * room_);
    const std::shared_ptr<void> signatures =
        with_room(rows_, size_ * words_, room * words_, device);
    const std::shared_ptr<void> counts = with_room(counts_, size_, room, device);
    const std::shared_ptr<void> first = with_room(first_, size_, room, device);
    rows_ = signatures, counts_ = counts, first_ = first;
    room_ = room;
  }
  uint64_t count = std::max(slot_count_, uint64_t{1024});
  while (count < static_cast<uint64_t>(2 * rows)) count *= 2;
  if (count == slot_count_) return;
  const std::shared_ptr<void> slots = device.memory.own(static_cast<int64_t>(count) * 8);
  clear(slots.get(), count * 8, device.stream);
  enter(slots_of(slots, count, rows_, words_, hash_mask_), 0, size_, device);
  slots_ = slots;
  slot_count_ = count;
}

void ModeTable::insert(const uint64_t* signatures, const int64_t* counts, const int64_t* first,
                       int64_t n, int64_t examples, int64_t undercount, int64_t* ids,
                       const Device& device) {
  move_to_stream(device);
  if (n > 0) {
    const Numbering numbering(n, device);
    reserve(size_, device);
    const int64_t more = find(slots_of(slots_, slot_count_, rows_, words_, hash_mask_), signatures,
                              n, ids, numbering, device);
    reserve(size_ + more, device);
    launch(add_kernel, divide_up(n, threads), threads, 0, device.stream,
           Piece{signatures, counts, first, ids, n, size_, examples_, words_},
           numbering.numbers(nullptr), pointer<uint64_t>(rows_), pointer<int64_t>(counts_),
           pointer<int64_t>(first_));
    enter(slots_of(slots_, slot_count_, rows_, words_, hash_mask_), size_, size_ + more, device);
    size_ += more;
  }
  examples_ += examples;
  undercount_ += undercount;
}

int64_t ModeTable::missing(const uint64_t* signatures, int64_t n, const Device& device) {
  if (n == 0) return 0;
  move_to_stream(device);
  auto* const ids = device.memory.array<int64_t>(n);
  reserve(size_, device);
  return find(slots_of(slots_, slot_count_, rows_, words_, hash_mask_), signatures, n, ids,
              Numbering(n, device), device);
}

void ModeTable::copy_to(uint64_t* signatures, int64_t* counts, int64_t* first,
                        const Device& device) {
  move_to_stream(device);
  const auto bytes = static_cast<size_t>(size_) * 8;
  copy(signatures, rows_.get(), bytes * static_cast<size_t>(words_), device.stream);
  copy(counts, counts_.get(), bytes, device.stream);
  copy(first, first_.get(), bytes, device.stream);
}

}  // namespace gradsplinter::cuda
