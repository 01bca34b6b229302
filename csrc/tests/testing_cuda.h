// A device for the CUDA operations that are run on the host.
#pragma once

#include <deque>

#include "cuda/cuda_ops.h"
#include "testing.h"

namespace gradsplinter {

// Every piece ends where its allocation does, for AddressSanitizer, and begins poisoned.
class TestMemory : public cuda::Memory {
 public:
  void* get(int64_t bytes) override {
    pieces_.emplace_back(static_cast<size_t>(bytes), 0xA5);
    return pieces_.back().data();
  }

 private:
  std::deque<std::vector<unsigned char>> pieces_;
};

struct TestDevice {
  TestMemory memory;
  cuda::Device device{0, nullptr, memory};
};

}  // namespace gradsplinter
