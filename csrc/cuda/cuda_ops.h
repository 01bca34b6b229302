// The operations on memory of a GPU: as in ops.h, bit for bit, on the caller's stream.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ops.h"

namespace gradsplinter::cuda {

// Memory on the device, which the caller owns and frees when the operation's work is queued.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* get(int64_t bytes) = 0;
  template <class T>
  T* array(int64_t size) {
    return static_cast<T*>(get(size * static_cast<int64_t>(sizeof(T))));
  }
};

struct Device {
  int index;
  void* stream;
  Memory& memory;
};

void hash_rows(const uint64_t* rows, int64_t n, int64_t words, uint64_t* hashes,
               const Device& device);

template <class T>
void signatures(const std::vector<Layer<T>>& layers, const std::vector<int64_t>& sites, const T* x,
                int64_t n, uint64_t* signature, T* y, const Device& device);

// Bools [n, width], one a byte -> words [n, words_of(width)]. A byte that is not 0 counts as 1.
void pack_bits(const uint8_t* bools, int64_t n, int64_t width, uint64_t* words,
               const Device& device);

// Where the unique rows' first occurrences and counts go, once it is known how many there are.
struct Unique {
  int64_t* first;
  int64_t* counts;
};

// Slots of the table at first: 32 MiB, which stay in the second cache.
constexpr uint64_t first_slots = uint64_t{1} << 22;

// ids [n] -> how many; it waits for the stream to know that, and asks `make` for memory. At most
// most_shared_rows rows. The table begins with so many `slots`, or fewer where n needs no more.
template <class Entry>
int64_t unique_rows(const Entry* rows, int64_t n, int64_t width, int hash_bits, uint64_t slots,
                    int64_t* ids, const std::function<Unique(int64_t)>& make, const Device& device);

template <class T>
void jacobian(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns,
              int64_t modes, const T* directions, int64_t count, T* out, const Device& device);

template <class T>
void cross(const T* jacobian, int64_t modes, int64_t directions, int64_t width, bool normalize,
           T* out, const Device& device);

template <class T>
void gram(const std::vector<Layer<T>>& layers, bool output, const uint64_t* patterns, int64_t modes,
          const T* directions, int64_t count, bool normalize, T* out, const Device& device);

// A table of modes: their signatures in the order of their ids, and where to find them. At least a
// third of the slots, a power of two, is 0: empty.
struct ModeSlots {
  unsigned long long* slots;
  uint64_t mask;
  const uint64_t* rows;  // [modes, words]
  int64_t words;
};

// ids [n] of the modes with these signatures [n, words]; -1 for those that are not there.
void find_modes(const ModeSlots& table, const uint64_t* rows, int64_t n, int64_t* ids,
                const Device& device);

// Enters the modes begin..end - 1, which are not there yet and all different, into the slots.
void enter_modes(const ModeSlots& table, int64_t begin, int64_t end, const Device& device);

}  // namespace gradsplinter::cuda
