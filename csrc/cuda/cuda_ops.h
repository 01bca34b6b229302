// The operations on memory of a GPU: as in ops.h, bit for bit, on the caller's stream.
#pragma once

#include <cstdint>
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

}  // namespace gradsplinter::cuda
